"""Rotational contours of the gas phase on bands that were computed without rotation.

The dipole of a band is fixed in the molecule, which turns as a free rigid rotor: the band's line shape is the transform
of C_a(t) = <e_a(0).e_a(t)> for each principal axis a (Gordon, J. Chem. Phys. 43, 1307, 1965), with classical rotors, as
dynamics with rotation has them. Their P and R branches are sqrt(8 B kT / hc) apart for a linear molecule. Multiplied by
exp(hc offset / 2kT) (Schofield, Phys. Rev. Lett. 4, 239, 1960), R branches are stronger than P branches as those of
quantum rotors are, and a band's centroid is above its origin by the sum of the rotational constants about the axes
across the dipole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.spectra.bands import Band
from hpcir.spectra.spectrum import Spectrum
from hpcir.units import PER_CM

ROTORS, STEP = 4096, 0.1
"""Rotors of the thermal average, and the step of their motion in units of 1 / sqrt(kT / smallest moment of inertia)."""

# A smallest moment of inertia below this fraction of the largest is that of a line.
LINEAR = 1e-4
# The contour ends where it has nothing left: this many times the rotors' root mean square angular velocity.
REACH = 6.0


@dataclass(frozen=True)
class RotationalContour:
    """Line shapes of unit sum at offsets (G,) in cm-1 for dipoles along the three principal axes (3, G), by ascending
    moment of inertia; resolution in cm-1 (full width at half height of a Gaussian), temperature kT in hartree."""

    offsets: FloatArray
    shapes: FloatArray
    resolution: float
    temperature: float


def principal_axes(positions: FloatArray, masses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Moments of inertia (3,) in electron masses bohr^2, ascending, and the axes as rows (3, 3); positions (N, 3)."""
    relative = positions - masses @ positions / masses.sum()
    outer = np.einsum("i,ia,ib->ab", masses, relative, relative)
    moments, vectors = np.linalg.eigh(np.trace(outer) * np.eye(3) - outer)
    return moments, vectors.T


def rotor_correlation(moments: FloatArray, temperature: float, times: FloatArray, rotors: int = ROTORS) -> FloatArray:
    """C_a(t) (3, T) of free classical rotors with moments of inertia (3,) ascending, kT in hartree, at uniform times
    (T,) from 0 in atomic units. A vanishing first moment is that of a linear molecule, which does not turn about it."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    if moments[0] <= LINEAR * moments[2]:
        # All turn about fixed axes across their own, at the speeds of a Rayleigh distribution.
        speeds = np.sqrt(-2 * np.log((np.arange(rotors) + 0.5) / rotors) * temperature / moments[2])
        along = np.cos(np.outer(times, speeds)).mean(1)
        return np.array([along, 0.5 * (1 + along), 0.5 * (1 + along)])
    inertia = moments
    omega = ndtri(qmc.Sobol(3, seed=1).random(rotors)) * np.sqrt(temperature / inertia)
    fastest = float(np.sqrt(temperature / inertia.min()))
    spacing = float(times[1] - times[0])
    inner = max(1, int(np.ceil(spacing * fastest / STEP)))
    step = spacing / inner
    frames = np.repeat(np.eye(3)[None], rotors, 0)
    result = np.ones((3, len(times)))
    for index in range(1, len(times)):
        for _ in range(inner):
            half = _turned(omega, inertia, 0.5 * step)
            frames = frames @ _rotation(half * step)
            omega = _turned(half, inertia, 0.5 * step)
        result[:, index] = np.diagonal(frames, axis1=1, axis2=2).mean(0)
    return result


def _turned(omega: FloatArray, inertia: FloatArray, step: float) -> FloatArray:
    """Angular velocities (R, 3) in the body after a step of Euler's equations (fourth-order Runge-Kutta)."""
    factors = np.array([inertia[1] - inertia[2], inertia[2] - inertia[0], inertia[0] - inertia[1]]) / inertia

    def slope(w: FloatArray) -> FloatArray:
        return np.asarray(factors * np.column_stack([w[:, 1] * w[:, 2], w[:, 2] * w[:, 0], w[:, 0] * w[:, 1]]))

    first = slope(omega)
    second = slope(omega + 0.5 * step * first)
    third = slope(omega + 0.5 * step * second)
    return omega + step / 6 * (first + 2 * second + 2 * third + slope(omega + step * third))


def _rotation(angles: FloatArray) -> FloatArray:
    """Rotation matrices (R, 3, 3) by vectors of angle (R, 3), Rodrigues."""
    size = np.sqrt((angles**2).sum(1))
    axis = angles / np.maximum(size, 1e-300)[:, None]
    skew = np.zeros((len(angles), 3, 3))
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    skew -= skew.transpose(0, 2, 1)
    return np.asarray(
        np.eye(3) + np.sin(size)[:, None, None] * skew + (1 - np.cos(size))[:, None, None] * (skew @ skew)
    )


def rigid_rotor_contour(
    moments: FloatArray, temperature: float, spacing: float, resolution: float
) -> RotationalContour:
    """Contours of a rigid rotor with moments of inertia (3,) ascending in electron masses bohr^2, at kT in hartree, on
    a grid of `spacing` cm-1, seen by an instrument of `resolution` cm-1."""
    turning = moments > LINEAR * moments[2]
    fastest = float(np.sqrt(temperature / moments[turning].min())) / PER_CM
    reach = REACH * fastest + 3 * resolution
    half = int(np.ceil(reach / spacing))
    offsets = np.asarray(spacing * np.arange(-half, half + 1), float)
    # exp(-(pi c resolution t)^2 / (4 ln 2)) is the transform of the instrument's Gaussian.
    decay = (0.5 * resolution * PER_CM) ** 2 / (4 * np.log(2))
    last = np.sqrt(18.0 / decay)
    step = np.pi / (2.5 * reach * PER_CM)
    times = np.asarray(step * np.arange(int(last / step) + 2), float)
    correlation = rotor_correlation(moments, temperature, times) * np.exp(-decay * times**2)
    weights = np.full(len(times), step)
    weights[0] *= 0.5
    shapes = (correlation * weights) @ np.cos(np.outer(times, offsets * PER_CM))
    shapes = np.maximum(shapes, 0.0) * np.exp(0.5 * offsets * PER_CM / temperature)
    return RotationalContour(offsets, shapes / shapes.sum(1, keepdims=True), resolution, temperature)


def with_contour(spectrum: Spectrum, contour: RotationalContour, directions: FloatArray) -> Spectrum:
    """The spectrum with each point spread into the contours of its dipole's directions (F, 3), whose rows add up to 1;
    the integral is kept. Bands move as their contours' centroids do."""
    parts = np.nan_to_num(spectrum.absorption)[:, None] * directions
    absorption = np.zeros(len(spectrum.wavenumbers))
    for axis in range(3):
        spread = np.convolve(parts[:, axis], contour.shapes[axis])
        half = len(contour.offsets) // 2
        absorption += spread[half : half + len(absorption)]
    means = contour.shapes @ contour.offsets
    bands = tuple(_moved(band, float(directions[_point(spectrum, band)] @ means)) for band in spectrum.bands)
    return replace(spectrum, absorption=absorption, bands=bands, terms=None, plain=None, weights=None)


def _point(spectrum: Spectrum, band: Band) -> int:
    """The grid point of a band's position."""
    place = int(np.searchsorted(spectrum.wavenumbers, band.position_per_cm))
    return min(place, len(spectrum.wavenumbers) - 1)


def _moved(band: Band, offset: float) -> Band:
    """A band with its position and limits moved by an offset in cm-1."""
    return replace(
        band,
        position_per_cm=band.position_per_cm + offset,
        peak_per_cm=band.peak_per_cm + offset,
        lower_per_cm=band.lower_per_cm + offset,
        upper_per_cm=band.upper_per_cm + offset,
    )


def dipole_directions(
    contributions: FloatArray, mode_dipoles: FloatArray, axes: FloatArray, width: int = 5
) -> FloatArray:
    """(F, 3): shares of the principal axes (rows of axes) in the dipole at each wavenumber.

    contributions (M + 1, F): of M modes to a spectrum, and what they leave, which counts as evenly spread; mode_dipoles
    (M, 3) in the frame of the axes; width: points over which contributions are averaged.
    """
    squares = (mode_dipoles @ axes.T) ** 2
    totals = squares.sum(1, keepdims=True)
    shares = np.where(totals > 0, squares / np.where(totals > 0, totals, 1.0), 1 / 3)
    shares = np.vstack([shares, np.full((1, 3), 1 / 3)])
    kernel = np.ones(width) / width
    smooth = np.array([np.convolve(row, kernel, mode="same") for row in np.maximum(np.nan_to_num(contributions), 0.0)])
    weights = smooth + 1e-6 * max(float(smooth.max(initial=0.0)), 1e-300) / len(smooth)
    return np.asarray((weights / weights.sum(0)).T @ shares)
