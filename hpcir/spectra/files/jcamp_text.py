"""The text of a JCAMP-DX file: its blocks, labelled records, and tables in every form of the standard.

McDonald and Wilks, Appl. Spectrosc. 42, 151, 1988 (4.24: labels, comments, AFFN, PAC, SQZ, DIF and DUP forms, compound
files); the checks of abscissas and of ordinates in difference form are the standard's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.storage.files import decoded

# Larger files are no spectra.
LARGEST_FILE = 1 << 28
_LABEL = re.compile(r"^\s*##([^=]*)=(.*)$")
_AFFN = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[Ee][+-]?\d{1,3}(?!\d))?"
_NUMBER = re.compile(rf"{_AFFN}|\?")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
# SQZ, DIF and DUP characters each carry a sign and a first digit.
_TOKEN = re.compile(r"\?|([@A-Ia-i])(\d*)|([%J-Rj-r])(\d*)|([S-Zs])(\d*)|([+-]?(?:\d+\.?\d*|\.\d+))")
_SQZ = {c: n for n, c in enumerate("@ABCDEFGHI")} | {c: -n for n, c in enumerate("abcdefghi", 1)}
_DIF = {c: n for n, c in enumerate("%JKLMNOPQR")} | {c: -n for n, c in enumerate("jklmnopqr", 1)}
_DUP = {c: n for n, c in enumerate("STUVWXYZs", 1)}


@dataclass
class Block:
    """One block of a file: labelled records by label, in capitals without spaces, dashes, slashes and underscores;
    lines: the number of the line that a record begins on; notes: what was assumed in reading its table."""

    records: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def get(self, *names: str) -> str:
        """The first record that is there, without spaces at its ends; '' when none is."""
        return next((self.records[name].strip() for name in names if name in self.records), "")

    def number(self, name: str) -> float | None:
        """A record as a number, with a decimal point or comma; None when it is not there or no number."""
        text = self.get(name)
        try:
            return float(text if re.fullmatch(_AFFN, text) else text.replace(",", ".", 1))
        except ValueError:
            return None


def read_blocks(path: Path) -> list[Block]:
    """Every block of a file in its order, those of compound files beside each other. Raises InputError."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError("too large for a JCAMP-DX file", where=str(path), value=f"{path.stat().st_size} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    if b"##" not in raw.replace(b"\0", b"")[:4096]:
        raise InputError("not a JCAMP-DX file", where=str(path), hint="its lines begin with ##LABEL=")
    blocks: list[Block] = []
    open_blocks: list[Block] = []
    label = ""
    for number, line in enumerate(_lines(raw), 1):
        match = _LABEL.match(line)
        if match is None:
            if open_blocks and label:
                open_blocks[-1].records[label] += "\n" + line
            continue
        label = re.sub(r"[\s\-/_]", "", match.group(1)).upper()
        if label == "TITLE" or not open_blocks:
            open_blocks.append(Block())
            blocks.append(open_blocks[-1])
        if label == "END":
            open_blocks.pop()
            label = ""
            continue
        # A label that comes twice in one block (as in damaged files) is the first one's.
        if label and label not in open_blocks[-1].records:
            open_blocks[-1].records[label] = match.group(2)
            open_blocks[-1].lines[label] = number
        elif label:
            label = ""
    return blocks


def _lines(raw: bytes) -> list[str]:
    """Lines without comments, of a file in UTF-8, UTF-16 or Latin-1, whatever its line ends."""
    return [line.split("$$", 1)[0].rstrip() for line in decoded(raw).split("\n")]


def table(block: Block, where: str) -> tuple[FloatArray, FloatArray]:
    """Abscissas and ordinates (P,) of a block's XYDATA or XYPOINTS, factors applied, missing ordinates nan.

    Raises InputError for a block without them, a count that is not ##NPOINTS, a line that does not follow from the one
    before, and text that is of no form of the standard.
    """
    name = next((label for label in ("XYDATA", "XYPOINTS") if label in block.records), "")
    if not name:
        raise InputError(_no_curve(block), where=where, hint="an infrared spectrum is a table ##XYDATA or ##XYPOINTS")
    form, *lines = block.records[name].split("\n")
    form = re.sub(r"\s", "", form).upper()
    lines = _decimal_points(block, lines)
    first = block.lines[name] + 1
    if form == "(XY..XY)":
        x, y = _pairs(lines, f"{where}:{first}")
        x = x * _factor(block, "XFACTOR", where)
    elif form == "(X++(Y..Y))":
        x, y = _rows(block, lines, where, first)
    else:
        raise InputError("the table is of no known form", where=f"{where}:{first - 1}", value=form)
    count = block.number("NPOINTS")
    if len(x) < 3 or len(x) != len(y) or (count is not None and len(y) != count):
        raise InputError(
            "the file holds no complete spectrum",
            where=where,
            value=f"{len(x)} abscissas, {len(y)} ordinates",
            hint=f"##NPOINTS{f'={count:g}' if count is not None else ''} must be the number of ordinates in ##{name}",
        )
    return x, y * _factor(block, "YFACTOR", where)


def _factor(block: Block, name: str, where: str) -> float:
    """A factor of the table, 1 where the file has none. Raises InputError for one that makes all numbers the same."""
    factor = block.number(name)
    if factor is not None and (factor == 0 or not np.isfinite(factor)):
        raise InputError(f"##{name} is no factor", where=f"{where}:{block.lines[name]}", value=block.get(name))
    return 1.0 if factor is None else factor


def _no_curve(block: Block) -> str:
    if "NTUPLES" in block.records or "NTUPLES" in block.get("DATACLASS").upper():
        return "the file holds NTUPLES, several tables in one, which are not read"
    if "PEAKTABLE" in block.records or "PEAKASSIGNMENTS" in block.records:
        return "the file holds a table of peaks, and no curve"
    return "the file holds no table of a spectrum"


def _decimal_points(block: Block, lines: list[str]) -> list[str]:
    """Lines with decimal points, where they have commas: a comma is one when the first number is then ##FIRSTX."""
    start, factor = block.number("FIRSTX"), block.number("XFACTOR") or 1.0
    text = next((line for line in lines if line.strip()), "")
    match = re.match(r"\s*([+-]?\d+),(\d+)", text)
    if match is None or start is None or any("." in line for line in lines):
        return lines
    value = float(f"{match.group(1)}.{match.group(2)}") * factor
    separate = ";" in text or re.search(r"\d\s+[+-]?\d", text) is not None
    return [line.replace(",", ".") for line in lines] if separate and abs(value - start) < 1e-3 * abs(start) else lines


def _is_plain(line: str) -> bool:
    """True for a line of numbers and separators alone."""
    return not _NUMBER.sub(" ", line).strip(" \t,;")


def _pairs(lines: list[str], where: str) -> tuple[FloatArray, FloatArray]:
    values = []
    for line in lines:
        if not _is_plain(line):
            raise InputError("the table holds something that is no number", where=where, value=line.strip()[:60])
        values += [np.nan if word == "?" else float(word) for word in _NUMBER.findall(line)]
    if len(values) % 2:
        raise InputError("the table of pairs has an odd number of values", where=where, value=len(values))
    array = np.array(values, float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _rows(block: Block, lines: list[str], where: str, first: int) -> tuple[FloatArray, FloatArray]:
    """Abscissas from FIRSTX, LASTX and NPOINTS, and ordinates before their factor, of a table (X++(Y..Y)).

    Where every line's abscissa follows from DELTAX and not from LASTX, the latter is wrong; the block's notes say so.
    """
    rows = [(first + n, line.strip()) for n, line in enumerate(lines) if line.strip()]
    begin, end, count = (block.number(name) for name in ("FIRSTX", "LASTX", "NPOINTS"))
    if begin is None or end is None or count is None or not 3 <= count <= 1e8:
        raise InputError(
            "the table has no abscissas",
            where=where,
            value="##FIRSTX={}, ##LASTX={}, ##NPOINTS={}".format(*map(block.get, ("FIRSTX", "LASTX", "NPOINTS"))),
            hint="##FIRSTX, ##LASTX and ##NPOINTS say where its points are, of which there must be three",
        )
    values, places = _ordinates(rows, count, where)
    spacing, factor = (end - begin) / (count - 1), _factor(block, "XFACTOR", where)
    if len(values) == count:
        problem = _misplaced(places, begin, spacing, factor, where)
        step = block.number("DELTAX")
        if problem is not None:
            if step is None or _misplaced(places, begin, step, factor, where) is not None:
                raise problem
            end = begin + step * (count - 1)
            block.notes.append(f"##LASTX={block.get('LASTX')} is wrong: lines and ##DELTAX end at {end:.6g}")
    return np.linspace(begin, end, round(count)), np.array(values, float)


def _ordinates(
    rows: list[tuple[int, str]], count: float, where: str
) -> tuple[list[float], list[tuple[int, float, int]]]:
    """Ordinates of numbered lines, and for each line its number, its abscissa and the place of its first ordinate."""
    plain = all(_is_plain(line) for _, line in rows)
    values: list[float] = []
    places = []
    check = False
    for number, line in rows:
        x, found, differences = _row(line, plain, f"{where}:{number}")
        places.append((number, x, len(values) - 1 if check else len(values)))
        if check:
            # A last line that only ends the table need not repeat the ordinate before it.
            ends = len(values) == count and len(found) == 1
            if found and np.isfinite(found[0]) and found[0] != values[-1] and not ends:
                raise InputError(
                    "a line does not begin with the ordinate that ends the one before: the file is damaged",
                    where=f"{where}:{number}",
                    value=found[0],
                    hint=f"the last ordinate before is {values[-1]:g}",
                )
            found = found[1:]
        values += found
        check = differences
        if len(values) > count + 1e6:
            break
    return values, places


def _misplaced(
    places: list[tuple[int, float, int]], begin: float, spacing: float, factor: float, where: str
) -> InputError | None:
    """The first line whose abscissa is not where the ordinates before put it, as an error; None when there is none."""
    for number, x, place in places:
        due = begin + place * spacing
        if abs(x * factor - due) > max(1.0, 2 * abs(spacing), abs(factor)):
            return InputError(
                "a line's abscissa is not where the lines before put it: ordinates are missing or too many",
                where=f"{where}:{number}",
                value=x * factor,
                hint=f"{place} points from ##FIRSTX it would be {due:.6g}",
            )
    return None


def _row(line: str, plain: bool, where: str) -> tuple[float, list[float], bool]:
    """The abscissa and the ordinates of a line, and whether it ends in a difference."""
    if plain:
        words = _NUMBER.findall(line)
        if words[0] == "?":
            raise InputError("a line begins without an abscissa", where=where, value=line[:60])
        return float(words[0]), [np.nan if word == "?" else float(word) for word in words[1:]], False
    start = _PLAIN_NUMBER.match(line)
    if start is None:
        raise InputError("a line begins without an abscissa", where=where, value=line[:60])
    return float(start.group()), *_packed(line[start.end() :], where)


def _packed(text: str, where: str) -> tuple[list[float], bool]:
    """Ordinates of a line in packed, squeezed, difference and duplicate forms, and whether it ends in a difference."""
    values: list[float] = []
    step: float | None = None
    place = 0
    while place < len(text):
        if text[place] in " \t,;":
            place += 1
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            raise InputError("a character that is of no form of the standard", where=where, value=text[place])
        place = match.end()
        squeezed, digits, difference, rest, duplicate, times, number = match.groups()
        if duplicate:
            repeats = int(f"{_DUP[duplicate]}{times}"[:9]) - 1
            if not values or repeats > 1e7:
                raise InputError("a repetition of nothing, or without end", where=where, value=match.group())
            for _ in range(repeats):
                values.append(values[-1] + (step or 0.0))
        elif difference:
            if not values:
                raise InputError("a difference to nothing", where=where, value=match.group())
            step = _digits(_DIF[difference], difference, rest)
            values.append(values[-1] + step)
        else:
            step = None
            if squeezed:
                values.append(_digits(_SQZ[squeezed], squeezed, digits))
            else:
                values.append(np.nan if number is None else float(number))
    return values, step is not None


def _digits(first: int, character: str, rest: str) -> float:
    """The number of a character with sign and first digit, and the digits that follow."""
    negative = character.islower()
    return (-1.0 if negative else 1.0) * float(f"{abs(first)}{rest}"[:30])
