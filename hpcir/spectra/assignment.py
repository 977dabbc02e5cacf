"""Assignment of bands to motions: contributions that sum to the spectrum exactly, and anharmonic mode positions.

The dipole's derivative is written as a sum of parts, mudot = sum_p mudot_p: one for each normal mode, (dmu/dQ_m)
dQ_m/dt turned with the molecule, and a remainder (anharmonic and electric-anharmonic terms, rotation). A part's
contribution to the spectrum is the transform of the even part of <mudot_p(0).mudot(t)>; since that is linear in the
part, contributions add up to the whole, cross terms shared evenly (Mathias, Baer, J. Chem. Theory Comput. 7, 2028,
2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.deck.sections import SpectrumSettings
from hpcir.errors import InputError
from hpcir.spectra.bands import Band, core_of
from hpcir.spectra.controls import Controls
from hpcir.spectra.correlation import autocorrelation, crosscorrelation, differences
from hpcir.spectra.estimators import MIN_TRAJECTORIES, ControlVariates, standard_error
from hpcir.spectra.intensities import correlation_lags, correlation_to_absorption, wavenumber_grid

# Half width (cm-1) about the highest point of a velocity spectrum for its centroid, a mode's position.
HALF_WIDTH = 60.0
# Least fraction of a band that a mode contributes to be named.
MIN_SHARE = 0.2
# Least fraction of a part that is written without a figure (it rounds to 100 %).
FULL_SHARE = 0.995
# Largest distance (cm-1) of a band from a mode's fundamental; beyond it the mode moves at a combination's frequency.
MAX_DISTANCE = 250.0


@dataclass(frozen=True)
class Contributions:
    """Parts of a spectrum: labels (P), contributions (P, F) in km/mol per cm-1 at wavenumbers (F,), averages over
    trajectories with the spectrum's own weights; whole (F,), their sum, is the spectrum of the same trajectories."""

    labels: tuple[str, ...]
    wavenumbers: FloatArray
    contributions: FloatArray
    whole: FloatArray

    @classmethod
    def of(
        cls, labels: Sequence[str], parts: FloatArray, wavenumbers: FloatArray, weights: FloatArray | None = None
    ) -> Contributions:
        """From the spectra of parts (P, R, F) of every trajectory (`part_spectra`) and weights (R, F) of the
        trajectories (`Spectrum.weights`; None: the plain mean)."""
        weights = np.full(parts.shape[1:], 1 / parts.shape[1]) if weights is None else weights
        contributions = np.einsum("prf,rf->pf", parts, weights)
        return cls(tuple(labels), wavenumbers, contributions, contributions.sum(axis=0))

    @property
    def integrals(self) -> FloatArray:
        """(P,) each part's integral in km/mol over the whole range."""
        return np.asarray(np.trapezoid(self.contributions, self.wavenumbers, axis=1))

    def shares(self, lower: float, upper: float) -> FloatArray:
        """(P,) each part's fraction of the integral between two wavenumbers; they sum to 1, and may be negative."""
        inside = (self.wavenumbers >= lower) & (self.wavenumbers <= upper)
        return np.asarray(self.contributions[:, inside].sum(axis=1) / self.whole[inside].sum())


@dataclass(frozen=True)
class ModePositions:
    """Anharmonic wavenumbers of M modes in cm-1.

    harmonic (M,); centroid (M,) of the velocity spectrum about its highest point, with stderr (M,) over trajectories
    (nan for one); peak (M,): the highest point; width (M,): standard deviation about the centroid, in cm-1.
    """

    harmonic: FloatArray
    centroid: FloatArray
    stderr: FloatArray
    peak: FloatArray
    width: FloatArray

    @property
    def shift(self) -> FloatArray:
        """(M,) anharmonic less harmonic wavenumber."""
        return self.centroid - self.harmonic


def part_spectra(
    parts: FloatArray,
    dipoles: FloatArray,
    time_between: float,
    timestep: float | None,
    temperature: float,
    settings: SpectrumSettings,
) -> FloatArray:
    """Spectra (P + 1, R, F) of parts (P, T-1, 3, R) of the dipole differences (`differences`) of dipoles (T, 3, R).

    What the parts leave is the last part; all together they are `trajectory_spectra` of the dipoles, whose other
    arguments are these. For groups of atoms pass the differences of each group's own dipole.
    """
    total = differences(dipoles, time_between)
    if parts.shape[1:] != total.shape:
        raise InputError(
            "parts of the dipole must have the shape (parts, times - 1, 3, trajectories)",
            value=parts.shape,
            hint=f"the dipoles have the shape {dipoles.shape}",
        )
    lags = correlation_lags(len(total), time_between, settings)
    rest = total - parts.sum(axis=0)
    correlations = np.stack([crosscorrelation(part, total, lags) for part in (*parts, rest)], axis=1)
    absorption = correlation_to_absorption(correlations, time_between, timestep, temperature, settings)
    return np.ascontiguousarray(np.moveaxis(absorption, 0, 2))


def half_step(series: FloatArray, time_between: float) -> FloatArray:
    """Time derivatives (T, ...) at full steps as what `differences` would make of their integral, (T-1, ...).

    The mean of neighbours has the response cos(x), x = omega Delta/2, differences of the integral sin(x)/x: each
    frequency is multiplied by tan(x)/x, held at its value at three quarters of the Nyquist frequency above that.
    """
    from scipy.fft import irfft, rfft

    mean = 0.5 * (series[1:] + series[:-1])
    # The even extension has no jump at its ends.
    extended = np.concatenate([mean, mean[::-1]])
    transform = rfft(extended, axis=0)
    x = np.minimum(np.pi * np.arange(len(transform)) / len(extended), 0.75 * np.pi / 2)
    factor = np.ones(len(x))
    factor[1:] = np.tan(x[1:]) / x[1:]
    transform *= factor.reshape((-1,) + (1,) * (series.ndim - 1))
    return np.asarray(irfft(transform, len(extended), axis=0)[: len(mean)])


def mode_parts(
    mode_velocities: FloatArray,
    mode_dipoles: FloatArray,
    rotations: FloatArray,
    time_between: float,
    basins: IntArray | None = None,
) -> FloatArray:
    """Parts (M, T-1, 3, R) of the dipole differences: each mode's own, (dmu/dQ_m) dQ_m/dt in the molecule's
    orientation.

    mode_velocities (T, M, R); mode_dipoles (M, 3), or (K, M, 3) with basins (T, R): the basin that a frame is in;
    rotations (T, 3, 3, R) turn vectors of the trajectory's frame into the basin's. Atomic units.
    """
    speeds = np.asarray(mode_velocities, float)
    if basins is None:
        parts = np.einsum("tbar,mb,tmr->tmar", rotations, mode_dipoles, speeds, optimize=True)
    else:
        # The transpose of a rotation brings the basin's vectors back.
        parts = np.einsum("tbar,trmb->tmar", rotations, mode_dipoles[basins], optimize=True) * speeds[:, :, None]
    return np.ascontiguousarray(np.moveaxis(half_step(parts, time_between), 1, 0))


def mode_spectra(
    mode_velocities: FloatArray,
    time_between: float,
    timestep: float | None,
    temperature: float,
    settings: SpectrumSettings,
) -> FloatArray:
    """Velocity spectra (M, R, F) of M modes from their velocities (T, M, R), in arbitrary units.

    Those of the time series at full steps: no difference is undone, the timestep's error is.
    """
    series = np.asarray(mode_velocities, float)
    settings = settings.model_copy(update={"quantum_correction": "harmonic"})
    lags = correlation_lags(len(series), time_between, settings)
    own = [autocorrelation(series[:, mode : mode + 1], lags) for mode in range(series.shape[1])]
    absorption = correlation_to_absorption(
        np.stack(own, axis=1), time_between, timestep, temperature, settings, differenced=False
    )
    return np.ascontiguousarray(np.moveaxis(absorption, 0, 2))


def mode_positions(
    spectra: FloatArray,
    harmonic: FloatArray,
    settings: SpectrumSettings,
    controls: Controls | None = None,
    core: float = 0.0,
) -> ModePositions:
    """Anharmonic positions of M modes from their velocity spectra (M, R, F), next to harmonic wavenumbers (M,) in cm-1.

    controls of the same R trajectories sharpen the averages as they do the spectrum's. core: of lines broader than
    HALF_WIDTH, whose highest point is chance: the centroid is that of all about the highest point that is above this
    part of it (0: of what is within HALF_WIDTH).
    """
    wavenumbers = wavenumber_grid(settings)
    usable = controls is not None and spectra.shape[1] >= MIN_TRAJECTORIES
    estimator = ControlVariates(controls) if usable and controls is not None else None
    rows = [
        _position(wavenumbers, own.T, float(place), estimator, core)
        for own, place in zip(spectra, np.asarray(harmonic, float), strict=True)
    ]
    centroid, stderr, peak, width = np.array(rows).reshape(-1, 4).T
    return ModePositions(np.asarray(harmonic, float), centroid, stderr, peak, width)


def _position(
    wavenumbers: FloatArray, spectra: FloatArray, harmonic: float, estimator: ControlVariates | None, core: float
) -> tuple[float, float, float, float]:
    """Centroid, its standard error, peak and width of a mode's velocity spectra (F, R)."""
    mean = spectra.mean(axis=1)
    top = int(np.argmax(mean))
    peak = float(wavenumbers[top])
    inside = np.abs(wavenumbers - peak) <= HALF_WIDTH
    if core > 0:
        first, _, last = core_of(wavenumbers, mean, (0, top, len(mean) - 1), (core, 0.0))
        inside |= (np.arange(len(mean)) >= first) & (np.arange(len(mean)) <= last)
    offset = wavenumbers[inside] - peak
    values = spectra[inside].T @ np.array([np.ones(len(offset)), offset]).T
    if estimator is not None:
        columns = values[:, :1], values[:, 1:]
        values = np.concatenate([estimator.choose(c, harmonic).terms(c) for c in columns], axis=1)
    area, moment = values.T
    centroid = float(moment.mean() / area.mean())
    error = float(standard_error(((moment - centroid * area) / area.mean())[:, None])[0])
    square = float((mean[inside] * (offset - centroid) ** 2).sum() / mean[inside].sum())
    return peak + centroid, error, peak, float(np.sqrt(max(square, 0.0)))


def assign(
    bands: Sequence[Band],
    contributions: Contributions,
    names: Sequence[str] | None = None,
    places: FloatArray | None = None,
) -> tuple[Band, ...]:
    """The bands with words: the parts that make at least MIN_SHARE of each, largest first ("C-O stretch 71 %").

    names: one for each part (the labels by default); parts of one name are added up. The last label is that of the
    remainder. places: wavenumbers (cm-1) of the first parts' fundamentals; its part in a band beyond MAX_DISTANCE
    counts with the remainder, and is named behind it ("overtones and combinations of C-O stretch 71 %"). A part that
    makes the whole band, or more since another takes away from it, has no figure.
    """
    words = list(names or contributions.labels)
    words += [contributions.labels[-1]] * (len(contributions.labels) - len(words))
    own = np.full(len(words), np.nan) if places is None else np.pad(
        np.asarray(places, float), (0, len(words) - len(places)), constant_values=np.nan
    )  # fmt: skip
    return tuple(replace(band, assignment=_assignment_of(band, words, own, contributions)) for band in bands)


def _assignment_of(band: Band, words: Sequence[str], places: FloatArray, contributions: Contributions) -> str:
    """The assignment of a band; places (P,): wavenumbers of the parts' fundamentals, nan where there is none."""
    shares = contributions.shares(band.lower_per_cm, band.upper_per_cm)
    far = np.maximum(band.lower_per_cm - places, places - band.upper_per_cm) > MAX_DISTANCE
    near, distant = _sums(words, shares, ~far), _sums(words, shares, far)
    rest = contributions.labels[-1]
    if distant:
        total = near.pop(rest, 0.0) + sum(distant.values())
        behind = [word for word, share in _ordered(distant) if share >= MIN_SHARE]
        near[f"{rest} of {' and '.join(behind)}" if behind else rest] = total
    ordered = _ordered(near)
    chosen = [item for item in ordered if item[1] >= MIN_SHARE] or ordered[:1]
    return ", ".join(word if share >= FULL_SHARE else f"{word} {100 * share:.0f} %" for word, share in chosen)


def _sums(words: Sequence[str], shares: FloatArray, chosen: BoolArray) -> dict[str, float]:
    """The shares of the chosen parts, those of one name added up."""
    sums: dict[str, float] = {}
    for word, share in zip(np.array(words, object)[chosen], shares[chosen], strict=True):
        sums[word] = sums.get(word, 0.0) + float(share)
    return sums


def _ordered(sums: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(sums.items(), key=lambda item: -item[1])
