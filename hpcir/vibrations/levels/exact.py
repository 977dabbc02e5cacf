"""Exact levels of diatomics and triatomics as vibrational states, named by their normal modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from hpcir.arrays import FloatArray, IntArray
from hpcir.molecules.structures import Structure
from hpcir.units import PER_CM
from hpcir.vibrations.levels.grids import diatomic_levels
from hpcir.vibrations.levels.oscillator_states import KeyTable, applied, keys_of
from hpcir.vibrations.levels.rovibration import EckartFrame
from hpcir.vibrations.levels.surface import Surface
from hpcir.vibrations.levels.triatomic import triatomic_levels
from hpcir.vibrations.levels.vpt2 import VibrationalStates

# Exact and approximate levels farther apart than this (cm-1) are not taken for each other.
FARTHEST = 100.0


def diatomic_states(surface: Surface, minimum: Structure, masses: FloatArray, count: int = 4) -> VibrationalStates:
    """The lowest exact levels of a diatomic; the basis are the states themselves."""
    found = diatomic_levels(surface, minimum, masses, count)
    quanta = np.arange(count, dtype=np.int8)[:, None]
    moments = np.zeros((count, 3))
    moments[:, 2] = found.moments
    return VibrationalStates(found.energies, quanta, np.eye(count), moments)


def triatomic_states(
    surface: Surface, minimum: Structure, masses: FloatArray, frame: EckartFrame, states: VibrationalStates
) -> VibrationalStates:
    """Approximate states with the energies of the exact levels that they are, those without one left out.

    Without rotation a linear molecule has no angular momentum about its axis; states with one unit come from J = 1.
    Those with more keep their approximate distance from the ground state.
    """
    exact = triatomic_levels(surface, minimum, masses, linear=frame.linear)
    momentum = axial_momentum(frame, states) if frame.linear else np.zeros(len(states.energies), np.int64)
    gaps = (states.energies - states.energies[0]) / PER_CM
    energies = np.where(momentum > 1, states.energies - states.energies[0] + exact.energies[0], np.nan)
    for unit, levels in ((0, exact.energies), (1, np.repeat(exact.bends, 2))):
        own = np.flatnonzero(momentum == unit)
        if not len(own) or not len(levels):
            continue
        cost = np.abs(np.subtract.outer(gaps[own], (levels - exact.energies[0]) / PER_CM))
        rows, columns = linear_sum_assignment(np.minimum(cost, 10 * FARTHEST))
        near = cost[rows, columns] < FARTHEST
        energies[own[rows[near]]] = levels[columns[near]]
    known = np.flatnonzero(np.isfinite(energies))
    order = known[np.argsort(energies[known], kind="stable")]
    return replace(states, energies=energies[order], vectors=states.vectors[:, order], moments=states.moments[order])


def axial_momentum(frame: EckartFrame, states: VibrationalStates) -> IntArray:
    """|l| (S,) of the states of a linear molecule in a basis of harmonic oscillators."""
    ratio = np.sqrt(frame.frequencies[None] / frame.frequencies[:, None])
    pairs = np.argwhere(np.abs(frame.coriolis[0]) > 1e-6)
    coefficients = (frame.coriolis[0] * ratio)[tuple(pairs.T)]
    terms = applied(states.quanta, pairs, coefficients, raising=(1.0, -1.0))
    rows = terms.matrix(KeyTable(keys_of(states.quanta)), len(states.quanta))
    squares = ((rows.T @ states.vectors) ** 2).sum(0)
    return np.asarray(np.round(np.sqrt(squares)), np.int64)
