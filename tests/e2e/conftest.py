"""A deck small enough for a test, and the undisturbed run that others are compared with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

DECK = f"""\
system: {{structure: {ROOT / "inputs" / "methanol.xyz"}}}
labels: {{engine: tblite}}
model: {{members: 2, hidden: [16, 16], radial: 6, shells: 3, zetas: [1, 2]}}
training: {{steps: 250, retrain_steps: 80, final_steps: 100}}
sampling:
  {{max_labels: 110, initial_labels: 40, round_labels: 15, rounds: 2, trajectories: 16, duration: 0.2 ps,
    force_error: 5 kcal/mol/A}}
test: {{count: 10}}
dynamics: {{trajectories: 16, lockstep: 8, equilibration: 0.1 ps, duration: 1 ps, force_error: 20 kcal/mol/A}}
spectrum: {{depth: 0.5 ps, committee_errors: false}}
"""


@pytest.fixture(scope="session")
def deck(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("deck") / "tiny.yaml"
    path.write_text(DECK)
    return path


@pytest.fixture(scope="session")
def undisturbed(deck, run_deck) -> Path:
    """The finished run directory of the tiny deck on one rank."""
    out = deck.parent / "undisturbed"
    done = run_deck(deck, out, ranks=1)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="session")
def undisturbed_on_two(deck, run_deck) -> Path:
    """The same on two ranks, one for each member of the committee: what more ranks give too, bit for bit."""
    out = deck.parent / "undisturbed-on-two"
    done = run_deck(deck, out, ranks=2)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="session")
def run_deck():
    """run_deck(deck, out, ranks=1) -> CompletedProcess, under a real mpirun for more than one rank."""
    import os
    import subprocess
    import sys

    from tests.conftest import mpirun_command

    def start(deck, out, ranks=1, timeout=600, **kwargs):
        launcher = mpirun_command(ranks) if ranks > 1 else []
        environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return subprocess.run(
            [*launcher, sys.executable, "-m", "hpcir", "run", str(deck), "--out", str(out)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
            **kwargs,
        )

    return start


def results(run: Path) -> dict[str, np.ndarray]:
    """Everything that two runs of one deck must share: labels, weights, dipole series, spectrum."""
    import h5py

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
