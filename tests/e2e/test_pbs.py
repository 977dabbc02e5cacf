"""The PBS script, with what PBS gives a job: its folder and the file of its cores. (No PBS is installed for this.)"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from tests.conftest import programs_path
from tests.e2e.conftest import ROOT, differences, results

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(600)]


def test_the_pbs_script_starts_a_rank_for_each_line_of_the_node_file(undisturbed, deck, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    shutil.copy(deck, folder / "a study.yaml")
    script = (ROOT / "jobs" / "cpu.pbs").read_text().replace("deck=molecule.yaml", "deck='a study.yaml'")
    (folder / "cpu.pbs").write_text(script)
    (folder / "nodes").write_text(f"{socket.gethostname()}\n" * 2)
    environment = os.environ | {
        "PBS_O_WORKDIR": str(folder),
        "PBS_NODEFILE": str(folder / "nodes"),
        "PATH": programs_path(tmp_path / "programs"),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    done = subprocess.run(
        ["bash", str(folder / "cpu.pbs")], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"ranks": 2' in (folder / "a study.run" / "summary.json").read_text()
    assert differences(results(undisturbed), results(folder / "a study.run")) == []
