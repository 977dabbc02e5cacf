"""Shared by all tests: a real mpirun, and one thread a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess]


def mpirun_command(ranks: int) -> list[str]:
    """The launcher's command for so many ranks on this machine, with either MPI library."""
    launcher = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if launcher is None:
        pytest.skip("no mpirun: install the extra 'mpi' (pip install mpich)")
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    extra = ["--oversubscribe"] if "Open MPI" in version or "Open RTE" in version else []
    return [launcher, *extra, "-n", str(ranks)]


@pytest.fixture
def mpirun() -> Run:
    """Run Python code or arguments under a real mpirun: mpirun(ranks, ['-c', code]) -> CompletedProcess."""

    def start(ranks: int, arguments: Sequence[str], timeout: float = 120, **kwargs) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        environment |= kwargs.pop("env", {})
        return subprocess.run(
            [*mpirun_command(ranks), sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
            **kwargs,
        )

    return start


@pytest.fixture
def hpcir(tmp_path: Path) -> Run:
    """Run the hpcir command in an empty folder: hpcir('check', 'deck.yaml') -> CompletedProcess."""

    def start(*arguments: object, timeout: float = 300, **kwargs) -> subprocess.CompletedProcess:
        kwargs.setdefault("cwd", tmp_path)
        return subprocess.run(
            [sys.executable, "-m", "hpcir", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **kwargs,
        )

    return start
