"""JCAMP-DX in and out (McDonald, Wilks, Appl. Spectrosc. 42, 151, 1988), with gas-phase transmittance made
absolute."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.spectra.bands import curve_bands
from hpcir.spectra.files.gas import MAX_ABSORPTION, MOLAR_ABSORPTIONS, gas_of, temperature_of, total_pressure
from hpcir.spectra.files.jcamp_text import Block, read_blocks, table
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage.provenance import origin_line
from hpcir.units import GAS_J_PER_MOL_K, KELVIN, TORR_PA

# Our own ordinate, as `write_jcamp` names it.
Y_UNITS = "NAPIERIAN MOLAR ABSORPTION (KM/MOL PER CM-1)"
# Transmittance below which a point counts as saturated: stray light and rounding decide it.
SATURATION = 0.05
# Maxima nearer than this (cm-1) in a measured curve are rotational structure of one band.
MEASURED_RESOLUTION = 40.0
LARGEST_INTEGER = 10**9
# A transmittance above 2 and below this is in percent.
MAX_PERCENT = 150.0
# Wavenumbers (cm-1) that an infrared spectrum reaches at least and at most (the laser of an interferometer).
REACHED = 30.0, 16_000.0
# Ordinates that deviate from their median so many times more to the other side are of other units; the median (of
# transmittance) under which that can be.
WRONG_SIDE, LOW_TRANSMITTANCE = 3.0, 0.2
_BASE_E = re.compile(r"BASE E\b|NAPIERIAN|NEPERIAN|NATURAL|\bLN\b")
_INFRARED = re.compile(r"INFRARED|\b(?:FT[\s-]?)?IR\b")
_WAVENUMBERS = ("1/CM", "CM-1", "CM^-1", "CM(-1)", "WAVENUMBER", "WAVENUMBERS", "WAVENUMBERS(CM-1)")
_LIKELY = {"1/CM": 1.0, "MICROMETERS": 1e4, "NANOMETERS": 1e7}
_WAVELENGTHS = {"MICROMETERS": 1e4, "MICROMETER": 1e4, "MICRONS": 1e4, "UM": 1e4, "NANOMETERS": 1e7, "NM": 1e7}

# A largest ordinate that is another than ##MAXY by this factor.
_SAME_LARGEST = 1.9


def read_jcamp(
    path: str | Path,
    path_length: float | None = None,
    pressure: float | None = None,
    temperature: float | None = None,
    saturation: float = SATURATION,
) -> Spectrum:
    """The infrared spectrum of a JCAMP-DX file, on a uniform grid of ascending wavenumbers in cm-1.

    Transmittance T, or absorbance to base 10, becomes napierian molar absorption -ln T R T0/(p L) in km/mol per cm-1
    where the file gives the path length L and the (partial) pressure p, or they are given here in metres and pascal;
    temperature in kelvin, 296.15 where neither says. Otherwise the ordinate stays -ln T, and metadata['absolute'] is
    False. Points of a transmittance under `saturation`, and missing ones, are masked (nan). metadata['notes'] names
    every assumption. Raises InputError for a file without a usable infrared spectrum, and for a scale that cannot be.
    """
    path = Path(path)
    block, notes = _spectrum_block(path)
    x, y = table(block, str(path))
    notes += block.notes
    wavenumbers = _abscissa(block, x, str(path))
    known = np.isfinite(wavenumbers) & np.isfinite(y)
    if not known.all():
        notes.append(f"{int((~known).sum())} of {len(known)} points are missing in the file and masked")
    notes += _largest_note(block, y)
    given = (path_length, pressure, temperature)
    absorption, absolute, kelvin, scale_notes = _ordinate(block, y, str(path), given, saturation)
    placed = np.flatnonzero(np.isfinite(wavenumbers))
    order = placed[np.argsort(wavenumbers[placed])]
    grid, curve = _uniform(wavenumbers[order], absorption[order])
    if not np.any(np.isfinite(curve)):
        raise InputError("the whole spectrum is saturated or missing", where=str(path))
    if absolute:
        scale_notes += _check_size(grid, curve, str(path), scale_notes)
    metadata = {
        "source": str(path),
        "title": block.get("TITLE").split("\n")[0],
        "absolute": absolute,
        "notes": notes + scale_notes,
        "state": block.get("STATE"),
        "resolution_per_cm": block.get("RESOLUTION"),
    }
    spectrum = Spectrum(grid, curve, np.full(len(grid), np.nan), temperature=kelvin * KELVIN, metadata=metadata)
    return replace(spectrum, bands=curve_bands(grid, curve, MEASURED_RESOLUTION))


def _spectrum_block(path: Path) -> tuple[Block, list[str]]:
    """The first block of a file that is an infrared spectrum, and a note when there are several."""
    blocks = [block for block in read_blocks(path) if block.get("DATATYPE").upper() != "LINK"]
    infrared = [block for block in blocks if _is_infrared(block)]
    curves = [block for block in infrared if {"XYDATA", "XYPOINTS"} & block.records.keys()]
    if not infrared:
        kinds = sorted({block.get("DATATYPE", "DATACLASS") or "none" for block in blocks})
        raise InputError("not an infrared spectrum", where=str(path), value=", ".join(kinds) or "no block at all")
    return (curves or infrared)[0], [f"the first of {len(curves)} spectra in the file"] if len(curves) > 1 else []


def _largest_note(block: Block, y: FloatArray) -> list[str]:
    """A note where the file says another largest ordinate than its table has, by a factor."""
    said, found = block.number("MAXY"), float(np.max(y, where=np.isfinite(y), initial=0.0))
    if said is None or not (0 < said < np.inf and found > 0):
        return []
    in_the_table = said * (block.number("YFACTOR") or 1.0)  # where a program counts it so
    if any(1 / _SAME_LARGEST < found / one < _SAME_LARGEST for one in (said, in_the_table) if one > 0):
        return []
    return [f"##MAXY says {said:g}, and the largest ordinate of the table is {found:.4g}: ##YFACTOR may be wrong"]


def _is_infrared(block: Block) -> bool:
    kind = block.get("DATATYPE").upper() or "INFRARED"
    return _INFRARED.search(kind) is not None and "INTERFEROGRAM" not in kind


def _abscissa(block: Block, x: FloatArray, where: str) -> FloatArray:
    """Wavenumbers in cm-1."""
    units = block.get("XUNITS").upper().replace(" ", "")
    if units not in (*_WAVENUMBERS, *_WAVELENGTHS):
        raise InputError("unknown units of the abscissa", where=where, value=units, hint="known: 1/CM, MICROMETERS")
    if units in _WAVELENGTHS and np.any(x <= 0):
        raise InputError("a wavelength is not positive", where=where)
    wavenumbers = x if units in _WAVENUMBERS else _WAVELENGTHS[units] / x
    if (count := int(np.isfinite(wavenumbers).sum())) < 2:
        raise InputError("fewer than two points of the spectrum have a wavenumber", where=where, value=count)
    if not REACHED[0] <= np.nanmax(wavenumbers) <= REACHED[1]:
        read = {name: x if name == "1/CM" else size / np.where(x > 0, x, np.nan) for name, size in _LIKELY.items()}
        likely = [name for name, found in read.items() if _is_range(found)]
        raise InputError(
            f"no infrared spectrum has its abscissas from {np.nanmin(wavenumbers):.4g} to "
            f"{np.nanmax(wavenumbers):.4g} cm-1",
            where=where,
            value=f"##XUNITS={block.get('XUNITS')}",
            hint=f"they look like {' or '.join(likely)}: mend ##XUNITS" if likely else "mend ##XUNITS or ##XFACTOR",
        )
    return wavenumbers


def _is_range(wavenumbers: FloatArray) -> bool:
    """True for the wavenumbers of a usual infrared spectrum."""
    low, high = float(np.nanmin(wavenumbers)), float(np.nanmax(wavenumbers))
    return 5.0 <= low < 2500.0 and 1000.0 < high < 15_000.0


def _ordinate(
    block: Block,
    y: FloatArray,
    where: str,
    given: tuple[float | None, float | None, float | None],
    saturation: float,
) -> tuple[FloatArray, bool, float, list[str]]:
    """Absorption, whether it is absolute, the temperature in kelvin and notes."""
    units = block.get("YUNITS").upper()
    path_length, pressure, temperature = given
    kelvin, notes = (temperature, []) if temperature is not None else temperature_of(block, where)
    if units == Y_UNITS:
        return y, True, kelvin, []
    if "MICROMOL/MOL" in units and "BASE 10" in units:
        # Absorbance per ppm and metre at the stated total pressure: one part per million is 1e-6 p/RT of density.
        total, said = (pressure, []) if pressure is not None else total_pressure(block, where)
        return 0.1 * y * np.log(10) * GAS_J_PER_MOL_K * kelvin / (1e-6 * total), True, kelvin, notes + said
    if "ARBITRARY" in units:
        return _arbitrary(y, where), False, kelvin, [*notes, "arbitrary units: relative absorption, not absolute"]
    transmittance, said = _transmittance(units, y, where)
    notes += said
    masked = transmittance < saturation
    if masked.any():
        notes.append(f"{int(masked.sum())} of {len(y)} points with a transmittance under {saturation:g} masked")
    napierian = np.where(masked, np.nan, -np.log(np.where(masked, 1.0, transmittance)))
    gas = gas_of(block, where, path_length, pressure)
    if gas.condensed:
        return napierian, False, kelvin, [*notes, f"no gas ({gas.condensed}): the ordinate is -ln T, not absolute"]
    if gas.path is None or gas.pressure is None:
        missing = " and ".join(n for n, v in (("path length", gas.path), ("pressure", gas.pressure)) if v is None)
        relative = f"no {missing} in the file: the ordinate is -ln T, not absolute"
        return napierian, False, kelvin, [*notes, *gas.notes, relative]
    notes += [*gas.notes, f"path {100 * gas.path:g} cm, pressure {gas.pressure / TORR_PA:.4g} mmHg, {kelvin:g} K"]
    return 0.1 * napierian * GAS_J_PER_MOL_K * kelvin / (gas.pressure * gas.path), True, kelvin, notes


def _transmittance(units: str, y: FloatArray, where: str) -> tuple[FloatArray, list[str]]:
    """Transmittance from ordinates in their units, and notes."""
    notes = []
    if "TRANSMI" in units or units in ("%T", "% T"):
        transmittance = y / (100.0 if "%" in units or "PERCENT" in units else 1.0)
        most = float(np.nanmax(transmittance, initial=0.0))
        if 2 < most <= MAX_PERCENT and "%" not in units and "PERCENT" not in units:
            notes.append(f"a transmittance of up to {most:g}: percent, though ##YUNITS does not say so")
            transmittance, most = transmittance / 100, most / 100
        elif most > 2:
            raise InputError(
                "the transmittance exceeds 1 by far",
                where=where,
                value=most,
                hint="##YUNITS of a file in percent must say % TRANSMITTANCE",
            )
        up, down = _deviations(transmittance)
        if up > WRONG_SIDE * down and np.nanmedian(transmittance) < LOW_TRANSMITTANCE:
            raise _wrong_side("a transmittance whose bands point up", where, units)
    elif "ABSORBANCE" in units:
        natural = _BASE_E.search(units) is not None
        transmittance = (np.e if natural else 10.0) ** -np.clip(y, None, 300)
        if natural:
            notes.append("an absorbance to base e, by ##YUNITS")
        up, down = _deviations(y)
        if down > WRONG_SIDE * up:
            raise _wrong_side("an absorbance whose bands point down", where, units)
    else:
        raise InputError(
            "unknown units of the ordinate", where=where, value=units, hint="known: TRANSMITTANCE, ABSORBANCE"
        )
    most = float(np.nanmax(transmittance, initial=0.0))
    if most > 1.01:
        notes.append(f"transmittance up to {most:.3f}: the baseline is off, absorption is negative there")
    return transmittance, notes


def _deviations(y: FloatArray) -> tuple[float, float]:
    """The mean deviations of ordinates above and below their median."""
    off = y - np.nanmedian(y)
    return float(np.nanmean(np.clip(off, 0, None))), float(np.nanmean(np.clip(-off, 0, None)))


def _wrong_side(what: str, where: str, units: str) -> InputError:
    return InputError(what, where=where, value=f"##YUNITS={units}", hint="mend ##YUNITS: the values are of another")


def _arbitrary(y: FloatArray, where: str) -> FloatArray:
    """Ordinates of an unknown unit, their largest as 1: bands must point upwards, as absorption does."""
    low, middle, high = np.nanmin(y), np.nanmedian(y), np.nanmax(y)
    if not middle - low < high - middle:
        raise InputError(
            "ordinates in arbitrary units whose bands point down",
            where=where,
            hint="say what they are in ##YUNITS: TRANSMITTANCE, % TRANSMITTANCE or ABSORBANCE",
        )
    return np.asarray(y / high, float)


def _check_size(grid: FloatArray, curve: FloatArray, where: str, notes: list[str]) -> list[str]:
    """Refuse an absorption that no molecule has: a unit of pressure, path or ordinate is then another one. A note of
    one that few have."""
    area = float(np.nansum(curve) * (grid[1] - grid[0]))
    if area > MAX_ABSORPTION:
        raise InputError(
            f"the scale of the file gives {area:.3g} km/mol, more than any molecule absorbs",
            where=where,
            value="; ".join(notes) or "no note",
            hint="check pressure, path length and their units in the file",
        )
    if MOLAR_ABSORPTIONS[0] < area < MOLAR_ABSORPTIONS[1]:
        return []
    size = "more" if area > 1 else "less"
    return [f"{area:.3g} km/mol in all, {size} than nearly every molecule: check pressure, path and their units"]


def _uniform(wavenumbers: FloatArray, absorption: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A uniform grid of the median spacing, by linear interpolation; masked where a neighbour is."""
    steps = np.diff(wavenumbers)
    spacing = float(np.median(steps))
    if spacing <= 0:
        raise InputError("the wavenumbers of the spectrum repeat")
    if np.ptp(steps) < 0.01 * spacing:
        return np.linspace(wavenumbers[0], wavenumbers[-1], len(wavenumbers)), absorption
    grid = wavenumbers[0] + spacing * np.arange(int((wavenumbers[-1] - wavenumbers[0]) / spacing * (1 + 1e-9)) + 1)
    return grid, np.interp(grid, wavenumbers, absorption)


def write_jcamp(spectrum: Spectrum, path: str | Path, title: str = "infrared spectrum", **records: str) -> None:
    """Write a spectrum as JCAMP-DX 4.24 with ordinates in km/mol per cm-1 (nine digits; unknown points as '?').

    records: further labelled records, such as molform='C H4 O'.
    """
    x, known = spectrum.wavenumbers, np.isfinite(spectrum.absorption)
    y = np.where(known, spectrum.absorption, 0.0)
    factor = float(np.max(np.abs(y), initial=0.0)) / LARGEST_INTEGER or 1.0
    integers = np.where(known, np.round(y / factor).astype(np.int64).astype(str), "?")
    head = {
        "TITLE": title,
        "JCAMP-DX": "4.24",
        "DATA TYPE": "INFRARED SPECTRUM",
        "ORIGIN": origin_line(),
        "OWNER": "public",
        **{name.upper().replace("_", " "): text for name, text in records.items()},
        **({"TEMPERATURE": f"{spectrum.temperature / KELVIN:.6g} K"} if spectrum.temperature else {}),
        "XUNITS": "1/CM",
        "YUNITS": Y_UNITS,
        "XFACTOR": "1.0",
        "YFACTOR": f"{factor:.12e}",
        "FIRSTX": f"{x[0]:.10g}",
        "LASTX": f"{x[-1]:.10g}",
        "DELTAX": f"{(x[-1] - x[0]) / (len(x) - 1):.10g}",
        "MAXY": f"{y.max():.9g}",
        "MINY": f"{y.min():.9g}",
        "FIRSTY": f"{y[0]:.9g}",
        "NPOINTS": str(len(x)),
        "XYDATA": "(X++(Y..Y))",
    }
    lines = [f"##{name}={text}" for name, text in head.items()]
    for start in range(0, len(x), 5):
        row = " ".join(str(value) for value in integers[start : start + 5])
        lines.append(f"{x[start]:.6f} {row}")
    Path(path).write_text("\n".join([*lines, "##END=", ""]), encoding="ascii", errors="replace")
