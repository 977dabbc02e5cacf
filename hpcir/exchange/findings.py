"""Findings of the audit of a data set, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.exchange.datasets import Dataset, Frame

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One finding of the audit. severity: 'error' (do not train on this), 'warning' (look), 'note'.

    check: which test; text: what was seen, with numbers; advice: what to do; frames: indices of the geometries.
    """

    severity: str
    check: str
    text: str
    advice: str
    frames: tuple[int, ...] = ()

    def __str__(self) -> str:
        stop = "" if self.advice.endswith("?") else "."
        return f"{self.severity}: {self.text}. {self.advice[0].upper()}{self.advice[1:]}{stop}"


def describe(findings: list[Finding]) -> str:
    """The findings as text for a terminal, one a line; a sentence when there is none."""
    if not findings:
        return "The audit found nothing against training on this data set."
    return "\n".join(f"- {finding}" for finding in findings)


def some(frames: list[int], most: int = 5) -> str:
    """'geometries 1, 2, 5 and 7 more' counted from 1, as a user counts them in the file."""
    shown = ", ".join(str(n + 1) for n in frames[:most])
    more = f" and {len(frames) - most} more" if len(frames) > most else ""
    return f"{'geometry' if len(frames) == 1 else 'geometries'} {shown}{more}"


def values(dataset: Dataset, frames: list[int], quantity: str) -> list[Any]:
    """A quantity of frames that have it."""
    return [getattr(dataset.frames[n], quantity) for n in frames]


def nuclear_centre(frame: Frame) -> FloatArray:
    """(3,) centre of nuclear charge, bohr."""
    z = frame.numbers.astype(float)
    return np.asarray(z @ frame.positions / z.sum(), float)


def fingerprint(frame: Frame) -> FloatArray:
    """Distances of each atom to the mean position and to the atom before it in the file: invariant, 2 N numbers."""
    middle = np.linalg.norm(frame.positions - frame.positions.mean(0), axis=1)
    following = np.linalg.norm(frame.positions - np.roll(frame.positions, 1, axis=0), axis=1)
    return np.concatenate([middle, following])
