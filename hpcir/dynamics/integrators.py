"""One step of each integrator in plain numpy, for any potential: the twin of the compiled ones in step_kernel.py.

Symbols: x (N, 3, R) bohr; v (N, 3, R) bohr per atomic time; f (N, 3, R) hartree/bohr; m (N,) electron masses; dt the
timestep; xi standard normal numbers.

Velocity Verlet:  v += dt f / 2m;  x += dt v;  f = F(x);  v += dt f / 2m.
Langevin, BAOAB (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34):
    v += dt f / 2m;  x += dt v / 2;  v = c v + sqrt((1 - c^2) kT / m) xi;  x += dt v / 2;  f = F(x);  v += dt f / 2m,
    c = exp(-dt / tau).
Stochastic velocity rescaling (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101, 2007, eq. A7): in the middle of
the drift, as in BAOAB, all velocities are multiplied by alpha; K kinetic energy there, n degrees of freedom,
c = exp(-dt / tau),
    alpha^2 = c + (1 - c) kT / 2K (xi_1^2 + sum_{i=2}^n xi_i^2) + 2 xi_1 sqrt(c (1 - c) kT / 2K).
There the velocities are canonical where the positions are: rescaled after the step, a harmonic mode's mean square
position would be kT / omega^2 over 1 - (omega dt / 2)^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.streams import BLOCK_STEPS, normal_block, rescaling_block
from hpcir.dynamics.thermal import kinetic_energy
from hpcir.errors import InputError

NVE, LANGEVIN, RESCALING = 0, 1, 2

# Name in the deck -> kind of step.
THERMOSTATS: dict[str, int] = {"langevin": LANGEVIN, "svr": RESCALING}


@dataclass(frozen=True)
class Thermostat:
    """A thermostat: kind 'langevin' or 'svr'; temperature in hartree (k_B T), one for all or one for each replica (R,);
    time_constant tau in atomic time; seed of its noise; degrees of freedom that svr counts (0: 3N - 3)."""

    kind: str
    temperature: float | FloatArray
    time_constant: float
    seed: int
    degrees: int = 0

    def __post_init__(self) -> None:
        if self.kind not in THERMOSTATS:
            raise InputError("no such thermostat", value=self.kind, hint="valid: " + ", ".join(THERMOSTATS))

    def noise(self, trajectories: IntArray, block: int, atoms: int) -> FloatArray:
        """Random numbers of a block of steps: (BLOCK_STEPS, N, 3, R), or (BLOCK_STEPS, 2, R) for svr."""
        if THERMOSTATS[self.kind] == LANGEVIN:
            return normal_block(self.seed, trajectories, block, (atoms, 3))
        return rescaling_block(self.seed, trajectories, block, self.degrees or max(1, 3 * atoms - 3))

    def temperatures(self, replicas: int) -> FloatArray:
        """(R,) temperatures in hartree."""
        return np.broadcast_to(np.asarray(self.temperature, float), (replicas,)).copy()


def drift(
    x: FloatArray,
    v: FloatArray,
    masses: FloatArray,
    dt: float,
    thermostat: Thermostat | None,
    xi: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Positions and velocities after the drift of one step; a thermostat acts in its middle."""
    if thermostat is None or xi is None:
        return x + dt * v, v
    c, temperatures = np.exp(-dt / thermostat.time_constant), thermostat.temperatures(x.shape[2])
    half = x + 0.5 * dt * v
    if THERMOSTATS[thermostat.kind] == LANGEVIN:
        width = np.sqrt((1 - c * c) * temperatures / masses[:, None, None])
        v = c * v + width * xi
    else:
        v = v * rescaling_factor(kinetic_energy(v, masses), temperatures, float(c), xi)
    return half + 0.5 * dt * v, v


def rescaling_factor(kinetic: FloatArray, temperature: FloatArray, c: float, xi: FloatArray) -> FloatArray:
    """alpha (R,) of stochastic velocity rescaling; xi (2, R): xi_1 and the sum of the other squares."""
    ratio = (1 - c) * temperature / (2 * np.maximum(kinetic, 1e-300))
    squared = c + ratio * (xi[0] ** 2 + xi[1]) + 2 * xi[0] * np.sqrt(c * ratio)
    sign = np.where(xi[0] + np.sqrt(c / ratio) < 0, -1.0, 1.0)
    return np.asarray(sign * np.sqrt(np.maximum(squared, 0.0)))


def noise_of_step(
    thermostat: Thermostat | None, trajectories: IntArray, step: int, atoms: int, cache: dict[int, FloatArray]
) -> FloatArray | None:
    """Random numbers of the step that leads from `step` to `step + 1`; `cache` keeps the block in use."""
    if thermostat is None:
        return None
    block = step // BLOCK_STEPS
    if block not in cache:
        cache.clear()
        cache[block] = thermostat.noise(trajectories, block, atoms)
    return cache[block][step % BLOCK_STEPS]
