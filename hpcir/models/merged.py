"""The sum of two models as one model: energies, forces, charges and dipoles add up, member by member.

Hidden layers of the two networks of an element stand side by side (block-diagonal from the first layer on), and the
linear outputs are added. So a sum is an ordinary Model for everything that takes one, the compiled kernels too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee


def sum_of(model: Model, correction: Model) -> Model:
    """model + correction: member m of the one with member m of the other (modulo the correction's members).

    Charges and atomic dipoles add up as well; the total charge is the model's. Level, held-out errors and calibration
    are the model's. Raises InputError for models on different symmetry functions, or with different outputs.
    """
    if model.functions != correction.functions or model.energy.keys() != correction.energy.keys():
        raise InputError("models on different symmetry functions cannot be added")
    if correction.charge and correction.charge.keys() != model.charge.keys():
        raise InputError("the correction has charge networks of other elements than the model")
    charge = model.charge
    if correction.charge:
        charge = {z: _side_by_side(one, correction.charge[z]) for z, one in model.charge.items()}
    return replace(
        model,
        energy={z: _side_by_side(one, correction.energy[z]) for z, one in model.energy.items()},
        charge=charge,
        offsets={z: offset + correction.offsets[z] for z, offset in model.offsets.items()},
    )


def _side_by_side(first: NetworkCommittee, second: NetworkCommittee) -> NetworkCommittee:
    """One committee, on the inputs of the first, whose outputs are the sums of two."""
    if not np.array_equal(first.active, second.active) or len(first.weights) != len(second.weights):
        raise InputError("networks on different inputs, or of different depth, cannot be added")
    if first.n_outputs != second.n_outputs:
        raise InputError("networks of different outputs cannot be added", value=(first.n_outputs, second.n_outputs))
    rows = np.arange(first.members) % second.members
    # What the second scales as (G - shift) * scale, in terms of what the first makes of G.
    rescaled = second.weights[0] * (second.scale / first.scale)
    shifted = second.biases[0] + second.weights[0] @ (second.scale * (first.shift - second.shift))
    others = [rescaled, *second.weights[1:]], [shifted, *second.biases[1:]]
    weights, biases = [], []
    for depth, (one, other) in enumerate(zip(first.weights, others[0], strict=True)):
        last = depth == len(first.weights) - 1
        bias, added = first.biases[depth], others[1][depth][rows]
        biases.append(bias + added if last else np.concatenate([bias, added], axis=1))
        if depth > 0 and not last:
            weights.append(_diagonal(one, other[rows]))
        else:
            weights.append(np.concatenate([one, other[rows]], axis=2 if last else 1))
    return NetworkCommittee(first.active, first.shift, first.scale, tuple(weights), tuple(biases))


def _diagonal(one: FloatArray, other: FloatArray) -> FloatArray:
    """Matrices (members, a, b) and (members, c, d) as (members, a + c, b + d)."""
    result = np.zeros((len(one), one.shape[1] + other.shape[1], one.shape[2] + other.shape[2]))
    result[:, : one.shape[1], : one.shape[2]] = one
    result[:, one.shape[1] :, one.shape[2] :] = other
    return result
