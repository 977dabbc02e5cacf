"""Chunks of unfinished trajectories: gone on from, damaged or not, and removed when every block is a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import Interrupted
from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import Structure, read_structure
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.storage.hdf5 import read_h5
from hpcir.storage.journal import read_journal
from hpcir.study.production import sets
from hpcir.study.production.trajectories import TrajectoryStage, run_stages
from hpcir.study.session import default_deck, session
from hpcir.units import FS
from hpcir.vibrations.normal_modes import normal_modes

INPUT = Path(__file__).parents[2] / "inputs" / "methanol.xyz"
KEY = "a set of trajectories"


class Springs:
    """Replicas of a harmonic methanol with fixed charges; asks for a stop after so many forces."""

    chunk_steps, kernels = 40, None

    def __init__(self, structure: Structure, hessian: np.ndarray, context, calls: int | None = None) -> None:
        self.minimum, self.hessian, self.context, self.left = structure.positions, hessian, context, calls
        charges = structure.numbers - structure.numbers.mean()
        self.charges = 0.1 * (charges - charges.mean())

    def spread_threshold(self, error: float) -> float:
        return np.inf

    def evaluate(self, positions: np.ndarray):
        found = self.evaluate_with_dipoles(positions)
        return found.energies, found.forces

    def evaluate_with_dipoles(self, positions: np.ndarray) -> ReplicaEvaluation:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.context.stop.request("the test")
        moved = (positions - self.minimum[:, :, None]).reshape(-1, positions.shape[2])
        forces = -self.hessian @ moved
        energies = -0.5 * (moved * forces).sum(0)
        dipoles = np.einsum("n,nxr->xr", self.charges, positions)
        return ReplicaEvaluation(energies, forces.reshape(positions.shape), dipoles)


def run(folder: Path, calls: int | None = None) -> list[str]:
    structure = read_structure(INPUT)
    hessian = model_hessian(structure, 1e-4)
    deck = default_deck(INPUT)
    dynamics = deck.dynamics.model_copy(
        update={"trajectories": 6, "lockstep": 2, "equilibration": 20 * FS, "duration": 60 * FS}
    )
    deck = deck.model_copy(update={"dynamics": dynamics})
    modes = normal_modes(structure, hessian, np.ones((3, 18)))
    with session(folder, SerialCommunicator(), deck, structure, "test-1") as context:
        potential = Springs(structure, hessian, context, calls)
        chosen = sets.TrajectorySet("main", potential, structure.masses, (modes,), 6)
        plan = sets.plan_of(context, chosen)
        stage = TrajectoryStage(context, plan, KEY, lambda _: potential)
        run_stages([stage])
        return stage.files


def contents(folder: Path) -> dict[str, dict[str, bytes]]:
    files = sorted((folder / "trajectories").glob("main-*.h5"))
    return {path.name: {name: array.tobytes() for name, array in read_h5(path)[0].items()} for path in files}


def journal_of(folder: Path) -> Path:
    return folder / "trajectories" / "in-progress" / "main" / "node-00000.journal"


def test_stopped_anywhere_the_trajectories_are_the_same_and_their_chunks_go(tmp_path):
    whole = run(tmp_path / "whole")
    assert len(whole) == 3
    assert not (tmp_path / "whole" / "trajectories" / "in-progress").exists()
    for calls in (50, 170, 300, 400):
        out = tmp_path / f"stopped-{calls}"
        with pytest.raises(Interrupted):
            run(out, calls)
        keys = [record.key for record in read_journal(journal_of(out))[0]]
        assert len(keys) == len(set(keys)) > 0
        run(out)
        assert contents(out) == contents(tmp_path / "whole")
        assert not (out / "trajectories" / "in-progress").exists()


def test_damaged_chunks_are_computed_again(tmp_path):
    run(tmp_path / "whole")
    random = np.random.default_rng(3)
    for attempt in range(20):
        out = tmp_path / f"damaged-{attempt}"
        with pytest.raises(Interrupted):
            run(out, 300)
        journal = journal_of(out)
        data = bytearray(journal.read_bytes())
        place = int(random.integers(len(data)))
        if attempt % 3:
            data[place] ^= 1 << int(random.integers(8))
        journal.write_bytes(data if attempt % 3 else data[:place])
        run(out)
        assert contents(out) == contents(tmp_path / "whole"), place


def test_chunks_of_another_set_stay(tmp_path):
    other = tmp_path / "run" / "trajectories" / "in-progress" / "member-0" / "node-00000.journal"
    with pytest.raises(Interrupted):
        run(tmp_path / "run", 50)
    other.parent.mkdir()
    other.write_bytes(journal_of(tmp_path / "run").read_bytes())
    run(tmp_path / "run")
    assert other.stat().st_size > 0
    assert not journal_of(tmp_path / "run").exists()
