"""The functions of `compiled.soap` in torch: for GPUs, and the plain twin that the kernels are tested against."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from numpy.typing import NDArray

from hpcir.training.compiled.soap import COLUMNS, FIRST, LEFT, RIGHT, ROWS, WEIGHT, WIDTH

Tensor = torch.Tensor


def rotate(source: Tensor, target: Tensor, bases: Tensor, table: NDArray, into: bool) -> None:
    """target = Q_L^T W Q_R (into) or Q_L W Q_R^T of every block of weights; what is not a weight is copied.

    source, target (members, elements, size), bases (members, elements, size of bases).
    """
    target.copy_(source)
    pairs = zip(_matrices(source, bases, table), _matrices(target, bases, table), strict=True)
    for (matrix, left, right), (result, _, _) in pairs:
        result.copy_(left.mT @ matrix @ right if into else left @ matrix @ right.mT)


def add_grams(gradient: Tensor, grams: Tensor, table: NDArray, share: float) -> None:
    """grams += share (G G^T - gram), and likewise G^T G, of every block of the gradient."""
    for matrix, left, right in _matrices(gradient, grams, table):
        left.lerp_(matrix @ matrix.mT, share)
        right.lerp_(matrix.mT @ matrix, share)


def step(
    parameters: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    bases: Tensor,
    table: NDArray,
    mixing: tuple[float, float],
    rate: float,
    tiny: float,
) -> None:
    """One step of Adam in the eigenbases, whose moments `first` and `second` are of rotated gradients.

    mixing: the shares (1 - beta1, 1 - beta2) of the new gradient; rate: with the moments' bias corrected.
    """
    rotated, direction = torch.empty_like(gradient), torch.empty_like(gradient)
    rotate(gradient, rotated, bases, table, True)
    first.lerp_(rotated, mixing[0])
    second.lerp_(rotated.square(), mixing[1])
    rotate(first / second.sqrt().add_(tiny), direction, bases, table, False)
    parameters.sub_(direction, alpha=rate)


def _matrices(flat: Tensor, squares: Tensor, table: NDArray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of every block: the weights (members, elements, n, m), the left (..., n, n) and the right (..., m, m) matrix."""
    for row in table.tolist():
        n, m, width = row[ROWS], row[COLUMNS], row[WIDTH]
        weights = flat[:, :, row[WEIGHT] : row[WEIGHT] + n * width].unflatten(2, (n, width))
        yield (
            weights[..., row[FIRST] : row[FIRST] + m],
            squares[:, :, row[LEFT] : row[LEFT] + n * n].unflatten(2, (n, n)),
            squares[:, :, row[RIGHT] : row[RIGHT] + m * m].unflatten(2, (m, m)),
        )
