"""Bands of an averaged spectrum: positions and intensities with their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hpcir.spectra.correlation import cosine_transform, window
from hpcir.spectra.estimators import (
    ControlVariates,
    shift_factor,
    skewness_factor,
    small_sample_factor,
    standard_error,
    stated_error,
)
from hpcir.units import PER_CM, KmPerMol, PerCm

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

# Two maxima are two bands when the lower one is above the valley by this many standard errors of that difference. Where
# the valley is under ISOLATED of it, fewer suffice: the intensity scatters then, and only a line that one or two
# trajectories show (1 to 1.4 standard errors) is to be kept out.
SIGNIFICANCE = 3.0
ISOLATED_SIGNIFICANCE = 2.0
ISOLATED = 0.1
# Least height of a band above its valleys as a fraction of the spectrum's highest point.
MIN_HEIGHT = 2e-3
# Two maxima whose valley is less than this part of the lower one's height below it are one band with structure.
MIN_VALLEY_DEPTH = 0.25
# A maximum of less than this part of a higher one nearby is a satellite of its band (hot bands), integrated with it.
MAX_SATELLITE = 0.05
# Fraction of its height below which a band ends, if not at the valley to the next one.
HEIGHT_CUTOFF = 0.01
# The same for measured curves, whose baseline is not zero.
MEASURED_CUTOFF = 0.05
# Systematic errors that are always counted: of a centroid, in resolutions (the response's slope across a line), and
# of an intensity, relative (what limits and window leave out).
SYSTEMATIC_POSITION = 0.005
SYSTEMATIC_INTENSITY = 1e-3
# Height of the curve at a common limit, over that of the lower peak, from which on bands overlap, and do so fully.
EDGES = 0.02, 0.1
# P and R branches of a linear molecule are this far apart, in the distance that classical rotation has them at, and the
# lower one is no lower than this part of the other.
BRANCHES_APART, LOWER_BRANCH = (0.5, 1.6), 0.4
# Limits are this many resolutions beyond the foot: a Hann window's side lobes take 1 % back from the main one there.
MARGIN = 3.0


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

    kind: NDArray[np.int64]
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
    """What errors have besides the sampling's part: the committee and the populations, where they are known."""

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


def leakage(window_name: str, depth: float, distances: FloatArray) -> FloatArray:
    """Envelope (F,) of what a window leaks `distances` (cm-1, increasing) away from a sharp line, relative to its
    height.

    From the window's own transform: beyond the main lobe, the largest side lobe at this distance or farther; inside,
    1.
    """
    count = 400
    time_between = depth / count
    shape = cosine_transform(np.ones(count), window(window_name, count), distances * PER_CM, time_between)
    shape = np.abs(shape / cosine_transform(np.ones(count), window(window_name, count), np.zeros(1), time_between))
    inside = distances < 2 * np.pi / (PER_CM * depth)
    return np.where(inside, 1.0, np.maximum.accumulate(shape[::-1])[::-1])


def is_band(wavenumbers: FloatArray, heights: FloatArray, envelope: FloatArray, resolution: float) -> BoolArray:
    """Mask (P,) of the maxima at wavenumbers (P,) with heights (P,) that are bands of their own.

    One that could be the window's side lobe of a higher one (envelope (F,) on the grid distances that begin at 0,
    spaced `resolution` / 10), or is less than MAX_SATELLITE of one within three resolutions, is none.
    """
    distance = np.abs(wavenumbers[:, None] - wavenumbers)
    leaked = 2 * heights * envelope[np.minimum((distance / (resolution / 10)).astype(int), len(envelope) - 1)]
    small = np.where(distance < 3 * resolution, MAX_SATELLITE * heights, 0.0)
    higher = heights[None, :] > heights[:, None]
    return np.asarray(
        ~np.any(higher & (np.maximum(np.where(leaked < heights, leaked, 0.0), small) > heights[:, None]), 1)
    )


def maxima_apart(values: FloatArray, distance: int) -> IntArray:
    """Indices of the maxima of a curve (F,) in ascending order, of flat ones the middle; the ends are none.

    Of maxima less than `distance` points apart the highest stay, as in scipy.signal.find_peaks: importing that package
    takes longer than a spectrum.
    """
    steps = np.diff(values)
    changes = np.flatnonzero(steps)
    top = np.flatnonzero((steps[changes[:-1]] > 0) & (steps[changes[1:]] < 0))
    peaks = (changes[top] + 1 + changes[top + 1]) // 2
    keep = np.ones(len(peaks), bool)
    for index in np.argsort(values[peaks])[::-1]:
        if keep[index]:
            keep[np.abs(peaks - peaks[index]) < distance] = False
            keep[index] = True
    return np.asarray(peaks[keep])


def prominences(values: FloatArray, peaks: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Heights of maxima (P,) of a curve above the higher one of the lowest points that part them from a higher maximum
    or an end on their left and right; indices of these lowest points (as scipy.signal.peak_prominences)."""
    left, right = np.empty_like(peaks), np.empty_like(peaks)
    for number, peak in enumerate(peaks):
        higher = np.flatnonzero(values > values[peak])
        before, after = higher[higher < peak], higher[higher > peak]
        start, end = before[-1] + 1 if len(before) else 0, after[0] if len(after) else len(values)
        left[number] = peak - np.argmin(values[start : peak + 1][::-1])
        right[number] = peak + np.argmin(values[peak:end])
    return values[peaks] - np.maximum(values[left], values[right]), left, right


def band_limits(
    wavenumbers: FloatArray,
    absorption: FloatArray,
    window_name: str,
    depth: float,
    terms: FloatArray | None = None,
    foot: float = HEIGHT_CUTOFF,
) -> list[tuple[int, int, int]]:
    """Bands of a curve (F,) as index triples (first, peak, last), limits included, none overlapping.

    A maximum counts where its prominence exceeds MIN_HEIGHT of the highest point, MIN_VALLEY_DEPTH of its own height,
    and SIGNIFICANCE (or ISOLATED_SIGNIFICANCE) standard errors (over `terms` (R, F) whose mean the curve is), and where
    `is_band` says so. Limits lie where the curve falls below `foot` of the peak, and MARGIN resolutions further out
    for what the window spreads, but no further than half the way to the neighbour's. window_name, depth (atomic
    time): of the correlation.
    """
    if absorption.max(initial=0.0) <= 0:
        return []
    resolution = 2 * np.pi / (PER_CM * depth)
    spacing = wavenumbers[1] - wavenumbers[0]
    peaks = maxima_apart(absorption, max(1, round(resolution / spacing)))
    prominence, left, right = prominences(absorption, peaks)
    needed = np.maximum(MIN_HEIGHT * absorption.max(), MIN_VALLEY_DEPTH * absorption[peaks])
    if terms is not None and len(terms) > 1:
        base = np.where(absorption[left] > absorption[right], left, right)
        alone = min(ISOLATED_SIGNIFICANCE, 0.8 * np.sqrt(len(terms)))
        sigmas = np.where(absorption[base] > ISOLATED * absorption[peaks], SIGNIFICANCE, alone)
        needed = np.maximum(needed, sigmas * standard_error(terms[:, peaks] - terms[:, base]))
    peaks = peaks[prominence > needed]
    distances = np.arange(0, wavenumbers[-1] - wavenumbers[0] + resolution, resolution / 10)
    peaks = peaks[is_band(wavenumbers[peaks], absorption[peaks], leakage(window_name, depth, distances), resolution)]
    if len(peaks) == 0:
        return []
    valleys = [int(a + np.argmin(absorption[a : b + 1])) for a, b in pairwise(peaks)]
    feet = []
    for start, peak, end in zip([0, *valleys], peaks, [*valleys, len(absorption) - 1], strict=True):
        low = np.flatnonzero(absorption[start : peak + 1] < foot * absorption[peak])
        high = np.flatnonzero(absorption[peak : end + 1] < foot * absorption[peak])
        feet.append((int(start + low[-1]) if len(low) else start, int(peak + high[0]) if len(high) else end))
    middles = [(feet[i][1] + feet[i + 1][0]) // 2 for i in range(len(feet) - 1)]
    reach = round(MARGIN * resolution / spacing)
    firsts = [max(low - reach, middle) for (low, _), middle in zip(feet, [0, *middles], strict=True)]
    lasts = [min(high + reach, middle) for (_, high), middle in zip(feet, [*middles, len(absorption) - 1], strict=True)]
    return [(first, int(peak), last) for first, peak, last in zip(firsts, peaks, lasts, strict=True)]


def joined_branches(
    wavenumbers: FloatArray, absorption: FloatArray, limits: list[tuple[int, int, int]], apart: float
) -> tuple[list[tuple[int, int, int]], list[int]]:
    """The bands with the P and R branches of one vibration taken together, and which of them these are.

    apart: the distance of the maxima in cm-1 (`branch_distance`).
    """
    found: list[tuple[int, int, int]] = []
    double: list[int] = []
    for limit in limits:
        before = found[-1] if found and len(found) - 1 not in double else None
        if before is not None and _are_branches(wavenumbers, absorption, before, limit, apart):
            peak = max(before[1], limit[1], key=lambda index: absorption[index])
            found[-1] = (before[0], peak, limit[2])
            double.append(len(found) - 1)
        else:
            found.append(limit)
    return found, double


def _are_branches(
    wavenumbers: FloatArray,
    absorption: FloatArray,
    one: tuple[int, int, int],
    other: tuple[int, int, int],
    apart: float,
) -> bool:
    distance = wavenumbers[other[1]] - wavenumbers[one[1]]
    low, high = sorted((absorption[one[1]], absorption[other[1]]))
    return bool(BRANCHES_APART[0] * apart < distance < BRANCHES_APART[1] * apart and low > LOWER_BRANCH * high)


def branch_distance(moment: float, temperature: float) -> float:
    """Distance (cm-1) of the P and R maxima of a linear molecule: classical rotation has the density
    omega exp(-I omega^2 / 2kT), with its maximum at sqrt(kT / I). moment in electron masses bohr^2, kT in hartree."""
    return float(2 * np.sqrt(temperature / moment) / PER_CM)


def leaked_part(wavenumbers: FloatArray, limit: tuple[int, int, int], window_name: str, depth: float) -> float:
    """The part of a sharp line at the peak that a window spreads beyond the limits of an isolated band.

    It may be negative. 0 where a limit is less than two resolutions from the peak, which only a neighbour makes it:
    what goes to the neighbour and what comes from there is a matter of definition then.
    """
    first, peak, last = limit
    if 2 * 2 * np.pi / (PER_CM * depth) > min(
        wavenumbers[last] - wavenumbers[peak], wavenumbers[peak] - wavenumbers[first]
    ):
        return 0.0
    count = 400
    weights = window(window_name, count)
    distances = (wavenumbers[first : last + 1] - wavenumbers[peak]) * PER_CM
    shape = cosine_transform(np.ones(count), weights, distances, depth / count)
    inside = np.trapezoid(shape, distances) / (2 * np.pi)
    return float(1 - inside)


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
) -> tuple[tuple[Band, ...], FloatArray, FloatArray]:
    """The bands between limits (`band_limits`) with their errors, and the curve's terms and weights (R, F) that agree
    with them.

    spectra (R, F): the trajectories' own; curve: terms and weights (R, F) of `ControlVariates.curve`. Each band's
    integral is regressed on the controls by itself, more sharply than a point of the curve can be, and the curve is
    made to integrate to it (`fit_to_band`). The centroid's error is that of a ratio (delta method), the highest
    point's is bootstrapped over trajectories. The other parts are added in quadrature.
    """
    terms, weights = (part.copy() for part in curve)
    results = []
    unseen = unseen_crossings(wavenumbers, curve[0], limits)
    for limit, error, crossing in zip(limits, systematic, unseen, strict=True):
        functionals = band_functionals(wavenumbers, limit)
        values = spectra @ functionals.T
        own = BandTerms(values[:, 0], values[:, 1], crossing)
        if estimator is not None:
            own = BandTerms.regressed(estimator, values, float(wavenumbers[limit[1]]), crossing)
            fit_to_band(terms, weights, functionals[0], own.area)
        plain = float(stated_error(values[:, :1], positive=True)[0])
        results.append((limit, own, plain, _other_errors(functionals, own, others), error))
    means = bootstrap_means(terms, 200, seed) if len(terms) > 1 and limits else None
    return tuple(_band(wavenumbers, terms, means, *result) for result in results), terms, weights


def unseen_crossings(wavenumbers: FloatArray, terms: FloatArray, limits: Sequence[tuple[int, int, int]]) -> list[float]:
    """The error (km/mol) of each band's intensity by trajectories that none of terms (R, F) stands for.

    Where bands overlap, a trajectory whose line lies beyond the common limit has its intensity in the other band. Of R
    trajectories none may do so where one in R / 3 does (the rule of three, 95 %), so that two errors are three R-ths of
    the stronger band's intensity; nothing where the curve at the limit is under EDGES[0] of the lower peak, all of it
    from EDGES[1] on.
    """
    curve, count = terms.mean(axis=0), len(terms)
    areas = [max(0.0, float(band_functionals(wavenumbers, limit)[0] @ curve)) for limit in limits]
    squares = [0.0] * len(limits)
    for left in range(len(limits) - 1):
        one, two = limits[left], limits[left + 1]
        if one[2] != two[0]:
            continue
        height = curve[one[2]] / max(min(curve[one[1]], curve[two[1]]), 1e-300)
        share = float(np.clip((height - EDGES[0]) / (EDGES[1] - EDGES[0]), 0.0, 1.0))
        for own in (left, left + 1):
            squares[own] += (1.5 * share * max(areas[left], areas[left + 1]) / count) ** 2
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
    plain_error: float,
    others: tuple[tuple[float, float], ...],
    systematic: tuple[float, float],
) -> Band:
    first, peak, last = limit
    intensity = own.intensity
    sampling, sampling_position = own.sampling_errors()
    committee, population = others
    peak_error = np.nan if resampled is None else peak_position(wavenumbers, resampled, first, last).std()
    peak_error *= float(small_sample_factor(len(terms)))
    return Band(
        position_per_cm=float(wavenumbers[peak] + own.offset),
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
