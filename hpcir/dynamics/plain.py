"""Chunks in plain numpy, for any potential: reference dynamics with a label engine, and the kernels' twin in tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.dynamics.chunks import REASONS, RECORDS, Chunk, ChunkRequest, Request, Retired
from hpcir.dynamics.integrators import drift, noise_of_step
from hpcir.dynamics.restraint import added
from hpcir.dynamics.thermal import kinetic_energy
from hpcir.errors import InputError
from hpcir.models.potential import ReplicaPotential


class PlainRun(ABC):
    """One chunk in the making: replicas, or ring polymers of `beads` lanes each, bead after bead."""

    def __init__(self, potential: ReplicaPotential, request: Request, beads: int = 1) -> None:
        self.potential, self.request, self.beads = potential, request, beads
        block = request.block
        self.x = block.positions.copy()
        self.v = np.where(self._lanes(block.alive), block.velocities, 0.0)
        self.before = self.x.copy()
        self.alive = block.alive.copy()
        self.retired: list[Retired] = []
        self.rows: dict[str, list[FloatArray]] = {name: [] for name in ("kinetic", "potential", *RECORDS)}
        self.forces = np.zeros_like(self.x)
        self.energies = np.zeros(self.x.shape[2])
        self.dipoles: FloatArray | None = None

    @abstractmethod
    def drift(self, step: int) -> tuple[FloatArray, FloatArray]:
        """Positions and velocities of all lanes after the free motion from step - 1 to step, thermostat included."""

    @abstractmethod
    def observables(self) -> dict[str, FloatArray | None]:
        """Values that can be recorded, of each replica, by name."""

    def _lanes(self, replicas: BoolArray) -> BoolArray:
        return np.tile(replicas, self.beads)

    def _retire(self, lanes: BoolArray, reason: int, step: int) -> None:
        bad = lanes.reshape(self.beads, -1).any(0) & self.alive
        for r in np.flatnonzero(bad).tolist():
            self.retired.append(Retired(r, int(self.request.block.trajectories[r]), step, REASONS[reason]))
        back = self._lanes(bad)
        self.x[:, :, back] = self.before[:, :, back]
        self.v[:, :, back] = 0.0
        self.alive &= ~bad

    def _evaluate(self, step: int) -> None:
        if "dipoles" in self.request.record and step % self.request.every == 0:
            found = self.potential.evaluate_with_dipoles(self.x)
            self.energies, forces, self.dipoles = found.energies, found.forces, found.dipoles
        else:
            self.energies, forces = self.potential.evaluate(self.x)
        added(self.request.restraint, self.energies, forces, self.x)
        finite = np.isfinite(self.energies + (forces**2).sum((0, 1)))
        self._retire(~finite, 2, step)
        worst = np.sqrt(np.where(finite, (forces**2).sum(1), 0.0).max(0))
        self._retire(worst > self.request.largest_force, 3, step)
        self.forces = np.where(self._lanes(self.alive), forces, 0.0)

    def _kick(self) -> None:
        half = 0.5 * self.request.timestep / self.request.masses[:, None, None]
        self.v = np.where(self._lanes(self.alive), self.v + half * self.forces, 0.0)

    def _step(self, step: int) -> None:
        """From step - 1 to step."""
        self._kick()
        self.before = self.x
        x, v = self.drift(step)
        alive = self._lanes(self.alive)
        self.x, self.v = np.where(alive, x, self.x), np.where(alive, v, 0.0)
        moved = ((self.x - self.before) ** 2).sum(1).max(0)
        self._retire(~(moved <= self.request.largest_step**2), 1, step)
        self._evaluate(step)
        self._kick()

    def _record(self) -> None:
        for name, value in self.observables().items():
            if name in self.request.record or name not in RECORDS:
                if value is None:
                    raise InputError("this potential gives no dipoles to record")
                self.rows[name].append(np.array(value))

    def run(self) -> Chunk:
        """All steps of the chunk."""
        request = self.request
        self._evaluate(request.block.step)
        for step in range(request.block.step + 1, request.last + 1):
            self._step(step)
            if step % request.every == 0:
                self._record()
        atoms, replicas = len(request.masses), len(self.alive)
        shapes = {"dipoles": (3, replicas), "kinetic": (replicas,), "potential": (replicas,)}
        arrays: dict[str, Any] = {
            name: np.array(rows).reshape(-1, *shapes.get(name, (atoms, 3, replicas)))
            for name, rows in self.rows.items()
        }
        arrays["spread"] = arrays["dipole_spread"] = np.zeros((0, replicas))
        return request.finish(arrays, self.x, self.v, self.retired)


class PlainReplicas(PlainRun):
    """Replicas of classical nuclei."""

    request: ChunkRequest

    def __init__(self, potential: ReplicaPotential, request: ChunkRequest) -> None:
        if request.spread_every > 0:
            raise InputError("only a model has a committee whose spread can be taken")
        super().__init__(potential, request)
        self.cache: dict[int, FloatArray] = {}

    def drift(self, step: int) -> tuple[FloatArray, FloatArray]:
        request, thermostat = self.request, self.request.thermostat
        ids = request.block.trajectories
        noise = noise_of_step(thermostat, ids, step - 1, len(request.masses), self.cache)
        return drift(self.x, self.v, request.masses, request.timestep, thermostat, noise)

    def observables(self) -> dict[str, FloatArray | None]:
        return {
            "kinetic": kinetic_energy(self.v, self.request.masses),
            "potential": self.energies,
            "dipoles": self.dipoles,
            "positions": self.x,
            "velocities": self.v,
        }
