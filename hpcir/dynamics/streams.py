"""Random numbers of trajectories: functions of (seed, purpose, trajectory, step) alone.

Each trajectory draws from Philox streams keyed by (seed, purpose) whose counter begins at (trajectory, block of
steps), so its path depends neither on the ranks, nor on its neighbours in lockstep, nor on where a run was stopped,
and no state of a generator is ever stored (Salmon et al., SC11, 2011: counter-based generators).
"""

from __future__ import annotations

import hashlib

import numpy as np

from hpcir.arrays import FloatArray, IntArray

# Steps whose random numbers are drawn together; a trajectory's path depends on it.
BLOCK_STEPS = 64
# Likewise for ring polymers, whose every step takes as many numbers for each bead.
RING_BLOCK_STEPS = 16


def trajectory_stream(seed: int, purpose: str, trajectory: int, block: int = 0) -> np.random.Generator:
    """The generator of one trajectory, for one purpose ('velocities', 'thermostat', ...) and block of steps."""
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    # The counter's lowest word counts the draws themselves; 2^64 of them fit before the next block begins.
    philox = np.random.Philox(key=[seed % 2**64, word], counter=[0, 0, block, trajectory])
    return np.random.Generator(philox)


def normal_block(seed: int, trajectories: IntArray, block: int, shape: tuple[int, ...]) -> FloatArray:
    """Standard normal numbers (BLOCK_STEPS, *shape, R) of the thermostat of R trajectories in a block of steps."""
    result = np.empty((BLOCK_STEPS, *shape, len(trajectories)))
    for r, trajectory in enumerate(trajectories):
        stream = trajectory_stream(seed, "thermostat", int(trajectory), block)
        result[..., r] = stream.standard_normal((BLOCK_STEPS, *shape))
    return result


def rescaling_block(seed: int, trajectories: IntArray, block: int, degrees: int) -> FloatArray:
    """(BLOCK_STEPS, 2, R): a standard normal number and a sum of degrees - 1 squared ones, for velocity rescaling."""
    result = np.empty((BLOCK_STEPS, 2, len(trajectories)))
    for r, trajectory in enumerate(trajectories):
        stream = trajectory_stream(seed, "thermostat", int(trajectory), block)
        result[:, 0, r] = stream.standard_normal(BLOCK_STEPS)
        result[:, 1, r] = stream.chisquare(degrees - 1, BLOCK_STEPS) if degrees > 1 else 0.0
    return result
