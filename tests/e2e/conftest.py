"""A deck small enough for a test, the undisturbed run that others are compared with, and runs that are stopped."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcir.cli import main
from hpcir.storage.hdf5 import read_h5
from hpcir.storage.journal import read_journal
from tests.conftest import mpirun_command

ROOT = Path(__file__).parents[2]
WATER = Path(__file__).parent / "water.xyz"
# Open MPI refuses to start as root without these.
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

DECK = f"""\
system: {{structure: {WATER}}}
labels: {{engine: tblite}}
model: {{members: 2, hidden: [16, 16], radial: 6, shells: 2, zetas: [1, 2], channels: 0}}
training: {{steps: 100, final_steps: 100, learning_rate: 0.01}}
sampling:
  {{max_labels: 40, initial_labels: 10, round_labels: 8, rounds: 2, trajectories: 16, duration: 0.1 ps,
    force_error: 5 kcal/mol/A}}
test: {{count: 10}}
dynamics: {{trajectories: 32, lockstep: 16, equilibration: 0.05 ps, duration: 0.6 ps, force_error: 20 kcal/mol/A}}
spectrum: {{depth: 0.3 ps, committee_errors: false}}
"""


def replaced(text: str, words: dict[str, str]) -> str:
    """A deck with other values in it; each of the old ones must be there."""
    for old, new in words.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="session")
def deck(made_once) -> Path:
    """The tiny deck: water, two rounds of exploration, 32 trajectories in two blocks."""
    return made_once("tiny-deck", lambda folder: (folder / "tiny.yaml").write_text(DECK)) / "tiny.yaml"


@pytest.fixture(scope="session")
def undisturbed(deck, finished_run) -> Path:
    """The finished run directory of the tiny deck on one rank."""
    return finished_run("tiny", deck)


@pytest.fixture(scope="session")
def undisturbed_on_two(deck, finished_run) -> Path:
    """The same on two ranks, one for each member of the committee."""
    return finished_run("tiny-on-two", deck, ranks=2)


@pytest.fixture(scope="session")
def finished_run(made_once, run_deck):
    """finished_run(name, deck, ranks=1) -> its finished run directory, made once for all tests, which only read it.

    It is made as a user makes it, by a process of its own.
    """

    def run(name: str, deck: Path, ranks: int = 1) -> Path:
        return made_once(name, lambda folder: finish(run_deck, deck, folder / "run", ranks, apart=True)) / "run"

    return run


@pytest.fixture(scope="session")
def run_deck():
    """run_deck(deck, out, ranks=1) -> CompletedProcess: several ranks under a real mpirun, one in the tests' process,
    whose imports and kernels are there already, or with `apart` in one of its own."""

    def run(deck, out, ranks=1, timeout=600, apart=False, **kwargs):
        command = run_command(deck, out, ranks)
        if ranks == 1 and not apart:
            return run_here(command[command.index("run") :])
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | AS_ROOT,
            check=False,
            **kwargs,
        )

    return run


def run_here(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command of hpcir in this process, which gets its signal handlers back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(list(arguments), status, out.getvalue(), err.getvalue())


def finish(run_deck, deck: Path, out: Path, ranks: int = 1, **kwargs: Any) -> None:
    done = run_deck(deck, out, ranks=ranks, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr


def run_command(deck: Path, out: Path, ranks: int = 1, program: Sequence[str] = ("-m", "hpcir")) -> list[str]:
    launcher = mpirun_command(ranks) if ranks > 1 else []
    return [*launcher, sys.executable, *program, "run", str(deck), "--out", str(out)]


# -- runs that something happens to -----------------------------------------------------------------------------


def start(deck: Path, out: Path, ranks: int = 1, *arguments: str, **kwargs: Any) -> subprocess.Popen[str]:
    """A run in a session of its own; what it says goes to OUT.said."""
    with open(said_file(out), "w") as file:
        return subprocess.Popen(
            [*run_command(deck, out, ranks, **kwargs), *arguments],
            stdout=file, stderr=file, text=True, env=os.environ | AS_ROOT, start_new_session=True,
        )  # fmt: skip


def said_file(out: Path) -> Path:
    return out.with_name(out.name + ".said")


def said(out: Path) -> str:
    return said_file(out).read_text()


def log_of(out: Path) -> str:
    return (out / "log.txt").read_text() if (out / "log.txt").exists() else ""


def wait_for_stage(out: Path, stage: str, process: subprocess.Popen[str], known: str = "") -> None:
    """Wait until the log, what was `known` of it apart, says that a stage has started."""
    end = time.monotonic() + 300
    while f"{stage}: starts" not in log_of(out)[len(known) :]:
        assert process.poll() is None, f"the run ended before the stage {stage}: {said(out)}"
        assert time.monotonic() < end, f"{stage} did not start"
        time.sleep(0.01)


def kill_in_stages(deck: Path, out: Path, stages: Iterable[str], undisturbed: Path) -> None:
    """Run and kill -9 a deck in one stage after the other, each run going on where the one before was killed.

    After every kill the finished work is that of the undisturbed run.
    """
    for stage in stages:
        known = log_of(out)
        process = start(deck, out)
        wait_for_stage(out, stage, process, known)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert_part_of(undisturbed, out)


# -- results ----------------------------------------------------------------------------------------------------


def results(run: Path) -> dict[str, np.ndarray]:
    """Everything that two runs of one deck must share: labels, weights, dipole series, spectrum."""
    found: dict[str, np.ndarray] = {}

    def collect(prefix: str, path: Path, skip: tuple[str, ...] = ()) -> None:
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: (
                    found.__setitem__(f"{prefix}/{name}", item[()])
                    if isinstance(item, h5py.Dataset) and not any(word in name for word in skip)
                    else None
                )
            )

    collect("labels", run / "labels.h5", ("seconds",))
    collect("model", run / "models" / "model.h5")
    for block in sorted((run / "trajectories").glob("main-*.h5")):
        collect(block.stem, block)
    collect("spectrum", run / "spectrum.h5")
    summary = json.loads((run / "summary.json").read_text())
    found["bands"] = np.array([[b["position_per_cm"], b["intensity_km_per_mol"]] for b in summary["bands"]])
    return found


def differences(first: dict[str, np.ndarray], second: dict[str, np.ndarray], tolerance: float = 0.0) -> list[str]:
    """Names of the arrays that differ by more than `tolerance` of their largest element."""
    wrong = [f"only in one: {name}" for name in sorted(first.keys() ^ second.keys())]
    for name in sorted(first.keys() & second.keys()):
        a, b = np.asarray(first[name]), np.asarray(second[name])
        if a.shape != b.shape:
            wrong.append(f"{name}: shape {a.shape} and {b.shape}")
        elif a.dtype.kind not in "fc":
            if not np.array_equal(a, b):
                wrong.append(name)
        elif a.size and not np.allclose(a, b, rtol=0, atol=tolerance * np.nanmax(np.abs(a)), equal_nan=True):
            wrong.append(f"{name}: by {np.nanmax(np.abs(a - b)):.3g}")
    return wrong


def computed(out: Path) -> Counter[str]:
    """How often each unit of work was recorded: labels, explored blocks, chunks of trajectories."""
    records = [record for path in out.rglob("*.journal") for record in read_journal(path)[0]]
    return Counter(f"{record.key}" for record in records)


def assert_same(undisturbed: Path, out: Path) -> None:
    assert differences(results(undisturbed), results(out)) == []
    assert computed(out) == computed(undisturbed)
    assert set(computed(out).values()) == {1}, "work was done twice"
    assert not list(out.glob("trajectories/in-progress/*/*"))


def finished_work(out: Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of every label, explored block and model that a run, finished or stopped, has on disk."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in out.rglob("*.journal"):
        if "in-progress" not in path.parts:
            folder = path.parent.relative_to(out)
            found |= {f"{folder}/{record.key}": dict(record.arrays) for record in read_journal(path)[0]}
    for path in out.rglob("models/*.h5"):
        found[str(path.relative_to(out))] = read_h5(path)[0]
    return {key: {n: a for n, a in arrays.items() if "seconds" not in n} for key, arrays in found.items()}


def assert_part_of(undisturbed: Path, out: Path) -> None:
    """No finished piece of work of a stopped run differs from that of the undisturbed one, which has all of it but for
    models that only lead to others."""
    whole = finished_work(undisturbed)
    for key, arrays in finished_work(out).items():
        assert key in whole or key.endswith(".h5"), key
        assert differences(whole.get(key, arrays), arrays) == [], key


@pytest.fixture
def say(capsys) -> Callable[[str], None]:
    """say(text): what a test counted, past pytest's capture."""

    def told(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return told
