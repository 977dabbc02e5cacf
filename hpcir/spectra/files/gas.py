"""Pressure, path and temperature in a gas-phase spectrum's file, compared with plausible ones of such a cell."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcir.errors import InputError
from hpcir.spectra.files.jcamp_text import Block
from hpcir.units import ATM_PA, TORR_PA, ZERO_CELSIUS_K

PRESSURES = {
    "mmhg": TORR_PA, "torr": TORR_PA, "mtorr": 1e-3 * TORR_PA, "pa": 1.0, "hpa": 100.0, "kpa": 1e3, "mpa": 1e6,
    "mbar": 100.0, "bar": 1e5, "atm": ATM_PA, "psi": 6894.757293168361,
}  # fmt: skip
FRACTIONS = {"ppm": 1e-6, "ppmv": 1e-6, "ppb": 1e-9, "ppbv": 1e-9, "%": 1e-2, "percent": 1e-2, "vol%": 1e-2}
# Fractions times metres of path.
COLUMNS = {"ppm-m": 1e-6, "ppm*m": 1e-6, "ppm·m": 1e-6, "ppmm": 1e-6, "ppb-m": 1e-9, "ppb*m": 1e-9, "%-m": 1e-2}
LENGTHS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3, "in": 0.0254, "inch": 0.0254, "inches": 0.0254}
# Pressures of the air of a laboratory (Pa), and those that a mixture in a cell is filled to.
AMBIENT, FILLED = (9.5e4, 1.06e5), (1e3, 3e5)
# Paths (m), gas pressures (Pa) and temperatures (K) that absorption cells have.
PATHS, PARTIAL, KELVINS = (1e-4, 2e4), (1e-4, 5e6), (100.0, 2000.0)
# Temperature of a file that names none.
ROOM_TEMPERATURE = 296.15
# A bare number above this is no temperature in Celsius of a gas cell.
CELSIUS_BELOW = 150.0
# Integrated absorption (km/mol) that no molecule of a gas has: the strongest known, large perfluorinated ones, have
# 3,000; and that nearly all are between.
MAX_ABSORPTION, MOLAR_ABSORPTIONS = 1e4, (1.0, 4e3)
_NUMBER = r"([+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)\s*"
_AMOUNT = re.compile(_NUMBER + r"((?:%|[A-Za-z]+%?)(?:[-*·]m\b)?)")
_CONDENSED = re.compile(r"\b(?:liquid|solid|solution|neat|mull|film|melt|pellet|disk|powder)\b", re.IGNORECASE)
_GASEOUS = re.compile(r"\b(?:gas|gaseous|vapou?r)\b", re.IGNORECASE)
_TOTAL = re.compile(r"total(?:\s+pressure)?(?:\s+of|\s*[=:])?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Gas:
    """Path in metres and partial pressure in pascal (None: not stated); notes: how they were read; condensed: what the
    file says of a sample that is no gas, '' for a gas."""

    path: float | None
    pressure: float | None
    notes: tuple[str, ...]
    condensed: str = ""


def temperature_of(block: Block, where: str) -> tuple[float, list[str]]:
    """Kelvin, and notes on what was assumed. Raises InputError for what no gas cell has."""
    text = block.get("TEMPERATURE")
    match = re.match(_NUMBER + r"(?:deg\.?\s*|°\s*)?(K|C|F)?\b", text, re.IGNORECASE)
    if match is None:
        return ROOM_TEMPERATURE, [f"no temperature in the file: {ROOM_TEMPERATURE} K assumed"]
    value, unit = float(match.group(1).replace(",", ".")), (match.group(2) or "").upper()
    notes = []
    if not unit:
        unit = "K" if value > CELSIUS_BELOW else "C"
        notes = [f"the temperature, {text.strip()}, has no unit: {'kelvin' if unit == 'K' else 'Celsius'} taken"]
    kelvin = {"K": value, "C": value + ZERO_CELSIUS_K, "F": (value + 459.67) / 1.8}[unit]
    if not KELVINS[0] < kelvin < KELVINS[1]:
        raise InputError("no temperature of a gas in a cell", where=where, value=text, hint="mend ##TEMPERATURE")
    return kelvin, notes


def total_pressure(block: Block, where: str) -> tuple[float, list[str]]:
    """The pressure (Pa) of the mixture that an absorbance per part in a million refers to, and notes.

    Such spectra are of traces in air or nitrogen at about the pressure of the laboratory: published ones write its
    number in kilopascals with 'Pa' behind it. A pressure that is none in its unit, and the laboratory's in another, is
    taken in the other. Raises InputError where neither is so.
    """
    text = block.get("PRESSURE")
    amounts = _amounts(text)
    pressures = [(value, unit) for value, unit, _ in amounts if unit in PRESSURES]
    if not pressures:
        return ATM_PA, ["no pressure of the mixture in the file: 1 atm taken"]
    value, unit = pressures[0]
    stated = value * PRESSURES[unit]
    if FILLED[0] <= stated <= FILLED[1]:
        return stated, [f"the mixture's pressure is {stated / 1e3:.4g} kPa"]
    likely = [
        name for name in ("kpa", "torr", "mbar", "atm", "pa") if AMBIENT[0] <= value * PRESSURES[name] <= AMBIENT[1]
    ]
    if not likely:
        raise InputError(
            "no pressure that a mixture in a cell has",
            where=where,
            value=text,
            hint="mend ##PRESSURE: the absorbance per part in a million is taken at this pressure",
        )
    taken = value * PRESSURES[likely[0]]
    name = {"kpa": "kPa", "torr": "Torr", "pa": "Pa"}.get(likely[0], likely[0])
    how = f"{ATM_PA / stated:.3g} times below" if stated < taken else "far above"
    return taken, [f"the file states a pressure of {text.strip()}, {how} the air's: {value:g} {name} taken"]


def gas_of(block: Block, where: str, path: float | None, pressure: float | None) -> Gas:
    """Path and partial pressure of the absorbing gas, from the file where they are not given.

    A fraction (ppm, ppb, %) is one of the total pressure. A liquid or a solid has no pressure of its own, unless one is
    given. Raises InputError for a path or a pressure that no cell of a gas has.
    """
    notes: list[str] = []
    state = block.get("STATE")
    if pressure is None and _CONDENSED.search(state) and not _GASEOUS.search(state):
        return Gas(None, None, (), condensed=f"##STATE={state}")
    column = _column(block, notes) if path is None and pressure is None else None
    if column is not None:
        path, pressure = 1.0, column
    if path is None:
        path = _path(block, notes)
    if pressure is None:
        pressure = _partial(block, notes)
    for name, value, (low, high), unit in (("path", path, PATHS, "m"), ("pressure", pressure, PARTIAL, "Pa")):
        if value is not None and not low <= value <= high:
            raise InputError(
                f"no {name} that a gas cell has", where=where, value=f"{value:g} {unit}", hint="mend its record or unit"
            )
    return Gas(path, pressure, tuple(notes))


def _path(block: Block, notes: list[str]) -> float | None:
    text = block.get("PATHLENGTH", "PATH")
    for value, unit, _ in _amounts(text):
        if unit in LENGTHS and value > 0:
            return value * LENGTHS[unit]
    bare = re.fullmatch(_NUMBER, text + " " if text else "")
    if bare is not None:
        notes.append(f"the path, {text}, has no unit: the standard's cm taken")
        return float(bare.group(1).replace(",", ".")) * 1e-2
    return None


def _column(block: Block, notes: list[str]) -> float | None:
    """Pascal of the gas along one metre, where the file states its fraction times the path (ppm-m)."""
    text = block.get("CONCENTRATION", "$CONCENTRATION", "CONCENTRATIONS", "STATE")
    share = next((v * COLUMNS[u] for v, u, _ in _amounts(text) if u in COLUMNS and v > 0), None)
    if share is None:
        return None
    total = next((v * PRESSURES[u] for v, u, _ in _amounts(block.get("PRESSURE")) if u in PRESSURES and v > 0), None)
    if total is None:
        notes.append("the file states a fraction of the gas and no total pressure: 1 atm taken")
        total = ATM_PA
    notes.append(f"{share * 1e6:.6g} ppm-m of {total / TORR_PA:.5g} mmHg: that fraction along a path of 1 m")
    return share * total


def _partial(block: Block, notes: list[str]) -> float | None:
    """Pascal of the absorbing gas; the records that are known to hold it, the most certain first."""
    total = next((v * PRESSURES[u] for v, u, _ in _amounts(block.get("PRESSURE")) if u in PRESSURES and v > 0), None)
    amount_records = ("PARTIALPRESSURE", "$PARTIALPRESSURE", "CONCENTRATION", "$CONCENTRATION", "CONCENTRATIONS")
    for name in (*amount_records, "STATE"):
        amounts = _amounts(block.get(name))
        own = next((v * PRESSURES[u] for v, u, of_all in amounts if u in PRESSURES and not of_all and v > 0), None)
        if own is not None:
            return own
        share = next((v * FRACTIONS[u] for v, u, _ in amounts if u in FRACTIONS and v > 0), None)
        if share is None and name in amount_records and re.search(r"\d", block.get(name)):
            notes.append(f"##{name}={block.get(name)} is in no unit known here")
            return None
        if share is None:
            continue
        mixture = next((v * PRESSURES[u] for v, u, of_all in amounts if u in PRESSURES and of_all), total)
        if mixture is None:
            notes.append("the file states a fraction of the gas and no total pressure: 1 atm taken")
            mixture = ATM_PA
        notes.append(f"{share * 1e6:.6g} ppm of {mixture / TORR_PA:.5g} mmHg: a partial pressure of the gas")
        return share * mixture
    if total is not None:
        notes.append("the file states no partial pressure: its pressure is taken as the gas's own, undiluted")
    return total


def _amounts(text: str) -> list[tuple[float, str, bool]]:
    """(number, unit in small letters, whether 'total' stands before it) of every number with a unit in a text."""
    return [
        (float(m.group(1).replace(",", ".")), m.group(2).lower(), _TOTAL.search(text[: m.start()]) is not None)
        for m in _AMOUNT.finditer(text)
    ]
