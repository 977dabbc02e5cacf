"""Starts of flexible molecules: replicas that leave the training data are put back, the rest continue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.runner import ReplicaBlock
from hpcir.study.production.rotamer_starts import _moved, _unless_lost


def known(positions: NDArray) -> NDArray:
    """Where no atom is beyond 5 bohr."""
    return np.abs(positions).max((0, 1)) < 5.0


def block(largest: list[float]) -> ReplicaBlock:
    positions = np.ones((2, 3, len(largest))) * np.array(largest)
    return ReplicaBlock.start(positions, 0.1 * positions, np.arange(len(largest)))


def test_replicas_that_are_lost_go_back_and_turn_round() -> None:
    before, after = block([1.0, 2.0, 9.0]), block([3.0, 7.0, 8.0])
    kept = _unless_lost(before, after, known)
    np.testing.assert_array_equal(kept.positions[0, 0], [3.0, 2.0, 8.0])
    np.testing.assert_allclose(kept.velocities[0, 0], [0.3, -0.2, 0.8])
    assert kept.alive.all()


class Surface:
    """A flat committee that agrees near the origin alone: members' energies (2, R), forces (2, N, 3, R)."""

    def members(self, positions: NDArray) -> tuple[NDArray, NDArray]:
        far = ~known(positions)
        forces = np.zeros((2, *positions.shape))
        forces[0, :, :, far] = 1.0
        return np.zeros((2, positions.shape[2])), forces


class Pull:
    """A 'torsion' that takes the first atom away, or leaves it."""

    def __init__(self, to: float) -> None:
        self.to = to

    def turned(self, positions: NDArray, degrees: float) -> NDArray:
        moved = positions.copy()
        moved[0] = self.to
        return moved


def test_no_move_goes_where_the_committee_disagrees() -> None:
    random = np.random.default_rng(1)
    everywhere = lambda frames: np.ones(len(frames), bool)  # noqa: E731
    stayed, counts = _moved(block([1.0, 2.0]), Surface(), everywhere, [Pull(9.0)], 1e-3, 0.1, random, 2)
    np.testing.assert_array_equal(stayed.positions, block([1.0, 2.0]).positions)
    assert counts == (4, 0)
    gone, counts = _moved(block([1.0, 2.0]), Surface(), everywhere, [Pull(4.0)], 1e-3, 0.1, random, 2)
    assert counts == (4, 4)
    assert gone.positions[0, 0].tolist() == [4.0, 4.0]
    # From where it does not know, any place that it knows is lower.
    lost = block([1.0])
    lost.positions[0] = 9.0
    back, counts = _moved(lost, Surface(), everywhere, [Pull(4.0)], 1e-3, 0.1, random, 2)
    assert counts[1] >= 1
    assert known(back.positions).all()
