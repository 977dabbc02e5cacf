"""What modes and groups of atoms contribute to a run's spectrum, as spectrum.h5 and summary.json have it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import HpcirError

FloatArray = NDArray[np.float64]

SPECTRUM = "spectrum.h5"


@dataclass(frozen=True)
class Parts:
    """Contributions that add up to the spectrum: wavenumbers (F,) in cm-1; names and curves (P, F) in km/mol per cm-1.

    modes: a name and a curve for each normal mode, ascending, and for what they leave; groups: for each group of atoms
    (none where the dipole knows no atoms). Names may repeat.
    """

    wavenumbers: FloatArray
    mode_names: tuple[str, ...]
    modes: FloatArray
    group_names: tuple[str, ...]
    groups: FloatArray


def contributions(folder: Path) -> Parts | None:
    """The parts of a run directory's spectrum; None where there are none, or the file cannot be read."""
    from hpcir.store import read_h5

    path = folder / SPECTRUM
    if not path.is_file():
        return None
    try:
        arrays, attributes = read_h5(path)
        names: dict[str, Any] = json.loads(attributes.get("parts", "{}"))
    except (HpcirError, ValueError):
        return None
    if "mode_contributions" not in arrays:
        return None
    grid = arrays["wavenumbers"]
    return Parts(
        wavenumbers=grid,
        mode_names=tuple(names.get("modes", ())),
        modes=arrays["mode_contributions"],
        group_names=tuple(names.get("groups", ())),
        groups=arrays.get("group_contributions", np.zeros((0, len(grid)))),
    )
