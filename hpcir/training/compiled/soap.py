"""Compiled parts of SOAP: rotations of weight matrices into and out of their eigenbases, and Adam's step between them.

One call does all members, elements and layers: through torch, a rotation of a 40 x 40 matrix costs less than what is
around it. Matrices with many columns are cut into blocks of columns. A table has one row for each block: place of its
layer's weights in an element's stretch, columns of the layer, rows, first and number of columns of the block, places of
the left and of the right matrix in an element's stretch of bases (or of Grams).
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.lanes import KERNEL, njit

WEIGHT, WIDTH, ROWS, FIRST, COLUMNS, LEFT, RIGHT = range(7)
LOOPS = {**KERNEL, "fastmath": {"contract", "nsz"}}


@njit(**LOOPS)
def _block(flat, row):  # type: ignore[no-untyped-def]
    """The block of weights (rows, columns) that a row of the table is about: a view."""
    weights = flat[row[WEIGHT] : row[WEIGHT] + row[ROWS] * row[WIDTH]].reshape(row[ROWS], row[WIDTH])
    return weights[:, row[FIRST] : row[FIRST] + row[COLUMNS]]


@njit(**LOOPS)
def _square(flat, first, n):  # type: ignore[no-untyped-def]
    return flat[first : first + n * n].reshape(n, n)


@njit(**LOOPS)
def rotate(source, target, bases, table, into):  # type: ignore[no-untyped-def]
    """target = Q_L^T W Q_R (into) or Q_L W Q_R^T of every block of weights; what is not a weight is copied.

    source, target (members, elements, size), bases (members, elements, size of bases).
    """
    for m in range(source.shape[0]):
        for e in range(source.shape[1]):
            _rotate(source[m, e], target[m, e], bases[m, e], table, into)


@njit(**LOOPS)
def _rotate(source, target, bases, table, into):  # type: ignore[no-untyped-def]
    target[:] = source
    for row in table:
        matrix = _block(source, row).copy()
        left, right = _square(bases, row[LEFT], row[ROWS]), _square(bases, row[RIGHT], row[COLUMNS])
        if into:
            _block(target, row)[:] = np.dot(np.dot(left.T, matrix), right)
        else:
            _block(target, row)[:] = np.dot(np.dot(left, matrix), right.T)


@njit(**LOOPS)
def add_grams(gradient, grams, table, share):  # type: ignore[no-untyped-def]
    """grams += share (G G^T - gram), and likewise G^T G, of every block of the gradient."""
    for m in range(gradient.shape[0]):
        for e in range(gradient.shape[1]):
            for row in table:
                matrix = _block(gradient[m, e], row).copy()
                left, right = row[ROWS] ** 2, row[COLUMNS] ** 2
                _mix(grams[m, e, row[LEFT] : row[LEFT] + left], np.dot(matrix, matrix.T).reshape(-1), share)
                _mix(grams[m, e, row[RIGHT] : row[RIGHT] + right], np.dot(matrix.T, matrix).reshape(-1), share)


@njit(**LOOPS)
def _mix(average, new, share):  # type: ignore[no-untyped-def]
    for i in range(len(average)):
        average[i] += share * (new[i] - average[i])


@njit(**LOOPS)
def step(parameters, gradient, first, second, bases, table, mixing, rate, tiny):  # type: ignore[no-untyped-def]
    """One step of Adam in the eigenbases, whose moments `first` and `second` are of rotated gradients.

    mixing: the shares (1 - beta1, 1 - beta2) of the new gradient; rate: with the moments' bias corrected.
    """
    rotated = np.empty_like(gradient[0, 0])
    direction = np.empty_like(rotated)
    for m in range(parameters.shape[0]):
        for e in range(parameters.shape[1]):
            _rotate(gradient[m, e], rotated, bases[m, e], table, True)
            _adam(rotated, first[m, e], second[m, e], mixing, tiny)
            _rotate(rotated, direction, bases[m, e], table, False)
            own = parameters[m, e]
            for i in range(len(own)):
                own[i] -= rate * direction[i]


@njit(**LOOPS)
def _adam(gradient, first, second, mixing, tiny):  # type: ignore[no-untyped-def]
    """The moments with a new gradient, which becomes their direction."""
    for i in range(len(gradient)):
        g = gradient[i]
        first[i] += mixing[0] * (g - first[i])
        second[i] += mixing[1] * (g * g - second[i])
        gradient[i] = first[i] / (np.sqrt(second[i]) + tiny)
