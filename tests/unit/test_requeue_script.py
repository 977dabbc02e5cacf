"""The batch script that queues itself again: which ends of a run it does so after. SLURM's commands are played."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "jobs" / "requeue.slurm"


def requeued(folder: Path, status: int, missing: str | None = None) -> bool:
    """Whether the script queues itself again after a run of "a study.yaml" that ended with this status; missing: what
    the run wrote to missing.txt."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (("mpirun", f"exit {status}"), ("scontrol", 'echo "$@" > requeued')):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    if missing is not None:
        (folder / "a study.run" / "external").mkdir(parents=True)
        (folder / "a study.run" / "external" / "missing.txt").write_text(missing)
    script = folder / "requeue.slurm"
    script.write_text(SCRIPT.read_text().replace("deck=molecule.yaml", 'deck="decks/a study.yaml"'))
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": "17",
    }
    ended = subprocess.run(["bash", script], cwd=folder, env=environment, check=False)
    assert ended.returncode == status
    again = folder / "requeued"
    if again.exists():
        assert again.read_text() == "requeue 17\n"
    return again.exists()


@pytest.mark.parametrize(("status", "again"), [(75, True), (0, False), (2, False), (3, False), (1, False)])
def test_a_run_that_was_stopped_is_queued_again_and_no_other(tmp_path: Path, status: int, again: bool) -> None:
    assert requeued(tmp_path, status) == again


@pytest.mark.parametrize(("missing", "again"), [("label-1.inp\n", False), ("", True)])
def test_a_run_that_waits_for_labels_of_another_program_is_not_queued_again(
    tmp_path: Path, missing: str, again: bool
) -> None:
    assert requeued(tmp_path, 75, missing) == again
