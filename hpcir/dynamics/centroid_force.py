"""The mean force and the mean dipole of ring polymers whose centroid is held at given geometries.

The force that the centroid feels, averaged over the beads about it, is minus the slope of its potential of mean force
(Feynman, Hibbs, *Quantum Mechanics and Path Integrals*, 1965; Cao, Voth, J. Chem. Phys. 100, 5093, 1994):
    F_c(q) = < sum_p F(x_p) / P > with the centroid at q;   mu_c(q) = < sum_p mu(x_p) / P >.
What is linear in the displacements of the beads averages to nothing at every instant, so the noise is that of the
anharmonicity alone, and of this what is quadratic is taken away by a control variate (spread_control.py).

The orientation of a cold molecule is spread over an arc, and a centroid within the arc feels a shorter bond than the
beads have: stretches come out too low, the lower the temperature (the curvature problem: Witt, Ivanov, Shiga, Forbert,
Marx, J. Chem. Phys. 130, 194510, 2009). On the other hand a static mean force has but some four fifths of a stretch's
anharmonic shift, the less the higher the temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.ring_polymer import Pile, RingPolymer, bead_velocities, free_step
from hpcir.dynamics.spread_control import SpreadControl
from hpcir.dynamics.streams import RING_BLOCK_STEPS
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator


@dataclass(frozen=True)
class HeldPlan:
    """Averages over rings; atomic units. equilibration, duration: times; every: steps between averaged frames."""

    ring: RingPolymer
    timestep: float
    equilibration: float
    duration: float
    every: int
    seed: int


@dataclass(frozen=True)
class CentroidMeans:
    """Of G centroids: mean forces (N, 3, G) hartree/bohr and dipoles (3, G) e bohr, and these at the centroid itself;
    force_noise (N, 3, G): half the difference of the two halves of the time, as large as the mean forces' errors. beads
    (N, 3, G): one bead of each ring at the end."""

    forces: FloatArray
    dipoles: FloatArray
    bare_forces: FloatArray
    bare_dipoles: FloatArray
    force_noise: FloatArray
    beads: FloatArray

    @property
    def force_error(self) -> FloatArray:
        """(G,) standard error of a force component, root mean square."""
        return np.asarray(np.sqrt((self.force_noise**2).mean((0, 1))))


def centroid_means(
    evaluator: Evaluator,
    centroids: FloatArray,
    masses: FloatArray,
    plan: HeldPlan,
    ids: IntArray,
    check: Callable[[], None] = lambda: None,
) -> CentroidMeans:
    """Average rings about centroids (N, 3, G) with the ids (G,), which fix their random numbers.

    evaluator: of P G replicas. `check` is called between blocks of steps and may raise, to end the work.
    """
    ring = plan.ring
    if evaluator.replicas != ring.beads * centroids.shape[2]:
        raise InputError("the evaluator's replicas are not the beads", value=evaluator.replicas)
    run = _Held(evaluator, centroids, masses, plan, ids)
    before, steps = (round(time / plan.timestep) for time in (plan.equilibration, plan.duration))
    run.advance(before, check)
    control = SpreadControl(evaluator, ring, centroids, masses)
    halves = [_averaged(run, control, max(1, part // plan.every), check) for part in (steps // 2, steps - steps // 2)]
    beads = ring.split(run.x)[:, :, 0].copy()
    bare = np.tile(centroids, (1, 1, ring.beads))
    bare_forces = ring.split(evaluator.evaluate(bare)[1])[:, :, 0]
    bare_dipoles = ring.split(evaluator.dipoles(bare)[0])[:, 0]
    (force, dipole), (other, other_dipole) = halves
    mean, noise = (force + other) / 2, (force - other) / 2
    return CentroidMeans(mean, (dipole + other_dipole) / 2, bare_forces, bare_dipoles, noise, beads)


def _averaged(
    run: _Held, control: SpreadControl, frames: int, check: Callable[[], None]
) -> tuple[FloatArray, FloatArray]:
    """Mean forces (N, 3, G) and dipoles (3, G) over so many frames."""
    ring = run.plan.ring
    forces, dipoles = np.zeros_like(control.centroids), np.zeros((3, control.centroids.shape[2]))
    for _ in range(frames):
        run.advance(run.plan.every, check)
        forces += ring.centroid(run.forces)
        dipoles += ring.centroid(run.dipoles())
        control.add(run.x, run.forces)
    force, dipole = control.take()
    return forces / frames - force, dipoles / frames - dipole


class _Held:
    """Rings in motion about centroids that are held."""

    def __init__(
        self, evaluator: Evaluator, centroids: FloatArray, masses: FloatArray, plan: HeldPlan, ids: IntArray
    ) -> None:
        self.evaluator, self.masses, self.plan, self.ids = evaluator, masses, plan, ids
        self.pile = Pile(1.0, None, plan.seed)
        self.step = 0
        self.x = np.tile(centroids, (1, 1, plan.ring.beads))
        self.v = bead_velocities(plan.ring, np.zeros_like(centroids), masses, plan.seed, ids)
        self.forces = evaluator.evaluate(self.x)[1]
        self.noise = np.zeros(0)

    def _kick(self) -> None:
        """v += h f / 2m of what beads do against their centroid."""
        ring = self.plan.ring
        away = (ring.split(self.forces) - ring.centroid(self.forces)[:, :, None]).reshape(self.forces.shape)
        self.v = self.v + 0.5 * self.plan.timestep / self.masses[:, None, None] * away

    def _next_noise(self) -> FloatArray:
        block, within = divmod(self.step, RING_BLOCK_STEPS)
        if within == 0 or not self.noise.size:
            self.noise = self.pile.noise(self.ids, block, len(self.masses), self.plan.ring.beads)
        return self.noise[within]

    def advance(self, steps: int, check: Callable[[], None]) -> None:
        ring, plan = self.plan.ring, self.plan
        for _ in range(steps):
            if self.step % RING_BLOCK_STEPS == 0:
                check()
            self._kick()
            self.x, self.v = free_step(ring, self.x, self.v, self.masses, plan.timestep, self.pile, self._next_noise())
            self.forces = self.evaluator.evaluate(self.x)[1]
            self._kick()
            self.step += 1

    def dipoles(self) -> FloatArray:
        """(3, P G) at the present positions."""
        return self.evaluator.dipoles(self.x)[0]
