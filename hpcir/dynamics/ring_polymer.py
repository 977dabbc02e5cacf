"""Ring polymers: quantum nuclei at thermal equilibrium as necklaces of P classical beads.

With springs omega_P = P k_B T / hbar between neighbouring beads and everything at the temperature P T, the beads sample
the quantum Boltzmann distribution as P grows (Chandler, Wolynes, J. Chem. Phys. 74, 4078, 1981):
    H_P = sum_p [sum_i m_i v_ip^2 / 2 + sum_i m_i omega_P^2 (x_ip - x_i,p+1)^2 / 2 + V(x_p)].
Normal modes of the free ring, X_k = sum_p C_kp x_p with C orthonormal, have the frequencies
    omega_k = 2 omega_P sin(k pi / P);  X_0 is sqrt(P) times the centroid.

A step (Korol, Rosa-Raices, Bou-Rabee, Miller, J. Chem. Phys. 152, 104102, 2020: BCOCB), h the timestep:
    v += h f / 2m;  half a free step of every mode;  O;  half a free step;  f = F(x);  v += h f / 2m.
Half a free step turns (omega_k X_k, V_k) by phi_k = arctan(omega_k h / 2), the square root of Cayley's form of the free
propagator: stable at any step, and the positions of a harmonic oscillator are sampled exactly at any step below 2/omega
(phi_k = omega_k h / 2 would be the exact free ring, which resonates where omega_k h approaches pi). O is the thermostat
PILE (Ceriotti, Parrinello, Markland, Manolopoulos, J. Chem. Phys. 133, 124104, 2010), white noise on each normal mode:
    V_k = c_k V_k + sqrt((1 - c_k^2) P k_B T / m) xi,   c_k = exp(-2 lambda omega_k h), k > 0;   c_0 = exp(-h / tau).
lambda = 1 samples best. TRPMD (Rossi, Ceriotti, Manolopoulos, J. Chem. Phys. 140, 234116, 2014) has lambda = 1/2 and
leaves the centroid alone; without O it is RPMD (Craig, Manolopoulos, J. Chem. Phys. 121, 3368, 2004).

Lanes: bead p of ring r is replica p R + r of an evaluator of P R replicas, so that arrays are (N, 3, P R).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.streams import RING_BLOCK_STEPS, trajectory_stream
from hpcir.errors import InputError

Scalar = TypeVar("Scalar", bound=np.generic)

# lambda of PILE: for sampling, and of TRPMD.
SAMPLING_FRICTION, TRPMD_FRICTION = 1.0, 0.5
# Parts of the stiffest mode's zero-point energy that a ring may miss: with beads chosen automatically, and at all.
AUTOMATIC_MISSING, LARGEST_MISSING = 0.04, 0.10
# Beads are chosen in multiples of this.
BEAD_STEP = 4


@dataclass(frozen=True)
class RingPolymer:
    """Rings of `beads` beads at `temperature` (hartree, k_B T of the molecule, not of the beads)."""

    beads: int
    temperature: float

    def __post_init__(self) -> None:
        if self.beads < 1:
            raise InputError("there must be at least one bead", where="dynamics.beads", value=self.beads)

    @property
    def bead_temperature(self) -> float:
        """P k_B T, at which beads move, in hartree."""
        return self.beads * self.temperature

    @cached_property
    def matrix(self) -> FloatArray:
        """C (P, P), orthonormal; row 0 is the centroid's, then cosines, the alternating mode of even P, sines."""
        p, beads = np.arange(self.beads), self.beads
        rows = np.full((beads, beads), 1 / np.sqrt(beads))
        for k in range(1, beads):
            if 2 * k < beads:
                rows[k] = np.sqrt(2 / beads) * np.cos(2 * np.pi * k * p / beads)
            elif 2 * k == beads:
                rows[k] = (-1.0) ** p / np.sqrt(beads)
            else:
                rows[k] = np.sqrt(2 / beads) * np.sin(2 * np.pi * k * p / beads)
        return rows

    @cached_property
    def frequencies(self) -> FloatArray:
        """omega_k (P,) in atomic units, in the order of `matrix`."""
        return np.asarray(2 * self.bead_temperature * np.sin(np.pi * np.arange(self.beads) / self.beads))

    def half_step(self, timestep: float) -> FloatArray:
        """(P, 3): cos phi, sin phi / omega and omega sin phi of half a free step of each mode."""
        omega = self.frequencies
        phi = np.arctan(omega * timestep / 2)
        over = np.full(self.beads, timestep / 2)
        np.divide(np.sin(phi), omega, out=over, where=omega > 0)
        return np.stack([np.cos(phi), over, omega * np.sin(phi)], axis=1)

    def to_modes(self, x: FloatArray) -> FloatArray:
        """Beads (N, 3, P R) as normal modes (N, 3, P, R)."""
        return np.asarray(self.matrix @ self.split(x))

    def to_beads(self, modes: FloatArray) -> FloatArray:
        """Normal modes (N, 3, P, R) as beads (N, 3, P R)."""
        beads = self.matrix.T @ modes
        return np.asarray(beads.reshape(*modes.shape[:2], -1))

    def split(self, x: NDArray[Scalar]) -> NDArray[Scalar]:
        """A view (..., P, R) of lanes (..., P R)."""
        return x.reshape(*x.shape[:-1], self.beads, -1)

    def centroid(self, x: FloatArray) -> FloatArray:
        """The mean over the beads, (..., R) of lanes (..., P R)."""
        return np.asarray(self.split(x).mean(-2))

    def moved(self, x: FloatArray, centroid: FloatArray) -> FloatArray:
        """Lanes (N, 3, P R) shifted so that their centroid is (N, 3, R)."""
        shifted = self.split(x) + (centroid - self.centroid(x))[:, :, None]
        return np.asarray(shifted.reshape(x.shape))


@dataclass(frozen=True)
class Pile:
    """PILE: lambda, tau of the centroid in atomic time (None: it is left alone), the seed of the noise."""

    friction: float
    centroid_time: float | None
    seed: int

    def decays(self, ring: RingPolymer, timestep: float) -> FloatArray:
        """c_k (P,)."""
        decays = np.exp(-2 * self.friction * ring.frequencies * timestep)
        if self.centroid_time is not None:
            decays[0] = np.exp(-timestep / self.centroid_time)
        return np.asarray(decays)

    def noise(self, trajectories: IntArray, block: int, atoms: int, beads: int) -> FloatArray:
        """Standard normal numbers (RING_BLOCK_STEPS, N, 3, P, R) of a block of steps."""
        shape = (RING_BLOCK_STEPS, atoms, 3, beads)
        drawn = [
            trajectory_stream(self.seed, "ring thermostat", int(t), block).standard_normal(shape) for t in trajectories
        ]
        return np.stack(drawn, axis=-1)


def free_step(
    ring: RingPolymer,
    x: FloatArray,
    v: FloatArray,
    masses: FloatArray,
    timestep: float,
    pile: Pile | None,
    xi: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Half a free step, O, half a free step of beads (N, 3, P R); xi (N, 3, P, R): see `Pile.noise`."""
    cosine, over, times = (column[:, None] for column in ring.half_step(timestep).T)
    modes, speeds = ring.to_modes(x), ring.to_modes(v)
    modes, speeds = cosine * modes + over * speeds, cosine * speeds - times * modes
    if pile is not None and xi is not None:
        decay = pile.decays(ring, timestep)[:, None]
        width = np.sqrt((1 - decay**2) * ring.bead_temperature / masses[:, None, None, None])
        speeds = decay * speeds + width * xi
    modes, speeds = cosine * modes + over * speeds, cosine * speeds - times * modes
    return ring.to_beads(modes), ring.to_beads(speeds)


def bead_velocities(
    ring: RingPolymer, centroid: FloatArray, masses: FloatArray, seed: int, trajectories: IntArray
) -> FloatArray:
    """Maxwell-Boltzmann velocities (N, 3, P R) at P T of the beads, about the centroid's own velocities (N, 3, R)."""
    shape = (len(masses), 3, ring.beads)
    draws = [trajectory_stream(seed, "bead velocities", int(t)).standard_normal(shape) for t in trajectories]
    speeds = np.sqrt(ring.bead_temperature / masses[:, None, None, None]) * np.stack(draws, axis=-1)
    speeds[:, :, 0] = np.sqrt(ring.beads) * centroid
    return ring.to_beads(speeds)


# -- the harmonic oscillator, exactly ------------------------------------------------------------------------------


def harmonic_square(ring: RingPolymer, frequency: float | FloatArray) -> FloatArray:
    """<Q^2> of a mass-weighted harmonic mode of a ring: sum_k k_B T / (omega^2 + omega_k^2).

    frequency (...) > 0 in atomic units.
    """
    squares = np.asarray(frequency, float)[..., None] ** 2 + ring.frequencies**2
    return np.asarray((ring.temperature / squares).sum(-1))


def harmonic_energy(ring: RingPolymer, frequency: float | FloatArray) -> FloatArray:
    """Energy of a harmonic mode of a ring, omega^2 <Q^2>; (omega/2) coth(omega/2 k_B T) for infinitely many beads."""
    return np.asarray(np.asarray(frequency, float) ** 2 * harmonic_square(ring, frequency))


def missing_energy(beads: int, frequency: float, temperature: float) -> float:
    """The part of a harmonic mode's exact energy that a ring of so many beads misses."""
    exact = frequency / 2 / np.tanh(frequency / (2 * temperature))
    return float(1 - harmonic_energy(RingPolymer(beads, temperature), frequency) / exact)


def beads_needed(frequency: float, temperature: float, missing: float = AUTOMATIC_MISSING, step: int = 1) -> int:
    """The least number of beads, a multiple of `step`, that misses no more than this part of a mode's energy."""
    # Where the mode is in its ground state the missing part is 1 - (1 + (omega / 2 P k_B T)^2)^(-1/2).
    guess = frequency / (2 * temperature) / np.sqrt(1 / (1 - missing) ** 2 - 1)
    beads = step * max(1, int(np.floor(guess / step)))
    while beads > step and missing_energy(beads - step, frequency, temperature) <= missing:
        beads -= step
    while missing_energy(beads, frequency, temperature) > missing:
        beads += step
    return beads


def chosen_beads(asked: int, frequency: float, temperature: float, missing: float = AUTOMATIC_MISSING) -> int:
    """The deck's number of beads, or for 0 the automatic one. frequency: of the stiffest mode.

    Raises InputError for too few beads.
    """
    least = beads_needed(frequency, temperature, LARGEST_MISSING)
    automatic = beads_needed(frequency, temperature, missing, BEAD_STEP)
    if asked == 0:
        return automatic
    if asked < least:
        raise InputError(
            f"too few beads for this temperature: {missing_energy(asked, frequency, temperature):.0%} of the stiffest "
            "mode's zero-point energy would be missing",
            where="dynamics.beads",
            value=asked,
            hint=f"at least {least}; {automatic} is what 0 (automatic) chooses",
        )
    return asked


# -- estimators ----------------------------------------------------------------------------------------------------


def spring_energy(ring: RingPolymer, x: FloatArray, masses: FloatArray) -> FloatArray:
    """(R,): sum_k m omega_k^2 X_k^2 / 2 of beads (N, 3, P R), at P T, in hartree."""
    modes = ring.to_modes(x)
    return np.asarray(0.5 * np.einsum("i,k,ickr,ickr->r", masses, ring.frequencies**2, modes, modes))


def primitive_kinetic(ring: RingPolymer, x: FloatArray, masses: FloatArray) -> FloatArray:
    """(R,) Barker's estimator of the kinetic energy, 3 N P k_B T / 2 - springs / P (J. Chem. Phys. 70, 2914, 1979)."""
    return np.asarray(1.5 * len(masses) * ring.bead_temperature - spring_energy(ring, x, masses) / ring.beads)


def virial_kinetic(ring: RingPolymer, x: FloatArray, forces: FloatArray) -> FloatArray:
    """(R,) virial estimator -sum_p x_p . F_p / 2P, for what is bound to the origin (Herman, Bruskin, Berne, J. Chem.
    Phys. 76, 5150, 1982)."""
    return np.asarray(-0.5 * ring.centroid((x * forces).sum((0, 1))))


def centroid_virial_kinetic(ring: RingPolymer, x: FloatArray, forces: FloatArray, degrees: int) -> FloatArray:
    """(R,) centroid-virial estimator, n k_B T / 2 - sum_p (x_p - centroid) . F_p / 2P, n the centroid's degrees of
    freedom (3 N, less those at rest)."""
    away = ring.split(x) - ring.centroid(x)[:, :, None]
    virial = (away.reshape(x.shape) * forces).sum((0, 1))
    return np.asarray(0.5 * degrees * ring.temperature - 0.5 * ring.centroid(virial))


def heat_capacity(primitive: FloatArray, virial: FloatArray, temperature: float, degrees: int) -> float:
    """C_V / k_B = n/2 + cov(E_primitive, E_centroid-virial) / (k_B T)^2 of total energies (T,) in hartree.

    From d<E_cv>/d beta with the weight's own derivative, -E_primitive (Glaesemann, Fried, J. Chem. Phys. 117, 3020,
    2002).
    """
    return float(degrees / 2 + np.cov(primitive, virial)[0, 1] / temperature**2)
