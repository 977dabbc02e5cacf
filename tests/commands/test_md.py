"""`hpcir md`: trajectories of a model, of an imported potential and of the label engine itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hpcir
from hpcir.commands.md import read_task
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError, Interrupted
from hpcir.labels import potential as engine_potential
from hpcir.labels.potential import EngineReplicas
from hpcir.molecules.structures import read_structure
from hpcir.study.session import default_deck
from hpcir.units import AMU, FS, KCAL_PER_MOL, KELVIN
from tests.commands.conftest import Command, blocks, done


def test_imported_potential_moves_as_the_model_does(place: Path, imported: Path) -> None:
    """Lockstep replicas in n2p2's kernels and plain steps, against the vector kernels: the same dynamics."""
    methanol = read_structure(place / "methanol.xyz")
    random = np.random.Generator(np.random.Philox(3))
    positions = methanol.positions[:, :, None] + 0.02 * random.standard_normal((6, 3, 3))
    velocities = thermal_velocities(positions, methanol.masses, 300 * KELVIN, 1, [0, 1, 2])
    ends = []
    for path in (place / "model", imported):
        potential = hpcir.load(path).replicas(methanol.numbers, 3, 0, methanol.masses)
        block = ReplicaBlock.start(positions, velocities, [0, 1, 2])
        chunk = run_chunk(potential, block, methanol.masses, 200, 0.5 * FS, dipole_every=50)
        assert chunk.dipoles.shape == (4, 3, 3)
        ends.append(chunk.block.positions)
    assert np.abs(ends[0] - positions).max() > 0.1
    assert np.allclose(ends[0], ends[1], rtol=0, atol=1e-8)


def test_imported_potential_gives_a_spectrum(place: Path, imported: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "md"
    printed = done(command("md", imported, place / "methanol.xyz", "--deck", place / "deck.yaml", "-o", out))
    assert "core-microseconds a step" in printed
    assert blocks(out)["sane"].all()
    assert (out / "spectrum.csv").is_file()
    assert "n2p2 potential" in repr(hpcir.load(out))
    done(command("evaluate", out, place / "geometries.xyz", "-o", tmp_path / "e.xyz"))


def test_other_masses_are_those_of_the_atoms_named(place: Path) -> None:
    def task(masses: dict[str, str] | None):
        structure = place / "methanol.xyz"
        return read_task(place / "model", structure, default_deck(structure), "model", None, masses)

    plain, heavy = task(None), task({"H": "2.014", "H6": "3.016"})
    assert heavy.structure.masses / AMU == pytest.approx(
        [*plain.structure.masses[:2] / AMU, 2.014, 2.014, 2.014, 3.016]
    )
    assert heavy.modes.wavenumbers[-1] < 0.78 * plain.modes.wavenumbers[-1]
    assert heavy.key != plain.key
    with pytest.raises(InputError, match="a mass must be a positive number of amu"):
        task({"H": "heavy"})
    with pytest.raises(InputError, match=r"--masses: no such atom in the structure"):
        task({"N": "15"})


def test_reference_starts_where_the_model_did(by_model: Path, by_labels: Path) -> None:
    one, two = blocks(by_model), blocks(by_labels)
    assert two["trajectory"].tolist() == [0, 1, 2] == one["trajectory"].tolist()
    assert np.array_equal(one["start_positions"], two["start_positions"])
    # The overall rotation is taken out of them twice: equal but for rounding.
    assert np.allclose(one["start_velocities"], two["start_velocities"], rtol=0, atol=1e-15)
    # After 2 fs on the other surface each dipole is still nearest to that of the same trajectory.
    first, second = one["dipoles"][0], two["dipoles"][0]
    distances = np.linalg.norm(first[:, :, None] - second[:, None, :], axis=0)
    assert distances.argmin(axis=1).tolist() == [0, 1, 2]
    assert distances.diagonal().min() > 0
    assert one["dipoles"].shape == two["dipoles"].shape == (150, 3, 3)


def test_reference_conserves_energy(by_labels: Path) -> None:
    found = blocks(by_labels)
    assert found["sane"].all()
    # Velocity Verlet at 0.5 fs: fluctuations below 0.3 kcal/mol for methanol at 300 K, and no trend.
    for path in (by_labels / "trajectories").glob("main-*.h5"):
        with h5py.File(path) as file:
            assert np.ptp(file["total_energy"][()]) / KCAL_PER_MOL < 0.3
    summary = json.loads((by_labels / "summary.json").read_text())
    assert summary["timing"]["milliseconds_per_step"] > 0
    assert summary["md"]["left_out"] == 0


def test_interrupted_reference_goes_on_to_the_same_trajectories(
    place: Path,
    by_model: Path,
    by_labels: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_potential, "CHECKPOINT_SECONDS", 0.02)
    genuine = EngineReplicas._answer
    counts = {"labels": 0}

    def label(self: EngineReplicas, positions: np.ndarray) -> Any:
        counts["labels"] += 1
        if counts["labels"] == 900:
            raise Interrupted("stopped by the test")
        return genuine(self, positions)

    monkeypatch.setattr(EngineReplicas, "_answer", label)
    arguments = ["md", by_model, place / "methanol.xyz", "--potential", "labels", "-o", tmp_path / "again"]
    status, _, err = command(*arguments)
    assert (status, "stopped by the test" in err) == (75, True)
    assert not (tmp_path / "again/spectrum.h5").exists()
    done(command(*arguments))
    # 3 trajectories of 600 steps: what was done before the stop is not done again, but for one chunk.
    assert counts["labels"] < 1803 + 200
    one, two = blocks(tmp_path / "again"), blocks(by_labels)
    assert np.allclose(one["dipoles"], two["dipoles"], atol=1e-9)
