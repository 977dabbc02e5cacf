"""The sum of two models as one model: energies, forces, charges and dipoles add up, member by member.

Hidden layers of the two networks of an element stand side by side (block-diagonal from the first layer on), and the
linear outputs are added. So a sum is an ordinary Model for everything that takes one, the compiled kernels too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee

FloatArray = NDArray[np.float64]


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
    """One committee whose outputs are the sums of two."""
    same = np.array_equal(first.active, second.active) and len(first.weights) == len(second.weights)
    if not (same and np.array_equal(first.shift, second.shift) and np.array_equal(first.scale, second.scale)):
        raise InputError("networks on different inputs, or of different depth, cannot be added")
    if first.n_outputs != second.n_outputs:
        raise InputError("networks of different outputs cannot be added", value=(first.n_outputs, second.n_outputs))
    rows = np.arange(first.members) % second.members
    weights, biases = [], []
    for depth, (one, other) in enumerate(zip(first.weights, second.weights, strict=True)):
        other, bias = other[rows], second.biases[depth][rows]
        if depth == len(first.weights) - 1:
            weights.append(np.concatenate([one, other], axis=2))
            biases.append(first.biases[depth] + bias)
            continue
        weights.append(np.concatenate([one, other], axis=1) if depth == 0 else _diagonal(one, other))
        biases.append(np.concatenate([first.biases[depth], bias], axis=1))
    return NetworkCommittee(first.active, first.shift, first.scale, tuple(weights), tuple(biases))


def _diagonal(one: FloatArray, other: FloatArray) -> FloatArray:
    """Matrices (members, a, b) and (members, c, d) as (members, a + c, b + d)."""
    result = np.zeros((len(one), one.shape[1] + other.shape[1], one.shape[2] + other.shape[2]))
    result[:, : one.shape[1], : one.shape[2]] = one
    result[:, one.shape[1] :, one.shape[2] :] = other
    return result
