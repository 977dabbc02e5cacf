"""Two spectra side by side: overlap of the curves, matched bands, and the significance of their differences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.spectra.bands import Band, integration_weights
from hpcir.spectra.estimators import standard_error
from hpcir.spectra.spectrum import Spectrum

# Largest distance of matched bands, cm-1.
MAX_SHIFT = 60.0
# Joint standard errors by which two values differ.
SIGMAS = 2.0


@dataclass(frozen=True)
class BandMatch:
    """A band of the first spectrum and its partner in the second.

    shift_per_cm: first less second position; intensity_ratio: first over second; the `_stderr` are joint standard
    errors (nan where one is unknown); `differs` are True when the difference is over SIGMAS of them, None when unknown.
    """

    first: Band
    second: Band
    shift_per_cm: float
    shift_stderr: float
    intensity_ratio: float
    intensity_difference: float
    intensity_stderr: float

    @property
    def position_differs(self) -> bool | None:
        return _differs(self.shift_per_cm, self.shift_stderr)

    @property
    def intensity_differs(self) -> bool | None:
        return _differs(self.intensity_difference, self.intensity_stderr)

    def describe(self) -> str:
        """The match as one line of text."""
        one, two = self.first.intensity_km_per_mol, self.second.intensity_km_per_mol
        return (
            f"{self.second.position_per_cm:8.1f} cm-1: shift {self.shift_per_cm:+6.1f} +- {self.shift_stderr:.1f}"
            f"{_mark(self.position_differs)}, intensity {one:.1f} and {two:.1f}, difference "
            f"{self.intensity_difference:+.2f} +- {self.intensity_stderr:.2f} km/mol{_mark(self.intensity_differs)}"
        )


def _differs(value: float, error: float) -> bool | None:
    return None if not np.isfinite(error) else bool(abs(value) > SIGMAS * error)


@dataclass(frozen=True, repr=False)
class Comparison:
    """Similarity of two spectra.

    lower, upper: the common range in cm-1; pearson, cosine, information (1 for equal shapes) of the curves there,
    masked points left out; areas (km/mol) of both; matches, and the bands without a partner; paired: whether errors
    of matched bands are of trajectory-by-trajectory differences; shared_noise: then pearson, cosine, information of the
    plain means, in which both have the same scatter of starts; notes: every scaling that was applied.
    """

    lower: float
    upper: float
    pearson: float
    cosine: float
    information: float
    area_first: float
    area_second: float
    matches: tuple[BandMatch, ...]
    only_first: tuple[Band, ...]
    only_second: tuple[Band, ...]
    paired: bool = False
    notes: tuple[str, ...] = ()
    shared_noise: tuple[float, float, float] | None = None

    @property
    def mean_absolute_shift(self) -> float:
        """Mean |shift| of matched bands in cm-1; nan without any."""
        return float(np.mean([abs(match.shift_per_cm) for match in self.matches])) if self.matches else float("nan")

    def describe(self) -> str:
        """The comparison as a text of several lines."""
        lines = [
            f"{self.lower:.0f} to {self.upper:.0f} cm-1: Pearson {self.pearson:.4f}, cosine {self.cosine:.4f}, "
            f"spectral information {self.information:.4f}",
            f"areas {self.area_first:.1f} and {self.area_second:.1f} km/mol",
            *self.notes,
        ]
        lines += [match.describe() for match in self.matches]
        for name, bands in (("first", self.only_first), ("second", self.only_second)):
            lines += [f"only in the {name}: {band.describe()}" for band in bands]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        """Scores and matched bands as a table, for notebooks; what differs by more than the noise is bold."""
        rows = "".join(_html_row(match) for match in self.matches)
        alone = "".join(
            f"<li>only in the {name}: {escape(band.describe())}</li>"
            for name, bands in (("first", self.only_first), ("second", self.only_second))
            for band in bands
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f"<p>{self.lower:.0f} to {self.upper:.0f} cm<sup>-1</sup>: Pearson {self.pearson:.4f}, cosine "
            f"{self.cosine:.4f}, spectral information {self.information:.4f}; areas {self.area_first:.1f} and "
            f"{self.area_second:.1f} km/mol</p><table><tr><th>position / cm<sup>-1</sup></th><th>shift</th>"
            f"<th>intensities / (km/mol)</th><th>difference</th><th>assignment</th></tr>{rows}</table>"
            f"<ul>{alone}{notes}</ul>"
        )


def _html_row(match: BandMatch) -> str:
    def cell(value: float, error: float, differs: bool | None, digits: int) -> str:
        written = f"{value:+.{digits}f} &plusmn; {error:.{digits}f}"
        return f"<td><b>{written}</b></td>" if differs else f"<td>{written}</td>"

    one, two = match.first, match.second
    shift = cell(match.shift_per_cm, match.shift_stderr, match.position_differs, 1)
    return (
        f"<tr><td>{two.position_per_cm:.1f}</td>{shift}"
        f"<td>{one.intensity_km_per_mol:.1f}, {two.intensity_km_per_mol:.1f}</td>"
        f"{cell(match.intensity_difference, match.intensity_stderr, match.intensity_differs, 2)}"
        f"<td>{escape(one.assignment or two.assignment)}</td></tr>"
    )


def _mark(differs: bool | None) -> str:
    return {True: " (differs)", False: "", None: " (error unknown)"}[differs]


def scaled(spectrum: Spectrum, position: float = 1.0, intensity: float = 1.0) -> Spectrum:
    """The spectrum with wavenumbers and intensities multiplied by factors, and a note of it in the metadata.

    Band integrals are those times `intensity`, whatever `position`. Raises InputError for factors that are not
    positive.
    """
    if not (position > 0 and intensity > 0):
        raise InputError("scale factors must be positive", value=(position, intensity))
    height = intensity / position
    bands = tuple(_scaled_band(band, position, intensity) for band in spectrum.bands)
    note = f"wavenumbers scaled by {position:g}, intensities by {intensity:g}"
    return replace(
        spectrum,
        wavenumbers=spectrum.wavenumbers * position,
        absorption=spectrum.absorption * height,
        stderr=spectrum.stderr * height,
        bands=bands,
        terms=None if spectrum.terms is None else spectrum.terms * height,
        plain=None if spectrum.plain is None else spectrum.plain * height,
        weights=None,
        metadata={**spectrum.metadata, "scaled": note},
    )


def _scaled_band(band: Band, position: float, intensity: float) -> Band:
    changed: dict[str, Any] = {}
    for name, value in vars(band).items():
        if name.endswith("_per_cm"):
            changed[name] = value * position
        elif name.endswith("_km_per_mol"):
            changed[name] = value * intensity
    return replace(band, **changed)


def common_grid(first: Spectrum, second: Spectrum) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Wavenumbers (G,) both cover, by the coarser spacing, and both curves (G,) there; nan where either is
    unknown."""
    lower = max(first.wavenumbers[0], second.wavenumbers[0])
    upper = min(first.wavenumbers[-1], second.wavenumbers[-1])
    spacing = max(np.median(np.diff(first.wavenumbers)), np.median(np.diff(second.wavenumbers)))
    if upper - lower < 2 * spacing:
        raise InputError(
            "the spectra have no wavenumbers in common",
            value=f"{first.wavenumbers[0]:.0f} to {first.wavenumbers[-1]:.0f} and "
            f"{second.wavenumbers[0]:.0f} to {second.wavenumbers[-1]:.0f} cm-1",
        )
    grid = lower + spacing * np.arange(int((upper - lower) / spacing * (1 + 1e-12)) + 1)
    return grid, _resampled(first, grid, spacing), _resampled(second, grid, spacing)


def _resampled(spectrum: Spectrum, grid: FloatArray, spacing: float) -> FloatArray:
    """Means over the grid's cells for a finer curve (so that areas stay), its linear interpolation otherwise."""
    x, y = spectrum.wavenumbers, spectrum.absorption
    if np.median(np.diff(x)) > 0.7 * spacing:
        return np.interp(grid, x, y)
    known = np.isfinite(y)
    integral = np.r_[0.0, np.cumsum(np.diff(x) * 0.5 * (np.nan_to_num(y)[1:] + np.nan_to_num(y)[:-1]))]
    edges = np.clip(np.r_[grid - spacing / 2, grid[-1] + spacing / 2], x[0], x[-1])
    means = np.diff(np.interp(edges, x, integral)) / np.diff(edges)
    return np.where(np.interp(grid, x, known.astype(float)) < 1, np.nan, means)


def overlap(first: FloatArray, second: FloatArray) -> tuple[float, float, float]:
    """Pearson correlation, cosine, and spectral information similarity of two curves (G,) on one grid; nan are left
    out.

    The last is 1 / (1 + sum_i [p_i ln(p_i/q_i) + q_i ln(q_i/p_i)]) of the curves normalised to 1, small or negative
    values raised to 1e-4 of the highest (spectral information divergence: Chang, IEEE Trans. Inf. Theory 46, 1927,
    2000; as a similarity of infrared spectra: McGill et al., J. Chem. Inf. Model. 61, 2594, 2021, who use 1e-10 after
    smoothing).
    """
    known = np.isfinite(first) & np.isfinite(second)
    a, b = first[known], second[known]
    if len(a) < 3 or a.max() <= 0 or b.max() <= 0 or np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError("one of the spectra is empty where both are known")
    p, q = (np.maximum(curve, 1e-4 * curve.max()) for curve in (a, b))
    p, q = p / p.sum(), q / q.sum()
    divergence = float(np.sum((p - q) * np.log(p / q)))
    cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return float(np.corrcoef(a, b)[0, 1]), cosine, 1 / (1 + divergence)


def match_bands(first: tuple[Band, ...], second: tuple[Band, ...]) -> list[tuple[int, int]]:
    """Index pairs of bands that belong together: one to one, least sum of distances (Hungarian method).

    The distance of a pair is |shift| / MAX_SHIFT + |ln of the intensity ratio| / 4; pairs farther than MAX_SHIFT are
    none.
    """
    from scipy.optimize import linear_sum_assignment

    if not first or not second:
        return []
    shift = np.abs(np.subtract.outer([b.position_per_cm for b in first], [b.position_per_cm for b in second]))
    sizes = [np.log(np.maximum([band.intensity_km_per_mol for band in bands], 1e-6)) for bands in (first, second)]
    cost = shift / MAX_SHIFT + np.abs(np.subtract.outer(*sizes)) / 4
    # A pair that may not be costs more than any set of allowed ones.
    cost = np.where(shift > MAX_SHIFT, 1e6, cost)
    rows, columns = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if cost[i, j] < 1e6]


def compare(
    first: Spectrum,
    second: Spectrum,
    paired: bool = False,
    position_scale: float = 1.0,
    intensity_scale: float | None = 1.0,
    lower: float | None = None,
    upper: float | None = None,
) -> Comparison:
    """Compare a spectrum with a reference.

    paired: both have `terms` of trajectories from the same starts in the same order, and errors of matched bands are
    those of the differences trajectory by trajectory, with the first one's band limits for both. position_scale and
    intensity_scale multiply the first's wavenumbers and intensities (intensity_scale None: by the ratio of areas);
    each other than 1 is named in `notes`. lower, upper (cm-1) narrow the range. Raises InputError for spectra
    without common wavenumbers and for a pairing that is impossible.
    """
    notes = []
    cut_first, cut_second = _cut(first, lower, upper), _cut(second, lower, upper)
    if intensity_scale is None:
        grid, a, b = common_grid(scaled(cut_first, position_scale), cut_second)
        known = np.isfinite(a) & np.isfinite(b)
        intensity_scale = float(b[known].sum() / a[known].sum())
    if position_scale != 1 or intensity_scale != 1:
        cut_first = scaled(cut_first, position_scale, intensity_scale)
        notes.append(f"The first spectrum's {cut_first.metadata['scaled']}.")
    grid, a, b = common_grid(cut_first, cut_second)
    known = np.isfinite(a) & np.isfinite(b)
    if not known.all():
        notes.append(f"{np.count_nonzero(~known)} of {len(grid)} points are unknown in one spectrum and left out.")
    pearson, cosine, information = overlap(a, b)
    spacing = float(grid[1] - grid[0])
    one, two = (_inside(s.bands, grid[0], grid[-1]) for s in (cut_first, cut_second))
    pairs = match_bands(one, two)
    matches = [_match(one[i], two[j]) for i, j in pairs]
    if paired:
        matches = [_paired(match, cut_first, cut_second) for match in matches]
    return Comparison(
        lower=float(grid[0]),
        upper=float(grid[-1]),
        pearson=pearson,
        cosine=cosine,
        information=information,
        area_first=float(a[known].sum() * spacing),
        area_second=float(b[known].sum() * spacing),
        matches=tuple(matches),
        only_first=tuple(band for i, band in enumerate(one) if i not in {pair[0] for pair in pairs}),
        only_second=tuple(band for j, band in enumerate(two) if j not in {pair[1] for pair in pairs}),
        paired=paired,
        notes=tuple(notes),
        shared_noise=_plain_overlap(cut_first, cut_second) if paired else None,
    )


def _plain_overlap(first: Spectrum, second: Spectrum) -> tuple[float, float, float] | None:
    """`overlap` of the plain means; None where one is not known."""
    if first.plain is None or second.plain is None:
        return None
    _, a, b = common_grid(replace(first, absorption=first.plain), replace(second, absorption=second.plain))
    return overlap(a, b)


def _cut(spectrum: Spectrum, lower: float | None, upper: float | None) -> Spectrum:
    """The part of a spectrum between two wavenumbers."""
    x = spectrum.wavenumbers
    inside = (x >= (lower if lower is not None else x[0])) & (x <= (upper if upper is not None else x[-1]))
    if np.count_nonzero(inside) < 3:
        raise InputError("the range leaves nothing of a spectrum", value=(lower, upper))
    return replace(
        spectrum,
        wavenumbers=x[inside],
        absorption=spectrum.absorption[inside],
        stderr=spectrum.stderr[inside],
        terms=None if spectrum.terms is None else spectrum.terms[:, inside],
        plain=None if spectrum.plain is None else spectrum.plain[inside],
        weights=None,
    )


def _inside(bands: tuple[Band, ...], lower: float, upper: float) -> tuple[Band, ...]:
    return tuple(band for band in bands if lower <= band.position_per_cm <= upper)


def _match(first: Band, second: Band) -> BandMatch:
    return BandMatch(
        first=first,
        second=second,
        shift_per_cm=first.position_per_cm - second.position_per_cm,
        shift_stderr=float(np.hypot(first.stderr_per_cm, second.stderr_per_cm)),
        intensity_ratio=first.intensity_km_per_mol / second.intensity_km_per_mol,
        intensity_difference=first.intensity_km_per_mol - second.intensity_km_per_mol,
        intensity_stderr=float(np.hypot(first.stderr_km_per_mol, second.stderr_km_per_mol)),
    )


def _paired(match: BandMatch, first: Spectrum, second: Spectrum) -> BandMatch:
    """The match from terms of the same trajectories, both integrated over the union of the two bands' limits."""
    if first.terms is None or second.terms is None or first.terms.shape != second.terms.shape:
        raise InputError(
            "a paired comparison takes two spectra of the same trajectories on one grid",
            value=[None if s.terms is None else s.terms.shape for s in (first, second)],
            hint="compare without pairing",
        )
    x = first.wavenumbers
    lower = min(match.first.lower_per_cm, match.second.lower_per_cm)
    upper = max(match.first.upper_per_cm, match.second.upper_per_cm)
    weights = integration_weights(x, int(np.searchsorted(x, lower)), int(np.searchsorted(x, upper + 1e-9) - 1))
    middle = match.second.position_per_cm
    area_one, area_two = first.terms @ weights, second.terms @ weights
    centre_one, centre_two = (s.terms @ (weights * (x - middle)) for s in (first, second) if s.terms is not None)
    means = area_one.mean(), area_two.mean()
    offsets = centre_one.mean() / means[0], centre_two.mean() / means[1]
    shifts = (centre_one - offsets[0] * area_one) / means[0] - (centre_two - offsets[1] * area_two) / means[1]
    return replace(
        match,
        shift_per_cm=float(offsets[0] - offsets[1]),
        shift_stderr=float(standard_error(shifts[:, None])[0]),
        intensity_ratio=float(means[0] / means[1]),
        intensity_difference=float(means[0] - means[1]),
        intensity_stderr=float(standard_error((area_one - area_two)[:, None])[0]),
    )
