"""Control variates of trajectories: quantities whose exact means are known, from the velocities of normal modes.

In the canonical ensemble the velocities are normal and independent of the positions. With s_m the velocity of mode m
in units of its thermal width, every Hermite polynomial of them has mean zero, so has every product over modes and
with any function of the positions; their averages over a trajectory are controls:

    energy      s_m^2 - 1                       a band's intensity is proportional to its mode's energy
    coupling    s_m s_n                         modes of near frequency, or another minimum's, mix
    conformer   chi_k (s_m^2 - 1)               as the first, while in conformer k: its own bands
    local       s_b^2 - 1                       the stretch of a bond b, whatever the conformer
    second      (s_m^4 - 6 s_m^2 + 3) / 3       by anharmonicity, positions and shapes shift with the mode's energy
                (s_m^2 - 1)(s_n^2 - 1)          and with those of other modes

The normalisation gives a variance of 1 over harmonic trajectories, whose mode energies e (in kT) are exponentially
distributed: over a period the first and the last two average to e - 1, the Laguerre polynomial L2(e) and
(e_m - 1)(e_n - 1), which are uncorrelated. `projection.Projection` and `projection.bond_velocities` give the s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.spectra.intensities import kinetic_means

ENERGY, COUPLING, CONFORMER, SECOND, LOCAL = 0, 1, 2, 3, 4
# Reach of a mode along the frequency axis (cm-1) and the weight of modes far away: overtones, combinations and shifts
# of a band by the energy in other modes make them count, too.
REACH = 150.0
FAR_WEIGHT = 0.03


@dataclass(frozen=True)
class Prior:
    """Weights of the families in a regression (0: left out), in the order of their numbers, and the modes' reach.

    combinations: modes whose wavenumbers add up to the band's or differ by it, and their products, count as near, for
    overtones and combination bands.
    """

    families: tuple[float, float, float, float, float]
    reach: float = REACH
    combinations: bool = False


# Priors that a regression begins with: near modes; those that combine to the band, too; nearly everything alike.
STARTS = (
    Prior((1.0, 0.3, 0.3, 0.3, 0.3)),
    Prior((1.0, 0.3, 0.3, 0.3, 0.3), combinations=True),
    Prior((1.0, 0.3, 0.3, 0.3, 0.3), 10 * REACH),
)
# For the points of the curve.
CURVE_START = Prior((1.0, 0.3, 0.3, 0.03, 0.3))
# Weight of a mode's energy where it takes part in a combination.
COMBINATION_WEIGHT = 0.5
# Difference in wavenumber (cm-1) over which two modes mix.
COUPLING_REACH = 100.0
# Most controls at one wavenumber, those with the largest weights.
MAX_CONTROLS = 300


@dataclass(frozen=True)
class ModeMoments:
    """Time averages over each of R trajectories, of M mode velocities s (sqrt(hartree)) in one of K conformers.

    second (R, M, M): <s_m s_n>; fourth (R, M, M): <s_m^2 s_n^2>; occupation (R, K): fraction of time in each conformer;
    conformer (R, K, M): <chi_k s_m^2>. All are plain averages, so those of equal chunks average to those of the whole.
    """

    second: FloatArray
    fourth: FloatArray
    occupation: FloatArray
    conformer: FloatArray

    @staticmethod
    def over_time(chunks: Sequence[ModeMoments]) -> ModeMoments:
        """Of the same trajectories, from equally long chunks."""
        return ModeMoments(*(np.mean(part, axis=0) for part in zip(*map(_parts, chunks), strict=True)))

    @staticmethod
    def over_trajectories(blocks: Sequence[ModeMoments]) -> ModeMoments:
        """Of all trajectories, from blocks of them."""
        return ModeMoments(*(np.concatenate(part) for part in zip(*map(_parts, blocks), strict=True)))


def _parts(moments: ModeMoments) -> tuple[FloatArray, ...]:
    return moments.second, moments.fourth, moments.occupation, moments.conformer


def mode_moments(mode_velocities: FloatArray, kinds: IntArray | None = None, count: int = 1) -> ModeMoments:
    """The moments of mode velocities (T, M, R) in sqrt(hartree); kinds (T, R): conformer 0 .. count-1 of each
    frame."""
    s = np.moveaxis(np.asarray(mode_velocities, float), 2, 0)
    squares = s**2
    length = s.shape[1]
    inside = np.ones((*s.shape[:2], 1))
    if kinds is not None:
        inside = (np.asarray(kinds).T[:, :, None] == np.arange(count)).astype(float)
    return ModeMoments(
        second=np.matmul(np.swapaxes(s, 1, 2), s) / length,
        fourth=np.matmul(np.swapaxes(squares, 1, 2), squares) / length,
        occupation=inside.mean(axis=1),
        conformer=np.matmul(np.swapaxes(inside, 1, 2), squares) / length,
    )


@dataclass(frozen=True)
class Controls:
    """C control variates of R trajectories.

    deviations (R, C): each trajectory's value less the exact mean, scaled to a variance of about 1; family (C,):
    ENERGY, COUPLING, CONFORMER, SECOND or LOCAL; wavenumbers (C, 2) in cm-1 of the two modes (or twice the one) that
    it is made of.
    """

    deviations: FloatArray
    family: IntArray
    wavenumbers: FloatArray

    def __post_init__(self) -> None:
        count = self.deviations.shape[-1]
        if self.deviations.ndim != 2 or self.family.shape != (count,) or self.wavenumbers.shape != (count, 2):
            raise InputError(
                "controls must have the shapes (trajectories, controls), (controls,), (controls, 2)",
                value=(self.deviations.shape, self.family.shape, self.wavenumbers.shape),
            )

    def weights(self, wavenumber: float, prior: Prior) -> FloatArray:
        """Prior weights (C,) at a wavenumber in cm-1.

        Near modes matter more, products by both of their modes. All but the MAX_CONTROLS largest are zero.
        """
        distance = (self.wavenumbers - wavenumber) / prior.reach
        near = FAR_WEIGHT + (1 - FAR_WEIGHT) * np.exp(-0.5 * distance**2)
        product = (self.family == COUPLING) | (self.family == SECOND)
        single, both = near[:, 0], near.prod(axis=1)
        if prior.combinations:
            single = np.maximum(single, COMBINATION_WEIGHT * self._combining(wavenumber, prior.reach))
            pair = self.wavenumbers.sum(axis=1), np.abs(self.wavenumbers[:, 0] - self.wavenumbers[:, 1])
            combined = [np.exp(-0.5 * ((place - wavenumber) / prior.reach) ** 2) for place in pair]
            both = np.where(self.family == SECOND, np.maximum(both, np.max(combined, axis=0)), both)
        weights = np.array(prior.families)[self.family] * np.where(product, both, single)
        gap = (self.wavenumbers[:, 0] - self.wavenumbers[:, 1]) / COUPLING_REACH
        weights = np.where(self.family == COUPLING, weights * np.exp(-0.5 * gap**2), weights)
        if len(weights) > MAX_CONTROLS:
            weights[np.argsort(weights)[:-MAX_CONTROLS]] = 0.0
        return np.asarray(weights)

    def _combining(self, wavenumber: float, reach: float) -> FloatArray:
        """Distance (C,) of a wavenumber from combinations of each control's first mode with any other."""
        modes = np.unique(self.wavenumbers[self.family == ENERGY, 0])
        if len(modes) == 0:
            return np.zeros(len(self.family))
        own = self.wavenumbers[:, :1]
        distance = np.minimum(np.abs(own + modes - wavenumber), np.abs(np.abs(own - modes) - wavenumber)).min(axis=1)
        return np.asarray(np.exp(-0.5 * (distance / reach) ** 2))

    def starts(self, wavenumber: float) -> list[FloatArray]:
        """`weights` at a wavenumber for each of STARTS."""
        return [self.weights(wavenumber, prior) for prior in STARTS]

    @staticmethod
    def join(*parts: Controls) -> Controls:
        """All the controls of the same trajectories together."""
        return Controls(
            np.concatenate([part.deviations for part in parts], axis=1),
            np.concatenate([part.family for part in parts]),
            np.concatenate([part.wavenumbers for part in parts]),
        )

    def subset(self, trajectories: IntArray) -> Controls:
        """The controls of some of the trajectories (indices or mask)."""
        return Controls(self.deviations[trajectories], self.family, self.wavenumbers)


def mode_controls(
    kinetic_energies: FloatArray, wavenumbers: FloatArray, temperature: float, timestep: float | None = None
) -> Controls:
    """The family ENERGY alone, from time-averaged kinetic energies (R, M) in hartree of modes at wavenumbers (M,).

    wavenumbers in cm-1, temperature kT in hartree. timestep: velocity Verlet's, when the energies are of full-step
    velocities after BAOAB equilibration; None for half-step velocities, whose mean is kT/2 (see `kinetic_means`).
    """
    wavenumbers = np.asarray(wavenumbers, float)
    means = kinetic_means(wavenumbers, timestep, temperature)
    deviations = np.asarray(kinetic_energies, float) / means - 1
    return Controls(deviations, np.zeros(len(means), np.int64), np.c_[wavenumbers, wavenumbers])


def local_controls(
    mean_squares: FloatArray, wavenumbers: FloatArray, temperature: float, timestep: float | None = None
) -> Controls:
    """The family LOCAL, from time averages (R, B) of squared bond velocities (`bond_velocities`) in hartree.

    wavenumbers (B,) in cm-1 (`bond_wavenumbers`); the other arguments as in `mode_controls`.
    """
    controls = mode_controls(0.5 * np.asarray(mean_squares, float), wavenumbers, temperature, timestep)
    return Controls(controls.deviations, np.full(len(controls.family), LOCAL), controls.wavenumbers)


def moment_controls(
    moments: ModeMoments, wavenumbers: FloatArray, temperature: float, timestep: float | None = None
) -> Controls:
    """All families, from the moments of mode velocities and the modes' harmonic wavenumbers (K, M) of each conformer.

    The other arguments as in `mode_controls`. M modes in K conformers give M (M + 1) + M [+ K M] controls.
    """
    wavenumbers = np.atleast_2d(np.asarray(wavenumbers, float))
    variances = 2 * kinetic_means(wavenumbers, timestep, temperature)
    occupation = moments.occupation.mean(axis=0)
    places, variance = occupation @ wavenumbers, occupation @ variances
    second = moments.second / np.sqrt(variance[:, None] * variance)
    fourth = moments.fourth / (variance[:, None] * variance)
    # Exact where the conformers' variances differ (by the timestep's error, at most percents): kind by kind.
    by_kind = moments.conformer / variances - moments.occupation[:, :, None]
    energy = by_kind.sum(axis=1)
    relative = np.diagonal(second, axis1=1, axis2=2) - 1
    upper, above = np.triu_indices(len(places)), np.triu_indices(len(places), 1)
    squares = (fourth[:, upper[0], upper[1]] - 6 * relative[:, upper[0]] - 3) / 3
    mixed = fourth[:, upper[0], upper[1]] - relative[:, upper[0]] - relative[:, upper[1]] - 1
    values = [energy, second[:, above[0], above[1]], np.where(upper[0] == upper[1], squares, mixed)]
    family = [ENERGY, COUPLING, SECOND]
    pairs = [np.c_[places, places], places[np.c_[above]], places[np.c_[upper]]]
    if len(wavenumbers) > 1:
        values.append(by_kind.reshape(len(by_kind), -1))
        family.append(CONFORMER)
        pairs.append(np.repeat(wavenumbers.ravel()[:, None], 2, axis=1))
    families = np.repeat(np.array(family, np.int64), [value.shape[1] for value in values])
    return Controls(np.concatenate(values, axis=1), families, np.concatenate(pairs))
