"""The gradients of a step's losses by compiled loops: for batches on the processor without polar tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import BoolArray, IntArray
from hpcir.training.batches import DeviceData
from hpcir.training.compiled.losses import add_dipole_gradient, add_energy_gradient
from hpcir.training.network import BatchGroup, Parameters

# Parameters and gradient (members, elements, size), the table of layers, divisors of the loss (members,).
Goal = tuple[NDArray, NDArray, IntArray, NDArray]


@dataclass(frozen=True)
class _Group:
    """Arrays of all labels of one molecule, as `compiled.losses` takes them; they share the tensors' memory."""

    ranges: IntArray
    inputs: NDArray
    jacobian: NDArray
    centres: IntArray
    targets: tuple[NDArray, NDArray, NDArray, NDArray]
    operator: NDArray
    dipoles: NDArray
    dipole_weights: NDArray

    @classmethod
    def of(cls, group: BatchGroup, elements: tuple[int, ...]) -> _Group:
        places = [group.slices.get(element, slice(0, 0)) for element in elements]
        labels = group.energies, group.energy_weights, group.forces, group.force_weights
        centres = group.jacobian.centres
        return cls(
            np.array([(place.start, place.stop) for place in places], np.int64),
            group.inputs.numpy(),
            group.jacobian.values.numpy(),
            np.zeros((0, 0, 0), np.int64) if centres is None else centres.numpy(),
            (labels[0].numpy(), labels[1].numpy(), labels[2].numpy(), labels[3].numpy()),
            group.operator.contiguous().numpy(),
            group.dipoles.numpy(),
            group.dipole_weights.numpy(),
        )


@dataclass(frozen=True)
class CompiledStep:
    """The losses of one training. data: its labels; mine (members, labels): held out by each member."""

    groups: tuple[_Group, ...]
    firsts: IntArray
    mine: BoolArray
    dipole_weights: NDArray
    force_weight: float
    has_dipoles: bool

    @classmethod
    def of(cls, data: DeviceData, elements: tuple[int, ...], force_weight: float) -> CompiledStep:
        """Around the tensors of a training, none of which is copied."""
        groups = tuple(_Group.of(group, elements) for group in data.groups)
        dipole_weights = np.concatenate([group.dipole_weights for group in groups])
        return cls(groups, data.firsts, data.mine.numpy(), dipole_weights, force_weight, data.has_dipoles)

    def write_gradients(self, energy: Parameters, charge: Parameters, indices: IntArray, batch: IntArray) -> None:
        """The gradients of the labels `indices`, all or a part of a batch; see `losses.gradients`."""
        learnt = (~self.mine[:, batch]).astype(self.dipole_weights.dtype)
        # Member by member: the rounding of a sum along an axis depends on how the rows lie in memory.
        norms = learnt.sum(1), np.array([(row * self.dipole_weights[batch]).sum() for row in learnt.copy("C")])
        goals: list[Goal] = []
        for parameters, norm in zip((energy, charge), norms, strict=True):
            parameters.gradient.zero_()
            shape = (len(parameters.flat), len(parameters.layout.elements), parameters.layout.element_size)
            arrays = parameters.flat.numpy().reshape(shape), parameters.gradient.numpy().reshape(shape)
            goals.append((*arrays, parameters.layout.table, np.maximum(norm, norm.dtype.type(1.0))))
        ordered = np.sort(indices)
        for group, first, last in zip(self.groups, self.firsts[:-1], self.firsts[1:], strict=True):
            own = ordered[(ordered >= first) & (ordered < last)]
            if len(own):
                self._add(group, own - first, ~self.mine[:, own], *goals)

    def _add(self, group: _Group, labels: IntArray, learnt: NDArray, energy: Goal, charge: Goal) -> None:
        kind = group.inputs.dtype
        weights = np.ascontiguousarray(learnt.astype(kind))  # kernels are compiled for one layout
        flat, target, table, norm = energy
        add_energy_gradient(
            flat,
            target,
            table,
            group.ranges,
            group.inputs,
            group.jacobian,
            group.centres,
            group.targets,
            labels,
            weights,
            norm,
            kind.type(self.force_weight),
        )
        if not self.has_dipoles:
            return
        flat, target, table, norm = charge
        add_dipole_gradient(
            flat,
            target,
            table,
            group.ranges,
            group.inputs,
            group.operator,
            group.dipoles,
            group.dipole_weights,
            labels,
            weights,
            norm,
        )
