"""Compiled gradients of the losses of one molecule's labels in a batch, without anything of torch in between.

`training.network.EnergyLoss` and `training.dipoles.DipoleLoss` are the same in torch. Atoms are sorted by element, and
`ranges` (elements, 2) are their first and last. Arrays named as in `training.network.BatchGroup` are of all labels of
the molecule; `labels` (B,) are those of the batch, `weights` (members, B) theirs, `norm` (members,) the divisor of the
whole batch. Gradients are added to `target`, (members, elements, size) like the parameters `flat`.
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.lanes import njit
from hpcir.training.compiled.jacobian import backwards, forwards
from hpcir.training.compiled.network import LOOPS, ROWS, add_gradient, memory, outputs, slopes


@njit(**LOOPS)
def _rows_of(values, labels, pair):  # type: ignore[no-untyped-def]
    """Rows (B atoms, K) of values (S, N, K) of the atoms of a range, label by label."""
    first, last = pair[0], pair[1]
    atoms = last - first
    x = np.empty((len(labels) * atoms, values.shape[2]), values.dtype)
    for b in range(len(labels)):
        x[b * atoms : (b + 1) * atoms] = values[labels[b], first:last]
    return x


@njit(**LOOPS)
def _set_rows(values, pair, rows):  # type: ignore[no-untyped-def]
    """The inverse, for values (B, N, K)."""
    first, last = pair[0], pair[1]
    atoms = last - first
    for b in range(len(values)):
        values[b, first:last] = rows[b * atoms : (b + 1) * atoms]


@njit(**LOOPS)
def _dot(x, y):  # type: ignore[no-untyped-def]
    """The product of two vectors."""
    total = x.dtype.type(0.0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(**LOOPS)
def add_energy_gradient(  # type: ignore[no-untyped-def]
    flat, target, table, ranges, inputs, jacobian, centres, targets, labels, weights, norm, force_weight
):
    """Of L = sum w [w_E (dE)^2 + force_weight sum w_F (dF)^2] / norm. targets: energies (S,), energy_weights (S,),
    forces (S, 3N), force_weights (S, 3N); force_weight: of the parameters' type."""
    members, batch, atoms = len(flat), len(labels), inputs.shape[1]
    energies, energy_weights, forces, force_weights = targets
    every = np.arange(batch)
    predicted = np.zeros((members, batch), inputs.dtype)
    by_label = np.empty((members, batch, atoms, inputs.shape[2]), inputs.dtype)
    xs = [_rows_of(inputs, labels, pair) for pair in ranges]
    kept = [memory(len(xs[e]), table, inputs) for _ in range(members) for e in range(len(xs))]
    for m in range(members):
        for e in range(len(xs)):
            if len(xs[e]) == 0:
                continue
            count = len(xs[e]) // batch
            result = np.empty((len(xs[e]), 1), inputs.dtype)
            slope = np.empty_like(xs[e])
            outputs(flat[m, e], table, xs[e], kept[m * len(xs) + e], result)
            slopes(flat[m, e], table, kept[m * len(xs) + e], slope)
            for b in range(batch):
                predicted[m, b] += result[b * count : (b + 1) * count].sum()
            _set_rows(by_label[m], ranges[e], slope)
    force = np.empty((members, batch, atoms, 3), inputs.dtype)
    forwards(jacobian, labels, centres, by_label, force)
    two = norm.dtype.type(2.0)
    for m in range(members):
        for b in range(batch):
            label = labels[b]
            share = two * weights[m, b] / norm[m]
            predicted[m, b] = (predicted[m, b] - energies[label]) * share * energy_weights[label]
            share *= force_weight
            own = force[m, b].reshape(-1)
            for i in range(len(own)):
                own[i] = (own[i] - forces[label, i]) * share * force_weights[label, i]
    backwards(jacobian, labels, centres, force, by_label)
    for m in range(members):
        for e in range(len(xs)):
            if len(xs[e]) == 0:
                continue
            bar = np.repeat(predicted[m], len(xs[e]) // batch).reshape(-1, 1)
            slope_bar = _rows_of(by_label[m], every, ranges[e])
            add_gradient(flat[m, e], target[m, e], table, xs[e], kept[m * len(xs) + e], bar, slope_bar)


@njit(**LOOPS)
def add_dipole_gradient(  # type: ignore[no-untyped-def]
    flat, target, table, ranges, inputs, operator, dipoles, dipole_weights, labels, weights, norm
):
    """Of L = sum w w_mu (dmu)^2 / (3 norm), over the components. operator (S, 3, N n); dipoles (S, 3)."""
    batch, atoms, n = len(labels), inputs.shape[1], table[len(table) - 1, ROWS]
    xs = [_rows_of(inputs, labels, pair) for pair in ranges]
    kept = [memory(len(x), table, inputs) for x in xs]
    factor = norm.dtype.type(2.0 / 3.0)
    none, every = np.empty((0, inputs.shape[2]), inputs.dtype), np.arange(batch)
    for m in range(len(flat)):
        all_outputs = np.empty((batch, atoms, n), inputs.dtype)
        for e in range(len(xs)):
            if len(xs[e]) == 0:
                continue
            result = np.empty((len(xs[e]), n), inputs.dtype)
            outputs(flat[m, e], table, xs[e], kept[e], result)
            _set_rows(all_outputs, ranges[e], result)
        for b in range(batch):
            label = labels[b]
            own = all_outputs[b].reshape(-1)
            share = factor * weights[m, b] * dipole_weights[label] / norm[m]
            x = (_dot(operator[label, 0], own) - dipoles[label, 0]) * share
            y = (_dot(operator[label, 1], own) - dipoles[label, 1]) * share
            z = (_dot(operator[label, 2], own) - dipoles[label, 2]) * share
            for i in range(len(own)):
                own[i] = operator[label, 0, i] * x + operator[label, 1, i] * y + operator[label, 2, i] * z
        for e in range(len(xs)):
            if len(xs[e]) == 0:
                continue
            bar = _rows_of(all_outputs, every, ranges[e])
            add_gradient(flat[m, e], target[m, e], table, xs[e], kept[e], bar, none)
