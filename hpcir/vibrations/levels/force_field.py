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
from numpy.typing import NDArray

from hpcir.vibrations.levels.rovibration import EckartFrame
from hpcir.vibrations.levels.surface import Surface

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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
    slopes = -np.einsum("sia,kia->sk", values.forces, frame.modes / np.sqrt(frame.masses)[:, None])
    table = dict(zip((tuple(v) for v in vectors.tolist()), range(len(vectors)), strict=True))
    # Gradient by q in hartree, and the dipole: one column each.
    columns = np.hstack([slopes / np.sqrt(frame.frequencies), values.dipoles])
    first, second, third = _derivatives(columns, table, n, step, complete)
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


def _displacements(n: int, complete: bool) -> IntArray:
    """Every displacement (S, n) in steps, the reference first."""
    rows = [np.zeros((1, n), np.int64)]
    unit = np.eye(n, dtype=np.int64)
    rows += [size * unit for size in (1, -1, 2, -2, 3, -3)]
    for size in (1, 2):
        for j, k in combinations(range(n), 2):
            rows.append(np.array([size * (a * unit[j] + b * unit[k]) for a, b in product((1, -1), repeat=2)]))
    if complete:
        for j, k, l in combinations(range(n), 3):
            signs = product((1, -1), repeat=3)
            rows.append(np.array([a * unit[j] + b * unit[k] + c * unit[l] for a, b, c in signs]))
    return np.concatenate(rows)


def _derivatives(
    columns: FloatArray, table: dict[tuple[int, ...], int], n: int, h: float, complete: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """First (n, C), second (n, n, C) and third (n, n, n, C) derivatives of columns (S, C); nan where not known."""

    def at(**steps: int) -> FloatArray:
        key = [0] * n
        for name, size in steps.items():
            key[int(name[1:])] = size
        return np.asarray(columns[table[tuple(key)]])

    width = columns.shape[1]
    first, second = np.empty((n, width)), np.empty((n, n, width))
    third = np.full((n, n, n, width), np.nan)
    zero = columns[0]
    for j in range(n):
        x = {size: at(**{f"m{j}": size}) for size in (-3, -2, -1, 1, 2, 3)}
        first[j] = (45 * (x[1] - x[-1]) - 9 * (x[2] - x[-2]) + (x[3] - x[-3])) / (60 * h)
        even = {size: x[size] + x[-size] - 2 * zero for size in (1, 2, 3)}
        second[j, j] = (270 * even[1] - 27 * even[2] + 2 * even[3]) / (180 * h**2)
        third[j, j, j] = (-13 * (x[1] - x[-1]) + 8 * (x[2] - x[-2]) - (x[3] - x[-3])) / (8 * h**3)
    for j, k in combinations(range(n), 2):
        mixed, jjk, jkk = ([], [], [])
        for size in (1, 2):
            d = size * h
            pp, pm, mp, mm = (at(**{f"m{j}": a * size, f"m{k}": b * size}) for a, b in product((1, -1), repeat=2))
            pj, mj, pk, mk = (at(**{f"m{m}": a * size}) for m in (j, k) for a in (1, -1))
            mixed.append((pp - pm - mp + mm) / (4 * d**2))
            jjk.append((pp + mp - 2 * pk - pm - mm + 2 * mk) / (2 * d**3))
            jkk.append((pp + pm - 2 * pj - mp - mm + 2 * mj) / (2 * d**3))
        second[j, k] = second[k, j] = _richardson(mixed)
        third[j, j, k] = third[j, k, j] = third[k, j, j] = _richardson(jjk)
        third[j, k, k] = third[k, j, k] = third[k, k, j] = _richardson(jkk)
    for triple in combinations(range(n), 3) if complete else ():
        total = np.zeros(width)
        for signs in product((1, -1), repeat=3):
            total += np.prod(signs) * at(**{f"m{m}": s for m, s in zip(triple, signs, strict=True)})
        for i, j, k in permutations(triple):
            third[i, j, k] = total / (8 * h**3)
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
