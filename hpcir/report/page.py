"""report.html: one file that needs no network. Python writes text and tables; page.js draws the plots.

Whatever a user typed reaches the page as escaped text or as JSON that the script reads; never as markup.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hpcir import __version__
from hpcir.progress import duration_text, figure_text
from hpcir.report.data import ReportData
from hpcir.report.verdict import Finding, findings
from hpcir.store import write_atomic

# More points than this in a scatter plot make the page slow and show nothing new.
MOST_POINTS = 4000
BAND_COLUMNS = (
    ("position_per_cm", "position / cm⁻¹", "stderr_per_cm", 1),
    ("intensity_km_per_mol", "intensity / (km/mol)", "stderr_km_per_mol", 2),
)
CITATION = (
    "M. Gastegger, J. Behler, P. Marquetand, Machine learning molecular dynamics for the simulation of infrared "
    "spectra, Chem. Sci. 8, 6924 (2017)."
)


def write_page(data: ReportData, path: Path, figures: Sequence[Path] = ()) -> Path:
    """Write the page; `figures` are shown where plotly is not installed. Raises RunStopped when the disk refuses."""
    write_atomic(path, render(data, figures))
    return path


def render(data: ReportData, figures: Sequence[Path] = ()) -> str:
    """The page as text."""
    plotly = _plotly()
    parts = {
        "title": _text(data.name),
        "style": _asset("page.css"),
        "subtitle": _text(_subtitle(data)),
        "notes": _notes(data),
        "tiles": _tiles(data),
        "findings": "".join(_finding(item) for item in findings(data)) or "<li>Nothing to judge yet.</li>",
        "bands": _bands(data.bands),
        "figures": "" if plotly else _pictures(figures),
        "figures_class": "interactive" if plotly else "pictures",
        "times": _times(data.stage_seconds),
        "md": _facts(data.summary.get("md") or {}),
        "labels": _facts(data.summary.get("labels") or {}),
        "deck": _text(data.deck_text or "The resolved deck is missing."),
        "provenance": _facts(_without_deck(data.summary.get("provenance") or {})),
        "citation": _text(f"{CITATION} Program: hpcir {__version__}."),
        "version": _text(__version__),
        "data": _script_json(plot_data(data)),
        "plotly": plotly,
        "script": _asset("page.js"),
    }
    # One pass, so that nothing inside a part is taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def plot_data(data: ReportData) -> dict[str, Any]:
    """What page.js draws, as JSON-able lists; numbers that are not finite become null."""
    scatter = [
        {
            "quantity": parity.quantity,
            "unit": parity.unit,
            "rmse": parity.rmse,
            "reference": _numbers(_thinned(parity.reference)),
            "model": _numbers(_thinned(parity.model)),
        }
        for parity in data.parity
    ]
    calibration = data.calibration
    return {
        "name": data.name,
        "spectra": [
            {
                "name": curve.name or data.name,
                "x": _numbers(curve.wavenumbers, 7),
                "y": _numbers(curve.absorption),
                "error": _numbers(np.nan_to_num(curve.stderr)),
            }
            for curve in ([data.spectrum] if data.spectrum is not None else []) + list(data.others)
        ],
        "sticks": [
            {"name": sticks.name, "x": _numbers(sticks.wavenumbers, 7), "y": _numbers(sticks.intensities)}
            for sticks in data.sticks
        ],
        "bands": [{key: _plain_number(band.get(key)) for key, *_ in BAND_COLUMNS} for band in data.bands],
        "curve": [{key: _plain_number(value) for key, value in entry.items()} for entry in data.learning_curve],
        "test": {key: _plain_number(value) for key, value in (data.summary.get("test") or {}).items()},
        "parity": scatter,
        "calibration": None
        if calibration is None
        else {"spread": _numbers(_thinned(calibration.spread)), "error": _numbers(_thinned(calibration.error))},
        "seconds": data.stage_seconds,
    }


# -- parts ------------------------------------------------------------------------------------------------------


def _subtitle(data: ReportData) -> str:
    provenance = data.summary.get("provenance") or {}
    parts = [str((data.summary.get("labels") or {}).get("level") or "")]
    if "temperature_kelvin" in provenance:
        parts.append(f"{provenance['temperature_kelvin']:g} K")
    md = data.summary.get("md") or {}
    if md.get("trajectories"):
        parts.append(f"{md['trajectories']} trajectories")
    return " · ".join(part for part in parts if part)


def _notes(data: ReportData) -> str:
    if not data.missing:
        return ""
    items = "".join(f"<li>{_text(what)}</li>" for what in data.missing)
    return f'<aside class="note"><strong>Not here:</strong><ul>{items}</ul></aside>'


def _tiles(data: ReportData) -> str:
    """The figures that count, large."""
    test, labels = data.summary.get("test") or {}, data.summary.get("labels") or {}
    shown = [
        ("labels", labels.get("count"), ""),
        ("force RMSE", test.get("force_rmse_kcal_per_mol_angstrom"), "kcal/mol/Å"),
        ("energy RMSE", test.get("energy_rmse_kcal_per_mol"), "kcal/mol"),
        ("dipole RMSE", test.get("dipole_rmse_debye"), "D"),
        ("harmonic MAE", test.get("harmonic_mae_per_cm"), "cm⁻¹"),
        ("wall time", duration_text(sum(data.stage_seconds.values())) if data.stage_seconds else None, ""),
    ]
    return "".join(
        f'<div class="tile"><span class="value">{_text(_short(value))}</span> <span class="unit">{_text(unit)}</span>'
        f'<span class="label">{_text(name)}</span></div>'
        for name, value, unit in shown
        if value is not None
    )


def _finding(finding: Finding) -> str:
    kind, sign = {True: ("good", "✓ good"), False: ("look", "! look"), None: ("open", "· note")}[finding.good]
    return (
        f'<li><span class="verdict {kind}">{sign}</span> <strong>{_text(finding.what)}.</strong> '
        f"{_text(finding.text)}</li>"
    )


def _bands(bands: Sequence[dict[str, Any]]) -> str:
    if not bands:
        return "<p>No bands yet.</p>"
    head = "".join(
        f'<th scope="col"><button type="button" data-column="{index}">{_text(title)}</button></th>'
        for index, title in enumerate([title for _, title, *_ in BAND_COLUMNS] + ["assignment"])
    )
    rows = []
    for band in bands:
        cells = []
        for key, _, error_key, digits in BAND_COLUMNS:
            value, error = _plain_number(band.get(key)), _plain_number(band.get(error_key))
            shown = "–" if value is None else f"{value:.{digits}f}"
            if value is not None and error is not None:
                shown += f' <span class="error">± {error:.{digits}f}</span>'
            cells.append(f'<td data-value="{"" if value is None else value}">{shown}</td>')
        word = str(band.get("assignment") or "")
        cells.append(f'<td data-value="{_text(word)}">{_text(word)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table id="bands" class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _times(seconds: dict[str, float]) -> str:
    if not seconds:
        return "<p>No stage has ended yet.</p>"
    total = sum(seconds.values()) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(duration_text(value))}</td>'
        f'<td class="bar"><span style="width:{100 * value / total:.1f}%"></span></td></tr>'
        for name, value in seconds.items()
    )
    return (
        f'<table class="times"><tbody>{rows}<tr class="total"><th scope="row">all</th>'
        f"<td>{_text(duration_text(total))}</td><td></td></tr></tbody></table>"
    )


def _facts(facts: dict[str, Any]) -> str:
    """Named facts as a table; nested ones in one cell."""
    if not facts:
        return "<p>Nothing yet.</p>"
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            label, shown = name.replace("_", " "), ", ".join(f"{key} {_short(item)}" for key, item in value.items())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            text = figure_text(name, value)
            number = f"{value:.3g}" if isinstance(value, float) else str(value)
            label, shown = text.split(f" {number}")[0], number + text.split(f" {number}", 1)[1]
        else:
            label, shown = name.replace("_", " "), _short(value)
        rows.append(f'<tr><th scope="row">{_text(label)}</th><td>{_text(shown)}</td></tr>')
    return f'<table class="facts"><tbody>{"".join(rows)}</tbody></table>'


def _without_deck(provenance: dict[str, Any]) -> dict[str, Any]:
    """The deck has its own place on the page."""
    return {key: value for key, value in provenance.items() if key != "deck"}


def _pictures(figures: Sequence[Path]) -> str:
    """The PNG figures inside the page, for where plotly is not installed."""
    images = "".join(
        f'<img alt="{_text(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in figures
    )
    return f'<section class="card">{images}<p>For plots that zoom: pip install plotly, then hpcir report.</p></section>'


# -- small things -----------------------------------------------------------------------------------------------


def _text(value: str) -> str:
    return html.escape(value, quote=True)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(item) for item in value)
    return "–" if value is None else str(value)


def _plain_number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _thinned(values: Any) -> Any:
    return values[:: max(1, math.ceil(len(values) / MOST_POINTS))]


def _numbers(values: Any, digits: int = 5) -> list[float | None]:
    """A list for JSON, rounded to so many significant digits."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in np.asarray(values, float)]


def _script_json(content: Any) -> str:
    """JSON inside a script element: no '<' may end it early."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, default=str)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return (resources.files("hpcir.report") / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The text of plotly.js from the plotly package; empty when it is not installed."""
    try:
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        return ""
