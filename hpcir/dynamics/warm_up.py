"""Compilation ahead of use: one rank of a node calls this, then a barrier, then all find the kernels on disk."""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.models.evaluator import Evaluator
from hpcir.models.random_model import random_model


def compile_kernels() -> None:
    """Compile every kernel of inference and dynamics, or load them from the cache (see kernel_cache.py)."""
    model = random_model(automatic_set((1, 8), 6.0, 2, 1, (1,)), 1, hidden=(2, 2))
    numbers = np.array([8, 1, 1])
    positions = np.array([[0.0, 0.0, 0.0], [1.8, 0.0, 0.0], [0.0, 1.8, 0.0]])[:, :, None]
    block = ReplicaBlock.start(positions, np.zeros_like(positions), [0])
    for all_pairs in (True, False):
        evaluator = Evaluator(model, numbers, 1, all_pairs=all_pairs)
        run_chunk(evaluator, block, np.full(3, 2000.0), 1, 1.0, dipole_every=1)
