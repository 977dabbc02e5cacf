"""The job scripts of jobs/ under a real Slurm on this machine: its daemons, started by hand in a folder of the test."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import programs_path
from tests.e2e.conftest import ROOT, differences, replaced, results

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(1800)]
LONG = pytest.mark.long

JOBS = ROOT / "jobs"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
# Where a job comes to rest; there are many states on the way, and a requeued job is over for a moment.
OVER = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm; `environment` for its commands and its jobs."""

    environment: dict[str, str]

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: Path, *options: str) -> str:
        """sbatch; the job's number."""
        said = self.run("sbatch", "--parsable", *options, str(script), cwd=script.parent)
        return said.strip().split(";")[0]

    def job(self, number: str) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", number)))

    def wait_until(self, number: str, so: Callable[[dict[str, str]], bool], patience: float = 900.0) -> dict[str, str]:
        """Wait until something is so with a job; what scontrol says of it then."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            job = self.job(number)
            if so(job):
                return job
            time.sleep(1.0)
        raise TimeoutError(f"job {number}: {self.job(number)}")

    def wait(self, number: str) -> dict[str, str]:
        """Wait until a job is over; what scontrol says of it."""
        return self.wait_until(number, lambda job: job["JobState"] in OVER)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports: list[int] = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not all(map(shutil.which, PROGRAMS)):
        pytest.skip("no Slurm: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started by hand here, which only root can")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, ports=free_ports(2)))
    (folder / "gres.conf").write_text("Name=gpu Count=1 File=/dev/null\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "PMI_", "OMPI_"))} | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": programs_path(folder / "programs"),
        # The installed command may be another copy's; the job is to run this one.
        "PYTHONPATH": str(ROOT),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    munged = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.socket",
    ]
    munged += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    daemons = [munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]]
    running = []
    try:
        for command in daemons:
            running.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(1.0)
        started = Cluster(environment)
        wait_for_node(started, folder)
        yield started
    finally:
        for daemon in reversed(running):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def wait_for_node(cluster: Cluster, folder: Path) -> None:
    state = ""
    for _ in range(60):
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=cluster.environment, capture_output=True, text=True, check=False
        )
        state = done.stdout.strip()
        if state == "idle":
            return
        time.sleep(0.5)
    logs = "".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    raise AssertionError(f"the node is '{state}', not idle:\n{logs}")


def prepared(name: str, folder: Path, deck: Path, **directives: str) -> Path:
    """A job script of jobs/ with the deck and the directives that a user would edit; the rest stays as it is."""
    text = (JOBS / name).read_text()
    folder.mkdir(exist_ok=True)
    if "deck=molecule.yaml" in text:
        text = text.replace("deck=molecule.yaml", "deck='a study.yaml'")
        shutil.copy(deck, folder / "a study.yaml")
    for key, value in directives.items():
        option = key.replace("_", "-")
        text, changed = re.subn(rf"(?m)^(#SBATCH --{option}=)\S+", rf"\g<1>{value}", text)
        assert changed == 1, f"{name} has no --{option}"
    script = folder / name
    script.write_text(text)
    return script


def log_of(script: Path) -> str:
    return "".join(path.read_text() for path in sorted(script.parent.glob("*.out")))


def test_the_cpu_script(cluster, undisturbed_on_two, deck, tmp_path):
    script = prepared("cpu.slurm", tmp_path / "job", deck, ntasks="2", time="30:00")
    job = cluster.wait(cluster.submit(script))
    assert job["JobState"] == "COMPLETED", log_of(script)
    assert differences(results(undisturbed_on_two), results(script.parent / "a study.run")) == []


def test_the_hybrid_script_gives_each_rank_its_threads(cluster, deck, tmp_path):
    script = prepared("hybrid.slurm", tmp_path / "job", deck, nodes="1", ntasks_per_node="2", cpus_per_task="2")
    text = script.read_text().replace('hpcir run "$deck" --walltime "690 min"', 'hpcir run "$deck" --until prepare')
    script.write_text(text)
    number = cluster.submit(script, "--export=ALL,OMP_NUM_THREADS=")
    job = cluster.wait(number)
    assert job["JobState"] == "COMPLETED", log_of(script)
    assert "threads: 2" in (script.parent / "a study.run" / "deck.resolved.yaml").read_text()


def test_the_gpu_script_says_where_there_is_none(cluster, deck, tmp_path):
    """Slurm gives the job a GPU that is none: the run must not train on the processor in its place."""
    from hpcir.training.devices import device_problem

    problem = device_problem("cuda")
    if not problem:
        pytest.skip("there is a GPU here")
    script = prepared("gpu.slurm", tmp_path / "job", deck, ntasks="2", time="30:00")
    deck_of_job = script.parent / "a study.yaml"
    deck_of_job.write_text(replaced(deck_of_job.read_text(), {"training: {": "training: {device: cuda, "}))
    job = cluster.wait(cluster.submit(script))
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "2:0"), log_of(script)
    assert f"training.device: {problem}" in log_of(script)
    assert not (script.parent / "a study.run").exists()


@LONG
def test_the_array_script_runs_a_study_for_each_line(cluster, undisturbed, deck, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    script = prepared("array.slurm", folder, deck, ntasks="1")
    for name in ("one.yaml", "number two.yaml"):
        shutil.copy(deck, folder / name)
    (folder / "decks.txt").write_text("one.yaml\nnumber two.yaml\n")
    number = cluster.submit(script, "--array=1-2")
    for task in ("1", "2"):
        assert cluster.wait(f"{number}_{task}")["JobState"] == "COMPLETED", log_of(script)
    for name in ("one.run", "number two.run"):
        assert differences(results(undisturbed), results(folder / name)) == []


@LONG
def test_before_its_time_limit_the_job_queues_itself_again(cluster, deck, tmp_path):
    """Slurm's own signal, 20 s after the start (it may be a minute late) of a study that takes much longer."""
    script = prepared("requeue.slurm", tmp_path / "job", deck, ntasks="2", time="3:00", signal="B:USR1@160")
    study = script.parent / "a study.yaml"
    study.write_text(replaced(study.read_text(), {"steps: 100, final": "steps: 1000000, final"}))
    number = cluster.submit(script)
    cluster.wait_until(number, lambda job: int(job["Restarts"]) >= 1)
    cluster.run("scancel", number)
    assert cluster.wait(number)["JobState"] == "CANCELLED"
    assert "signal SIGUSR1" in log_of(script)
    assert "TIME LIMIT" not in log_of(script)
    assert "Traceback" not in log_of(script)


@LONG
def test_a_signalled_job_queues_itself_again_and_goes_on_to_the_end(cluster, undisturbed_on_two, deck, tmp_path):
    script = prepared("requeue.slurm", tmp_path / "job", deck, ntasks="2", time="30:00")
    number = cluster.submit(script)
    cluster.wait_until(number, lambda _: "train round 0: starts" in log_of(script))
    cluster.run("scancel", "--batch", "--signal=USR1", number)
    job = cluster.wait(number)
    assert job["JobState"] == "COMPLETED", log_of(script)
    assert job["Restarts"] == "1"
    assert "signal SIGUSR1" in log_of(script)
    assert "Traceback" not in log_of(script)
    assert differences(results(undisturbed_on_two), results(script.parent / "a study.run")) == []


@LONG
def test_the_script_of_init_runs(cluster, undisturbed_on_two, deck, tmp_path):
    folder = tmp_path / "a job"
    folder.mkdir()
    init = [
        "hpcir",
        "init",
        str(ROOT / "inputs" / "methanol.xyz"),
        "--engine",
        "tblite",
        "--slurm",
        "-o",
        "it's mine.yaml",
    ]
    cluster.run(*init, cwd=folder)
    shutil.copy(deck, folder / "it's mine.yaml")
    script = folder / "it's mine.slurm"
    job = cluster.wait(cluster.submit(script, "--ntasks=2"))
    assert job["JobState"] == "COMPLETED", log_of(script)
    assert differences(results(undisturbed_on_two), results(folder / "it's mine.run")) == []


def test_srun_without_an_mpi_says_so_once_for_each_process(cluster, deck, tmp_path):
    script = prepared("cpu.slurm", tmp_path / "job", deck, ntasks="2", time="30:00")
    script.write_text(re.sub(r"(?m)^launch=.*\n#launch=\(srun\)", "launch=(srun)", script.read_text()))
    job = cluster.wait(cluster.submit(script))
    assert job["JobState"] == "FAILED"
    assert "srun started 2 processes that cannot communicate" in log_of(script)
    assert not (script.parent / "a study.run").exists()
