"""Optimisers of a committee's flat parameters (members, size), and the one table of them.

State goes in and out as named arrays, so that a training can be stopped and continued bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from hpcir.errors import InputError
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
    eigenvectors Q_L, Q_R (refreshed every `refresh` steps by one power iteration and QR). Adam's second moment is
    kept of Q_L^T G Q_R, where the curvature is nearly diagonal. Biases go by plain Adam. All elements' matrices of
    one layer are one batch, but each member has tensors of its own: the rounding of a product may depend on where in
    memory its factors lie, and must not depend on which members are trained beside it.
    """

    def __init__(
        self,
        parameters: Tensor,
        layout: Layout,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tiny: float = 1e-8,
        refresh: int = 10,
    ) -> None:
        self.beta1, self.beta2, self.tiny, self.refresh = beta1, beta2, tiny, refresh
        self.layout = layout
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.count = torch.zeros((), dtype=torch.float64)
        self.direction = torch.zeros_like(parameters)
        self.rotated = torch.zeros_like(parameters)
        members, elements = len(parameters), len(layout.elements)
        # [member][layer] -> (elements, size, size)
        self.left: list[list[Tensor]] = [[] for _ in range(members)]
        self.right: list[list[Tensor]] = [[] for _ in range(members)]
        self.left_basis: list[list[Tensor]] = [[] for _ in range(members)]
        self.right_basis: list[list[Tensor]] = [[] for _ in range(members)]
        for m, n in zip(layout.widths[:-1], layout.widths[1:], strict=True):
            for size, grams, bases in ((n, self.left, self.left_basis), (m, self.right, self.right_basis)):
                for gram, basis in zip(grams, bases, strict=True):
                    gram.append(parameters.new_zeros(elements, size, size))
                    basis.append(torch.eye(size).to(parameters).expand(elements, size, size).clone())

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """One step downhill."""
        self.count += 1
        count = float(self.count)
        self.first.lerp_(gradient, 1 - self.beta1)
        self._rotate(gradient, self.rotated, into=True)
        self.second.mul_(self.beta2).addcmul_(self.rotated, self.rotated, value=1 - self.beta2)
        self._rotate(self.first, self.rotated, into=True)
        scale = math.sqrt(1 - self.beta2**count) / (1 - self.beta1**count)
        self.rotated.div_(self.second.sqrt().add_(self.tiny))
        self._rotate(self.rotated, self.direction, into=False)
        parameters.add_(self.direction, alpha=-rate * scale)
        self._learn_bases(gradient, int(count))

    def _matrices(self, flat: Tensor) -> list[list[Tensor]]:
        """[member][layer] -> (elements, out, in), views of the weights in flat (members, size)."""
        by_element = flat.unflatten(1, (len(self.layout.elements), self.layout.element_size))
        matrices: list[list[Tensor]] = [[] for _ in by_element]
        offset = 0
        for m, n in zip(self.layout.widths[:-1], self.layout.widths[1:], strict=True):
            for own, rows in zip(matrices, by_element, strict=True):
                own.append(rows[:, offset : offset + m * n].unflatten(1, (n, m)))
            offset += n * (m + 1)
        return matrices

    def _rotate(self, source: Tensor, target: Tensor, into: bool) -> None:
        target.copy_(source)
        for member, (matrices, results) in enumerate(zip(self._matrices(source), self._matrices(target), strict=True)):
            lefts, rights = self.left_basis[member], self.right_basis[member]
            for matrix, result, left, right in zip(matrices, results, lefts, rights, strict=True):
                if into:
                    result.copy_(left.transpose(1, 2) @ matrix @ right)
                else:
                    result.copy_(left @ matrix @ right.transpose(1, 2))

    def _learn_bases(self, gradient: Tensor, count: int) -> None:
        for member, matrices in enumerate(self._matrices(gradient)):
            for layer, matrix in enumerate(matrices):
                left, right = self.left[member][layer], self.right[member][layer]
                left.lerp_(matrix @ matrix.transpose(1, 2), 1 - self.beta2)
                right.lerp_(matrix.transpose(1, 2) @ matrix, 1 - self.beta2)
                if count == 1 or count % self.refresh == 0:
                    _refresh(left, self.left_basis[member][layer], count == 1)
                    _refresh(right, self.right_basis[member][layer], count == 1)

    def state(self) -> dict[str, Tensor]:
        named = {"first": self.first, "second": self.second, "count": self.count}
        for name in ("left", "right", "left_basis", "right_basis"):
            for member, tensors in enumerate(getattr(self, name)):
                named |= {f"{name}_{layer}_of_{member}": tensor for layer, tensor in enumerate(tensors)}
        return named


def _refresh(gram: Tensor, basis: Tensor, first: bool) -> None:
    """Bring the eigenvectors `basis` nearer to those of `gram`, in place; the first time find them."""
    if first:
        basis.copy_(torch.linalg.eigh(gram.double())[1].flip(2))
    else:
        # Copied, so that its layout in memory (and the rounding) is what a resumed training has.
        basis.copy_(torch.linalg.qr(gram @ basis)[0])


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
