"""Command spectrum: from dipole series, of other programs or of hpcir's own trajectories, to a spectrum with bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.commands.tables import print_bands
from hpcir.deck.loader import LoadedDeck
from hpcir.deck.sections import SpectrumSettings
from hpcir.errors import InputError, RunStopped
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.spectra.controls import Controls
from hpcir.spectra.estimate import combine
from hpcir.spectra.intensities import trajectory_spectra
from hpcir.spectra.series import read_series
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.results.spectrum import controls_of
from hpcir.study.results.spectrum_files import write_spectrum
from hpcir.study.session import check_folder, make_folder
from hpcir.units import ANGSTROM, FS, KELVIN

# Largest relative difference of a value from two sources (rounding in text).
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Declared:
    """Properties of the series by the command line and the deck, in atomic units; None: not declared."""

    time_between: float | None
    timestep: float | None
    temperature: float | None
    unit: str | None
    cell: FloatArray | None = None
    program: str | None = None


@dataclass(frozen=True)
class Part:
    """One file: dipoles (T, 3, R) in e bohr, times in atomic time, temperature kT in hartree; what control variates
    need, where the file has it; the trajectories' ids and the key of their starts (empty for others' files)."""

    source: str
    dipoles: FloatArray
    time_between: float
    timestep: float | None
    temperature: float
    moments: dict[str, FloatArray]
    wavenumbers: dict[str, FloatArray]
    trajectories: IntArray | None
    starts: str
    left_out: int = 0


@collective
def spectrum(
    series: Sequence[Path],
    deck: LoadedDeck | None,
    step: float | None,
    temperature: float | None,
    unit: str | None,
    output: Path,
    force: bool,
    comm: Communicator,
    timestep: float | None = None,
    cell: Sequence[float] | None = None,
    program: str | None = None,
) -> None:
    """The spectrum of dipole series, each trajectory of each file counting the same (rank 0 works).

    series: .csv, .npz, .extxyz of others (see `spectra.series`), block files of hpcir's own trajectories. step (fs),
    temperature (K), unit: of the series where the files do not say them; timestep (fs): velocity Verlet's, whose
    frequency error is then undone (default: the deck's or the file's, else none is); cell (angstrom): one or three
    edges of a box or the nine numbers of its vectors, by which changes of a Berry phase's branch are undone; program:
    that wrote the series, where the file does not show it. Writes spectrum.csv and spectrum.h5 and prints the bands.
    Raises InputError for what is not declared, or declared twice differently.
    """
    settings = deck.deck.spectrum if deck is not None else SpectrumSettings()
    dynamics = deck.deck.dynamics if deck is not None else None
    declared = Declared(
        program=program,
        time_between=None if step is None else step * FS,
        timestep=dynamics.timestep if dynamics is not None else None,
        temperature=dynamics.temperature if dynamics is not None else None,
        unit=unit,
    )
    if cell is not None:
        if len(cell) not in (1, 3, 9):
            raise InputError("a box has one edge, three, or vectors of nine numbers", where="--cell", value=list(cell))
        if len(cell) < 9 and min(cell) <= 0:
            raise InputError("an edge of a box must be more than 0", where="--cell", value=list(cell))
        box = np.array(cell) * ANGSTROM
        declared = replace(declared, cell=box.reshape(3, 3) if len(cell) == 9 else box * np.eye(3))
    if timestep is not None:
        declared = replace(declared, timestep=timestep * FS)
    if temperature is not None:
        declared = replace(declared, temperature=temperature * KELVIN)
    on_root(comm, lambda: _spectrum(series, settings, declared, output, force))


def _spectrum(
    series: Sequence[Path], settings: SpectrumSettings, declared: Declared, output: Path, force: bool
) -> None:
    check_folder(output, (layout.spectrum_csv(), layout.spectrum_h5()), force)
    parts = [read_part(path, declared) for path in series]
    _refuse_copies(parts)
    found = estimate(parts, settings)
    make_folder(output)
    known = [part.trajectories for part in parts if part.trajectories is not None]
    ids = np.concatenate(known) if len(known) == len(parts) else None
    keys = {part.starts for part in parts}
    unique = ids is not None and len(np.unique(ids)) == len(ids) and len(keys) == 1
    files = write_spectrum(output, layout.SPECTRUM, found, ids if unique else None, keys.pop() if unique else "")
    left_out = sum(part.left_out for part in parts)
    title = f"{found.metadata['trajectories']} trajectories, {found.temperature / KELVIN:g} K"
    print_bands(found.bands, f"{title}, {left_out} left out" if left_out else title)
    print(found.metadata["verdict"])
    print(f"estimator: {found.metadata['estimator']}")
    print(f"written: {', '.join(map(str, files))}")


def _refuse_copies(parts: Sequence[Part]) -> None:
    """Raise InputError where a trajectory is there twice: errors of independent ones would be too small."""
    places: dict[bytes, str] = {}
    for part in parts:
        for trajectory in range(part.dipoles.shape[2]):
            place = f"{part.source}, trajectory {trajectory + 1}" if part.dipoles.shape[2] > 1 else part.source
            key = part.dipoles[:, :, trajectory].tobytes()
            if key in places:
                raise InputError(
                    "the same trajectory is given twice, which would make its errors too small",
                    where=place,
                    value=places[key],
                    hint="give each trajectory once",
                )
            places[key] = place


def estimate(parts: Sequence[Part], settings: SpectrumSettings) -> Spectrum:
    """The spectrum with bands and errors of all trajectories; control variates where every file has what they need.

    Raises InputError when the files are of different temperatures.
    """
    first = parts[0]
    for part in parts[1:]:
        if not _same(part.temperature, first.temperature):
            raise InputError(
                f"the series differ in temperature: {first.temperature / KELVIN:g} K in {first.source}",
                where=part.source,
                value=f"{part.temperature / KELVIN:g} K",
            )
    spectra = [trajectory_spectra(p.dipoles, p.time_between, p.timestep, p.temperature, settings) for p in parts]
    facts = {"sources": [part.source for part in parts]}
    together = np.concatenate(spectra)
    if len(together) == 0:
        raise RunStopped(
            "no trajectory of these files is valid: each became unphysical or left the region covered by the "
            "training data"
        )
    return combine(together, settings, first.temperature, _controls(parts), metadata=facts)


def _controls(parts: Sequence[Part]) -> Controls | None:
    first = parts[0]
    for part in parts:
        if part.timestep != first.timestep or part.wavenumbers.keys() != first.wavenumbers.keys():
            return None
        if not all(np.array_equal(part.wavenumbers[n], first.wavenumbers[n]) for n in first.wavenumbers):
            return None
        if part.moments.keys() != first.moments.keys() or not part.moments:
            return None
    if not first.wavenumbers or first.timestep is None:
        return None
    moments = {name: np.concatenate([part.moments[name] for part in parts]) for name in first.moments}
    return controls_of(moments, first.wavenumbers, first.temperature, first.timestep)


def read_part(path: Path, declared: Declared) -> Part:
    """A file of dipole series, by its suffix. Raises InputError, also for a damaged or another HDF5 file."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return _own(path, declared)
    if declared.temperature is None:
        raise InputError("the temperature is not declared", where=str(path), hint="give --temperature '300 K'")
    series = read_series(path, declared.unit, declared.time_between, declared.cell, declared.program)
    for note in series.notes:
        print(note)
    return Part(
        series.source,
        series.dipoles,
        series.time_between,
        declared.timestep,
        declared.temperature,
        {},
        {},
        None,
        "",
    )


def _own(path: Path, declared: Declared) -> Part:
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    try:
        block = TrajectoryBlock.read(path)
    except RunStopped as error:
        raise InputError(str(error), hint="an HDF5 file here must be of hpcir's own trajectories") from error
    _agree(path, "time between dipoles", block.time_between_dipoles, declared.time_between, FS, "fs")
    _agree(path, "timestep", block.timestep, declared.timestep, FS, "fs")
    _agree(path, "temperature", block.temperature, declared.temperature, KELVIN, "K")
    return Part(
        source=str(path),
        dipoles=block.sane_dipoles,
        time_between=block.time_between_dipoles,
        timestep=block.timestep,
        temperature=block.temperature,
        moments=block.sane_averages,
        wavenumbers=block.wavenumbers,
        trajectories=block.trajectory[block.sane],
        starts=block.starts,
        left_out=block.left_out,
    )


def _agree(path: Path, name: str, own: float, declared: float | None, size: float, unit: str) -> None:
    if declared is not None and not _same(own, declared):
        raise InputError(
            f"the file's {name} is {own / size:.6g} {unit}",
            where=str(path),
            value=f"{declared / size:.6g} {unit}",
            hint="leave it out: it is in the file",
        )


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))
