"""Dipoles and atomic polar tensors of a committee's charge networks, and the exact gradient of their loss.

The polar tensors dmu / dr that labels have (`polar`) say 9 N numbers about the charges where a dipole says three, and
they are what an infrared intensity is made of: dmu/dt = sum_j P_j v_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hpcir.training.network import BatchGroup, NetworkPass, Parameters, backward, forces_of, passes_of, slopes_bar_of

Tensor = torch.Tensor
Passes = list[tuple[NetworkPass, list[Any]]]


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
    members, n_outputs = outputs[0].shape[0], outputs[0].shape[3]
    slopes = [g.inputs.new_zeros(members, 3, *g.inputs.shape) for g in groups]
    for network, places in passes:
        if not places:
            continue
        gradient = network.slopes(_combinations(groups, places, n_outputs)).unflatten(1, (3, -1))
        for g, atoms, rows in places:
            shape = (groups[g].count, atoms.stop - atoms.start)
            slopes[g][:, :, :, atoms] = gradient[:, :, rows].unflatten(2, shape)
    tensors = []
    for output, slope, group in zip(outputs, slopes, groups, strict=True):
        assert group.polar is not None
        # forces_of gives - d/dr, for [component x, label, 3 j + y].
        moved = -forces_of(group, slope.flatten(0, 1)).unflatten(0, (members, 3)).unflatten(3, (group.atoms, 3))
        tensors.append(moved.permute(0, 2, 3, 4, 1) + group.polar.from_outputs(output))
    return tensors


def _combinations(groups: Sequence[BatchGroup], places: list[Any], n_outputs: int) -> Tensor:
    """The dipole operator's rows as factors (3, P, n) of the outputs of a pass's atoms."""
    parts = []
    for g, atoms, _ in places:
        columns = groups[g].operator.unflatten(2, (groups[g].atoms, n_outputs))[:, :, atoms]
        parts.append(columns.transpose(0, 1).flatten(1, 2))
    return torch.cat(parts, 1)


def dipole_gradient(
    parameters: Parameters,
    groups: Sequence[BatchGroup],
    norm: Tensor | None = None,
    polar_weight: float = 0.0,
    polar_norm: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean squares of a dipole component and of a polar tensor's (members,); the gradient of the loss, the one plus
    polar_weight (bohr^2) times the other, goes to parameters.gradient.

    norm, polar_norm (members,): the weights of dipoles and of polar tensors in the whole batch, where `groups` are a
    part of it. Without a polar_weight the polar tensors are not computed, and their mean square is zero.
    """
    n_outputs = parameters.layout.n_outputs
    outputs, passes = outputs_of(parameters, groups)
    norm = _sum_of([g.weights * g.dipole_weights for g in groups]) if norm is None else norm
    square, output_bars = torch.zeros_like(norm), []
    for output, group in zip(outputs, groups, strict=True):
        error = dipoles_from(output, group) - group.dipoles
        weights = group.weights * group.dipole_weights / (3.0 * norm.clamp_min(1.0)[:, None])
        bar = error * weights[:, :, None]
        square += (bar * error).sum((1, 2))
        flat = (bar.mul_(2.0)[:, :, :, None] * group.operator[None]).sum(2)
        output_bars.append(flat.unflatten(2, (group.atoms, n_outputs)))
    polar_square, slope_bars = torch.zeros_like(norm), []
    if polar_weight > 0:
        polar_norm = _sum_of([g.weights * _polar(g).weights for g in groups]) if polar_norm is None else polar_norm
        tensors = polar_tensors_from(outputs, passes, groups)
        for tensor, group, output_bar in zip(tensors, groups, output_bars, strict=True):
            polar = _polar(group)
            error = tensor - polar.targets
            weights = group.weights * polar.weights / (9.0 * group.atoms * polar_norm.clamp_min(1.0)[:, None])
            bar = error * weights[:, :, None, None, None]
            polar_square += (bar * error).sum((1, 2, 3, 4))
            bar.mul_(2.0 * polar_weight)
            output_bar += polar.to_outputs(bar, n_outputs)
            slope_bars.append(_slopes_bar(group, bar))
    _backward(parameters, passes, output_bars, slope_bars)
    return square, polar_square


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


def _slopes_bar(group: BatchGroup, bar: Tensor) -> Tensor:
    """dL/dslopes (members, 3, B, N, K) of dL/dtensors (members, B, N, 3, 3)."""
    members = bar.shape[0]
    forces_bar = -bar.permute(0, 4, 1, 2, 3).flatten(3).flatten(0, 1)
    return slopes_bar_of(group, forces_bar).unflatten(0, (members, 3))


def _backward(parameters: Parameters, passes: Passes, output_bars: list[Tensor], slope_bars: list[Tensor]) -> None:
    """parameters.gradient from dL/doutputs (members, B, N, n) and dL/dslopes (members, 3, B, N, K), of each group."""

    def bars(places: list[Any]) -> tuple[Tensor, Tensor | None]:
        outputs = [output_bars[g][:, :, atoms].flatten(1, 2) for g, atoms, _ in places]
        slopes = [slope_bars[g][:, :, :, atoms].flatten(2, 3) for g, atoms, _ in places] if slope_bars else []
        return torch.cat(outputs, 1), torch.cat(slopes, 2).flatten(1, 2) if slopes else None

    backward(parameters, passes, bars)
