"""Covariances of energies and their gradients for sums of atomic energies with a kernel of degree two.

An atomic energy is a Gaussian process of the atom's inputs x (K,), of its element alone, with the kernel
    k(x, x') = (1 + x . x' / l^2)^2,
and the energy of a molecule is the sum over its atoms (Bartok et al., Phys. Rev. Lett. 104, 136403, 2010). Covariances
of gradients follow by derivatives, with J_i (3N, K) those of the inputs of atom i by the coordinates, and
c_ij = 1 + x_i . x'_j / l^2:
    cov(dE/dr, E')      = sum_ij 2 c_ij / l^2 J_i x'_j,
    cov(dE/dr, dE'/dr') = sum_ij 2 c_ij / l^2 J_i J'_j^T + 2 / l^4 (J_i x'_j) (J'_j x_i)^T,
over atoms i of one molecule and j of the other that are of one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.lanes import njit


@dataclass(frozen=True)
class Described:
    """Geometries of one molecule as the process reads them; atoms are sorted by element.

    inputs (S, N, K); slopes (S, N, 3N, K): derivatives of the inputs of an atom by all coordinates, 1/bohr, in single
    precision where they are many; ranges (elements, 2): first and last atom of each element of the process, equal
    where the molecule has none.
    """

    inputs: FloatArray
    slopes: FloatArray
    ranges: IntArray

    def __len__(self) -> int:
        return len(self.inputs)

    def of(self, rows: IntArray) -> Described:
        """Some of the geometries, in double precision."""
        return Described(self.inputs[rows], self.slopes[rows].astype(float), self.ranges)

    @property
    def coordinates(self) -> int:
        return int(self.slopes.shape[2])


@dataclass(frozen=True)
class Places:
    """Rows of a covariance: gradients of all groups (first, last), then their energies."""

    gradients: tuple[slice, ...]
    energies: tuple[slice, ...]
    size: int

    @classmethod
    def of(cls, groups: Sequence[Described]) -> Places:
        firsts = np.cumsum([0, *(len(g) * g.coordinates for g in groups), *(len(g) for g in groups)]).tolist()
        slices = tuple(slice(first, last) for first, last in pairwise(firsts))
        return cls(slices[: len(groups)], slices[len(groups) :], firsts[-1])

    def of_group(self, group: int) -> tuple[slice, slice]:
        """Rows of a group's gradients and of its energies."""
        return self.gradients[group], self.energies[group]


def ranges_of(numbers: IntArray, elements: Sequence[int]) -> IntArray:
    """First and last atom (elements, 2) of each element, of atoms sorted by element."""
    return np.array([np.searchsorted(numbers, [z, z + 1]) for z in elements], np.int64)


@njit(cache=True)
def _gradient_block(x, slopes, y, other, scale, block):  # type: ignore[no-untyped-def]
    """Add cov(dE/dr, dE'/dr') of the atoms of one element to block (3N, 3N'). x (n, K), slopes (n, 3N, K); y (m, K),
    other (m, 3N', K); scale: 1 / l^2."""
    n, rows, width = slopes.shape
    m, columns = other.shape[0], other.shape[1]
    products = np.dot(x, y.T) * scale
    for i in range(n):
        mixed = np.zeros((columns, width))
        for j in range(m):
            factor = 2.0 * scale * (1.0 + products[i, j])
            for c in range(columns):
                for k in range(width):
                    mixed[c, k] += factor * other[j, c, k]
        block += np.dot(slopes[i], mixed.T)
    left = np.dot(slopes.reshape(n * rows, width), y.T)
    right = np.dot(other.reshape(m * columns, width), x.T)
    a, b = np.empty((rows, n * m)), np.empty((n * m, columns))
    for i in range(n):
        for j in range(m):
            for r in range(rows):
                a[r, i * m + j] = 2.0 * scale * scale * left[i * rows + r, j]
            for c in range(columns):
                b[i * m + j, c] = right[j * columns + c, i]
    block += np.dot(a, b)


@njit(cache=True)
def _fill_gradients(x, slopes, ranges, y, other, other_ranges, scale, lower, out):  # type: ignore[no-untyped-def]
    """cov(dE/dr, dE'/dr') of all geometries into out (S 3N, S' 3N'); lower: the blocks up to the diagonal alone."""
    rows, columns = slopes.shape[2], other.shape[2]
    for a in range(len(x)):
        for b in range(a + 1 if lower else len(y)):
            block = np.zeros((rows, columns))
            for e in range(len(ranges)):
                first, last = ranges[e, 0], ranges[e, 1]
                begin, end = other_ranges[e, 0], other_ranges[e, 1]
                if last > first and end > begin:
                    own, its = slopes[a, first:last], other[b, begin:end]
                    _gradient_block(x[a, first:last], own, y[b, begin:end], its, scale, block)
            out[a * rows : (a + 1) * rows, b * columns : (b + 1) * columns] = block


def gradient_covariance(one: Described, other: Described, scale: float, out: FloatArray) -> None:
    """cov(dE/dr, dE'/dr') (S 3N, S' 3N') into `out`; of a group with itself the lower triangle of blocks alone."""
    _fill_gradients(
        one.inputs, one.slopes, one.ranges, other.inputs, other.slopes, other.ranges, scale, one is other, out
    )


def energy_covariance(one: Described, other: Described, scale: float) -> tuple[FloatArray, FloatArray]:
    """cov(E, E') (S, S') and cov(dE/dr, E') (S 3N, S')."""
    energies = np.zeros((len(one), len(other)))
    gradients = np.zeros((len(one), one.coordinates, len(other)))
    for (first, last), (begin, end) in zip(one.ranges, other.ranges, strict=True):
        if first == last or begin == end:
            continue
        y = other.inputs[:, begin:end]
        flat = y.reshape(-1, y.shape[2])
        # Geometry by geometry: the mixed inputs of all would be larger than the covariance.
        for s in range(len(one)):
            factors = (1.0 + one.inputs[s, first:last] @ flat.T * scale).reshape(last - first, len(other), end - begin)
            energies[s] += (factors**2).sum((0, 2))
            mixed = (factors.transpose(1, 0, 2) @ y).reshape(len(other), -1)
            gradients[s] += (
                2.0 * scale * one.slopes[s, first:last].transpose(1, 0, 2).reshape(one.coordinates, -1) @ mixed.T
            )
    return energies, gradients.reshape(-1, len(other))
