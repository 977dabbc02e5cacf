"""The mean force and the mean dipole of ring polymers whose centroid is held at given geometries.

The force that the centroid feels, averaged over the beads about it, is minus the slope of its potential of mean force
(Feynman, Hibbs, *Quantum Mechanics and Path Integrals*, 1965; Cao, Voth, J. Chem. Phys. 100, 5093, 1994):
    F_c(q) = < sum_p F(x_p) / P > with the centroid at q;   mu_c(q) = < sum_p mu(x_p) / P >.
What is linear in the displacements of the beads averages to nothing at every instant, so the noise is that of the
anharmonicity alone, and of this what is quadratic is taken away by a control variate (SpreadControl).

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
from hpcir.dynamics.streams import RING_BLOCK_STEPS
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator

# Displacements (bohr, of the whole molecule) for derivatives of forces and dipoles.
DISPLACEMENT = 0.02


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


class SpreadControl:
    """A control variate for means over rings about centroids (N, 3, G): nearly all of their noise, taken away exactly.

    A mean force over the beads differs from the force at the centroid q by what their spread makes of its curvature,
        < F >_beads = F(q) + D^2F(q) : S / 2 + ...,   S = sum_p (x_p - q)(x_p - q)^T / P = sum_k>0 X_k X_k^T / P,
    and nearly all of its noise is that of S. By parts, < X_ki dH_P/dX_kj > = delta_ij P k_B T for every normal mode k
    of the ring and all coordinates i, j, whatever the potential. In mass-weighted eigenvectors of the Hessian at q,
    with the eigenvalues W_i, the symmetrised
        Z_ij = sum_k (X_ki dH_P/dX_kj - delta_ij P k_B T) / P (omega_k^2 + (W_i + W_j) / 2)
    has the mean zero exactly, and is S less its mean where the potential is harmonic. So < F > - D^2F(q) : Z / 2 has
    the same mean as < F > and noise of the next order only (a zero-variance estimator: Assaraf, Caffarel, Phys. Rev.
    Lett. 83, 4682, 1999). Dipoles likewise.
    """

    def __init__(self, evaluator: Evaluator, ring: RingPolymer, centroids: FloatArray, masses: FloatArray) -> None:
        self.evaluator, self.ring, self.centroids = evaluator, ring, centroids
        self.roots = np.repeat(np.sqrt(masses), 3)
        self.curvatures, self.basis = self._eigenvectors()
        self.total = np.zeros_like(self.basis)
        self.frames = 0

    def _eigenvectors(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues (G, 3N), none below 0, and eigenvectors (G, 3N, 3N), in columns, of mass-weighted Hessians."""
        size = len(self.roots)
        directions = np.broadcast_to(np.eye(size), (self.centroids.shape[2], size, size))
        plus, minus, _ = self._displaced(DISPLACEMENT * directions)
        hessian = (minus[0] - plus[0]) / (2 * DISPLACEMENT)
        values, vectors = np.linalg.eigh(
            0.5 * (hessian + hessian.transpose(0, 2, 1)) / np.outer(self.roots, self.roots)
        )
        return np.maximum(values, 0.0), vectors

    def add(self, x: FloatArray, forces: FloatArray) -> None:
        """A frame: beads and forces (N, 3, P G)."""
        moved, pulled = (self._in_basis(self.ring.to_modes(array), power) for array, power in ((x, 1), (forces, -1)))
        diagonal = np.arange(len(self.roots))
        half = 0.5 * (self.curvatures[:, :, None] + self.curvatures[:, None, :])
        for k in range(1, self.ring.beads):
            square = self.ring.frequencies[k] ** 2
            product = moved[k, :, :, None] * (square * moved[k] - pulled[k])[:, None, :]
            product = 0.5 * (product + product.transpose(0, 2, 1))
            product[:, diagonal, diagonal] -= self.ring.bead_temperature
            self.total += product / (self.ring.beads * (square + half))
        self.frames += 1

    def _in_basis(self, modes: FloatArray, power: int) -> FloatArray:
        """(P, G, 3N): normal modes of the ring (N, 3, P, G), times masses^(power / 2), in the eigenvectors."""
        weighted = modes.reshape(len(self.roots), *modes.shape[2:]) * (self.roots**power)[:, None, None]
        return np.asarray(weighted.transpose(1, 2, 0)[:, :, None, :] @ self.basis)[:, :, 0]

    def take(self) -> tuple[FloatArray, FloatArray]:
        """D^2F : Z / 2 (N, 3, G) and D^2mu : Z / 2 (3, G) of the frames since the last call; nan where beads were
        lost."""
        mean = self.total / max(self.frames, 1)
        lost = np.asarray(~np.isfinite(mean).all((1, 2)))
        values, vectors = np.linalg.eigh(np.where(lost[:, None, None], 0.0, mean))
        values[lost] = np.nan
        self.total, self.frames = np.zeros_like(self.total), 0
        directions = (self.basis @ vectors).transpose(0, 2, 1) / self.roots
        lengths = np.linalg.norm(directions, axis=2)
        plus, minus, centre = self._displaced(DISPLACEMENT * directions / lengths[:, :, None])
        weights = 0.5 * values * (lengths / DISPLACEMENT) ** 2
        force, dipole = (
            np.einsum("gm,gmi->ig", weights, up + down - 2 * middle[:, None])
            for up, down, middle in zip(plus, minus, centre, strict=True)
        )
        return force.reshape(self.centroids.shape), dipole

    def _displaced(
        self, displacements: FloatArray
    ) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        """Forces (G, M, 3N) and dipoles (G, M, 3) at the centroids plus and minus displacements (G, M, 3N), and at the
        centroids themselves, (G, 3N) and (G, 3)."""
        geometries, count, size = displacements.shape
        every = np.concatenate([displacements, -displacements, np.zeros((geometries, 1, size))], axis=1)
        beads = self.ring.beads
        forces, dipoles = np.zeros_like(every), np.zeros((*every.shape[:2], 3))
        for first in range(0, every.shape[1], beads):
            part = every[:, first : first + beads]
            room = np.zeros((geometries, beads, size))
            room[:, : part.shape[1]] = part
            # Lanes are bead after bead, geometries innermost.
            moved = self.centroids[:, :, None] + room.transpose(2, 1, 0).reshape(-1, 3, beads, geometries)
            lanes = moved.reshape(-1, 3, beads * geometries)
            found = self.evaluator.evaluate(lanes)[1].reshape(size, beads, geometries).transpose(2, 1, 0)
            forces[:, first : first + beads] = found[:, : part.shape[1]]
            found = self.evaluator.dipoles(lanes)[0].reshape(3, beads, geometries).transpose(2, 1, 0)
            dipoles[:, first : first + beads] = found[:, : part.shape[1]]
        plus, minus = (forces[:, :count], dipoles[:, :count]), (forces[:, count:-1], dipoles[:, count:-1])
        return plus, minus, (forces[:, -1], dipoles[:, -1])
