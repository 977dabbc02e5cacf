"""Compilation of the training's loops ahead of use, or loading from the cache (see `dynamics.warm_up`)."""

from __future__ import annotations

import numpy as np

from hpcir.training.compiled import soap
from hpcir.training.compiled.jacobian import backwards, forwards
from hpcir.training.compiled.losses import add_dipole_gradient, add_energy_gradient


def compile_training(precision: str) -> None:
    """Compile every loop of an optimiser step in 'float32' or 'float64'."""
    kind = np.dtype(precision)
    one = kind.type(1.0)
    layers = np.array([(0, 1, 1), (2, 1, 1), (4, 1, 1)], np.int64)
    blocks = np.array([(0, 1, 1, 0, 1, 0, 1)], np.int64)
    labels, ranges, centres = np.zeros(1, np.int64), np.array([[0, 1]], np.int64), np.zeros((0, 0, 0), np.int64)
    flat, bases = np.ones((1, 1, 16), kind), np.ones((1, 1, 16), kind)
    inputs, jacobian = np.ones((1, 1, 1), kind), np.ones((1, 1, 3, 1, 1), kind)
    vector, matrix, norm = np.ones(1, kind), np.ones((1, 3), kind), np.ones(1, kind)
    weights = np.ones((1, 1), kind)
    targets = vector, vector, matrix, matrix
    shared = flat, flat.copy(), layers, ranges, inputs
    add_energy_gradient(*shared, jacobian, centres, targets, labels, weights, norm, one)
    add_dipole_gradient(*shared, np.ones((1, 3, 1), kind), matrix, vector, labels, weights, norm)
    slopes, forces = np.ones((1, 1, 1, 1), kind), np.ones((1, 1, 1, 3), kind)
    forwards(jacobian, labels, centres, slopes, forces)
    backwards(jacobian, labels, centres, forces, slopes)
    soap.add_grams(flat, bases.copy(), blocks, one)
    soap.rotate(flat, flat.copy(), bases, blocks, True)
    soap.step(flat, flat.copy(), flat.copy(), flat.copy(), bases, blocks, (one, one), one, one)
