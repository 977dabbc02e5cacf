"""All members of a committee as one flat tensor, and the exact gradients of energies and forces (`dipoles` has those
of dipoles).

Per atom, with inputs x = a_0 and hidden layers l = 1 .. L:
    z_l = W_l a_(l-1) + b_l;  a_l = tanh z_l;  d_l = 1 - a_l^2;  y = W a_L + b               (outputs)
    u_L = d_L (W^T c);  u_l = d_l (W_(l+1)^T u_(l+1));  d(c . y)/dx = W_1^T u_1       (forces: c picks output 0)
Forces enter the loss through d(c . y)/dx, so its gradient needs one more backward pass through both lines. That pass
is written out here (`NetworkPass.gradient`), so that no graph is kept and nothing is differentiated twice. On the
processor compiled loops do the same for networks of two hidden layers (`compiled.network`).
Each member's products are products of their own (one of a batch), so that a member's numbers do not depend on
which others are trained beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from hpcir.arrays import IntArray
from hpcir.training.jacobian import Jacobian
from hpcir.training.polar import PolarTargets

Tensor = torch.Tensor


@dataclass(frozen=True)
class Layout:
    """Places of the weights of every element in a flat parameter vector: elements, K inputs, hidden, outputs."""

    elements: tuple[int, ...]
    n_inputs: int
    hidden: tuple[int, ...]
    n_outputs: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.n_inputs, *self.hidden, self.n_outputs)

    @cached_property
    def element_size(self) -> int:
        """Places of one element's network: its parameters, and unused ones up to a multiple of 16, so that every
        member's weights lie alike in memory (the rounding of a product may depend on alignment)."""
        used = sum(n * (m + 1) for m, n in zip(self.widths[:-1], self.widths[1:], strict=True))
        return -(-used // 16) * 16

    @property
    def size(self) -> int:
        return len(self.elements) * self.element_size

    @cached_property
    def table(self) -> IntArray:
        """One row for each layer: place of its weights in an element's stretch, rows, columns; the biases follow."""
        rows, offset = [], 0
        for m, n in zip(self.widths[:-1], self.widths[1:], strict=True):
            rows.append((offset, n, m))
            offset += n * (m + 1)
        return np.array(rows, np.int64)

    def views(self, flat: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """[element][layer] -> weight (members, out, in), bias (members, 1, out): views into flat (members, size)."""
        networks = []
        for number in range(len(self.elements)):
            layers, offset = [], number * self.element_size
            for m, n in zip(self.widths[:-1], self.widths[1:], strict=True):
                weight = flat[:, offset : offset + m * n].unflatten(1, (n, m))
                offset += m * n
                layers.append((weight, flat[:, offset : offset + n].unsqueeze(1)))
                offset += n
            networks.append(layers)
        return networks


@dataclass(frozen=True)
class Parameters:
    """Flat parameters (members, size) of a layout, a gradient of the same shape, and the views into both (made
    once: slicing anew in every step costs as much as the arithmetic)."""

    layout: Layout
    flat: Tensor
    gradient: Tensor
    views: list[list[tuple[Tensor, Tensor]]]
    gradient_views: list[list[tuple[Tensor, Tensor]]]

    @classmethod
    def of(cls, layout: Layout, flat: Tensor) -> Parameters:
        """Around `flat`, which is not copied; the gradient starts at zero."""
        gradient = torch.zeros_like(flat)
        return cls(layout, flat, gradient, layout.views(flat), layout.views(gradient))


@dataclass
class NetworkPass:
    """Forward pass of one element's networks on inputs x (P, K), for all members."""

    layers: list[tuple[Tensor, Tensor]]
    x: Tensor

    def __post_init__(self) -> None:
        members = self.layers[0][0].shape[0]
        self.a = [self.x.expand(members, *self.x.shape)]
        for weight, bias in self.layers[:-1]:
            self.a.append(torch.baddbmm(bias, self.a[-1], weight.transpose(1, 2)).tanh_())
        self.d = [torch.addcmul(ONE.to(a), a, a, value=-1.0) for a in self.a[1:]]

    def outputs(self) -> Tensor:
        """Atomic outputs (members, P, n_outputs)."""
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias, self.a[-1], weight.transpose(1, 2))

    def slopes(self, combinations: Tensor | None = None) -> Tensor:
        """Gradient by the inputs of output 0, (members, P, K); or, with combinations (D, P, n_outputs), of D sums of
        the outputs with these factors, (members, D P, K)."""
        weight = self.layers[-1][0]
        self.combinations = combinations
        if combinations is None:
            self.head, self.tiled = weight[:, :1], self.d
        else:
            factors = combinations.flatten(0, 1).expand(len(weight), -1, -1)
            self.head = torch.bmm(factors, weight)
            self.tiled = [d.repeat(1, len(combinations), 1) for d in self.d]
        self.u = [self.tiled[-1] * self.head]
        self.v: list[Tensor] = []
        for (weight, _), d in zip(self.layers[-2:0:-1], self.tiled[-2::-1], strict=True):
            self.v.append(torch.bmm(self.u[-1], weight))
            self.u.append(self.v[-1] * d)
        self.u.reverse()
        self.v.reverse()
        return torch.bmm(self.u[0], self.layers[0][0])

    def gradient(
        self, target: list[tuple[Tensor, Tensor]], output_bar: Tensor, slope_bar: Tensor | None = None
    ) -> None:
        """Write the loss gradient into `target` (views like `layers`): output_bar (members, P, n_outputs) is
        dL/dy, slope_bar is dL/d of what `slopes` returned, and of its shape."""
        last = len(self.layers) - 1
        torch.bmm(output_bar.transpose(1, 2), self.a[-1], out=target[last][0])
        target[last][1].copy_(output_bar.sum(1, keepdim=True))
        d_bar = [] if slope_bar is None else self._slope_gradient(target, slope_bar)
        a_bar = torch.bmm(output_bar, self.layers[last][0])
        for l in range(last - 1, -1, -1):
            if d_bar:
                a_bar.addcmul_(self.a[l + 1], d_bar[l], value=-2.0)
            z_bar = a_bar.mul_(self.d[l])
            if d_bar:
                target[l][0].baddbmm_(z_bar.transpose(1, 2), self.a[l])
            else:
                torch.bmm(z_bar.transpose(1, 2), self.a[l], out=target[l][0])
            target[l][1].copy_(z_bar.sum(1, keepdim=True))
            if l:
                a_bar = torch.bmm(z_bar, self.layers[l][0])

    def _slope_gradient(self, target: list[tuple[Tensor, Tensor]], slope_bar: Tensor) -> list[Tensor]:
        """The weights' part through the line of the u; returns dL/dd_l (members, P, width) of every hidden layer."""
        last = len(self.layers) - 1
        d_bar: list[Tensor] = []
        u_bar = torch.bmm(slope_bar, self.layers[0][0].transpose(1, 2))
        for l in range(last - 1):
            v_bar = u_bar * self.tiled[l]
            d_bar.append(self._untiled(u_bar.mul_(self.v[l])))
            torch.bmm(self.u[l + 1].transpose(1, 2), v_bar, out=target[l + 1][0])
            u_bar = torch.bmm(v_bar, self.layers[l + 1][0].transpose(1, 2))
        head_bar = u_bar * self.tiled[-1]
        if self.combinations is None:
            target[last][0][:, 0] += head_bar.sum(1)
        else:
            factors = self.combinations.flatten(0, 1).expand(len(head_bar), -1, -1)
            target[last][0].baddbmm_(factors.transpose(1, 2), head_bar)
        d_bar.append(self._untiled(u_bar.mul_(self.head)))
        torch.bmm(self.u[0].transpose(1, 2), slope_bar, out=target[0][0])
        return d_bar

    def _untiled(self, rows: Tensor) -> Tensor:
        """The sum over the combinations of (members, D P, width)."""
        return rows if self.combinations is None else rows.unflatten(1, (len(self.combinations), -1)).sum(1)


ONE = torch.ones(())
# One for each element, and where each group's atoms are in it: group number, its atoms, rows of the pass.
Passes = list[tuple[NetworkPass, list[tuple[int, slice, slice]]]]


@dataclass(frozen=True)
class BatchGroup:
    """Some labels of one molecule as tensors, atoms sorted by element.

    inputs (B, N, K); jacobian: their derivatives; energies (B,); forces (B, 3N); force_weights (B, 3N): 1/(3 M) for
    learnt components, 0 for others; operator (B, 3, N n) and dipoles (B, 3): mu = operator y + constant, dipoles
    without the constant; weights (members, B): 0 where held out; polar: the polar tensors, where labels have them.
    """

    slices: dict[int, slice]
    inputs: Tensor
    jacobian: Jacobian
    energies: Tensor
    energy_weights: Tensor
    forces: Tensor
    force_weights: Tensor
    operator: Tensor
    dipoles: Tensor
    dipole_weights: Tensor
    weights: Tensor
    polar: PolarTargets | None = None

    @property
    def count(self) -> int:
        return int(self.inputs.shape[0])

    @property
    def atoms(self) -> int:
        return int(self.inputs.shape[1])


def passes_of(parameters: Parameters, groups: Sequence[BatchGroup]) -> Passes:
    """One pass for each element, over the atoms of all groups, and where each group's atoms are in it."""
    passes: Passes = []
    layout = parameters.layout
    for element, layers in zip(layout.elements, parameters.views, strict=True):
        places, parts, start = [], [], 0
        for g, group in enumerate(groups):
            if element in group.slices:
                part = group.inputs[:, group.slices[element]].flatten(0, 1)
                places.append((g, group.slices[element], slice(start, start + len(part))))
                parts.append(part)
                start += len(part)
        if parts:
            passes.append((NetworkPass(layers, parts[0] if len(parts) == 1 else torch.cat(parts)), places))
        else:
            passes.append((NetworkPass(layers, groups[0].inputs.new_zeros(0, layout.n_inputs)), places))
    return passes


def energies_and_slopes(
    parameters: Parameters, groups: Sequence[BatchGroup], with_slopes: bool = True
) -> tuple[list[Tensor], list[Tensor], Passes]:
    """Per group: energies (members, B) and their slopes (members, B, N, K), none without `with_slopes`; the passes."""
    members = parameters.flat.shape[0]
    passes = passes_of(parameters, groups)
    energies = [g.inputs.new_zeros(members, g.count) for g in groups]
    slopes = [g.inputs.new_zeros(members, *g.inputs.shape) for g in groups] if with_slopes else []
    for network, places in passes:
        if not places:
            continue
        outputs = network.outputs()[..., 0]
        gradient = network.slopes() if with_slopes else None
        for g, atoms, rows in places:
            shape = (groups[g].count, atoms.stop - atoms.start)
            energies[g] += outputs[:, rows].unflatten(1, shape).sum(2)
            if gradient is not None:
                slopes[g][:, :, atoms] = gradient[:, rows].unflatten(1, shape)
    return energies, slopes, passes


def energies_and_forces(
    parameters: Parameters, groups: Sequence[BatchGroup]
) -> tuple[list[Tensor], list[Tensor], Passes]:
    """Per group: energies (members, B) and forces (members, B, 3N); and the passes, for `energy_backward`."""
    energies, slopes, passes = energies_and_slopes(parameters, groups)
    return energies, [g.jacobian.forces(s) for g, s in zip(groups, slopes, strict=True)], passes


class EnergyLoss:
    """Loss of energies and forces, for `losses.gradients`.

    L = sum_n w_n [(dE)^2 + eta / (3 M) |dF|^2] / sum_n w_n (design: eta the force weight; masked forces left
    out). norm (members,): sum_n w_n of the whole batch, where `groups` are a part of it.
    """

    def __init__(
        self, parameters: Parameters, groups: Sequence[BatchGroup], force_weight: float, norm: Tensor | None = None
    ) -> None:
        self.parameters, self.groups, self.force_weight = parameters, groups, force_weight
        self.energies, self.slopes, self.passes = energies_and_slopes(parameters, groups, force_weight > 0)
        norm = torch.stack([group.weights.sum(1) for group in groups]).sum(0) if norm is None else norm
        self.norm = norm.clamp_min(1.0)

    def bars(self, products: list[Tensor]) -> list[Tensor]:
        """dL/dforces (members, B, 3N) of each group, from its forces."""
        self.energy_square, self.force_square = torch.zeros_like(self.norm), torch.zeros_like(self.norm)
        self.energy_bars, forces_bars = [], []
        for g, group in enumerate(self.groups):
            weights = group.weights / self.norm[:, None]
            error = self.energies[g] - group.energies
            bar = error * (weights * group.energy_weights)
            self.energy_square += (bar * error).sum(1)
            self.energy_bars.append(bar.mul_(2.0))
            if products:
                error = products[g] - group.forces
                bar = error * weights[:, :, None] * group.force_weights
                self.force_square += (bar * error).sum((1, 2))
                forces_bars.append(bar.mul_(2.0 * self.force_weight))
        return forces_bars

    def backward(self, slope_bars: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Write the gradient; mean squares of energies and of forces (members,)."""
        energy_backward(self.parameters, self.passes, self.energy_bars, slope_bars)
        return self.energy_square, self.force_square


def energy_backward(
    parameters: Parameters, passes: Passes, energy_bars: list[Tensor], slope_bars: list[Tensor]
) -> None:
    """parameters.gradient of a loss with derivatives energy_bars (members, B) and slope_bars (members, B, N, K) or
    none, one of each for a group; `passes` are those of `energies_and_slopes`."""

    def bars(places: list[Any]) -> tuple[Tensor, Tensor | None]:
        outputs = [energy_bars[g][:, :, None].expand(-1, -1, a.stop - a.start).flatten(1) for g, a, _ in places]
        slopes = [slope_bars[g][:, :, a].flatten(1, 2) for g, a, _ in places] if slope_bars else []
        return torch.cat(outputs, 1)[:, :, None], torch.cat(slopes, 1) if slopes else None

    backward(parameters, passes, bars)


def backward(
    parameters: Parameters,
    passes: Passes,
    bars: Callable[[list[Any]], tuple[Tensor, Tensor | None]],
) -> None:
    """parameters.gradient of a loss; bars(places) gives dL/doutputs and dL/dslopes of a pass (see
    `NetworkPass.gradient`)."""
    for (network, places), target in zip(passes, parameters.gradient_views, strict=True):
        if places:
            network.gradient(target, *bars(places))
            continue
        for weight, bias in target:
            weight.zero_()
            bias.zero_()
