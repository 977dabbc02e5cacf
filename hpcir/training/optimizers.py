"""Optimisers of flat parameter tensors (members, size), and the one table of them.

An optimiser is stepped with a gradient and a rate; its state goes in and out as named arrays, so that a training
can be stopped and continued bit for bit.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch

from hpcir.training.network import Layout

Tensor = torch.Tensor


class Optimizer(Protocol):
    """Changes parameters (members, size) in place."""

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: dict[str, Tensor]) -> None: ...


class Adam:
    """Adam (Kingma and Ba, arXiv:1412.6980) with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101)."""

    def __init__(
        self, parameters: Tensor, beta1: float = 0.9, beta2: float = 0.99, decay: float = 0.0, tiny: float = 1e-8
    ) -> None:
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.beta1, self.beta2, self.decay, self.tiny = beta1, beta2, decay, tiny
        self.count = torch.zeros((), dtype=torch.float64)

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor) -> None:
        """One step downhill of `rate` in every parameter (a number, or (size,) for rates of their own)."""
        self.count += 1
        count = float(self.count)
        self.first.lerp_(gradient, 1 - self.beta1)
        self.second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        scale = math.sqrt(1 - self.beta2**count) / (1 - self.beta1**count)
        direction = self.first / (self.second.sqrt().add_(self.tiny))
        if self.decay:
            direction.add_(parameters, alpha=self.decay / scale)
        if isinstance(rate, Tensor):
            parameters.addcmul_(direction, rate, value=-scale)
        else:
            parameters.add_(direction, alpha=-rate * scale)

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second, "count": self.count}

    def load(self, state: dict[str, Tensor]) -> None:
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.count.copy_(state["count"])


def cosine_rate(step: int, steps: int, peak: float, warm_up: float = 0.02) -> float:
    """Learning rate of step 0 .. steps-1: up in a straight line, then down along half a cosine to zero."""
    rise = max(1.0, warm_up * steps)
    return peak * min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / steps))


class Soap:
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv:2409.11321).

    For the gradient G (out, in) of a weight matrix, L and R are running averages of G G^T and G^T G with
    eigenvectors Q_L, Q_R (refreshed every `refresh` steps by one power iteration and QR). Adam's second moment is
    kept of Q_L^T G Q_R, where the curvature is nearly diagonal. Biases go by plain Adam. All elements' matrices of
    one layer are one batch.
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
        self.left, self.right, self.left_basis, self.right_basis = [], [], [], []
        for m, n in zip(layout.widths[:-1], layout.widths[1:], strict=True):
            for size, gram, basis in ((n, self.left, self.left_basis), (m, self.right, self.right_basis)):
                gram.append(parameters.new_zeros(members, elements, size, size))
                basis.append(torch.eye(size).to(parameters).expand(members, elements, size, size).clone())

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor) -> None:
        """One step downhill of `rate`."""
        self.count += 1
        count = float(self.count)
        self.first.lerp_(gradient, 1 - self.beta1)
        self._rotate(gradient, self.rotated, into=True)
        self.second.mul_(self.beta2).addcmul_(self.rotated, self.rotated, value=1 - self.beta2)
        self._rotate(self.first, self.rotated, into=True)
        scale = math.sqrt(1 - self.beta2**count) / (1 - self.beta1**count)
        self.rotated.div_(self.second.sqrt().add_(self.tiny))
        self._rotate(self.rotated, self.direction, into=False)
        if isinstance(rate, Tensor):
            parameters.addcmul_(self.direction, rate, value=-scale)
        else:
            parameters.add_(self.direction, alpha=-rate * scale)
        self._learn_bases(gradient, int(count))

    def _matrices(self, flat: Tensor) -> list[Tensor]:
        """[layer] -> (members, elements, out, in), views of the weights in flat (members, size)."""
        by_element = flat.unflatten(1, (len(self.layout.elements), self.layout.element_size))
        matrices, offset = [], 0
        for m, n in zip(self.layout.widths[:-1], self.layout.widths[1:], strict=True):
            matrices.append(by_element[:, :, offset : offset + m * n].unflatten(2, (n, m)))
            offset += n * (m + 1)
        return matrices

    def _rotate(self, source: Tensor, target: Tensor, into: bool) -> None:
        target.copy_(source)
        for layer, (matrix, result) in enumerate(zip(self._matrices(source), self._matrices(target), strict=True)):
            left, right = self.left_basis[layer], self.right_basis[layer]
            if into:
                result.copy_(left.transpose(2, 3) @ matrix @ right)
            else:
                result.copy_(left @ matrix @ right.transpose(2, 3))

    def _learn_bases(self, gradient: Tensor, count: int) -> None:
        for layer, matrix in enumerate(self._matrices(gradient)):
            self.left[layer].lerp_(matrix @ matrix.transpose(2, 3), 1 - self.beta2)
            self.right[layer].lerp_(matrix.transpose(2, 3) @ matrix, 1 - self.beta2)
            if count == 1 or count % self.refresh == 0:
                for gram, basis in ((self.left, self.left_basis), (self.right, self.right_basis)):
                    if count == 1:
                        basis[layer] = torch.linalg.eigh(gram[layer].double())[1].flip(3).to(gradient)
                    else:
                        basis[layer] = torch.linalg.qr(gram[layer] @ basis[layer])[0]

    def state(self) -> dict[str, Tensor]:
        named = {"first": self.first, "second": self.second, "count": self.count}
        for layer in range(len(self.left)):
            for name in ("left", "right", "left_basis", "right_basis"):
                named[f"{name}_{layer}"] = getattr(self, name)[layer]
        return named

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
