"""Per-trajectory absorption spectra in km/mol per cm-1 from dipole series.

A(nu) = N_A / (6 eps0 c kB T) Re integral <mudot(0).mudot(t)> w(t) exp(-2 pi i c nu t) dt over all t: the napierian
molar absorption coefficient integrated over ln, of classical dynamics with the harmonic quantum correction (McQuarrie,
Statistical Mechanics, ch. 21; Thomas et al., Phys. Chem. Chem. Phys. 15, 6608, 2013). A harmonic mode integrates to
N_A/(12 eps0 c^2) |dmu/dQ|^2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import SpectrumSettings
from hpcir.errors import InputError
from hpcir.spectra.correlation import (
    autocorrelation,
    cosine_transform,
    difference_response,
    differences,
    window,
)
from hpcir.units import FS, KM_PER_MOL_PER_E2_ME, PER_CM, PS


def _none(x: FloatArray) -> FloatArray:
    return -np.expm1(-x) / x


def _standard(x: FloatArray) -> FloatArray:
    return 2 / x * np.tanh(x / 2)


def _schofield(x: FloatArray) -> FloatArray:
    return 2 / x * np.sinh(x / 2)


# Name -> factor on the design's absorption, as a function of x = h c nu / kT > 0; each tends to 1 for x -> 0.
# Absorption is omega (1 - exp(-x)) times the quantum dipole correlation's spectrum, which is replaced by Q(x) times
# the classical one (Ramirez, Lopez-Ciudad, Kumar, Marx, J. Chem. Phys. 121, 3973, 2004, table I):
#   harmonic   Q = x / (1 - exp(-x))   factor 1; exact for harmonic modes with linear dipoles
#   none       Q = 1                   factor (1 - exp(-x)) / x
#   standard   Q = 2 / (1 + exp(-x))   factor (2/x) tanh(x/2)
#   schofield  Q = exp(x / 2)          factor (2/x) sinh(x/2)   (Schofield, Phys. Rev. Lett. 4, 239, 1960)
QUANTUM_CORRECTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "harmonic": np.ones_like,
    "none": _none,
    "standard": _standard,
    "schofield": _schofield,
}


def quantum_correction(name: str, wavenumbers: FloatArray, temperature: float) -> FloatArray:
    """Factor (F,) on the harmonically corrected absorption at wavenumbers (F,) in cm-1; temperature kT in hartree.

    Raises InputError for a name that is not in QUANTUM_CORRECTIONS.
    """
    if name not in QUANTUM_CORRECTIONS:
        raise InputError(
            "no such quantum correction",
            where="spectrum.quantum_correction",
            value=name,
            hint="valid: " + ", ".join(QUANTUM_CORRECTIONS),
        )
    # Below 1e-6 every factor is 1 to rounding, and 0/0 is avoided.
    x = np.maximum(np.asarray(wavenumbers, float) * PER_CM / temperature, 1e-6)
    return QUANTUM_CORRECTIONS[name](x)


def wavenumber_grid(settings: SpectrumSettings) -> FloatArray:
    """The uniform grid (F,) in cm-1 of the spectrum.

    The spacing is the largest of 1, 2, 2.5, 5 (times a power of ten) that does not exceed 1/(2 c depth
    zero_padding), the spacing of a transform padded that many times.
    """
    first, last = float(settings.first), float(settings.last)
    if last <= first:
        raise InputError(
            "the last wavenumber of the spectrum is not above the first",
            where="spectrum.last",
            value=f"{settings.last:g} cm-1",
            hint=f"spectrum.first is {settings.first:g} cm-1",
        )
    limit = np.pi / (settings.depth * settings.zero_padding * PER_CM)
    power = 10.0 ** np.floor(np.log10(limit))
    spacing = max(step * power for step in (1, 2, 2.5, 5) if step * power <= limit * (1 + 1e-12))
    count = int(np.floor((last - first) / spacing * (1 + 1e-12))) + 1
    return np.asarray(first + spacing * np.arange(count))


def observed_frequency(omega: FloatArray, timestep: float) -> FloatArray:
    """Angular frequency at which velocity Verlet of this timestep shows a mode of true frequency omega.

    omega_true = (2/dt) sin(omega_observed dt/2), exact for a harmonic mode (Hairer, Lubich, Wanner, Geometric Numerical
    Integration, sec. I.1.5); for an anharmonic mode a few per cent of the correction remain. Raises InputError above
    the integrator's stability limit, omega dt = 2.
    """
    half = np.asarray(omega, float) * timestep / 2
    if np.any(half >= 1):
        raise InputError(
            "the spectrum reaches beyond what this timestep can integrate",
            where="spectrum.last",
            value=f"{np.max(omega) / PER_CM:.0f} cm-1",
            hint=f"with a timestep of {timestep / FS:g} fs the limit is {2 / timestep / PER_CM:.0f} cm-1",
        )
    return np.asarray(2 / timestep * np.arcsin(half), float)


def kinetic_means(wavenumbers: FloatArray, timestep: float | None, temperature: float) -> FloatArray:
    """Mean kinetic energy (M,) in hartree of harmonic modes, from full-step velocities of velocity Verlet.

    kT/2 (1 - (omega dt/2)^2): the exact mean where the positions are canonical, as after BAOAB equilibration, whose
    positions are exact for harmonic modes at any timestep (Leimkuhler, Matthews, J. Chem. Phys. 138, 174102, 2013).
    Half step velocities average to kT/2 instead: pass timestep None for them, and for exact dynamics.
    """
    shrink = 0.0 if timestep is None else (np.asarray(wavenumbers, float) * PER_CM * timestep / 2) ** 2
    return np.full(np.shape(wavenumbers), temperature / 2 * (1 - shrink))


def spectrum_axis(
    wavenumbers: FloatArray, time_between: float, timestep: float | None, differenced: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Angular frequencies (F,) at which to transform for true wavenumbers (F,), and the factors (F,) of the result.

    The factor has two parts: [omega_true / response]^2 turns differences into derivatives (and into those of the
    exact trajectory), d omega_observed / d omega_true keeps band integrals on the new axis.
    """
    omega = np.asarray(wavenumbers, float) * PER_CM
    observed = omega if timestep is None else observed_frequency(omega, timestep)
    if observed[-1] * time_between > np.pi:
        raise InputError(
            "the dipole series is too coarse for the last wavenumber of the spectrum",
            where="spectrum.last",
            value=f"{wavenumbers[-1]:.0f} cm-1",
            hint=f"dipoles every {time_between / FS:g} fs show frequencies up to "
            f"{np.pi / time_between / PER_CM:.0f} cm-1: take them more often (dynamics.dipole_every) "
            "or end the spectrum earlier",
        )
    derivative = np.ones(len(omega))
    if differenced:
        response = difference_response(observed, time_between)
        np.divide(omega**2, response**2, out=derivative, where=omega > 0)
    jacobian = 1.0 if timestep is None else 1 / np.cos(observed * timestep / 2)
    return observed, derivative * jacobian


def correlation_lags(length: int, time_between: float, settings: SpectrumSettings) -> int:
    """Lags to the window's end for a difference series of this length; InputError when the series is shorter."""
    lags = max(1, round(settings.depth / time_between))
    if lags > length:
        raise InputError(
            f"the dipole series is shorter ({length * time_between / PS:.3g} ps) than the correlation depth",
            where="spectrum.depth",
            value=f"{settings.depth / PS:.3g} ps",
            hint="use longer trajectories or a smaller depth",
        )
    return lags


def correlation_to_absorption(
    correlation: FloatArray,
    time_between: float,
    timestep: float | None,
    temperature: float,
    settings: SpectrumSettings,
    differenced: bool = True,
) -> FloatArray:
    """Absorption (F, ...) in km/mol per cm-1 of correlations (lags, ...) of dipole differences, on
    `wavenumber_grid`."""
    wavenumbers = wavenumber_grid(settings)
    verlet = timestep if settings.timestep_correction else None
    omega, factor = spectrum_axis(wavenumbers, time_between, verlet, differenced)
    factor = factor * quantum_correction(settings.quantum_correction, wavenumbers, temperature)
    factor = factor * KM_PER_MOL_PER_E2_ME / temperature * PER_CM / np.pi
    transform = cosine_transform(correlation, window(settings.window, len(correlation)), omega, time_between)
    return np.asarray(factor.reshape((-1,) + (1,) * (correlation.ndim - 1)) * transform)


def trajectory_spectra(
    dipoles: FloatArray,
    time_between: float,
    timestep: float | None,
    temperature: float,
    settings: SpectrumSettings,
) -> FloatArray:
    """The spectrum (R, F) in km/mol per cm-1 of every trajectory, on `wavenumber_grid(settings)`.

    dipoles (T, 3, R) in e bohr, sampled every `time_between` (atomic time); timestep: velocity Verlet's (None: exact
    dynamics, no correction of its frequencies); temperature kT in hartree. Components are summed, nothing is
    normalised. Raises InputError for a series that is too short or too coarse for the settings.
    """
    dipoles = np.asarray(dipoles, float)
    if dipoles.ndim != 3 or dipoles.shape[1] != 3:
        raise InputError("dipole series must have the shape (times, 3, trajectories)", value=dipoles.shape)
    lags = correlation_lags(len(dipoles) - 1, time_between, settings)
    correlation = autocorrelation(differences(dipoles, time_between), lags)
    return np.asarray(correlation_to_absorption(correlation, time_between, timestep, temperature, settings).T)
