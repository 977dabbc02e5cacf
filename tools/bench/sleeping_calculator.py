"""An ASE calculator that takes its time asleep, so that more ranks than cores work at once; for bench_scaling.

The energy is harmonic about the distances of the first geometry; the time of a geometry is drawn log-normally from its
contents, the same in every process.
"""

from __future__ import annotations

import time
import zlib
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

MEDIAN_SECONDS, SPREAD = 0.25, 0.4


def seconds_of(positions: np.ndarray) -> float:
    """How long the label of a geometry (N, 3) angstrom takes."""
    stream = np.random.default_rng(zlib.crc32(np.round(positions, 6).tobytes()))
    return float(MEDIAN_SECONDS * np.exp(SPREAD * stream.standard_normal()))


class Sleeping(Calculator):
    implemented_properties = ("energy", "forces", "dipole")

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        positions = atoms.positions
        time.sleep(seconds_of(positions - positions.mean(0)))
        centred = positions - positions.mean(0)
        self.results = {"energy": 0.5 * float((centred**2).sum()), "forces": -centred, "dipole": centred[0]}
