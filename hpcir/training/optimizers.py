"""Optimisers of a committee's flat parameters (members, size), and the one table of them.

State goes in and out as named arrays, so that a training can be stopped and continued bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from hpcir.arrays import IntArray
from hpcir.errors import InputError
from hpcir.training.compiled import soap, torch_soap
from hpcir.training.kalman import KalmanCommittee
from hpcir.training.network import Layout

Tensor = torch.Tensor


class GradientOptimizer:
    """An optimiser that goes by the gradient of the loss alone."""

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """One step downhill."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """The tensors that change, by name (not copies)."""
        raise NotImplementedError


class Adam(GradientOptimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980)."""

    def __init__(
        self, parameters: Tensor, layout: Layout, beta1: float = 0.9, beta2: float = 0.99, tiny: float = 1e-8
    ) -> None:
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.beta1, self.beta2, self.tiny = beta1, beta2, tiny
        self.count = torch.zeros((), dtype=torch.float64)

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """One step downhill."""
        self.count += 1
        count = float(self.count)
        self.first.lerp_(gradient, 1 - self.beta1)
        self.second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        scale = math.sqrt(1 - self.beta2**count) / (1 - self.beta1**count)
        direction = self.first / (self.second.sqrt().add_(self.tiny))
        parameters.add_(direction, alpha=-rate * scale)

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second, "count": self.count}


def cosine_rate(step: int, steps: int, peak: float, warm_up: float = 0.02) -> float:
    """Learning rate of step 0 .. steps-1: up in a straight line, then down along half a cosine to zero."""
    rise = max(1.0, warm_up * steps)
    return peak * min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / steps))


class Soap(GradientOptimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv:2409.11321).

    For the gradient G (out, in) of a weight matrix, L and R are running averages of G G^T and G^T G with
    eigenvectors Q_L, Q_R. Adam's moments are kept of Q_L^T G Q_R, where the curvature is nearly diagonal. L and R take
    up every `gram_every`-th gradient; every `refresh` steps one power iteration and QR bring Q_L and Q_R up to date,
    and the first moment into the new basis. Biases go by plain Adam. On the processor compiled loops do the steps
    (`compiled.soap`), one matrix after the other: a member's rounding does not depend on which are trained beside it.
    """

    def __init__(
        self,
        parameters: Tensor,
        layout: Layout,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tiny: float = 1e-8,
        refresh: int = 20,
        gram_every: int = 5,
        widest: int = 60,
    ) -> None:
        self.beta1, self.beta2, self.tiny, self.refresh, self.gram_every = beta1, beta2, tiny, refresh, gram_every
        self.layout = layout
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.count = torch.zeros((), dtype=torch.float64)
        self.table = _table(layout, widest)
        self.compiled = parameters.device.type == "cpu"
        size = int(self.table[-1, soap.RIGHT] + self.table[-1, soap.COLUMNS] ** 2)
        # Grams and bases (members, elements, size): of every layer the left and the right matrix, one after the other.
        self.grams = parameters.new_zeros(len(parameters), len(layout.elements), -(-size // 16) * 16)
        self.bases = torch.zeros_like(self.grams)
        for matrices in self._square(self.bases):
            matrices.copy_(torch.eye(matrices.shape[-1]))

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """One step downhill."""
        self.count += 1
        count = int(self.count)
        if count == 1 or count % self.gram_every == 0:
            self._add_grams(gradient, 1 - self.beta2**self.gram_every)
        if count == 1 or count % self.refresh == 0:
            self._refresh(count == 1)
        scale = math.sqrt(1 - self.beta2**count) / (1 - self.beta1**count)
        own, new, first, second = map(self._by_element, (parameters, gradient, self.first, self.second))
        mixing, rate, tiny = (1 - self.beta1, 1 - self.beta2), rate * scale, self.tiny
        if self.compiled:
            arrays = [tensor.numpy() for tensor in (own, new, first, second, self.bases)]
            one = arrays[0].dtype.type
            soap.step(*arrays, self.table, (one(mixing[0]), one(mixing[1])), one(rate), one(tiny))
        else:
            torch_soap.step(own, new, first, second, self.bases, self.table, mixing, rate, tiny)

    def _by_element(self, flat: Tensor) -> Tensor:
        return flat.unflatten(1, (len(self.layout.elements), -1))

    def _add_grams(self, gradient: Tensor, share: float) -> None:
        source = self._by_element(gradient)
        if self.compiled:
            new = source.numpy()
            soap.add_grams(new, self.grams.numpy(), self.table, new.dtype.type(share))
        else:
            torch_soap.add_grams(source, self.grams, self.table, share)

    def _rotate(self, source: Tensor, target: Tensor, into: bool) -> None:
        tensors = (self._by_element(source), self._by_element(target), self.bases)
        if self.compiled:
            soap.rotate(*(tensor.numpy() for tensor in tensors), self.table, into)
        else:
            torch_soap.rotate(*tensors, self.table, into)

    def _square(self, flat: Tensor) -> list[Tensor]:
        """The matrices (members, elements, n, n) in Grams or bases, two for each layer: views."""
        found = []
        for row in self.table.tolist():
            for place, size in ((soap.LEFT, soap.ROWS), (soap.RIGHT, soap.COLUMNS)):
                first, n = row[place], row[size]
                found.append(flat[:, :, first : first + n * n].unflatten(2, (n, n)))
        return found

    def _refresh(self, initial: bool) -> None:
        """Bring the bases nearer to the eigenvectors of the Grams (at first find them), and the first moment along."""
        plain = torch.empty_like(self.first)
        self._rotate(self.first, plain, False)
        for grams, bases in zip(self._square(self.grams), self._square(self.bases), strict=True):
            # Member by member, each a copy: the rounding must not depend on how many members there are, nor on where
            # in memory a matrix lies.
            for gram, basis in zip(grams, bases, strict=True):
                if initial:
                    basis.copy_(torch.linalg.eigh(gram.double())[1].flip(2))
                else:
                    basis.copy_(torch.linalg.qr(gram.clone() @ basis.clone())[0])
        self._rotate(plain, self.first, True)

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("first", "second", "count", "grams", "bases")}


def _table(layout: Layout, widest: int) -> IntArray:
    """One row for each block of at most `widest` columns of a layer (see `compiled.soap`)."""
    rows = []
    weight = matrix = 0
    for m, n in zip(layout.widths[:-1], layout.widths[1:], strict=True):
        for columns in np.array_split(np.arange(m), -(-m // widest)):
            size = len(columns)
            rows.append((weight, m, n, columns[0], size, matrix, matrix + n * n))
            matrix += n * n + size * size
        weight += n * (m + 1)
    return np.array(rows, np.int64)


# The filter learns from the batches themselves, the others from the gradient of the loss.
EnergyOptimizer = GradientOptimizer | KalmanCommittee
OPTIMIZERS: dict[str, Callable[[Tensor, Layout], EnergyOptimizer]] = {
    "adam": Adam,
    "soap": Soap,
    "kalman": KalmanCommittee,
}


def create_optimizer(name: str, parameters: Tensor, layout: Layout) -> EnergyOptimizer:
    """The optimiser of that name for parameters (members, size). Raises InputError listing the valid names."""
    if name not in OPTIMIZERS:
        raise InputError(
            "no such optimiser",
            where="training.optimizer",
            value=name,
            hint="valid: " + ", ".join(OPTIMIZERS),
        )
    return OPTIMIZERS[name](parameters, layout)
