"""Beginnings and ends of a spectrum's bands: maxima that are bands, their feet, branches that belong together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.spectra.correlation import cosine_transform, window
from hpcir.spectra.estimators import standard_error
from hpcir.units import PER_CM

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
# P and R branches of a linear molecule are this far apart, in the distance that classical rotation has them at, and the
# lower one is no lower than this part of the other.
BRANCHES_APART, LOWER_BRANCH = (0.5, 1.6), 0.4
# Limits are this many resolutions beyond the foot: a Hann window's side lobes take 1 % back from the main one there.
MARGIN = 3.0


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
