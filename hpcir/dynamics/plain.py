"""Chunks in plain numpy, for any potential: reference dynamics with a label engine, and the kernels' twin in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.chunks import REASONS, RECORDS, Chunk, ChunkRequest, Retired
from hpcir.dynamics.integrators import drift, noise_of_step
from hpcir.dynamics.restraint import added
from hpcir.dynamics.thermal import kinetic_energy
from hpcir.errors import InputError
from hpcir.models.potential import ReplicaPotential

FloatArray = NDArray[np.float64]


class _PlainRun:
    """One chunk in the making."""

    def __init__(self, potential: ReplicaPotential, request: ChunkRequest) -> None:
        if request.spread_every > 0:
            raise InputError("only a model has a committee whose spread can be taken")
        self.potential, self.request = potential, request
        block = request.block
        self.x = block.positions.copy()
        self.v = np.where(block.alive, block.velocities, 0.0)
        self.before = self.x.copy()
        self.alive = block.alive.copy()
        self.retired: list[Retired] = []
        self.rows: dict[str, list[FloatArray]] = {name: [] for name in ("kinetic", "potential", *RECORDS)}
        self.cache: dict[int, FloatArray] = {}
        self.forces = np.zeros_like(self.x)
        self.energies = np.zeros(block.replicas)
        self.dipoles: FloatArray | None = None

    def retire(self, bad: NDArray[np.bool_], reason: int, step: int) -> None:
        for r in np.flatnonzero(bad & self.alive).tolist():
            self.retired.append(Retired(r, int(self.request.block.trajectories[r]), step, REASONS[reason]))
            self.x[:, :, r] = self.before[:, :, r]
            self.v[:, :, r] = 0.0
            self.alive[r] = False

    def evaluate(self, step: int) -> None:
        if "dipoles" in self.request.record and step % self.request.every == 0:
            found = self.potential.evaluate_with_dipoles(self.x)
            self.energies, forces, self.dipoles = found.energies, found.forces, found.dipoles
        else:
            self.energies, forces = self.potential.evaluate(self.x)
        added(self.request.restraint, self.energies, forces, self.x)
        finite = np.isfinite(self.energies + (forces**2).sum((0, 1)))
        self.retire(~finite, 2, step)
        worst = np.sqrt(np.where(finite, (forces**2).sum(1), 0.0).max(0))
        self.retire(worst > self.request.largest_force, 3, step)
        self.forces = np.where(self.alive, forces, 0.0)

    def kick(self) -> None:
        half = 0.5 * self.request.timestep / self.request.masses[:, None, None]
        self.v = np.where(self.alive, self.v + half * self.forces, 0.0)

    def step(self, step: int) -> None:
        """From step - 1 to step."""
        request, thermostat = self.request, self.request.thermostat
        ids = request.block.trajectories
        noise = noise_of_step(thermostat, ids, step - 1, len(request.masses), self.cache)
        self.kick()
        self.before = self.x
        x, v = drift(self.x, self.v, request.masses, request.timestep, thermostat, noise)
        self.x, self.v = np.where(self.alive, x, self.x), np.where(self.alive, v, 0.0)
        moved = ((self.x - self.before) ** 2).sum(1).max(0)
        self.retire(~(moved <= request.largest_step**2), 1, step)
        self.evaluate(step)
        self.kick()

    def record(self) -> None:
        values: dict[str, Any] = {
            "kinetic": kinetic_energy(self.v, self.request.masses),
            "potential": self.energies,
            "dipoles": self.dipoles,
            "positions": self.x,
            "velocities": self.v,
        }
        for name, rows in self.rows.items():
            if name in self.request.record or name not in RECORDS:
                if values[name] is None:
                    raise InputError("this potential gives no dipoles to record")
                rows.append(np.array(values[name]))

    def chunk(self) -> Chunk:
        atoms, replicas = self.x.shape[0], self.x.shape[2]
        shapes: dict[str, tuple[int, ...]] = {
            "dipoles": (3, replicas),
            "kinetic": (replicas,),
            "potential": (replicas,),
        }
        arrays: dict[str, Any] = {
            name: np.array(rows) if rows else np.zeros((0, *shapes.get(name, (atoms, 3, replicas))))
            for name, rows in self.rows.items()
        }
        arrays["spread"] = arrays["dipole_spread"] = np.zeros((0, replicas))
        return self.request.finish(arrays, self.x, self.v, self.retired)


def run_plain(potential: ReplicaPotential, request: ChunkRequest) -> Chunk:
    """run_chunk in plain numpy."""
    run = _PlainRun(potential, request)
    run.evaluate(request.block.step)
    for step in range(request.block.step + 1, request.last + 1):
        run.step(step)
        if step % request.every == 0:
            run.record()
    return run.chunk()
