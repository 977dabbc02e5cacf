"""Models with random weights: smooth potentials of the right size and cost, for benchmarks and tests."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee


def random_committee(
    stream: np.random.Generator,
    features: int,
    hidden: tuple[int, ...],
    members: int,
    n_outputs: int,
    dropped: int,
) -> NetworkCommittee:
    """A committee on all but `dropped` of the features, weights of variance 1 / inputs."""
    active = np.sort(stream.permutation(features)[: features - dropped])
    sizes = (len(active), *hidden, n_outputs)
    layers = list(pairwise(sizes))
    return NetworkCommittee(
        active=active.astype(np.int64),
        shift=0.3 * stream.standard_normal(len(active)),
        scale=stream.uniform(0.5, 1.5, len(active)),
        weights=tuple(stream.standard_normal((members, b, a)) / np.sqrt(a) for a, b in layers),
        biases=tuple(0.1 * stream.standard_normal((members, b)) for _, b in layers),
    )


def random_model(
    functions: SymmetryFunctionSet,
    seed: int,
    *,
    hidden: tuple[int, ...] = (30, 30),
    members: int = 1,
    dropped: int = 0,
    atomic_dipoles: bool = False,
    scale: float = 1.0,
) -> Model:
    """A model of all elements of `functions`, with outputs multiplied by `scale` (small: a soft potential)."""
    stream = np.random.Generator(np.random.Philox(key=seed))
    dipoles = len(functions.elements) * len(functions.shells) if atomic_dipoles else 0

    def committee(n_outputs: int) -> NetworkCommittee:
        made = random_committee(stream, functions.n_features, hidden, members, n_outputs, dropped)
        weights = (*made.weights[:-1], made.weights[-1] * scale)
        return NetworkCommittee(made.active, made.shift, made.scale, weights, made.biases)

    return Model(
        functions=functions,
        energy={z: committee(1) for z in functions.elements},
        charge={z: committee(1 + dipoles) for z in functions.elements},
        offsets={z: -0.5 * z for z in functions.elements},
        level="random weights",
    )
