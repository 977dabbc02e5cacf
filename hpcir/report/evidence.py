"""What stands behind the verdicts: which atoms the model errs on, whether the bands have settled, energy conservation.

Each part is read from files of the run and is None where they are not there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import HpcirError
from hpcir.molecules.structures import Structure, bonds, read_structure, symbols
from hpcir.storage.hdf5 import read_h5
from hpcir.units import ANGSTROM, FS, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

FloatArray = NDArray[np.float64]

# The strongest bands whose convergence is shown, and the fewest trajectories that show anything.
SHOWN_BANDS, FEWEST = 5, 4
# Trajectories and points of each whose energies are drawn.
SHOWN_TRAJECTORIES, SHOWN_POINTS = 32, 100
TRUST = "trust.json"
# The view of the molecule, radian.
YAW, TILT = 0.35, 0.45


@dataclass(frozen=True)
class AtomValues:
    """A value of each atom: value (N,) in `unit`; what: the value in words; told (N,): more about each atom."""

    what: str
    unit: str
    value: FloatArray
    told: tuple[str, ...]


@dataclass(frozen=True)
class AtomMap:
    """The molecule seen a little from the side of its longest axes, and what is known of each atom.

    x, y (N,) angstrom; symbols; bonds; values: one or more, the first to be shown first.
    """

    x: FloatArray
    y: FloatArray
    symbols: tuple[str, ...]
    bonds: tuple[tuple[int, int], ...]
    values: tuple[AtomValues, ...]


@dataclass(frozen=True)
class TrustRow:
    """An atom of trust.json: its name; largest and mean distance from the training data (1: usual among them); largest
    and mean committee spread of its force (kcal/mol/angstrom); frames outside the range of some symmetry function
    (fraction), the largest excess (fraction of the range) and that function in words. None: not known."""

    name: str
    largest_distance: float | None
    mean_distance: float | None
    largest_spread: float | None
    mean_spread: float | None
    outside: float | None
    excess: float | None
    function: str


@dataclass(frozen=True)
class Settling:
    """The running mean of a band's intensity over trajectories: percent from the final one, (T,)."""

    position: float
    percent: FloatArray


@dataclass(frozen=True)
class Conservation:
    """Total energies of trajectories from their own means: time (n,) in ps, energy (k, n) in kcal/mol."""

    time: FloatArray
    energy: FloatArray


@dataclass(frozen=True)
class HarmonicRow:
    """A normal mode: label engine and model, wavenumbers in cm-1 and intensities in km/mol (None: not known)."""

    engine: float | None
    model: float | None
    engine_intensity: float | None
    model_intensity: float | None


def atom_map(folder: Path) -> AtomMap | None:
    """What is known of each atom: its force error over the independent test, its distance from the training data along
    the trajectories and the committee's spread there (trust.json). None without any of them."""
    structure = _minimum(folder)
    if structure is None:
        return None
    found = [_test_errors(folder / "test.h5", len(structure)), *_trust_values(folder / TRUST, len(structure))]
    values = tuple(item for item in found if item is not None)
    return _map(structure, values) if values else None


def trust_rows(folder: Path) -> tuple[TrustRow, ...]:
    """The rows of trust.json, the atom farthest from the training data first; none without the file."""
    numbers = ("largest_distance", "mean_distance", "largest_spread", "mean_spread", "outside", "excess")
    rows = [
        TrustRow(
            name=str(atom.get("name") or f"atom {atom['atom'] + 1}"),
            function=str(atom.get("description") or ""),
            **{name: _finite(atom.get(name)) for name in numbers},
        )
        for atom in _trust(folder / TRUST)
    ]
    return tuple(sorted(rows, key=lambda row: -(row.largest_distance or 0.0)))


def _test_errors(path: Path, count: int) -> AtomValues | None:
    """Root mean square force error of every atom over the independent test."""
    test = _arrays(path)
    if test.get("forces_model") is None or np.shape(test["forces_model"])[1:] != (count, 3):
        return None
    error = np.linalg.norm(test["forces_model"] - test["forces_reference"], axis=2) / KCAL_PER_MOL_ANGSTROM
    spread = np.linalg.norm(test["forces_spread"], axis=2) / KCAL_PER_MOL_ANGSTROM
    told = tuple(
        f"largest {most:.2g}, committee spread {wide:.2g}"
        for most, wide in zip(error.max(0), spread.mean(0), strict=True)
    )
    return AtomValues("force error in the test", "kcal/mol/Å", np.sqrt((error**2).mean(0)), told)


def _trust_values(path: Path, count: int) -> list[AtomValues]:
    """Distance from the training data and committee spread of every atom over the trajectories."""
    atoms = _trust(path)
    if len(atoms) != count:
        return []

    def column(name: str) -> FloatArray:
        return np.array([_finite(atom.get(name)) or 0.0 for atom in atoms])

    told = tuple(_outside(atom) for atom in atoms)
    values = [AtomValues("distance from the training data", "usual distances", column("largest_distance"), told)]
    if column("largest_spread").any():
        values.append(AtomValues("committee spread", "kcal/mol/Å", column("largest_spread"), told))
    return values


def _outside(atom: dict[str, Any]) -> str:
    """The symmetry function that leaves its training range, and by how much."""
    excess, function = _finite(atom.get("excess")), str(atom.get("description") or "")
    if not function:
        return "every symmetry function in its range"
    return function + (f": {100 * excess:.2g} % outside its range" if excess else " outside its range")


def _trust(path: Path) -> list[dict[str, Any]]:
    """The atoms of trust.json in the order of the structure; none when the file is not there or is damaged."""
    try:
        atoms = json.loads(path.read_text(encoding="utf-8"))["atoms"]
        return sorted(atoms, key=lambda atom: int(atom["atom"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def _map(structure: Structure, values: tuple[AtomValues, ...]) -> AtomMap:
    centred = structure.positions - structure.positions.mean(0)
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    along, across, depth = (centred @ axes.T / ANGSTROM).T
    # Turned, so that an atom does not stand behind its mirror image.
    x = along * np.cos(YAW) + depth * np.sin(YAW)
    y = across * np.cos(TILT) + (depth * np.cos(YAW) - along * np.sin(YAW)) * np.sin(TILT)
    return AtomMap(x, y, tuple(symbols(structure.numbers)), tuple(bonds(structure)), values)


def _minimum(folder: Path) -> Structure | None:
    arrays = _arrays(folder / "prepare.h5")
    if not {"numbers", "positions"} <= arrays.keys():
        try:
            return read_structure(folder / "start.xyz")
        except HpcirError:
            return None
    return Structure(np.asarray(arrays["numbers"], np.int64), np.asarray(arrays["positions"], float))


def settling(folder: Path, bands: Sequence[dict[str, Any]]) -> tuple[Settling, ...]:
    """How the strongest bands' intensities settle as trajectories are added, from spectrum.h5."""
    arrays = _arrays(folder / "spectrum.h5")
    if "trajectories" not in arrays or len(arrays["trajectories"]) < FEWEST:
        return ()
    terms, x = arrays["trajectories"], arrays["wavenumbers"]
    count = np.arange(1, len(terms) + 1)
    found = []
    strongest = sorted(bands, key=lambda band: -(band.get("intensity_km_per_mol") or 0.0))[:SHOWN_BANDS]
    for band in strongest:
        low, high = band.get("lower_per_cm"), band.get("upper_per_cm")
        if low is None or high is None or not low < high:
            continue
        inside = (x >= low) & (x <= high)
        running = np.cumsum(terms[:, inside].sum(1)) / count
        if running[-1] > 0:
            found.append(Settling(float(band["position_per_cm"]), 100 * (running / running[-1] - 1)))
    return tuple(sorted(found, key=lambda item: -item.position))


def conservation(folder: Path) -> Conservation | None:
    """Total energies along the first trajectories of the main set."""
    energies: list[FloatArray] = []
    duration = 0.0
    for path in sorted((folder / "trajectories").glob("main-*.h5")):
        arrays, attributes = _read(path)
        if "total_energy" not in arrays or not np.size(arrays["total_energy"]):
            continue
        alive = np.asarray(arrays["alive"], bool)
        energies.append(np.asarray(arrays["total_energy"])[:, alive].T)
        duration = len(arrays["dipoles"]) * float(attributes["time_between_dipoles"])
        if sum(map(len, energies)) >= SHOWN_TRAJECTORIES:
            break
    if not energies or len({e.shape[1] for e in energies}) > 1 or not sum(map(len, energies)):
        return None
    every = np.concatenate(energies)[:SHOWN_TRAJECTORIES]
    kept = every[:, :: max(1, every.shape[1] // SHOWN_POINTS)]
    time = np.linspace(0, duration / FS / 1000, every.shape[1])[:: max(1, every.shape[1] // SHOWN_POINTS)]
    return Conservation(time, (kept - every.mean(1, keepdims=True)) / KCAL_PER_MOL)


def harmonic_rows(summary: dict[str, Any]) -> list[HarmonicRow]:
    """The normal modes of the summary, engine and model side by side in the order of wavenumbers."""
    harmonic = summary.get("harmonic") or {}
    columns = [
        harmonic.get(f"{side}_{what}") or []
        for side in ("engine", "model")
        for what in ("wavenumbers_per_cm", "intensities_km_per_mol")
    ]
    count = max((len(column) for column in columns), default=0)
    filled = [[*column, *[None] * (count - len(column))] for column in columns]
    return [HarmonicRow(e, m, ei, mi) for e, ei, m, mi in zip(*filled, strict=True)]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.is_file():
        return {}, {}
    try:
        return read_h5(path)
    except HpcirError:
        return {}, {}


def _arrays(path: Path) -> dict[str, Any]:
    return _read(path)[0]
