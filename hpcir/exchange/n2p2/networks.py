"""The networks of an n2p2 potential, with an own list of symmetry functions for each element, and neighbour lists.

One NetworkSet is one member of a committee, of energies or of charges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.exchange.n2p2.kernel import FunctionTables, Neighbours, all_features, all_gradients


@dataclass(frozen=True)
class ElementNetwork:
    """The symmetry functions and the network of one centre element, in atomic units.

    kind (F,): 2, 3 or 9; neighbours (F, 2): atomic numbers, the second 0 for kind 2; parameters (F, 5): eta bohr^-2,
    shift bohr, cutoff bohr, zeta, lambda; inputs x = (G - shift) * scale, (F,) each; minimum, maximum (F,): of G in
    the training set, NaN where unknown; weights[l] (n_out, n_in), biases[l] (n_out,); activations: a letter of
    `ACTIVATIONS` a layer; offset: hartree (or e, for charges) added to each atom's output.
    """

    kind: IntArray
    neighbours: IntArray
    parameters: FloatArray
    shift: FloatArray
    scale: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    activations: str
    offset: float = 0.0

    def evaluate(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Output (n,) and its gradient by the features (n, F), for features (n, F)."""
        value = (features - self.shift) * self.scale
        slopes = []
        for weight, bias, letter in zip(self.weights, self.biases, self.activations, strict=True):
            value, slope = ACTIVATIONS[letter](value @ weight.T + bias)
            slopes.append(slope)
        gradient = np.ones((len(features), 1))
        for weight, slope in zip(self.weights[::-1], slopes[::-1], strict=True):
            gradient = (gradient * slope) @ weight
        return value[:, 0] + self.offset, gradient * self.scale


def _tanh(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = np.tanh(x)
    return value, 1.0 - value**2


def _logistic(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = 0.5 * (1.0 + np.tanh(0.5 * x))
    return value, value * (1.0 - value)


def _gaussian(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = np.exp(-0.5 * x * x)
    return value, -x * value


# n2p2's letters of the activation functions: value and derivative.
ACTIVATIONS: dict[str, Any] = {
    "l": lambda x: (x, np.ones_like(x)),
    "t": _tanh,
    "s": _logistic,
    "p": lambda x: (np.logaddexp(0.0, x), _logistic(x)[0]),
    "g": _gaussian,
    "c": lambda x: (np.cos(x), -np.sin(x)),
    "e": lambda x: (np.exp(-x), -np.exp(-x)),
    "h": lambda x: (x * x, 2.0 * x),
    "r": lambda x: (np.maximum(x, 0.0), (x > 0.0).astype(float)),
}


@dataclass(frozen=True)
class NetworkSet:
    """The networks of all elements on one cutoff function (n2p2's number) with inner cutoff fraction alpha."""

    elements: dict[int, ElementNetwork]
    cutoff_type: int
    alpha: float = 0.0

    @cached_property
    def cutoff(self) -> float:
        """The longest cutoff, bohr."""
        return max(float(e.parameters[:, 2].max(initial=0.0)) for e in self.elements.values())

    def same_functions(self, other: NetworkSet) -> bool:
        """True where both have the same symmetry functions in the same order."""
        if (self.cutoff_type, self.alpha) != (other.cutoff_type, other.alpha) or set(self.elements) != set(
            other.elements
        ):
            return False
        return all(
            np.array_equal(getattr(self.elements[z], name), getattr(other.elements[z], name))
            for z in self.elements
            for name in ("kind", "neighbours", "parameters")
        )

    @cached_property
    def tables(self) -> FunctionTables:
        """The functions as the kernels want them."""
        numbers = sorted(self.elements)
        place, count = {z: n for n, z in enumerate(numbers)}, len(numbers)
        members = [self.elements[z] for z in numbers]
        parameters = np.concatenate([e.parameters for e in members])
        shells, shell = np.unique(parameters[:, :3], axis=0, return_inverse=True)
        angles, angle = np.unique(parameters[:, 3:], axis=0, return_inverse=True)
        radial: list[list[int]] = [[] for _ in range(count**2)]
        angular: list[list[int]] = [[] for _ in range(count**3)]
        for c, element in enumerate(members):
            for f, (kind, (a, b)) in enumerate(zip(element.kind, element.neighbours, strict=True)):
                if kind == 2:
                    radial[c * count + place[int(a)]].append(f)
                else:
                    low, high = sorted((place[int(a)], place[int(b)]))
                    angular[(c * count + low) * count + high].append(f)
        return FunctionTables(
            shells=shells,
            angles=angles,
            kind=np.concatenate([e.kind for e in members]),
            shell=shell.reshape(-1).astype(np.int64),
            angle=angle.reshape(-1).astype(np.int64),
            radial_start=_starts(radial),
            radial=np.array([f for row in radial for f in row], np.int64),
            angular_start=_starts(angular),
            angular=np.array([f for row in angular for f in row], np.int64),
            first=np.concatenate([[0], np.cumsum([len(e.kind) for e in members])[:-1]]).astype(np.int64),
            cutoff_type=self.cutoff_type,
            alpha=float(self.alpha),
        )

    def features(self, numbers: IntArray, neighbours: Neighbours) -> FloatArray:
        """(N, F) symmetry functions; F is the longest list, the rest of a shorter one stays zero."""
        species = np.searchsorted(sorted(self.elements), numbers).astype(np.int64)
        features = np.zeros((len(numbers), max(len(e.kind) for e in self.elements.values())))
        all_features(species, neighbours, self.tables, features)
        return features

    def atomic(self, numbers: IntArray, neighbours: Neighbours) -> tuple[FloatArray, FloatArray]:
        """Outputs (N,) and their gradient by the features (N, F)."""
        features = self.features(numbers, neighbours)
        values, gradient = np.empty(len(numbers)), np.zeros_like(features)
        for z, element in self.elements.items():
            rows = np.flatnonzero(numbers == z)
            if len(rows):
                count = len(element.kind)
                values[rows], gradient[rows, :count] = element.evaluate(features[rows, :count])
        return values, gradient

    def energy_and_forces(self, numbers: IntArray, neighbours: Neighbours) -> tuple[float, FloatArray]:
        """The sum of the outputs, and minus its gradient by the positions (N, 3)."""
        values, weights = self.atomic(numbers, neighbours)
        species = np.searchsorted(sorted(self.elements), numbers).astype(np.int64)
        gradient = np.zeros_like(neighbours.vectors)
        all_gradients(species, neighbours, self.tables, weights, gradient)
        origin = np.repeat(np.arange(len(numbers)), np.diff(neighbours.start))
        forces = np.empty((len(numbers), 3))
        for axis in range(3):
            pull = np.bincount(origin, gradient[:, axis], len(numbers))
            forces[:, axis] = pull - np.bincount(neighbours.atoms, gradient[:, axis], len(numbers))
        return float(values.sum()), forces


def _starts(rows: list[list[int]]) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


def find_neighbours(positions: FloatArray, cutoff: float, cell: FloatArray | None = None) -> Neighbours:
    """All neighbours nearer than `cutoff` (bohr), with every periodic image when a cell (3, 3) is given."""
    if cell is None:
        from scipy.spatial import cKDTree

        pairs = cKDTree(positions).query_pairs(cutoff, output_type="ndarray")
        i, j = np.concatenate([pairs, pairs[:, ::-1]]).T if len(pairs) else np.empty((2, 0), int)
        vectors = positions[j] - positions[i]
    else:
        from ase.neighborlist import primitive_neighbor_list

        search: Any = primitive_neighbor_list
        i, j, vectors = search("ijD", [True] * 3, np.asarray(cell), positions, cutoff)
    order = np.lexsort((j, i))
    start = np.searchsorted(i[order], np.arange(len(positions) + 1))
    return Neighbours(start.astype(np.int64), j[order].astype(np.int64), np.ascontiguousarray(vectors[order], float))
