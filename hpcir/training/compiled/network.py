"""Compiled passes through one element's networks: slopes, and the gradient of a loss of outputs and slopes.

The same as `training.network.NetworkPass` does in torch (its equations are there), one member after the other. Flat
parameters are (members, elements, size); `table` has one row for each layer: place of its weights, rows, columns (the
biases lie behind the weights). Activations a, and u, v, are tuples of one array (members, P, width) a hidden layer.
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.lanes import KERNEL, njit

WEIGHT, ROWS, COLUMNS = range(3)
LOOPS = {**KERNEL, "fastmath": {"contract", "nsz", "reassoc"}}


@njit(**LOOPS)
def _weights(flat, row):  # type: ignore[no-untyped-def]
    n, m = row[ROWS], row[COLUMNS]
    return flat[row[WEIGHT] : row[WEIGHT] + n * m].reshape(n, m)


@njit(**LOOPS)
def _biases(flat, row):  # type: ignore[no-untyped-def]
    first = row[WEIGHT] + row[ROWS] * row[COLUMNS]
    return flat[first : first + row[ROWS]]


@njit(**LOOPS)
def _times_slope(y, x, a):  # type: ignore[no-untyped-def]
    """y = x (1 - a^2), flat arrays."""
    one = a.dtype.type(1.0)
    for i in range(len(a)):
        y[i] = x[i] * (one - a[i] * a[i])


@njit(**LOOPS)
def slopes(flat, element, table, a, u, v, result):  # type: ignore[no-untyped-def]
    """u, v and the slopes of output 0 by the inputs, result (members, P, K), from the activations a."""
    last = len(a) - 1
    for m in range(flat.shape[0]):
        own = flat[m, element]
        head = _weights(own, table[last + 1])[0]
        for p in range(a[last].shape[1]):
            _times_slope(u[last][m, p], head, a[last][m, p])
        for l in range(last, 0, -1):
            np.dot(u[l][m], _weights(own, table[l]), v[l - 1][m])
            _times_slope(u[l - 1][m].reshape(-1), v[l - 1][m].reshape(-1), a[l - 1][m].reshape(-1))
        np.dot(u[0][m], _weights(own, table[0]), result[m])


@njit(**LOOPS)
def gradient(flat, target, element, table, x, a, u, v, output_bar, slope_bar):  # type: ignore[no-untyped-def]
    """Write the gradient into target: output_bar (members, P, n) is dL/doutputs, slope_bar (members, P, K) dL/dslopes,
    or (0, 0, 0) where the loss has no slopes."""
    layers = len(a)
    with_slopes = len(slope_bar) > 0
    points = x.shape[0]
    for m in range(flat.shape[0]):
        own, goal = flat[m, element], target[m, element]
        out = _weights(goal, table[layers])
        np.dot(output_bar[m].T, a[layers - 1][m], out)
        _sum_rows(output_bar[m], _biases(goal, table[layers]))
        d_bars = np.empty((layers, points * table[:layers, ROWS].max()), x.dtype)
        if with_slopes:
            _slope_gradient(own, goal, table, a, u, v, m, slope_bar[m], d_bars)
        a_bar = np.dot(output_bar[m], _weights(own, table[layers]))
        for l in range(layers - 1, -1, -1):
            bar, act = a_bar.reshape(-1), a[l][m].reshape(-1)
            if with_slopes:
                _through_tanh(bar, act, d_bars[l])
            else:
                _times_slope(bar, bar, act)
            weights = _weights(goal, table[l])
            below = x if l == 0 else a[l - 1][m]
            product = np.dot(a_bar.T, below)
            if with_slopes:
                _add(weights.reshape(-1), product.reshape(-1))
            else:
                weights[:] = product
            _sum_rows(a_bar, _biases(goal, table[l]))
            if l > 0:
                a_bar = np.dot(a_bar, _weights(own, table[l]))


@njit(**LOOPS)
def _slope_gradient(own, goal, table, a, u, v, m, slope_bar, d_bars):  # type: ignore[no-untyped-def]
    """The weights' part through the line of the u; dL/dd_l of every hidden layer into d_bars."""
    layers = len(a)
    np.dot(u[0][m].T, slope_bar, _weights(goal, table[0]))
    u_bar = np.dot(slope_bar, _weights(own, table[0]).T)
    for l in range(layers - 1):
        bar = u_bar.reshape(-1)
        _multiply(d_bars[l], bar, v[l][m].reshape(-1))
        _times_slope(bar, bar, a[l][m].reshape(-1))
        np.dot(u[l + 1][m].T, u_bar, _weights(goal, table[l + 1]))
        u_bar = np.dot(u_bar, _weights(own, table[l + 1]).T)
    last = layers - 1
    head, head_bar = _weights(own, table[layers])[0], _weights(goal, table[layers])[0]
    width = len(head)
    for p in range(len(u_bar)):
        _head(u_bar[p], a[last][m, p], head, head_bar, d_bars[last, p * width : (p + 1) * width])


@njit(**LOOPS)
def _head(u_bar, a, head, head_bar, d_bar):  # type: ignore[no-untyped-def]
    one = a.dtype.type(1.0)
    for i in range(len(a)):
        d_bar[i] = u_bar[i] * head[i]
        head_bar[i] += u_bar[i] * (one - a[i] * a[i])


@njit(**LOOPS)
def _through_tanh(bar, a, d_bar):  # type: ignore[no-untyped-def]
    """dL/dz from dL/da and dL/dd, d = 1 - a^2, in place."""
    one, two = a.dtype.type(1.0), a.dtype.type(2.0)
    for i in range(len(a)):
        bar[i] = (bar[i] - two * a[i] * d_bar[i]) * (one - a[i] * a[i])


@njit(**LOOPS)
def _multiply(y, x, z):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] = x[i] * z[i]


@njit(**LOOPS)
def _add(y, x):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] += x[i]


@njit(**LOOPS)
def _sum_rows(rows, result):  # type: ignore[no-untyped-def]
    result[:] = 0.0
    for p in range(rows.shape[0]):
        _add(result, rows[p])
