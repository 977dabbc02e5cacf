"""Many geometries brought down to the minima below them at once, roughly: FIRE in lockstep.

Bitzek, Koskinen, Gaehler, Moseler, Gumbsch, Phys. Rev. Lett. 97, 170201, 2006.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.units import AMU, FS

# Every atom has the mass of carbon: the stiffest stretches allow these timesteps, and torsions do not lag behind.
MASS = 12 * AMU
FIRST_TIMESTEP, MAX_TIMESTEP = 1.0 * FS, 4.0 * FS
# The paper's parameters: mixing, its decrease, growth and decrease of the timestep, steps uphill-free before growth.
MIXING, MIXING_DECAY, TIMESTEP_GROWTH, TIMESTEP_DECAY, GROWTH_DELAY = 0.1, 0.99, 1.1, 0.5, 5
# Longest step of an atom in bohr.
MAX_STEP = 0.2


def quench(
    forces_of: Callable[[FloatArray], FloatArray], positions: FloatArray, steps: int, tolerance: float
) -> FloatArray:
    """Geometries (N, 3, R) after at most `steps` steps downhill, or when no force exceeds `tolerance` (hartree/bohr).

    forces_of: positions (N, 3, R) in bohr to forces (N, 3, R). Geometries need not have converged; replicas do not
    influence each other.
    """
    x = np.array(positions, float)
    v = np.zeros_like(x)
    replicas = x.shape[2]
    timestep, mixing = np.full(replicas, FIRST_TIMESTEP), np.full(replicas, MIXING)
    downhill = np.zeros(replicas, int)
    for _ in range(steps):
        f = forces_of(x)
        if not np.sqrt((f**2).sum(axis=1)).max() > tolerance:
            break
        power = (f * v).sum(axis=(0, 1))
        good = power > 0
        speed, size = (np.sqrt((a**2).sum(axis=(0, 1))) for a in (v, f))
        v = np.where(good, (1 - mixing) * v + mixing * speed / np.maximum(size, 1e-300) * f, 0.0)
        downhill = np.where(good, downhill + 1, 0)
        grown = good & (downhill > GROWTH_DELAY)
        timestep = np.where(grown, np.minimum(TIMESTEP_GROWTH * timestep, MAX_TIMESTEP), timestep)
        timestep = np.where(good, timestep, TIMESTEP_DECAY * timestep)
        mixing = np.where(grown, MIXING_DECAY * mixing, np.where(good, mixing, MIXING))
        v = v + timestep * f / MASS
        step = timestep * v
        x = x + step * np.minimum(1.0, MAX_STEP / np.maximum(np.sqrt((step**2).sum(axis=1)).max(axis=0), 1e-300))
    return x
