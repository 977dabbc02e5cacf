"""Gaussian process of atomic energies, fitted to energies and forces, as a polynomial of the inputs.

With the kernel of `covariance` the posterior mean is a polynomial of degree two in the inputs of an atom,
    E_i = c + b . x_i + x_i^T A x_i,
whose coefficients follow from the solution alpha of (K + noise) alpha = y. Draws of the posterior are the mean and the
misfit of a draw of the prior (Matheron's rule: Wilson et al., J. Mach. Learn. Res. 22, 105, 2021). Few labels determine
such a process better than a network (docs/benchmarks-published.md); the network learns from it and evaluates faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.training.regression.covariance import Described, energy_covariance, gradient_covariance
from hpcir.training.split import stream

# Length of the kernel, in units of the leading inputs' spread: beyond it the error hardly depends on the length.
LENGTH = 32.0
# Variances of the noise over the mean variance of a gradient's component, of which the likeliest is taken: converged
# labels have next to none, those of coarse grids or of ring polymers more.
NOISES = (1e-7, 1e-6, 1e-5, 1e-4)
# Rows of the covariance that it is chosen by, at most.
NOISE_ROWS = 1200


@dataclass(frozen=True)
class AtomicPolynomial:
    """Energy of an atom of element e: constants[e] + linear[e] . x + x . quadratic[e] x, in hartree.

    constants (E,); linear (E, K); quadratic (E, K, K), symmetric.
    """

    constants: FloatArray
    linear: FloatArray
    quadratic: FloatArray

    def evaluate(self, described: Described) -> tuple[FloatArray, FloatArray]:
        """Energies (S,) and their gradients (S, 3N), hartree and hartree/bohr."""
        energies = np.zeros(len(described))
        gradients = np.zeros((len(described), described.coordinates))
        for e, (first, last) in enumerate(described.ranges):
            if first < last:
                atomic, slopes = self.atomic(e, described.inputs[:, first:last])
                energies += atomic.sum(1)
                gradients += np.einsum("sirk,sik->sr", described.slopes[:, first:last], slopes, optimize=True)
        return energies, gradients

    def atomic(self, element: int, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (...) of atoms of the element with that number and their derivatives by the inputs x (..., K)."""
        bent = x @ self.quadratic[element]
        return ((self.linear[element] + bent) * x).sum(-1) + self.constants[element], self.linear[element] + 2.0 * bent

    def plus(self, other: AtomicPolynomial, factor: float) -> AtomicPolynomial:
        """The sum with `factor` times another polynomial."""
        return AtomicPolynomial(
            self.constants + factor * other.constants,
            self.linear + factor * other.linear,
            self.quadratic + factor * other.quadratic,
        )


@dataclass(frozen=True)
class Targets:
    """Values of one molecule that a process is fitted to: energies (S,), gradients (S, 3N), and which of them."""

    energies: FloatArray
    gradients: FloatArray
    energies_used: BoolArray
    gradients_used: BoolArray


@dataclass(frozen=True)
class Fit:
    """A process fitted to labels: the posterior's mean, and what a draw of it adds.

    size: the prior's standard deviation, the smaller the smoother the labels are. misfit: root mean square of what the
    mean misses of the labels, over theirs.
    """

    mean: AtomicPolynomial
    drawn: AtomicPolynomial
    size: float
    misfit: float


class AtomicProcess:
    """The process on the labels of one or more molecules: their covariance, and fits to parts of them."""

    def __init__(self, groups: Sequence[Described]) -> None:
        self.groups = list(groups)
        self.scale = 1.0 / LENGTH**2
        self._last: tuple[IntArray, FloatArray] | None = None
        self.firsts = np.concatenate([[0], np.cumsum([len(g) * g.coordinates for g in self.groups])]).astype(int)
        self.energy_firsts = self.firsts[-1] + np.concatenate([[0], np.cumsum([len(g) for g in self.groups])]).astype(
            int
        )
        size = int(self.energy_firsts[-1])
        # The lower triangle alone; gradients of all groups come before the energies.
        self.covariance = np.zeros((size, size))
        for a, one in enumerate(self.groups):
            rows, energy_rows = self._places(a)
            for b, other in enumerate(self.groups):
                columns, energy_columns = self._places(b)
                energies, gradients = energy_covariance(one, other, self.scale)
                self.covariance[energy_columns, rows] = gradients.T
                if b <= a:
                    self.covariance[energy_rows, energy_columns] = energies
                    gradient_covariance(one, other, self.scale, self.covariance[rows, columns])
        self.mean_variance = float(np.diag(self.covariance)[: self.firsts[-1]].mean())

    def _places(self, group: int) -> tuple[slice, slice]:
        """Rows of a group's gradients and of its energies."""
        return (
            slice(self.firsts[group], self.firsts[group + 1]),
            slice(self.energy_firsts[group], self.energy_firsts[group + 1]),
        )

    def fitted(self, targets: Sequence[Targets], seed: int, draw: int) -> Fit:
        """The fit to some labels, with draw number `draw` of its posterior."""
        used = np.concatenate(
            [*(t.gradients_used.ravel() for t in targets), *(t.energies_used.ravel() for t in targets)]
        )
        values = np.concatenate([*(t.gradients.ravel() for t in targets), *(t.energies for t in targets)])
        rows = np.flatnonzero(used)
        factor = self._factor_of(rows, values)
        weights = np.zeros((len(values), 2))
        weights[rows, 0] = cho_solve((factor, False), values[rows], check_finite=False)
        # Gradients have no component along translations and rotations of the molecule: they say nothing of the size.
        empty = sum((5 if t.gradients.shape[1] == 6 else 6) * int(t.gradients_used.all(1).sum()) for t in targets)
        size = np.sqrt(max(float(values[rows] @ weights[rows, 0]), 0.0) / max(len(rows) - empty, 1))
        prior = self._prior_draw(size, seed, draw)
        drawn = [prior.evaluate(group) for group in self.groups]
        sampled = np.concatenate([*(g.ravel() for _, g in drawn), *(e for e, _ in drawn)])
        weights[rows, 1] = cho_solve((factor, False), sampled[rows], check_finite=False)
        missed = values[rows] - self._product(rows, weights[rows, 0])
        misfit = float(np.sqrt(np.mean(missed**2) / max(np.mean(values[rows] ** 2), 1e-300)))
        difference = prior.plus(self._polynomial(weights[:, 1]), -1.0)
        return Fit(self._polynomial(weights[:, 0]), difference, float(size), misfit)

    def _product(self, rows: IntArray, weights: FloatArray) -> FloatArray:
        """The covariance of some rows times weights (rows,), from its lower triangle."""
        lower = np.tril(self.covariance[np.ix_(rows, rows)])
        product: FloatArray = lower @ weights + lower.T @ weights - np.diag(lower) * weights
        return product

    def _factor_of(self, rows: IntArray, values: FloatArray) -> FloatArray:
        """The factor with the likeliest noise; members that learn the same labels share it."""
        if self._last is None or not np.array_equal(self._last[0], rows):
            self._last = None  # makes room for the next
            self._last = rows, self._factor(rows, self._likeliest_noise(rows, values))
        return self._last[1]

    def _factor(self, rows: IntArray, noise: float) -> FloatArray:
        """Upper Cholesky factor of the covariance of some rows with noise: more of it where rounding asks for it."""
        while True:
            matrix = self.covariance[np.ix_(rows, rows)]
            matrix[np.diag_indices_from(matrix)] += noise * self.mean_variance
            try:
                # The lower triangle by rows is the upper one by columns, which is factorised where it lies.
                factor: FloatArray = cholesky(matrix.T, lower=False, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:
                noise *= 10.0
            else:
                return factor

    def _likeliest_noise(self, rows: IntArray, values: FloatArray) -> float:
        """The one of NOISES with the largest likelihood of the first rows' values, whatever the prior's size."""
        rows = rows[:NOISE_ROWS]
        found = []
        for noise in NOISES:
            factor = self._factor(rows, noise)
            weighed = float(values[rows] @ cho_solve((factor, False), values[rows], check_finite=False))
            found.append(-0.5 * len(rows) * np.log(max(weighed, 1e-300)) - np.log(np.diag(factor)).sum())
        return NOISES[int(np.argmax(found))]

    def _prior_draw(self, size: float, seed: int, number: int) -> AtomicPolynomial:
        """A polynomial from the prior of standard deviation `size`."""
        elements, width = len(self.groups[0].ranges), self.groups[0].inputs.shape[2]
        generator = stream(seed, "draws of the process", number)
        constants = size * generator.standard_normal(elements)
        linear = size * np.sqrt(2.0 * self.scale) * generator.standard_normal((elements, width))
        square = size * self.scale * generator.standard_normal((elements, width, width))
        return AtomicPolynomial(constants, linear, (square + square.transpose(0, 2, 1)) / 2)

    def _polynomial(self, weights: FloatArray) -> AtomicPolynomial:
        """The coefficients of the sum over the rows of covariance times weight."""
        elements, width = len(self.groups[0].ranges), self.groups[0].inputs.shape[2]
        constants, linear, square = np.zeros(elements), np.zeros((elements, width)), np.zeros((elements, width, width))
        for number, group in enumerate(self.groups):
            gradient_rows, energy_rows = self._places(number)
            ofs = weights[energy_rows]
            along = weights[gradient_rows].reshape(len(group), -1)
            for e, (first, last) in enumerate(group.ranges):
                if first == last:
                    continue
                x = group.inputs[:, first:last]
                moved = np.einsum("sirk,sr->sik", group.slopes[:, first:last], along, optimize=True)
                constants[e] += ofs.sum() * (last - first)
                linear[e] += 2.0 * self.scale * (ofs[:, None, None] * x + moved).sum((0, 1))
                x, moved = x.reshape(-1, width), moved.reshape(-1, width)
                crossed = x.T @ moved
                square[e] += self.scale**2 * ((x * np.repeat(ofs, last - first)[:, None]).T @ x + crossed + crossed.T)
        return AtomicPolynomial(constants, linear, square)
