"""Several hosts: two on this machine, each with a name, a /tmp and shared memory of its own, started through a stand-in
for ssh. Ranks of different hosts share nothing but the run directory and the network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcir.storage.hdf5 import read_h5
from tests.conftest import mpirun_command
from tests.e2e.conftest import ROOT, differences, results

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(900)]

SSH = """\
#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec unshare --uts --mount sh -c '
    hostname "$0" && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && exec sh -c "$*"' "$host" "$@"
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that both hosts see: not in /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="hpcir-hosts-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def on_hosts(shared: Path) -> list[str]:
    """The launcher's command for two ranks on each of two hosts."""
    launcher = mpirun_command(4)
    said = subprocess.run([launcher[0], "--version"], capture_output=True, text=True, check=False).stdout
    if "HYDRA" not in said:
        pytest.skip("the stand-in for ssh is for MPICH's launcher")
    if any(Path(place).resolve().is_relative_to("/tmp") for place in (ROOT, sys.executable)):
        pytest.skip("the program lies in /tmp, of which each host has its own here")
    script = shared / "ssh"
    script.write_text(SSH)
    script.chmod(0o755)
    if subprocess.run([str(script), "one", "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can give a process a host name and a /tmp of its own")
    return [launcher[0], "-launcher", "ssh", "-launcher-exec", str(script), "-hosts", "one,two", "-ppn", "2", "-n", "4"]


def start(command: list[str], deck: Path, shared: Path, said: Path) -> subprocess.Popen[str]:
    shutil.copy(deck, shared / "tiny.yaml")
    with open(said, "w") as file:
        return subprocess.Popen(
            [*command, sys.executable, "-m", "hpcir", "run", str(shared / "tiny.yaml"), "--out", str(shared / "run")],
            stdout=file, stderr=file, text=True, start_new_session=True,
        )  # fmt: skip


def test_two_hosts_give_the_result_of_one_and_say_so(undisturbed, deck, shared, on_hosts):
    process = start(on_hosts, deck, shared, shared / "said")
    assert process.wait(timeout=600) == 0, (shared / "said").read_text()
    run = shared / "run"
    assert differences(results(undisturbed), results(run)) == []
    for folder in ("labels", "trajectories"):
        written = {path.name for path in (run / folder).glob("*.journal")}
        assert written <= {"node-00000.journal", "node-00002.journal"}
    for name in ("labels.h5", "spectrum.h5"):
        assert json.loads(read_h5(run / name)[1]["origin"])["hosts"] == 2
    assert json.loads((run / "summary.json").read_text())["provenance"]["hosts"] == 2


def test_a_rank_that_dies_on_the_second_host_is_named(deck, shared, on_hosts):
    process = start(on_hosts, deck, shared, shared / "said")
    log, end = shared / "run" / "log.txt", time.monotonic() + 120
    while not (log.exists() and "normal modes: starts" in log.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    victims = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = next((v for v in variables if v.startswith(b"PMI_RANK=")), None)
        if str(shared / "run").encode() in words and b"hpcir" in words and rank is not None:
            victims[int(rank.partition(b"=")[2])] = int(folder.name)
    os.kill(victims[3], signal.SIGKILL)
    killed = time.monotonic()
    assert process.wait(timeout=60) != 0
    assert time.monotonic() - killed < 15
    assert "rank 3" in (shared / "said").read_text()
    assert "on two" in (shared / "said").read_text()
