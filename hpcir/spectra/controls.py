"""Control variates of trajectories: quantities whose exact means are known, from the velocities of normal modes.

In the canonical ensemble the velocities are normal and independent of the positions. With s the velocity of a mode in
units of its thermal width, every Hermite polynomial of s has mean zero, and so has every product over modes; their
averages over a trajectory are controls. In terms of the mode's relative kinetic energy k = s^2 (mean 1):

    first order    k_m - 1                          the intensity is proportional to the mode's energy;
    second order   (k_m^2 - 6 k_m + 3) / 3          and, by anharmonicity, positions and shapes shift with it,
                   (k_m - 1)(k_n - 1)               and with the energies of other modes.

The normalisation makes each have variance 1 over harmonic trajectories, whose mode energies e are exponentially
distributed: averaged over a period the three are e - 1, the Laguerre polynomial L2(e), and (e_m - 1)(e_n - 1), which
are uncorrelated. The projection may depend on the positions (another minimum's modes for each conformer): the means
are as exact, provided each direction is normalised and orthogonal to what the dynamics leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.spectra.intensities import kinetic_means

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Reach of a mode along the frequency axis (cm-1) and the weight of modes far away: overtones, combinations and shifts
# of a band by the energy in other modes make them count, too.
REACH = 150.0
FAR_WEIGHT = 0.03


@dataclass(frozen=True)
class Controls:
    """M control variates of R trajectories.

    deviations (R, M): each trajectory's value less the exact mean, scaled to a variance of about 1; order (M,): 1 or 2;
    modes (M, 2): the one or two modes it is made of (the same twice for one); wavenumbers (modes,) in cm-1 of the modes.
    """

    deviations: FloatArray
    order: IntArray
    modes: IntArray
    wavenumbers: FloatArray

    def __post_init__(self) -> None:
        count = self.deviations.shape[-1]
        if self.deviations.ndim != 2 or self.order.shape != (count,) or self.modes.shape != (count, 2):
            raise InputError(
                "controls must have the shapes (trajectories, controls), (controls,), (controls, 2)",
                value=(self.deviations.shape, self.order.shape, self.modes.shape),
            )

    def weights(self, wavenumber: float, second_order: float) -> FloatArray:
        """Prior weights (M,) at a wavenumber in cm-1: near modes matter more; products by both of their modes.

        second_order scales those of the second order.
        """
        distance = (self.wavenumbers - wavenumber) / REACH
        near = FAR_WEIGHT + (1 - FAR_WEIGHT) * np.exp(-0.5 * distance**2)
        both = near[self.modes]
        return np.where(self.order == 1, both[:, 0], second_order * both.prod(axis=1))

    def subset(self, trajectories: IntArray) -> Controls:
        """The controls of some of the trajectories (indices or mask)."""
        return Controls(self.deviations[trajectories], self.order, self.modes, self.wavenumbers)


def mode_controls(
    kinetic_energies: FloatArray, wavenumbers: FloatArray, temperature: float, timestep: float | None = None
) -> Controls:
    """First-order controls from time-averaged kinetic energies (R, M) in hartree of modes at wavenumbers (M,) in
    cm-1.

    temperature kT in hartree. timestep: velocity Verlet's, when the energies are of full-step velocities after BAOAB
    equilibration; None for half-step velocities, whose mean is kT/2 (see `kinetic_means`).
    """
    wavenumbers = np.asarray(wavenumbers, float)
    means = kinetic_means(wavenumbers, timestep, temperature)
    modes = np.arange(len(means))
    return Controls(
        deviations=np.asarray(kinetic_energies, float) / means - 1,
        order=np.ones(len(means), np.int64),
        modes=np.c_[modes, modes],
        wavenumbers=wavenumbers,
    )


def moment_controls(
    kinetic_energies: FloatArray,
    kinetic_products: FloatArray,
    wavenumbers: FloatArray,
    temperature: float,
    timestep: float | None = None,
) -> Controls:
    """Controls of first and second order, from time averages of K_m (R, M) in hartree and of K_m K_n (R, M, M).

    The other arguments as in `mode_controls`. M modes give M + M (M + 1) / 2 controls.
    """
    first = mode_controls(kinetic_energies, wavenumbers, temperature, timestep)
    means = kinetic_means(first.wavenumbers, timestep, temperature)
    rows, columns = np.triu_indices(len(means))
    products = np.asarray(kinetic_products, float)[:, rows, columns] / (means[rows] * means[columns])
    linear = first.deviations
    squares = (products - 6 * (linear[:, rows] + 1) + 3) / 3
    mixed = products - linear[:, rows] - linear[:, columns] - 1
    return Controls(
        deviations=np.concatenate([linear, np.where(rows == columns, squares, mixed)], axis=1),
        order=np.r_[first.order, np.full(len(rows), 2)],
        modes=np.concatenate([first.modes, np.c_[rows, columns]]),
        wavenumbers=first.wavenumbers,
    )


def kinetic_moments(mode_velocities: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Time averages of K_m (R, M) and of K_m K_n (R, M, M), hartree, from mass-weighted mode velocities (T, M, R).

    K = s^2 / 2 with s in atomic units (sqrt(electron mass) bohr per atomic time).
    """
    energy = 0.5 * np.moveaxis(np.asarray(mode_velocities, float) ** 2, 2, 0)
    return energy.mean(axis=1), np.einsum("rtm,rtn->rmn", energy, energy, optimize=True) / energy.shape[1]
