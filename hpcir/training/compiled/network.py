"""Compiled passes through networks of two hidden layers: outputs, slopes, and the gradient of a loss of both.

The same as `training.network.NetworkPass` does in torch (its equations are there), for one member and one element, on
rows of atoms. Flat parameters are (members, elements, size); `table` has one row for each layer: place of its weights,
rows, columns (the biases lie behind the weights). What is kept of a pass is a tuple of arrays (rows, width): the
activations a_1, a_2, the slopes' u_1, u_2 before the tanh of their layer, and v_1 = W_2^T u_2.
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.arithmetic import vector_tanh
from hpcir.descriptors.lanes import KERNEL, WIDTH, address, load, njit, store

WEIGHT, ROWS, COLUMNS = range(3)
LAYERS = 3
LOOPS = {**KERNEL, "fastmath": {"contract", "nsz", "reassoc"}}
# Numbers that go through tanh at a time.
CHUNK = 512


@njit(**LOOPS)
def _weights(flat, row):  # type: ignore[no-untyped-def]
    n, m = row[ROWS], row[COLUMNS]
    return flat[row[WEIGHT] : row[WEIGHT] + n * m].reshape(n, m)


@njit(**LOOPS)
def _biases(flat, row):  # type: ignore[no-untyped-def]
    first = row[WEIGHT] + row[ROWS] * row[COLUMNS]
    return flat[first : first + row[ROWS]]


@njit(**LOOPS)
def memory(points, table, like):  # type: ignore[no-untyped-def]
    """Room for a pass of so many atoms, without anything in it."""
    one, two = table[0, ROWS], table[1, ROWS]
    return (
        np.empty((points, one), like.dtype),
        np.empty((points, two), like.dtype),
        np.empty((points, one), like.dtype),
        np.empty((points, two), like.dtype),
        np.empty((points, one), like.dtype),
    )


@njit(**LOOPS)
def outputs(own, table, x, kept, result):  # type: ignore[no-untyped-def]
    """Outputs (rows, n) of inputs x (rows, K)."""
    scratch = np.zeros(CHUNK)
    np.dot(x, _weights(own, table[0]).T, kept[0])
    _activate(kept[0], _biases(own, table[0]), scratch)
    np.dot(kept[0], _weights(own, table[1]).T, kept[1])
    _activate(kept[1], _biases(own, table[1]), scratch)
    np.dot(kept[1], _weights(own, table[2]).T, result)
    bias = _biases(own, table[2])
    for row in result:
        for i in range(len(bias)):
            row[i] += bias[i]


@njit(**LOOPS)
def _activate(rows, bias, scratch):  # type: ignore[no-untyped-def]
    for row in rows:
        for i in range(len(bias)):
            row[i] += bias[i]
    flat, place = rows.reshape(-1), address(scratch)
    for first in range(0, len(flat), CHUNK):
        part = flat[first : first + CHUNK]
        for i in range(len(part)):
            scratch[i] = part[i]
        for lane in range(0, len(part), WIDTH):
            store(place, lane, vector_tanh(load(place, lane)))
        for i in range(len(part)):
            part[i] = scratch[i]


@njit(**LOOPS)
def slopes(own, table, kept, result):  # type: ignore[no-untyped-def]
    """Slopes (rows, K) of output 0 by the inputs, after `outputs`."""
    first, second, u_one, u_two, v_one = kept
    head = _weights(own, table[2])[0]
    for p in range(len(second)):
        _times_slope(u_two[p], head, second[p])
    np.dot(u_two, _weights(own, table[1]), v_one)
    _times_slope(u_one.reshape(-1), v_one.reshape(-1), first.reshape(-1))
    np.dot(u_one, _weights(own, table[0]), result)


@njit(**LOOPS)
def add_gradient(own, goal, table, x, kept, output_bar, slope_bar):  # type: ignore[no-untyped-def]
    """Add the gradient to goal: output_bar (rows, n) is dL/doutputs; slope_bar (rows, K) dL/dslopes after `slopes`, or
    without rows where the loss has no slopes."""
    first, second = kept[0], kept[1]
    with_slopes = len(slope_bar) > 0
    d_one, d_two = np.empty((0, 0), x.dtype), np.empty((0, 0), x.dtype)
    if with_slopes:
        d_one, d_two = _add_slope_gradient(own, goal, table, kept, slope_bar)
    _add_layer(goal, table[2], output_bar, second)
    bar = np.dot(output_bar, _weights(own, table[2]))
    _through_tanh(bar.reshape(-1), second.reshape(-1), d_two.reshape(-1))
    _add_layer(goal, table[1], bar, first)
    bar = np.dot(bar, _weights(own, table[1]))
    _through_tanh(bar.reshape(-1), first.reshape(-1), d_one.reshape(-1))
    _add_layer(goal, table[0], bar, x)


@njit(**LOOPS)
def _add_layer(goal, row, bar, below):  # type: ignore[no-untyped-def]
    """The gradient of a layer's weights and biases from dL/dz (rows, width)."""
    _add(_weights(goal, row).reshape(-1), np.dot(bar.T, below).reshape(-1))
    biases = _biases(goal, row)
    for part in bar:
        _add(biases, part)


@njit(**LOOPS)
def _add_slope_gradient(own, goal, table, kept, slope_bar):  # type: ignore[no-untyped-def]
    """The weights' part through the line of the u; returns dL/dd of both hidden layers, d = 1 - a^2."""
    first, second, u_one, u_two, v_one = kept
    _add(_weights(goal, table[0]).reshape(-1), np.dot(u_one.T, slope_bar).reshape(-1))
    bar = np.dot(slope_bar, _weights(own, table[0]).T)
    d_one = bar * v_one
    _times_slope(bar.reshape(-1), bar.reshape(-1), first.reshape(-1))
    _add(_weights(goal, table[1]).reshape(-1), np.dot(u_two.T, bar).reshape(-1))
    bar = np.dot(bar, _weights(own, table[1]).T)
    head, head_bar = _weights(own, table[2])[0], _weights(goal, table[2])[0]
    d_two = np.empty_like(bar)
    for p in range(len(bar)):
        _head(bar[p], second[p], head, head_bar, d_two[p])
    return d_one, d_two


@njit(**LOOPS)
def _times_slope(y, x, a):  # type: ignore[no-untyped-def]
    """y = x (1 - a^2), flat arrays."""
    one = a.dtype.type(1.0)
    for i in range(len(a)):
        y[i] = x[i] * (one - a[i] * a[i])


@njit(**LOOPS)
def _head(bar, a, head, head_bar, d_bar):  # type: ignore[no-untyped-def]
    one = a.dtype.type(1.0)
    for i in range(len(a)):
        d_bar[i] = bar[i] * head[i]
        head_bar[i] += bar[i] * (one - a[i] * a[i])


@njit(**LOOPS)
def _through_tanh(bar, a, d_bar):  # type: ignore[no-untyped-def]
    """dL/dz from dL/da and dL/dd (none where the loss has no slopes), in place."""
    one, two = a.dtype.type(1.0), a.dtype.type(2.0)
    if len(d_bar) == 0:
        _times_slope(bar, bar, a)
        return
    for i in range(len(a)):
        bar[i] = (bar[i] - two * a[i] * d_bar[i]) * (one - a[i] * a[i])


@njit(**LOOPS)
def _add(y, x):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] += x[i]
