"""Polar tensors of data sets: right ones pass the audit and come back from files, wrong ones are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.exchange.audit import audit
from hpcir.exchange.datasets import Dataset, Frame, to_groups
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.reading import read_dataset
from hpcir.labels import create_engine
from hpcir.molecules.structures import Structure


def polar_set(**changes: object) -> Dataset:
    """Frames of a water ion made of constant charges: every polar tensor is its charge times 1."""
    random = np.random.default_rng(3)
    charges, numbers = np.array([-0.7, 0.85, 0.85]), np.array([8, 1, 1])
    frames = []
    for _ in range(4):
        positions = np.array([[0.0, 0, 0], [0, 1.4, 1.1], [0, -1.4, 1.1]]) + random.normal(0, 0.1, (3, 3))
        middle = (numbers[:, None] * positions).sum(0) / 10
        tensors = charges[:, None, None] * np.eye(3)
        frames.append(Frame(numbers, positions, dipole=charges @ (positions - middle), polar_tensors=tensors, charge=1))
    return Dataset(tuple(replace(frame, **changes) for frame in frames))


def found_of(dataset: Dataset) -> list[str]:
    return [finding.text for finding in audit(dataset) if finding.check == "polar tensors"]


def test_right_polar_tensors_pass() -> None:
    assert found_of(polar_set()) == []


def test_polar_tensors_of_another_charge_or_orientation_are_named() -> None:
    (text,) = found_of(polar_set(charge=0))
    assert "add up to the total charge" in text
    turned = polar_set().frames[0].polar_tensors[:, :, [1, 2, 0]]
    assert found_of(polar_set(polar_tensors=turned)) != []


@pytest.fixture(scope="module")
def labelled() -> Frame:
    """Water labelled by GFN2-xTB, whose polar tensors are not symmetric."""
    engine = create_engine(LabelSettings(engine="tblite"))
    numbers = np.array([8, 1, 1])
    positions = np.array([[0.0, 0, 0], [0.1, 1.4, 1.1], [0, -1.5, 1.0]])
    label = engine.label(Structure(numbers, positions), True)
    return Frame(numbers, positions, label.energy, label.forces, label.dipole, polar_tensors=label.polar_tensors)


def test_transposed_polar_tensors_are_named(labelled: Frame) -> None:
    assert found_of(Dataset((labelled,))) == []
    wrong = replace(labelled, polar_tensors=labelled.polar_tensors.transpose(0, 2, 1))
    (finding,) = [f for f in audit(Dataset((wrong,))) if f.check == "polar tensors"]
    assert "indices exchanged" in finding.advice


def test_files_give_polar_tensors_back(labelled: Frame, tmp_path: Path) -> None:
    without = replace(labelled, positions=labelled.positions * 1.01, polar_tensors=None)
    write_extxyz(Dataset((labelled, without)), tmp_path / "set.xyz")
    frames = read_dataset(tmp_path / "set.xyz", missing="allow").frames
    np.testing.assert_allclose(frames[0].polar_tensors, labelled.polar_tensors, atol=1e-11)
    assert frames[1].polar_tensors is None
    (group,) = to_groups(Dataset(frames))
    np.testing.assert_allclose(group.polar_tensors[0], labelled.polar_tensors, atol=1e-11)
    assert np.isnan(group.polar_tensors[1]).all()
    arrays = {"numbers": labelled.numbers, "positions": labelled.positions[None], "energy": [labelled.energy]}
    arrays |= {"dipole": labelled.dipole[None], "polar_tensors": labelled.polar_tensors[None]}
    np.savez(tmp_path / "set.npz", **arrays)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
    for name in ("set.npz", "set.h5"):
        (frame,) = read_dataset(tmp_path / name, units="atomic").frames
        np.testing.assert_array_equal(frame.polar_tensors, labelled.polar_tensors)
