"""Dipole series of other programs: CSV, NPZ and extended xyz, with declared units and time between samples."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.spectra.files.program_series import PROGRAMS, detected, read_program_series
from hpcir.spectra.files.series_checks import check_samples, unwrapped
from hpcir.storage.files import decoded
from hpcir.units import FS, UNITS, is_number

# Largest deviation from uniform sampling times as a fraction of the interval (rounding in text files).
MAX_UNEVENNESS = 1e-3
# Fortran's exponents of double precision, as in 1.5D-03.
_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")
_UNIT_HINT = "valid dipole units: " + ", ".join(UNITS["dipole"])


@dataclass(frozen=True)
class DipoleSeries:
    """dipoles (T, 3, R) in e bohr of R trajectories, sampled every `time_between` (atomic time); source: the file;
    notes: what was done to them."""

    dipoles: FloatArray
    time_between: float
    source: str
    notes: tuple[str, ...] = ()


def read_series(
    path: str | Path,
    dipole_unit: str | None = None,
    time_between: float | None = None,
    cell: FloatArray | None = None,
    program: str | None = None,
) -> DipoleSeries:
    """Read a dipole series; the format follows the suffix: .csv/.dat/.txt, .npz, .xyz/.extxyz. A file that another
    program wrote (`program_series.PROGRAMS`) is known by its contents, or by the program's name.

    dipole_unit: a unit of `units.UNITS['dipole']`; time_between in atomic time. Either may be declared in the file
    instead:
      CSV    columns in a header line, such as time_fs,dipole_x_D,dipole_y_D,dipole_z_D (unit: what follows the last
      _) NPZ    arrays 'dipoles' (T, 3) or (T, 3, R), 'dipole_unit', 'time_between_fs'
      extxyz frames with 'dipole' in the comment line, and 'time_fs' or 'dipole_unit' there, too
    cell (3, 3): the vectors of the box in bohr, one a row, by which changes of a Berry phase's branch are undone.
    Raises InputError when a unit or the time is not declared at all or twice differently, for missing or non-finite
    values (naming the line or frame), for times that are not evenly spaced, and for samples that no motion makes
    (`series_checks.check_samples`). Nothing is filled in.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    times: FloatArray | float | None
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    quantum: FloatArray | None = None
    notes: tuple[str, ...] = ()
    program = program or (None if suffix in (".npz", ".xyz", ".extxyz") else detected(path))
    if program is not None:
        found = read_program_series(path, program)
        dipoles, unit, times, notes = found.dipoles[:, :, None], found.unit, found.times, found.notes
        quantum = found.quantum
    elif suffix in (".csv", ".dat", ".txt"):
        dipoles, unit, times = _read_csv(path)
    elif suffix == ".npz":
        dipoles, unit, times = _read_npz(path)
    elif suffix in (".xyz", ".extxyz"):
        dipoles, unit, times = _read_extxyz(path)
    else:
        raise InputError(
            "unknown kind of dipole series",
            where=str(path),
            value=suffix,
            hint=f"known: .csv, .npz, .xyz, and --program {', '.join(PROGRAMS)}",
        )
    if len(dipoles) < 3:
        raise InputError("the series has fewer than three samples", where=str(path), value=len(dipoles))
    if not np.any(np.ptp(dipoles, axis=0)):
        raise InputError("the dipole never changes: there is no spectrum in it", where=str(path))
    factor = _unit(unit, dipole_unit, str(path))
    dipoles = dipoles * factor
    quantum = cell if cell is not None else quantum * factor if quantum is not None else None
    if quantum is not None:
        dipoles, changes = unwrapped(dipoles, quantum)
        notes = (*notes, f"{path}: {changes} changes of the Berry phase's branch undone")
    interval = _interval(times, time_between, str(path))
    check_samples(dipoles, str(path))
    return DipoleSeries(dipoles, interval, str(path), notes)


def _unit(declared: str | None, given: str | None, where: str) -> float:
    if declared and given and declared != given:
        raise InputError(f"the file declares dipoles in {declared}", where=where, value=given)
    unit = declared or given
    if unit is None:
        raise InputError("the unit of the dipoles is not declared", where=where, hint=_UNIT_HINT)
    if unit not in UNITS["dipole"]:
        raise InputError("unknown unit of the dipoles", where=where, value=unit, hint=_UNIT_HINT)
    return UNITS["dipole"][unit]


def _interval(times: FloatArray | float | None, given: float | None, where: str) -> float:
    """The time between samples in atomic time, from times (T,) or an interval in femtoseconds, or as given."""
    if times is None:
        if given is None:
            raise InputError("the time between dipoles is not declared", where=where, hint="give it, such as '2 fs'")
        found = given
    elif isinstance(times, float):
        found = times * FS
    else:
        steps = np.diff(times)
        found = float(np.mean(steps)) * FS
        uneven = np.flatnonzero(np.abs(steps * FS - found) > MAX_UNEVENNESS * abs(found))
        if found <= 0 or len(uneven):
            sample = int(np.argmax(np.abs(steps - np.median(steps)))) if len(uneven) else 0
            raise InputError(
                f"the times are not evenly spaced after sample {sample + 1}", where=where, value=f"{steps[sample]:g} fs"
            )
    if not 0 < found < np.inf:
        raise InputError(
            "the time between dipoles must be positive and finite", where=where, value=f"{found / FS:g} fs"
        )
    if given is not None and abs(given - found) > MAX_UNEVENNESS * found:
        raise InputError(f"the file's dipoles are {found / FS:.6g} fs apart", where=where, value=f"{given / FS:.6g} fs")
    return found


def _read_csv(path: Path) -> tuple[FloatArray, str | None, FloatArray | None]:
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path)) from error
    text = _FORTRAN.sub("e", text.replace('"', ""))
    if ";" in text and not re.search(r",[^;\n]*,", text):  # decimal commas between semicolons
        text = text.replace(",", ".")
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    if not lines:
        raise InputError("the file holds no line of numbers", where=str(path))
    header = re.split(r"[,;\s]+", lines[0][1])
    if is_number(header[0]):
        raise InputError(
            "the first line must name the columns",
            where=f"{path}:{lines[0][0]}",
            value=lines[0][1],
            hint="such as time_fs,dipole_x_D,dipole_y_D,dipole_z_D",
        )
    columns, unit, time_column = _columns(header, f"{path}:{lines[0][0]}")
    rows = np.array([_row(line, len(header), f"{path}:{number}") for number, line in lines[1:]]).reshape(
        -1, len(header)
    )
    times = rows[:, time_column] if time_column is not None else None
    return rows[:, columns][:, :, None], unit, times


def _columns(header: list[str], where: str) -> tuple[list[int], str | None, int | None]:
    """Indices of x, y, z, the unit that their names declare, and the index of the time in fs."""
    place: dict[str, int] = {}
    found: set[str | None] = set()
    time_column = None
    for index, name in enumerate(header):
        match = re.fullmatch(r"(?:dipole|mu|d)_?([xyz])(?:_(.+))?", name, re.IGNORECASE)
        if match:
            place[match.group(1).lower()] = index
            found.add(match.group(2))
        elif name.lower().startswith("time") or name.lower() == "t":
            if name.lower() != "time_fs":
                raise InputError(
                    "the time column must declare its unit", where=where, value=name, hint="name it time_fs"
                )
            time_column = index
    if set(place) != {"x", "y", "z"} or len(found) != 1:
        raise InputError(
            "the header must name the three components of the dipole in one unit",
            where=where,
            value=",".join(header),
            hint="such as dipole_x_D,dipole_y_D,dipole_z_D",
        )
    return [place[axis] for axis in "xyz"], found.pop(), time_column


def _row(line: str, count: int, where: str) -> list[float]:
    fields = re.split(r"[,;\s]+", line)
    if len(fields) != count or not all(is_number(field) for field in fields):
        raise InputError(f"expected {count} numbers", where=where, value=line)
    values = [float(field) for field in fields]
    if not np.all(np.isfinite(values)):
        raise InputError("a value is not finite", where=where, value=line)
    return values


def _read_npz(path: Path) -> tuple[FloatArray, str | None, float | None]:
    try:
        held = np.load(path, allow_pickle=False)
        if not isinstance(held, np.lib.npyio.NpzFile):
            raise InputError("no file of named arrays (NPZ)", where=str(path), hint="np.savez(path, dipoles=...)")
        with held as file:
            stored: dict[str, Any] = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path)) from error
    if "dipoles" not in stored:
        raise InputError("no array 'dipoles'", where=str(path), value=sorted(stored))
    dipoles = stored["dipoles"]
    if dipoles.ndim not in (2, 3) or dipoles.shape[1] != 3 or dipoles.dtype.kind not in "iuf":
        raise InputError(
            "dipoles must have the shape (times, 3) or (times, 3, trajectories)", where=str(path), value=dipoles.shape
        )
    dipoles = dipoles.reshape(len(dipoles), 3, -1).astype(float)
    bad = np.flatnonzero(~np.isfinite(dipoles).all(axis=(1, 2)))
    if len(bad):
        raise InputError(f"the dipole of sample {bad[0] + 1} is not finite", where=str(path))
    unit = str(stored["dipole_unit"]) if "dipole_unit" in stored else None
    interval = stored.get("time_between_fs")
    if interval is None:
        return dipoles, unit, None
    if interval.size != 1 or interval.dtype.kind not in "iuf":
        raise InputError("time_between_fs is not a number", where=str(path), value=str(interval)[:60])
    return dipoles, unit, float(interval.item())


def _read_extxyz(path: Path) -> tuple[FloatArray, str | None, FloatArray | None]:
    from hpcir.molecules.structures import read_frames

    dipoles, times, units = [], [], set()
    for number, atoms in enumerate(read_frames(path), 1):
        where = f"{path}, frame {number}"
        value = atoms.info.get("dipole")
        if value is None and atoms.calc is not None:
            value = atoms.calc.results.get("dipole")
        try:
            vector = np.asarray(value if value is not None else [], float).ravel()
        except (ValueError, TypeError):
            vector = np.zeros(0)
        if vector.shape != (3,) or not np.all(np.isfinite(vector)):
            raise InputError(
                "no dipole of three finite numbers in the comment line", where=where, hint='write dipole="x y z"'
            )
        dipoles.append(vector)
        units.add(atoms.info.get("dipole_unit"))
        times.append(atoms.info.get("time_fs"))
    if len(units) > 1:
        raise InputError("frames differ in dipole_unit", where=str(path), value=sorted(map(str, units)))
    known = [time is not None for time in times]
    if any(known) and not all(known):
        raise InputError("some frames have no time_fs", where=f"{path}, frame {known.index(False) + 1}")
    frame = next((n for n, time in enumerate(times) if time is not None and not is_number(str(time))), None)
    if frame is not None:
        raise InputError("time_fs is not a number", where=f"{path}, frame {frame + 1}", value=str(times[frame]))
    return np.array(dipoles)[:, :, None], units.pop(), np.array(times, float) if all(known) else None
