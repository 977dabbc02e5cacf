"""Compiled parts of SOAP: rotations of weight matrices into and out of their eigenbases, and Adam's step between them.

One call does all members, elements and layers: through torch, a rotation of a 40 x 40 matrix costs less than what is
around it. A table has one row for each layer: place of its weights in an element's stretch, rows, columns, places of
the left and of the right matrix in an element's stretch of bases (or of Grams).
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.kernel_cache import prepare_kernel_cache

prepare_kernel_cache()

from numba import njit  # noqa: E402

WEIGHT, ROWS, COLUMNS, LEFT, RIGHT = range(5)
KERNEL = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}


@njit(**KERNEL)
def rotate(source, target, bases, table, into):  # type: ignore[no-untyped-def]
    """target = Q_L^T W Q_R (into) or Q_L W Q_R^T of every weight matrix; what is not a weight is copied.

    source, target (members, elements, size), bases (members, elements, size of bases).
    """
    for m in range(source.shape[0]):
        for e in range(source.shape[1]):
            _rotate(source[m, e], target[m, e], bases[m, e], table, into)


@njit(**KERNEL)
def _rotate(source, target, bases, table, into):  # type: ignore[no-untyped-def]
    target[:] = source
    for row in table:
        n, m = row[ROWS], row[COLUMNS]
        matrix = source[row[WEIGHT] : row[WEIGHT] + n * m].reshape(n, m)
        result = target[row[WEIGHT] : row[WEIGHT] + n * m].reshape(n, m)
        left = bases[row[LEFT] : row[LEFT] + n * n].reshape(n, n)
        right = bases[row[RIGHT] : row[RIGHT] + m * m].reshape(m, m)
        if into:
            np.dot(np.dot(left.T, matrix), right, result)
        else:
            np.dot(np.dot(left, matrix), right.T, result)


@njit(**KERNEL)
def add_grams(gradient, grams, table, share):  # type: ignore[no-untyped-def]
    """grams += share (G G^T - gram), and likewise G^T G, of every weight matrix of the gradient."""
    for member in range(gradient.shape[0]):
        for e in range(gradient.shape[1]):
            for row in table:
                n, m = row[ROWS], row[COLUMNS]
                matrix = gradient[member, e, row[WEIGHT] : row[WEIGHT] + n * m].reshape(n, m)
                _mix(grams[member, e, row[LEFT] : row[LEFT] + n * n], np.dot(matrix, matrix.T).reshape(-1), share)
                _mix(grams[member, e, row[RIGHT] : row[RIGHT] + m * m], np.dot(matrix.T, matrix).reshape(-1), share)


@njit(**KERNEL)
def _mix(average, new, share):  # type: ignore[no-untyped-def]
    for i in range(len(average)):
        average[i] += share * (new[i] - average[i])


@njit(**KERNEL)
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


@njit(**KERNEL)
def _adam(gradient, first, second, mixing, tiny):  # type: ignore[no-untyped-def]
    """The moments with a new gradient, which becomes their direction."""
    for i in range(len(gradient)):
        g = gradient[i]
        first[i] += mixing[0] * (g - first[i])
        second[i] += mixing[1] * (g * g - second[i])
        gradient[i] = first[i] / (np.sqrt(second[i]) + tiny)
