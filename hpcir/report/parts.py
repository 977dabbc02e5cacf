"""Contributions of modes and groups of atoms to a run's spectrum, from spectrum.h5 and summary.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import HpcirError
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5


@dataclass(frozen=True)
class Parts:
    """Contributions that add up to the spectrum: wavenumbers (F,) in cm-1; names and curves (P, F) in km/mol per cm-1.

    modes: a name and a curve for each normal mode, ascending, and for what they leave; groups: for each group of atoms
    (none where the dipole is not a sum over atoms). Names may repeat.
    """

    wavenumbers: FloatArray
    mode_names: tuple[str, ...]
    modes: FloatArray
    group_names: tuple[str, ...]
    groups: FloatArray


def contributions(folder: Path) -> Parts | None:
    """The parts of a run directory's spectrum; None where there are none, or the file cannot be read."""
    path = folder / layout.spectrum_h5()
    if not path.is_file():
        return None
    try:
        arrays, attributes = read_h5(path)
        names: dict[str, list[str]] = json.loads(attributes.get("parts", "{}"))
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


def summed(names: Sequence[str], curves: FloatArray, most: int) -> dict[str, FloatArray]:
    """Curves (P, F) by name, those of one name added up, in the order of the curves; of more than `most` names the ones
    with the smallest areas (of the absolute value) are added up as "the rest". They sum to what the curves sum to."""
    found: dict[str, FloatArray] = {}
    for name, curve in zip(names, curves, strict=False):
        found[name] = found[name] + curve if name in found else np.asarray(curve, float)
    if len(found) <= most:
        return found
    areas = {name: float(np.abs(curve).sum()) for name, curve in found.items()}
    kept = sorted(areas, key=lambda name: -areas[name])[: most - 1]
    rest = np.sum([curve for name, curve in found.items() if name not in kept], axis=0)
    return {name: curve for name, curve in found.items() if name in kept} | {"the rest": rest}
