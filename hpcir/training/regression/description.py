"""Geometries described for the process: a richer set of symmetry functions than the networks', reduced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.descriptors.derivatives import features_and_derivatives, features_only
from hpcir.training.reduction import Reduction, fit_reductions
from hpcir.training.regression.covariance import Described, ranges_of
from hpcir.training.regression.process import AtomicPolynomial

# Most inputs of an atom; what is left out of more is below the error of a few hundred labels.
INPUTS = 300
# The process wants the weak combinations louder than a network does (see `reduction.WHITENING`).
WHITENING = 0.6
# Geometries whose derivatives are held at a time stay below this size.
CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Description:
    """Symmetry functions and their reductions, element -> Reduction."""

    functions: SymmetryFunctionSet
    reductions: dict[int, Reduction]

    @classmethod
    def fitted(cls, functions: SymmetryFunctionSet, sample: list[tuple[IntArray, FloatArray]]) -> Description:
        """Reductions of `functions` for a sample of geometries, (numbers (N,), positions (S, N, 3) bohr) each."""
        return cls(functions, fit_reductions(functions, sample, INPUTS, whitening=WHITENING))

    def describe(self, numbers: IntArray, positions: FloatArray, precision: type = np.float64) -> Described:
        """Geometries (S, N, 3) in bohr of a molecule whose atoms are sorted by element; derivatives in a precision."""
        ranges = ranges_of(numbers, sorted(self.reductions))
        count, atoms = positions.shape[:2]
        width = next(iter(self.reductions.values())).n_inputs
        inputs, slopes = np.zeros((count, atoms, width)), np.zeros((count, atoms, 3 * atoms, width), precision)
        per = max(1, CHUNK_BYTES // (8 * self.functions.n_features * 3 * atoms * atoms))
        for start in range(0, count, per):
            part = slice(start, start + per)
            self._fill(numbers, positions[part], inputs[part], slopes[part])
        return Described(inputs, slopes, ranges)

    def _fill(self, numbers: IntArray, positions: FloatArray, inputs: FloatArray, slopes: FloatArray) -> None:
        features, derivatives, neighbours = features_and_derivatives(self.functions, numbers, positions)
        by_atom = slopes.reshape(*slopes.shape[:2], len(numbers), 3, -1)
        for i, z in enumerate(numbers):
            reduction = self.reductions[int(z)]
            inputs[:, i] = reduction.apply(features[:, i])
            own = reduction.apply_slopes(derivatives[:, i])
            by_atom[:, i, i] -= own.sum(1)
            for k in range(neighbours.shape[2]):
                present = np.flatnonzero(neighbours[:, i, k] >= 0)
                by_atom[present, i, neighbours[present, i, k]] += own[present, k]

    def evaluate(
        self, polynomials: list[AtomicPolynomial], numbers: IntArray, positions: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Energies (P, S) and forces (P, S, N, 3) of several polynomials at geometries as in `describe`, without the
        derivatives of the inputs."""
        elements = sorted(self.reductions)
        count, atoms = positions.shape[:2]
        energies, forces = np.zeros((len(polynomials), count)), np.zeros((len(polynomials), count, atoms, 3))
        per = max(1, CHUNK_BYTES // (8 * self.functions.n_features * 3 * atoms * atoms))
        for start in range(0, count, per):
            part = np.arange(start, min(count, start + per))
            features, derivatives, neighbours = features_and_derivatives(self.functions, numbers, positions[part])
            for i, z in enumerate(numbers):
                reduction, element = self.reductions[int(z)], elements.index(int(z))
                x = reduction.apply(features[:, i])
                moved = derivatives[:, i].reshape(len(part), -1, self.functions.n_features).transpose(0, 2, 1)
                slopes = np.zeros((len(part), 1, self.functions.n_features))
                # One after the other: the last bits of a product depend on how many go together.
                for p, polynomial in enumerate(polynomials):
                    energy, slope = polynomial.atomic(element, x)
                    energies[p, part] += energy
                    slopes[:, 0, reduction.active] = (slope @ reduction.projection.T) * reduction.scale
                    # (S, neighbours, 3): what each neighbour feels of this atom's energy.
                    pulls = (slopes @ moved).reshape(len(part), -1, 3)
                    forces[p, part, i] += pulls.sum(1)
                    for k in range(neighbours.shape[2]):
                        present = np.flatnonzero(neighbours[:, i, k] >= 0)
                        forces[p, part[present], neighbours[present, i, k]] -= pulls[present, k]
        return energies, forces

    def inputs(self, numbers: IntArray, positions: FloatArray) -> FloatArray:
        """Inputs (S, N, K) of geometries as in `describe`."""
        features = features_only(self.functions, numbers, positions)
        return np.stack([self.reductions[int(z)].apply(features[:, i]) for i, z in enumerate(numbers)], 1)
