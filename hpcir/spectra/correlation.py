"""Correlation functions of sampled series: differences, autocorrelation by FFT, windows, cosine transform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError

# Frequencies of one block of the cosine transform: 512 rows of cosines for 20,000 lags take 80 MB.
_TRANSFORM_BLOCK = 512


def _hann(x: FloatArray) -> FloatArray:
    return np.cos(np.pi * x / 2) ** 2


def _gaussian(x: FloatArray) -> FloatArray:
    return np.exp(-0.5 * (3.5 * x) ** 2)


def _blackman(x: FloatArray) -> FloatArray:
    return 0.42 + 0.5 * np.cos(np.pi * x) + 0.08 * np.cos(2 * np.pi * x)


# Window name -> w(x) of x = lag / depth in 0 .. 1, with w(0) = 1 so that band integrals do not depend on it (Harris,
# Proc. IEEE 66, 51, 1978). The Gaussian has a standard deviation of depth / 3.5 and ends at 0.002.
WINDOWS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "hann": _hann,
    "gaussian": _gaussian,
    "blackman": _blackman,
    "none": np.ones_like,
}


def window(name: str, count: int) -> FloatArray:
    """The window (count,) at lags 0 .. count-1, of depth `count` lags (where it would reach zero).

    Raises InputError for a name that is not in WINDOWS.
    """
    if name not in WINDOWS:
        raise InputError(
            "no such window", where="spectrum.window", value=name, hint="valid windows: " + ", ".join(WINDOWS)
        )
    return WINDOWS[name](np.arange(count) / count)


def differences(series: FloatArray, time_between: float) -> FloatArray:
    """Forward differences (T-1, ...) of a series (T, ...), per atomic unit of time: the derivative at half steps.

    A component at angular frequency omega comes out multiplied by `difference_response`, which is undone on the
    frequency axis.
    """
    return np.diff(np.asarray(series, float), axis=0) / time_between


def difference_response(omega: FloatArray, time_between: float) -> FloatArray:
    """The magnitude of `differences` of exp(i omega t): (2/Delta) |sin(omega Delta/2)|; exact below
    Nyquist."""
    return np.asarray(2 / time_between * np.abs(np.sin(omega * time_between / 2)), float)


def autocorrelation(series: FloatArray, lags: int) -> FloatArray:
    """Autocorrelation (lags, R) of vector series (T, D, R), summed over the D components, at lags 0 .. lags-1.

    C(k) = 1/(T-k) sum_t s(t).s(t+k): the unbiased normalisation. Its expectation is the true correlation at every
    lag, so a line has the width of the window alone, whatever the length of the trajectory; the biased one (1/T)
    would multiply a triangle into the window. The larger scatter of long lags is what the window's depth is for.
    Computed by FFT with zeros appended, so that nothing wraps around (Wiener-Khinchin).
    """
    from scipy.fft import irfft, next_fast_len, rfft

    length = len(series)
    size = next_fast_len(length + lags - 1, real=True)
    transform = rfft(series, size, axis=0)
    power = (transform.real**2 + transform.imag**2).sum(axis=1)
    return np.asarray(irfft(power, size, axis=0)[:lags] / (length - np.arange(lags))[:, None], float)


def autocorrelation_reference(series: FloatArray, lags: int) -> FloatArray:
    """The plain twin of `autocorrelation`: the direct sum."""
    length = len(series)
    return np.array([(series[: length - k] * series[k:]).sum(axis=(0, 1)) / (length - k) for k in range(lags)])


def crosscorrelation(first: FloatArray, second: FloatArray, lags: int) -> FloatArray:
    """Even part (lags, ...) of the unbiased cross-correlation of vector series (T, D, ...), summed over the D
    components.

    C(k) = 1/(2(T-k)) sum_t [a(t).b(t+k) + b(t).a(t+k)]. Bilinear, and equal to `autocorrelation` for equal series, so
    the correlations of parts add up to that of the whole. Leading axes broadcast after T and D.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    length = len(first)
    size = next_fast_len(length + lags - 1, real=True)
    a, b = rfft(first, size, axis=0), rfft(second, size, axis=0)
    power = (a.real * b.real + a.imag * b.imag).sum(axis=1)
    norm = (length - np.arange(lags)).reshape((-1,) + (1,) * (power.ndim - 1))
    return np.asarray(irfft(power, size, axis=0)[:lags] / norm, float)


def cosine_transform(
    correlation: FloatArray, weights: FloatArray, omega: FloatArray, time_between: float
) -> FloatArray:
    """Integral over all t of C(t) w(t) exp(-i omega t) dt, (F, ...), of an even C (lags, ...) at any omega (F,).

    Delta [C(0) w(0) + 2 sum_k C(k) w(k) cos(omega k Delta)]. It is evaluated at the frequencies requested
    (as a matrix product), so no interpolation follows; a grid finer than pi/depth is what zero padding would give.
    """
    weighted = 2 * time_between * correlation * weights.reshape((-1,) + (1,) * (correlation.ndim - 1))
    weighted[0] /= 2
    flat = weighted.reshape(len(weighted), -1)
    times = np.arange(len(flat)) * time_between
    blocks = [
        np.cos(np.outer(omega[start : start + _TRANSFORM_BLOCK], times)) @ flat
        for start in range(0, len(omega), _TRANSFORM_BLOCK)
    ]
    return np.asarray(np.concatenate(blocks).reshape((len(omega), *correlation.shape[1:])), float)
