"""Committees of networks on a tile of lanes: forward, and backward for the mean energy, in one sweep each.

Arrays of a tile hold one row an input, neuron or raw sum, and `stride` lanes in a row. The product below keeps six
rows by two vectors of results in registers over the whole inner loop. It reaches the rate of a large BLAS product on
matrices as small as 30 x 30 (BLAS itself: about half), and computes each lane by the same sequence of operations
wherever it stands, which BLAS does not promise (tools/bench/bench_kernel measures both).
"""

from __future__ import annotations

from hpcir.descriptors.arithmetic import vector_tanh
from hpcir.descriptors.lanes import INLINE, INNER, WIDTH, broadcast, load, njit, splat, stand_alone, store

# Rows of results that one pass of the product keeps in registers.
BLOCK = 6
# Columns of a committee's row in the table (see models/packing.py).
LAYERS, MEMBERS, OUTPUTS, OUT_WEIGHT, OUT_BIAS, FIRST_LAYER = range(6)
ROWS, INPUTS, FORWARD, BACKWARD, BIAS, PLACE = range(6)
LAYER_COLUMNS = 6


@njit(**INNER)
def product(weights, weight, rows, inner, x, x0, y, y0, lanes, stride):  # type: ignore[no-untyped-def]
    """y[y0 + i stride + l] = sum_k w[i, k] x[x0 + k stride + l] for `rows` (a multiple of BLOCK) and l < lanes.

    weights from `weight` on are packed in blocks of BLOCK rows: [block][k][row]. Row blocks are the outer loop: the
    block's weights and all of x stay in the first-level cache. lanes: a multiple of 2 WIDTH.
    """
    stand_alone()
    for block in range(rows // BLOCK):
        first = weight + block * BLOCK * inner
        out = y0 + block * BLOCK * stride
        for lane in range(0, lanes, 2 * WIDTH):
            a0 = broadcast(0.0)
            a1, a2, a3, a4, a5 = a0, a0, a0, a0, a0
            b0, b1, b2, b3, b4, b5 = a0, a0, a0, a0, a0, a0
            w, p = first, x0 + lane
            for _ in range(inner):
                u = load(x, p)
                v = load(x, p + WIDTH)
                c = splat(weights, w)
                a0, b0 = a0 + c * u, b0 + c * v
                c = splat(weights, w + 1)
                a1, b1 = a1 + c * u, b1 + c * v
                c = splat(weights, w + 2)
                a2, b2 = a2 + c * u, b2 + c * v
                c = splat(weights, w + 3)
                a3, b3 = a3 + c * u, b3 + c * v
                c = splat(weights, w + 4)
                a4, b4 = a4 + c * u, b4 + c * v
                c = splat(weights, w + 5)
                a5, b5 = a5 + c * u, b5 + c * v
                w += BLOCK
                p += stride
            q = out + lane
            store(y, q, a0)
            store(y, q + WIDTH, b0)
            q += stride
            store(y, q, a1)
            store(y, q + WIDTH, b1)
            q += stride
            store(y, q, a2)
            store(y, q + WIDTH, b2)
            q += stride
            store(y, q, a3)
            store(y, q + WIDTH, b3)
            q += stride
            store(y, q, a4)
            store(y, q + WIDTH, b4)
            q += stride
            store(y, q, a5)
            store(y, q + WIDTH, b5)


@njit(**INNER)
def activate(weights, bias, rows, y, y0, lanes, stride):  # type: ignore[no-untyped-def]
    """y = tanh(y + bias) row by row."""
    stand_alone()
    for i in range(rows):
        b = splat(weights, bias + i)
        place = y0 + i * stride
        for lane in range(place, place + lanes, 2 * WIDTH):
            u = vector_tanh(load(y, lane) + b)
            v = vector_tanh(load(y, lane + WIDTH) + b)
            store(y, lane, u)
            store(y, lane + WIDTH, v)


@njit(**INNER)
def hidden_layers(weights, table, rows, activations, lanes, stride):  # type: ignore[no-untyped-def]
    """All hidden layers of a committee on the raw sums `rows`; the last is left before its bias and tanh."""
    stand_alone()
    members = table[MEMBERS]
    start = 0 * stride  # not the literal 0, for which numba would compile the product once more
    column = FIRST_LAYER
    for layer in range(table[LAYERS]):
        height, inner, forward = table[column + ROWS], table[column + INPUTS], table[column + FORWARD]
        place = table[column + PLACE] * stride
        if layer == 0:
            product(weights, forward, members * height, inner, rows, start, activations, place, lanes, stride)
        else:
            source = table[column - LAYER_COLUMNS + PLACE] * stride
            for m in range(members):
                product(
                    weights,
                    forward + m * height * inner,
                    height,
                    inner,
                    activations,
                    source + m * inner * stride,
                    activations,
                    place + m * height * stride,
                    lanes,
                    stride,
                )
        if layer < table[LAYERS] - 1:
            activate(weights, table[column + BIAS], members * height, activations, place, lanes, stride)
        column += LAYER_COLUMNS


@njit(**INNER)
def energy_and_seed(weights, table, activations, energy, lanes, stride):  # type: ignore[no-untyped-def]
    """Committee-mean output 0 into energy[lane], and dE/d(input of the last tanh) over the last hidden layer."""
    stand_alone()
    column = FIRST_LAYER + (table[LAYERS] - 1) * LAYER_COLUMNS
    count = table[MEMBERS] * table[column + ROWS]
    place, bias = table[column + PLACE] * stride, table[column + BIAS]
    for lane in range(0, lanes, 2 * WIDTH):
        first = splat(weights, table[OUT_BIAS])
        second = first
        for i in range(count):
            at = place + i * stride + lane
            w = splat(weights, table[OUT_WEIGHT] + i)
            b = splat(weights, bias + i)
            u = vector_tanh(load(activations, at) + b)
            v = vector_tanh(load(activations, at + WIDTH) + b)
            first = first + w * u
            second = second + w * v
            store(activations, at, w - w * (u * u))
            store(activations, at + WIDTH, w - w * (v * v))
        store(energy, lane, first)
        store(energy, lane + WIDTH, second)


@njit(**INLINE)
def multiply_by_slope(activations, place, delta, source, count, lanes, stride):  # type: ignore[no-untyped-def]
    """activations = delta * (1 - activations^2): through a tanh, backwards."""
    for i in range(count):
        for lane in range(i * stride, i * stride + lanes, WIDTH):
            a = load(activations, place + lane)
            d = load(delta, source + lane)
            store(activations, place + lane, d - d * (a * a))


@njit(**INNER)
def backward(weights, table, activations, delta, slopes, lanes, stride):  # type: ignore[no-untyped-def]
    """dE/d(raw sums) into slopes, after `energy_and_seed`; activations are overwritten."""
    stand_alone()
    members = table[MEMBERS]
    for layer in range(table[LAYERS] - 1, 0, -1):
        column = FIRST_LAYER + layer * LAYER_COLUMNS
        height, inner, packed = table[column + ROWS], table[column + INPUTS], table[column + BACKWARD]
        place = table[column + PLACE] * stride
        below = table[column - LAYER_COLUMNS + PLACE] * stride
        for m in range(members):
            product(
                weights,
                packed + m * height * inner,
                inner,
                height,
                activations,
                place + m * height * stride,
                delta,
                m * inner * stride,
                lanes,
                stride,
            )
        multiply_by_slope(activations, below, delta, 0, members * inner, lanes, stride)
    column = FIRST_LAYER
    start = 0 * stride
    inner = (table[column + INPUTS] + BLOCK - 1) // BLOCK * BLOCK
    source = table[column + PLACE] * stride
    packed = table[column + BACKWARD]
    product(
        weights,
        packed,
        inner,
        members * table[column + ROWS],
        activations,
        source,
        slopes,
        start,
        lanes,
        stride,
    )


@njit(**INNER)
def outputs(weights, table, activations, results, lanes, stride):  # type: ignore[no-untyped-def]
    """Committee means of all outputs, one row each, after `hidden_layers`."""
    stand_alone()
    column = FIRST_LAYER + (table[LAYERS] - 1) * LAYER_COLUMNS
    count = table[MEMBERS] * table[column + ROWS]
    place = table[column + PLACE] * stride
    activate(weights, table[column + BIAS], count, activations, place, lanes, stride)
    start = 0 * stride
    height = (table[OUTPUTS] + BLOCK - 1) // BLOCK * BLOCK
    product(weights, table[OUT_WEIGHT], height, count, activations, place, results, start, lanes, stride)
    for i in range(table[OUTPUTS]):
        b = splat(weights, table[OUT_BIAS] + i)
        for lane in range(i * stride, i * stride + lanes, WIDTH):
            store(results, lane, load(results, lane) + b)
