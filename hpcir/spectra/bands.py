"""Bands of an averaged spectrum: positions and intensities with their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.spectra.band_limits import band_limits, leaked_part
from hpcir.spectra.estimators import (
    ControlVariates,
    shift_factor,
    skewness_factor,
    small_sample_factor,
    stated_error,
)
from hpcir.units import PER_CM, KmPerMol, PerCm

# The same for measured curves, whose baseline is not zero.
MEASURED_CUTOFF = 0.05
# Systematic errors that are always counted: of a centroid, in resolutions (the response's slope across a line), and
# of an intensity, relative (what limits and window leave out).
SYSTEMATIC_POSITION = 0.005
SYSTEMATIC_INTENSITY = 1e-3
# Height of the curve at a common limit, over a band's peak, from which on the band has lines there, and does so fully.
EDGES = 0.02, 0.1
# The core of a band that is all of it.
WHOLE = 0.0, 0.0


@dataclass(frozen=True)
class Band:
    """One band. Positions in cm-1, intensity in km/mol; `stderr` are total standard errors.

    position: the centroid between the limits; peak: the highest point; sampling_stderr: the part of the error that
    comes from the number of trajectories; committee_stderr: the part from the model, the calibrated spread of the
    committee; population_stderr: the part from the populations of conformers that the trajectories start with. A part
    that is not known is nan, and not in the total. plain_stderr: what the plain mean over the same trajectories would
    have.
    """

    position_per_cm: PerCm
    stderr_per_cm: PerCm
    intensity_km_per_mol: KmPerMol
    stderr_km_per_mol: KmPerMol
    peak_per_cm: PerCm
    peak_stderr_per_cm: PerCm
    lower_per_cm: PerCm
    upper_per_cm: PerCm
    sampling_stderr_km_per_mol: KmPerMol
    committee_stderr_km_per_mol: KmPerMol = np.nan
    plain_stderr_km_per_mol: KmPerMol = 0.0
    assignment: str = ""
    population_stderr_km_per_mol: KmPerMol = np.nan
    sampling_stderr_per_cm: PerCm = np.nan
    committee_stderr_per_cm: PerCm = np.nan
    population_stderr_per_cm: PerCm = np.nan

    def describe(self) -> str:
        """One line for a table or a log."""
        return (
            f"{self.position_per_cm:8.1f} +- {self.stderr_per_cm:4.1f} cm-1  "
            f"{self.intensity_km_per_mol:8.2f} +- {self.stderr_km_per_mol:5.2f} km/mol  {self.assignment}".rstrip()
        )


@dataclass(frozen=True)
class Committee:
    """The spectra of single members of a committee, for the model's part of the errors.

    terms (M, R, F): the contributions of trajectories that all members have in common, member by member; calibration:
    the measured ratio of true errors to the committee's spread, of intensities and of positions.
    """

    terms: FloatArray
    calibration: tuple[float, float] = (1.0, 1.0)

    @property
    def spectra(self) -> FloatArray:
        """(M, F) the members' spectra."""
        return np.asarray(self.terms.mean(axis=1))

    def spread(self, terms: FloatArray) -> FloatArray:
        """(K,) standard deviations over the members of the means of terms (M, R, K), less what trajectories that
        differ by chance make of it: the scatter of each member's difference from the mean of all, pair by pair."""
        members, count = terms.shape[:2]
        apart = terms - terms.mean(axis=0)
        variance = (apart.mean(axis=1) ** 2).sum(axis=0) / (members - 1)
        if count > 1:
            variance = variance - (apart.var(axis=1, ddof=1) / count).sum(axis=0) / (members - 1)
        return np.sqrt(np.maximum(variance, 0.0))

    def curve_error(self) -> FloatArray:
        """(F,) the model's part of the curve's error."""
        return self.calibration[0] * self.spread(self.terms)

    def band_errors(self, functionals: FloatArray) -> tuple[float, float]:
        """The model's part of the errors of a band's intensity and centroid; functionals (2, F) of the band."""
        area, moment = np.moveaxis(self.terms @ functionals.T, -1, 0)
        whole = area.mean()
        shifts = (moment - (moment.mean() / whole) * area) / whole if whole > 0 else np.zeros_like(moment)
        intensity, position = self.spread(np.stack([area, shifts], axis=-1))
        return self.calibration[0] * float(intensity), self.calibration[1] * float(position)


@dataclass(frozen=True)
class Populations:
    """The conformers that trajectories start in: kind (R,) of each, and the covariance (B, B) of their populations
    (zeros where there is one conformer alone)."""

    kind: IntArray
    covariance: FloatArray

    def error(self, terms: FloatArray) -> FloatArray:
        """(K,) the error that the populations' covariance gives the mean of terms (R, K): as each conformer's own mean
        differs from that of all."""
        apart = np.zeros((len(self.covariance), terms.shape[1]))
        for number in range(len(apart)):
            own = terms[self.kind == number]
            if len(own):
                apart[number] = own.mean(axis=0) - terms.mean(axis=0)
        return np.sqrt(np.maximum(np.einsum("bk,bc,ck->k", apart, self.covariance, apart), 0.0))


@dataclass(frozen=True)
class OtherErrors:
    """Parts of the errors besides the sampling's: the committee and the populations, where they are known."""

    committee: Committee | None = None
    populations: Populations | None = None

    def of_curve(self, terms: FloatArray) -> FloatArray:
        """(F,) both parts of the error of the curve that is the mean of terms (R, F), as far as they are known."""
        parts = [np.zeros(terms.shape[1])]
        if self.committee is not None:
            parts.append(self.committee.curve_error())
        if self.populations is not None:
            parts.append(self.populations.error(terms))
        return np.asarray(np.linalg.norm(parts, axis=0))


NO_OTHERS = OtherErrors()


def systematic_errors(
    wavenumbers: FloatArray, limit: tuple[int, int, int], window_name: str, depth: float
) -> tuple[float, float]:
    """Errors of a band that more trajectories do not cure: of its intensity (relative) and position (cm-1)."""
    leak = leaked_part(wavenumbers, limit, window_name, depth)
    return float(np.hypot(leak, SYSTEMATIC_INTENSITY)), float(SYSTEMATIC_POSITION * 2 * np.pi / (PER_CM * depth))


def integration_weights(wavenumbers: FloatArray, first: int, last: int) -> FloatArray:
    """Weights (F,) of the trapezoidal rule from index `first` to `last`, in cm-1."""
    spacing = float(wavenumbers[1] - wavenumbers[0])
    weights = np.zeros(len(wavenumbers))
    weights[first : last + 1] = spacing
    weights[first] /= 2
    weights[last] /= 2
    return weights


def band_functionals(wavenumbers: FloatArray, limit: tuple[int, int, int]) -> FloatArray:
    """Linear functionals (2, F) of a band (first, peak, last): its integral, and its first moment about the peak."""
    first, peak, last = limit
    weights = integration_weights(wavenumbers, first, last)
    return np.array([weights, weights * (wavenumbers - wavenumbers[peak])])


def peak_position(wavenumbers: FloatArray, absorption: FloatArray, first: int, last: int) -> FloatArray:
    """Highest point (B,) in cm-1 of curves (B, F) between two indices, refined by the parabola through three
    points."""
    top = first + np.argmax(absorption[:, first : last + 1], axis=1)
    inner = np.clip(top, 1, len(wavenumbers) - 2)
    rows = np.arange(len(absorption))
    left, middle, right = (absorption[rows, inner + step] for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = np.where(curvature < 0, 0.5 * (left - right) / np.where(curvature < 0, curvature, 1.0), 0.0)
    return np.asarray(wavenumbers[inner] + np.clip(shift, -1, 1) * (wavenumbers[1] - wavenumbers[0]))


def bootstrap_means(terms: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Means (B, F) of terms (R, F) over B bootstrap samples of the trajectories, keyed by the seed alone."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0x626F6F74]))
    counts = generator.multinomial(len(terms), np.full(len(terms), 1 / len(terms)), size=resamples)
    return np.asarray(counts @ terms / len(terms))


def find_bands(
    wavenumbers: FloatArray,
    curve: tuple[FloatArray, FloatArray],
    spectra: FloatArray,
    limits: list[tuple[int, int, int]],
    systematic: Sequence[tuple[float, float]],
    estimator: ControlVariates | None = None,
    others: OtherErrors = NO_OTHERS,
    seed: int = 1,
    core: tuple[float, float] = WHOLE,
) -> tuple[tuple[Band, ...], FloatArray, FloatArray]:
    """The bands between limits (`band_limits`) with their errors, and the curve's terms and weights (R, F) that agree
    with them.

    spectra (R, F): the trajectories' own; curve: terms and weights (R, F) of `ControlVariates.curve`. Each band's
    integral is regressed on the controls by itself, more sharply than a point of the curve can be, and the curve is
    made to integrate to it (`fit_to_band`). The centroid's error is that of a ratio (delta method), the highest
    point's is bootstrapped over trajectories. The other parts are added in quadrature. core: of a centroid, see
    `core_of`.
    """
    terms, weights = (part.copy() for part in curve)
    results = []
    unseen = unseen_crossings(wavenumbers, curve[0], limits)
    for limit, error, crossing in zip(limits, systematic, unseen, strict=True):
        functionals = band_functionals(wavenumbers, limit)
        own = BandTerms.of(spectra, functionals, estimator, float(wavenumbers[limit[1]]), crossing)
        other = _other_errors(functionals, own, others)
        place, inner = own, core_of(wavenumbers, curve[0].mean(axis=0), limit, core)
        if inner != limit:
            inside = band_functionals(wavenumbers, inner)
            place = BandTerms.of(spectra, inside, estimator, float(wavenumbers[limit[1]]), crossing)
            of_core = _other_errors(inside, place, others)
            other = tuple((whole[0], part[1]) for whole, part in zip(other, of_core, strict=True))
        if estimator is not None:
            fit_to_band(terms, weights, functionals[0], own.area)
        plain = float(stated_error((spectra @ functionals.T)[:, :1], positive=True)[0])
        results.append((limit, own, place, plain, other, error))
    means = bootstrap_means(terms, 200, seed) if len(terms) > 1 and limits else None
    return tuple(_band(wavenumbers, terms, means, *result) for result in results), terms, weights


def core_of(
    wavenumbers: FloatArray, curve: FloatArray, limit: tuple[int, int, int], core: tuple[float, float]
) -> tuple[int, int, int]:
    """The limits about a band's peak within which a curve (F,) is above a part of its height, but for gaps up to a
    width in cm-1; the band's own for the part 0. For bands with tails so far out that the centroid of all of them says
    little."""
    (first, peak, last), (part, gap) = limit, core
    high = np.flatnonzero(curve[first : last + 1] > part * curve[peak]) + first
    if part <= 0 or peak not in high:
        return limit
    widest = gap + 1.5 * (wavenumbers[1] - wavenumbers[0])
    runs = np.split(high, np.flatnonzero(np.diff(wavenumbers[high]) > widest) + 1)
    own = next(run for run in runs if run[0] <= peak <= run[-1])
    return int(own[0]), peak, int(own[-1])


def unseen_crossings(wavenumbers: FloatArray, terms: FloatArray, limits: Sequence[tuple[int, int, int]]) -> list[float]:
    """The error (km/mol) of each band's intensity by trajectories that none of terms (R, F) stands for.

    Where bands overlap, a trajectory whose line lies beyond the common limit has its intensity in the other band. Of R
    trajectories none may do so where one in R / 3 does (the rule of three, 95 %), so that two errors are three R-ths of
    the intensity of the line's own band. A band whose flank is low at the limit has no lines there: nothing where the
    curve at the limit is under EDGES[0] of the band's peak, all of it from EDGES[1] on.
    """
    curve, count = terms.mean(axis=0), len(terms)
    areas = [max(0.0, float(band_functionals(wavenumbers, limit)[0] @ curve)) for limit in limits]
    squares = [0.0] * len(limits)
    for left in range(len(limits) - 1):
        one, two = limits[left], limits[left + 1]
        if one[2] != two[0]:
            continue
        moved = max(
            area * float(np.clip((curve[one[2]] / max(curve[peak], 1e-300) - EDGES[0]) / (EDGES[1] - EDGES[0]), 0, 1))
            for area, peak in ((areas[left], one[1]), (areas[left + 1], two[1]))
        )
        for own in (left, left + 1):
            squares[own] += (1.5 * moved / count) ** 2
    return [float(np.sqrt(square)) for square in squares]


@dataclass(frozen=True)
class BandTerms:
    """The trajectories' contributions (R,) to a band's integral and to its first moment about the peak; the error that
    they do not show (`unseen_crossings`); and the effective coefficients that were fitted to make each."""

    area: FloatArray
    moment: FloatArray
    crossing: float = 0.0
    area_freedom: float = 0.0
    moment_freedom: float = 0.0

    @classmethod
    def of(
        cls,
        spectra: FloatArray,
        functionals: FloatArray,
        estimator: ControlVariates | None,
        place: float,
        crossing: float,
    ) -> BandTerms:
        """Those of spectra (R, F) by a band's functionals (2, F)."""
        values = spectra @ functionals.T
        if estimator is None:
            return cls(values[:, 0], values[:, 1], crossing)
        return cls.regressed(estimator, values, place, crossing)

    @classmethod
    def regressed(cls, estimator: ControlVariates, values: FloatArray, place: float, crossing: float) -> BandTerms:
        """Those of values (R, 2) with what the controls explain taken away."""
        area, moment = (estimator.choose(values[:, [column]], place) for column in (0, 1))
        terms = area.terms(values[:, :1])[:, 0], moment.terms(values[:, 1:])[:, 0]
        return cls(*terms, crossing, area.freedom, moment.freedom)

    @property
    def intensity(self) -> float:
        """The integral."""
        return float(self.area.mean())

    @property
    def offset(self) -> float:
        """The centroid's distance from the peak."""
        return float(self.moment.mean()) / self.intensity

    @property
    def shifts(self) -> FloatArray:
        """(R,) contributions to the centroid's error: those of a ratio (delta method)."""
        return (self.moment - self.offset * self.area) / self.intensity

    def sampling_errors(self) -> tuple[float, float]:
        """The stated errors of integral and centroid, as far as they are the trajectories'."""
        area = stated_error(self.area[:, None], self.area_freedom, positive=True)
        shift = stated_error(self.shifts[:, None], max(self.area_freedom, self.moment_freedom))
        # Where an integral is uncertain, a ratio to it is more so than its linear expansion says.
        place = float(shift[0] * skewness_factor(area, np.array([self.intensity]))[0]) * shift_factor(len(self.area))
        return float(np.hypot(area[0], self.crossing)), place


def _other_errors(functionals: FloatArray, own: BandTerms, others: OtherErrors) -> tuple[tuple[float, float], ...]:
    """The committee's and the populations' part of the errors of integral and centroid, nan where not known."""
    committee = population = (float("nan"), float("nan"))
    if others.committee is not None:
        committee = others.committee.band_errors(functionals)
    if others.populations is not None:
        area, shift = others.populations.error(np.c_[own.area, own.shifts])
        population = float(area), float(shift)
    return committee, population


def fit_to_band(terms: FloatArray, weights: FloatArray, integration: FloatArray, area: FloatArray) -> None:
    """Make a curve's terms and weights (R, F) integrate to a band's intensity, in place.

    area (R,): the terms of the band's own regression; integration (F,): its `integration_weights`. Between the limits
    the curve is scaled by one factor, and what is left of each trajectory's difference is spread like the curve's
    height. The points at the limits, which may be a neighbour's too, stay.
    """
    inside = np.flatnonzero(integration)[1:-1]
    ends = terms @ integration - terms[:, inside] @ integration[inside]
    curve = terms[:, inside].mean(axis=0)
    own, wanted = float(curve @ integration[inside]), float((area - ends).mean())
    if own <= 0 or wanted <= 0:
        return
    terms[:, inside] *= wanted / own
    weights[:, inside] *= wanted / own
    shape = np.maximum(curve, 0.0)
    shape /= shape @ integration[inside]
    terms[:, inside] += (area - terms @ integration)[:, None] * shape


def _band(
    wavenumbers: FloatArray,
    terms: FloatArray,
    resampled: FloatArray | None,
    limit: tuple[int, int, int],
    own: BandTerms,
    place: BandTerms,
    plain_error: float,
    others: tuple[tuple[float, float], ...],
    systematic: tuple[float, float],
) -> Band:
    first, peak, last = limit
    intensity = own.intensity
    sampling, sampling_position = own.sampling_errors()[0], place.sampling_errors()[1]
    committee, population = others
    peak_error = np.nan if resampled is None else peak_position(wavenumbers, resampled, first, last).std()
    peak_error *= float(small_sample_factor(len(terms)))
    return Band(
        position_per_cm=float(wavenumbers[peak] + place.offset),
        stderr_per_cm=_total(sampling_position, committee[1], population[1], systematic[1]),
        intensity_km_per_mol=intensity,
        stderr_km_per_mol=_total(sampling, committee[0], population[0], systematic[0] * intensity),
        peak_per_cm=float(peak_position(wavenumbers, terms.mean(axis=0)[None], first, last)[0]),
        peak_stderr_per_cm=float(peak_error),
        lower_per_cm=float(wavenumbers[first]),
        upper_per_cm=float(wavenumbers[last]),
        sampling_stderr_km_per_mol=sampling,
        committee_stderr_km_per_mol=committee[0],
        plain_stderr_km_per_mol=plain_error,
        population_stderr_km_per_mol=population[0],
        sampling_stderr_per_cm=sampling_position,
        committee_stderr_per_cm=committee[1],
        population_stderr_per_cm=population[1],
    )


def _total(sampling: float, *others: float) -> float:
    """The parts in quadrature; others that are not known do not count."""
    return float(np.linalg.norm([sampling, *(part for part in others if not np.isnan(part))]))


def curve_bands(wavenumbers: FloatArray, absorption: FloatArray, resolution: float) -> tuple[Band, ...]:
    """Bands of a bare curve (F,), such as a measured one: errors unknown (nan), masked (nan) points count as zero.

    Maxima are sought after smoothing by a Gaussian of full width `resolution` in cm-1; integrals are of the curve
    itself, so a band with masked points is too small.
    """
    from scipy.ndimage import gaussian_filter1d

    spacing = float(wavenumbers[1] - wavenumbers[0])
    curve = np.nan_to_num(absorption)
    smooth = gaussian_filter1d(curve, resolution / 2.355 / spacing, mode="constant")
    # A correlation depth of this resolution; a Gaussian has no side lobes to mistake for bands.
    depth = 2 * np.pi / (PER_CM * resolution)
    limits = band_limits(wavenumbers, smooth, "gaussian", depth, foot=MEASURED_CUTOFF)
    bands = []
    for limit in limits:
        first, peak, last = limit
        area, moment = band_functionals(wavenumbers, limit) @ curve
        if area <= 0:
            continue
        bands.append(
            Band(
                position_per_cm=float(wavenumbers[peak] + moment / area),
                stderr_per_cm=np.nan,
                intensity_km_per_mol=float(area),
                stderr_km_per_mol=np.nan,
                peak_per_cm=float(peak_position(wavenumbers, curve[None], first, last)[0]),
                peak_stderr_per_cm=np.nan,
                lower_per_cm=float(wavenumbers[first]),
                upper_per_cm=float(wavenumbers[last]),
                sampling_stderr_km_per_mol=np.nan,
            )
        )
    return tuple(bands)
