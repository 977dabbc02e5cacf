"""Sparse Bayesian regression: selection of the relevant controls among many from few trajectories.

The coefficient of control j has a normal prior of mean zero and a variance a_j of its own. The variances that make the
observed values most likely (the evidence) are zero for most controls; they are found by fixed-point steps (MacKay,
Neural Comput. 4, 415, 1992; Tipping, J. Mach. Learn. Res. 1, 211, 2001):

    a_j = b_j^2 / gamma_j,   noise = sum of squared residuals / (n - 1 - sum_j gamma_j),

with b the posterior mean and gamma_j = 1 - (posterior variance)_j / a_j, the part of the coefficient that the values
determine. Few steps are made, so that the result keeps some memory of the variances that it started with.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray, IntArray

# Fixed-point steps: the number that scores best on trajectories left out; more give up the prior.
STEPS = 12
# Least part of a coefficient that the values determine; other controls are dropped.
MIN_DETERMINED = 1e-6
# The noise at the start and at least, relative to the variance of the values.
FIRST_NOISE, MIN_NOISE = 0.1, 1e-8


def relevance(
    deviations: FloatArray, values: FloatArray, weights: FloatArray, most_freedom: float
) -> tuple[IntArray, FloatArray, float]:
    """The controls that explain values (n, K), which share one set of variances: their indices (U,), the variances
    (U,) relative to the noise, and the sum of the gammas, the effective number of coefficients.

    deviations (n, C); weights (C,): the relative variances to start with, zero for controls that are left out. The
    noise is raised where there would be more than most_freedom coefficients. Columns of values count alike, whatever
    their scatter; a constant one does not.
    """
    scatter = values.std(axis=0)
    targets = (values - values.mean(axis=0))[:, scatter > 0] / scatter[scatter > 0]
    used = np.flatnonzero(weights > 0)
    variances, noise = weights[used] / weights.sum(), FIRST_NOISE
    nothing = np.zeros(0, np.int64), np.zeros(0), 0.0
    if targets.shape[1] == 0:
        return nothing
    centred = deviations - deviations.mean(axis=0)
    for step in range(STEPS):
        own = centred[:, used]
        means, gammas = posterior(own, targets, variances, noise)
        while gammas.sum() > most_freedom:
            noise *= 2
            means, gammas = posterior(own, targets, variances, noise)
        if step == STEPS - 1:
            break
        residual = float(((targets - own @ means) ** 2).sum(axis=0).mean())
        noise = max(residual / (len(values) - 1 - gammas.sum()), MIN_NOISE)
        kept = gammas > MIN_DETERMINED
        if not kept.any():
            return nothing
        used, variances = used[kept], (means[kept] ** 2).mean(axis=1) / gammas[kept]
    return used, variances / noise, float(gammas.sum())


def posterior(
    centred: FloatArray, targets: FloatArray, variances: FloatArray, noise: float
) -> tuple[FloatArray, FloatArray]:
    """Posterior means (C, K) of the coefficients of centred controls (n, C), and gamma (C,), by the smaller of the two
    Gram matrices."""
    count, controls = centred.shape
    if controls > count:
        kernel = (centred * variances) @ centred.T
        kernel[np.diag_indices(count)] += noise
        inverse = np.linalg.inv(kernel)
        means = variances[:, None] * (centred.T @ (inverse @ targets))
        return means, variances * np.einsum("nc,nc->c", centred, inverse @ centred)
    root = np.sqrt(variances)
    scaled = centred * root
    kernel = scaled.T @ scaled
    kernel[np.diag_indices(controls)] += noise
    inverse = np.linalg.inv(kernel)
    return root[:, None] * (inverse @ (scaled.T @ targets)), 1 - noise * np.diag(inverse)
