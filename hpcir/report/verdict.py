"""Can the spectrum be trusted? One sentence for each thing that decides it, with the figure that it goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hpcir.report.data import ReportData

# Where a figure begins to be a reason to look: force error of the potential, error of the harmonic wavenumbers,
# standard error of the strongest bands' intensities, trajectories left out.
FORCE_LIMIT_KCAL_PER_MOL_ANGSTROM = 1.0
HARMONIC_LIMIT_PER_CM = 10.0
INTENSITY_LIMIT = 0.1
LEFT_OUT_LIMIT = 0.02
# Imaginary wavenumbers below this are noise of the differences.
IMAGINARY_PER_CM = 10.0


@dataclass(frozen=True)
class Finding:
    """good: True, False (look at it), or None (not known)."""

    what: str
    good: bool | None
    text: str


def findings(data: ReportData) -> list[Finding]:
    """Every verdict that the data allow, in the order of the road: sampling, potential, trajectories, spectrum."""
    made = [_sampling(data), _forces(data), _harmonic(data), _trajectories(data), _surroundings(data)]
    made += [_conformers(data), _intensities(data), _own(data)]
    return [finding for finding in made if finding is not None]


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _sampling(data: ReportData) -> Finding | None:
    if not data.sampling_reason:
        return None
    spent = "budget" in data.sampling_reason or "all " in data.sampling_reason[:4]
    ended = "It ended at its limit, not at its goal" if spent else "It ended"
    return Finding("Sampling", not spent, f"{ended}: {data.sampling_reason}.")


def _forces(data: ReportData) -> Finding | None:
    test = data.summary.get("test") or {}
    error = _number(test.get("force_rmse_kcal_per_mol_angstrom"))
    if error is None:
        return Finding("Potential", None, "There is no independent test (test.count in the deck).") if test else None
    text = f"Forces are off by {error:.2g} kcal/mol/Å (RMSE) on {test.get('n', '?')} independent geometries."
    return Finding("Potential", error < FORCE_LIMIT_KCAL_PER_MOL_ANGSTROM, text)


def _harmonic(data: ReportData) -> Finding | None:
    error = _number((data.summary.get("test") or {}).get("harmonic_mae_per_cm"))
    harmonic = data.summary.get("harmonic") or {}
    for whose in ("engine", "model"):
        found = [_number(w) for w in harmonic.get(f"{whose}_wavenumbers_per_cm") or []]
        imaginary = [-w for w in found if w is not None and w < -IMAGINARY_PER_CM]
        if imaginary:
            shown = ", ".join(f"{w:.0f}i" for w in imaginary)
            text = f"The {whose}'s minimum is none: it has imaginary modes at {shown} cm⁻¹."
            return Finding("Minimum", False, text)
    if error is None:
        return None
    text = f"Harmonic wavenumbers of the model at its minimum are off by {error:.2g} cm⁻¹ on average."
    return Finding("Curvature", error < HARMONIC_LIMIT_PER_CM, text)


def _trajectories(data: ReportData) -> Finding | None:
    md = data.summary.get("md") or {}
    total = _number(md.get("trajectories"))
    left_out = next((_number(md[key]) for key in ("left_out", "flagged", "excluded") if key in md), None)
    if total is None or left_out is None or total + left_out == 0:
        return None
    bonds = md.get("bonds") or {}
    said = " ".join([f"{left_out:.0f} of {total:.0f} trajectories were left out.", *(bonds.get("lines") or [])])
    return Finding("Trajectories", left_out / total <= LEFT_OUT_LIMIT, said)


def _surroundings(data: ReportData) -> Finding | None:
    """How far the trajectories went from the training data, as the run says it."""
    verdict = _said(data, "trust")
    return Finding("Surroundings", None, sentence(verdict)) if verdict else None


def _conformers(data: ReportData) -> Finding | None:
    verdict = ensemble_verdict(data)
    return Finding("Conformers", None, sentence(verdict)) if verdict else None


def ensemble_verdict(data: ReportData) -> str:
    """Why one minimum does not represent the trajectories; empty where it does, or nothing is known."""
    return _said(data, "ensemble")


def _said(data: ReportData, name: str) -> str:
    known = data.summary.get(name)
    return str(known.get("verdict") or "") if isinstance(known, dict) else ""


def sentence(words: str) -> str:
    """Words with a capital and a full stop."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


def _intensities(data: ReportData) -> Finding | None:
    bands = [
        (intensity, error)
        for band in data.bands
        if (intensity := _number(band.get("intensity_km_per_mol"))) is not None
        and (error := _number(band.get("stderr_km_per_mol"))) is not None
        and intensity > 0
    ]
    if not bands:
        return None
    strongest = sorted(bands, reverse=True)[:5]
    worst = max(error / intensity for intensity, error in strongest)
    text = f"The strongest bands' intensities are known to {100 * worst:.2g} % or better (one standard error)."
    return Finding("Error bars", worst < INTENSITY_LIMIT, text)


def _own(data: ReportData) -> Finding | None:
    """What the spectrum stage says itself."""
    spectrum = data.summary.get("spectrum") or {}
    verdict = spectrum.get("verdict") if isinstance(spectrum, dict) else None
    return Finding("Spectrum", None, str(verdict)) if verdict else None
