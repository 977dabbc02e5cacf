"""Gaussian process of the atomic charges and dipoles behind the labels' dipole moments.

A dipole moment is mu = sum_i O_i y_i + constant (`training.dataset.dipole_operator`), with the outputs y_i (n,) of atom
i: its charge and the components of its dipole along vectors to its neighbours. Every output is a process of the kernel
of `covariance`, so that cov(mu, mu') = sum_ij k(x_i, x'_j) O_i O'_j^T over atoms of one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.training.regression.process import LENGTH
from hpcir.training.regression.solvers import factorised
from hpcir.training.split import stream

# Variance of the noise over the mean variance of a component.
NOISE = 1e-6
SCALE = 1.0 / LENGTH**2


@dataclass(frozen=True)
class Charged:
    """Geometries of one molecule, atoms sorted by element: inputs (S, N, K); operator (S, 3, N, n); ranges (E, 2)."""

    inputs: FloatArray
    operator: FloatArray
    ranges: IntArray

    def __len__(self) -> int:
        return len(self.inputs)


def covariance(one: Charged, other: Charged) -> FloatArray:
    """cov(mu, mu') (3 S, 3 S')."""
    out = np.zeros((len(one), 3, len(other), 3))
    for (first, last), (begin, end) in zip(one.ranges, other.ranges, strict=True):
        if first == last or begin == end:
            continue
        y = other.inputs[:, begin:end].reshape(-1, other.inputs.shape[2])
        its = other.operator[:, :, begin:end].transpose(0, 2, 3, 1).reshape(len(other), -1, 3)
        for s in range(len(one)):
            kernel = (1.0 + SCALE * (one.inputs[s, first:last] @ y.T)) ** 2
            own = one.operator[s, :, first:last].transpose(0, 2, 1)  # (3, n, atoms)
            mixed = (own.reshape(-1, last - first) @ kernel).reshape(3, own.shape[1], len(other), end - begin)
            left = mixed.transpose(2, 0, 3, 1).reshape(len(other), 3, -1)
            out[s] += (left @ its).transpose(1, 0, 2)
    return out.reshape(3 * len(one), 3 * len(other))


class DipoleProcess:
    """The process on dipole moments of one or more molecules, and fits to parts of them at other geometries."""

    def __init__(self, groups: Sequence[Charged], places: Sequence[Charged]) -> None:
        """groups: where there are labels; places: where dipoles are wanted."""
        self.groups, self.places = list(groups), list(places)
        self.matrix = np.vstack([np.hstack([covariance(a, b) for b in self.groups]) for a in self.groups])
        self.across = [np.hstack([covariance(a, b) for b in self.groups]) for a in self.places]

    def fitted(
        self, values: Sequence[FloatArray], used: Sequence[BoolArray], seed: int, draw: int
    ) -> list[tuple[FloatArray, FloatArray]]:
        """For each of the places the posterior mean (S, 3), and what draw number `draw` adds to it. values (S, 3),
        used (S,): of each group, without the constant."""
        rows = np.flatnonzero(np.concatenate([np.repeat(u, 3) for u in used]))
        target = np.concatenate([v.ravel() for v in values])[rows]
        factor, _ = factorised(self.matrix, rows, NOISE * float(np.diag(self.matrix).mean()))
        weights = cho_solve((factor, False), target, check_finite=False)
        size = np.sqrt(max(float(target @ weights), 0.0) / max(len(rows), 1))
        known = np.concatenate([self._prior(g, size, seed, draw).ravel() for g in self.groups])[rows]
        sampled = cho_solve((factor, False), known, check_finite=False)
        found = []
        for place, across in zip(self.places, self.across, strict=True):
            drawn = self._prior(place, size, seed, draw) - (across[:, rows] @ sampled).reshape(-1, 3)
            found.append(((across[:, rows] @ weights).reshape(-1, 3), drawn))
        return found

    @staticmethod
    def _prior(group: Charged, size: float, seed: int, draw: int) -> FloatArray:
        """Dipoles (S, 3) of draw number `draw` of the prior; the same function wherever it is evaluated."""
        width, outputs = group.inputs.shape[2], group.operator.shape[3]
        total = np.zeros((len(group), 3))
        for e, (first, last) in enumerate(group.ranges):
            if first == last:
                continue
            x = group.inputs[:, first:last]
            for o in range(outputs):
                random = stream(seed, f"draws of the dipole process {e} {o}", draw)
                constant, linear = random.standard_normal(), random.standard_normal(width)
                bent = x @ random.standard_normal((width, width))
                value = constant + np.sqrt(2.0 * SCALE) * (x @ linear) + SCALE * (bent * x).sum(-1)
                total += size * np.einsum("si,sxi->sx", value, group.operator[:, :, first:last, o])
        return total
