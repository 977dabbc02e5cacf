"""Quartic force field and cubic dipole surface in dimensionless normal coordinates, by finite differences of analytic
forces and dipoles, all geometries evaluated in lockstep.

q_k = sqrt(omega_k) Q_k (hbar = 1); V = sum omega q^2 / 2 + sum f_ijk q_i q_j q_k / 6 + sum f_ijkl q_i q_j q_k q_l / 24.
Single displacements go out to three steps, those of pairs to one and two steps with Richardson's extrapolation, so the
error is of fourth order in the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations, product

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.vibrations.levels.rovibration import EckartFrame
from hpcir.vibrations.levels.surface import Surface

STEP = 0.25
"""Default displacement in dimensionless normal coordinates (a zero-point amplitude is 0.7)."""


@dataclass(frozen=True)
class ForceField:
    """Derivatives by the n dimensionless normal coordinates at the minimum, in hartree and e bohr.

    gradient (n,) and hessian (n, n): what is left of the forces, and the harmonic part, which should be
    diag(frequencies); cubic (n, n, n) and quartic (n, n, n, n), symmetric; dipole (3,), dipole_first (3, n),
    dipole_second (3, n, n), dipole_third (3, n, n, n) in the Eckart frame about the centre of mass (nan without
    dipoles). complete: constants with four different indices, and third dipole derivatives with three, are known; they
    are 0 otherwise.
    """

    gradient: FloatArray
    hessian: FloatArray
    cubic: FloatArray
    quartic: FloatArray
    dipole: FloatArray
    dipole_first: FloatArray
    dipole_second: FloatArray
    dipole_third: FloatArray
    complete: bool


def quartic_force_field(
    surface: Surface, frame: EckartFrame, step: float = STEP, complete: bool | None = None
) -> ForceField:
    """Force field and dipole derivatives of a surface at the frame's reference, which must be a minimum.

    It takes 1 + 6n + 4n(n-1) geometries, and 8 more for every three modes when complete (default: up to 24 modes).
    """
    n = len(frame)
    complete = n <= 24 if complete is None else complete
    vectors = _displacements(n, complete)
    values = surface(frame.positions(step * vectors / np.sqrt(frame.frequencies)))
    slopes = -values.forces.reshape(len(vectors), -1) @ (frame.modes / np.sqrt(frame.masses)[:, None]).reshape(n, -1).T
    # Gradient by q in hartree, and the dipole: one column each.
    columns = np.hstack([slopes / np.sqrt(frame.frequencies), values.dipoles])
    first, second, third = _derivatives(columns, n, step, complete)
    cubic = _symmetric([second[:, :, :n].transpose(2, 0, 1)], n, 3)
    quartic = _symmetric([third[..., :n].transpose(3, 0, 1, 2)], n, 4)
    return ForceField(
        gradient=columns[0, :n],
        hessian=0.5 * (first[:, :n] + first[:, :n].T),
        cubic=cubic,
        quartic=quartic,
        dipole=columns[0, n:],
        dipole_first=first[:, n:].T,
        dipole_second=second[:, :, n:].transpose(2, 0, 1),
        dipole_third=np.nan_to_num(third[..., n:].transpose(3, 0, 1, 2), nan=0.0)
        if np.isfinite(columns[0, n:]).all()
        else np.full((3, n, n, n), np.nan),
        complete=complete,
    )


# Steps of single displacements, of pairs (in two sizes), and of three modes, in the order of `_displacements`.
_SINGLE = (1, -1, 2, -2, 3, -3)
_PAIR = tuple(product((1, -1), repeat=2))
_TRIPLE = tuple(product((1, -1), repeat=3))


def _displacements(n: int, complete: bool) -> IntArray:
    """Every displacement (S, n) in steps: the reference, single modes, pairs by one step and by two, threes."""
    unit = np.eye(n, dtype=np.int64)
    pairs = _moved_together(unit, 2, _PAIR)
    threes = _moved_together(unit, 3, _TRIPLE) if complete else np.zeros((0, n), np.int64)
    single = np.concatenate([size * unit for size in _SINGLE])
    return np.concatenate([np.zeros((1, n), np.int64), single, pairs, 2 * pairs, threes])


def _moved_together(unit: IntArray, count: int, signs: tuple[tuple[int, ...], ...]) -> IntArray:
    """One step (C len(signs), n) of every `count` modes at once, C combinations, in all directions."""
    n = len(unit)
    chosen = np.array(list(combinations(range(n), count)), np.int64).reshape(-1, count)
    return np.asarray(np.einsum("sc,kcn->ksn", np.array(signs), unit[chosen]).reshape(-1, n))


def _derivatives(columns: FloatArray, n: int, h: float, complete: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """First (n, C), second (n, n, C) and third (n, n, n, C) derivatives of columns (S, C); nan where not known."""
    width, zero = columns.shape[1], columns[0]
    single = dict(zip(_SINGLE, columns[1 : 1 + 6 * n].reshape(6, n, width), strict=True))
    second, third = np.empty((n, n, width)), np.full((n, n, n, width), np.nan)
    odd = {size: single[size] - single[-size] for size in (1, 2, 3)}
    even = {size: single[size] + single[-size] - 2 * zero for size in (1, 2, 3)}
    own = np.arange(n)
    first = (45 * odd[1] - 9 * odd[2] + odd[3]) / (60 * h)
    second[own, own] = (270 * even[1] - 27 * even[2] + 2 * even[3]) / (180 * h**2)
    third[own, own, own] = (-13 * odd[1] + 8 * odd[2] - odd[3]) / (8 * h**3)
    j, k = np.triu_indices(n, 1)
    sized = columns[1 + 6 * n : 1 + 6 * n + 8 * len(j)].reshape(2, len(j), 4, width)
    mixed, jjk, jkk = ([], [], [])
    for size, values in zip((1, 2), sized, strict=True):
        d = size * h
        pp, pm, mp, mm = values.transpose(1, 0, 2)
        mixed.append((pp - pm - mp + mm) / (4 * d**2))
        jjk.append((pp + mp - 2 * single[size][k] - pm - mm + 2 * single[-size][k]) / (2 * d**3))
        jkk.append((pp + pm - 2 * single[size][j] - mp - mm + 2 * single[-size][j]) / (2 * d**3))
    second[j, k] = second[k, j] = _richardson(mixed)
    third[j, j, k] = third[j, k, j] = third[k, j, j] = _richardson(jjk)
    third[j, k, k] = third[k, j, k] = third[k, k, j] = _richardson(jkk)
    threes = np.array(list(combinations(range(n), 3)), np.int64).reshape(-1, 3) if complete else np.zeros((0, 3), int)
    rest = columns[1 + 6 * n + 8 * len(j) :].reshape(len(threes), 8, width)
    total = np.einsum("s,ksc->kc", np.prod(_TRIPLE, axis=1).astype(float), rest) / (8 * h**3)
    for axes in permutations(range(3)):
        third[tuple(threes[:, axes].T)] = total
    return first, second, third


def _richardson(pair: list[FloatArray]) -> FloatArray:
    return np.asarray((4 * pair[0] - pair[1]) / 3)


def _symmetric(estimates: list[FloatArray], n: int, order: int) -> FloatArray:
    """The mean, over all orders of the indices, of what is known of each constant; 0 where nothing is."""
    total, known = np.zeros((n,) * order), np.zeros((n,) * order)
    for estimate in estimates:
        finite = np.isfinite(estimate)
        values = np.where(finite, estimate, 0.0)
        for axes in permutations(range(order)):
            total += values.transpose(axes)
            known += finite.transpose(axes)
    return np.asarray(total / np.maximum(known, 1))
