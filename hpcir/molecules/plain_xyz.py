"""The plain xyz file, read by itself: quick to start, and errors name the line and the word. ASE reads the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.molecules.isotopes import MASSES, isotope, isotope_mass
from hpcir.storage.files import decoded

_HINT = "an xyz file has the atom count, a comment, then 'Symbol x y z' in angstrom on each line"
# Words of the comment line that make the file an extended one, with columns or a cell of its own.
_EXTENDED = ("Properties=", "Lattice=", "properties=", "lattice=")
# Quantities with a unit that i-PI names in the comment line, as in positions{atomic_unit}; older versions wrote x for
# positions, and bead or centroid after it.
_IPI = re.compile(r"\b(positions|x_centroid|x|velocities|v_centroid|v|forces\w*|f|f_centroid|momenta|p)\{(\w+)\}")
_IPI_UNITS = {"atomic_unit": 0.529177210544, "angstrom": 1.0, "nanometer": 10.0}
# The data set QM9 writes exponents as Mathematica does, and three lines after the atoms; its comment begins with gdb.
_QM9, _QM9_LINES, _MATHEMATICA = "gdb ", 3, re.compile(r"\*\^")
# A symbol with the number of the atom after it, as in C12.
_LABEL = re.compile(r"^([A-Za-z]{1,2})(\d{1,4})$", re.ASCII)
# Columns of a property of an extended xyz file, more than any has.
_WIDE = re.compile(r"[Pp]roperties=\S*?:\d{4,}")
# Fortran's exponents of double precision, as in 1.5D-03.
_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")


@dataclass(frozen=True)
class PlainFrame:
    """One geometry of a plain xyz file: atomic numbers (N,), positions (N, 3) in angstrom, the comment line, and masses
    (N,) in amu where a symbol names an isotope (nan elsewhere; None: no symbol does)."""

    numbers: IntArray
    positions: FloatArray
    comment: str
    masses: FloatArray | None = None


def read_plain_xyz(path: str | Path, first: bool = False) -> list[PlainFrame] | None:
    """The frames of a plain xyz file, or its first alone.

    Symbols may be atomic numbers or isotopes (D, T, 13C), numbers may have Fortran's exponents. None when it is
    something else that ASE should read: another suffix, or an extended xyz file with columns or a cell of its own.
    Raises InputError naming line and value for an unknown element, a coordinate that is no finite number, or a file
    that ends too soon.
    """
    path = Path(path)
    if path.suffix.lower() not in (".xyz", ".extxyz"):
        return None
    rows = _without_qm9_lines(text_lines(path))
    if len(rows) > 1 and any(word in rows[1] for word in _EXTENDED):
        return None
    frames: list[PlainFrame] = []
    line = 0
    while not frames or any(row.strip() for row in rows[line:]):
        if frames:
            line += next(n for n, row in enumerate(rows[line:]) if row.strip())
        count = _count(path, rows, line)
        if frames and line + 1 < len(rows) and any(word in rows[line + 1] for word in _EXTENDED):
            return None
        if not first or not frames:
            frames.append(_frame(path, rows, line, count))
        line += 2 + count
        if first:
            _nothing_else(path, rows, line, count)
            break
    return frames


def text_lines(path: Path) -> list[str]:
    """The lines of a text file, with any line end and without a byte order mark. Raises InputError."""
    try:
        text = decoded(path.read_bytes())
    except FileNotFoundError:
        raise InputError("the structure file does not exist", where=str(path), hint="check the path") from None
    except OSError as error:
        raise InputError(f"the structure cannot be read: {error.strerror}", where=str(path)) from None
    if "\0" in text:
        raise InputError("the structure is not a text file", where=str(path), hint=_HINT)
    return text.split("\n")


def extended_lines(path: Path) -> tuple[str, dict[int, dict[int, float]]]:
    """An extended xyz file as ASE reads it: atomic numbers and isotopes in the first column as symbols, Fortran's
    exponents as C's; with masses in amu by frame and atom of the isotopes. A file of another form stays as it is.
    Raises InputError for more atoms than the file has lines, and more columns than a line has."""
    rows, out, masses = text_lines(path), list[str](), dict[int, dict[int, float]]()
    line = frame = 0
    while line < len(rows):
        count = rows[line].strip()
        try:
            promised = int(count)
        except ValueError:
            return "\n".join([*out, *rows[line:]]), masses
        if not 0 < promised <= len(rows) - line - 2:
            what = f"line {line + 1} promises {count[:20]} atoms, and {max(0, len(rows) - line - 2)} lines follow"
            raise InputError(what, where=f"{path}:{line + 1}", hint=_HINT)
        comment = rows[line + 1]
        wide = _WIDE.search(comment)
        if wide is not None:
            raise InputError("no property has so many columns", where=f"{path}:{line + 2}", value=wide.group()[:60])
        by_symbol = "roperties=" not in comment or re.search(r'roperties="?species:S:1', comment) is not None
        out += rows[line : line + 2]
        atoms = rows[line + 2 : line + 2 + promised]
        if by_symbol:
            _refuse_isotope_labels([(row.split() or [""])[0] for row in atoms], f"{path}:{{}}", line + 3)
        for atom, row in enumerate(atoms):
            words = _FORTRAN.sub("e", row).split()
            if words and by_symbol:
                symbol, mass = _species(words[0], f"{path}:{line + 3 + atom}")
                words[0] = symbol or words[0]
                if mass is not None:
                    masses.setdefault(frame, {})[atom] = mass
            out.append(" ".join(words))
        line += 2 + promised
        frame += 1
        while line < len(rows) and not rows[line].strip():
            line += 1
    return "\n".join([*out, ""]), masses


def _without_qm9_lines(rows: list[str]) -> list[str]:
    """The lines of one of QM9's files without its frequencies and names, exponents as usual; others as they are."""
    count = rows[0].strip()
    if len(rows) < 2 or not rows[1].startswith(_QM9) or not (count.isascii() and count.isdigit() and len(count) < 4):
        return rows
    end = 2 + int(count)
    extra = [row for row in rows[end:] if row.strip()]
    return [_MATHEMATICA.sub("e", row) for row in rows[:end]] if len(extra) == _QM9_LINES else rows


def _count(path: Path, rows: list[str], line: int) -> int:
    first = rows[line].strip() if line < len(rows) else ""
    if first.isascii() and first.isdigit() and len(first) <= 8 and int(first) > 0:
        return int(first)
    if line:
        before = int(next(row for row in rows if row.strip()))
        raise InputError(
            f"the first line promises {before} atoms, and more follow", where=f"{path}:{line + 1}", value=first[:60]
        )
    raise InputError("the first line must be the number of atoms", where=f"{path}:1", value=first[:60], hint=_HINT)


def _frame(path: Path, rows: list[str], line: int, count: int) -> PlainFrame:
    atoms = rows[line + 2 : line + 2 + count]
    if len(atoms) < count or not atoms[-1].strip():
        have = sum(1 for row in atoms if row.strip())
        promise = "the first line" if line == 0 else f"line {line + 1}"
        raise InputError(
            f"{promise} promises {count} atoms, and {have} follow", where=f"{path}:{line + 2 + have}", hint=_HINT
        )
    unit = _unit(f"{path}:{line + 2}", rows[line + 1])
    _refuse_isotope_labels([(row.split() or [""])[0] for row in atoms], f"{path}:{{}}", line + 3)
    _refuse_counted(f"{path}:{line + 3}", [row.split() for row in atoms])
    parsed = [_atom(f"{path}:{number}", row) for number, row in enumerate(atoms, line + 3)]
    masses = np.array([mass for _, _, mass in parsed])
    return PlainFrame(
        np.array([number for number, _, _ in parsed], np.int64),
        np.array([place for _, place, _ in parsed], float) * unit,
        rows[line + 1],
        None if np.isnan(masses).all() else masses,
    )


def _unit(where: str, comment: str) -> float:
    """The unit of the coordinates in angstrom, which i-PI says in the comment line. Raises InputError for what is no
    positions, and for a unit that is not known."""
    found = _IPI.search(comment)
    if found is None:
        return 1.0
    if found.group(1) not in ("positions", "x", "x_centroid"):
        raise InputError(
            "the file holds no positions", where=where, value=found.group(0), hint="give that of positions"
        )
    if found.group(2) not in _IPI_UNITS:
        hint = "known: " + ", ".join(_IPI_UNITS)
        raise InputError("unknown unit of the positions", where=where, value=found.group(2), hint=hint)
    return _IPI_UNITS[found.group(2)]


def _species(word: str, where: str) -> tuple[str, float | None]:
    """The element's symbol of a word ('' when there is none), and the mass in amu of an isotope."""
    from ase.data import atomic_numbers, chemical_symbols

    if word.isascii() and word.isdigit() and len(word) < 4:
        number = int(word)
        return (chemical_symbols[number] if 1 <= number <= 118 else ""), None
    if word.capitalize() in atomic_numbers and word.capitalize() != "X":
        return word.capitalize(), None
    named = isotope(word)
    label = _LABEL.match(word)
    if named is None and label is not None and label.group(1).capitalize() in atomic_numbers:
        return label.group(1).capitalize(), None
    if named is None or named[0] not in atomic_numbers:
        return "", None
    return named[0], isotope_mass(*named, where)


def _refuse_isotope_labels(words: list[str], where: str, first: int) -> None:
    """Raise InputError for a symbol such as C13 that can be the isotope: it numbers neither the atoms nor those of its
    element, or others of the element have no number."""
    labels = [_LABEL.match(word) for word in words]
    symbols = {word.capitalize() for word in words}
    if all(labels) and len(symbols) == len(words):
        return
    seen: dict[str, int] = {}
    for atom, (word, label) in enumerate(zip(words, labels, strict=True)):
        element = (label.group(1) if label else word).capitalize()
        seen[element] = seen.get(element, 0) + 1
        number = int(label.group(2)) if label else 0
        if (element, number) in MASSES and (
            element in symbols or words.count(word) > 1 or number not in (atom + 1, seen[element])
        ):
            raise InputError(
                "a symbol that is an isotope's, or the label of an atom",
                where=where.format(first + atom),
                value=word,
                hint=f"write {number}{element} for the isotope, or {element} without the number",
            )


def _refuse_counted(where: str, rows: list[list[str]]) -> None:
    """Raise InputError for lines of five columns that begin with the atoms' own numbers, which would be read as
    elements, or have the elements' charges or masses in the place of x."""
    if any(len(row) != 5 for row in rows):
        return
    what = ""
    if [row[0] for row in rows] == [str(n) for n in range(1, len(rows) + 1)]:
        what = "the first column counts the atoms, and the element is to stand there"
    elif len(rows) > 1 and all(_is_of_element(*row[:2]) for row in rows):
        what = "the second column has the elements' nuclear charges or masses, and x is to stand there"
    if what:
        raise InputError(what, where=where, value=" ".join(rows[0])[:60], hint=_HINT)


def _is_of_element(symbol: str, word: str) -> bool:
    """True for the nuclear charge or the mass of an element."""
    from ase.data import atomic_masses, atomic_numbers

    number = atomic_numbers.get(symbol.capitalize(), 0)
    try:
        value = float(word)
    except ValueError:
        return False
    return number > 0 and (value == number or abs(value - atomic_masses[number]) < 0.02)


def _atom(where: str, row: str) -> tuple[int, list[float], float]:
    from ase.data import atomic_numbers

    words = row.split()
    if len(words) < 4:
        raise InputError(
            "an atom needs a symbol and three coordinates", where=where, value=row.strip()[:60], hint=_HINT
        )
    symbol, mass = _species(words[0], where)
    if not symbol:
        raise InputError("there is no such element", where=where, value=words[0][:60], hint=_HINT)
    place = []
    for word in words[1:4]:
        try:
            place.append(float(_FORTRAN.sub("e", word)))
        except ValueError:
            raise InputError("a coordinate is not a number", where=where, value=word[:60], hint=_HINT) from None
        if not np.isfinite(place[-1]):
            raise InputError("a coordinate is not a finite number", where=where, value=word[:60])
    return atomic_numbers[symbol], place, np.nan if mass is None else mass


def _nothing_else(path: Path, rows: list[str], line: int, count: int) -> None:
    """After the atoms comes nothing, or the count line of another frame: a fourth atom of three is a mistake."""
    for number, row in enumerate(rows[line:], line + 1):
        if row.strip() and not row.strip().isdigit():
            raise InputError(
                f"the first line promises {count} atoms, and more follow",
                where=f"{path}:{number}",
                value=row.strip()[:60],
            )
        if row.strip():
            return
