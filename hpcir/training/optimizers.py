"""Optimisers of flat parameter tensors (members, size), and the one table of them.

An optimiser is stepped with a gradient and a rate; its state goes in and out as named arrays, so that a training
can be stopped and continued bit for bit.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch

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
