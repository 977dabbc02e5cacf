"""Averages over trajectories with honest error bars: the plain mean and the control-variate mean.

A trajectory's spectrum scatters mostly because each mode starts with another thermal energy. The time-averaged
kinetic energy of a mode has a known mean, so what it explains of the scatter can be subtracted (control variates:
Owen, Monte Carlo theory, methods and examples, ch. 8.9):

    u_r = y_r - z_r . b_(-r),    estimate = mean of u_r,

with z_r the trajectory's controls less their exact means. The coefficients b_(-r) are a ridge regression over all
trajectories but r, so they are independent of z_r, E[z_r . b_(-r)] = 0, and the estimate is unbiased whatever the
regression is worth; a poor one only gains less. The scatter of the u_r gives the error bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.spectra.controls import SECOND, Controls

FloatArray = NDArray[np.float64]

# Ridge strengths that the cross-validation tries, as fractions of the trajectory count, and prior weights of the
# controls of second order against those of first (0: they are left out).
STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
SECOND_ORDER_WEIGHTS = (0.0, 0.003, 0.01, 0.03, 0.1, 1.0)
# With fewer trajectories than this a regression is not worth its noise.
FEWEST_TRAJECTORIES = 8
# Values within so many cm-1 of each other are regressed together.
BLOCK = 25.0


@dataclass(frozen=True)
class Estimate:
    """Means (K,) of K quantities over R trajectories.

    stderr (K,); terms (R, K), one a trajectory, whose mean is `mean`; plain_stderr (K,) of the plain mean beside it.
    """

    mean: FloatArray
    stderr: FloatArray
    terms: FloatArray
    plain_stderr: FloatArray

    @property
    def gain(self) -> FloatArray:
        """(K,) how many times the variance of the plain mean exceeds this estimate's."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(self.stderr > 0, (self.plain_stderr / self.stderr) ** 2, 1.0))


def standard_error(terms: FloatArray) -> FloatArray:
    """Standard error (K,) of the mean of terms (R, K); not a number for a single trajectory, which shows none."""
    if len(terms) < 2:
        return np.full(terms.shape[1:], np.nan)
    return np.asarray(terms.std(axis=0, ddof=1) / np.sqrt(len(terms)))


def estimate_of(terms: FloatArray, values: FloatArray) -> Estimate:
    """The estimate that terms (R, K) make; values (R, K) are the raw ones of the plain mean (terms may be the
    same)."""
    return Estimate(terms.mean(axis=0), standard_error(terms), terms, standard_error(values))


@dataclass(frozen=True)
class Regression:
    """Ridge regression on one set of controls, factorised so that every strength and every left-out r is cheap.

    With the weighted controls X = 1 c^T + A (c their sample means): A A^T = V diag(S) V^T; lift = V^T A c.
    """

    vectors: FloatArray
    values: FloatArray
    lift: FloatArray

    @classmethod
    def of(cls, deviations: FloatArray, weights: FloatArray) -> Regression:
        """Factorise deviations (R, M) with prior weights (M,), by the smaller of the two Gram matrices."""
        used = weights > 0
        scaled = deviations[:, used] * np.sqrt(weights[used])
        centre = scaled.mean(axis=0)
        centred = scaled - centre
        if centred.shape[1] < len(centred):
            values, right = np.linalg.eigh(centred.T @ centred)
            values = np.maximum(values, 1e-12 * values[-1])
            vectors = centred @ right / np.sqrt(values)
        else:
            values, vectors = np.linalg.eigh(centred @ centred.T)
            values = np.maximum(values, 0.0)
        return cls(vectors, values, vectors.T @ (centred @ centre))

    def terms(self, values: FloatArray, strengths: Sequence[float]) -> FloatArray:
        """Terms u_r (S, R, K) of values (R, K) at S strengths: each with the regression over all trajectories but
        its own.

        Leaving trajectory r out changes the coefficients of [1, x] by -G^-1 x_r e_r / (1 - h_r), with e the
        residuals, h the leverages and G the penalised Gram matrix (Cook, Technometrics 19, 15, 1977), so all R
        regressions follow from the one over all.
        """
        count = len(values)
        inverse = 1 / (self.values + count * np.asarray(strengths)[:, None])
        projected = self.vectors.T @ values
        fitted = self.vectors @ ((self.values * inverse)[:, :, None] * projected)
        shift = (self.lift * inverse) @ projected
        within = (self.values * inverse) @ (self.vectors**2).T
        leverage = within + (self.lift * inverse) @ self.vectors.T
        residual = (values - values.mean(axis=0) - fitted) / (1 - 1 / count - within)[:, :, None]
        return np.asarray(values - fitted - shift[:, None, :] + leverage[:, :, None] * residual)


def terms_reference(values: FloatArray, deviations: FloatArray, weights: FloatArray, strength: float) -> FloatArray:
    """The plain twin of `Regression.terms`: R separate regressions, weights (M,) all above zero."""
    count = len(values)
    terms = np.empty_like(values)
    for left_out in range(count):
        rest = np.arange(count) != left_out
        design = np.c_[np.ones(count - 1), deviations[rest]]
        penalty = np.diag(np.r_[0.0, strength * count / weights])
        coefficients = np.linalg.solve(design.T @ design + penalty, design.T @ values[rest])
        terms[left_out] = values[left_out] - deviations[left_out] @ coefficients[1:]
    return terms


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose: the regression (None: none helps) and its strength; terms (R, K)."""

    regression: Regression | None
    strength: float
    terms: FloatArray

    def apply(self, values: FloatArray) -> FloatArray:
        """The terms (R, K) of other values (R, K) by the same choice: linear in the values, so that sums agree."""
        if self.regression is None:
            return values
        return np.asarray(self.regression.terms(values, [self.strength])[0])


def choose(values: FloatArray, regressions: Sequence[Regression]) -> Choice:
    """The regression and ridge strength whose leave-one-out terms scatter least, in sum over K values (R, K)."""
    best = Choice(None, 0.0, values)
    least = float(values.shape[1])
    variance = values.var(axis=0)
    variance[variance == 0] = 1.0
    for regression in regressions:
        terms = regression.terms(values, STRENGTHS)
        scatter = (terms.var(axis=1) / variance).sum(axis=1)
        lowest = int(np.argmin(scatter))
        if scatter[lowest] < least:
            best, least = Choice(regression, STRENGTHS[lowest], terms[lowest]), float(scatter[lowest])
    return best


class ControlVariates:
    """The control-variate estimator of a set of trajectories: everything is regressed on their controls."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls
        self.orders = SECOND_ORDER_WEIGHTS if np.any(controls.family == SECOND) else SECOND_ORDER_WEIGHTS[:1]

    def choose(self, values: FloatArray, wavenumber: float, orders: Sequence[float] | None = None) -> Choice:
        """The best regression for values (R, K) that belong to one wavenumber in cm-1; orders: weights to try."""
        deviations = self.controls.deviations
        if len(values) < FEWEST_TRAJECTORIES or deviations.shape[1] == 0:
            return Choice(None, 0.0, values)
        weights = [self.controls.weights(wavenumber, order) for order in orders or self.orders]
        return choose(values, [Regression.of(deviations, weight) for weight in weights])

    def curve(self, spectra: FloatArray, wavenumbers: FloatArray) -> FloatArray:
        """Terms (R, F) of spectra (R, F) at wavenumbers (F,), regressed block by block."""
        terms = np.empty_like(spectra)
        # One weight of the second order will do for the first look; within bands the regression is chosen anew.
        orders = (0.1,) if len(self.orders) > 1 else None
        block = np.floor(wavenumbers / BLOCK)
        for index in np.unique(block):
            columns = np.flatnonzero(block == index)
            terms[:, columns] = self.choose(spectra[:, columns], float(wavenumbers[columns].mean()), orders).terms
        return terms
