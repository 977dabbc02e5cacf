"""Averages over trajectories with honest error bars: the plain mean and the control-variate mean.

A trajectory's spectrum scatters mostly because each mode starts with another thermal energy. Controls z (`controls`)
have known means (0), so what they explain of the scatter can be subtracted (Owen, Monte Carlo theory, methods and
examples, ch. 8.9):

    u_r = y_r - z_r . b_(-r),    estimate = mean of u_r.

The coefficients b_(-r), and the choice of how strongly they are shrunk and which controls count, come from the
trajectories of other folds than r's alone. They are thus independent of z_r, E[z_r . b_(-r)] = 0, and the estimate is
unbiased whatever the regression is worth; a poor one only gains less. The scatter of the u_r gives the error bar.

A band's integral depends on few of the many controls, and sharply: a sparse regression (`sparse`) finds them. The curve
is regressed frequency by frequency, each as strongly as its own left-out scatter allows: what explains an integral
may be noise at a single frequency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.spectra.controls import CURVE_START, Controls
from hpcir.spectra.sparse import relevance

# Ridge strengths that are tried at each point of the curve, as fractions of the trajectory count.
STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
# Least number of trajectories for a regression; with fewer its noise outweighs its gain.
MIN_TRAJECTORIES = 8
# Folds of the trajectories.
FOLD_COUNT = 8
# Most effective coefficients, as a part of the trajectories that they are fitted to.
MAX_FREEDOM = 1 / 4
# Increase of the variance by an effective coefficient, over the number of trajectories; and its factor where the
# controls were selected by the same trajectories.
COEFFICIENT_VARIANCE = 2.0
SELECTION_FACTOR = 2.0
# Largest residual fraction of the variance of a sparse regression that is used: one selected among many controls looks
# better than it is on the trajectories that it was selected by.
MAX_RESIDUAL = 0.5
# Distance of the curve's regressions in cm-1: a few resolutions.
CURVE_WINDOW = 50.0
# The probability of a normal number within two standard deviations; the part that a relative error adds to its own
# square where the values are skewed, and the largest relative error that it is meant for.
TWO_SIGMA = 0.9545
SKEWNESS, MAX_RELATIVE = 10.0, 1.0
# 2.5 times the square of the skewness of the contributions to a centroid.
SHIFTS = 2.5 * 18
# Most controls for the curve, where speed counts.
MAX_CURVE_CONTROLS = 100


def stated_error(terms: FloatArray, freedom: float | FloatArray = 0.0, positive: bool = False) -> FloatArray:
    """The error (K,) that is stated for the mean of terms (R, K): twice of it holds the mean in 95 % of the cases, from
    few trajectories too.

    The standard error times `small_sample_factor`. positive: the values are intensities, whose distributions are skewed
    the more, the wider they are; `skewness_factor` then.
    """
    error = standard_error(terms)
    error = error * small_sample_factor(len(terms), freedom)
    return np.asarray(error * skewness_factor(error, terms.mean(axis=0))) if positive else np.asarray(error)


def small_sample_factor(count: int, freedom: float | FloatArray = 0.0) -> FloatArray:
    """The quantile of Student's t at two standard deviations of a normal distribution, over two.

    The degrees of freedom are count - 1 less those that the regression's `freedom` coefficients took, and two at least:
    a standard error from one is no error at all.
    """
    from scipy.special import stdtrit

    left = np.maximum(count - 1.0 - np.asarray(freedom), min(2.0, max(count - 1.0, 1.0)))
    return np.asarray(stdtrit(left, 0.5 + 0.5 * TWO_SIGMA) / 2)


def skewness_factor(error: FloatArray, mean: FloatArray) -> FloatArray:
    """sqrt(1 + 10 (error / mean)^2) for the means of positive, skewed quantities such as intensities.

    A mean that is low by chance has a scatter that is low, too, so that its interval misses the upper side: that of 8
    exponential values, the energies of a mode, covers 90 % with Student's t. For gamma distributions, whose skewness is
    twice the relative scatter, the factor makes that 94 to 96 % from 8 values on.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(mean > 0, error / np.where(mean > 0, mean, 1.0), 0.0)
    return np.asarray(np.sqrt(1 + SKEWNESS * np.minimum(relative, MAX_RELATIVE) ** 2))


def shift_factor(count: int) -> float:
    """sqrt(1 + 45 / count), for centroids of bands.

    A trajectory's part in a centroid is its intensity times its line's distance from the mean, e_m (e_n - 1) for a mode
    m that the energy of another one moves: of skewness 3 sqrt(2), whose square times 2.5 over the number of values is
    what Student's t misses (as for exponential values, of skewness 2).
    """
    return float(np.sqrt(1 + SHIFTS / count))


def standard_error(terms: FloatArray) -> FloatArray:
    """Standard error (K,) of the mean of terms (R, K); not a number for a single trajectory, which shows none."""
    if len(terms) < 2:
        return np.full(terms.shape[1:], np.nan)
    return np.asarray(terms.std(axis=0, ddof=1) / np.sqrt(len(terms)))


@dataclass(frozen=True)
class Regression:
    """Ridge regression on one set of controls, factorised so that every strength and every left-out r is cheap.

    With the weighted controls X = 1 c^T + A (c their sample means): A A^T = V diag(S) V^T; lift = V^T A c; used: the
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

    def best_strength(self, values: FloatArray, shares: FloatArray) -> float:
        """The strength of STRENGTHS whose leave-one-out terms of values (R, K) scatter least, in sum over columns with
        shares (K,); infinite where none scatters less than the values. Strengths with more freedom than MAX_FREEDOM
        are not tried."""
        allowed = self.freedom(STRENGTHS) <= MAX_FREEDOM * len(values)
        strengths = np.r_[np.array(STRENGTHS)[allowed], np.inf]
        scatter = np.r_[self.terms(values, strengths[:-1]).var(axis=1) @ shares, values.var(axis=0) @ shares]
        return float(strengths[scatter.argmin()])

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


@dataclass
class Choice:
    """A cross-fitted regression: matrix (R, R) turns the values of all trajectories into each one's explained part,
    from the values of other folds alone; freedom: the effective number of its coefficients."""

    matrix: FloatArray
    freedom: float

    @classmethod
    def none(cls, count: int) -> Choice:
        """One that explains nothing."""
        return cls(np.zeros((count, count)), 0.0)

    def add(
        self, deviations: FloatArray, fold: BoolArray, regression: Regression, strength: float, share: float = 1.0
    ) -> None:
        """Let the regression on all trajectories but those of a fold (R,) explain that fold, times `share`."""
        self.matrix[np.ix_(fold, ~fold)] += share * regression.predictor(deviations[fold], strength)
        self.freedom += share * float(fold.mean()) * float(regression.freedom([strength])[0])

    @property
    def weights(self) -> FloatArray:
        """Weights (R,) of the trajectories in the estimate: the mean of `terms` of any values is weights @ values."""
        return np.asarray((1 - self.matrix.sum(axis=0)) / len(self.matrix))

    def terms(self, values: FloatArray) -> FloatArray:
        """Terms (R, K) of values (R, K), linear in the values, `widened`."""
        return widened(values - self.matrix @ values, self.freedom)


def widened(terms: FloatArray, freedom: float | FloatArray) -> FloatArray:
    """Terms (R, K) with their scatter about the mean widened by sqrt(`widening`)."""
    mean = terms.mean(axis=0)
    return np.asarray(mean + np.sqrt(widening(freedom, len(terms))) * (terms - mean))


def widening(freedom: float | FloatArray, count: int) -> Any:
    """The factor from the scatter of `count` terms to the estimate's variance: 1 + 2 freedom / count.

    The coefficients' noise is common to terms of different folds and does not show in their scatter. The factor is what
    coverage tests ask for.
    """
    return 1 + COEFFICIENT_VARIANCE * freedom / count


class ControlVariates:
    """The control-variate estimator of a set of trajectories: everything is regressed on their controls."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls
        count = len(controls.deviations)
        # Neighbours go to different folds: starts may have been made in some order.
        self.folds = [np.arange(count) % FOLD_COUNT == fold for fold in range(min(FOLD_COUNT, count))]
        if count < MIN_TRAJECTORIES or controls.deviations.shape[1] == 0:
            self.folds = []

    def choose(self, values: FloatArray, wavenumber: float) -> Choice:
        """The cross-fitted regression for values (R, K) of a band at a wavenumber in cm-1: for every fold the mean of
        sparse regressions on the other folds, which begin with different priors."""
        deviations = self.controls.deviations
        starts = self.controls.starts(wavenumber)
        choice = Choice.none(len(values))
        for fold in self.folds:
            for weights in starts:
                regression = sparse_regression(deviations[~fold], values[~fold], weights)
                if regression is not None:
                    choice.add(deviations, fold, regression, 1 / len(regression.vectors), 1 / len(starts))
        choice.freedom *= SELECTION_FACTOR
        return choice

    def curve(self, spectra: FloatArray, wavenumbers: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Terms (R, F) of spectra (R, F) at wavenumbers (F,), the weights (R, F) of the trajectories in each, and the
        effective numbers of coefficients (F,).

        The frequencies around every multiple of CURVE_WINDOW are regressed together; the explained part is faded over
        into its neighbours': the curve is as smooth as the spectra.
        """
        explained, sums, freedom = np.zeros_like(spectra), np.zeros_like(spectra), np.zeros(len(wavenumbers))
        centres = np.unique(np.round(wavenumbers / CURVE_WINDOW)) * CURVE_WINDOW
        for centre in centres if self.folds else ():
            hat = 1 - np.abs(wavenumbers - centre) / CURVE_WINDOW
            near = np.flatnonzero(hat > 0)
            choice = self._window(spectra[:, near], hat[near], float(centre))
            explained[:, near] += hat[near] * (choice.matrix @ spectra[:, near])
            sums[:, near] += np.outer(choice.matrix.sum(axis=0), hat[near])
            freedom[near] += hat[near] * choice.freedom
        return widened(spectra - explained, freedom), (1 - sums) / len(spectra), freedom

    def _window(self, values: FloatArray, shares: FloatArray, wavenumber: float) -> Choice:
        """The cross-fitted ridge regression for values (R, K) of frequencies with shares (K,) around a wavenumber."""
        choice = Choice.none(len(values))
        weights = self.controls.weights(wavenumber, CURVE_START)
        used = np.argsort(-weights, kind="stable")[:MAX_CURVE_CONTROLS]
        used = used[weights[used] > 0]
        variance = values.var(axis=0)
        # Where the spectra are zero to rounding there is nothing to explain.
        present = variance > 1e-24 * variance.max()
        shares = np.where(present, shares / np.where(present, variance, 1.0), 0.0)
        for fold in self.folds if len(used) else ():
            regression = Regression.of(self.controls.deviations[~fold], weights[used], used)
            strength = regression.best_strength(values[~fold], shares)
            if np.isfinite(strength):
                choice.add(self.controls.deviations, fold, regression, strength)
        return choice


def sparse_regression(deviations: FloatArray, values: FloatArray, weights: FloatArray) -> Regression | None:
    """The regression of values (n, K) on the controls (n, C) that matter, of strength 1 / n; None where it leaves
    MAX_RESIDUAL of the variance or more."""
    count = len(values)
    used, variances, freedom = relevance(deviations, values, weights, MAX_FREEDOM * count)
    if len(used) == 0:
        return None
    regression = Regression.of(deviations, variances, used)
    variance = values.var(axis=0)
    variance[variance == 0] = 1.0
    left = (regression.terms(values, [1 / count])[0].var(axis=0) / variance).mean()
    return regression if left * widening(SELECTION_FACTOR * freedom, count) < MAX_RESIDUAL else None
