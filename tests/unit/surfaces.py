"""Surfaces of springs for tests of vibrational levels: functions of bond lengths and angles with exact forces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from hpcir.molecules.structures import Structure
from hpcir.units import AMU, ANGSTROM, PER_CM
from hpcir.vibrations.levels.surface import SurfaceValues

Energy = Callable[[torch.Tensor], torch.Tensor]


class SpringSurface:
    """Energy of positions (S, N, 3) in bohr as a torch function (S,); the dipole is that of fixed charges (N,)."""

    def __init__(self, energy: Energy, charges: list[float]) -> None:
        self.energy, self.charges = energy, np.array(charges)

    def __call__(self, positions: np.ndarray) -> SurfaceValues:
        x = torch.tensor(np.ascontiguousarray(positions), dtype=torch.float64, requires_grad=True)
        energies = self.energy(x)
        (gradient,) = torch.autograd.grad(energies.sum(), x)
        dipoles = np.einsum("i,sia->sa", self.charges, positions)
        return SurfaceValues(energies.detach().numpy(), -gradient.numpy(), dipoles)


def length(x: torch.Tensor, i: int, j: int) -> torch.Tensor:
    return torch.sqrt(((x[:, i] - x[:, j]) ** 2).sum(-1) + 1e-300)


def cosine(x: torch.Tensor, i: int, j: int, k: int) -> torch.Tensor:
    u, v = x[:, i] - x[:, j], x[:, k] - x[:, j]
    return (u * v).sum(-1) / (length(x, i, j) * length(x, k, j))


def morse(depth: float, steepness: float, rest: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda r: depth * (1 - torch.exp(-steepness * (r - rest))) ** 2


# A diatomic with the masses and about the constants of hydrogen chloride.
DIATOMIC_MASSES = np.array([1.008, 35.45]) * AMU
REDUCED = float(DIATOMIC_MASSES.prod() / DIATOMIC_MASSES.sum())
DEPTH, STEEPNESS, REST = 0.17, 0.98, 2.41
MORSE_OMEGA = STEEPNESS * np.sqrt(2 * DEPTH / REDUCED) / PER_CM
MORSE_SHIFT = STEEPNESS**2 / (2 * REDUCED) / PER_CM


def diatomic() -> tuple[SpringSurface, Structure]:
    """A Morse oscillator: levels omega (v + 1/2) - shift (v + 1/2)^2."""
    bond = morse(DEPTH, STEEPNESS, REST)
    structure = Structure(np.array([1, 17]), np.array([[0, 0, 0], [0, 0, REST]]), name="morse")
    return SpringSurface(lambda x: bond(length(x, 0, 1)), [0.2, -0.2]), structure


def bent(scale: float = 1.0) -> tuple[SpringSurface, Structure]:
    """A molecule like water: Morse bonds, a spring in the angle's cosine, and a coupling of the bonds."""
    bond = morse(0.19, 1.2, 1.82)
    angle = float(np.cos(np.radians(104.0)))

    def energy(x: torch.Tensor) -> torch.Tensor:
        a, b, c = length(x, 0, 1), length(x, 0, 2), cosine(x, 1, 0, 2)
        return scale * (bond(a) + bond(b) + 0.09 * (c - angle) ** 2 - 0.006 * (a - 1.82) * (b - 1.82))

    half = np.radians(52.0)
    positions = 1.82 * np.array([[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]])
    return SpringSurface(energy, [-0.6, 0.3, 0.3]), Structure(np.array([8, 1, 1]), positions, name="bent")


def linear() -> tuple[SpringSurface, Structure]:
    """A molecule like carbon dioxide, with its symmetric stretch near twice the bend."""
    bond = morse(0.28, 1.32, 2.2)

    def energy(x: torch.Tensor) -> torch.Tensor:
        a, b, c = length(x, 0, 1), length(x, 0, 2), cosine(x, 1, 0, 2)
        return bond(a) + bond(b) + 0.16 * (1 + c) + 0.07 * (a - 2.2) * (b - 2.2)

    positions = 2.2 * np.array([[0, 0, 0], [0, 0, 1], [0, 0, -1.0]])
    return SpringSurface(energy, [0.8, -0.4, -0.4]), Structure(np.array([6, 8, 8]), positions, name="linear")


WATER = np.array([[0, 0, 0], [0.76, 0.58, 0], [-0.76, 0.58, 0]]) * ANGSTROM
