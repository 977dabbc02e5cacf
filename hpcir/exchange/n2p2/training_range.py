"""Atoms of a geometry outside the range of symmetry functions that a potential from n2p2 was trained in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.exchange.n2p2.networks import ElementNetwork, find_neighbours
from hpcir.exchange.n2p2.potential import N2p2Potential
from hpcir.molecules.structures import symbols
from hpcir.units import ANGSTROM

# Largest excess that is rounding of printed values (relative to the range).
TOLERANCE = 1e-6
# Width of ranges that are written where the extremes are not known.
UNKNOWN_WIDTH = 1e20


@dataclass(frozen=True)
class Extrapolation:
    """Atom (from 1), its element, the function in words, its value, and the range of the training set."""

    atom: int
    element: str
    function: str
    value: float
    minimum: float
    maximum: float

    @property
    def excess(self) -> float:
        """Distance from the range, in its widths."""
        beyond = max(self.value - self.maximum, self.minimum - self.value)
        return beyond / max(self.maximum - self.minimum, 1e-300)

    def __str__(self) -> str:
        return (
            f"atom {self.atom} ({self.element}): {self.function} is {self.value:.4g}, "
            f"in training it was {self.minimum:.4g} to {self.maximum:.4g}"
        )


def describe_function(element: ElementNetwork, function: int) -> str:
    """A symmetry function in words, lengths in angstrom; `function` counts from 0, the words from 1 as n2p2 does."""
    eta, shift, cutoff, zeta, lam = element.parameters[function]
    names = symbols(np.array([z for z in element.neighbours[function] if z]))
    kind = int(element.kind[function])
    text = f"function {function + 1} (type {kind} to {' and '.join(names)}, eta {eta * ANGSTROM**2:.3g} A^-2"
    text += f", shift {shift / ANGSTROM:.3g} A" if shift else ""
    text += f", zeta {zeta:g}, lambda {lam:+g}" if kind != 2 else ""
    return f"{text}, cutoff {cutoff / ANGSTROM:.3g} A)"


def extrapolations(potential: N2p2Potential, numbers: IntArray, positions: FloatArray) -> list[Extrapolation]:
    """Every atom and function outside the training range of any network of the potential, the furthest first.

    numbers (N,), positions (N, 3) in bohr. A potential whose files give no extremes has none.
    """
    neighbours = find_neighbours(np.asarray(positions, float), potential.cutoff)
    found: dict[tuple[int, str], Extrapolation] = {}
    for networks in (*potential.energy, *potential.charge):
        features = networks.features(numbers, neighbours)
        for atom, z in enumerate(np.asarray(numbers).tolist()):
            element = networks.elements[z]
            low, high = element.minimum, element.maximum
            values, slack = features[atom, : len(low)], TOLERANCE * (high - low)
            known = (np.abs(low) < UNKNOWN_WIDTH) & (np.abs(high) < UNKNOWN_WIDTH)
            for f in np.flatnonzero(known & ((values < low - slack) | (values > high + slack))).tolist():
                name = symbols(np.array([z]))[0]
                words = describe_function(element, f)
                one = Extrapolation(atom + 1, name, words, float(values[f]), float(low[f]), float(high[f]))
                if (atom, words) not in found or one.excess > found[atom, words].excess:
                    found[atom, words] = one
    return sorted(found.values(), key=lambda item: -item.excess)
