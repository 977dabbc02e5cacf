"""Compiled ring polymers in lockstep: the loop over steps of ring_polymer.py, with forces, records and retirement.

Bead p of ring r is lane p R + r of the evaluator's layout. Beads of all components are laid side by side, so that the
transformation to normal modes is one product, by the networks' kernel. The plain twin is in ring_plain.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hpcir.arrays import FloatArray
from hpcir.descriptors.lanes import INNER, KERNEL, address, njit
from hpcir.dynamics.step_kernel import (
    HALF_SKIN,
    RECORD_INTERVAL,
    REPLICAS,
    TOTAL_CHARGE,
    WITH_DIPOLES,
    check_drift,
    check_forces,
    kick,
    restrain,
    retire,
)
from hpcir.models.neighbour_kernel import moved_beyond
from hpcir.models.network_kernel import product
from hpcir.models.potential_kernel import CONTIGUOUS, evaluate_lanes, sum_atoms, total_dipoles

# Entries of RingTables.modes, for each mode.
COSINE, OVER, TIMES, DECAY, WIDTH = range(5)
MODE_COLUMNS = 5


class RingTables(NamedTuple):
    """rings R; beads P; rows: P padded for products; columns of the products, 6 N R padded; thermostat 1 or 0;
    temperature of the molecule; degrees of freedom of a centroid; modes (P, 5) flat, see above, the width for unit
    mass; to_modes, to_beads: the transformation and its inverse as `product` reads them; work_beads, work_modes (rows,
    columns) flat: positions, then velocities, component after component, rings innermost."""

    rings: int
    beads: int
    rows: int
    columns: int
    thermostat: int
    temperature: float
    degrees: int
    modes: FloatArray
    to_modes: FloatArray
    to_beads: FloatArray
    work_beads: FloatArray
    work_modes: FloatArray


class RingRecords(NamedTuple):
    """One row a record: kinetic, potential (rows, R), dipoles (rows, 3 R), positions, velocities (rows, 3 N R)."""

    kinetic: FloatArray
    potential: FloatArray
    dipoles: FloatArray
    positions: FloatArray
    velocities: FloatArray


@njit(**INNER)
def collect(state, ring, components):  # type: ignore[no-untyped-def]
    """Positions and velocities of all beads side by side; positions are kept as those before the drift."""
    stride = state.alive.size
    for component in range(components):
        first = component * stride
        for place in range(first, first + stride):
            state.before[place] = state.x[place]
        for p in range(ring.beads):
            source, target = first + p * ring.rings, p * ring.columns + component * ring.rings
            for r in range(ring.rings):
                ring.work_beads[target + r] = state.x[source + r]
                ring.work_beads[target + components * ring.rings + r] = state.v[source + r]


@njit(**INNER)
def distribute(state, ring, components):  # type: ignore[no-untyped-def]
    """The inverse; rings that are retired stay where they are."""
    stride = state.alive.size
    for component in range(components):
        for p in range(ring.beads):
            lane, source = p * ring.rings, p * ring.columns + component * ring.rings
            target = component * stride + lane
            for r in range(ring.rings):
                if state.alive[lane + r] > 0.0:
                    state.x[target + r] = ring.work_beads[source + r]
                    state.v[target + r] = ring.work_beads[source + components * ring.rings + r]


@njit(**INNER)
def move_modes(ring, masses, noise):  # type: ignore[no-untyped-def]
    """Half a free step, O, half a free step of all modes; noise: a flat row (N, 3, P, R)."""
    components, rings = 3 * masses.size, ring.rings
    for k in range(ring.beads):
        row = k * MODE_COLUMNS
        cosine, over, times = ring.modes[row + COSINE], ring.modes[row + OVER], ring.modes[row + TIMES]
        decay = ring.modes[row + DECAY]
        for component in range(components):
            width = ring.modes[row + WIDTH] / math.sqrt(masses[component // 3])
            first = k * ring.columns + component * rings
            number = (component * ring.beads + k) * rings
            for r in range(rings):
                x, v = ring.work_modes[first + r], ring.work_modes[first + components * rings + r]
                x, v = cosine * x + over * v, cosine * v - times * x
                if ring.thermostat:
                    v = decay * v + width * noise[number + r]
                ring.work_modes[first + r] = cosine * x + over * v
                ring.work_modes[first + components * rings + r] = cosine * v - times * x


@njit(**KERNEL)
def move_rings(state, settings, ring, noise):  # type: ignore[no-untyped-def]
    """The middle of a step, for every component of every atom."""
    components = 3 * settings.masses.size
    beads, modes = address(ring.work_beads), address(ring.work_modes)
    start = 0 * ring.columns  # not the literal 0, for which numba would compile the product once more
    collect(state, ring, components)
    product(
        address(ring.to_modes), start, ring.rows, ring.beads, beads, start, modes, start, ring.columns, ring.columns
    )
    move_modes(ring, settings.masses, noise)
    product(
        address(ring.to_beads), start, ring.rows, ring.beads, modes, start, beads, start, ring.columns, ring.columns
    )
    distribute(state, ring, components)


@njit(**KERNEL)
def retire_rings(state, ring, step, atoms):  # type: ignore[no-untyped-def]
    """Retire all beads of a ring of which one was."""
    for r in range(ring.rings):
        reason = 0
        for p in range(ring.beads):
            reason = max(reason, state.reason[p * ring.rings + r])
        if reason == 0:
            continue
        for p in range(ring.beads):
            lane = p * ring.rings + r
            if state.alive[lane] > 0.0:
                retire(state, lane, reason, step, atoms)


@njit(**KERNEL)
def record_rings(state, results, settings, ring, records, row):  # type: ignore[no-untyped-def]
    """Write one row of the records: means over the beads."""
    stride, rings, beads = state.alive.size, ring.rings, ring.beads
    part = 1.0 / beads
    for r in range(rings):
        records.kinetic[row, r] = 0.5 * ring.degrees * ring.temperature
        records.potential[row, r] = 0.0
        for p in range(beads):
            records.potential[row, r] += part * results.energies[p * rings + r]
        if settings.integers[WITH_DIPOLES]:
            for axis in range(3):
                total = 0.0
                for p in range(beads):
                    total += results.dipole[axis * stride + p * rings + r]
                records.dipoles[row, axis * rings + r] = part * total
    for component in range(3 * settings.masses.size):
        first = component * stride
        for r in range(rings):
            x, v = 0.0, 0.0
            for p in range(beads):
                x += state.x[first + p * rings + r]
                v += state.v[first + p * rings + r]
            x, v = part * x, part * v
            records.positions[row, component * rings + r] = x
            records.velocities[row, component * rings + r] = v
            virial = 0.0
            for p in range(beads):
                place = first + p * rings + r
                virial += (state.x[place] - x) * results.forces[place]
            records.kinetic[row, r] -= 0.5 * part * virial


@njit(**KERNEL)
def advance_rings(  # type: ignore[no-untyped-def]
    state, results, records, settings, ring, noise, lanes, tables, energy, charge, work, first, last, row, drifted
):
    """Steps first .. last - 1 (absolute numbers), as `step_kernel.advance`; noise: (steps, N 3 P R)."""
    stride, atoms = state.alive.size, settings.masses.size
    every = settings.integers[RECORD_INTERVAL]
    for step in range(first, last):
        numbers = noise[min(step - first, noise.shape[0] - 1)]
        if not drifted:
            kick(state, results.forces, settings)
            move_rings(state, settings, ring, numbers)
            check_drift(state, settings, step + 1)
            retire_rings(state, ring, step + 1, atoms)
            if not lanes.settings[CONTIGUOUS]:
                limit = settings.reals[HALF_SKIN]
                if moved_beyond(state.x, lanes.reference, limit, atoms, stride, settings.integers[REPLICAS]):
                    return step, row
        drifted = False
        due = every > 0 and (step + 1) % every == 0
        dipole = due and settings.integers[WITH_DIPOLES] != 0
        evaluate_lanes(
            state.x, lanes, tables, energy, charge, work, dipole, results.atomic_energies, results.forces,
            results.charges, results.atomic_dipoles,
        )  # fmt: skip
        sum_atoms(results.atomic_energies, atoms, stride, results.energies)
        restrain(state, results, settings)
        check_forces(state, results, settings, step + 1)
        retire_rings(state, ring, step + 1, atoms)
        kick(state, results.forces, settings)
        if due:
            if dipole:
                total_dipoles(
                    state.x, results.charges, results.atomic_dipoles, results.origin_weights, atoms, stride,
                    settings.reals[TOTAL_CHARGE], results.dipole,
                )  # fmt: skip
            record_rings(state, results, settings, ring, records, row)
            row += 1
    return last, row
