"""Chunks of ring-polymer trajectories: their request, and the steps in plain numpy, the kernels' twin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.chunks import LARGEST_FORCE, LARGEST_STEP, REASONS, Chunk, Request, Retired
from hpcir.dynamics.restraint import added
from hpcir.dynamics.ring_polymer import Pile, RingPolymer, centroid_virial_kinetic, free_step
from hpcir.dynamics.streams import RING_BLOCK_STEPS
from hpcir.errors import InputError
from hpcir.models.potential import ReplicaPotential

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RingRequest(Request):
    """The arguments of run_rings."""

    ring: RingPolymer
    pile: Pile | None
    dipoles: bool
    degrees: int

    @property
    def largest_step(self) -> float:
        """Beads move at P times the temperature."""
        return float(LARGEST_STEP * np.sqrt(self.ring.beads))

    @property
    def noise_steps(self) -> int:
        return 0 if self.pile is None else RING_BLOCK_STEPS

    def noise(self, step: int) -> FloatArray | None:
        """Random numbers (RING_BLOCK_STEPS, N, 3, P, R) of the block of steps that `step` is in."""
        if self.pile is None:
            return None
        return self.pile.noise(self.block.trajectories, step // RING_BLOCK_STEPS, len(self.masses), self.ring.beads)


class PlainRings:
    """One chunk in plain numpy: the kernels' twin."""

    def __init__(self, potential: ReplicaPotential, request: RingRequest) -> None:
        self.potential, self.request, self.ring = potential, request, request.ring
        block = request.block
        self.x = block.positions.copy()
        self.v = np.where(self._lanes(block.alive), block.velocities, 0.0)
        self.before = self.x.copy()
        self.alive = block.alive.copy()
        self.retired: list[Retired] = []
        self.rows: dict[str, list[FloatArray]] = {
            name: [] for name in ("kinetic", "potential", "dipoles", "positions", "velocities")
        }
        self.forces = np.zeros_like(self.x)
        self.energies = np.zeros(self.x.shape[2])
        self.moments: FloatArray | None = None

    def _lanes(self, rings: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.tile(rings, self.ring.beads)

    def _retire(self, lanes: NDArray[np.bool_], reason: int, step: int) -> None:
        bad = self.ring.split(lanes).any(0) & self.alive
        for r in np.flatnonzero(bad).tolist():
            self.retired.append(Retired(r, int(self.request.block.trajectories[r]), step, REASONS[reason]))
        rings = self._lanes(bad)
        self.x[:, :, rings] = self.before[:, :, rings]
        self.v[:, :, rings] = 0.0
        self.alive &= ~bad

    def _evaluate(self, step: int) -> None:
        if self.request.dipoles and step % self.request.every == 0:
            found = self.potential.evaluate_with_dipoles(self.x)
            self.energies, forces, self.moments = found.energies, found.forces, found.dipoles
        else:
            self.energies, forces = self.potential.evaluate(self.x)
        added(self.request.restraint, self.energies, forces, self.x)
        finite = np.isfinite(self.energies + (forces**2).sum((0, 1)))
        self._retire(~finite, 2, step)
        worst = np.where(finite, np.sqrt((forces**2).sum(1)).max(0), 0.0)
        self._retire(worst > LARGEST_FORCE, 3, step)
        self.forces = np.where(self._lanes(self.alive), forces, 0.0)

    def _kick(self) -> None:
        self.v = self.v + 0.5 * self.request.timestep / self.request.masses[:, None, None] * self.forces

    def _step(self, step: int, noise: FloatArray | None) -> None:
        request = self.request
        self._kick()
        self.before = self.x
        x, v = free_step(self.ring, self.x, self.v, request.masses, request.timestep, request.pile, noise)
        alive = self._lanes(self.alive)
        self.x, self.v = np.where(alive, x, self.x), np.where(alive, v, 0.0)
        moved = np.sqrt(((self.x - self.before) ** 2).sum(1).max(0))
        self._retire(~(moved <= request.largest_step), 1, step)
        self._evaluate(step)
        self._kick()
        self.v = np.where(self._lanes(self.alive), self.v, 0.0)

    def _record(self) -> None:
        if self.request.dipoles:
            if self.moments is None:
                raise InputError("this potential gives no dipoles to record")
            self.rows["dipoles"].append(self.ring.centroid(self.moments))
        values = {
            "kinetic": centroid_virial_kinetic(self.ring, self.x, self.forces, self.request.degrees),
            "potential": self.ring.centroid(self.energies),
            "positions": self.ring.centroid(self.x),
            "velocities": self.ring.centroid(self.v),
        }
        for name, value in values.items():
            self.rows[name].append(value)

    def run(self) -> Chunk:
        request, first = self.request, self.request.block.step
        self._evaluate(first)
        noise = request.noise(first)
        for step in range(first + 1, request.last + 1):
            within = (step - 1) % RING_BLOCK_STEPS
            if within == 0:
                noise = request.noise(step - 1)
            self._step(step, None if noise is None else noise[within])
            if step % request.every == 0:
                self._record()
        rings, atoms = len(self.alive), len(request.masses)
        shapes: dict[str, tuple[int, ...]] = {"kinetic": (rings,), "potential": (rings,), "dipoles": (3, rings)}
        records = {
            name: np.array(rows).reshape(-1, *shapes.get(name, (atoms, 3, rings))) for name, rows in self.rows.items()
        }
        records["spread"] = records["dipole_spread"] = np.zeros((0, rings))
        return request.finish(records, self.x, self.v, self.retired)
