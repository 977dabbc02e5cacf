"""JCAMP-DX in and out (McDonald, Wilks, Appl. Spectrosc. 42, 151, 1988), with gas-phase transmittance made
absolute."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import constants as _c

from hpcir.errors import InputError
from hpcir.spectra.bands import curve_bands
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage.provenance import origin_line
from hpcir.units import KELVIN

FloatArray = NDArray[np.float64]

# Our own ordinate, as `write_jcamp` names it.
Y_UNITS = "NAPIERIAN MOLAR ABSORPTION (KM/MOL PER CM-1)"
# Transmittance below which a point counts as saturated: stray light and rounding decide it.
SATURATION = 0.05
# Temperature in kelvin of a file that names none.
ROOM_TEMPERATURE = 296.15
# Maxima nearer than this (cm-1) in a measured curve are rotational structure of one band.
MEASURED_RESOLUTION = 40.0
LARGEST_INTEGER = 10**9

_PRESSURES = {
    "mmhg": _c.torr, "torr": _c.torr, "pa": 1.0, "hpa": 100.0, "kpa": 1e3, "mbar": 100.0, "bar": _c.bar, "atm":
    _c.atm,
}  # fmt: skip
_LENGTHS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3}
_NUMBER = r"([+-]?\d+\.?\d*(?:[eE][+-]?\d+)?)\s*"


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
    False. Points of a transmittance under `saturation` are masked (nan). metadata['notes'] names every assumption.
    Raises InputError for a file that holds no usable infrared spectrum.
    """
    path = Path(path)
    content = _content(path)
    notes = list(content.pop("notes", []))
    wavenumbers, values = _abscissa(content, str(path))
    absorption, absolute, kelvin, scale_notes = _ordinate(
        content, values, str(path), (path_length, pressure, temperature), saturation
    )
    notes += scale_notes
    order = np.argsort(wavenumbers)
    grid, curve = _uniform(wavenumbers[order], absorption[order])
    if not np.any(np.isfinite(curve)):
        raise InputError("the whole spectrum is saturated", where=str(path))
    metadata = {
        "source": str(path),
        "title": str(content.get("title", "")),
        "absolute": absolute,
        "notes": notes,
        "state": str(content.get("state", "")),
        "resolution_per_cm": str(content.get("resolution", "")),
    }
    spectrum = Spectrum(grid, curve, np.full(len(grid), np.nan), temperature=kelvin * KELVIN, metadata=metadata)
    return replace(spectrum, bands=curve_bands(grid, curve, MEASURED_RESOLUTION))


def _content(path: Path) -> dict[str, Any]:
    """The labelled records and the x and y of the first spectrum in a file."""
    try:
        import jcamp
    except ImportError as error:
        raise InputError("reading JCAMP-DX needs the package jcamp", hint="pip install jcamp") from error
    said = io.StringIO()
    try:
        with open(path, "rb") as file:
            if b"##" not in file.read(4096):
                raise InputError("not a JCAMP-DX file", where=str(path), hint="its lines begin with ##LABEL=")
        with contextlib.redirect_stdout(said):
            content: dict[str, Any] = jcamp.readfile(str(path))
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"the JCAMP-DX file is damaged: {error}", where=str(path)) from error
    children = [child for child in content.get("children", []) if len(child.get("x", []))]
    if children:
        content = children[0]
        if len(children) > 1:
            content["notes"] = [f"the first of {len(children)} spectra in the file"]
    if len(content.get("x", [])) < 3 or len(content["x"]) != len(content["y"]):
        raise InputError(
            "the file holds no complete spectrum",
            where=str(path),
            value=f"{len(content.get('x', []))} abscissas, {len(content.get('y', []))} ordinates",
            hint="##NPOINTS must be the number of ordinates in ##XYDATA",
        )
    if "INFRARED" not in str(content.get("data type", content.get("datatype", "infrared"))).upper():
        raise InputError("not an infrared spectrum", where=str(path), value=content.get("data type"))
    if said.getvalue().strip():
        content["notes"] = [*content.get("notes", []), "the reader says: " + said.getvalue().strip().splitlines()[0]]
    return content


def _abscissa(content: dict[str, Any], where: str) -> tuple[FloatArray, FloatArray]:
    """Wavenumbers in cm-1 and ordinates as they are in the file."""
    x, y = np.asarray(content["x"], float), np.asarray(content["y"], float)
    units = str(content.get("xunits", "")).upper().replace(" ", "")
    if units in ("MICROMETERS", "MICROMETER", "UM", "NANOMETERS", "NM"):
        if np.any(x <= 0):
            raise InputError("a wavelength is not positive", where=where)
        x = (1e7 if units.startswith("N") else 1e4) / x
    elif units not in ("1/CM", "CM-1", "CM^-1"):
        raise InputError("unknown units of the abscissa", where=where, value=units, hint="known: 1/CM, MICROMETERS")
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _ordinate(
    content: dict[str, Any],
    y: FloatArray,
    where: str,
    given: tuple[float | None, float | None, float | None],
    saturation: float,
) -> tuple[FloatArray, bool, float, list[str]]:
    """The absorption, a flag for an absolute scale, the temperature in kelvin and notes."""
    units = str(content.get("yunits", "")).upper()
    path_length, pressure, temperature = given
    kelvin, notes = _temperature(content, temperature)
    if units == Y_UNITS:
        return y, True, kelvin, []
    if "MICROMOL/MOL" in units and "BASE 10" in units:
        # Absorbance per ppm and metre at the stated total pressure: one part per million is 1e-6 p/RT of density.
        density = 1e-6 * (pressure or _quantity(content.get("pressure"), _PRESSURES) or _c.atm) / (_c.R * kelvin)
        return 0.1 * y * np.log(10) / density, True, kelvin, notes
    if "TRANSMI" in units:
        scale = 100.0 if "%" in units or "PERCENT" in units else 1.0
        transmittance = y / scale
        if transmittance.max() > 2:
            raise InputError(
                "the transmittance exceeds 1 by far",
                where=where,
                value=float(transmittance.max()),
                hint="##YUNITS of a file in percent must say % TRANSMITTANCE",
            )
    elif "ABSORBANCE" in units:
        transmittance = 10.0 ** -np.clip(y, None, 300)
    else:
        raise InputError(
            "unknown units of the ordinate", where=where, value=units, hint="known: TRANSMITTANCE, ABSORBANCE"
        )
    if transmittance.max() > 1.01:
        notes.append(
            f"transmittance up to {transmittance.max():.3f}: the baseline is off, absorption is negative there"
        )
    masked = transmittance < saturation
    if masked.any():
        notes.append(f"{int(masked.sum())} of {len(y)} points with a transmittance under {saturation:g} masked")
    napierian = np.where(masked, np.nan, -np.log(np.where(masked, 1.0, transmittance)))
    path_length = path_length or _quantity(content.get("path length"), _LENGTHS)
    pressure = pressure or _partial_pressure(content)
    if path_length is None or pressure is None:
        missing = " and ".join(n for n, v in (("path length", path_length), ("pressure", pressure)) if v is None)
        return napierian, False, kelvin, [*notes, f"no {missing} in the file: the ordinate is -ln T, not absolute"]
    notes.append(f"path {100 * path_length:g} cm, pressure {pressure / _c.torr:.4g} mmHg, {kelvin:g} K")
    return 0.1 * napierian * _c.R * kelvin / (pressure * path_length), True, kelvin, notes


def _temperature(content: dict[str, Any], given: float | None) -> tuple[float, list[str]]:
    if given is not None:
        return given, []
    match = re.match(_NUMBER + r"(K|C|DEG C)?\b", str(content.get("temperature", "")).strip(), re.IGNORECASE)
    if match is None:
        return ROOM_TEMPERATURE, [f"no temperature in the file: {ROOM_TEMPERATURE} K assumed"]
    kelvin = float(match.group(1)) + (0.0 if (match.group(2) or "C").upper() == "K" else _c.zero_Celsius)
    return kelvin, []


def _partial_pressure(content: dict[str, Any]) -> float | None:
    """In pascal, from the records that are known to hold it."""
    for name in ("partial_pressure", "partial pressure", "$partial pressure", "state", "pressure"):
        found = _quantity(content.get(name), _PRESSURES)
        if found is not None:
            return found
    return None


def _quantity(text: Any, units: dict[str, float]) -> float | None:
    """The first number that a known unit follows, in SI units."""
    for number, unit in re.findall(_NUMBER + r"([A-Za-z]+)", str(text or "")):
        if unit.lower() in units and float(number) > 0:
            return float(number) * units[unit.lower()]
    return None


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
    """Write a spectrum as JCAMP-DX 4.24 with ordinates in km/mol per cm-1 (nine digits; unknown points as 0).

    records: further labelled records, such as molform='C H4 O'.
    """
    x, y = spectrum.wavenumbers, np.nan_to_num(spectrum.absorption)
    factor = float(np.max(np.abs(y), initial=0.0)) / LARGEST_INTEGER or 1.0
    integers = np.round(y / factor).astype(np.int64)
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
