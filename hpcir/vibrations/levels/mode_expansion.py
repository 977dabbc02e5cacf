"""Functions of the normal coordinates as sums of functions of one, two and three of them (n-mode representation), on
potential-optimised quadrature points, and their matrix elements between products of one-mode functions.

Carter, Culik, Bowman, J. Chem. Phys. 107, 10458, 1997 (n-mode representation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.units import PER_CM
from hpcir.vibrations.levels.grids import Modals, modals
from hpcir.vibrations.levels.oscillator_states import Quanta
from hpcir.vibrations.levels.rovibration import EckartFrame
from hpcir.vibrations.levels.surface import Surface

Modes = tuple[int, ...]

# A cut along one mode ends where the potential passes this many harmonic quanta of the mode, and this many cm-1 at
# least, or at this many dimensionless units.
WALL_QUANTA, WALL_PER_CM, FARTHEST = 14.0, 24000.0, 7.0
CUT_STEP = 0.125
FINE_POINTS = 64


@dataclass(frozen=True)
class Cut:
    """One normal coordinate by itself: its modals, and whether the potential turned over before the wall, at `lower` or
    `upper` (dimensionless normal coordinates)."""

    modals: Modals
    lower: float
    upper: float
    turned_over: bool


@dataclass(frozen=True)
class ModeExpansion:
    """Values of C functions on the points of the modals: terms[(k, l)] (p_k, p_l, C) is what the pair adds to the sum
    of its parts; constant (C,) the values at the reference."""

    constant: FloatArray
    terms: dict[Modes, FloatArray]


def one_mode_cuts(surface: Surface, frame: EckartFrame, functions: int, quadrature: int) -> list[Cut]:
    """The cut of the surface along every normal coordinate, with `functions` modals and `quadrature` points."""
    n = len(frame)
    steps = np.arange(-FARTHEST, FARTHEST + CUT_STEP / 2, CUT_STEP)
    middle = len(steps) // 2
    vectors = np.zeros((n, len(steps), n))
    vectors[np.arange(n), :, np.arange(n)] = steps / np.sqrt(frame.frequencies)[:, None]
    energies = surface(frame.positions(vectors.reshape(-1, n))).energies.reshape(n, -1)
    found = []
    for mode in range(n):
        omega = float(frame.frequencies[mode])
        wall = max(WALL_QUANTA * omega, WALL_PER_CM * PER_CM)
        curve = _softened(energies[mode] - energies[mode, middle], 0.5 * omega * steps**2)
        lower, low_turn = _end(steps, curve, middle, -1, wall)
        upper, high_turn = _end(steps, curve, middle, 1, wall)
        fine = np.linspace(lower, upper, FINE_POINTS)
        potential = _interpolated(steps, curve, fine)
        made = modals(fine / np.sqrt(omega), potential, 1.0, functions, quadrature)
        found.append(Cut(made, lower, upper, low_turn or high_turn))
    return found


def cut_uncertainty(surfaces: Sequence[Surface], frame: EckartFrame) -> FloatArray:
    """(n,) cm-1: standard deviation over surfaces of what their cuts make of each fundamental in first order, <1|V|1> -
    <0|V|0> with harmonic functions, out to where these vanish."""
    n = len(frame)
    steps = np.arange(-4.0, 4.01, 0.25)
    vectors = np.zeros((n, len(steps), n))
    vectors[np.arange(n), :, np.arange(n)] = steps / np.sqrt(frame.frequencies)[:, None]
    geometries = frame.positions(vectors.reshape(-1, n))
    weights = (2 * steps**2 - 1) * np.exp(-(steps**2)) / np.sqrt(np.pi) * (steps[1] - steps[0])
    found = [surface(geometries).energies.reshape(n, -1) @ weights for surface in surfaces]
    return np.asarray(np.std(found, axis=0, ddof=1) / PER_CM)


def _softened(curve: FloatArray, harmonic: FloatArray) -> FloatArray:
    """The potential that the modals are made in: a straight bend stretches bonds and is far stiffer than the bent path
    that the molecule takes: where both sides of a cut are stiffer than the harmonic one, that is taken. (The
    Hamiltonian has the cut itself.)"""
    stiffer = (curve > harmonic) & (curve[::-1] > harmonic)
    return np.where(stiffer, harmonic, curve)


def _end(steps: FloatArray, curve: FloatArray, middle: int, direction: int, wall: float) -> tuple[float, bool]:
    """The end of a cut in one direction, and whether it is where the potential turns over."""
    index = middle
    while 0 < index < len(steps) - 1:
        ahead = index + direction
        if curve[index] > wall:
            break
        if not curve[ahead] >= curve[index] - 1e-7 and abs(steps[index]) > 1.0:
            return float(steps[index]), True
        index = ahead
    return float(steps[index]), False


def _interpolated(x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    from scipy.interpolate import CubicSpline

    return np.asarray(CubicSpline(x, y)(at))


def expand(
    function: Callable[[FloatArray], FloatArray],
    cuts: list[Cut],
    order: int,
    skip: Callable[[Modes], bool] = lambda modes: False,
) -> ModeExpansion:
    """The n-mode expansion up to `order` coordinates at once of a function that maps normal coordinates (S, n) to
    values (S, C). skip: sets of modes that are left out."""
    n = len(cuts)
    sets = [modes for size in range(1, order + 1) for modes in combinations(range(n), size) if not skip(modes)]
    places = {modes: _product_points(cuts, modes) for modes in sets}
    everything = np.concatenate([np.zeros((1, n)), *places.values()])
    values = function(everything)
    constant = values[0]
    terms: dict[Modes, FloatArray] = {}
    start = 1
    for modes in sets:
        shape = tuple(len(cuts[m].modals.points) for m in modes)
        stop = start + len(places[modes])
        rest = values[start:stop].reshape(*shape, -1) - constant
        start = stop
        for size in range(1, len(modes)):
            for part in combinations(range(len(modes)), size):
                smaller = terms.get(tuple(modes[i] for i in part))
                if smaller is not None:
                    missing = tuple(i for i in range(len(modes)) if i not in part)
                    rest = rest - np.expand_dims(smaller, missing)
        terms[modes] = rest
    return ModeExpansion(constant, terms)


def _product_points(cuts: list[Cut], modes: Modes) -> FloatArray:
    """Normal coordinates (S, n) at the product of the modes' points, the others at rest."""
    mesh = np.meshgrid(*(cuts[m].modals.points for m in modes), indexing="ij")
    result = np.zeros((mesh[0].size, len(cuts)))
    for mode, values in zip(modes, mesh, strict=True):
        result[:, mode] = values.ravel()
    return result


@dataclass(frozen=True)
class ProductBasis:
    """Products of the modes' modals: quanta (B, n), energies (B,) of the sums of one-mode energies in hartree,
    ascending; sizes (n,): modals in use of each mode."""

    quanta: Quanta
    energies: FloatArray
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.quanta)


def product_basis(cuts: list[Cut], most: int) -> ProductBasis:
    """The `most` products of lowest energy (or a few fewer), each mode with the modals that it has."""
    excitations = [cut.modals.energies - cut.modals.energies[0] for cut in cuts]
    low, high = 0.0, float(sum(e[-1] for e in excitations))
    if _count(excitations, high, most) > most:
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if _count(excitations, middle, most) <= most else (low, middle)
    else:
        low = high
    rows, energies = _products(excitations, low)
    order = np.lexsort((*rows.T, energies.round(12)))
    rows = rows[order]
    sizes = tuple(int(size) for size in rows.max(0) + 1)
    return ProductBasis(rows.astype(np.int8), energies[order], sizes)


def _count(excitations: list[FloatArray], limit: float, most: int) -> int:
    """The number of products up to an energy; counting stops above `most`."""
    totals = np.zeros(1)
    for levels in excitations:
        totals = np.add.outer(totals, levels).ravel()
        totals = totals[totals <= limit]
        if len(totals) > most:
            return len(totals)
    return len(totals)


def _products(excitations: list[FloatArray], limit: float) -> tuple[IntArray, FloatArray]:
    rows, totals = np.zeros((1, 0), np.int64), np.zeros(1)
    for levels in excitations:
        sums = np.add.outer(totals, levels)
        parent, level = np.nonzero(sums <= limit)
        rows = np.column_stack([rows[parent], level])
        totals = sums[parent, level]
    return rows, totals


def local_matrix(values: FloatArray, cuts: list[Cut], modes: Modes, sizes: tuple[int, ...]) -> FloatArray:
    """(L, L) with L the product of the modes' sizes: matrix elements of a function on the modes' points (p_k, p_l,
    ..)."""
    result = values
    for mode in modes:
        transform = cuts[mode].modals.transform[: sizes[mode]]
        both = transform[:, None] * transform[None]
        # The leading axis is contracted, and the two new ones go to the end: (a, a', b, b', ...) after all.
        result = np.tensordot(result, both, axes=(0, 2))
    return paired(result, len(modes))


def paired(tensor: FloatArray, count: int) -> FloatArray:
    """(a, a', b, b', ..) as a matrix (ab.., a'b'..)."""
    left = tensor.transpose(*range(0, 2 * count, 2), *range(1, 2 * count, 2))
    size = int(np.prod(left.shape[:count]))
    return np.asarray(left.reshape(size, size))


class Assembler:
    """Puts matrices of few modes into the matrix of the whole basis: the others' quanta stay as they are."""

    def __init__(self, basis: ProductBasis) -> None:
        self.basis = basis
        self._groups: dict[Modes, list[tuple[IntArray, IntArray]]] = {}

    def add(self, target: FloatArray, local: FloatArray, modes: Modes) -> None:
        """target (B, B) += local (L, L) of the modes."""
        for states, places in self._batches(modes):
            target[states[:, :, None], states[:, None, :]] += local[places[:, :, None], places[:, None, :]]

    def _batches(self, modes: Modes) -> list[tuple[IntArray, IntArray]]:
        """States (G, s) in groups of equal size that differ in these modes alone, and their places in local
        matrices."""
        if modes not in self._groups:
            quanta, sizes = self.basis.quanta, self.basis.sizes
            place = np.ravel_multi_index(
                tuple(quanta[:, m].astype(np.int64) for m in modes), tuple(sizes[m] for m in modes)
            )
            others = np.ascontiguousarray(np.delete(quanta, modes, axis=1))
            if others.shape[1]:
                keys = others.view(f"V{others.shape[1]}").ravel()
                _, owner = np.unique(keys, return_inverse=True)
            else:
                owner = np.zeros(len(quanta), np.int64)
            order = np.argsort(owner.ravel(), kind="stable")
            counts = np.bincount(owner.ravel())
            starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            batches = []
            for size in np.unique(counts):
                first = starts[counts == size]
                states = order[first[:, None] + np.arange(size)]
                batches.append((states, place[states]))
            self._groups[modes] = batches
        return self._groups[modes]
