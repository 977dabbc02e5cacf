"""Trust by distance: of the environments of a target molecule from those that the model was trained on.

Two measures. Distance: an environment's distance to the nearest training environment of its element, in standardised
descriptors reduced to their principal components, in units of how far training environments are from one another
(the median distance of one to its nearest other): about 1 is inside, many times that is far. Extrapolation: how far
the worst symmetry function lies outside the range seen in training, as a fraction of that range (Behler, Int. J.
Quantum Chem. 115, 1032, 2015).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.errors import InputError
from hpcir.molecules.structures import symbols

MAX_COMPONENTS = 12
MAX_POINTS = 20_000
EXPLAINED_VARIANCE = 0.999


@dataclass(frozen=True)
class ElementReference:
    """The training environments of one element, for distances.

    lowest, highest, mean, scale (F,) of the features; axes (F, P) principal components of the standardised features;
    tree: nearest-neighbour search over the (K, P + 1) training points; spacing: median distance of a point to its
    nearest other; count: environments seen.
    """

    lowest: FloatArray
    highest: FloatArray
    mean: FloatArray
    scale: FloatArray
    axes: FloatArray
    tree: Any
    spacing: float
    count: int

    def distances(self, features: FloatArray) -> FloatArray:
        """(K,) distance of environments (K, F) to the nearest training environment, in units of `spacing`."""
        distance, _ = self.tree.query(self.reduced(features))
        return np.asarray(distance, float) / self.spacing

    def reduced(self, features: FloatArray) -> FloatArray:
        """Environments (K, F) as points (K, P + 1), see `reduced_points`."""
        return reduced_points((np.asarray(features, float) - self.mean) / self.scale, self.axes)

    def excess(self, features: FloatArray) -> FloatArray:
        """(K, F) how far each feature is outside the training range, as a fraction of the range; 0 inside."""
        outside = np.maximum(self.lowest - features, features - self.highest)
        return np.asarray(np.maximum(outside, 0) / self.scale_of_range, float)

    @property
    def scale_of_range(self) -> FloatArray:
        """(F,) width of each feature's training range; where it is nothing, of the widest feature's thousandth."""
        width = self.highest - self.lowest
        return np.asarray(np.maximum(width, max(1e-3 * float(width.max(initial=0)), 1e-12)), float)


@dataclass(frozen=True)
class AtomTrust:
    """Trust figures of one atom of the target over a trajectory of T frames.

    name such as 'C12' (1-based atom). mean_spread, largest_spread: committee spread as it was given (NaN when it was
    not). mean_distance, largest_distance: to the nearest training environment, see the module. outside: fraction of
    frames in which some symmetry function is outside the training range. excess: the largest such excess, a
    fraction of the range; function: the index of that symmetry function, -1 when none was ever outside;
    description: it in words.
    """

    atom: int
    name: str
    mean_spread: float
    largest_spread: float
    mean_distance: float
    largest_distance: float
    outside: float
    excess: float
    function: int = -1
    description: str = ""


def element_reference(features: FloatArray, most: int = MAX_POINTS) -> ElementReference:
    """The reference of one element from its training environments (K, F); evenly thinned to `most` for the search.

    Raises InputError when there is no environment.
    """
    from scipy.spatial import cKDTree

    features = np.asarray(features, float)
    if features.ndim != 2 or len(features) == 0:
        raise InputError("no training environments for an element", value=f"features of shape {features.shape}")
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-6 * max(float(scale.max(initial=0)), 1e-12), scale, np.inf)  # constant: not counted
    thinned = features[np.linspace(0, len(features) - 1, min(len(features), most)).round().astype(int)]
    standard = (thinned - mean) / scale
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    enough = int(np.searchsorted(np.cumsum(values), EXPLAINED_VARIANCE * values.sum())) + 1
    axes = vectors[:, : min(enough, MAX_COMPONENTS)]
    points = reduced_points(standard, axes)
    tree = cKDTree(points)
    spacing = 0.0
    if len(points) > 1:
        spacing = float(np.median(np.asarray(tree.query(points, k=2)[0])[:, 1]))
    lowest, highest = features.min(0), features.max(0)
    return ElementReference(lowest, highest, mean, scale, axes, tree, spacing or 1.0, len(features))


def reduced_points(standard: FloatArray, axes: FloatArray) -> FloatArray:
    """Standardised environments (K, F) as principal components and the length of what they leave out, (K, P + 1).

    The last coordinate tells an environment that differs in a direction in which the training data does not vary.
    """
    points = standard @ axes
    left = np.sqrt(np.maximum((standard**2).sum(1) - (points**2).sum(1), 0))
    return np.asarray(np.column_stack([points, left]), float)


def references(frames: Iterable[tuple[IntArray, FloatArray]], most: int = MAX_POINTS) -> dict[int, ElementReference]:
    """References by element from labelled geometries: (numbers (N,), features (N, F)) each, masked atoms left out."""
    collected: dict[int, list[FloatArray]] = {}
    for numbers, features in frames:
        for element in np.unique(numbers).tolist():
            collected.setdefault(element, []).append(features[numbers == element])
    return {element: element_reference(np.concatenate(parts), most) for element, parts in collected.items()}


def trust_table(
    known: dict[int, ElementReference],
    functions: SymmetryFunctionSet,
    numbers: IntArray,
    features: FloatArray,
    spreads: FloatArray | None = None,
) -> list[AtomTrust]:
    """One row for every atom of a target, the least trusted first (by largest distance).

    numbers (N,); features (T, N, F) over a trajectory; spreads (T, N) of the forces, in any unit, when they are
    known. Raises InputError for an element that was never trained on.
    """
    table = []
    names = symbols(numbers)
    for atom, element in enumerate(np.asarray(numbers).tolist()):
        if element not in known:
            raise InputError(
                f"atom {atom + 1} ({names[atom]}) is of an element that the training data does not have",
                hint="add a molecule with it to sampling.seeds",
            )
        spread = np.full(len(features), np.nan) if spreads is None else spreads[:, atom]
        table.append(
            _atom_trust(known[element], functions, atom, f"{names[atom]}{atom + 1}", features[:, atom], spread)
        )
    return sorted(table, key=lambda row: -row.largest_distance)


def _atom_trust(
    known: ElementReference,
    functions: SymmetryFunctionSet,
    atom: int,
    name: str,
    features: FloatArray,
    spread: FloatArray,
) -> AtomTrust:
    distance = known.distances(features)
    excess = known.excess(features)
    worst = int(np.argmax(excess.max(0)))
    largest = float(excess[:, worst].max())
    function = worst if largest > 0 else -1
    return AtomTrust(
        atom=atom,
        name=name,
        mean_spread=float(spread.mean()),
        largest_spread=float(spread.max()),
        mean_distance=float(distance.mean()),
        largest_distance=float(distance.max()),
        outside=float((excess > 0).any(1).mean()),
        excess=largest,
        function=function,
        description=functions.describe(function) if function >= 0 else "",
    )
