"""report.html: one file that needs no network. Python writes text and tables; page.js draws the plots.

Whatever a user typed reaches the page as escaped text or as JSON that the script reads; never as markup.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.report import molecules, tables
from hpcir.report.chain import chain_section
from hpcir.report.data import ReportData
from hpcir.report.evidence import harmonic_rows
from hpcir.report.parts import summed
from hpcir.report.tables import text
from hpcir.report.verdict import ensemble_verdict, findings, known, sentence
from hpcir.spectra.bands import Band
from hpcir.storage.files import write_atomic
from hpcir.storage.records import as_dict
from hpcir.study.learning.curve import Round
from hpcir.study.results.records import IndependentTest, LabelFigures, MdFigures
from hpcir.version import __version__

# Most points of a scatter plot: more make the page slow and show nothing new.
MAX_POINTS = 4000
# Most contributions to a spectrum that are drawn separately.
MAX_PARTS = 10
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
    plotly, found, test = _plotly(), findings(data), data.summary.test
    modes = tables.mode_table(harmonic_rows(data.summary.harmonic), data.summary.modes)
    parts = {
        "title": text(data.title),
        "style": _asset("page.css"),
        "subtitle": text(_subtitle(data)),
        "badges": tables.badges(found),
        "notes": _notes(data),
        "tiles": tables.tiles(data),
        "findings": "".join(tables.finding(item) for item in found) or "<li>Nothing to judge yet.</li>",
        "of": f" of {text(data.name)}" if len(data.targets) > 1 else "",
        "bands": tables.band_table(data.bands, "bands"),
        "beside": _beside(data),
        "structure": molecules.understood(data),
        "molecules": molecules.molecules(data) + molecules.families(data),
        "conformers": _conformers(data),
        "trust": tables.trust_table(data.trust),
        "modes": f'<details><summary>Mode by mode</summary><div class="scroll">{modes}</div></details>'
        if modes
        else "",
        "locals": tables.local_table(test.local_frequencies or () if test is not None else ()),
        "figures": "" if plotly else _pictures(figures),
        "figures_class": "interactive" if plotly else "pictures",
        "ends": tables.ends_table(data.summary.ends),
        "times": tables.time_table(data.summary.stages) + tables.core_time(data.summary.times, data.summary.faster),
        "md": tables.facts(_facts(data.summary.md)),
        "labels": tables.facts(_facts(data.summary.labels)),
        "chain": chain_section(data.summary.chain),
        "deck": text(data.deck_text or "The resolved deck is missing."),
        "provenance": tables.facts(_without_deck(data.summary.provenance)),
        "citation": text(f"{CITATION} Program: hpcir {__version__}."),
        "version": text(__version__),
        "data": _script_json(plot_data(data)),
        "plotly": plotly,
        "script": _asset("page.js"),
        "overlay": _asset("overlay.js"),
    }
    # One pass, so that nothing inside a part is taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def plot_data(data: ReportData) -> dict[str, object]:
    """The data that page.js draws, as JSON-able lists; numbers that are not finite become null."""
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
            {
                "name": sticks.name,
                "x": _numbers(sticks.wavenumbers, 7),
                "y": _numbers(sticks.intensities),
                "error": None if sticks.stderr is None else _numbers(sticks.stderr, 3),
            }
            for sticks in data.sticks
        ],
        "bands": [_band(band) for band in data.bands],
        "parts": _parts(data),
        "curve": [_plain_numbers(entry) for entry in data.learning.rounds],
        "test": _plain_numbers(data.summary.test),
        "parity": [
            {
                "quantity": parity.quantity,
                "unit": parity.unit,
                "rmse": parity.rmse,
                "reference": _numbers(_thinned(parity.reference)),
                "model": _numbers(_thinned(parity.model)),
            }
            for parity in data.parity
        ],
        "calibration": None
        if calibration is None
        else {"spread": _numbers(_thinned(calibration.spread)), "error": _numbers(_thinned(calibration.error))},
        **_evidence(data),
    }


def _band(band: Band) -> dict[str, object]:
    return {
        "position": known(band.position_per_cm),
        "peak": known(band.peak_per_cm),
        "intensity": known(band.intensity_km_per_mol),
        "low": known(band.lower_per_cm),
        "high": known(band.upper_per_cm),
        "assignment": band.assignment,
    }


def _plain_numbers(record: Round | IndependentTest | None) -> dict[str, float | None]:
    """The single numbers of a record by name; those that are not known are null."""
    named = {} if record is None else as_dict(record)
    return {name: known(value) if isinstance(value, (int, float)) else None for name, value in named.items()}


def _parts(data: ReportData) -> dict[str, object] | None:
    """Curves that add up to the spectrum, of normal modes and of groups of atoms; None where the run has none."""
    parts = data.parts
    if parts is None:
        return None
    named = {
        "groups": summed(parts.group_names, parts.groups, MAX_PARTS),
        "modes": summed(parts.mode_names, parts.modes, MAX_PARTS),
    }
    curves = {
        kind: [{"name": name, "y": _numbers(curve, 4)} for name, curve in found.items()]
        for kind, found in named.items()
        if len(found) > 1
    }
    return {"x": _numbers(parts.wavenumbers, 7), **curves} if curves else None


def _evidence(data: ReportData) -> dict[str, object]:
    atoms, kept = data.atoms, data.conservation
    return {
        "atoms": None
        if atoms is None
        else {
            "x": _numbers(atoms.x, 4),
            "y": _numbers(atoms.y, 4),
            "symbols": atoms.symbols,
            "bonds": atoms.bonds,
            "values": [
                {"what": item.what, "unit": item.unit, "value": _numbers(item.value, 4), "details": item.details}
                for item in atoms.values
            ],
        },
        "settling": [{"position": item.position, "percent": _numbers(item.percent, 4)} for item in data.settling],
        "conservation": None
        if kept is None
        else {"time": _numbers(kept.time, 4), "energy": [_numbers(row, 3) for row in kept.energy]},
    }


# -- parts ------------------------------------------------------------------------------------------------------


def _subtitle(data: ReportData) -> str:
    labels, md, kelvin = data.summary.labels, data.summary.md, data.summary.provenance.get("temperature_kelvin")
    parts = [labels.level if labels is not None else ""]
    if isinstance(kelvin, (int, float)):
        parts.append(f"{kelvin:g} K")
    if md is not None and md.trajectories:
        parts.append(f"{md.trajectories} trajectories")
    return " · ".join(part for part in parts if part)


def _facts(record: LabelFigures | MdFigures | None) -> dict[str, object]:
    return {} if record is None else as_dict(record)


def _notes(data: ReportData) -> str:
    if not data.missing:
        return ""
    items = "".join(f"<li>{text(what)}</li>" for what in data.missing)
    return f'<aside class="note"><strong>Not available:</strong><ul>{items}</ul></aside>'


def _conformers(data: ReportData) -> str:
    """A note beside the harmonic lines where their minimum does not represent the trajectories."""
    said = ensemble_verdict(data)
    return f'<p class="remark">{text(sentence(said))}</p>' if said else ""


def _beside(data: ReportData) -> str:
    """The section of every band by every method."""
    table = tables.side_by_side_table(data.side_by_side)
    if not table:
        return ""
    where = f", with {text(data.experiment)}" if data.experiment else ""
    return (
        f'<section class="card" id="beside"><h2>Methods side by side{where}</h2><div class="scroll">{table}</div>'
        "</section>"
    )


def _without_deck(provenance: Mapping[str, object]) -> dict[str, object]:
    """The provenance without the deck, which the page shows separately."""
    return {key: value for key, value in provenance.items() if key != "deck"}


def _pictures(figures: Sequence[Path]) -> str:
    """The PNG figures inside the page, where plotly is not installed."""
    images = "".join(
        f'<img alt="{text(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in figures
    )
    return f'<section class="card">{images}<p>For plots that zoom: pip install plotly, then hpcir report.</p></section>'


# -- small things -----------------------------------------------------------------------------------------------


def _thinned(values: FloatArray) -> FloatArray:
    return values[:: max(1, math.ceil(len(values) / MAX_POINTS))]


def _numbers(values: FloatArray, digits: int = 5) -> list[float | None]:
    """A list for JSON, rounded to so many significant digits."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in np.asarray(values, float)]


def _script_json(content: object) -> str:
    """JSON inside a script element: no '<' may end it early."""
    written = json.dumps(content, separators=(",", ":"), allow_nan=False, default=str)
    return written.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return (resources.files("hpcir.report") / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The text of plotly.js from the plotly package; empty when it is not installed."""
    try:
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        return ""
