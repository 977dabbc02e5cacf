"""`hpcir label`: the engine's own values, none computed twice, failed ones named, the same on two ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed
from hpcir.exchange.reading import read_dataset
from hpcir.labels import Label, create_engine
from hpcir.labels.isolation import IsolatedEngine
from hpcir.molecules.structures import Structure, read_frames
from tests.commands.conftest import Command, done, refused, write_xyz


def test_labels_are_those_of_the_engine(place: Path) -> None:
    dataset = read_dataset(place / "labels.xyz")
    assert len(dataset) == 40
    frame = dataset.frames[17]
    own = create_engine(LabelSettings(engine="tblite")).label(Structure(frame.numbers, frame.positions))
    # Twelve decimals of angstrom, eV and eV/A are in the file.
    assert frame.energy == pytest.approx(own.energy, abs=1e-9)
    assert np.allclose(frame.forces, own.forces, atol=1e-9)
    assert np.allclose(frame.dipole, own.dipole, atol=1e-9)
    assert "GFN2-xTB" in frame.level


def test_label_goes_on_and_never_labels_twice(place: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (place / "labels.xyz").read_bytes()
    arguments = ["label", place / "geometries.xyz", "--deck", place / "deck.yaml", "-o", place / "labels.xyz"]
    refused(command(*arguments), "labels.xyz", "exists already", "--force")

    def never(*_: Any) -> Label:
        raise AssertionError("labelled again")

    monkeypatch.setattr(IsolatedEngine, "label", never)
    assert "40 of 40" in done(command(*arguments, "--force"))
    assert (place / "labels.xyz").read_bytes() == before


@pytest.mark.parametrize("failing", [{1}, {0, 1, 2, 3}])
def test_failed_labels_are_named(
    place: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, failing: set[int]
) -> None:
    structures = [Structure(f.numbers, f.positions) for f in read_dataset(place / "labels.xyz").frames[:4]]
    path = write_xyz(tmp_path / "four.xyz", structures)
    genuine = IsolatedEngine.label

    def label(self: IsolatedEngine, structure: Structure, polar: bool = False) -> Label:
        if any(np.allclose(structure.positions, structures[n].positions, atol=1e-6) for n in failing):
            raise LabelFailed("the SCF did not converge")
        return genuine(self, structure)

    monkeypatch.setattr(IsolatedEngine, "label", label)
    status, out, err = command("label", path, "--deck", place / "deck.yaml", "-o", tmp_path / "out.xyz")
    for n in failing:
        assert f"geometry {n + 1}: not labelled: the SCF did not converge" in out
    assert len(read_frames(tmp_path / "out.failed.xyz")) == len(failing)
    if len(failing) == 4:
        assert status == 3
        assert "none of 4" in err
        assert not (tmp_path / "out.xyz").exists()
    else:
        assert status == 0
        kept = read_dataset(tmp_path / "out.xyz").frames
        assert len(kept) == 3
        assert np.allclose(kept[1].positions, structures[2].positions, atol=1e-6)


@pytest.mark.mpi
def test_two_ranks_write_the_same(place: Path, tmp_path: Path, mpirun: Callable[..., Any]) -> None:
    """Labels and evaluations of two ranks, byte by byte; rank 0 reads alone, and says alone what is wrong."""
    label = ["label", place / "geometries.xyz", "--deck", place / "deck.yaml", "-o", tmp_path / "labels.xyz"]
    commands = [label]
    for ending in ("1", "2"):
        output = tmp_path / f"evaluated-{ending}.xyz"
        commands.append(["evaluate", place / "model", place / "labels.xyz", "-o", output])
    for ranks, arguments in zip((2, 1, 2), commands, strict=True):
        result = mpirun(ranks, ["-m", "hpcir", *map(str, arguments)], cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "labels.xyz").read_bytes() == (place / "labels.xyz").read_bytes()
    assert (tmp_path / "evaluated-1.xyz").read_bytes() == (tmp_path / "evaluated-2.xyz").read_bytes()
    result = mpirun(2, ["-m", "hpcir", "evaluate", "nowhere", "labels.xyz", "-o", "o.xyz"], cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("hpcir: ") == 1
