"""Faults injected into whole runs: killed processes, failing engines, full disks, damaged files. Nothing may be lost
that was finished, nothing computed twice, and no result may differ from that of a run that nothing happened to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError, RunStopped
from hpcir.models.model import Model
from hpcir.storage.hdf5 import read_h5
from hpcir.storage.journal import read_journal, read_record
from hpcir.storage.lock import lock_identity
from tests.conftest import mpirun_command
from tests.e2e.conftest import DECK, ROOT, differences, results

LONG = pytest.mark.long


@pytest.fixture(scope="module")
def run_seconds(undisturbed: Path) -> float:
    """What a run of the tiny deck takes with its kernels compiled, imports included; kills fall anywhere in it."""
    stages = json.loads((undisturbed / "summary.json").read_text())["stages"]
    return 2.0 + sum(seconds for name, seconds in stages.items() if name != "compile")


def start(deck: Path, out: Path, ranks: int = 1, *arguments: str) -> subprocess.Popen[str]:
    """A run in a session of its own; what it says goes to OUT.said."""
    launcher = mpirun_command(ranks) if ranks > 1 else []
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    with open(said_file(out), "w") as said:
        return subprocess.Popen(
            [*launcher, sys.executable, "-m", "hpcir", "run", str(deck), "--out", str(out), *arguments],
            stdout=said, stderr=said, text=True, env=environment, start_new_session=True,
        )  # fmt: skip


def said_file(out: Path) -> Path:
    return out.with_name(out.name + ".said")


def said(out: Path) -> str:
    return said_file(out).read_text()


@pytest.fixture
def say(capsys) -> Callable[[str], None]:
    """say(text): what a test counted, past pytest's capture."""

    def told(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return told


def processes_of(out: Path) -> dict[int, int | None]:
    """Process numbers of the ranks that work in a run directory, with their ranks (None: the launcher itself)."""
    found: dict[int, int | None] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(out).encode() not in words:
                continue
            variables = dict(v.split(b"=", 1) for v in (folder / "environ").read_bytes().split(b"\0") if b"=" in v)
            rank = variables.get(b"PMI_RANK", variables.get(b"OMPI_COMM_WORLD_RANK"))
            found[int(folder.name)] = None if rank is None else int(rank)
    return found


def computed(out: Path) -> Counter[str]:
    """How often each unit of work was recorded: labels, explored blocks, chunks of trajectories."""
    records = [record for path in out.rglob("*.journal") for record in read_journal(path)[0]]
    return Counter(f"{record.key}" for record in records)


def assert_no_work_twice(out: Path) -> None:
    """Looked at between the sessions of a run, too: chunks of trajectories go when their blocks are all finished."""
    assert set(computed(out).values()) <= {1}, "work was done twice"


def assert_same(undisturbed: Path, out: Path) -> None:
    assert differences(results(undisturbed), results(out)) == []
    assert computed(out) == computed(undisturbed)
    assert set(computed(out).values()) == {1}, "work was done twice"
    assert not list(out.glob("trajectories/in-progress/*/*"))


def finish(run_deck, deck: Path, out: Path, ranks: int = 1) -> None:
    done = run_deck(deck, out, ranks=ranks)
    assert done.returncode == 0, done.stdout + done.stderr


# -- killed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 3), *(pytest.param(n, 10, marks=LONG, id=f"ten-{n}") for n in range(1, 6))]
)
@pytest.mark.timeout(3600)
def test_killed_at_random_moments_a_run_ends_as_if_nothing_was(
    undisturbed, deck, run_deck, run_seconds, tmp_path, say, seed, kills
):
    random = np.random.default_rng(seed)
    done = number = 0
    while done < kills:
        out = tmp_path / f"run-{number}"
        number += 1
        while done < kills:
            process = start(deck, out)
            try:
                status = process.wait(timeout=random.uniform(0.1, run_seconds))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
                assert_no_work_twice(out)
            else:
                assert status == 0, said(out)
                break
        finish(run_deck, deck, out)
        assert_same(undisturbed, out)
        shutil.rmtree(out)
    say(f"seed {seed}: {done} kills in {number} runs, each finished and the same as the undisturbed one")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("seed", "ranks"), [(0, 2), (1, 3), *(pytest.param(n, 2 + n % 2, marks=LONG) for n in range(2, 20))]
)
def test_when_one_rank_dies_the_job_ends_at_once_and_names_it(
    undisturbed_on_two, deck, run_deck, run_seconds, tmp_path, say, seed, ranks
):
    random = np.random.default_rng(seed)
    out = tmp_path / "run"
    longest = 0.6 * run_seconds
    victims: dict[int, int] = {}
    while sorted(victims) != list(range(ranks)):
        process = start(deck, out, ranks)
        end = time.monotonic() + 120
        while not (out / "log.txt").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(random.uniform(0, longest))
        victims = {rank: pid for pid, rank in processes_of(out).items() if rank is not None}
        if process.poll() is not None:  # it was quicker than the one whose seconds are known
            assert process.returncode == 0, said(out)
            shutil.rmtree(out)
            longest, victims = longest / 2, {}
    victim = int(random.integers(ranks))
    os.kill(victims[victim], signal.SIGKILL)
    killed = time.monotonic()
    assert process.wait(timeout=60) != 0
    seconds = time.monotonic() - killed
    assert seconds < 15
    assert f"rank {victim}" in said(out)
    say(f"seed {seed}: rank {victim} of {ranks} killed, the job ended {seconds:.1f} s later and named it")
    assert "Traceback" not in said(out), said(out)
    end = time.monotonic() + 5
    while processes_of(out) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(out) == {}
    finish(run_deck, deck, out, ranks=ranks)
    assert differences(results(undisturbed_on_two), results(out)) == []
    assert set(computed(out).values()) == {1}


def test_a_training_goes_on_from_its_last_seconds(deck, run_deck, tmp_path):
    """Killed in the middle of a long training, a run takes up the optimiser where it was, and ends the same."""
    long = tmp_path / "long.yaml"
    long.write_text(deck.read_text().replace("steps: 250", "steps: 2500").replace("rounds: 2", "rounds: 0"))
    process = start(long, tmp_path / "killed")
    state = tmp_path / "killed" / "models" / "in-progress" / "member-000.training"
    end = time.monotonic() + 600
    while not state.exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    record = read_record(state)
    assert record is not None
    assert 0 < int(record.arrays["step"]) < 2500
    finish(run_deck, long, tmp_path / "killed")
    finish(run_deck, long, tmp_path / "whole")
    log = (tmp_path / "killed" / "log.txt").read_text()
    assert f"member 0 goes on at step {int(record.arrays['step'])} of 2500" in log
    assert differences(results(tmp_path / "whole"), results(tmp_path / "killed")) == []
    assert not state.parent.exists()


def test_killed_before_the_manifest_a_directory_is_still_a_runs(deck, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "lock.json").write_text("")
    (out / "deck.resolved.yaml").write_text("system")
    (out / ".manifest.json.4711").write_text("{")
    process = start(deck, out, 1, "--until", "prepare")
    assert process.wait(timeout=300) == 0, said(out)
    assert (out / "manifest.json").exists()


def test_the_lock_of_a_dead_run_goes_to_one_of_many(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hpcir.storage.run_directory import RunDirectory\n"
        "from hpcir.errors import InputError\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "try: RunDirectory(Path(sys.argv[1])).open('deck', '')\n"
        "except InputError as error: print('refused', error.what)\n"
        "else: print('open')\n"
        "sys.stdout.flush(); sys.stdin.read()\n"
    )
    for attempt in range(3):
        out = tmp_path / f"run-{attempt}"
        out.mkdir()
        (out / "lock.json").write_text(json.dumps(lock_identity() | {"pid": 4194000, "started": "1"}))
        at = str(time.time() + 4.0)
        many = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(out), at],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(5)
        ]
        answers = [process.stdout.readline().strip() for process in many if process.stdout is not None]
        for process in many:
            process.communicate()
        assert sorted(answers) == ["open"] + ["refused another run works in this directory"] * 4


def test_walltime_stops_with_status_75_and_the_moved_directory_goes_on(undisturbed, deck, run_deck, tmp_path):
    out = tmp_path / "run"
    process = start(deck, out, 1, "--walltime", "8 s")
    assert process.wait(timeout=120) == 75, said(out)
    assert "time limit" in said(out)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    out.rename(moved)
    finish(run_deck, deck, moved)
    assert_same(undisturbed, moved)


# -- engines ----------------------------------------------------------------------------------------------------


def unruly_deck(folder: Path, arguments: str) -> Path:
    words = f"calculator: 'tests.e2e.unruly:Unruly', time_limit: 4 s, pretrain: {{engine: none}}{arguments}"
    calculator = f"{{engine: ase, {words}}}"
    path = folder / "unruly.yaml"
    path.write_text(
        DECK.replace("{engine: tblite}", calculator).replace("rounds: 2", "rounds: 0").replace("count: 10", "count: 0")
    )
    return path


def test_labels_that_fail_in_every_way_are_set_aside_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    process = start(unruly_deck(tmp_path, ""), out, 1)
    assert process.wait(timeout=600) == 0, said(out)
    records = [record for path in (out / "labels").glob("*.journal") for record in read_journal(path)[0]]
    reasons = [record.attributes["reason"] for record in records if record.attributes["reason"]]
    for words in ("SCF not converged", "status 7", "SIGSEGV", "not finite", "limit of 4 s"):
        assert any(words in reason for reason in reasons), (words, reasons)
    assert json.loads((out / "summary.json").read_text())["labels"]["failed"] == len(reasons)
    assert "Traceback" not in said(out)


def test_when_no_label_succeeds_the_run_stops_itself_with_one_message(tmp_path):
    out = tmp_path / "run"
    process = start(unruly_deck(tmp_path, ", arguments: {accidents: [raise], everywhere: true}"), out, 1)
    assert process.wait(timeout=300) == 3, said(out)
    assert said(out).count("hpcir: ") == 1
    assert "SCF not converged" in said(out)
    assert "Traceback" not in said(out)


# -- disks ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(place: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of so many KiB at a folder; only root can have one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("kibibytes", [700, *(pytest.param(n, marks=LONG) for n in (40, 120, 250, 450, 1200, 2000))])
def test_a_full_disk_stops_the_run_with_a_word_and_it_goes_on_when_there_is_room(
    undisturbed, deck, run_deck, tmp_path, kibibytes
):
    with small_disk(tmp_path / "disk", kibibytes) as disk:
        out = disk / "run"
        done = run_deck(deck, out)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "No space left" in done.stderr
        assert done.stderr.count("hpcir: ") == 1
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        finish(run_deck, deck, out)
        assert_same(undisturbed, out)


QUOTA = """
import errno, os, stat, sys
from hpcir.cli import main
left, write = int(sys.argv.pop(1)), os.write
def limited(descriptor, data):
    global left
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        left -= len(data)
        if left < 0:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return write(descriptor, data)
os.write = limited
sys.exit(main())
"""


@pytest.mark.parametrize("kilobytes", [60, *(pytest.param(n, marks=LONG) for n in (1, 200, 400))])
def test_a_spent_quota_stops_the_run_with_a_word_and_it_goes_on_when_there_is_room(
    undisturbed, deck, run_deck, tmp_path, kilobytes
):
    """No file system with quotas can be counted on here: the journals' writes fail as they would on one."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", QUOTA, str(1000 * kilobytes), "run", str(deck), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Disk quota exceeded" in done.stderr
    assert done.stderr.count("hpcir: ") == 1
    assert "Traceback" not in done.stderr
    finish(run_deck, deck, out)
    assert_same(undisturbed, out)


def test_input_from_a_folder_that_cannot_be_written(undisturbed, deck, run_deck, tmp_path):
    with small_disk(tmp_path / "input", 1000) as folder:
        shutil.copy(ROOT / "inputs" / "methanol.xyz", folder)
        text = deck.read_text().replace(str(ROOT / "inputs" / "methanol.xyz"), "methanol.xyz")
        (folder / "tiny.yaml").write_text(text)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        finish(run_deck, folder / "tiny.yaml", tmp_path / "run")
        assert differences(results(undisturbed), results(tmp_path / "run")) == []


# -- damage -----------------------------------------------------------------------------------------------------

DAMAGED = (
    "labels/*.journal",
    "exploration/*.journal",
    "trajectories/*.h5",
    "models/*.h5",
    "models/learning_curve.json",
    "spectrum.h5",
    "labels.h5",
    "test.h5",
    "prepare.h5",
    "summary.json",
    "spectrum.csv",
    "deck.resolved.yaml",
    "start.xyz",
)


def damage(path: Path, random: np.random.Generator) -> str:
    """Flip a bit of a file, or cut its end off; what was done."""
    data = bytearray(path.read_bytes())
    place = int(random.integers(len(data)))
    if random.random() < 0.25:
        path.write_bytes(data[:place])
        return f"{path.name} cut at {place}"
    bit = int(random.integers(8))
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.name} bit {bit} of byte {place}"


def content(path: Path) -> object:
    """What a reader of the program makes of a file: arrays and attributes, or the error that it raises."""
    if path.suffix == ".journal":
        found, _ = read_journal(path)
        return {r.key: (r.attributes, {n: a.tobytes() for n, a in r.arrays.items()}) for r in found}
    if path.parent.name == "models":
        return Model.load(path)
    arrays, attributes = read_h5(path)
    return {name: array.tobytes() for name, array in arrays.items()}, {k: str(v) for k, v in attributes.items()}


def harmless(before: object, after: object) -> bool:
    if isinstance(before, Model) and isinstance(after, Model):
        pairs = [(getattr(before, kind), getattr(after, kind)) for kind in ("energy", "charge")]
        return before.functions == after.functions and all(
            np.array_equal(a[z].weights[n], b[z].weights[n])
            for a, b in pairs
            for z in a
            for n in range(len(a[z].weights))
        )
    if isinstance(before, dict) and isinstance(after, dict):  # a journal: records may be missing, none may differ
        return all(before.get(key) == value for key, value in after.items())
    return before == after


def test_any_damage_is_noticed_by_the_readers(undisturbed, tmp_path, say):
    random = np.random.default_rng(11)
    files = [p for pattern in DAMAGED for p in sorted(undisturbed.glob(pattern)) if p.suffix in (".h5", ".journal")]
    noticed = alike = 0
    for _ in range(150):
        path = files[int(random.integers(len(files)))]
        copy = tmp_path / path.parent.name / path.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        what = damage(copy, random)
        try:
            after = content(copy)
        except (RunStopped, InputError):
            noticed += 1
            continue
        assert harmless(content(path), after), what
        alike += 1
    say(f"{noticed} damaged files refused, {alike} harmless, of 150")
    assert noticed > 75


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=LONG) for n in range(2, 12))])
def test_a_damaged_run_directory_gives_the_same_result_when_run_again(undisturbed, deck, run_deck, tmp_path, say, seed):
    random = np.random.default_rng(seed)
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    done = [damage(p, random) for pattern in DAMAGED for p in sorted(out.glob(pattern))]
    finish(run_deck, deck, out)
    assert differences(results(undisturbed), results(out)) == [], done
    assert list(out.rglob("*.damaged")), done
    for name in ("spectrum.csv", "deck.resolved.yaml", "start.xyz"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), done
    say(f"seed {seed}: {len(done)} files damaged, the same result")
