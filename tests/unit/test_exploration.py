"""What exploration takes: by the expected error of forces and dipole, and at the edge of physics."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hpcir.descriptors.definition import automatic_set
from hpcir.models.evaluator import Evaluator
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import Structure
from hpcir.sampling.exploration import MAX_EXCESS, ExplorationPlan, GeometryCheck, explore_block, first_take
from hpcir.study.learning.curve import StopReason
from hpcir.study.learning.loop import LearningLoop
from hpcir.units import ANGSTROM, FS, KELVIN, PS

WATER = Structure(
    np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]) * ANGSTROM, name="water"
)


def frames(stretches: list[float]) -> np.ndarray:
    """Water with its first bond stretched by factors."""
    result = np.repeat(WATER.positions[None], len(stretches), 0)
    result[:, 1] *= np.array(stretches)[:, None]
    return result


def test_the_first_frame_over_the_tolerated_error_is_taken() -> None:
    found = first_take(frames([1.0, 1.1, 1.2]), np.array([0.5, 1.2, 0.1]), GeometryCheck(WATER), WATER.positions)
    assert found.taken
    assert found.is_physical
    assert found.frames == 2
    assert found.excess == 1.2
    np.testing.assert_array_equal(found.geometry, frames([1.1])[0])


@pytest.mark.parametrize(
    ("stretch", "excess"), [(1.9, 0.5), (1.05, 2 * MAX_EXCESS), (np.nan, 0.5), (1.05, np.nan), (0.3, 0.5)]
)
def test_what_is_beyond_physics_or_knowledge_gives_the_frame_before(stretch: float, excess: float) -> None:
    found = first_take(frames([1.02, stretch]), np.array([0.5, excess]), GeometryCheck(WATER), WATER.positions)
    assert found.taken
    assert not found.is_physical
    np.testing.assert_array_equal(found.geometry, frames([1.02])[0])


def test_nothing_is_taken_from_a_quiet_trajectory() -> None:
    found = first_take(frames([1.0, 1.1]), np.array([0.2, 0.9]), GeometryCheck(WATER), WATER.positions)
    assert not found.taken
    assert found.frames == 2


def explored(force_spread: float, dipole_spread: float) -> tuple[int, float]:
    """Takes and largest excess of a committee of random networks that hardly moves."""
    model = random_model(automatic_set((1, 8), 6.0, 4, 1, (1,)), 3, members=3)
    plan = ExplorationPlan(1 * KELVIN, force_spread, dipole_spread, 2 * FS, 0.1 * FS, 10 * FS, check_every=2)
    starts = np.repeat(WATER.positions[None], 2, 0)
    found = explore_block(Evaluator(model, WATER.numbers, 2), WATER, starts, np.arange(2), 5, plan)
    return found.takes, float(found.excess.max(initial=0.0))


def test_protons_may_move_between_oxygens_but_not_leave_them() -> None:
    numbers = np.array([8, 1, 1, 1, 8, 1, 1])
    one = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-0.3, 0.95, 0.0], [-0.3, -0.5, 0.8]])
    other = np.array([[2.6, 0.0, 0.0], [2.9, 0.9, 0.0], [2.9, -0.5, 0.8]])
    zundel = Structure(numbers, np.concatenate([one, other]) * ANGSTROM, charge=1, name="H5O2+")
    is_physical = GeometryCheck(zundel)
    for along, allowed in ((1.0, True), (1.3, True), (1.65, True), (-2.0, False)):
        frame = zundel.positions.copy()
        frame[1, 0] = along * ANGSTROM
        assert bool(is_physical(frame)) == allowed
    frame = zundel.positions.copy()
    frame[1] = [1.3 * ANGSTROM, 1.6 * ANGSTROM, 0.0]
    assert not is_physical(frame)


def test_quiet_replicas_say_where_they_ended() -> None:
    model = random_model(automatic_set((1, 8), 6.0, 4, 1, (1,)), 3, members=3)
    starts = np.repeat(WATER.positions[None], 2, 0)
    evaluator = Evaluator(model, WATER.numbers, 2)
    plan = ExplorationPlan(1 * KELVIN, 1e3, 1e3, 2 * FS, 0.1 * FS, 10 * FS, check_every=2)
    found = explore_block(evaluator, WATER, starts, np.arange(2), 5, plan)
    assert found.final.shape == (2, 3, 3)
    assert np.abs(found.final - starts).min(axis=(1, 2)).max() > 0
    assert GeometryCheck(WATER)(found.final).all()
    taken = explore_block(evaluator, WATER, starts, np.arange(2), 5, replace(plan, force_spread=1e-9))
    assert taken.takes == 2
    assert taken.final.shape == (0, 3, 3)


def test_either_error_alone_takes() -> None:
    assert explored(1e3, 1e3)[0] == 0
    # The spreads themselves, at the start: the members' forces and dipoles are those of the evaluator.
    model = random_model(automatic_set((1, 8), 6.0, 4, 1, (1,)), 3, members=3)
    evaluator = Evaluator(model, WATER.numbers, 1)
    force = float(evaluator.force_spread(WATER.positions[:, :, None]).max())
    dipoles, _ = evaluator.member_dipoles(WATER.positions[:, :, None])
    dipole = float(np.sqrt(((dipoles - dipoles.mean(0)) ** 2).mean(0).sum()))
    assert evaluator.spread_here() == (pytest.approx([force]), pytest.approx([dipole]))
    for thresholds in ((0.5 * force, 1e3), (1e3, 0.5 * dipole)):
        takes, excess = explored(*thresholds)
        assert takes == 2
        assert excess == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize(
    ("explored", "takes", "reason"),
    [(160, 0, "at a goal"), (90, 0, ""), (160, 1, "at a goal"), (160, 2, "")],
)
def test_sampling_ends_when_the_goal_is_shown(explored, takes, reason):
    deck = SimpleNamespace(sampling=SimpleNamespace(goal=100 * PS))
    loop = SimpleNamespace(context=SimpleNamespace(deck=deck))
    between = explored / max(takes, 1)
    found = LearningLoop._stop_after_exploring(loop, [WATER], between)
    assert (found is None) == (not reason)
    if found is not None:
        assert reason in found.sentence
        assert found.reason is StopReason.GOAL
    assert LearningLoop._stop_after_exploring(loop, [], between) is not None
