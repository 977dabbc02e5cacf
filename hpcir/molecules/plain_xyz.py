"""The plain xyz file, read by itself: quick to start, and errors name the line and the word. ASE reads the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError

_HINT = "an xyz file has the atom count, a comment, then 'Symbol x y z' in angstrom on each line"


def read_plain_xyz(path: str | Path) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Atomic numbers (N,) and positions (N, 3) in angstrom of the first frame of a plain xyz file.

    None when it is something else that ASE should read: another suffix, or an extended xyz file with columns or
    a cell of its own. Raises InputError naming line and value for an unknown element, a coordinate that is no
    finite number, or a file that ends too soon.
    """
    path = Path(path)
    if path.suffix.lower() != ".xyz":
        return None
    rows = _rows(path)
    if len(rows) > 1 and ("Properties=" in rows[1] or "Lattice=" in rows[1]):
        return None
    count = _count(path, rows)
    atoms = rows[2 : 2 + count]
    if len(atoms) < count or not atoms[-1].strip():
        have = sum(1 for row in atoms if row.strip())
        raise InputError(
            f"the first line promises {count} atoms, and {have} follow", where=f"{path}:{2 + have}", hint=_HINT
        )
    parsed = [_atom(f"{path}:{line}", row) for line, row in enumerate(atoms, 3)]
    _nothing_else(path, rows, count)
    return np.array([number for number, _ in parsed], np.int64), np.array([place for _, place in parsed], float)


def _rows(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError("the structure file does not exist", where=str(path), hint="check the path") from None
    except UnicodeDecodeError:
        raise InputError("the structure is not a text file", where=str(path), hint=_HINT) from None
    except OSError as error:
        raise InputError(f"the structure cannot be read: {error.strerror}", where=str(path)) from None


def _count(path: Path, rows: list[str]) -> int:
    first = rows[0].strip() if rows else ""
    if not first.isascii() or not first.isdigit() or not int(first[:9]) > 0 or len(first) > 8:
        raise InputError("the first line must be the number of atoms", where=f"{path}:1", value=first[:60], hint=_HINT)
    return int(first)


def _atom(where: str, row: str) -> tuple[int, list[float]]:
    from ase.data import atomic_numbers

    words = row.split()
    if len(words) < 4:
        raise InputError(
            "an atom needs a symbol and three coordinates", where=where, value=row.strip()[:60], hint=_HINT
        )
    symbol = words[0].capitalize()
    symbol = {"D": "H", "T": "H"}.get(symbol, symbol)
    number = int(symbol) if symbol.isascii() and symbol.isdigit() and len(symbol) < 4 else atomic_numbers.get(symbol, 0)
    if not 1 <= number <= 118:
        raise InputError("there is no such element", where=where, value=words[0][:60], hint=_HINT)
    place = []
    for word in words[1:4]:
        try:
            place.append(float(word.replace("D", "E").replace("d", "e")))
        except ValueError:
            raise InputError("a coordinate is not a number", where=where, value=word[:60], hint=_HINT) from None
        if not np.isfinite(place[-1]):
            raise InputError("a coordinate is not a finite number", where=where, value=word[:60])
    return number, place


def _nothing_else(path: Path, rows: list[str], count: int) -> None:
    """After the atoms comes nothing, or the count line of another frame: a fourth atom of three is a mistake."""
    for line, row in enumerate(rows[2 + count :], 3 + count):
        if not row.strip():
            continue
        if not row.strip().isdigit():
            raise InputError(
                f"the first line promises {count} atoms, and more follow",
                where=f"{path}:{line}",
                value=row.strip()[:60],
            )
        return
