"""Energy, forces, charges and atomic dipoles of all lanes: descriptors, networks and back, tile by tile.

A tile is a few vectors of lanes of one centre element: enough lanes for the networks' products to run at full rate, few
enough for everything the tile touches to stay in the second-level cache. Small molecules fill their lanes with
replicas, large ones with atoms; the kernels see only tables of places.
"""

from __future__ import annotations

from typing import NamedTuple

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.angular_kernel import direct_derivatives, direct_sums
from hpcir.descriptors.contraction_kernel import (
    ROW_COLUMNS,
    contraction_slopes,
    contraction_sums,
    mix_moments,
    unmix_slopes,
)
from hpcir.descriptors.environment import RADIAL, SHELLS, USE_MOMENTS, FunctionTables
from hpcir.descriptors.lanes import (
    INLINE,
    INNER,
    KERNEL,
    WIDTH,
    address,
    broadcast,
    load,
    njit,
    offset,
    stand_alone,
    store,
)
from hpcir.descriptors.moment_kernel import (
    moment_derivatives,
    moment_slopes,
    moment_sums,
    moments_of,
)
from hpcir.descriptors.pair_kernel import (
    SHELL,
    UNIT,
    pair_force,
    pair_geometry,
    radial_derivative,
    radial_sums,
    record_length,
    shell_values,
)
from hpcir.models.network_kernel import OUTPUTS, backward, energy_and_seed, hidden_layers, outputs

# Columns of LaneTables.elements.
GROUPS, PAIRS, FIRST_VECTOR, VECTORS, SUMS = range(5)
CONTRACTIONS, FIRST_CONTRACTION, CONTRACTION_ROW, FIRST_WEIGHT, CHANNELS, FIRST_CHANNEL = range(5, 11)
# Entries of LaneTables.settings.
CONTIGUOUS, STRIDE, MAX_SLOTS, GROUP_COLUMNS, TILE, ELEMENTS, MAX_PAIRS, MOMENT_VECTORS = range(8)
ELEMENT_COLUMNS = 11


class LaneTables(NamedTuple):
    """Places of the atoms of all replicas in lanes and slots.

    Positions, forces and atomic dipoles are flat (atoms, 3, stride) arrays, energies and charges (atoms, stride), with
    replicas innermost. All tables are flat. settings: see above. elements (E, 11). pairs (E, most pairs, 3): groups a,
    b, first row. group_elements (E, group columns): indices into the model's elements. centres, outputs (lanes,):
    places of the centre in positions and in energies. slots (vectors, most slots, WIDTH): places of the neighbours.
    starts (vectors, group columns): first slot of each group, and the end. reference: positions of the list's birth.
    contractions, weights: of all elements one after the other (see `descriptors.contraction_kernel`).
    """

    settings: IntArray
    elements: IntArray
    pairs: IntArray
    group_elements: IntArray
    centres: IntArray
    outputs: IntArray
    slots: IntArray
    starts: IntArray
    reference: FloatArray
    contractions: IntArray
    weights: FloatArray


class PackedNetworks(NamedTuple):
    """One committee for each centre element: weights, flat, and table (elements, columns), flat, of places in it."""

    weights: FloatArray
    table: IntArray
    columns: int


class Workspace(NamedTuple):
    """Memory of one tile: neighbour records, raw sums, their derivatives, activations, products, moments, one row."""

    scratch: FloatArray
    rows: FloatArray
    slopes: FloatArray
    activations: FloatArray
    results: FloatArray
    moments: FloatArray
    line: FloatArray


@njit(**INNER)
def describe_vector(x, lanes, tables, work, element, vector, local):  # type: ignore[no-untyped-def]
    """Raw sums of vector `vector` of the lanes, which is number `local` of its tile."""
    stand_alone()
    stride = lanes.settings[TILE]
    column = local * WIDTH
    groups = lanes.elements[element * ELEMENT_COLUMNS + GROUPS]
    slots = lanes.settings[MAX_SLOTS]
    length = record_length(tables.sizes[SHELLS])
    base = local * slots * length
    start = vector * lanes.settings[GROUP_COLUMNS]
    for row in range(lanes.elements[element * ELEMENT_COLUMNS + SUMS]):
        store(work.rows, row * stride + column, broadcast(0.0))
    for group in range(groups):
        row = group * tables.sizes[RADIAL] * stride + column
        for slot in range(lanes.starts[start + group], lanes.starts[start + group + 1]):
            record = base + slot * length
            r, cut = pair_geometry(
                x,
                lanes.settings[STRIDE],
                lanes.settings[CONTIGUOUS],
                lanes.centres,
                vector * WIDTH,
                lanes.slots,
                (vector * slots + slot) * WIDTH,
                tables,
                work.scratch,
                record,
            )
            radial_sums(r, cut, tables, work.scratch, record, work.rows, row, stride)
            shell_values(r, cut, tables, work.scratch, record)
    pairs = offset(lanes.pairs, 3 * element * lanes.settings[MAX_PAIRS])
    count = lanes.elements[element * ELEMENT_COLUMNS + PAIRS]
    contractions = lanes.elements[element * ELEMENT_COLUMNS + CONTRACTIONS]
    if count + contractions == 0:
        return
    moments = local * moments_of_tile(lanes)
    if tables.sizes[USE_MOMENTS] or contractions > 0:
        moments_of(tables, work.scratch, base, lanes.starts, start, groups, work.moments, moments)
    if tables.sizes[USE_MOMENTS]:
        moment_sums(tables, pairs, count, work.moments, moments, work.rows, column, stride)
    else:
        direct_sums(tables, work.scratch, base, lanes.starts, start, pairs, count, work.rows, column, stride)
    if contractions > 0:
        contractions_of(lanes, tables, work, element, moments, column)


@njit(**INLINE)
def moments_of_tile(lanes):  # type: ignore[no-untyped-def]
    """Doubles of the moments of one vector of lanes."""
    return lanes.settings[MOMENT_VECTORS] * WIDTH


@njit(**INNER)
def contractions_of(lanes, tables, work, element, moments, column):  # type: ignore[no-untyped-def]
    """The contractions of one vector of lanes into their rows, after its moments."""
    stand_alone()
    entry = offset(lanes.elements, element * ELEMENT_COLUMNS)
    stride = lanes.settings[TILE]
    weights = offset(lanes.weights, entry[FIRST_WEIGHT])
    table = offset(lanes.contractions, ROW_COLUMNS * entry[FIRST_CONTRACTION])
    sources = entry[GROUPS] * tables.sizes[SHELLS]
    mix_moments(tables, weights, entry[CHANNELS], sources, entry[FIRST_CHANNEL], work.moments, moments)
    row = entry[CONTRACTION_ROW] * stride + column
    contraction_sums(tables, table, entry[CONTRACTIONS], work.moments, moments, work.rows, row, stride)


@njit(**INNER)
def contractions_back(lanes, tables, work, element, moments, column):  # type: ignore[no-untyped-def]
    """dE/d(moments) of one vector of lanes from dE/d(contractions)."""
    stand_alone()
    entry = offset(lanes.elements, element * ELEMENT_COLUMNS)
    stride = lanes.settings[TILE]
    weights = offset(lanes.weights, entry[FIRST_WEIGHT])
    table = offset(lanes.contractions, ROW_COLUMNS * entry[FIRST_CONTRACTION])
    row = entry[CONTRACTION_ROW] * stride + column
    contraction_slopes(tables, table, entry[CONTRACTIONS], work.moments, moments, work.slopes, row, stride)
    sources = entry[GROUPS] * tables.sizes[SHELLS]
    unmix_slopes(tables, weights, entry[CHANNELS], sources, entry[FIRST_CHANNEL], work.moments, moments)


@njit(**INNER)
def force_vector(lanes, tables, work, element, vector, local, forces):  # type: ignore[no-untyped-def]
    """Subtract dE/dx of one vector of lanes from the forces on its centres and their neighbours."""
    stand_alone()
    stride = lanes.settings[TILE]
    column = local * WIDTH
    groups = lanes.elements[element * ELEMENT_COLUMNS + GROUPS]
    length = record_length(tables.sizes[SHELLS])
    base = local * lanes.settings[MAX_SLOTS] * length
    start = vector * lanes.settings[GROUP_COLUMNS]
    pairs = offset(lanes.pairs, 3 * element * lanes.settings[MAX_PAIRS])
    count = lanes.elements[element * ELEMENT_COLUMNS + PAIRS]
    contractions = lanes.elements[element * ELEMENT_COLUMNS + CONTRACTIONS]
    if count + contractions > 0:
        moments = local * moments_of_tile(lanes)
        if tables.sizes[USE_MOMENTS]:
            moment_slopes(tables, pairs, count, work.moments, moments, work.slopes, column, stride)
        else:
            direct_derivatives(
                tables, work.scratch, base, lanes.starts, start, pairs, count, work.slopes, column, stride
            )
        if contractions > 0:
            contractions_back(lanes, tables, work, element, moments, column)
        if tables.sizes[USE_MOMENTS] or contractions > 0:
            moment_derivatives(tables, work.scratch, base, lanes.starts, start, groups, work.moments, moments)
    total_x, total_y, total_z = broadcast(0.0), broadcast(0.0), broadcast(0.0)
    for group in range(groups):
        row = group * tables.sizes[RADIAL] * stride + column
        for slot in range(lanes.starts[start + group], lanes.starts[start + group + 1]):
            record = base + slot * length
            slope = radial_derivative(tables, work.scratch, record, work.slopes, row, stride)
            fx, fy, fz = pair_force(tables, work.scratch, record, slope)
            total_x, total_y, total_z = total_x + fx, total_y + fy, total_z + fz
            place = record + UNIT * WIDTH
            store(work.scratch, place, fx)
            store(work.scratch, place + WIDTH, fy)
            store(work.scratch, place + 2 * WIDTH, fz)
    store(work.line, 0, total_x)
    store(work.line, WIDTH, total_y)
    store(work.line, 2 * WIDTH, total_z)
    scatter_forces(lanes, work, vector, base + UNIT * WIDTH, length, lanes.starts[start + groups], forces)


@njit(**INNER)
def scatter_forces(lanes, work, vector, base, length, count, forces):  # type: ignore[no-untyped-def]
    """Add the pair forces of one vector of lanes where they belong.

    Lanes of a neighbour list are scattered lane by lane: each lane meets an atom once, so the order of the sums does
    not depend on which far atoms the list holds, and a trajectory does not depend on when the list was built.
    """
    stand_alone()
    stride = lanes.settings[STRIDE]
    most = lanes.settings[MAX_SLOTS]
    if lanes.settings[CONTIGUOUS]:
        for axis in range(3):
            place = lanes.centres[vector * WIDTH] + axis * stride
            store(forces, place, load(forces, place) + load(work.line, axis * WIDTH))
            for slot in range(count):
                place = lanes.slots[(vector * most + slot) * WIDTH] + axis * stride
                force = load(work.scratch, base + slot * length + axis * WIDTH)
                store(forces, place, load(forces, place) - force)
        return
    for lane in range(WIDTH):
        for axis in range(3):
            place = lanes.centres[vector * WIDTH + lane] + axis * stride
            forces[place] += work.line[axis * WIDTH + lane]
        for slot in range(count):
            place = lanes.slots[(vector * most + slot) * WIDTH + lane]
            force = base + slot * length + lane
            forces[place] -= work.scratch[force]
            forces[place + stride] -= work.scratch[force + WIDTH]
            forces[place + 2 * stride] -= work.scratch[force + 2 * WIDTH]


@njit(**INNER)
def scatter_line(lanes, vector, line, place, result):  # type: ignore[no-untyped-def]
    """result[output place of each lane] = line[place + lane] for one vector of lanes."""
    if lanes.settings[CONTIGUOUS]:
        store(result, lanes.outputs[vector * WIDTH], load(line, place))
        return
    for lane in range(WIDTH):
        result[lanes.outputs[vector * WIDTH + lane]] = line[place + lane]


@njit(**INNER)
def atomic_dipoles(lanes, tables, work, element, vector, local, dipoles):  # type: ignore[no-untyped-def]
    """mu_i = sum_(e,s) y_(1 + e S + s) sum_{j in e} g_s(r_ij) u_ij of one vector of lanes (see models/model.py)."""
    stand_alone()
    stride, step = lanes.settings[TILE], lanes.settings[STRIDE]
    shells = tables.sizes[SHELLS]
    length = record_length(shells)
    base = local * lanes.settings[MAX_SLOTS] * length
    start = vector * lanes.settings[GROUP_COLUMNS]
    for axis in range(3):
        total = broadcast(0.0)
        for group in range(lanes.elements[element * ELEMENT_COLUMNS + GROUPS]):
            first = 1 + lanes.group_elements[element * lanes.settings[GROUP_COLUMNS] + group] * shells
            for slot in range(lanes.starts[start + group], lanes.starts[start + group + 1]):
                record = base + slot * length
                unit = load(work.scratch, record + (UNIT + axis) * WIDTH)
                for s in range(shells):
                    weight = load(work.results, (first + s) * stride + local * WIDTH)
                    total = total + weight * load(work.scratch, record + (SHELL + s) * WIDTH) * unit
        store(work.line, 0, total)
        for lane in range(WIDTH):
            dipoles[lanes.centres[vector * WIDTH + lane] + axis * step] = work.line[lane]


@njit(**INNER)
def charge_tile(lanes, tables, charge, work, element, vector, count, charges, dipoles):  # type: ignore[no-untyped-def]
    """Raw charges and atomic dipoles of a tile from its raw sums."""
    stand_alone()
    stride = lanes.settings[TILE]
    row = offset(charge.table, element * charge.columns)
    hidden_layers(charge.weights, row, work.rows, work.activations, count * WIDTH, stride)
    outputs(charge.weights, row, work.activations, work.results, count * WIDTH, stride)
    for local in range(count):
        scatter_line(lanes, vector + local, work.results, local * WIDTH, charges)
        if row[OUTPUTS] > 1:
            atomic_dipoles(lanes, tables, work, element, vector + local, local, dipoles)


@njit(**KERNEL)
def evaluate_lanes(x, lanes, tables, energy, charge, work, with_charges, energies, forces, charges, dipoles):  # type: ignore[no-untyped-def]
    """Atomic energies, forces and, when asked, raw charges and atomic dipoles at the positions x."""
    forces[:] = 0.0
    lane = LaneTables(
        address(lanes.settings),
        address(lanes.elements),
        address(lanes.pairs),
        address(lanes.group_elements),
        address(lanes.centres),
        address(lanes.outputs),
        address(lanes.slots),
        address(lanes.starts),
        address(lanes.reference),
        address(lanes.contractions),
        address(lanes.weights),
    )
    table = FunctionTables(
        address(tables.sizes),
        address(tables.cutoff),
        address(tables.radial),
        address(tables.shells),
        address(tables.parents),
        address(tables.axes),
        address(tables.degrees),
        address(tables.multinomials),
        address(tables.terms),
        address(tables.coefficients),
    )
    space = Workspace(
        address(work.scratch),
        address(work.rows),
        address(work.slopes),
        address(work.activations),
        address(work.results),
        address(work.moments),
        address(work.line),
    )
    energy_networks = PackedNetworks(address(energy.weights), address(energy.table), energy.columns)
    charge_networks = PackedNetworks(address(charge.weights), address(charge.table), charge.columns)
    xs, energy_out, force_out = address(x), address(energies), address(forces)
    charge_out, dipole_out = address(charges), address(dipoles)
    stride, tile = lanes.settings[TILE], lanes.settings[TILE] // WIDTH
    for element in range(lanes.settings[ELEMENTS]):
        first = lanes.elements[element * ELEMENT_COLUMNS + FIRST_VECTOR]
        end = first + lanes.elements[element * ELEMENT_COLUMNS + VECTORS]
        row = offset(energy_networks.table, element * energy.columns)
        for vector in range(first, end, tile):
            count = min(tile, end - vector)
            width = count * WIDTH
            for local in range(count):
                describe_vector(xs, lane, table, space, element, vector + local, local)
            if with_charges:
                charge_tile(lane, table, charge_networks, space, element, vector, count, charge_out, dipole_out)
            hidden_layers(energy_networks.weights, row, space.rows, space.activations, width, stride)
            energy_and_seed(energy_networks.weights, row, space.activations, space.line, width, stride)
            for local in range(count):
                scatter_line(lane, vector + local, space.line, local * WIDTH, energy_out)
            backward(energy_networks.weights, row, space.activations, space.results, space.slopes, width, stride)
            for local in range(count):
                force_vector(lane, table, space, element, vector + local, local, force_out)


@njit(**KERNEL)
def sum_atoms(values, atoms, stride, totals):  # type: ignore[no-untyped-def]
    """totals (stride,) = sums of values (atoms, stride, flat) over the first `atoms` atoms, in their order."""
    totals[:] = 0.0
    for atom in range(atoms):
        for r in range(stride):
            totals[r] += values[atom * stride + r]


@njit(**KERNEL)
def total_dipoles(x, charges, dipoles, weights, atoms, stride, total_charge, results):  # type: ignore[no-untyped-def]
    """Shift the charges to sum to total_charge, and mu = sum_i q_i (r_i - R0) + mu_i into results (3 * stride).

    R0 = sum_i weights_i r_i, weights (atoms,) normalised.
    """
    for r in range(stride):
        excess = total_charge
        for atom in range(atoms):
            excess -= charges[atom * stride + r]
        for atom in range(atoms):
            charges[atom * stride + r] += excess / atoms
    results[:] = 0.0
    for atom in range(atoms):
        shift = total_charge * weights[atom]
        for axis in range(3):
            place = (atom * 3 + axis) * stride
            for r in range(stride):
                moment = (charges[atom * stride + r] - shift) * x[place + r] + dipoles[place + r]
                results[axis * stride + r] += moment
