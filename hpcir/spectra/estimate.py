"""From dipole series, or from the trajectories' spectra, to the spectrum with bands, error bars and a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import SpectrumSettings
from hpcir.errors import InputError
from hpcir.spectra.band_limits import band_limits, joined_branches
from hpcir.spectra.bands import NO_OTHERS, Band, OtherErrors, find_bands, systematic_errors
from hpcir.spectra.controls import Controls
from hpcir.spectra.estimators import MIN_TRAJECTORIES, ControlVariates, small_sample_factor, stated_error
from hpcir.spectra.intensities import trajectory_spectra, wavenumber_grid
from hpcir.spectra.spectrum import Spectrum


def combine(
    spectra: FloatArray,
    settings: SpectrumSettings,
    temperature: float,
    controls: Controls | None = None,
    others: OtherErrors = NO_OTHERS,
    metadata: dict[str, Any] | None = None,
    seed: int = 1,
    branches: float | None = None,
    core: float = 0.0,
) -> Spectrum:
    """The spectrum of R trajectories from their own spectra (R, F) on `wavenumber_grid(settings)`.

    temperature kT in hartree; controls: what the estimator 'control_variates' of the settings uses (without them the
    plain mean is taken, and the metadata say so); others: what errors have besides the sampling's part; seed of the
    bootstrap; branches: how far apart P and R maxima of a linear molecule that turns are (cm-1), to be taken for one
    band (metadata `branches` has their numbers); core: centroids are
    those of where the curve is above this part of a band's peak (0: of all of it). Raises InputError for no
    trajectory, for a spectrum that is not finite (leave that trajectory out) and for controls of other trajectories.
    """
    spectra = np.asarray(spectra, float)
    wavenumbers = wavenumber_grid(settings)
    _check(spectra, wavenumbers, controls)
    estimator, name = _estimator(settings, controls, len(spectra))
    uniform = np.full_like(spectra, 1 / len(spectra))
    freedom: FloatArray = np.zeros(len(wavenumbers))
    terms, weights = spectra, uniform
    if estimator is not None:
        terms, weights, freedom = estimator.curve(spectra, wavenumbers)
    limits = band_limits(wavenumbers, terms.mean(axis=0), settings.window, settings.depth, terms)
    double: list[int] = []
    if branches is not None:
        limits, double = joined_branches(wavenumbers, terms.mean(axis=0), limits, branches)
    systematic = [systematic_errors(wavenumbers, limit, settings.window, settings.depth) for limit in limits]
    bands, terms, weights = find_bands(
        wavenumbers, (terms, weights), spectra, limits, systematic, estimator, others, seed, (core, branches or 0.0)
    )
    sampling = stated_error(terms, freedom, positive=True)
    facts: dict[str, Any] = {
        "trajectories": len(spectra),
        "estimator": name,
        "verdict": trajectories_needed(bands, len(spectra)).text,
        "settings": settings.model_dump(),
        "variance_gain": variance_gain(bands),
        **({"branches": double} if double else {}),
        **(metadata or {}),
    }
    return Spectrum(
        wavenumbers=wavenumbers,
        absorption=terms.mean(axis=0),
        stderr=np.linalg.norm(
            [sampling, moved_lines(wavenumbers, terms.mean(axis=0), bands), others.of_curve(terms)], axis=0
        ),
        bands=bands,
        temperature=temperature,
        terms=terms,
        weights=weights,
        plain=spectra.mean(axis=0),
        metadata=facts,
    )


def moved_lines(wavenumbers: FloatArray, absorption: FloatArray, bands: tuple[Band, ...]) -> FloatArray:
    """(F,) the error of a curve (F,) that the sampling error of the bands' positions makes: on a flank few trajectories
    have their lines, and the others do not show it."""
    errors = np.zeros(len(wavenumbers))
    for band in bands:
        inside = (wavenumbers >= band.lower_per_cm) & (wavenumbers <= band.upper_per_cm)
        errors[inside] = np.nan_to_num(band.sampling_stderr_per_cm)
    return np.asarray(np.abs(np.gradient(absorption, wavenumbers)) * errors)


def estimate_spectrum(
    dipoles: FloatArray | Iterable[FloatArray],
    time_between: float,
    timestep: float | None,
    temperature: float,
    settings: SpectrumSettings,
    controls: Controls | None = None,
    others: OtherErrors = NO_OTHERS,
    metadata: dict[str, Any] | None = None,
) -> Spectrum:
    """The spectrum with bands and errors from dipole series: one array (T, 3, R) in e bohr or an iterable of such
    blocks.

    time_between the dipoles and the timestep of velocity Verlet (None: exact dynamics) in atomic time, temperature
    kT in hartree. Controls hold the trajectories in the order of the blocks. See `trajectory_spectra` and `combine`.
    """
    blocks = [dipoles] if isinstance(dipoles, np.ndarray) else dipoles
    spectra = [trajectory_spectra(block, time_between, timestep, temperature, settings) for block in blocks]
    if not spectra:
        raise InputError("no dipole series to make a spectrum of")
    return combine(np.concatenate(spectra), settings, temperature, controls, others, metadata)


def _check(spectra: FloatArray, wavenumbers: FloatArray, controls: Controls | None) -> None:
    if spectra.ndim != 2 or len(spectra) == 0 or spectra.shape[1] != len(wavenumbers):
        raise InputError(
            "spectra of trajectories must have the shape (trajectories, wavenumbers)",
            value=spectra.shape,
            hint=f"the settings give {len(wavenumbers)} wavenumbers, and at least one trajectory is needed",
        )
    bad = np.flatnonzero(~np.isfinite(spectra).all(axis=1))
    if controls is not None:
        if len(controls.deviations) != len(spectra):
            raise InputError(
                "the controls are of another number of trajectories than the spectra",
                value=len(controls.deviations),
                hint=f"there are {len(spectra)} spectra",
            )
        bad = np.union1d(bad, np.flatnonzero(~np.isfinite(controls.deviations).all(axis=1)))
    if len(bad):
        raise InputError(
            "a trajectory's spectrum or mode energies are not finite",
            value=f"trajectories {', '.join(str(i + 1) for i in bad[:10])}",
            hint="leave out trajectories that became unphysical",
        )


def _estimator(settings: SpectrumSettings, controls: Controls | None, count: int) -> tuple[ControlVariates | None, str]:
    """The estimator that the settings ask for (None: the plain mean), and its name with the reason."""
    if settings.estimator == "plain":
        return None, "plain"
    if controls is None:
        return None, "plain (no mode energies given)"
    if count < MIN_TRAJECTORIES:
        return None, f"plain (fewer than {MIN_TRAJECTORIES} trajectories)"
    return ControlVariates(controls), "control_variates"


def variance_gain(bands: tuple[Band, ...]) -> dict[str, float]:
    """Factors by which the control variates reduce the variance of band integrals: smallest, median, largest over
    bands."""
    gains = [
        (band.plain_stderr_km_per_mol / band.sampling_stderr_km_per_mol) ** 2
        for band in bands
        if band.sampling_stderr_km_per_mol > 0
    ]
    if not gains:
        return {}
    return {"smallest": float(min(gains)), "median": float(np.median(gains)), "largest": float(max(gains))}


@dataclass(frozen=True)
class Verdict:
    """Convergence of a spectrum: further trajectories needed (0: none; None: unknown), and the sentence for
    it."""

    more: int | None
    text: str


def trajectories_needed(bands: tuple[Band, ...], count: int, goal: float = 0.02, smallest: float = 5.0) -> Verdict:
    """The number of further trajectories, beyond `count`, for a relative error of `goal` of every band over `smallest`
    km/mol.

    The sampling error falls as one over the square root of the number of trajectories; the spread of the committee
    does not, and is named where it stands in the way.
    """
    strong = [band for band in bands if band.intensity_km_per_mol > smallest]
    aim = f"{100 * goal:g} % on every band over {smallest:g} km/mol"
    if not strong:
        return Verdict(None, f"There is no band over {smallest:g} km/mol to judge convergence by.")
    errors = np.array([band.sampling_stderr_km_per_mol / band.intensity_km_per_mol for band in strong])
    if not np.all(np.isfinite(errors)):
        return Verdict(None, "One trajectory alone shows no error bar: run at least two, better 16.")
    worst = int(np.argmax(errors))
    # More trajectories need no factor for few of them.
    needed = (
        int(np.ceil(count * (errors[worst] / small_sample_factor(count) / goal) ** 2)) if errors[worst] > goal else 0
    )
    more = max(0, needed - count)
    state = f"the largest sampling error is {100 * errors[worst]:.2g} %, at {strong[worst].position_per_cm:.0f} cm-1"
    if more:
        # Two digits: the error of a standard error from tens of trajectories allows no more.
        digits = max(0, len(str(more)) - 2)
        rounded = int(np.ceil(more / 10**digits) * 10**digits)
        text = f"This spectrum needs about {rounded} more trajectories for {aim} ({state})."
        more = rounded
    else:
        text = f"Converged: {aim} is reached with {count} trajectories ({state})."
    limited = [band for band in strong if band.committee_stderr_km_per_mol > goal * band.intensity_km_per_mol]
    if limited:
        places = ", ".join(f"{band.position_per_cm:.0f}" for band in limited[:5])
        text += f" The committee's members differ by more than that at {places} cm-1: more labels are needed."
    return Verdict(more, text)
