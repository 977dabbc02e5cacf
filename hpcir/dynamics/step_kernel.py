"""Compiled dynamics of lockstep replicas: the loop over steps, with forces, records and retirement inside.

The equations are those of integrators.py. Arrays are flat in the evaluator's layout, (atoms, 3, stride) with replicas
innermost. An unphysical replica is frozen where it was one step before, and the arithmetic of the others does
not notice: every operation acts on each replica by itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.lanes import KERNEL, njit
from hpcir.dynamics.integrators import LANGEVIN, RESCALING
from hpcir.dynamics.restraint import Restraint
from hpcir.models.neighbour_kernel import moved_beyond
from hpcir.models.potential_kernel import CONTIGUOUS, evaluate_lanes, sum_atoms, total_dipoles

# Why a replica was retired.
ALIVE, DISPLACEMENT, NOT_FINITE, FORCE = range(4)
# Entries of Settings.integers.
KIND, REPLICAS, RECORD_INTERVAL, WITH_DIPOLES, WITH_POSITIONS, WITH_VELOCITIES = range(6)
# Entries of Settings.reals.
TIMESTEP, DECAY, LARGEST_STEP, LARGEST_FORCE, HALF_SKIN, TOTAL_CHARGE, RADIUS, STIFFNESS = range(8)


class Settings(NamedTuple):
    """Settings of a run: integers and reals (see above); masses (N,); temperatures (stride,) in hartree; weights (P, N)
    of a restraint, without rows where there is none."""

    integers: IntArray
    reals: FloatArray
    masses: FloatArray
    temperatures: FloatArray
    weights: FloatArray


def restraint_settings(restraint: Restraint | None, atoms: int) -> tuple[list[float], FloatArray]:
    """The last entries of Settings.reals, and Settings.weights."""
    if restraint is None:
        return [0.0, 0.0], np.zeros((0, atoms))
    return [restraint.radius, restraint.stiffness], np.ascontiguousarray(restraint.weights)


class State(NamedTuple):
    """x and v flat; x before the last drift; alive (stride,) 1.0 or 0.0; reason and step of retirement (stride,)."""

    x: FloatArray
    v: FloatArray
    before: FloatArray
    alive: FloatArray
    reason: IntArray
    retired_at: IntArray


class Results(NamedTuple):
    """Results of the evaluation: atomic energies, forces, charges, atomic dipoles; their sums over atoms."""

    atomic_energies: FloatArray
    forces: FloatArray
    charges: FloatArray
    atomic_dipoles: FloatArray
    energies: FloatArray
    dipole: FloatArray
    origin_weights: FloatArray


class Records(NamedTuple):
    """One row a record: kinetic, potential (rows, stride), dipoles, positions, velocities (rows, flat)."""

    kinetic: FloatArray
    potential: FloatArray
    dipoles: FloatArray
    positions: FloatArray
    velocities: FloatArray


@njit(**KERNEL)
def kick(state, forces, settings):  # type: ignore[no-untyped-def]
    """v += dt f / 2m of the replicas that live."""
    stride = state.alive.size
    for atom in range(settings.masses.size):
        factor = 0.5 * settings.reals[TIMESTEP] / settings.masses[atom]
        for axis in range(3):
            first = (atom * 3 + axis) * stride
            for r in range(stride):
                # A choice, not a product: the forces of a retired replica may be NaN.
                state.v[first + r] += factor * forces[first + r] if state.alive[r] > 0.0 else 0.0


@njit(**KERNEL)
def drift(state, settings, noise):  # type: ignore[no-untyped-def]
    """x += dt v, with the Langevin thermostat in the middle; noise: a flat row of normal numbers."""
    stride = state.alive.size
    dt, c = settings.reals[TIMESTEP], settings.reals[DECAY]
    langevin = settings.integers[KIND] == LANGEVIN
    for atom in range(settings.masses.size):
        for axis in range(3):
            first = (atom * 3 + axis) * stride
            for r in range(stride):
                place = first + r
                x, v = state.x[place], state.v[place]
                state.before[place] = x
                if langevin:
                    x += 0.5 * dt * v
                    width = math.sqrt((1.0 - c * c) * settings.temperatures[r] / settings.masses[atom])
                    v = state.alive[r] * (c * v + width * noise[place])
                    state.v[place] = v
                    x += 0.5 * dt * v
                else:
                    x += dt * v
                state.x[place] = x


@njit(**KERNEL)
def half_drift(state, settings, first_half):  # type: ignore[no-untyped-def]
    """x += dt v / 2; in the first half x before it is kept."""
    stride, dt = state.alive.size, settings.reals[TIMESTEP]
    for place in range(3 * settings.masses.size * stride):
        if first_half:
            state.before[place] = state.x[place]
        state.x[place] += 0.5 * dt * state.v[place]


@njit(**KERNEL)
def retire(state, replica, reason, step, atoms):  # type: ignore[no-untyped-def]
    """Freeze a replica where it was before the last drift."""
    stride = state.alive.size
    for component in range(3 * atoms):
        place = component * stride + replica
        state.x[place] = state.before[place]
        state.v[place] = 0.0
    state.alive[replica] = 0.0
    state.reason[replica] = reason
    state.retired_at[replica] = step


@njit(**KERNEL)
def check_drift(state, settings, step):  # type: ignore[no-untyped-def]
    """Retire the replicas of which an atom moved further than the limit in this step, or to nowhere."""
    stride, atoms = state.alive.size, settings.masses.size
    limit = settings.reals[LARGEST_STEP] ** 2
    for r in range(settings.integers[REPLICAS]):
        if state.alive[r] == 0.0:
            continue
        for atom in range(atoms):
            squared = 0.0
            for axis in range(3):
                place = (atom * 3 + axis) * stride + r
                squared += (state.x[place] - state.before[place]) ** 2
            if not squared <= limit:
                retire(state, r, DISPLACEMENT, step, atoms)
                break


@njit(**KERNEL)
def restrain(state, results, settings):  # type: ignore[no-untyped-def]
    """Add energies and forces of the restraint to replicas with a piece beyond its radius.

    All loops go over the whole stride: what is left over after the last vector would be rounded otherwise, and the last
    bits of a replica depend on its place.
    """
    stride, atoms = state.alive.size, settings.masses.size
    radius, stiffness = settings.reals[RADIUS], settings.reals[STIFFNESS]
    place, pull = np.empty(3 * stride), np.empty(stride)
    for piece in range(settings.weights.shape[0]):
        place[:] = 0.0
        for atom in range(atoms):
            weight, first = settings.weights[piece, atom], 3 * atom * stride
            for component in range(3 * stride):
                place[component] += weight * state.x[first + component]
        reached = 0.0
        for r in range(stride):
            squared = place[r] ** 2 + place[stride + r] ** 2 + place[2 * stride + r] ** 2
            beyond = max(math.sqrt(squared) - radius, 0.0)
            pull[r] = stiffness * beyond / (radius + beyond)
            reached = max(reached, beyond)
            results.energies[r] += 0.5 * stiffness * beyond * beyond
        if reached == 0.0:
            continue
        for atom in range(atoms):
            weight = settings.weights[piece, atom]
            for axis in range(3):
                first = (3 * atom + axis) * stride
                for r in range(stride):
                    results.forces[first + r] -= pull[r] * weight * place[axis * stride + r]


@njit(**KERNEL)
def check_forces(state, results, settings, step):  # type: ignore[no-untyped-def]
    """Retire the replicas with a force or an energy that is not a number, or a force beyond the limit."""
    stride, atoms = state.alive.size, settings.masses.size
    limit = settings.reals[LARGEST_FORCE] ** 2
    for r in range(settings.integers[REPLICAS]):
        if state.alive[r] == 0.0:
            continue
        worst, total = 0.0, results.energies[r]
        for atom in range(atoms):
            squared = 0.0
            for axis in range(3):
                squared += results.forces[(atom * 3 + axis) * stride + r] ** 2
            worst = max(worst, squared)
            total += squared
        if not math.isfinite(total):
            retire(state, r, NOT_FINITE, step, atoms)
        elif worst > limit:
            retire(state, r, FORCE, step, atoms)


@njit(**KERNEL)
def kinetic_energies(state, settings, kinetic):  # type: ignore[no-untyped-def]
    """kinetic[r] = sum_i m_i v_i^2 / 2."""
    stride = state.alive.size
    kinetic[:] = 0.0
    for atom in range(settings.masses.size):
        for axis in range(3):
            first = (atom * 3 + axis) * stride
            for r in range(stride):
                kinetic[r] += 0.5 * settings.masses[atom] * state.v[first + r] ** 2


@njit(**KERNEL)
def rescale(state, settings, noise, kinetic):  # type: ignore[no-untyped-def]
    """Stochastic velocity rescaling; noise: xi_1 (stride), then the sums of the other squares (stride)."""
    stride = state.alive.size
    kinetic_energies(state, settings, kinetic)
    c = settings.reals[DECAY]
    for r in range(settings.integers[REPLICAS]):
        if state.alive[r] == 0.0:
            continue
        ratio = (1.0 - c) * settings.temperatures[r] / (2.0 * max(kinetic[r], 1e-300))
        squared = c + ratio * (noise[r] ** 2 + noise[stride + r]) + 2.0 * noise[r] * math.sqrt(c * ratio)
        factor = math.sqrt(max(squared, 0.0))
        if noise[r] + math.sqrt(c / ratio) < 0.0:
            factor = -factor
        for component in range(3 * settings.masses.size):
            state.v[component * stride + r] *= factor


@njit(**KERNEL)
def record(state, results, settings, records, row):  # type: ignore[no-untyped-def]
    """Write one row of the records."""
    size = 3 * settings.masses.size * state.alive.size
    kinetic_energies(state, settings, records.kinetic[row])
    records.potential[row, :] = results.energies
    if settings.integers[WITH_DIPOLES]:
        records.dipoles[row, :] = results.dipole
    if settings.integers[WITH_POSITIONS]:
        records.positions[row, :] = state.x[:size]
    if settings.integers[WITH_VELOCITIES]:
        records.velocities[row, :] = state.v[:size]


@njit(**KERNEL)
def advance(  # type: ignore[no-untyped-def]
    state, results, records, settings, noise, lanes, tables, energy, charge, work, first, last, row, drifted
):
    """Steps first .. last - 1 (absolute numbers). Returns (the step reached, the next row of the records).

    A record is made after every step whose number is a multiple of RECORD_INTERVAL. noise: (steps, numbers), from step
    `first`. With an outdated neighbour list it returns within a step, for the caller to renew it; then drifted = True.
    """
    stride, atoms = state.alive.size, settings.masses.size
    every = settings.integers[RECORD_INTERVAL]
    for step in range(first, last):
        numbers = noise[min(step - first, noise.shape[0] - 1)]
        if not drifted:
            kick(state, results.forces, settings)
            if settings.integers[KIND] == RESCALING:
                half_drift(state, settings, True)
                rescale(state, settings, numbers, records.kinetic[-1])
                half_drift(state, settings, False)
            else:
                drift(state, settings, numbers)
            check_drift(state, settings, step + 1)
            if not lanes.settings[CONTIGUOUS]:
                limit = settings.reals[HALF_SKIN]
                if moved_beyond(state.x, lanes.reference, limit, atoms, stride, settings.integers[REPLICAS]):
                    return step, row
        drifted = False
        due = every > 0 and (step + 1) % every == 0
        dipole = due and settings.integers[WITH_DIPOLES] != 0
        evaluate_lanes(
            state.x,
            lanes,
            tables,
            energy,
            charge,
            work,
            dipole,
            results.atomic_energies,
            results.forces,
            results.charges,
            results.atomic_dipoles,
        )
        sum_atoms(results.atomic_energies, atoms, stride, results.energies)
        restrain(state, results, settings)
        check_forces(state, results, settings, step + 1)
        kick(state, results.forces, settings)
        if due:
            if dipole:
                total_dipoles(
                    state.x,
                    results.charges,
                    results.atomic_dipoles,
                    results.origin_weights,
                    atoms,
                    stride,
                    settings.reals[TOTAL_CHARGE],
                    results.dipole,
                )
            record(state, results, settings, records, row)
            row += 1
    return last, row
