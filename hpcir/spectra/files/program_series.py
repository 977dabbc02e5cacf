"""Dipole series as other programs write them, with the units that each program has.

i-PI: property files, columns named with their units in the head; atomic units where none is named. Its files of
extras are what the driver sent, in the driver's unit, which they do not say.
CP2K: PRINT%MOMENTS, in debye, of density functional theory and of xTB; with the periodic operator the quantum of the
former's dipole is in the file, too (of xTB and of force fields it is not e times the edge, as charges are not whole).
LAMMPS: fix ave/time of a compute dipole; GPUMD: dipole.out; both count steps, and their unit depends on the input.
ORCA, Gaussian: outputs of molecular dynamics, a dipole a step, in atomic units and in debye.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.spectra.files.series_checks import named
from hpcir.storage.files import decoded
from hpcir.units import FS

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?"
_HEAD = 100_000
_IPI = re.compile(r"^#\s+(?:column\s+(\d+)|cols\.\s+(\d+)-(\d+))\s+-->\s+([A-Za-z_]+)(?:\(.*?\))?(?:\{(\w+)\})?", re.M)
_IPI_TIMES = {"": 1 / FS, "atomic_unit": 1 / FS, "femtosecond": 1.0, "picosecond": 1e3, "second": 1e15}
_IPI_DIPOLES = {"": "e*bohr", "atomic_unit": "e*bohr", "debye": "D"}
_XYZ = re.compile(rf"X=\s*({_NUMBER})\s+Y=\s*({_NUMBER})\s+Z=\s*({_NUMBER})")
_CP2K = re.compile(rf"Dipole moment \[Debye\]\s*\n\s*{_XYZ.pattern}")
_CP2K_HEAD = re.compile(r"Dipole moment \[Debye\]")
_CP2K_CELL = re.compile(rf"\[[XYZ]\]\s*=?\s*\[\s*({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s*\]")
_ORCA_HEAD = re.compile(r"Total Dipole Moment\s*:")
_ORCA = re.compile(rf"Total Dipole Moment\s*:\s*({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})")
_CP2K_CHARGES_HEAD = re.compile(r"(?:(?:TB|MM)_DIPOLE\| Moment \[Debye\]|MM DIPOLE \[[^]\n]*\]\(Debye\)\|)")
_CP2K_CHARGES = re.compile(rf"{_CP2K_CHARGES_HEAD.pattern}\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})")
_CP2K_LINE = re.compile(r"^[ \t]*MOMENTS\|(.*)$", re.M)
_EXTRAS = re.compile(r"^\s*#EXTRAS(?:\((\w+)\)|\[(\w+)\])?#?.*?Step:\s*(\d+)", re.M)
_GAUSSIAN_HEAD = re.compile(r"Dipole moment \(field-independent basis, Debye\):")
_GAUSSIAN = re.compile(rf"Dipole moment \(field-independent basis, Debye\):\s*\n\s*{_XYZ.pattern}")
_GAUSSIAN_TIME = re.compile(rf"Time \(fs\)\s+({_NUMBER})")


@dataclass(frozen=True)
class ProgramSeries:
    """dipoles (T, 3) in `unit` (None: the file does not say); times (T,) in fs (None: not in the file); quantum (3, 3)
    in `unit`, one vector of the box a row, by which a Berry phase's dipole is undetermined; notes: how the file was
    read."""

    dipoles: FloatArray
    unit: str | None
    times: FloatArray | None = None
    quantum: FloatArray | None = None
    notes: tuple[str, ...] = ()


def detected(path: Path) -> str | None:
    """The program that wrote a file, by its contents; None for a file of none of these."""
    with path.open("rb") as file:
        head = decoded(file.read(_HEAD))
    if _IPI.search(head):
        return "i-pi"
    if _EXTRAS.search(head):
        return "i-pi"
    if "# TimeStep" in head or "# Time-averaged data" in head:
        return "lammps"
    if "O   R   C   A" in head:
        return "orca"
    if "Entering Gaussian System" in head or "Gaussian, Inc" in head:
        return "gaussian"
    if "CP2K|" in head or any(known.search(head) for known in (_CP2K_HEAD, _CP2K_CHARGES_HEAD, _CP2K_LINE)):
        return "cp2k"
    if path.name.startswith("dipole") and path.suffix == ".out":
        return "gpumd"
    return None


def read_program_series(path: Path, program: str) -> ProgramSeries:
    """The dipole series of a file that a program wrote, one of PROGRAMS. Raises InputError."""
    if program not in PROGRAMS:
        raise InputError("no such program", where="--program", value=program, hint="valid: " + ", ".join(PROGRAMS))
    found = PROGRAMS[program](decoded(path.read_bytes()), str(path))
    bad = np.flatnonzero(~np.isfinite(found.dipoles).all(axis=1))
    if len(bad):
        raise InputError(f"the dipole is not finite at {named(bad.tolist())}", where=str(path))
    return replace(found, notes=(f"{path}: {len(found.dipoles)} dipoles of {program}", *found.notes))


def _ipi_extras(text: str, where: str) -> ProgramSeries:
    """The dipoles that the driver sent: a line of numbers, or JSON with the name 'dipole', after each head."""
    heads = list(_EXTRAS.finditer(text))
    rows, steps = [], []
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        body = text[head.end() : end].split("\n", 1)[-1]
        named_here = re.search(r'"dipole"\s*:\s*\[([^\]]*)\]', body)
        if named_here is None and (head.group(1) or head.group(2) or "dipole") != "dipole":
            raise InputError(
                "the extras of i-PI are not dipoles",
                where=where,
                value=head.group(1) or head.group(2),
                hint="have <trajectory extra_type='dipole'> extras </trajectory>",
            )
        words = re.split(r"[,\s]+", (named_here.group(1) if named_here else body).strip())
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            rows.append([])
        if len(rows[-1]) != 3:
            raise InputError(
                "the extras of i-PI have no dipole of three numbers",
                where=f"{where}, step {head.group(3)}",
                value=" ".join(words)[:60],
            )
        steps.append(float(head.group(3)))
    if len(rows) < 3:
        raise InputError("the series has fewer than three samples", where=where, value=len(rows))
    _even_steps(np.array(steps), where)
    return ProgramSeries(np.array(rows), None)


def _ipi(text: str, where: str) -> ProgramSeries:
    if _EXTRAS.search(text):
        return _ipi_extras(text, where)
    columns: dict[str, tuple[int, int, str]] = {}
    for single, first, last, name, unit in _IPI.findall(text):
        begin, end = (int(single), int(single)) if single else (int(first), int(last))
        columns.setdefault(name, (begin - 1, end, unit))
    if "dipole" not in columns or columns["dipole"][1] - columns["dipole"][0] != 3:
        raise InputError(
            "the properties of i-PI have no dipole",
            where=where,
            value=", ".join(columns),
            hint="have <properties> print step, time{femtosecond} and dipole",
        )
    rows = _rows(text, max(end for _, end, _ in columns.values()), where)
    begin, end, unit = columns["dipole"]
    if unit not in _IPI_DIPOLES:
        raise InputError("unknown unit of the dipole", where=where, value=unit, hint="valid: atomic_unit, debye")
    times = None
    if "time" in columns:
        place, _, time_unit = columns["time"]
        if time_unit not in _IPI_TIMES:
            raise InputError("unknown unit of the time", where=where, value=time_unit)
        times = rows[:, place] * _IPI_TIMES[time_unit]
    return ProgramSeries(rows[:, begin:end], _IPI_DIPOLES[unit], times)


def _rows(text: str, least: int, where: str) -> FloatArray:
    """The numbers of all lines that are no comment, `least` or more in each and as many in all."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            raise InputError("a line is not of numbers", where=f"{where}:{number}", value=line.strip()[:60]) from None
        if len(words) < least or len(words) != len(rows[0]):
            raise InputError(
                f"expected {max(least, len(rows[0]))} numbers", where=f"{where}:{number}", value=len(words)
            )
    if len(rows) < 3:
        raise InputError("the series has fewer than three samples", where=where, value=len(rows))
    return np.array(rows, float)


def _cp2k(text: str, where: str) -> ProgramSeries:
    if _CP2K_CHARGES_HEAD.search(text):
        return ProgramSeries(_matches(_CP2K_CHARGES, _CP2K_CHARGES_HEAD, text, where), "D")
    if _CP2K_LINE.search(text):
        return _cp2k_lines(text, where)
    dipoles = _matches(_CP2K, _CP2K_HEAD, text, where)
    cell = _CP2K_CELL.findall(text)
    if "Berry phase" not in text or len(cell) < 3:
        return ProgramSeries(dipoles, "D")
    return ProgramSeries(dipoles, "D", quantum=np.array(cell[:3], float).T)


def _cp2k_lines(text: str, where: str) -> ProgramSeries:
    """MOMENTS with FORMAT TRAJECTORY: a line a step, which a restart may repeat: the step, x, y, z, the dipole's norm
    and, with the periodic operator, the rows of the matrix whose columns are the vectors of the box, in debye."""
    rows = [line.split() for line in _CP2K_LINE.findall(text)]
    if len(rows) < 3:
        raise InputError("the series has fewer than three samples", where=where, value=len(rows))
    steps = [re.search(r"\d+$", row[0]) if row else None for row in rows]
    if all(step is not None for step in steps):
        _even_steps(np.array([float(step.group()) for step in steps if step is not None]), where)
    numbers = []
    for number, row in enumerate(rows):
        try:
            numbers.append([float(re.sub("[Dd]", "e", word)) for word in row[1:]])
        except ValueError:
            numbers.append([])
        if len(numbers[-1]) < 3 or len(numbers[-1]) != len(numbers[0]):
            raise _no_dipole(where, number, " ".join(row))
    dipoles = np.array([row[:3] for row in numbers])
    if len(numbers[0]) != 13:
        return ProgramSeries(dipoles, "D")
    return ProgramSeries(dipoles, "D", quantum=np.array(numbers[0][4:]).reshape(3, 3).T)


def _lammps(text: str, where: str) -> ProgramSeries:
    heads = [line[1:].split() for line in text.split("\n") if line.startswith("# TimeStep")]
    if not heads:
        raise InputError("the columns are not named", where=where, hint="fix ave/time writes '# TimeStep c_mu[1] ...'")
    names = heads[0]
    groups = {name[:-3] for name in names if name.endswith("[1]")}
    chosen = [group for group in groups if all(f"{group}[{axis}]" in names for axis in (1, 2, 3))]
    if len(chosen) != 1:
        raise InputError(
            "the three components of one dipole are wanted",
            where=where,
            value=" ".join(names),
            hint="compute mu all dipole; fix f all ave/time 1 1 1 c_mu[1] c_mu[2] c_mu[3] file dipole.dat",
        )
    rows = _rows(text, len(names), where)
    _even_steps(rows[:, 0], where)
    places = [names.index(f"{chosen[0]}[{axis}]") for axis in (1, 2, 3)]
    return ProgramSeries(rows[:, places], None)


def _gpumd(text: str, where: str) -> ProgramSeries:
    rows = _rows(text, 4, where)
    if rows.shape[1] != 4:
        raise InputError("GPUMD's dipole.out has four columns", where=where, value=rows.shape[1])
    _even_steps(rows[:, 0], where)
    return ProgramSeries(rows[:, 1:], None)


def _even_steps(steps: FloatArray, where: str) -> None:
    """Raise InputError when the steps of the samples do not follow each other evenly."""
    apart = np.diff(steps)
    uneven = np.flatnonzero(apart != np.median(apart))
    if len(uneven) or apart[0] <= 0:
        raise InputError(
            f"the steps are not evenly spaced at {named((uneven + 1).tolist() or [1])}",
            where=where,
            value=f"{float(apart[uneven[0]] if len(uneven) else apart[0]):g} steps",
            hint="a restart, or samples left out: mend the file, or give its pieces as files of their own",
        )


def _orca(text: str, where: str) -> ProgramSeries:
    return ProgramSeries(_matches(_ORCA, _ORCA_HEAD, text, where), "e*bohr")


def _gaussian(text: str, where: str) -> ProgramSeries:
    dipoles = _matches(_GAUSSIAN, _GAUSSIAN_HEAD, text, where)
    if "Standard orientation" in text:
        raise InputError(
            "the dipoles are in Gaussian's standard orientation, which turns with the molecule from step to step",
            where=where,
            hint="run it with NoSymm",
        )
    times = np.array(_GAUSSIAN_TIME.findall(text), float)
    return ProgramSeries(dipoles, "D", times if len(times) == len(dipoles) else None)


def _matches(pattern: re.Pattern[str], head: re.Pattern[str], text: str, where: str) -> FloatArray:
    """(T, 3) the numbers after each head, of which none may be missing."""
    found = []
    for number, start in enumerate(match.start() for match in head.finditer(text)):
        match = pattern.match(text, start)
        if match is None:
            raise _no_dipole(where, number, " ".join(text[start : start + 200].split()))
        found.append([float(re.sub("[Dd]", "e", word)) for word in match.groups()])
    if len(found) < 3:
        raise InputError("the file has fewer than three dipoles", where=where, value=len(found))
    return np.array(found, float)


def _no_dipole(where: str, number: int, text: str) -> InputError:
    return InputError(
        f"the dipole of {named([number])} is not of three numbers",
        where=where,
        value=text[:80],
        hint="a run that broke down, or was stopped while it wrote: cut the file off there",
    )


PROGRAMS: dict[str, Callable[[str, str], ProgramSeries]] = {
    "i-pi": _ipi,
    "cp2k": _cp2k,
    "lammps": _lammps,
    "gpumd": _gpumd,
    "orca": _orca,
    "gaussian": _gaussian,
}
