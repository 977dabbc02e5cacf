"""From the symmetry functions of an element to the few inputs that its networks are trained on.

Many symmetry functions never fire in a molecule, and the others are correlated. The inputs are their principal
components: x = ((G[active] - shift) * scale) @ projection. Being linear, the reduction disappears into the
first layer's weights when training is over, so that it costs nothing in dynamics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.descriptors.derivatives import features_and_derivatives
from hpcir.models.networks import NetworkCommittee
from hpcir.runtime.mpi import Communicator, SerialCommunicator, collective

# Largest slope (1/bohr) of a function that counts as zero everywhere.
MAX_SILENT_SLOPE = 1e-7
# Most inputs of an element, and the smallest eigenvalue that makes one, relative to the largest.
MAX_INPUTS = 80
MIN_EIGENVALUE = 1e-7
# The same where the set has contractions: what they add to small molecules is in the small eigenvalues
# (docs/benchmarks-published.md).
CONTRACTED_FLOOR = 1e-10
# The inputs' spread goes as the eigenvalue to the power (1 - WHITENING) / 2. Scaling every function to the same
# spread, as is often done, lets the weak ones speak as loudly as the strong, and forces of unseen geometries
# come out worse.
WHITENING = 0.25
# The inputs are scaled so that these many have unit spread on average.
UNIT_SPREAD_INPUTS = 20

ONE_RANK = SerialCommunicator()


@dataclass(frozen=True)
class Reduction:
    """The inputs of one element: active (n,), shift (n,), scale (n,), projection (n, K)."""

    active: IntArray
    shift: FloatArray
    scale: FloatArray
    projection: FloatArray

    @property
    def n_inputs(self) -> int:
        return int(self.projection.shape[1])

    def apply(self, features: FloatArray) -> FloatArray:
        """Inputs (..., K) of features (..., F)."""
        return ((features[..., self.active] - self.shift) * self.scale) @ self.projection

    def apply_slopes(self, slopes: FloatArray) -> FloatArray:
        """Derivatives of the inputs (..., K) from derivatives of the features (..., F)."""
        return slopes[..., self.active] @ (self.scale[:, None] * self.projection)

    def same_as(self, other: Reduction) -> bool:
        """True where two reductions are the same, bit for bit."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("active", "shift", "scale", "projection")
        )


def reduction_of(committee: NetworkCommittee) -> Reduction:
    """The reduction that a committee was trained with; without one, its own scaled features."""
    projection = committee.projection if committee.projection is not None else np.eye(len(committee.active))
    return Reduction(committee.active, committee.shift, committee.scale, projection)


@collective
def fit_reductions(
    functions: SymmetryFunctionSet,
    sample: Sequence[tuple[IntArray, FloatArray]],
    max_inputs: int = MAX_INPUTS,
    comm: Communicator = ONE_RANK,
    whitening: float = WHITENING,
) -> dict[int, Reduction]:
    """Reductions for the elements of a sample of geometries, (numbers (N,), positions (S, N, 3) bohr) each.

    comm: ranks that have the same sample and share the work (collective).
    """
    parts = [
        (numbers, part)
        for numbers, positions in sample
        for part in np.array_split(positions, max(1, len(positions) // 16))
    ]
    # Added up in the order of the parts, whoever computed them: the rounding does not depend on the number of ranks.
    mine = [_moments(functions, *part) for part in parts[comm.rank :: comm.size]]
    shares = comm.allgather(mine)
    features: dict[int, list[FloatArray]] = {}
    slopes: dict[int, FloatArray] = {}
    slope_counts: dict[int, int] = {}
    for number in range(len(parts)):
        for element, (values, gram) in shares[number % comm.size][number // comm.size].items():
            features.setdefault(element, []).append(values)
            slopes[element] = slopes.get(element, 0.0) + gram
            slope_counts[element] = slope_counts.get(element, 0) + len(values)
    floor = CONTRACTED_FLOOR if functions.contractions else MIN_EIGENVALUE
    fitted = {
        element: _fit(np.concatenate(features[element]), slopes[element] / slope_counts[element], floor, whitening)
        for element in sorted(features)
    }
    width = min(max_inputs, max(f.n_inputs for f in fitted.values()))
    return {element: _width(reduction, width) for element, reduction in fitted.items()}


def _moments(
    functions: SymmetryFunctionSet, numbers: IntArray, positions: FloatArray
) -> dict[int, tuple[FloatArray, FloatArray]]:
    """By element: the features of all its atoms (atoms, F), and the sum of (dG/dr)(dG/dr)^T (F, F)."""
    values, derivatives, _ = features_and_derivatives(functions, numbers, positions)
    found = {}
    for element in np.unique(numbers):
        here = numbers == element
        flat = derivatives[:, here].reshape(-1, functions.n_features)
        found[int(element)] = values[:, here].reshape(-1, functions.n_features), flat.T @ flat
    return found


def _width(reduction: Reduction, width: int) -> Reduction:
    """The first `width` inputs, or zeros for the missing ones."""
    projection = reduction.projection[:, :width]
    padding = np.zeros((len(projection), width - projection.shape[1]))
    return Reduction(reduction.active, reduction.shift, reduction.scale, np.hstack([projection, padding]))


def _fit(features: FloatArray, slope_gram: FloatArray, floor: float, whitening: float) -> Reduction:
    """The inputs of one element from its features (atoms, F) and slope_gram (F, F), the mean over atoms of the
    sum over displacements of (dG/dr)(dG/dr)^T: the covariance of the features when every neighbour moves by
    itself, which is of full rank also when the labels are few. floor: the
    smallest eigenvalue that makes an input, relative to the largest."""
    active = np.flatnonzero(np.sqrt(np.diag(slope_gram)) > MAX_SILENT_SLOPE)
    if len(active) == 0:
        active = np.array([0])
    shift = features[:, active].mean(0)
    scale = np.full(len(active), 1.0 / max(features[:, active].std(0).max(), np.sqrt(np.diag(slope_gram).max()) / 10))
    values, vectors = np.linalg.eigh(slope_gram[np.ix_(active, active)] * scale[0] ** 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    relative = np.maximum(values / max(values[0], 1e-30), 0.0)
    kept = relative > floor
    kept[0] = True
    # The sign of an eigenvector is a matter of rounding: the largest component is made positive.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(values))])
    projection = vectors[:, kept] * relative[kept] ** (-0.5 * whitening)
    inputs = ((features[:, active] - shift) * scale) @ projection
    leading = np.sqrt((inputs[:, :UNIT_SPREAD_INPUTS] ** 2).mean())
    return Reduction(active.astype(np.int64), shift, scale, projection / max(leading, 1e-3))
