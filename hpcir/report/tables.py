"""The tables and texts of the page, as escaped HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from hpcir.report.data import ReportData
from hpcir.report.evidence import HarmonicRow
from hpcir.report.verdict import Finding, known, sentence
from hpcir.runtime.progress import duration_text, figure_parts, number_text
from hpcir.sampling.trust import AtomTrust
from hpcir.spectra.bands import Band
from hpcir.study.results.records import BandEstimate, BandRow, LocalFrequencyRow, ModeRow, StageEnd, StageTime
from hpcir.study.results.side_by_side import WORDS

BAND_TITLES = ("position / cm⁻¹", "intensity / (km/mol)", "assignment")
# Bands weaker than this fraction of the strongest one are shown faintly.
WEAK_FRACTION = 0.02
# Most atoms of the trust table that are not folded away.
MAX_ATOMS = 8
SIGNS = {True: ("good", "✓"), False: ("look", "!"), None: ("open", "·")}


def text(value: str) -> str:
    """Escaped for HTML, quotes too."""
    return html.escape(value, quote=True)


def short(value: object) -> str:
    """A value of the summary for display."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number_text(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(short(item) for item in value)
    return "–" if value is None else str(value)


def tiles(data: ReportData) -> str:
    """The most important figures, large."""
    test, labels, stages = data.summary.test, data.summary.labels, data.summary.stages
    shown: list[tuple[str, object, str]] = [("labels", labels.count if labels is not None else None, "")]
    if test is not None:
        shown += [
            ("force RMSE", known(test.force_rmse_kcal_per_mol_angstrom), "kcal/mol/Å"),
            ("energy RMSE", known(test.energy_rmse_kcal_per_mol), "kcal/mol"),
            ("dipole RMSE", known(test.dipole_rmse_debye), "D"),
            ("polar tensor RMSE", known(test.polar_tensor_rmse_e), "e"),
            ("harmonic MAE", known(test.harmonic_mae_per_cm), "cm⁻¹"),
        ]
    shown.append(("wall time", duration_text(sum(stages.values())) if stages else None, ""))
    return "".join(
        f'<div class="tile"><span class="label">{text(name)}</span><span class="value">{text(short(value))}</span> '
        f'<span class="unit">{text(unit)}</span></div>'
        for name, value, unit in shown
        if value is not None
    )


def badges(found: Sequence[Finding]) -> str:
    """The verdicts as words beside the title."""
    return "".join(
        f'<a class="badge {SIGNS[item.good][0]}" href="#trust">{SIGNS[item.good][1]} {text(item.what)}</a>'
        for item in found
        if item.good is not None
    )


def finding(item: Finding) -> str:
    """One verdict with its sentence."""
    kind, sign = SIGNS[item.good]
    word = {"good": "good", "look": "needs attention", "open": "note"}[kind]
    return (
        f'<li><span class="verdict {kind}"><span aria-hidden="true">{sign}</span> {word}</span>'
        f"<span><strong>{text(item.what)}.</strong> {text(item.text)}</span></li>"
    )


def band_table(bands: Sequence[Band], name: str = "") -> str:
    """Bands with their errors. The table that has a name is the one of the curve: a row knows the range of its band,
    for the zoom."""
    if not bands:
        return "<p>No bands yet.</p>"
    head = "".join(
        f'<th scope="col"><button type="button" data-column="{index}">{text(title)}</button></th>'
        for index, title in enumerate(BAND_TITLES)
    )
    strongest = max((known(band.intensity_km_per_mol) or 0.0 for band in bands), default=0.0) or 1.0
    rows = "".join(_band_row(band, strongest, bool(name)) for band in bands)
    own = f'id="{text(name)}" ' if name else ""
    return f'<table {own}class="bands sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _band_row(band: Band, strongest: float, zooms: bool) -> str:
    share = 100 * max(known(band.intensity_km_per_mol) or 0.0, 0.0) / strongest
    cells = [
        _band_cell(band.position_per_cm, band.stderr_per_cm, ""),
        _band_cell(band.intensity_km_per_mol, band.stderr_km_per_mol, f' style="--share:{share:.1f}%"', _sources(band)),
        f'<td data-value="{text(band.assignment)}">{text(band.assignment) or "–"}</td>',
    ]
    low, high = known(band.lower_per_cm), known(band.upper_per_cm)
    span = "" if low is None or high is None or not zooms else f' data-low="{low:g}" data-high="{high:g}" tabindex="0"'
    weak = (known(band.intensity_km_per_mol) or 0.0) < WEAK_FRACTION * strongest
    kind = ' class="weak"' if weak else ""
    return f"<tr{kind}{span}>{''.join(cells)}</tr>"


def _band_cell(number: float, stderr: float, style: str, title: str = "") -> str:
    value, error = known(number), known(stderr)
    shown = "–" if value is None else f"{value:.1f}"
    if value is not None and error is not None:
        shown += f' <span class="error">± {error:.1f}</span>'
    return f'<td{style} data-value="{"" if value is None else value}"{title}>{shown}</td>'


def _sources(band: Band) -> str:
    """The contributions to an intensity's error, shown on hovering."""
    parts = {
        "sampling": known(band.sampling_stderr_km_per_mol),
        "committee": known(band.committee_stderr_km_per_mol),
        "populations": known(band.population_stderr_km_per_mol),
    }
    if parts["sampling"] is None:
        return ""
    words = ", ".join(f"{name} {'not known' if value is None else f'{value:.2g}'}" for name, value in parts.items())
    return f' title="{text(f"standard error: {words} km/mol")}"'


def mode_table(rows: Sequence[HarmonicRow], modes: Sequence[ModeRow] = ()) -> str:
    """The harmonic analysis, label engine against model, and the positions of the modes in the trajectories.

    modes: those of summary.json in the same order, if any.
    """
    if not rows:
        return ""
    moving = any(mode.anharmonic_per_cm is not None for mode in modes)
    body = []
    for index, row in enumerate(rows):
        both = row.engine is not None and row.model is not None
        difference = f"{round((row.model or 0.0) - (row.engine or 0.0), 1) + 0.0:+.1f}" if both else "–"
        cells = [_one(row.engine, 1), _one(row.model, 1), difference]
        cells += [_one(row.engine_intensity, 1), _one(row.model_intensity, 1)]
        mode = modes[index] if index < len(modes) else ModeRow("")
        cells += [_moving(mode)] if moving else []
        name = f'<th scope="row">{text(mode.name)}</th>' if moving else ""
        body.append(f"<tr>{name}" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        '<table class="figures"><thead><tr>'
        + ('<th rowspan="2" scope="col">mode</th>' if moving else "")
        + '<th colspan="3" scope="colgroup">harmonic / cm⁻¹</th>'
        '<th colspan="2" scope="colgroup">intensity / (km/mol)</th>'
        + ('<th rowspan="2" scope="col">in motion / cm⁻¹</th>' if moving else "")
        + '</tr><tr><th scope="col">engine</th><th scope="col">model</th><th scope="col">difference</th>'
        f'<th scope="col">engine</th><th scope="col">model</th></tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def side_by_side_table(rows: Sequence[BandRow]) -> str:
    """Each band by every method, and whose the error is; empty where there is nothing beside the trajectories."""
    if not any(row.levels or row.harmonic_per_cm is not None or row.experiment_per_cm is not None for row in rows):
        return ""
    # Overtones and combinations that nothing is known of beside the trajectories are in the table of bands.
    rows = [row for row in rows if row.modes or row.experiment_per_cm is not None]
    measured = any(row.experiment_per_cm is not None for row in rows)
    trajectories = WORDS[rows[0].trajectories.method]
    levels = next((WORDS[row.levels.method] for row in rows if row.levels is not None), "")
    titles = ["band", "harmonic", f"trajectories, {trajectories}", "error of the method"]
    titles += [f"levels, {levels}", "error of the method"] if levels else []
    titles += ["experiment", "level of theory"] if measured else []
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    body = []
    for row in rows:
        cells = [_one(row.harmonic_per_cm, 1), *_estimate_cells(row.trajectories)]
        cells += _estimate_cells(row.levels) if levels else []
        if measured:
            rest = _with_error(row.level_of_theory_per_cm, row.level_of_theory_stderr_per_cm, "+.1f")
            cells += [_one(row.experiment_per_cm, 1), rest]
        name = text(row.assignment) or "–"
        body.append(f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        '<p class="hint">All in cm⁻¹. ± behind a position: one standard error of sampling and committee. Error '
        "of the method: what it added to exact levels of small molecules for this kind of motion, mean ± scatter. "
        + (
            "Level of theory: what is left of computed less measured when the mean error of the better known method is "
            "taken off."
            if measured
            else "What is left against an experiment is the level of theory's."
        )
        + "</p>"
    )


def _estimate_cells(estimate: BandEstimate | None) -> tuple[str, str]:
    """A position with its standard error, and the error of its method."""
    if estimate is None:
        return "–", "–"
    return (
        _with_error(estimate.wavenumber_per_cm, estimate.stderr_per_cm, ".1f"),
        _with_error(estimate.method_error_per_cm, estimate.method_scatter_per_cm, "+.0f"),
    )


def _with_error(value: float | None, error: float | None, form: str) -> str:
    shown, off = known(value), known(error)
    if shown is None:
        return "–"
    return f"{shown:{form}}" + ("" if off is None else f' <span class="error">± {off:{form.lstrip("+")}}</span>')


def local_table(rows: Sequence[LocalFrequencyRow]) -> str:
    """Effective frequencies of each kind of vibration by the model's forces on the independent test, folded away."""
    if not rows:
        return ""
    titles = ("motion", "in the molecule", "engine / cm⁻¹", "shift of the model / cm⁻¹")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = []
    for row in rows:
        shift, error = known(row.shift_per_cm), _one(row.shift_error_per_cm, 1)
        shown = "–" if shift is None else f'{shift:+.1f} <span class="error">± {error}</span>'
        cells = (short(row.count), _one(row.wavenumber_per_cm, 1), shown)
        body.append(
            f'<tr><th scope="row">{text(row.motion)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        )
    return (
        "<details><summary>Effective frequencies of the model's forces</summary>"
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        '<p class="hint">Effective frequencies of bond lengths and angles over the geometries of the independent test, '
        "from the engine's forces and from the model's on the same geometries: the difference of these is known better "
        "than that of two spectra.</p></details>"
    )


def _moving(mode: ModeRow) -> str:
    """The position of a mode in the trajectories, with its error."""
    place, error = known(mode.anharmonic_per_cm), known(mode.stderr_per_cm)
    return _one(place, 1) + ("" if place is None or error is None else f' <span class="error">± {error:.1f}</span>')


def trust_table(rows: Sequence[AtomTrust]) -> str:
    """The atoms farthest from the training data, the rest folded away."""
    if not rows:
        return ""
    titles = ("atom", "distance", "spread", "frames outside", "symmetry function farthest outside its range")
    head = "<thead><tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr></thead>"

    def table(part: Sequence[AtomTrust]) -> str:
        return f'<table class="trust">{head}<tbody>{"".join(_trust_row(row) for row in part)}</tbody></table>'

    more = rows[MAX_ATOMS:]
    folded = (
        f"<details><summary>{len(more)} more atom{'s' if len(more) > 1 else ''}</summary>{table(more)}</details>"
        if more
        else ""
    )
    return table(rows[:MAX_ATOMS]) + folded


def _trust_row(row: AtomTrust) -> str:
    outside, excess = known(row.outside), known(row.excess)
    function = row.description or "none"
    if row.description and excess:
        function += f" (by {100 * excess:.2g} %)"
    pairs = [(row.largest_distance, row.mean_distance, 1), (row.largest_spread, row.mean_spread, 2)]
    cells = [
        f'{_one(largest, digits)} <span class="error">({_one(mean, digits)})</span>' for largest, mean, digits in pairs
    ]
    cells += ["–" if outside is None else f"{100 * outside:.0f} %", text(function)]
    name = row.name or f"atom {row.atom + 1}"
    return f'<tr><th scope="row">{text(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _one(value: float | None, digits: int) -> str:
    shown = known(value)
    return "–" if shown is None else f"{shown:.{digits}f}"


def time_table(seconds: dict[str, float]) -> str:
    """Wall time of each stage with a bar."""
    if not seconds:
        return "<p>No stage has ended yet.</p>"
    total = sum(seconds.values()) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(duration_text(value))}</td>'
        f'<td class="bar"><span style="width:{100 * value / total:.1f}%"></span></td></tr>'
        for name, value in seconds.items()
    )
    return (
        f'<table class="times"><tbody>{rows}<tr class="total"><th scope="row">all</th>'
        f"<td>{text(duration_text(total))}</td><td></td></tr></tbody></table>"
    )


def core_time(times: Sequence[StageTime], faster: str) -> str:
    """The cores' time in all stages, and a word on the largest of them."""
    spent = sum(one.core_seconds for one in times)
    words = [*([f"{duration_text(spent)} of all cores."] if spent else []), *([sentence(faster)] if faster else [])]
    return f'<p class="hint">{text(" ".join(words))}</p>' if words else ""


def ends_table(ends: Sequence[StageEnd]) -> str:
    """The reason for which each stage ended, and the gain of more."""
    if not ends:
        return "<p>Nothing yet.</p>"
    rows = "".join(
        f'<tr><th scope="row">{text(end.stage)}</th><td>{text(end.reason.value.replace("_", " "))}</td>'
        f"<td>{text(end.sentence)}</td><td>{text(end.more)}</td></tr>"
        for end in ends
    )
    head = "<tr><th>stage</th><th>ended by</th><th>in words</th><th>more would have given</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def facts(named: Mapping[str, object]) -> str:
    """Named facts as a table; nested ones in one cell."""
    if not named:
        return "<p>Nothing yet.</p>"
    rows = []
    for name, value in named.items():
        if isinstance(value, dict):
            label, shown = name.replace("_", " "), ", ".join(f"{key} {short(item)}" for key, item in value.items())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            label, shown = figure_parts(name, value)
        else:
            label, shown = name.replace("_", " "), short(value)
        rows.append(f'<tr><th scope="row">{text(label)}</th><td>{text(shown)}</td></tr>')
    return f'<table class="facts"><tbody>{"".join(rows)}</tbody></table>'
