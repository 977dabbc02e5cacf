"""Convergence of a spectrum's bands with the number of trajectories, and the rule by which no more are run.

The bands are looked at after numbers of trajectories that are fixed beforehand, each twice the one before, so that
there are few looks and few chances to stop by luck. A sampling error that is estimated from R trajectories has itself a
relative error of about 1/sqrt(2 R): a run that stopped as soon as the estimate is small enough would stop too soon, and
with errors that are too small. So it stops where the upper confidence limit of the error (`margin`) is within the
accuracy. `tools/bench/bench_coverage --accuracy` measures what is left of the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from hpcir.deck.sections import AccuracySettings
from hpcir.spectra.bands import Band
from hpcir.spectra.estimators import SHIFTS, small_sample_factor

# Trajectories before the first look, at least: committees' members have up to as many (`study.production.sets`), and
# from fewer of them regressions on a hundred controls give no reliable error.
FIRST_LOOK = 32
# The bands that the accuracy is asked of, km/mol.
SMALLEST_KM_PER_MOL = 5.0
# Confidence with which a band's error must be within the accuracy before the last look.
CONFIDENCE = 0.95


class SamplingEnd(Enum):
    """The reason why no more trajectories are run."""

    ACCURACY = "accuracy"
    LIMIT = "limit"
    NO_BANDS = "no_bands"


def look_counts(limit: int, lockstep: int, first: int = FIRST_LOOK) -> tuple[int, ...]:
    """Numbers of trajectories to look at the bands after: whole blocks of `lockstep`, `first` at least, each twice the
    one before, the last one being `limit`."""
    counts = []
    count = -(-max(first, 1) // lockstep) * lockstep
    while count < limit:
        counts.append(count)
        count *= 2
    return (*counts, limit)


def margin(count: int) -> float:
    """The upper confidence limit of a standard error from `count` values over the error itself.

    That of the chi-squared distribution with half the degrees of freedom: intensities have longer tails than the normal
    distribution, and regressions take some.
    """
    from scipy.special import chdtri

    freedom = max((count - 1) / 2, 1.0)
    return float(np.sqrt(freedom / chdtri(freedom, CONFIDENCE)))


@dataclass(frozen=True)
class BandErrors:
    """The largest sampling errors of the bands over SMALLEST_KM_PER_MOL after `count` trajectories, `valid` of them in
    the average: of a position (cm-1) and of an intensity (relative), each with the position of its band. nan where no
    band is so strong, or one trajectory shows no error."""

    count: int
    valid: int
    wavenumber: float = float("nan")
    wavenumber_at: float = float("nan")
    intensity: float = float("nan")
    intensity_at: float = float("nan")

    @classmethod
    def of(cls, bands: Sequence[Band], count: int, valid: int) -> BandErrors:
        """The errors of a spectrum's bands."""
        strong = [band for band in bands if band.intensity_km_per_mol > SMALLEST_KM_PER_MOL]
        if not strong:
            return cls(count, valid)
        places = np.array([band.position_per_cm for band in strong])
        shifts = np.array([band.sampling_stderr_per_cm for band in strong])
        relative = np.array([band.sampling_stderr_km_per_mol / band.intensity_km_per_mol for band in strong])
        # argmax takes a nan for the largest.
        one, two = int(np.argmax(shifts)), int(np.argmax(relative))
        return cls(count, valid, float(shifts[one]), float(places[one]), float(relative[two]), float(places[two]))

    @property
    def known(self) -> bool:
        """True where there are bands, and they have errors."""
        return bool(np.isfinite([self.wavenumber, self.intensity]).all())

    def meets(self, wanted: AccuracySettings, factor: float = 1.0) -> bool:
        """True where `factor` times both errors are within the accuracy."""
        return (
            self.known and factor * self.wavenumber <= wanted.wavenumber and factor * self.intensity <= wanted.intensity
        )

    def surely_meets(self, wanted: AccuracySettings) -> bool:
        """True where the upper confidence limits of both errors are within the accuracy."""
        return self.meets(wanted, margin(self.valid))

    def needed(self, wanted: AccuracySettings) -> int | None:
        """The trajectories that the accuracy takes, by 1/sqrt(R) without the factors that few of them have, to two
        digits; None where that is not known."""
        if not self.known:
            return None
        factor = float(small_sample_factor(self.valid)) ** 2
        area = self.valid * (self.intensity / wanted.intensity) ** 2 / factor
        # The number R at which (1 + SHIFTS / R) / R has fallen to `left`.
        left = factor * self._shifts(1.0) * (wanted.wavenumber / max(self.wavenumber, 1e-12)) ** 2
        place = (1 + np.sqrt(1 + 4 * SHIFTS * left)) / (2 * left)
        return _rounded(max(area, place, 1.0) * self.count / self.valid)

    def after(self, times: float) -> tuple[float, float]:
        """The errors of a position (cm-1) and of an intensity to expect after `times` as many trajectories."""
        ratio = float(small_sample_factor(round(times * self.valid)) / small_sample_factor(self.valid))
        position = ratio * float(np.sqrt(self._shifts(times) / self._shifts(1.0))) * self.wavenumber
        return position, ratio * self.intensity / float(np.sqrt(times))

    def _shifts(self, times: float) -> float:
        """The square of a position's error after `times` as many trajectories, but for a constant."""
        count = times * self.valid
        return float((1 + SHIFTS / count) / count)

    def words(self) -> str:
        """The errors in a sentence."""
        strong = f"band over {SMALLEST_KM_PER_MOL:g} km/mol"
        if not self.known:
            return f"{self.count} trajectories show no {strong} with an error"
        return (
            f"{self.count} trajectories give every {strong} to {self.wavenumber:.2g} cm-1 (the one at "
            f"{self.wavenumber_at:.0f}) and {100 * self.intensity:.2g} % (the one at {self.intensity_at:.0f})"
        )


@dataclass(frozen=True)
class SamplingStop:
    """The reason for the number of trajectories, of `limit` that the deck allows."""

    reason: SamplingEnd
    errors: BandErrors
    limit: int
    wanted: AccuracySettings

    @classmethod
    def at(cls, errors: BandErrors, limit: int, wanted: AccuracySettings) -> SamplingStop:
        """The stop after the last look."""
        if not errors.known:
            return cls(SamplingEnd.NO_BANDS, errors, limit, wanted)
        met = errors.meets(wanted)
        return cls(SamplingEnd.ACCURACY if met else SamplingEnd.LIMIT, errors, limit, wanted)

    def sentence(self) -> str:
        """The reason in a sentence."""
        words, asked = self.errors.words(), self.wanted.words()
        if self.reason is SamplingEnd.NO_BANDS:
            return f"{words}; {self.limit} are the upper limit (dynamics.trajectories)"
        if self.reason is SamplingEnd.ACCURACY:
            return f"{words}, within {asked}; up to {self.limit} were allowed (dynamics.trajectories)"
        return f"{words}; their upper limit (dynamics.trajectories) came before {asked}"

    def more(self) -> str:
        """The gain of more trajectories."""
        if self.reason is SamplingEnd.NO_BANDS:
            return ""
        position, intensity = self.errors.after(2)
        text = f"twice as many trajectories would give {position:.2g} cm-1 and {100 * intensity:.2g} %"
        if self.reason is SamplingEnd.LIMIT:
            text += f"; the accuracy would take about {self.errors.needed(self.wanted)}"
        return text


def _rounded(count: float) -> int:
    """A number of trajectories rounded up to two digits: an error from tens of them allows no more."""
    whole = int(np.ceil(min(count, 1e18)))
    unit = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // unit) * unit
