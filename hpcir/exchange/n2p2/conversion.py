"""A potential read from n2p2 as a Model of hpcir, which the vector kernels run, where that is exactly the same.

Scaling, normalisation and the choice of functions go into the first layer: with x = (G - s) c,
    W x + b = (W c) G + (b - (W c) s).
A logistic neuron is a tanh neuron, 1 / (1 + exp(-y)) = 1/2 + 1/2 tanh(y / 2): its weights and bias are halved, and
the layer above takes half of its weights and half of their sum into the bias.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.exchange.n2p2.networks import ElementNetwork, NetworkSet
from hpcir.exchange.n2p2.potential import N2p2Potential
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee

# n2p2's numbers of the cutoff functions that the vector kernels have.
CUTOFF_NAMES = {1: "cosine", 2: "tanh3", 6: "polynomial"}
# (1 + lambda cos)^zeta is summed over powers of the cosine: up to here without loss of digits, and cheaply.
MAX_ZETA = 16
# The kernels sum every radial part with every power of the cosine and every pair of elements. Where that is far more
# than the functions required, computing these one by one costs less.
GRID_FACTOR, GRID_ALLOWANCE = 4, 256


def as_model(potential: N2p2Potential) -> tuple[Model | None, list[str]]:
    """The same potential as a Model and no reasons, or None and the reasons why it cannot be one."""
    sets = [*potential.energy, *potential.charge]
    elements = [element for networks in sets for element in networks.elements.values()]
    reasons = _function_reasons(sets, elements) + _network_reasons(potential, elements)
    if reasons:
        return None, reasons
    functions = _functions(sets, elements)
    wanted = max(len(element.kind) for element in elements)
    sums = functions.n_radial + len(functions.pairs) * len(functions.shells) * (functions.zeta_max + 1)
    if sums > GRID_FACTOR * wanted + GRID_ALLOWANCE:
        return None, [f"{wanted} functions of so many radial parts that the kernels would need {sums} sums"]
    offsets = {z: potential.energy[0].elements[z].offset for z in potential.elements}
    energy = {z: _committee(functions, [n.elements[z] for n in potential.energy], offsets[z]) for z in offsets}
    charge = {z: _committee(functions, [n.elements[z] for n in potential.charge], 0.0) for z in offsets}
    return (
        Model(
            functions=functions,
            energy=energy,
            charge=charge if potential.charge else {},
            offsets=offsets,
            total_charge=potential.total_charge,
            level=potential.level,
            provenance=potential.provenance,
        ),
        [],
    )


def _function_reasons(sets: list[NetworkSet], elements: list[ElementNetwork]) -> list[str]:
    reasons = []
    if any(np.any(e.kind == 3) for e in elements):
        reasons.append("functions of type 3 need the distance between the two neighbours")
    for kind, alpha in sorted({(n.cutoff_type, n.alpha) for n in sets}):
        if kind not in CUTOFF_NAMES:
            reasons.append(f"cutoff_type {kind} (they have {', '.join(map(str, CUTOFF_NAMES))})")
        elif alpha and kind != 2:
            reasons.append(f"a cutoff function with the inner radius {alpha:g}")
    if len({n.cutoff_type for n in sets}) > 1:
        reasons.append("members with different cutoff functions")
    parameters = np.concatenate([e.parameters for e in elements])
    angular = np.concatenate([e.kind for e in elements]) != 2
    if len(np.unique(parameters[:, 2])) > 1:
        reasons.append("functions with different cutoff radii")
    zeta, lam = parameters[angular, 3], parameters[angular, 4]
    if np.any((zeta != np.round(zeta)) | (zeta < 1) | (zeta > MAX_ZETA)):
        reasons.append(f"a zeta that is no whole number from 1 to {MAX_ZETA}")
    if np.any(np.abs(lam) != 1):
        reasons.append("a lambda that is neither 1 nor -1")
    return reasons


def _network_reasons(potential: N2p2Potential, elements: list[ElementNetwork]) -> list[str]:
    reasons = []
    letters = sorted({letter for e in elements for letter in e.activations[:-1]} - {"t", "s"})
    if letters:
        reasons.append(f"activation functions {' '.join(letters)} (they have t, and s by way of it)")
    if any(len(e.activations) < 2 for e in elements):
        reasons.append("a network without a hidden layer")
    depths = {
        (kind, z, len(networks.elements[z].activations))
        for kind, sets in (("energy", potential.energy), ("charge", potential.charge))
        for networks in sets
        for z in networks.elements
    }
    if len(depths) > len({(kind, z) for kind, z, _ in depths}):
        reasons.append("members with different numbers of layers")
    if potential.charge and len(potential.charge) != potential.members:
        reasons.append(f"{len(potential.charge)} charge networks for {potential.members} of energy")
    return reasons


def _functions(sets: list[NetworkSet], elements: list[ElementNetwork]) -> SymmetryFunctionSet:
    """The grid that holds every function of every list."""
    kinds = np.concatenate([e.kind for e in elements])
    parameters = np.concatenate([e.parameters for e in elements])

    def unique(rows: FloatArray) -> list[tuple[float, float]]:
        return [(float(a), float(b)) for a, b in np.unique(rows, axis=0)]

    return SymmetryFunctionSet(
        elements=tuple(sorted({z for networks in sets for z in networks.elements})),
        cutoff=float(parameters[0, 2]),
        radial=tuple(unique(parameters[kinds == 2, :2])),
        shells=tuple(unique(parameters[kinds == 9, :2])),
        angles=tuple((int(zeta), int(lam)) for zeta, lam in unique(parameters[kinds == 9, 3:])),
        cutoff_function=CUTOFF_NAMES[sets[0].cutoff_type],
    )


def _places(functions: SymmetryFunctionSet, element: ElementNetwork) -> list[int]:
    """The feature of the grid that each function of the list is."""
    places = []
    for kind, (a, b), (eta, shift, _, zeta, lam) in zip(
        element.kind, element.neighbours, element.parameters, strict=True
    ):
        first = functions.elements.index(int(a))
        if kind == 2:
            places.append(first * len(functions.radial) + functions.radial.index((float(eta), float(shift))))
            continue
        pair = functions.pairs.index((first, functions.elements.index(int(b))))
        shell = functions.shells.index((float(eta), float(shift)))
        angle = functions.angles.index((int(zeta), int(lam)))
        row = (pair * len(functions.shells) + shell) * len(functions.angles) + angle
        places.append(functions.n_radial + row)
    return places


def _committee(functions: SymmetryFunctionSet, members: list[ElementNetwork], offset: float) -> NetworkCommittee:
    """The networks of one element, on the functions that any member has; offset: of the atom, kept elsewhere."""
    if not members:
        return NetworkCommittee(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), (), ())
    places = [_places(functions, element) for element in members]
    active = sorted({place for own in places for place in own})
    hidden = [max(sizes) for sizes in zip(*([len(b) for b in e.biases[:-1]] for e in members), strict=True)]
    stacked = [
        _layers(element, [active.index(place) for place in own], [len(active), *hidden, 1], offset)
        for element, own in zip(members, places, strict=True)
    ]
    return NetworkCommittee(
        active=np.array(active, np.int64),
        shift=np.zeros(len(active)),
        scale=np.ones(len(active)),
        weights=tuple(np.stack(layer) for layer in zip(*(weights for weights, _ in stacked), strict=True)),
        biases=tuple(np.stack(layer) for layer in zip(*(biases for _, biases in stacked), strict=True)),
    )


def _layers(
    element: ElementNetwork, columns: list[int], sizes: list[int], offset: float
) -> tuple[list[FloatArray], list[FloatArray]]:
    """One network with tanh alone, on unscaled functions in the given columns, layers filled up with zeros."""
    weights, biases = [w.copy() for w in element.weights], [b.copy() for b in element.biases]
    weights[0] = weights[0] * element.scale
    biases[0] -= weights[0] @ element.shift
    for layer, letter in enumerate(element.activations[:-1]):
        if letter == "s":
            weights[layer], biases[layer] = weights[layer] / 2, biases[layer] / 2
            biases[layer + 1] += weights[layer + 1].sum(1) / 2
            weights[layer + 1] = weights[layer + 1] / 2
    biases[-1] += element.offset - offset
    filled, shifted = [], []
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        full = np.zeros((n_out, n_in))
        height, width = weights[layer].shape
        if layer == 0:
            np.add.at(full, (np.arange(height)[:, None], np.array(columns)[None, :]), weights[0])
        else:
            full[:height, :width] = weights[layer]
        filled.append(full)
        shifted.append(np.concatenate([biases[layer], np.zeros(n_out - height)]))
    return filled, shifted
