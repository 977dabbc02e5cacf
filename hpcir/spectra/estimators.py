"""Averages over trajectories with honest error bars: the plain mean and the control-variate mean.

A trajectory's spectrum scatters mostly because each mode starts with another thermal energy. Controls z (`controls`)
have known means (0), so what they explain of the scatter can be subtracted (Owen, Monte Carlo theory, methods and
examples, ch. 8.9):

    u_r = y_r - z_r . b_(-r),    estimate = mean of u_r.

The coefficients b_(-r), and the choice of how strongly they are shrunk and which controls count, come from the
trajectories of other folds than r's alone. They are thus independent of z_r, E[z_r . b_(-r)] = 0, and the estimate is
unbiased whatever the regression is worth; a poor one only gains less. The scatter of the u_r gives the error bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.spectra.controls import CURVE_PRIORS, Controls, Prior

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Ridge strengths that the cross-validation tries, as fractions of the trajectory count.
STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
# Most controls for the curve outside bands, where speed counts.
CURVE_CONTROLS = 100
# With fewer trajectories than this a regression is not worth its noise.
FEWEST_TRAJECTORIES = 8
# Folds of the trajectories.
FOLDS = 8
# Most effective coefficients, as a part of the trajectories that they are fitted to.
MOST_FREEDOM = 1 / 3
# Values within so many cm-1 of each other are regressed together.
BLOCK = 25.0


def standard_error(terms: FloatArray) -> FloatArray:
    """Standard error (K,) of the mean of terms (R, K); not a number for a single trajectory, which shows none."""
    if len(terms) < 2:
        return np.full(terms.shape[1:], np.nan)
    return np.asarray(terms.std(axis=0, ddof=1) / np.sqrt(len(terms)))


@dataclass(frozen=True)
class Regression:
    """Ridge regression on one set of controls, factorised so that every strength and every left-out r is cheap.

    With the weighted controls X = 1 c^T + A (c their sample means): A A^T = V diag(S) V^T; lift = V^T A c; used: which
    controls, scale: the roots of their weights; directions = A^T V.
    """

    vectors: FloatArray
    values: FloatArray
    lift: FloatArray
    scale: FloatArray
    directions: FloatArray
    used: IntArray

    @classmethod
    def of(cls, deviations: FloatArray, weights: FloatArray, used: IntArray | None = None) -> Regression:
        """Factorise deviations (R, C), or the `used` columns of them, with prior weights, by the smaller Gram
        matrix."""
        used = np.arange(deviations.shape[1]) if used is None else used
        scale = np.sqrt(weights)
        scaled = deviations[:, used] * scale
        centre = scaled.mean(axis=0)
        centred = scaled - centre
        if centred.shape[1] < len(centred):
            values, right = np.linalg.eigh(centred.T @ centred)
            values = np.maximum(values, 1e-12 * values[-1])
            vectors = centred @ right / np.sqrt(values)
        else:
            values, vectors = np.linalg.eigh(centred @ centred.T)
            values = np.maximum(values, 0.0)
        directions = centred.T @ vectors
        return cls(vectors, values, directions.T @ centre, scale, directions, used)

    def freedom(self, strengths: Sequence[float]) -> FloatArray:
        """Effective number of coefficients (S,) at S strengths: the trace of the regression's hat matrix."""
        penalty = len(self.vectors) * np.asarray(strengths)[:, None]
        return np.asarray((self.values / (self.values + penalty)).sum(axis=1))

    def predictor(self, deviations: FloatArray, strength: float) -> FloatArray:
        """Matrix (T, R) that turns values (R,) into the explained parts z . b (T,) for other deviations (T, C)."""
        inverse = 1 / (self.values + len(self.vectors) * strength)
        matrix = ((deviations[:, self.used] * self.scale) @ self.directions * inverse) @ self.vectors.T
        return np.asarray(matrix - matrix.mean(axis=1, keepdims=True))

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
    """A cross-fitted regression: matrix (R, R) turns the values of all trajectories into each one's explained part,
    from the values of other folds alone; freedom: the effective number of its coefficients."""

    matrix: FloatArray
    freedom: float

    @property
    def weights(self) -> FloatArray:
        """Weights (R,) of the trajectories in the estimate: the mean of `terms` of any values is weights @ values."""
        return np.asarray((1 - self.matrix.sum(axis=0)) / len(self.matrix))

    def terms(self, values: FloatArray) -> FloatArray:
        """Terms (R, K) of values (R, K), linear in the values.

        Their scatter about the mean is widened by sqrt(1 + 2 freedom / R): the coefficients' noise is common to
        terms of different folds and does not show in it. The factor is what coverage tests ask for.
        """
        terms = values - self.matrix @ values
        mean = terms.mean(axis=0)
        return np.asarray(mean + np.sqrt(1 + 2 * self.freedom / len(values)) * (terms - mean))


def best_strength(values: FloatArray, regressions: Sequence[Regression]) -> tuple[Regression, float] | None:
    """The regression and strength whose leave-one-out terms scatter least, in sum over K values (R, K).

    None where none is better than no regression. Strengths with more freedom than MOST_FREEDOM are not tried.
    """
    best = None
    variance = values.var(axis=0)
    variance[variance == 0] = 1.0
    least = float((values.var(axis=0) / variance).sum())
    for regression in regressions:
        allowed = regression.freedom(STRENGTHS) <= MOST_FREEDOM * len(values)
        strengths = [strength for strength, fits in zip(STRENGTHS, allowed, strict=True) if fits]
        if len(strengths) == 0:
            continue
        scatter = (regression.terms(values, strengths).var(axis=1) / variance).sum(axis=1)
        lowest = int(np.argmin(scatter))
        if scatter[lowest] < least:
            best, least = (regression, float(strengths[lowest])), float(scatter[lowest])
    return best


class ControlVariates:
    """The control-variate estimator of a set of trajectories: everything is regressed on their controls."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls
        count = len(controls.deviations)
        self.priors = controls.priors()
        # Neighbours go to different folds: starts may have been made in some order.
        self.folds = [np.arange(count) % FOLDS == fold for fold in range(min(FOLDS, count))]

    def regressions(
        self, wavenumber: float, priors: Sequence[Prior] | None = None, most: int | None = None
    ) -> list[list[Regression]]:
        """For every fold, the regressions on the other folds' trajectories, one a prior; `most` controls in each."""
        deviations = self.controls.deviations
        if len(deviations) < FEWEST_TRAJECTORIES or deviations.shape[1] == 0:
            return []
        sets = []
        for prior in priors or self.priors:
            weights = self.controls.weights(wavenumber, prior)
            used = np.argsort(-weights, kind="stable")[:most]
            used = used[weights[used] > 0]
            if len(used):
                sets.append((used, weights[used]))
        return [[Regression.of(deviations[~fold], weights, used) for used, weights in sets] for fold in self.folds]

    def choose(self, values: FloatArray, regressions: Sequence[Sequence[Regression]]) -> Choice:
        """The cross-fitted regression for values (R, K): every fold's is chosen on the other folds."""
        count = len(values)
        matrix = np.zeros((count, count))
        freedom = 0.0
        for fold, candidates in zip(self.folds, regressions, strict=bool(regressions)):
            found = best_strength(values[~fold], candidates)
            if found is not None:
                regression, strength = found
                matrix[np.ix_(fold, ~fold)] = regression.predictor(self.controls.deviations[fold], strength)
                freedom += float(regression.freedom([strength])[0]) / len(self.folds)
        return Choice(matrix, freedom)

    def curve(self, spectra: FloatArray, wavenumbers: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Terms (R, F) of spectra (R, F) at wavenumbers (F,), regressed block by block, and `Choice.weights` (R, F)."""
        terms, weights = np.empty_like(spectra), np.empty_like(spectra)
        block = np.floor(wavenumbers / BLOCK)
        for index in np.unique(block):
            columns = np.flatnonzero(block == index)
            middle = float(wavenumbers[columns].mean())
            regressions = self.regressions(middle, CURVE_PRIORS, CURVE_CONTROLS)
            choice = self.choose(spectra[:, columns], regressions)
            terms[:, columns], weights[:, columns] = choice.terms(spectra[:, columns]), choice.weights[:, None]
        return terms, weights
