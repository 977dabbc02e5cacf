"""Atomic polar tensors of a model: derivatives of its dipole by the positions, analytic.

The formulas are those of `training.polar`, for one geometry and in double precision: the dipole's slopes by each atom's
symmetry functions, times the derivatives of these by its neighbours.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.derivatives import (
    atomic_dipole_slopes,
    atomic_dipole_vectors,
    element_indices,
    features_and_derivatives,
)
from hpcir.models.networks import ModelNetworks


def polar_tensors(
    model: ModelNetworks, numbers: IntArray, positions: FloatArray, charge: int | None = None
) -> FloatArray:
    """dmu_x / dr_jy of the committee's mean dipole at [j, y, x] in e, (N, 3, 3), about an origin at rest.

    numbers (N,); positions (N, 3) in bohr; charge: total charge in e (default: the model's). Raises InputError for a
    model without charges, or an element that it does not know.
    """
    numbers, positions = np.asarray(numbers, np.int64), np.asarray(positions, float)
    model.require(numbers)
    model.require_charges(numbers)
    features, derivatives, neighbours = features_and_derivatives(model.functions, numbers, positions[None])
    columns = (positions - positions.mean(0))[:, None]
    with_vectors = next(iter(model.charge.values())).n_outputs > 1
    if with_vectors:
        columns = np.concatenate([columns, atomic_dipole_vectors(model.functions, numbers, positions[None])[0]], 1)
    outputs, slopes = _outputs_and_slopes(model, numbers, features[0], columns.transpose(0, 2, 1))
    total = model.total_charge if charge is None else charge
    charges = outputs[:, 0] + (total - outputs[:, 0].sum()) / len(numbers)
    tensors = charges[:, None, None] * np.eye(3) + _by_the_functions(slopes, derivatives[0], neighbours[0])
    if with_vectors:
        tensors += _by_the_vectors(model, numbers, positions, outputs[:, 1:])
    return np.asarray(tensors)


def _outputs_and_slopes(
    model: ModelNetworks, numbers: IntArray, features: FloatArray, factors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Committee means: outputs (N, n), and slopes (N, 3, F) of the dipole by each atom's symmetry functions; factors
    (N, 3, n): the dipole of an output of one."""
    outputs, slopes = np.zeros((len(numbers), factors.shape[2])), np.zeros((len(numbers), 3, features.shape[1]))
    for element in np.unique(numbers):
        here = numbers == element
        y, gradient = model.charge[int(element)].outputs_and_slopes(features[here], factors[here])
        outputs[here], slopes[here] = y.mean(0), gradient.mean(0)
    return outputs, slopes


def _by_the_functions(slopes: FloatArray, derivatives: FloatArray, neighbours: IntArray) -> FloatArray:
    """sum_i slopes_i . dG_i / dr_j at [j, y, x]: slopes (N, 3, F), derivatives (N, K, 3, F), neighbours (N, K)."""
    atoms, slots = neighbours.shape
    parts = (derivatives.reshape(atoms, 3 * slots, -1) @ slopes.transpose(0, 2, 1)).reshape(atoms, slots, 3, 3)
    tensors = -parts.sum(1)
    present = neighbours >= 0
    np.add.at(tensors, neighbours[present], parts[present])
    return np.asarray(tensors)


def _by_the_vectors(model: ModelNetworks, numbers: IntArray, positions: FloatArray, factors: FloatArray) -> FloatArray:
    """sum_i (M_ij - M_ji), M_ij = sum_s y_i^(e(j), s) d(g_s u_ij) / dr_j: factors (N, elements times shells)."""
    across, along, units = (part[0] for part in atomic_dipole_slopes(model.functions, positions[None]))
    shells = across.shape[2]
    towards = factors.reshape(len(numbers), -1, shells)[:, element_indices(model.functions, numbers)]
    across, along = ((towards * part).sum(2) for part in (across, along))
    stretched = np.einsum("ij,ijx,ijy->ijxy", along, units, units) + across[..., None, None] * np.eye(3)
    return np.asarray(stretched.sum(0) - stretched.sum(1))
