"""Between a Model's networks (double precision, on symmetry functions) and flat trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hpcir.arrays import FloatArray
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee
from hpcir.training.dataset import TrainingData
from hpcir.training.network import Layout
from hpcir.training.split import stream


def fresh_parameters(
    layout: Layout, members: Sequence[int], seed: int, kind: str, output_biases: dict[int, float]
) -> FloatArray:
    """Random weights (members, size), each member from its own stream: variance 1 / fan-in (LeCun), small outputs.

    Charge networks start from the constant charges in `output_biases` (element -> e), energy networks from zero.
    """
    flat = torch.zeros(len(members), layout.size, dtype=torch.float64)
    for element, layers in zip(layout.elements, layout.views(flat), strict=True):
        for row, member in enumerate(members):
            generator = stream(seed, f"weights {kind} {element}", member)
            for depth, (weight, bias) in enumerate(layers):
                shape = tuple(weight.shape[1:])
                gain = 1.0 if depth < len(layers) - 1 else 0.1
                weight[row] = torch.from_numpy(generator.normal(0.0, gain / np.sqrt(shape[1]), shape))
                if depth < len(layers) - 1:
                    bias[row] = torch.from_numpy(generator.normal(0.0, 0.5, (1, shape[0])))
        if kind == "charge":
            layers[-1][1][:, :, 0] = output_biases[element]
    return flat.numpy()


def packed(
    model: Model, kind: str, layout: Layout, data: TrainingData, members: Sequence[int], unit: float
) -> FloatArray:
    """Parameters (members, size) of a model's networks; member m of the training starts from the model's m-th."""
    flat = torch.zeros(len(members), layout.size, dtype=torch.float64)
    committees = model.energy if kind == "energy" else model.charge
    for element, layers in zip(layout.elements, layout.views(flat), strict=True):
        committee = committees[element]
        rows = [m % committee.members for m in members]
        inverse = np.linalg.pinv(data.reductions[element].projection).T
        for depth, (weight, bias) in enumerate(layers):
            values, biases = committee.weights[depth][rows], committee.biases[depth][rows]
            if depth == 0:
                values = values @ inverse
            if depth == len(layers) - 1 and kind == "energy":
                values, biases = values / unit, biases / unit
            weight.copy_(torch.from_numpy(np.ascontiguousarray(values)))
            bias.copy_(torch.from_numpy(np.ascontiguousarray(biases[:, None])))
    return flat.numpy()


def unpacked(
    data: TrainingData,
    layouts: dict[str, Layout],
    parameters: dict[str, FloatArray],
    unit: float,
    offsets: dict[int, float],
    error: dict[str, float],
    with_charges: bool,
) -> Model:
    """The Model of flat parameters: the reduction goes into the first layer, the energy unit into the last."""
    networks: dict[str, dict[int, NetworkCommittee]] = {"energy": {}, "charge": {}}
    for kind, layout in layouts.items():
        if kind == "charge" and not with_charges:
            continue
        for element, layers in zip(layout.elements, layout.views(torch.from_numpy(parameters[kind])), strict=True):
            reduction = data.reductions[element]
            weights = [weight.numpy().copy() for weight, _ in layers]
            biases = [bias[:, 0].numpy().copy() for _, bias in layers]
            weights[0] = weights[0] @ reduction.projection.T
            if kind == "energy":
                weights[-1], biases[-1] = weights[-1] * unit, biases[-1] * unit
            networks[kind][element] = NetworkCommittee(
                reduction.active,
                reduction.shift,
                reduction.scale,
                tuple(weights),
                tuple(biases),
                reduction.projection,
            )
    charges = {tensors.group.charge for tensors in data.groups}
    return Model(
        functions=data.functions,
        energy=networks["energy"],
        charge=networks["charge"],
        offsets=offsets,
        total_charge=charges.pop() if len(charges) == 1 else 0,
        error=error,
    )
