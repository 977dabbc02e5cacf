"""Can the spectrum be trusted? One sentence for each thing that decides it, with the figure that it goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpcir.report.data import ReportData
from hpcir.study.results.records import ConformerVerdict, TrustVerdict

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


def known(value: float | None) -> float | None:
    """A number that is known: neither None nor NaN."""
    return value if value is not None and math.isfinite(value) else None


def _sampling(data: ReportData) -> Finding | None:
    reason, stopped = data.learning.reason, data.learning.stopped
    if not reason:
        return None
    if stopped is None:  # a run of a version that did not say it
        return Finding("Sampling", None, f"It ended: {reason}.")
    ended = "It ended at its limit, not at its goal" if stopped.is_limit else "It ended"
    return Finding("Sampling", not stopped.is_limit, f"{ended}: {reason}.")


def _forces(data: ReportData) -> Finding | None:
    test = data.summary.test
    if test is None:
        return None
    error = known(test.force_rmse_kcal_per_mol_angstrom)
    if error is None:
        return Finding("Potential", None, "There is no independent test (test.count in the deck).")
    text = f"Forces are off by {error:.2g} kcal/mol/Å (RMSE) on {test.n} independent geometries."
    return Finding("Potential", error < FORCE_LIMIT_KCAL_PER_MOL_ANGSTROM, text)


def _harmonic(data: ReportData) -> Finding | None:
    error = known(data.summary.test.harmonic_mae_per_cm) if data.summary.test is not None else None
    harmonic = data.summary.harmonic
    found = (
        {}
        if harmonic is None
        else {"engine": harmonic.engine_wavenumbers_per_cm, "model": harmonic.model_wavenumbers_per_cm}
    )
    for whose, wavenumbers in found.items():
        imaginary = [-w for w in wavenumbers or () if w is not None and w < -IMAGINARY_PER_CM]
        if imaginary:
            shown = ", ".join(f"{w:.0f}i" for w in imaginary)
            return Finding("Minimum", False, f"The {whose}'s minimum is none: it has imaginary modes at {shown} cm⁻¹.")
    if error is None:
        return None
    text = f"Harmonic wavenumbers of the model at its minimum are off by {error:.2g} cm⁻¹ on average."
    return Finding("Curvature", error < HARMONIC_LIMIT_PER_CM, text)


def _trajectories(data: ReportData) -> Finding | None:
    md = data.summary.md
    if md is None or md.left_out is None or md.trajectories == 0:
        return None
    text = " ".join([f"{md.left_out} of {md.trajectories} trajectories were left out.", *md.bond_events])
    return Finding("Trajectories", md.left_out / md.trajectories <= LEFT_OUT_LIMIT, text)


def _surroundings(data: ReportData) -> Finding | None:
    """How far the trajectories went from the training data, as the run says it."""
    verdict = _said(data.summary.trust)
    return Finding("Surroundings", None, sentence(verdict)) if verdict else None


def _conformers(data: ReportData) -> Finding | None:
    verdict = ensemble_verdict(data)
    return Finding("Conformers", None, sentence(verdict)) if verdict else None


def ensemble_verdict(data: ReportData) -> str:
    """Why one minimum does not represent the trajectories; empty where it does, or nothing is known."""
    return _said(data.summary.ensemble)


def _said(found: TrustVerdict | ConformerVerdict | None) -> str:
    return "" if found is None else found.verdict


def sentence(words: str) -> str:
    """Words with a capital and a full stop."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


def _intensities(data: ReportData) -> Finding | None:
    bands = [
        (band.intensity_km_per_mol, band.stderr_km_per_mol)
        for band in data.bands
        if band.intensity_km_per_mol > 0 and math.isfinite(band.stderr_km_per_mol)
    ]
    if not bands:
        return None
    strongest = sorted(bands, reverse=True)[:5]
    worst = max(error / intensity for intensity, error in strongest)
    text = f"The strongest bands' intensities are known to {100 * worst:.2g} % or better (one standard error)."
    return Finding("Error bars", worst < INTENSITY_LIMIT, text)


def _own(data: ReportData) -> Finding | None:
    """What the spectrum stage says itself."""
    spectrum = data.summary.spectrum
    return Finding("Spectrum", None, spectrum.verdict) if spectrum is not None and spectrum.verdict else None
