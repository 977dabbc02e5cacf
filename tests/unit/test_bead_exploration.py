"""Exploration by ring polymers, quantum-thermal samples of normal modes, and the beads that a deck asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcir.deck.sections import DynamicsSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.ring_polymer import RingPolymer
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import Structure
from hpcir.sampling.bead_exploration import explore_rings
from hpcir.sampling.exploration import ExplorationPlan, GeometryCheck
from hpcir.study.nuclei import refuse_too_few_beads, ring_of, usual_ring
from hpcir.units import ANGSTROM, FS, KELVIN, PER_CM
from hpcir.vibrations.normal_modes import NormalModes, normal_modes, sample, zero_point_samples

WATER = Structure(np.array([8, 1, 1]), ANGSTROM * np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]))
KT = 300 * KELVIN


def modes() -> NormalModes:
    """Modes of a made-up force field: every pair of atoms on a spring."""
    hessian = np.zeros((9, 9))
    for i, j, constant in ((0, 1, 0.5), (0, 2, 0.5), (1, 2, 0.1)):
        line = np.zeros(9)
        unit = WATER.positions[i] - WATER.positions[j]
        unit /= np.linalg.norm(unit)
        line[3 * i : 3 * i + 3], line[3 * j : 3 * j + 3] = unit, -unit
        hessian += constant * np.outer(line, line)
    return normal_modes(WATER, hessian)


def explore(force_spread: float, steps: int = 20):
    model = random_model(automatic_set((1, 8), 10.0, 6, 2, (1, 2)), 4, members=2, scale=0.01)
    ring, starts = RingPolymer(4, KT), np.repeat(WATER.positions[None], 3, 0)
    plan = ExplorationPlan(KT, force_spread, np.inf, steps * 0.5 * FS, 0.5 * FS, 50 * FS, check_every=5)
    evaluator = Evaluator(model, WATER.numbers, 12)
    return model, explore_rings(evaluator, WATER, ring, starts, np.arange(3), 5, plan)


def test_quiet_rings_run_to_their_end():
    _, found = explore(1e3)
    assert (found.takes, found.insane, len(found.geometries), len(found.final)) == (0, 0, 0, 3)
    assert found.time == pytest.approx(3 * 4 * 20 * 0.5 * FS)


def test_the_bead_that_the_committee_is_least_sure_of_is_taken():
    model, everywhere = explore(1e3, steps=5)
    _, found = explore(1e-9, steps=5)
    # Beyond four times what is tolerated none is worth a label: the frame before is taken, and the ring counts as lost.
    assert (found.takes, found.insane) == (3, 3)
    spreads = Evaluator(model, WATER.numbers, 3).force_spread(np.ascontiguousarray(everywhere.final.transpose(1, 2, 0)))
    limit = spreads.max() / 1.5
    _, some = explore(float(limit), steps=5)
    assert some.takes >= 1
    assert GeometryCheck(WATER)(some.geometries).all()
    one = Evaluator(model, WATER.numbers, len(some.geometries))
    taken = one.force_spread(np.ascontiguousarray(some.geometries.transpose(1, 2, 0))).max(0) / limit
    assert np.allclose(taken, some.excess, rtol=1e-9)
    assert (taken > 1).all()


def test_quantum_samples_have_zero_point_amplitudes():
    found = modes()
    omega = found.wavenumbers * PER_CM
    for quantum, exact in ((False, KT / omega**2), (True, 1 / (2 * omega * np.tanh(omega / (2 * KT))))):
        drawn = sample(found, KT, 4000, np.random.default_rng(1), quantum)
        away = (drawn - found.positions) * np.sqrt(found.masses)[:, None]
        amplitudes = away.reshape(len(drawn), -1) @ found.modes.reshape(len(found), -1).T
        assert np.allclose((amplitudes**2).mean(0) / exact, 1, atol=0.08)


def test_labels_for_beads_reach_the_tails_of_the_zero_point_distribution():
    found = modes()
    omega = found.wavenumbers * PER_CM
    drawn = zero_point_samples(found, KT, 3000, np.random.default_rng(1))
    away = (drawn - found.positions) * np.sqrt(found.masses)[:, None]
    amplitudes = away.reshape(len(drawn), -1) @ found.modes.reshape(len(found), -1).T
    exact = np.sqrt(1 / (2 * omega * np.tanh(omega / (2 * KT))))
    for first, width in enumerate((1.0, 1.4, 1.8)):
        # Where bonds would break geometries are drawn again, which narrows the widest a little.
        assert np.allclose(amplitudes[first::3].std(0) / exact, width, rtol=0.1)


def test_beads_are_of_the_temperature_that_the_nuclei_have():
    stiff = modes()
    trpmd = ring_of(DynamicsSettings(nuclei="trpmd"), stiff)
    pigs = ring_of(DynamicsSettings(nuclei="pigs", pigs_temperature="600 K"), stiff)
    assert trpmd.temperature == pytest.approx(KT)
    assert pigs.temperature == pytest.approx(2 * KT)
    assert pigs.beads < trpmd.beads
    with pytest.raises(InputError, match="too few beads"):
        ring_of(DynamicsSettings(nuclei="trpmd", beads=4), stiff)
    refuse_too_few_beads(DynamicsSettings(beads=1), [WATER])
    with pytest.raises(InputError, match="too few beads for 300 K"):
        refuse_too_few_beads(DynamicsSettings(nuclei="trpmd", beads=8), [WATER])


def test_the_temperature_of_pigs_goes_with_the_stiffest_mode_of_each_isotopologue():
    """With doubled masses its part of the stiffest mode falls by their root, down to the temperature of trajectories;
    on colder trajectories it is lower."""
    light, pigs = modes(), DynamicsSettings(nuclei="pigs")
    heavy = replace(light, masses=2 * light.masses, wavenumbers=light.wavenumbers / np.sqrt(2))
    ring, heavier = ring_of(pigs, light), ring_of(pigs, heavy)
    own = ring.temperature - 0.25 * KT
    assert own == pytest.approx(light.wavenumbers.max() * PER_CM / 14.8)
    assert heavier.temperature == pytest.approx(max(KT, own / np.sqrt(2) + 0.25 * KT))
    assert (heavier.beads == ring.beads) == (heavier.temperature > KT)
    assert ring_of(pigs, replace(light, wavenumbers=light.wavenumbers / 4)).temperature == pytest.approx(KT)
    water = np.array([1539.0, 3646.3, 3653.6])
    assert ring_of(pigs, replace(light, wavenumbers=water)).temperature / KELVIN == pytest.approx(430, abs=2)
    cold = DynamicsSettings(nuclei="pigs", temperature="100 K")
    assert ring_of(cold, replace(light, wavenumbers=water)).temperature / KELVIN == pytest.approx(380, abs=2)


def test_beads_are_counted_before_modes_are_known():
    assert usual_ring(DynamicsSettings(), WATER) is None
    trpmd, pigs = (usual_ring(DynamicsSettings(nuclei=nuclei), WATER) for nuclei in ("trpmd", "pigs"))
    assert (trpmd.beads, pigs.beads) == (32, 24)
    assert usual_ring(DynamicsSettings(nuclei="pigs", beads=40), WATER).beads == 40
