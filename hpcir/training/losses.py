"""Gradients of several losses of one batch. They share the products with the labels' derivatives.

A label's derivatives of its symmetry functions by the positions (`BatchGroup.jacobian`) are by far the most that a step
reads. A loss says what is to be multiplied with them, once forwards and once backwards, and all losses' columns are one
product: the slopes of the energy and those of the three components of the dipole just fill a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from hpcir.training.network import BatchGroup, forces_of, slopes_bar_of

Tensor = torch.Tensor


class Loss(Protocol):
    """A loss between whose steps the derivatives are multiplied in. `slopes`: per group (columns, B, N, K); empty where
    the loss needs no derivatives, and then the lists that its methods take and give are so too."""

    @property
    def slopes(self) -> list[Tensor]:
        """What is multiplied first."""

    def bars(self, products: list[Tensor]) -> list[Tensor]:
        """dL/dproducts of each group from its products (columns, B, 3N) as `forces_of` gives them."""

    def backward(self, slope_bars: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Write the gradient from dL/dslopes of each group; the mean squares of the loss's two parts (members,)."""


def gradients(losses: Sequence[Loss], groups: Sequence[BatchGroup]) -> list[tuple[Tensor, Tensor]]:
    """The mean squares of every loss; the gradients go where the losses' parameters have them."""
    columns = [len(loss.slopes[0]) if loss.slopes else 0 for loss in losses]
    products: list[list[Tensor]] = [[] for _ in losses]
    slope_bars: list[list[Tensor]] = [[] for _ in losses]
    if any(columns):
        for g, group in enumerate(groups):
            joined = forces_of(group, torch.cat([loss.slopes[g] for loss in losses if loss.slopes]))
            _share(joined, columns, products)
    bars = [loss.bars(product) for loss, product in zip(losses, products, strict=True)]
    if any(columns):
        for g, group in enumerate(groups):
            joined = slopes_bar_of(group, torch.cat([bar[g] for bar in bars if bar]))
            _share(joined, columns, slope_bars)
    return [loss.backward(bar) for loss, bar in zip(losses, slope_bars, strict=True)]


def _share(joined: Tensor, columns: list[int], lists: list[list[Tensor]]) -> None:
    """Append each loss's columns to its list."""
    for part, count, own in zip(joined.split(columns), columns, lists, strict=True):
        if count:
            own.append(part)
