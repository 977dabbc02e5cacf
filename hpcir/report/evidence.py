"""Evidence for the verdicts: the model's error atom by atom, convergence of the bands, conservation of the energy.

Each part is read from files of the run and is None where they are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import HpcirError
from hpcir.molecules.structures import Structure, bonds, read_structure, symbols
from hpcir.sampling.trust import AtomTrust
from hpcir.spectra.bands import Band
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.results.compared import Compared
from hpcir.study.results.records import HarmonicFigures, read_trust_map
from hpcir.units import ANGSTROM, FS, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

# Most bands whose convergence is shown, the strongest ones, and the least number of trajectories for it.
MAX_BANDS, MIN_TRAJECTORIES = 5, 4
# Most trajectories whose energies are drawn, and points of each.
MAX_TRAJECTORIES, MAX_ENERGIES = 32, 100
# The view of the molecule, radian.
YAW, TILT = 0.35, 0.45


@dataclass(frozen=True)
class AtomValues:
    """A value of each atom: value (N,) in `unit`; what: the value in words; details (N,): more about each atom."""

    what: str
    unit: str
    value: FloatArray
    details: tuple[str, ...]


@dataclass(frozen=True)
class AtomMap:
    """The molecule in a view tilted from its longest axes, and values of each atom.

    x, y (N,) angstrom; symbols; bonds; values: one or more, the first to be shown first.
    """

    x: FloatArray
    y: FloatArray
    symbols: tuple[str, ...]
    bonds: tuple[tuple[int, int], ...]
    values: tuple[AtomValues, ...]


@dataclass(frozen=True)
class Settling:
    """The running mean of a band's intensity over trajectories: deviation (T,) from the final one in percent."""

    position: float
    percent: FloatArray


@dataclass(frozen=True)
class Conservation:
    """Total energies of trajectories relative to their means: time (n,) in ps, energy (k, n) in kcal/mol."""

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
    """Values of each atom: its force error over the independent test, its distance from the training data along
    the trajectories and the committee's spread there (trust.json). None without any of them."""
    structure = _minimum(folder)
    if structure is None:
        return None
    found = [_test_errors(folder / layout.TEST, len(structure)), *_trust_values(trust_rows(folder), len(structure))]
    values = tuple(item for item in found if item is not None)
    return _map(structure, values) if values else None


def trust_rows(folder: Path) -> tuple[AtomTrust, ...]:
    """The atoms of trust.json, the one farthest from the training data first; none without the file, or where it is
    damaged."""
    try:
        atoms = read_trust_map(folder / layout.TRUST).atoms
    except (FileNotFoundError, HpcirError):
        return ()
    return tuple(sorted(atoms, key=lambda row: -np.nan_to_num(row.largest_distance)))


def _test_errors(path: Path, count: int) -> AtomValues | None:
    """Root mean square force error of every atom over the independent test."""
    try:
        test = Compared.read(path)
    except (FileNotFoundError, HpcirError):
        return None
    if test.forces_model.shape[1:] != (count, 3):
        return None
    error = np.linalg.norm(test.forces_model - test.forces_reference, axis=2) / KCAL_PER_MOL_ANGSTROM
    spread = np.linalg.norm(test.forces_spread, axis=2) / KCAL_PER_MOL_ANGSTROM
    details = tuple(
        f"largest {most:.2g}, committee spread {wide:.2g}"
        for most, wide in zip(error.max(0), spread.mean(0), strict=True)
    )
    return AtomValues("force error in the test", "kcal/mol/Å", np.sqrt((error**2).mean(0)), details)


def _trust_values(rows: Sequence[AtomTrust], count: int) -> list[AtomValues]:
    """Distance from the training data and committee spread of every atom over the trajectories."""
    if len(rows) != count:
        return []
    atoms = sorted(rows, key=lambda row: row.atom)
    details = tuple(_outside(atom) for atom in atoms)
    distance = np.nan_to_num([atom.largest_distance for atom in atoms])
    spread = np.nan_to_num([atom.largest_spread for atom in atoms])
    values = [AtomValues("distance from the training data", "usual distances", distance, details)]
    if spread.any():
        values.append(AtomValues("committee spread", "kcal/mol/Å", spread, details))
    return values


def _outside(atom: AtomTrust) -> str:
    """The symmetry function that leaves its training range, with the excess."""
    if not atom.description:
        return "every symmetry function in its range"
    known = np.isfinite(atom.excess) and atom.excess
    return atom.description + (f": {100 * atom.excess:.2g} % outside its range" if known else " outside its range")


def _map(structure: Structure, values: tuple[AtomValues, ...]) -> AtomMap:
    centred = structure.positions - structure.positions.mean(0)
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    along, across, depth = (centred @ axes.T / ANGSTROM).T
    # Turned, so that no atom hides its mirror image.
    x = along * np.cos(YAW) + depth * np.sin(YAW)
    y = across * np.cos(TILT) + (depth * np.cos(YAW) - along * np.sin(YAW)) * np.sin(TILT)
    return AtomMap(x, y, tuple(symbols(structure.numbers)), tuple(bonds(structure)), values)


def _minimum(folder: Path) -> Structure | None:
    arrays = _arrays(folder / layout.REFERENCE)
    if not {"numbers", "positions"} <= arrays.keys():
        try:
            return read_structure(folder / layout.START)
        except HpcirError:
            return None
    return Structure(np.asarray(arrays["numbers"], np.int64), np.asarray(arrays["positions"], float))


def settling(folder: Path, bands: Sequence[Band]) -> tuple[Settling, ...]:
    """Convergence of the strongest bands' intensities with the number of trajectories, from spectrum.h5."""
    arrays = _arrays(folder / layout.spectrum_h5())
    if "trajectories" not in arrays or len(arrays["trajectories"]) < MIN_TRAJECTORIES:
        return ()
    terms, x = arrays["trajectories"], arrays["wavenumbers"]
    count = np.arange(1, len(terms) + 1)
    found = []
    strongest = sorted(bands, key=lambda band: -np.nan_to_num(band.intensity_km_per_mol))[:MAX_BANDS]
    for band in strongest:
        if not band.lower_per_cm < band.upper_per_cm:  # nor where one is not known
            continue
        inside = (x >= band.lower_per_cm) & (x <= band.upper_per_cm)
        running = np.cumsum(terms[:, inside].sum(1)) / count
        if running[-1] > 0:
            found.append(Settling(band.position_per_cm, 100 * (running / running[-1] - 1)))
    return tuple(sorted(found, key=lambda item: -item.position))


def conservation(folder: Path) -> Conservation | None:
    """Total energies along the first trajectories of the main set."""
    energies: list[FloatArray] = []
    duration = 0.0
    for path in sorted(folder.glob(layout.block_files(layout.MAIN_SET))):
        try:
            block = TrajectoryBlock.read(path)
        except HpcirError:
            continue
        if not block.total_energy.size:
            continue
        energies.append(block.total_energy[:, block.alive].T)
        duration = len(block.dipoles) * block.time_between_dipoles
        if sum(map(len, energies)) >= MAX_TRAJECTORIES:
            break
    if not energies or len({e.shape[1] for e in energies}) > 1 or not sum(map(len, energies)):
        return None
    every = np.concatenate(energies)[:MAX_TRAJECTORIES]
    kept = every[:, :: max(1, every.shape[1] // MAX_ENERGIES)]
    time = np.linspace(0, duration / FS / 1000, every.shape[1])[:: max(1, every.shape[1] // MAX_ENERGIES)]
    return Conservation(time, (kept - every.mean(1, keepdims=True)) / KCAL_PER_MOL)


def harmonic_rows(harmonic: HarmonicFigures | None) -> list[HarmonicRow]:
    """The normal modes, engine and model side by side in the order of wavenumbers."""
    if harmonic is None:
        return []
    columns = (
        harmonic.engine_wavenumbers_per_cm or (),
        harmonic.model_wavenumbers_per_cm,
        harmonic.engine_intensities_km_per_mol or (),
        harmonic.model_intensities_km_per_mol,
    )
    return [HarmonicRow(*row) for row in zip_longest(*columns)]


def _arrays(path: Path) -> dict[str, FloatArray]:
    if not path.is_file():
        return {}
    try:
        return read_h5(path)[0]
    except HpcirError:
        return {}
