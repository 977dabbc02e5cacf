"""Gradients of several losses of one batch. They share the products with the labels' derivatives.

A label's derivatives of its symmetry functions by the positions (`BatchGroup.jacobian`) are by far the most that a step
reads. A loss says what is to be multiplied with them, once forwards and once backwards, and all losses' columns are one
product: the slopes of the energy and those of the three components of the dipole just fill a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from hpcir.training.network import BatchGroup

Tensor = torch.Tensor


class Loss(Protocol):
    """A loss between whose steps the derivatives are multiplied in. `slopes`: per group (columns, B, N, K); empty where
    the loss needs no derivatives, and then the lists that its methods take and give are so too."""

    @property
    def slopes(self) -> list[Tensor]:
        """The factors that are multiplied first."""

    def bars(self, products: list[Tensor]) -> list[Tensor]:
        """dL/dproducts of each group from its products (columns, B, 3N) as `Jacobian.forces` gives them."""

    def backward(self, slope_bars: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Write the gradient from dL/dslopes of each group; the mean squares of the loss's two parts (members,)."""


def gradients(losses: Sequence[Loss], groups: Sequence[BatchGroup]) -> list[tuple[Tensor, Tensor]]:
    """The mean squares of every loss; the gradients go where the losses' parameters have them."""
    products = _together(lambda group, slopes: group.jacobian.forces(slopes), groups, [loss.slopes for loss in losses])
    bars = [loss.bars(product) for loss, product in zip(losses, products, strict=True)]
    slope_bars = _together(lambda group, bars: group.jacobian.slope_bars(bars), groups, bars)
    return [loss.backward(bar) for loss, bar in zip(losses, slope_bars, strict=True)]


def _together(
    product: Callable[[BatchGroup, Tensor], Tensor], groups: Sequence[BatchGroup], factors: Sequence[list[Tensor]]
) -> list[list[Tensor]]:
    """Each loss's product with every group, all losses' factors (columns, B, ...) of a group in one; empty for a loss
    without factors."""
    results: list[list[Tensor]] = [[] for _ in factors]
    having = [(own, result) for own, result in zip(factors, results, strict=True) if own]
    for g, group in enumerate(groups if having else ()):
        parts = [own[g] for own, _ in having]
        joined = product(group, torch.cat(parts)).split([len(part) for part in parts])
        for part, (_, result) in zip(joined, having, strict=True):
            result.append(part)
    return results
