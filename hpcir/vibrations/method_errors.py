"""The error of each method for the motion of nuclei, as measured against exact levels on one surface.

The table is what `tools/bench/bench_quantum --kinds` prints of HCl, CO, HF, H2O, D2O, HCN and CO2 on the surface of
GFN2-xTB (docs/quantum.md), by the kind of motion: another molecule's error is expected to be like these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Motion = Literal["stretch with hydrogen", "stretch without hydrogen", "bend"]
Method = Literal["harmonic", "classical", "trpmd", "pigs", "perturbation", "variational", "grid"]


@dataclass(frozen=True)
class MethodError:
    """Errors of a method in exact fundamentals of one kind of motion: the mean, the standard deviation about it (both
    cm-1), and the number of fundamentals that they are over."""

    mean_per_cm: float
    scatter_per_cm: float
    count: int


MEASURED: dict[Method, dict[Motion, MethodError]] = {
    "harmonic": {
        "stretch with hydrogen": MethodError(163.0, 76.3, 7),
        "stretch without hydrogen": MethodError(23.2, 19.5, 4),
        "bend": MethodError(17.7, 19.4, 4),
    },
    # A band of classical nuclei at 300 K: thermal amplitudes have a tenth of the shift of zero-point ones.
    "classical": {
        "stretch with hydrogen": MethodError(139.8, 69.6, 7),
        "stretch without hydrogen": MethodError(24.2, 4.1, 3),
        "bend": MethodError(14.5, 15.5, 4),
    },
    # Of bands in the frame that does not turn.
    "trpmd": {
        "stretch with hydrogen": MethodError(35.2, 17.4, 7),
        "stretch without hydrogen": MethodError(5.4, 5.1, 3),
        "bend": MethodError(-1.7, 2.8, 4),
    },
    # At the temperature that the program chooses.
    "pigs": {
        "stretch with hydrogen": MethodError(2.7, 8.4, 7),
        "stretch without hydrogen": MethodError(4.0, 4.9, 3),
        "bend": MethodError(-4.4, 3.3, 4),
    },
    "perturbation": {
        "stretch with hydrogen": MethodError(-7.1, 4.8, 7),
        "stretch without hydrogen": MethodError(0.2, 0.6, 4),
        "bend": MethodError(0.7, 0.8, 4),
    },
    "variational": {
        "stretch with hydrogen": MethodError(0.5, 1.4, 7),
        "stretch without hydrogen": MethodError(0.4, 0.9, 4),
        "bend": MethodError(0.8, 1.5, 4),
    },
    "grid": {
        "stretch with hydrogen": MethodError(0.0, 0.0, 7),
        "stretch without hydrogen": MethodError(0.0, 0.0, 4),
        "bend": MethodError(0.0, 0.0, 4),
    },
}


def motion_of(words: str) -> Motion | None:
    """The kind of a motion in words, such as 'O-H symmetric stretch', 'C-O stretch + CH3 rock' (the first counts); None
    for those that were not measured, such as torsions."""
    first = words.split(" + ")[0].split(",")[0].strip()
    if re.search(r"\bstretch\b", first):
        return "stretch with hydrogen" if re.search(r"H(?![a-z])", first.split()[0]) else "stretch without hydrogen"
    if re.search(r"\b(bend|scissor|rock|wag|twist|umbrella|deformation)\b", first):
        return "bend"
    return None


def method_error(method: Method, words: str) -> MethodError | None:
    """The measured error of a method for a motion in words; None where it was not measured."""
    motion = motion_of(words)
    return None if motion is None else MEASURED.get(method, {}).get(motion)
