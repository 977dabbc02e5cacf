"""Shared by all tests: a real mpirun, one thread a process, and folders that are made once for all of them."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.frozen.rounding import PINNED

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# Kernels are compiled once for all tests, a minute of work: for the processor that the frozen decks are pinned to.
CPU = Path("/proc/cpuinfo")
if CPU.is_file() and {"avx2", "fma"} <= set(CPU.read_text().split()) and "NUMBA_CPU_NAME" not in os.environ:
    os.environ |= {name: PINNED[name] for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")}

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@cache
def mpi_launcher() -> tuple[str, bool]:
    """mpirun, and whether it is Open MPI's: HPCIR_MPIRUN, else the one beside this Python, else the first of PATH."""
    chosen = os.environ.get("HPCIR_MPIRUN")
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    launcher = shutil.which(chosen or "mpirun", path=places)
    if launcher is None:
        if chosen:
            pytest.fail(f"HPCIR_MPIRUN: there is no {chosen}")
        pytest.skip("no mpirun: install the extra 'mpi' (pip install mpich)")
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    return launcher, "Open MPI" in version or "Open RTE" in version


def mpirun_command(ranks: int) -> list[str]:
    """The launcher's command for so many ranks on this machine, with either MPI library."""
    launcher, is_open_mpi = mpi_launcher()
    return [launcher, *(["--oversubscribe"] if is_open_mpi else []), "-n", str(ranks)]


def programs_path(folder: Path) -> str:
    """A PATH for job scripts: mpirun is the tests' launcher, hpcir and python are those of this Python."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "mpirun"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(mpirun_command(1)[:-2])} "$@"\n')
    script.chmod(0o755)
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """made_once(name, make) -> a folder that `make` filled, once for all processes that pytest-xdist starts.

    Tests read it, or copy it before they change anything.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place, finished = root / name, root / f"{name}.finished"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                make(place)
                finished.touch()
        return place

    return folder


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
