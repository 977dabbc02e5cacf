"""Dipoles and atomic polar tensors of a committee's charge networks, and their loss with its exact gradient.

The polar tensors dmu / dr that labels have (`polar`) say 9 N numbers about the charges where a dipole says three, and
they are what an infrared intensity is made of: dmu/dt = sum_j P_j v_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hpcir.training.network import BatchGroup, Parameters, Passes, backward, passes_of

Tensor = torch.Tensor


def outputs_of(parameters: Parameters, groups: Sequence[BatchGroup]) -> tuple[list[Tensor], Passes]:
    """Per group: the networks' outputs (members, B, N, n); and the passes."""
    members = parameters.flat.shape[0]
    passes = passes_of(parameters, groups)
    outputs = [g.inputs.new_zeros(members, g.count, g.atoms, parameters.layout.n_outputs) for g in groups]
    for network, places in passes:
        if places:
            values = network.outputs()
            for g, atoms, rows in places:
                shape = (groups[g].count, atoms.stop - atoms.start)
                outputs[g][:, :, atoms] = values[:, rows].unflatten(1, shape)
    return outputs, passes


def dipoles_from(outputs: Tensor, group: BatchGroup) -> Tensor:
    """The part of the dipoles that the networks make, (members, B, 3), from outputs (members, B, N, n)."""
    return (group.operator[None] * outputs.flatten(2)[:, :, None]).sum(3)


def polar_tensors_from(outputs: Sequence[Tensor], passes: Passes, groups: Sequence[BatchGroup]) -> list[Tensor]:
    """Per group, all of which have polar tensors: what the networks make of them, (members, B, N, 3, 3)."""
    members, _, _, n_outputs = outputs[0].shape
    slopes = dipole_slopes(passes, groups, members, n_outputs)
    return [
        _polar_tensors(output, group.jacobian.forces(slope), group)
        for output, slope, group in zip(outputs, slopes, groups, strict=True)
    ]


def dipole_slopes(passes: Passes, groups: Sequence[BatchGroup], members: int, n_outputs: int) -> list[Tensor]:
    """Per group: slopes of the dipole's three components, (3 members, B, N, K)."""
    slopes = [g.inputs.new_zeros(members, 3, *g.inputs.shape) for g in groups]
    for network, places in passes:
        if not places:
            continue
        gradient = network.slopes(_combinations(groups, places, n_outputs)).unflatten(1, (3, -1))
        for g, atoms, rows in places:
            shape = (groups[g].count, atoms.stop - atoms.start)
            slopes[g][:, :, :, atoms] = gradient[:, :, rows].unflatten(2, shape)
    return [slope.flatten(0, 1) for slope in slopes]


def _polar_tensors(output: Tensor, product: Tensor, group: BatchGroup) -> Tensor:
    """(members, B, N, 3, 3) of outputs (members, B, N, n) and of the product (3 members, B, 3N) of the slopes."""
    # The jacobian gives - d/dr, for [component x, label, 3 j + y].
    moved = -product.unflatten(0, (-1, 3)).unflatten(3, (group.atoms, 3))
    return moved.permute(0, 2, 3, 4, 1) + _polar(group).from_outputs(output)


def _combinations(groups: Sequence[BatchGroup], places: list[Any], n_outputs: int) -> Tensor:
    """The dipole operator's rows as factors (3, P, n) of the outputs of a pass's atoms."""
    parts = []
    for g, atoms, _ in places:
        columns = groups[g].operator.unflatten(2, (groups[g].atoms, n_outputs))[:, :, atoms]
        parts.append(columns.transpose(0, 1).flatten(1, 2))
    return torch.cat(parts, 1)


class DipoleLoss:
    """Mean square of a dipole component, and polar_weight (bohr^2) times that of a polar tensor's, for
    `losses.gradients`.

    norm, polar_norm (members,): the weights of dipoles and of polar tensors in the whole batch, where `groups` are a
    part of it. Without a polar_weight the polar tensors are not computed, and their mean square is zero.
    """

    def __init__(
        self,
        parameters: Parameters,
        groups: Sequence[BatchGroup],
        norm: Tensor | None = None,
        polar_weight: float = 0.0,
        polar_norm: Tensor | None = None,
    ) -> None:
        self.parameters, self.groups, self.polar_weight = parameters, groups, polar_weight
        members, self.n_outputs = len(parameters.flat), parameters.layout.n_outputs
        self.outputs, self.passes = outputs_of(parameters, groups)
        self.norm = _sum_of([g.weights * g.dipole_weights for g in groups]) if norm is None else norm
        self.slopes: list[Tensor] = []
        if polar_weight > 0:
            polar_norm = _sum_of([g.weights * _polar(g).weights for g in groups]) if polar_norm is None else polar_norm
            self.polar_norm = polar_norm.clamp_min(1.0)
            self.slopes = dipole_slopes(self.passes, groups, members, self.n_outputs)

    def bars(self, products: list[Tensor]) -> list[Tensor]:
        """dL/dproducts (3 members, B, 3N) of each group, from its products with the slopes."""
        self.square, self.polar_square = torch.zeros_like(self.norm), torch.zeros_like(self.norm)
        self.output_bars = [self._of_dipoles(g) for g in range(len(self.groups))]
        return [self._of_polar_tensors(g, product) for g, product in enumerate(products)]

    def _of_dipoles(self, g: int) -> Tensor:
        """dL/doutputs (members, B, N, n) of a group's dipoles."""
        group = self.groups[g]
        error = dipoles_from(self.outputs[g], group) - group.dipoles
        weights = group.weights * group.dipole_weights / (3.0 * self.norm.clamp_min(1.0)[:, None])
        bar = error * weights[:, :, None]
        self.square += (bar * error).sum((1, 2))
        flat = (bar.mul_(2.0)[:, :, :, None] * group.operator[None]).sum(2)
        return flat.unflatten(2, (group.atoms, self.n_outputs))

    def _of_polar_tensors(self, g: int, product: Tensor) -> Tensor:
        """dL/dproduct (3 members, B, 3N) of a group's polar tensors; their part of dL/doutputs is added to it."""
        group, polar = self.groups[g], _polar(self.groups[g])
        error = _polar_tensors(self.outputs[g], product, group) - polar.targets
        weights = group.weights * polar.weights / (9.0 * group.atoms * self.polar_norm[:, None])
        bar = error * weights[:, :, None, None, None]
        self.polar_square += (bar * error).sum((1, 2, 3, 4))
        bar.mul_(2.0 * self.polar_weight)
        self.output_bars[g] += polar.to_outputs(bar, self.n_outputs)
        return -bar.permute(0, 4, 1, 2, 3).flatten(3).flatten(0, 1)

    def backward(self, slope_bars: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Write the gradient; mean squares of a dipole component and of a polar tensor's (members,)."""
        unfolded = [bar.unflatten(0, (-1, 3)) for bar in slope_bars]

        def bars(places: list[Any]) -> tuple[Tensor, Tensor | None]:
            outputs = [self.output_bars[g][:, :, atoms].flatten(1, 2) for g, atoms, _ in places]
            slopes = [unfolded[g][:, :, :, atoms].flatten(2, 3) for g, atoms, _ in places] if unfolded else []
            return torch.cat(outputs, 1), torch.cat(slopes, 2).flatten(1, 2) if slopes else None

        backward(self.parameters, self.passes, bars)
        return self.square, self.polar_square


def polar_squares(tensors: Tensor, group: BatchGroup) -> tuple[Tensor, Tensor]:
    """Squared errors of a group's tensors (members, B, N, 3, 3), and their weights, both (members, 9 B N)."""
    polar = _polar(group)
    weights = (group.weights * polar.weights)[:, :, None, None, None].expand_as(tensors)
    return ((tensors - polar.targets) ** 2).flatten(1), weights.flatten(1)


def _polar(group: BatchGroup) -> Any:
    assert group.polar is not None
    return group.polar


def _sum_of(weights: list[Tensor]) -> Tensor:
    return torch.stack([weight.sum(1) for weight in weights]).sum(0)
