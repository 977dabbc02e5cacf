"""Verdicts on a spectrum: one sentence for each criterion, with its figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpcir.report.data import ReportData
from hpcir.study.results.records import ConformerVerdict, TrustVerdict

# Limits beyond which a figure needs attention: force error of the potential, error of the harmonic wavenumbers,
# standard error of the strongest bands' intensities, trajectories left out.
FORCE_LIMIT_KCAL_PER_MOL_ANGSTROM = 1.0
HARMONIC_LIMIT_PER_CM = 10.0
INTENSITY_LIMIT = 0.1
LEFT_OUT_LIMIT = 0.02
# Imaginary wavenumbers below this are noise of the differences.
IMAGINARY_PER_CM = 10.0


@dataclass(frozen=True)
class Finding:
    """A verdict; good: True, False (needs attention), or None (not known)."""

    what: str
    good: bool | None
    text: str


def findings(data: ReportData) -> list[Finding]:
    """Every verdict that the data allow, in the order of the stages: sampling, potential, trajectories, spectrum."""
    made = [_sampling(data), _forces(data), _harmonic(data), _trajectories(data), _surroundings(data)]
    made += [_conformers(data), _intensities(data), _spectrum(data)]
    return [finding for finding in made if finding is not None]


def known(value: float | None) -> float | None:
    """A number that is known: neither None nor NaN."""
    return value if value is not None and math.isfinite(value) else None


def _sampling(data: ReportData) -> Finding | None:
    reason, stopped = data.learning.reason, data.learning.stopped
    if not reason:
        return None
    if stopped is None:  # a run of a version without this key
        return Finding("Sampling", None, f"It stopped: {reason}.")
    ended = "It stopped at a limit before it reached its goal" if stopped.is_limit else "It stopped"
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
    said = [*(md.bond_events or ()), *([md.restraint] if md.restraint else [])]
    text = " ".join([f"{md.left_out} of {md.trajectories} trajectories were left out.", *said])
    return Finding("Trajectories", md.left_out / md.trajectories <= LEFT_OUT_LIMIT, text)


def _surroundings(data: ReportData) -> Finding | None:
    """The distance of the trajectories from the training data, in the words of the summary."""
    verdict = _verdict_of(data.summary.trust)
    return Finding("Surroundings", None, sentence(verdict)) if verdict else None


def _conformers(data: ReportData) -> Finding | None:
    verdict = ensemble_verdict(data)
    return Finding("Conformers", None, sentence(verdict)) if verdict else None


def ensemble_verdict(data: ReportData) -> str:
    """The reason why one minimum does not represent the trajectories; empty where it does, or nothing is known."""
    return _verdict_of(data.summary.ensemble)


def _verdict_of(found: TrustVerdict | ConformerVerdict | None) -> str:
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


def _spectrum(data: ReportData) -> Finding | None:
    """The verdict of the spectrum stage."""
    spectrum = data.summary.spectrum
    return Finding("Spectrum", None, spectrum.verdict) if spectrum is not None and spectrum.verdict else None
