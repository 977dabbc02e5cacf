"""Polar tensors of a model: derivatives of its dipole by the positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Displacement in bohr: the error of the central difference is below 1e-5 e.
STEP = 5e-3


def polar_tensors(model: Model, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> FloatArray:
    """dmu_x / dr_jy at [j, y, x] in e, (N, 3, 3), about an origin at rest, by central differences of the mean dipole.

    numbers (N,); positions (N, 3) in bohr. Raises InputError for a model without charges.
    """
    atoms = len(numbers)
    moves = STEP * np.eye(3 * atoms).reshape(3 * atoms, atoms, 3)
    frames = positions + np.concatenate([moves, -moves])
    evaluator = Evaluator(model, numbers, len(frames), charge=charge)
    dipoles = evaluator.dipoles(np.ascontiguousarray(frames.transpose(1, 2, 0)))[0]
    # The evaluator's origin, the centre of nuclear charge, moves with the atoms.
    total = model.total_charge if charge is None else charge
    dipoles = dipoles + total * np.einsum("i,six->xs", numbers / numbers.sum(), frames)
    up, down = np.split(dipoles.T, 2)
    return np.asarray((up - down) / (2 * STEP)).reshape(atoms, 3, 3)
