"""Replica exchange: right populations where dynamics alone is stuck, the ladder's acceptance, what is lost and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erfc

from hpcir.dynamics.runner import ReplicaBlock
from hpcir.models.potential import ReplicaEvaluation, ReplicaFunction
from hpcir.molecules.isotopomers import Relabelling
from hpcir.sampling.tempering import ACCEPTANCE, MAX_RUNGS, Tempering, basins_of, ladder
from hpcir.units import AMU, FS, KELVIN

KT = 300 * KELVIN
MASSES = np.full(2, 2 * AMU)
# A double well in the first atom's x: minima near +-1 bohr, a barrier of 7 kT, a tilt of half a kT; all else harmonic.
BARRIER, TILT, STIFF = 7 * KT, 0.25 * KT, 0.02


def wells(x: NDArray) -> NDArray:
    return BARRIER * (x**2 - 1) ** 2 + TILT * x


def surface(positions: NDArray) -> ReplicaEvaluation:
    x = positions[0, 0]
    rest = positions.copy()
    rest[0, 0] = 0.0
    energies = wells(x) + 0.5 * STIFF * (rest**2).sum(axis=(0, 1))
    forces = -STIFF * rest
    forces[0, 0] = -(4 * BARRIER * x * (x**2 - 1) + TILT)
    return ReplicaEvaluation(energies, forces, None)


def energies_of(frames: NDArray) -> NDArray:
    return surface(frames.transpose(1, 2, 0)).energies


def everywhere(frames: NDArray) -> NDArray:
    return np.ones(len(frames), bool)


def all_known(positions: NDArray) -> NDArray:
    return np.ones(positions.shape[2], bool)


def sampler(temperatures: NDArray, steps: int = 50) -> Tempering:
    return Tempering(
        ReplicaFunction(surface), MASSES, temperatures, [], [], all_known, everywhere, energies_of, steps, 2 * FS,
        50 * FS, 0, seed=3,
    )  # fmt: skip


def run(tempering: Tempering, cycles: int, chains: int = 16):
    positions = np.zeros((2, 3, chains))
    positions[0, 0] = -1.0
    state = tempering.begin(positions, np.arange(chains))
    rows, tally = [], None
    for cycle in range(cycles):
        state, counted = tempering.cycle(state, np.random.default_rng([5, cycle]))
        tally = counted if tally is None else tally.plus(counted)
        rows.append(tempering.lowest(state)[:, 0, 0])
    return np.array(rows), tally, state


def exact_share() -> float:
    """The right well's share, by quadrature."""
    x = np.linspace(-3, 3, 4001)
    weight = np.exp(-wells(x) / KT)
    return float(weight[x > 0].sum() / weight.sum())


def test_both_wells_have_their_shares_where_dynamics_alone_stays_in_one():
    alone, _, _ = run(sampler(np.array([KT])), 30)
    assert (alone < 0).mean() > 0.97
    rows, tally, _ = run(sampler(ladder(KT, 5 * KT, 6)), 200)
    names = [["right" if x > 0 else "left" for x in row] for row in rows[40:].T]
    found = basins_of(names)
    share, error = found.table["right"]
    assert abs(share - exact_share()) < 3 * error
    assert error < 0.05
    assert found.passes > 50
    assert not found.unconnected
    assert tally.lost.sum() == 0


def test_the_ladder_swaps_as_often_as_it_is_made_for():
    """Sixty harmonic degrees of freedom."""

    def bowl(positions: NDArray) -> ReplicaEvaluation:
        return ReplicaEvaluation(0.5 * STIFF * (positions**2).sum(axis=(0, 1)), -STIFF * positions, None)

    temperatures = ladder(KT, 3 * KT, 60)
    own = replace(
        sampler(temperatures, 20),
        masses=np.full(20, 2 * AMU),
        potential=ReplicaFunction(bowl),
        energies_of=lambda frames: 0.5 * STIFF * (frames**2).sum(axis=(1, 2)),
    )
    state, swaps = own.begin(np.zeros((20, 3, 16)), np.arange(16)), []
    for cycle in range(60):
        state, tally = own.cycle(state, np.random.default_rng([6, cycle]))
        swaps.append(tally)
    later = swaps[20]
    for tally in swaps[21:]:
        later = later.plus(tally)
    expected = erfc(np.sqrt(60 / 8) * np.log(temperatures[1] / temperatures[0]))
    assert later.acceptance.mean() == pytest.approx(expected, abs=0.04)
    assert expected >= ACCEPTANCE


def test_the_ladder_has_one_ratio_and_its_ends():
    found = ladder(300.0, 700.0, 36)
    assert found[[0, -1]] == pytest.approx([300, 700])
    assert np.allclose(found[1:] / found[:-1], found[1] / found[0])
    assert len(ladder(300.0, 700.0, 600)) > len(found)
    assert len(ladder(300.0, 700.0, 100_000)) == MAX_RUNGS
    assert ladder(300.0, 300.0, 36).tolist() == [300.0]


def test_a_chain_does_not_depend_on_where_it_was_stopped():
    own = sampler(ladder(KT, 3 * KT, 6), 10)
    whole = run(own, 6, 4)[2]
    half = run(own, 3, 4)[2]
    for cycle in range(3, 6):
        half, _ = own.cycle(half, np.random.default_rng([5, cycle]))
    assert np.array_equal(whole.block.positions, half.block.positions)


def test_swaps_scale_velocities_and_keep_what_is_there():
    own = sampler(np.array([KT, 4 * KT]), 1)
    state = own.begin(np.zeros((2, 3, 3)), np.arange(3))
    block = replace(state.block, positions=np.arange(36.0).reshape(2, 3, 6), velocities=np.ones((2, 3, 6)))
    always = replace(own, energies_of=lambda frames: -np.arange(float(len(frames))))
    swapped, tried, taken = always._swapped(block, np.random.default_rng(1), 0)
    assert tried.tolist() == [3]
    assert taken.tolist() == [3]
    assert np.array_equal(swapped.positions, block.positions[..., [3, 4, 5, 0, 1, 2]])
    assert swapped.velocities[0, 0].tolist() == [0.5, 0.5, 0.5, 2, 2, 2]


def test_relabelled_lanes_keep_their_energy():
    mirror = Relabelling(np.array([1, 0]), True)
    own = replace(sampler(np.array([KT])), relabellings=[mirror])
    state = own.begin(np.random.default_rng(2).normal(size=(2, 3, 40)), np.arange(40))
    moved = own._relabelled(state.block, np.random.default_rng(3))
    same = (moved.positions == state.block.positions).all(axis=(0, 1))
    assert 8 < same.sum() < 32
    assert np.array_equal(moved.positions[:, 2, ~same], -state.block.positions[::-1, 2][:, ~same])
    assert np.allclose((moved.velocities**2).sum(axis=(0, 1)), (state.block.velocities**2).sum(axis=(0, 1)))


def near(positions: NDArray) -> NDArray:
    """Where no atom is beyond 5 bohr."""
    return np.abs(positions).max((0, 1)) < 5.0


def block(largest: list[float]) -> ReplicaBlock:
    positions = np.ones((2, 3, len(largest))) * np.array(largest)
    return ReplicaBlock.start(positions, 0.1 * positions, np.arange(len(largest)))


def test_lanes_that_are_lost_go_back_turn_round_and_are_counted():
    own = replace(sampler(np.array([KT])), is_known=near)
    kept, lost = own._unless_lost(block([1.0, 2.0, 9.0]), block([3.0, 7.0, 8.0]))
    assert kept.positions[0, 0].tolist() == [3.0, 2.0, 8.0]
    assert kept.velocities[0, 0] == pytest.approx([0.3, -0.2, 0.8])
    assert lost.tolist() == [False, True, True]
    assert kept.alive.all()


def test_basins_that_no_chain_connects_are_named():
    found = basins_of([["a", "b", "a"], ["b", "b", "c"], ["x", "y", "x"], ["a", "a", "a"]])
    assert found.unconnected == (("x", "y"),)
    assert found.passes == 2 + 1 + 2
    assert found.names[0] == "a"
    assert found.shares.sum() == pytest.approx(1)
    # What is gained in one basin is lost in others.
    assert np.abs(found.covariance.sum(axis=0)).max() < 2 / 12**2


@pytest.mark.parametrize(("right", "highest"), [(0.05, 1.0), (0.1, 0.985), (0.3, 0.985)])
def test_two_errors_of_rare_basins_from_few_chains_hold_their_shares(right, highest):
    """Sixteen chains that draw a basin anew in every tenth of sixty cycles; standard errors alone hold 82 to 94 %."""
    random, held, plain = np.random.default_rng(8), [], []
    for _ in range(400):
        inside = np.repeat(random.random((16, 6)) < right, 10, axis=1)
        names = [["b" if one else "a" for one in row] for row in inside.tolist()]
        share, error = basins_of(names).table.get("b", (0.0, 1.0))
        held.append(abs(share - right) < 2 * error)
        by_chain = inside.mean(axis=1)
        plain.append(abs(by_chain.mean() - right) < 2 * by_chain.std(ddof=1) / 4)
    assert 0.94 <= np.mean(held) <= highest
    assert np.mean(plain) < np.mean(held) - 0.02


def test_errors_are_those_over_independent_chains():
    random = np.random.default_rng(4)
    draws = [[["a", "b"][int(x < 0.3)] for x in random.random(20)] for _ in range(400)]
    found = basins_of(draws)
    assert found.table["b"][1] == pytest.approx(np.sqrt(0.3 * 0.7 / 8000), rel=0.15)
