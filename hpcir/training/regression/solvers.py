"""Linear systems of a process, (K + noise) w = y: by a Cholesky factor, or by conjugate gradients where K is too large.

The covariance of many labels is never formed: its product with a vector is the polynomial of `process` with these
weights, evaluated at the labels, and costs two passes over the inputs' derivatives. A preconditioner from the columns
of some geometries (Nystrom's approximation; Chmiela et al., Sci. Adv. 9, eadf0873, 2023) keeps the passes few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from hpcir.arrays import FloatArray, IntArray
from hpcir.training.regression.covariance import Described, Places, energy_covariance, gradient_covariance
from hpcir.training.split import stream

# Rows of a covariance that is formed and factorised, at most.
MAX_DENSE_ROWS = 9000
# Variances of the noise over the mean variance of a gradient's component, of which the likeliest is taken: converged
# labels have next to none, those of coarse grids or of ring polymers more.
NOISES = (1e-7, 1e-6, 1e-5, 1e-4)
# Rows of the covariance that it is chosen by, at most.
NOISE_ROWS = 1200
# The least noise of an iterative solution: with less the passes become many.
MIN_ITERATIVE_NOISE = 1e-5
# Columns of the preconditioner, at most, and passes.
COLUMNS, MAX_PASSES = 3000, 600
# Size of the remainder at the end: over that of the noise's share, or over that of the values.
TOLERANCE, VALUES_TOLERANCE = 0.1, 1e-4
# Share of the mean variance that keeps the preconditioner's own covariance positive definite.
JITTER = 1e-7
# Rows and geometries that columns are computed for at a time.
CHUNK_ROWS, CHUNK_GEOMETRIES = 2000, 50


@dataclass(frozen=True)
class Solved:
    """A solved system: weights w (n,) of the values, and the solution for other right-hand sides.

    missed: root mean square of what K w misses of the values, in their units.
    """

    weights: FloatArray
    missed: float
    noise: float
    solve: Callable[[FloatArray], FloatArray]

    def again(self, values: FloatArray) -> Solved:
        """The same system solved for other values."""
        weights = self.solve(values)
        return replace(self, weights=weights, missed=_rms(self.noise * weights))


class Solver(Protocol):
    """Solutions of the systems of some rows of a covariance."""

    def solved(self, rows: IntArray, values: FloatArray) -> Solved:
        """The system of `rows` for their values (n,), with the likeliest noise."""


class DenseSolver:
    """The whole covariance of some groups, and Cholesky factors of its parts."""

    def __init__(self, groups: Sequence[Described], scale: float) -> None:
        places = Places.of(groups)
        # The lower triangle alone.
        self.covariance = np.zeros((places.size, places.size))
        for a, one in enumerate(groups):
            rows, energy_rows = places.of_group(a)
            for b, other in enumerate(groups):
                columns, energy_columns = places.of_group(b)
                energies, gradients = energy_covariance(one, other, scale)
                self.covariance[energy_columns, rows] = gradients.T
                if b <= a:
                    self.covariance[energy_rows, energy_columns] = energies
                    gradient_covariance(one, other, scale, self.covariance[rows, columns])
        self.mean_variance = float(np.diag(self.covariance)[: places.gradients[-1].stop].mean())

    def solved(self, rows: IntArray, values: FloatArray) -> Solved:
        """See Solver."""
        noise = self.likeliest_noise(rows, values) * self.mean_variance
        factor, noise = factorised(self.covariance, rows, noise)

        def solve(right: FloatArray) -> FloatArray:
            found: FloatArray = cho_solve((factor, False), right, check_finite=False)
            return found

        weights = solve(values)
        return Solved(weights, _rms(noise * weights), noise, solve)

    def likeliest_noise(self, rows: IntArray, values: FloatArray) -> float:
        """The one of NOISES with the largest likelihood of the first rows' values, whatever the prior's size."""
        rows, values = rows[:NOISE_ROWS], values[:NOISE_ROWS]
        found = []
        for noise in NOISES:
            factor, _ = factorised(self.covariance, rows, noise * self.mean_variance)
            weighed = float(values @ cho_solve((factor, False), values, check_finite=False))
            found.append(-0.5 * len(rows) * np.log(max(weighed, 1e-300)) - np.log(np.diag(factor)).sum())
        return NOISES[int(np.argmax(found))]


def factorised(covariance: FloatArray, rows: IntArray, noise: float) -> tuple[FloatArray, float]:
    """Upper Cholesky factor of the covariance (its lower triangle counts) of some rows with noise of that variance, and
    the noise: more of it where rounding asks for it."""
    while True:
        matrix = covariance[np.ix_(rows, rows)]
        matrix[np.diag_indices_from(matrix)] += noise
        try:
            # The lower triangle by rows is the upper one by columns, which is factorised where it lies.
            factor: FloatArray = cholesky(matrix.T, lower=False, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            noise *= 10.0
        else:
            return factor, noise


class IterativeSolver:
    """Conjugate gradients on the covariance of some groups.

    product: the covariance of all rows times weights (size,).
    """

    def __init__(self, groups: Sequence[Described], scale: float, product: Callable[[FloatArray], FloatArray]) -> None:
        self.groups, self.scale, self.product = list(groups), scale, product
        self.places = Places.of(groups)
        self.picked = _picked(self.groups)
        self.columns, self.own = self._columns()
        self.mean_variance = self._mean_variance()
        self._reduce_columns()

    def _columns(self) -> tuple[FloatArray, IntArray]:
        """Covariances (size, columns) of all rows with the gradients of the picked geometries, and these rows."""
        some = [group.of(picked) for group, picked in zip(self.groups, self.picked, strict=True)]
        ends = np.cumsum([0, *(len(g) * g.coordinates for g in some)])
        found, own = np.zeros((self.places.size, ends[-1])), []
        for b, other in enumerate(some):
            columns = slice(ends[b], ends[b + 1])
            first, width = self.places.gradients[b].start, other.coordinates
            own.append((first + self.picked[b][:, None] * width + np.arange(width)).ravel())
            for one, rows, energy_rows in zip(self.groups, self.places.gradients, self.places.energies, strict=True):
                gradients, energies = found[rows], found[energy_rows]
                for start in range(0, len(one), CHUNK_GEOMETRIES):
                    part = one.of(np.arange(start, min(start + CHUNK_GEOMETRIES, len(one))))
                    here = slice(start * one.coordinates, (start + len(part)) * one.coordinates)
                    gradient_covariance(part, other, self.scale, gradients[here, columns])
                    energies[start : start + len(part), columns] = energy_covariance(other, part, self.scale)[1].T
        return found, np.concatenate(own).astype(int)

    def _mean_variance(self) -> float:
        """Mean variance of a component of the gradients."""
        total = 0.0
        for group in self.groups:
            block = np.zeros((group.coordinates, group.coordinates))
            for row in range(len(group)):
                one = group.of(np.array([row]))
                gradient_covariance(one, one, self.scale, block)
                total += float(np.trace(block))
        return total / sum(len(group) * group.coordinates for group in self.groups)

    def _reduce_columns(self) -> None:
        """Columns C turned into C L^-T, with L L^T the covariance of the picked rows: their product with their
        transpose approximates the whole covariance."""
        middle = self.columns[self.own]
        middle = (middle + middle.T) / 2
        middle[np.diag_indices_from(middle)] += JITTER * self.mean_variance
        lower = cholesky(middle, lower=True, overwrite_a=True, check_finite=False)
        for start in range(0, len(self.columns), CHUNK_ROWS):
            part = self.columns[start : start + CHUNK_ROWS]
            part[:] = solve_triangular(lower, part.T, lower=True, check_finite=False).T

    def _likeliest_noise(self, rows: IntArray, values: FloatArray) -> float:
        """Chosen as by DenseSolver, by the first geometries of the largest group."""
        number = int(np.argmax([len(group) for group in self.groups]))
        group = self.groups[number]
        count = max(1, min(len(group), NOISE_ROWS // group.coordinates))
        start = self.places.gradients[number].start
        inside = (rows >= start) & (rows < start + count * group.coordinates)
        few = DenseSolver([group.of(np.arange(count))], self.scale)
        return max(few.likeliest_noise(rows[inside] - start, values[inside]), MIN_ITERATIVE_NOISE)

    def solved(self, rows: IntArray, values: FloatArray) -> Solved:
        """See Solver."""
        noise = self._likeliest_noise(rows, values) * self.mean_variance
        columns = self.columns if len(rows) == self.places.size else self.columns[rows]
        gram = columns.T @ columns
        gram[np.diag_indices_from(gram)] += noise
        factor = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)

        def preconditioned(right: FloatArray) -> FloatArray:
            found: FloatArray = right - columns @ cho_solve((factor, True), columns.T @ right, check_finite=False)
            return found

        def times(weights: FloatArray) -> FloatArray:
            whole = np.zeros(self.places.size)
            whole[rows] = weights
            found: FloatArray = self.product(whole)[rows] + noise * weights
            return found

        def solve(right: FloatArray) -> FloatArray:
            return conjugate_gradients(times, preconditioned, right, noise)[0]

        weights, left = conjugate_gradients(times, preconditioned, values, noise)
        return Solved(weights, _rms(noise * weights + left), noise, solve)


def conjugate_gradients(
    times: Callable[[FloatArray], FloatArray],
    preconditioned: Callable[[FloatArray], FloatArray],
    right: FloatArray,
    noise: float,
) -> tuple[FloatArray, FloatArray]:
    """The solution w of times(w) = right, and what is left, right - times(w): until that is TOLERANCE of noise times w,
    which a process misses of its values anyway, or VALUES_TOLERANCE of the values, or MAX_PASSES are done."""
    weights, left = np.zeros_like(right), right.copy()
    enough = VALUES_TOLERANCE**2 * float(right @ right)
    direction = along = preconditioned(left)
    size = float(left @ along)
    for _ in range(MAX_PASSES):
        moved = times(direction)
        step = size / float(direction @ moved)
        weights += step * direction
        left -= step * moved
        if left @ left <= max((TOLERANCE * noise) ** 2 * float(weights @ weights), enough):
            break
        along = preconditioned(left)
        size, before = float(left @ along), size
        direction = along + size / before * direction
    return weights, left


def _picked(groups: Sequence[Described]) -> list[IntArray]:
    """Geometries of each group, in proportion and at random, whose coordinates are COLUMNS in all, at most."""
    rows = sum(len(g) * g.coordinates for g in groups)
    share = min(1.0, COLUMNS / rows)
    found = []
    for number, group in enumerate(groups):
        count = min(len(group), round(share * len(group)))
        order = stream(0, "columns of a preconditioner", number).permutation(len(group))
        found.append(np.sort(order[:count]))
    return found


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))
