"""One output of another program: read by its format, and checked against the geometry that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label
from hpcir.labels.checks import finished_label, nuclear_charge_centre
from hpcir.labels.external.formats import Block, OutputFormat
from hpcir.molecules.structures import Structure, superimpose
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM

# What a coordinate of an output may differ by from the one that was asked for, bohr: programs print six decimals of an
# angstrom.
GEOMETRY = 2e-5
# The method that a label read from a file is recorded with.
METHOD = "file"


class Unfinished(InputError):
    """An output that has not come to its end: the program may still be at work."""


@dataclass(frozen=True)
class Found:
    """A value of an output and the line (from 1) that it stands on."""

    value: Any
    line: int


def read_output(path: Path, form: OutputFormat, structure: Structure, expected: Sequence[str]) -> Label:
    """The label in a program's output for a geometry, all of it checked.

    expected: lines of the input that say the level of theory. Raises InputError that names file and line for an output
    of another level, charge, multiplicity or geometry or without one of its parts, Unfinished for one that has no end.
    """
    lines = _lines(path)
    _check_end(path, form, lines)
    _check_level(path, form, lines, expected)
    _check_state(path, form, lines, structure)
    wanted = structure.positions - nuclear_charge_centre(structure)
    _check_geometry(*_geometry(path, lines, form.geometry), structure, wanted)
    gradient = _gradient(path, form, lines, len(structure))
    energy = _last(path, lines, form.energy, "energy")
    dipole = _vector(path, lines, form.dipole, "dipole") * form.dipole_unit
    if form.nuclear is not None:
        # The nuclei's part is (sum of charges) times the centre of nuclear charge, here 0, less the origin.
        origin = -_vector(path, lines, form.nuclear, "nuclear dipole") / structure.numbers.sum()
        dipole = dipole + structure.charge * origin
    try:
        return finished_label(structure, _float(energy.value[0]), -gradient, dipole, 0.0, METHOD)
    except LabelFailed as error:
        raise InputError(str(error), where=str(path)) from error


@dataclass(frozen=True)
class Frame:
    """A labelled frame of an extxyz file: where it stands, what it says of itself ('' and None: nothing), positions
    (N, 3) in bohr, numbers (N,), its label about the origin of the coordinates."""

    where: str
    name: str
    charge: float | None
    positions: FloatArray
    numbers: IntArray
    label: Label

    def holds(self, structure: Structure, name: str) -> bool:
        """True where the frame is meant for this geometry: by its name, or else by its positions about the centre of
        nuclear charge."""
        if self.name:
            return self.name == name
        if not np.array_equal(self.numbers, structure.numbers):
            return False
        return bool(np.abs(self.positions - structure.positions + nuclear_charge_centre(structure)).max() < GEOMETRY)


def read_extxyz(path: Path, level: str) -> Iterator[Frame]:
    """The labelled frames of an extxyz file: energy in eV, forces in eV/A, dipole in e A; its comment lines say `level`
    as the deck does. Raises InputError that names file and line."""
    from ase.io import iread

    line = 1
    try:
        for atoms in iread(str(path), ":", format="extxyz"):
            yield _frame(atoms, f"{path}:{line + 1}", level)
            line += len(atoms) + 2
    except InputError:
        raise
    except Exception as error:  # ASE raises several kinds
        raise InputError(f"this is no extended xyz: {error}", where=f"{path}:{line}") from error


def _frame(atoms: Any, where: str, level: str) -> Frame:
    results = {} if atoms.calc is None else atoms.calc.results
    missing = [name for name in ("energy", "forces", "dipole") if name not in results]
    if missing:
        raise InputError(
            f"the frame has no {' and no '.join(missing)}",
            where=where,
            hint="write energy (eV), forces (eV/A) and dipole (e A) of every frame",
        )
    said = atoms.info.get("level")
    if str(said) != level:
        raise InputError(
            "the frame's level is not the deck's", where=where, value=said, hint=f'right would be: level="{level}"'
        )
    label = Label(
        float(results["energy"]) * EV,
        np.asarray(results["forces"], float) * EV_PER_ANGSTROM,
        np.asarray(results["dipole"], float) * ANGSTROM,
        method=METHOD,
    )
    positions, numbers = np.asarray(atoms.positions, float) * ANGSTROM, np.asarray(atoms.numbers, np.int64)
    charge = atoms.info.get("charge")
    return Frame(
        where, str(atoms.info.get("name", "")), None if charge is None else float(charge), positions, numbers, label
    )


def check_frame(frame: Frame, structure: Structure) -> Label:
    """The label of a frame for a geometry. Raises InputError where the frame holds another geometry or charge."""
    if frame.charge is not None and frame.charge != structure.charge:
        raise InputError(
            "the charge is not that of the geometry",
            where=frame.where,
            value=frame.charge,
            hint=f"right would be: charge={structure.charge}",
        )
    wanted = structure.positions - nuclear_charge_centre(structure)
    _check_geometry(frame.where, frame.numbers, frame.positions, structure, wanted)
    label = frame.label
    try:
        return finished_label(structure, label.energy, label.forces, label.dipole, 0.0, METHOD)
    except LabelFailed as error:
        raise InputError(str(error), where=frame.where) from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"the output cannot be read: {error.strerror}", where=str(path)) from error


def _check_end(path: Path, form: OutputFormat, lines: list[str]) -> None:
    for number, line in enumerate(lines, 1):
        if form.broken.search(line):
            raise InputError(
                f"{form.name} gave up",
                where=f"{path}:{number}",
                value=line.strip(),
                hint=f"run the input again, changed where that helps, or rename the output to {path.stem}.failed to "
                "set the geometry aside",
            )
    if not any(form.finished.search(line) for line in reversed(lines)):
        raise Unfinished(
            f"the output has no end: '{form.finished.pattern.strip('^ ')}' is missing",
            where=f"{path}:{max(len(lines), 1)}",
            hint=f"let {form.name} finish, or run the input again",
        )


def _check_level(path: Path, form: OutputFormat, lines: list[str], expected: Sequence[str]) -> None:
    """Every expected line must be among the echoed input lines."""
    if form.wrapped_route:
        _check_route(path, lines, expected)
        return
    assert form.echo is not None
    echoed = {_plain(match.group(1)): n for n, line in enumerate(lines, 1) if (match := form.echo.match(line))}
    for wanted in expected:
        if _plain(wanted) in echoed:
            continue
        mark = _plain(wanted)[:1]
        near = [text for text in echoed if text[:1] == mark] if mark in "!%" else []
        near = near or get_close_matches(_plain(wanted), echoed, 1, 0.5)
        number, text = (echoed[near[0]], near[0]) if near else (1, None)
        what = "the output was made from another input than the deck's template"
        raise _wrong(f"{path}:{number}", what, text, wanted)


def _check_state(path: Path, form: OutputFormat, lines: list[str], structure: Structure) -> None:
    """Charge and multiplicity must be those of the geometry."""
    there = lines
    if form.state_after is not None:
        start = _last(path, lines, form.state_after, "charge").line
        there = ["" if number != start else line for number, line in enumerate(lines)]
    for name, pattern, right in (
        ("charge", form.charge, structure.charge),
        ("multiplicity", form.multiplicity, structure.multiplicity),
    ):
        found = _last(path, there, pattern, name)
        if int(found.value[0]) != right:
            place = f"{path}:{found.line}"
            raise _wrong(place, f"the {name} is not that of the geometry", int(found.value[0]), str(right))


def _check_route(path: Path, lines: list[str], expected: Sequence[str]) -> None:
    """Gaussian wraps the route at any letter: it is compared without spaces and line ends."""
    number = next((n for n, line in enumerate(lines, 1) if line.startswith(" #")), 1)
    found: list[str] = []
    for line in lines[number - 1 :]:
        if line.startswith(" ---"):
            break
        found.append(line[1:])
    wanted = re.sub(r"\s+", "", "".join(expected)).lower()
    if re.sub(r"\s+", "", "".join(found)).lower() != wanted:
        what = "the output was made with another route than the deck's template"
        raise _wrong(f"{path}:{number}", what, "".join(found), " ".join(expected))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _wrong(where: str, what: str, value: object, right: str) -> InputError:
    return InputError(what, where=where, value=value, hint=f"right would be: {right}")


def _last(path: Path, lines: list[str], pattern: re.Pattern[str], name: str) -> Found:
    for number in range(len(lines), 0, -1):
        match = pattern.search(lines[number - 1])
        if match:
            return Found([group for group in match.groups() if group is not None], number)
    raise InputError(f"the output has no {name}", where=f"{path}:{len(lines)}", hint="the template must ask for it")


def _vector(path: Path, lines: list[str], pattern: re.Pattern[str], name: str) -> FloatArray:
    """Three numbers of the last line that fits; or, where each line holds one component (electrons, nuclei, total), the
    totals of the last three."""
    last = _last(path, lines, pattern, name)
    if "[XYZ]" not in pattern.pattern:
        return np.array([_float(text) for text in last.value])
    rows = [pattern.search(line) for line in lines[max(last.line - 3, 0) : last.line]]
    if len(rows) != 3 or not all(rows):
        raise InputError(f"the {name} is not complete", where=f"{path}:{last.line}")
    return np.array([_float(row.group(3)) for row in rows if row])


def _float(text: str) -> float:
    return float(text.replace("D", "E").replace("d", "e"))


def _table(path: Path, lines: list[str], block: Block, name: str) -> Found:
    """The rows of the last block with such a heading."""
    start = _last(path, lines, block.heading, name).line
    rows: list[tuple[str, ...]] = []
    for line in lines[start:]:
        match = block.row.match(line)
        if match:
            rows.append(match.groups())
        elif rows or block.heading.search(line):
            break
    return Found(rows, start)


def _geometry(path: Path, lines: list[str], block: Block) -> tuple[str, IntArray, FloatArray]:
    """Place, numbers (N,) and positions (N, 3) in bohr of the last geometry that was printed."""
    from ase.data import atomic_numbers

    table = _table(path, lines, block, "geometry")
    names = [row[0] for row in table.value]
    numbers = [int(name) if name.isdecimal() else atomic_numbers.get(name.capitalize(), 0) for name in names]
    positions = np.array([[_float(x) for x in row[1:4]] for row in table.value]).reshape(-1, 3) * block.unit
    return f"{path}:{table.line}", np.array(numbers, np.int64), positions


def _check_geometry(
    where: str, numbers: IntArray, positions: FloatArray, structure: Structure, wanted: FloatArray
) -> None:
    """Atoms and positions (N, 3) about the centre of nuclear charge must be those that were asked for."""
    if not np.array_equal(numbers, structure.numbers):
        raise _wrong(where, "the atoms are not those of the geometry", _named(numbers), _named(structure.numbers))
    off = np.abs(positions - wanted).max(1)
    if off.max() < GEOMETRY:
        return
    turned = superimpose(positions, wanted, structure.numbers.astype(float))[0]
    same = np.abs(turned - wanted).max() < 10 * GEOMETRY
    atom = int(off.argmax())
    found, right = (" ".join(f"{x:.6f}" for x in place[atom] / ANGSTROM) for place in (positions, wanted))
    what = "the geometry was turned or moved" if same else "this is another geometry"
    raise _wrong(where, f"{what} (atom {atom + 1}, {structure.symbols[atom]})", found, f"{right}, as the input has it")


def _named(numbers: Sequence[int] | IntArray) -> str:
    from ase.data import chemical_symbols

    return " ".join(chemical_symbols[number] for number in numbers)


def _gradient(path: Path, form: OutputFormat, lines: list[str], atoms: int) -> FloatArray:
    """Gradient (N, 3) in hartree/bohr."""
    if form.transposed:
        rows = _transposed(path, lines, form.gradient)
    else:
        table = _table(path, lines, form.gradient, "gradient")
        rows = np.array([[_float(x) for x in row[-3:]] for row in table.value]).reshape(-1, 3)
    if len(rows) != atoms:
        line = _last(path, lines, form.gradient.heading, "gradient").line
        raise InputError(f"the gradient has {len(rows)} atoms, not {atoms}", where=f"{path}:{line}")
    return rows * (form.gradient.unit * form.gradient.sign)


def _transposed(path: Path, lines: list[str], block: Block) -> FloatArray:
    """A gradient printed as three rows (x, y, z) of up to six atoms each, again and again."""
    start = _last(path, lines, block.heading, "gradient").line
    components: list[list[float]] = [[], [], []]
    for line in lines[start:]:
        match = block.row.match(line)
        if match:
            components[int(line.split()[0]) - 1] += [_float(x) for x in match.group(1).split()]
        elif not re.fullmatch(r"\s*\d+(\s+\d+)*\s*", line):
            break
    return np.array(components).T if len({len(row) for row in components}) == 1 else np.zeros((0, 3))
