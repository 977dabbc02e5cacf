"""Every band by every method, side by side: harmonic, trajectories, quantum levels, experiment; and whose the error
is: the sampling's and the committee's, the method's, the level of theory's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpcir.errors import InputError
from hpcir.spectra.bands import Band
from hpcir.study.results.records import BandEstimate, BandRow, LevelRow, ModeRow, Summary
from hpcir.vibrations.levels.result import METHODS
from hpcir.vibrations.method_errors import Method, method_error

# A mode belongs to a band when its place in the trajectories is inside, and its part is at least this fraction.
MIN_PART = 0.1
NUCLEI: dict[str, Method] = {"classical": "classical", "trpmd": "trpmd", "pigs": "pigs"}
LEVELS: dict[str, Method] = {"grid": "grid", "variational": "variational", "perturbation": "perturbation"}
# The methods in words, for tables.
WORDS: dict[str, str] = {
    "classical": "classical",
    "trpmd": "TRPMD",
    "pigs": "PIGS",
    "perturbation": "perturbation theory",
    "variational": "variation",
    "grid": "exact",
}


def side_by_side(summary: Summary, measured: Mapping[float, float] | None = None) -> tuple[BandRow, ...]:
    """A row for each band of a summary. measured: the experiment's positions (cm-1) by those of the bands."""
    rows = [_row(band, summary) for band in summary.bands]
    found = measured or {}
    return tuple(
        with_experiment(row, found[band.position_per_cm]) if band.position_per_cm in found else row
        for row, band in zip(rows, summary.bands, strict=True)
    )


def _row(band: Band, summary: Summary) -> BandRow:
    own = _modes_of(band, summary.modes)
    words = summary.modes[own[0][0]].name if own else ""
    nuclei = (summary.md.nuclei if summary.md is not None else None) or "classical"
    return BandRow(
        assignment=band.assignment,
        modes=tuple(f"v{mode + 1}" for mode, _ in sorted(own)),
        intensity_km_per_mol=band.intensity_km_per_mol,
        harmonic_per_cm=_mean(own, _harmonic(summary)),
        trajectories=_estimate(NUCLEI[nuclei], band.position_per_cm, band.stderr_per_cm, words),
        levels=_levels(summary, own, words),
    )


def _estimate(method: Method, place: float, stderr: float, words: str) -> BandEstimate:
    error = method_error(method, words) if words else None
    if error is None:
        return BandEstimate(method, place, stderr)
    return BandEstimate(method, place, stderr, error.mean_per_cm, error.scatter_per_cm)


def _modes_of(band: Band, modes: Sequence[ModeRow]) -> list[tuple[int, float]]:
    """The modes (index, part of the whole) of a band, the largest part first; none of an overtone."""
    inside = [
        (index, mode.contribution_km_per_mol or 0.0)
        for index, mode in enumerate(modes)
        if mode.anharmonic_per_cm is not None and band.lower_per_cm <= mode.anharmonic_per_cm <= band.upper_per_cm
    ]
    large = [(index, part) for index, part in inside if part >= MIN_PART * band.intensity_km_per_mol]
    total = sum(part for _, part in large)
    return sorted(((index, part / total) for index, part in large), key=lambda one: -one[1]) if total > 0 else []


def _harmonic(summary: Summary) -> Sequence[float]:
    """Harmonic wavenumbers of the modes: the label engine's where they are known."""
    found = summary.harmonic
    if found is None:
        return [mode.harmonic_per_cm or math.nan for mode in summary.modes if mode.harmonic_per_cm is not None]
    return found.engine_wavenumbers_per_cm or found.model_wavenumbers_per_cm


def _mean(own: Sequence[tuple[int, float]], values: Sequence[float]) -> float | None:
    """The mean of the modes' values by their parts of the band; None where one is not known."""
    if not own or any(index >= len(values) or not math.isfinite(values[index]) for index, _ in own):
        return None
    return sum(part * values[index] for index, part in own)


def _levels(summary: Summary, own: Sequence[tuple[int, float]], words: str) -> BandEstimate | None:
    """The levels of a band's modes; None where one is not known or not to be trusted."""
    if summary.levels is None or not own:
        return None
    named: dict[str, LevelRow] = {row.name: row for row in summary.levels.fundamentals}
    rows = [named.get(f"v{index + 1}") for index, _ in own]
    known = [row for row in rows if row is not None and not row.remark]
    if len(known) < len(own):
        return None
    place = sum(part * row.wavenumber_per_cm for (_, part), row in zip(own, known, strict=True))
    # Members err alike in the modes of one band: their deviations are added up.
    stderr = sum(part * row.stderr_per_cm for (_, part), row in zip(own, known, strict=True))
    method = next((name for name, text in METHODS.items() if text == summary.levels.method), "perturbation")
    return _estimate(LEVELS[method], place, stderr, words)


def with_experiment(row: BandRow, measured: float) -> BandRow:
    """The row with an experiment's position (cm-1), and the level of theory's error: that of the estimate whose method
    is known best, with the method's mean error taken off. None where no method was measured for this motion.

    Fundamentals of several modes in one band leave out the overtones that share its intensity: there the trajectories
    alone count."""
    levels = row.levels if len(row.modes) < 2 else None
    known = [one for one in (row.trajectories, levels) if one is not None and one.method_error_per_cm is not None]
    row = replace(row, experiment_per_cm=measured)
    if not known:
        return row
    best = min(known, key=_uncertainty)
    rest = best.wavenumber_per_cm - (best.method_error_per_cm or 0.0) - measured
    return replace(row, level_of_theory_per_cm=rest, level_of_theory_stderr_per_cm=_uncertainty(best))


def _uncertainty(one: BandEstimate) -> float:
    """Of a position with its method's mean error taken off: standard error and the method's scatter together, cm-1."""
    return math.hypot(0.0 if math.isnan(one.stderr_per_cm) else one.stderr_per_cm, one.method_scatter_per_cm or 0.0)


@dataclass(frozen=True)
class Experiment:
    """An experiment that a run was compared with: its file's name, and its bands' positions (cm-1) by those of the
    run's bands."""

    name: str = ""
    positions: Mapping[float, float] = field(default_factory=dict)


def read_experiment(path: Path) -> Experiment:
    """The experiment of a comparison.json; an empty one where the run was not compared with any. Raises InputError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        which = content.get("experiment")
        if which is None:
            return Experiment()
        rows = content.get("side_by_side", [])
        return Experiment(
            Path(content[which]).name,
            {
                float(row["trajectories"]["wavenumber_per_cm"]): float(row["experiment_per_cm"])
                for row in rows
                if "experiment_per_cm" in row
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
