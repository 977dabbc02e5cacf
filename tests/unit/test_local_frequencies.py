"""Effective frequencies of bonds and angles from forces: exact for springs, and the shift is that of the springs."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.molecules.structures import Structure
from hpcir.study.results.records import IndependentTest, LocalFrequencyRow
from hpcir.study.results.summary import local_line
from hpcir.units import PER_CM
from hpcir.vibrations.local_frequencies import MIN_GEOMETRIES, local_frequencies

WATER = Structure(np.array([8, 1, 1]), np.array([[0.0, 0, 0], [0.0, 1.43, 1.11], [0.0, -1.43, 1.11]]))
STRETCH, BEND = 0.5, 0.16


def forces(positions: np.ndarray, stretch: float, bend: float) -> np.ndarray:
    """Of springs on both bonds and on the angle, by differences of their energy."""

    def energy(frames: np.ndarray) -> np.ndarray:
        arms = frames[:, 1:] - frames[:, :1]
        lengths = np.linalg.norm(arms, axis=2)
        angle = np.arccos((arms[:, 0] * arms[:, 1]).sum(1) / lengths.prod(1))
        return 0.5 * stretch * ((lengths - 1.81) ** 2).sum(1) + 0.5 * bend * (angle - 1.82) ** 2

    found = np.zeros_like(positions)
    for place in np.ndindex(3, 3):
        move = np.zeros((3, 3))
        move[place] = 1e-5
        found[:, place[0], place[1]] = -(energy(positions + move) - energy(positions - move)) / 2e-5
    return found


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return WATER.positions + np.random.default_rng(1).normal(0, 0.05, (4000, 3, 3))


def test_springs_have_their_frequencies(frames: np.ndarray) -> None:
    reference, model = forces(frames, STRETCH, BEND), forces(frames, 0.98 * STRETCH, BEND)
    stretch, bend = local_frequencies(WATER, frames, reference, model)
    assert (stretch.motion, stretch.count) == ("H2O stretch", 2)
    assert (bend.motion, bend.count) == ("H2O bend", 1)
    oxygen, hydrogen = WATER.masses[:2]
    expected = np.sqrt(STRETCH * (1 / hydrogen + 1 / oxygen)) / PER_CM
    # The other bond and the angle pull at the same oxygen: by little, and at random.
    assert stretch.wavenumber == pytest.approx(expected, rel=0.02)
    assert stretch.shift == pytest.approx(expected * (np.sqrt(0.98) - 1), abs=4 * stretch.error)
    assert stretch.error < 0.01 * abs(stretch.shift) + 2.0


def test_the_same_forces_have_no_shift(frames: np.ndarray) -> None:
    reference = forces(frames, STRETCH, BEND)
    for one in local_frequencies(WATER, frames, reference, reference):
        assert one.shift == 0.0
        assert one.error == 0.0


def test_a_softer_bend_is_found(frames: np.ndarray) -> None:
    _, bend = local_frequencies(WATER, frames, forces(frames, STRETCH, BEND), forces(frames, STRETCH, 0.96 * BEND))
    assert bend.shift == pytest.approx(bend.wavenumber * (np.sqrt(0.96) - 1), rel=0.15)


def test_few_geometries_say_nothing(frames: np.ndarray) -> None:
    few = frames[: MIN_GEOMETRIES - 1]
    assert local_frequencies(WATER, few, forces(few, 1, 1), forces(few, 1, 1)) == []
    assert local_line(IndependentTest(0)) == []


def test_the_summary_names_the_largest_shift() -> None:
    rows = (
        LocalFrequencyRow("CH2 stretch", 80, 2900.0, 1.0, 0.5),
        LocalFrequencyRow("CH2 bend", 40, 1460.0, -3.0, 0.6),
    )
    (line,) = local_line(IndependentTest(2, local_frequencies=rows))
    assert "CH2 bend -3.0 +- 0.6 cm-1" in line
    assert "2 kinds" in line
