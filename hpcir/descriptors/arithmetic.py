"""Elementary functions of lane vectors: exp, tanh and the cutoff functions, branch-free, with tested errors.

The scalar library functions that numba calls do not vectorise. exp here is 2^n exp(f) with |f| <= ln(2)/2 and a
Taylor polynomial of degree 12 (truncation 2e-16), tanh is 1 - 2 / (exp(2x) + 1). Both are compared with numpy over
their whole range in the tests: relative error of exp below 1e-15, absolute error of tanh below 4e-16.
"""

from __future__ import annotations

import math

from hpcir.descriptors.lanes import (
    INLINE,
    INNER,
    KERNEL,
    WIDTH,
    broadcast,
    load,
    njit,
    square_root,
    store,
    times_power_of_two,
    where_greater,
)

POLYNOMIAL, COSINE, TANH3 = 0, 1, 2

# Adding and subtracting 1.5 * 2^52 rounds to the nearest integer and leaves that integer in the lowest bits.
_ROUND = 6755399441055744.0
_LOG2E = 1.0 / math.log(2.0)
# ln 2 in two parts, the first with trailing zero bits so that n * _LN2_HIGH is exact.
_LN2_HIGH = 6.93145751953125e-01
_LN2_LOW = 1.42860682030941723212e-06
_C2, _C3, _C4, _C5, _C6, _C7 = (1.0 / math.factorial(n) for n in range(2, 8))
_C8, _C9, _C10, _C11, _C12 = (1.0 / math.factorial(n) for n in range(8, 13))
_SIN = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(12))
_COS = tuple((-1.0) ** n / math.factorial(2 * n) for n in range(12))


@njit(**INLINE)
def vector_exp(x):  # type: ignore[no-untyped-def]
    """exp of each lane; arguments below -708 give exp(-708) and above 709 exp(709); NaN stays NaN."""
    x = where_greater(x, 709.0, broadcast(709.0), x)
    return limited_exp(where_greater(-708.0, x, broadcast(-708.0), x))


@njit(**INLINE)
def limited_exp(x):  # type: ignore[no-untyped-def]
    """exp of each lane for arguments from -708 to 709."""
    shifted = x * _LOG2E + _ROUND
    n = shifted - _ROUND
    f = x - n * _LN2_HIGH - n * _LN2_LOW
    # Even and odd powers apart: two short chains of fused operations instead of a long one.
    g = f * f
    even = ((((_C12 * g + _C10) * g + _C8) * g + _C6) * g + _C4) * g + _C2
    odd = (((_C11 * g + _C9) * g + _C7) * g + _C5) * g + _C3
    return times_power_of_two((odd * f + even) * g + f + 1.0, shifted)


@njit(**INLINE)
def vector_tanh(x):  # type: ignore[no-untyped-def]
    """tanh of each lane, absolute error below 4e-16; NaN stays NaN."""
    x = where_greater(x, 20.0, broadcast(20.0), x)
    x = where_greater(-20.0, x, broadcast(-20.0), x)
    return 1.0 - 2.0 / (limited_exp(x + x) + 1.0)


@njit(**INNER)
def cosine_cutoff(x):  # type: ignore[no-untyped-def]
    """(cos(pi x) + 1) / 2 and its derivative for x in [0, 1], as series around x = 1/2."""
    y = (x - 0.5) * math.pi
    g = y * y
    sine = broadcast(_SIN[11])
    cosine = broadcast(_COS[11])
    for n in range(10, -1, -1):
        sine = sine * g + _SIN[n]
        cosine = cosine * g + _COS[n]
    return 0.5 - 0.5 * (sine * y), -0.5 * math.pi * cosine


@njit(**INNER)
def tanh3_cutoff(x):  # type: ignore[no-untyped-def]
    """tanh(1 - x)^3 and its derivative."""
    t = vector_tanh(1.0 - x)
    return t * t * t, -3.0 * (t * t) * (1.0 - t * t)


@njit(**INLINE)
def polynomial_cutoff(x):  # type: ignore[no-untyped-def]
    """((15 - 6x) x - 10) x^3 + 1 and its derivative: zero with two derivatives at x = 1, exactly in rounding."""
    squared = x * x
    return ((15.0 - 6.0 * x) * x - 10.0) * (squared * x) + 1.0, -30.0 * squared * ((1.0 - x) * (1.0 - x))


@njit(**INLINE)
def cutoff_function(kind, x):  # type: ignore[no-untyped-def]
    """The cutoff function of `kind` and its derivative at x = r / cutoff; exactly zero from x = 1 on; NaN stays."""
    x = where_greater(x, 1.0, broadcast(1.0), x)
    if kind == POLYNOMIAL:
        return polynomial_cutoff(x)
    if kind == COSINE:
        value, slope = cosine_cutoff(x)
    else:
        value, slope = tanh3_cutoff(x)
    inside = where_greater(x, 0.9999999999999999, broadcast(0.0), broadcast(1.0))
    return value * inside, slope * inside


@njit(**KERNEL)
def apply_vector_function(which, values, results):  # type: ignore[no-untyped-def]
    """results[:] = exp (0), tanh (1), square root (2), or cutoff function (3 + kind) of values; for tests.

    The length must be a multiple of WIDTH.
    """
    for place in range(0, values.size, WIDTH):
        x = load(values, place)
        if which == 0:
            store(results, place, vector_exp(x))
        elif which == 1:
            store(results, place, vector_tanh(x))
        elif which == 2:
            store(results, place, square_root(x))
        else:
            store(results, place, cutoff_function(which - 3, x)[0])
