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
from functools import cached_property

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.storage.checksums import digest
from hpcir.training.regression.covariance import Described, Places
from hpcir.training.regression.solvers import MAX_DENSE_ROWS, DenseSolver, IterativeSolver, Solved, Solver
from hpcir.training.split import stream

# Length of the kernel, in units of the leading inputs' spread: beyond it the error hardly depends on the length.
LENGTH = 32.0


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
                gradients += _along(described.slopes[:, first:last], slopes[..., None])[..., 0].sum(1)
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
    """A process fitted to labels: the posterior's mean.

    size: the prior's standard deviation, the smaller the smoother the labels are. missed: root mean square of what the
    mean misses of the labels, atomic units; misfit: that over theirs. rows, values (n,): the labels.
    """

    mean: AtomicPolynomial
    size: float
    missed: float
    misfit: float
    rows: IntArray
    values: FloatArray

    @cached_property
    def key(self) -> str:
        """A digest of the labels."""
        return digest(self.rows, self.values)


class AtomicProcess:
    """The process on the labels of one or more molecules, and fits to parts of them.

    Rows of its covariance are the gradients of all groups, and after them the energies.
    """

    def __init__(self, groups: Sequence[Described]) -> None:
        self.groups = list(groups)
        self.scale = 1.0 / LENGTH**2
        self.places = Places.of(self.groups)
        self.solver: Solver = self._solver()
        self._last: tuple[IntArray, Solved] | None = None
        self._fits: dict[str, Fit] = {}
        self._draws: dict[tuple[str, int, int], AtomicPolynomial] = {}

    def _solver(self) -> Solver:
        if self.places.size <= MAX_DENSE_ROWS:
            return DenseSolver(self.groups, self.scale)
        return IterativeSolver(self.groups, self.scale, self._product)

    def fitted(self, targets: Sequence[Targets]) -> Fit:
        """The fit to some labels. The members of a pair that hold nothing out have one."""
        used = np.concatenate(
            [*(t.gradients_used.ravel() for t in targets), *(t.energies_used.ravel() for t in targets)]
        )
        values = np.concatenate([*(t.gradients.ravel() for t in targets), *(t.energies for t in targets)])
        rows = np.flatnonzero(used)
        key = digest(rows, values[rows])
        if key not in self._fits:
            # Gradients have no component along a molecule's translations and rotations: they say nothing of the size.
            empty = sum((5 if t.gradients.shape[1] == 6 else 6) * int(t.gradients_used.all(1).sum()) for t in targets)
            self._fits[key] = self._fit(rows, values[rows], max(len(rows) - empty, 1))
        return self._fits[key]

    def _fit(self, rows: IntArray, values: FloatArray, degrees: int) -> Fit:
        solved = self._solved(rows, values)
        size = float(np.sqrt(max(float(values @ solved.weights), 0.0) / degrees))
        misfit = solved.missed / max(float(np.sqrt(np.mean(values**2))), 1e-300)
        mean = self._polynomial(self._spread(rows, solved.weights))
        return Fit(mean, size, solved.missed, misfit, rows, values)

    def drawn(self, fit: Fit, seed: int, draw: int) -> AtomicPolynomial:
        """The addition of draw number `draw` of a fit's posterior to its mean."""
        key = fit.key, seed, draw
        if key not in self._draws:
            prior = self.prior_draw(fit.size, stream(seed, "draws of the process", draw))
            found = [prior.evaluate(group) for group in self.groups]
            sampled = np.concatenate([*(g.ravel() for _, g in found), *(e for e, _ in found)])[fit.rows]
            weights = self._solved(fit.rows, fit.values).solve(sampled)
            self._draws[key] = prior.plus(self._polynomial(self._spread(fit.rows, weights)), -1.0)
        return self._draws[key]

    def _solved(self, rows: IntArray, values: FloatArray) -> Solved:
        """The covariance of some rows solved for their values. Members that learn the same labels share what they
        can."""
        if self._last is not None and np.array_equal(self._last[0], rows):
            return self._last[1].again(values)
        self._last = None  # makes room for the next
        solved = self.solver.solved(rows, values)
        self._last = rows, solved
        return solved

    def _spread(self, rows: IntArray, weights: FloatArray) -> FloatArray:
        """Weights of some rows among all, the others 0."""
        found = np.zeros(self.places.size)
        found[rows] = weights
        return found

    def _product(self, weights: FloatArray) -> FloatArray:
        """The covariance of all rows times weights, which is never formed."""
        values = [self._polynomial(weights).evaluate(group) for group in self.groups]
        return np.concatenate([*(g.ravel() for _, g in values), *(e for e, _ in values)])

    def prior_draw(self, size: float, generator: np.random.Generator) -> AtomicPolynomial:
        """A polynomial from the prior of standard deviation `size`."""
        elements, width = len(self.groups[0].ranges), self.groups[0].inputs.shape[2]
        constants = size * generator.standard_normal(elements)
        linear = size * np.sqrt(2.0 * self.scale) * generator.standard_normal((elements, width))
        square = size * self.scale * generator.standard_normal((elements, width, width))
        return AtomicPolynomial(constants, linear, (square + square.transpose(0, 2, 1)) / 2)

    def _polynomial(self, weights: FloatArray) -> AtomicPolynomial:
        """The coefficients of the sum over the rows of covariance times weight."""
        elements, width = len(self.groups[0].ranges), self.groups[0].inputs.shape[2]
        constants, linear, square = np.zeros(elements), np.zeros((elements, width)), np.zeros((elements, width, width))
        for number, group in enumerate(self.groups):
            gradient_rows, energy_rows = self.places.of_group(number)
            ofs = weights[energy_rows]
            along = weights[gradient_rows].reshape(len(group), -1)
            for e, (first, last) in enumerate(group.ranges):
                if first == last:
                    continue
                x = group.inputs[:, first:last]
                moved = _along(along[:, None, None, :], group.slopes[:, first:last])[:, :, 0]
                constants[e] += ofs.sum() * (last - first)
                linear[e] += 2.0 * self.scale * (ofs[:, None, None] * x + moved).sum((0, 1))
                x, moved = x.reshape(-1, width), moved.reshape(-1, width)
                crossed = x.T @ moved
                square[e] += self.scale**2 * ((x * np.repeat(ofs, last - first)[:, None]).T @ x + crossed + crossed.T)
        return AtomicPolynomial(constants, linear, square)


def _along(one: FloatArray, other: FloatArray) -> FloatArray:
    """The product of arrays of matrices in the lower precision of the two, in double precision."""
    kind = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    found: FloatArray = (one.astype(kind, copy=False) @ other.astype(kind, copy=False)).astype(float, copy=False)
    return found
