"""Chunks of ring polymers by the compiled kernels."""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.chunks import REASONS, Chunk, Retired
from hpcir.dynamics.compiled import CompiledRun
from hpcir.dynamics.ring_kernel import RingRecords, RingTables, advance_rings
from hpcir.dynamics.ring_plain import RingRequest
from hpcir.dynamics.step_kernel import Settings, restraint_settings
from hpcir.dynamics.streams import RING_BLOCK_STEPS
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator
from hpcir.models.lane_layout import STEP, round_up
from hpcir.models.packing import padded, product_matrix


class _RingRun(CompiledRun):
    """A chunk of ring polymers."""

    def __init__(self, evaluator: Evaluator, request: RingRequest) -> None:
        self.request, self.ring = request, request.ring
        lanes = request.ring.beads * request.block.replicas
        if lanes != evaluator.replicas:
            raise InputError(
                "the beads of the block and the evaluator's replicas differ", value=(lanes, evaluator.replicas)
            )
        if "dipoles" in request.record and not evaluator.has_charges:
            raise InputError("this model has no charge networks, so no dipoles can be recorded")
        super().__init__(evaluator, request, np.tile(request.block.alive, request.ring.beads))
        self.settings, self.tables, self.records = self._settings(), self._tables(), self._records()

    def _settings(self) -> Settings:
        request, evaluator = self.request, self.evaluator
        integers = [0, evaluator.replicas, request.every, int("dipoles" in request.record), 0, 0]
        half_skin = (evaluator.layout.reach - evaluator.model.functions.cutoff) / 2
        reals = [request.timestep, 1.0, request.largest_step, request.largest_force, half_skin, evaluator.total_charge]
        masses = np.ascontiguousarray(request.masses)
        walls, weights = restraint_settings(request.restraint, evaluator.atoms)
        temperatures = np.zeros(evaluator.layout.stride)
        return Settings(np.array(integers, np.int64), np.array([*reals, *walls]), masses, temperatures, weights)

    def _tables(self) -> RingTables:
        request, ring = self.request, self.ring
        decays = np.ones(ring.beads) if request.pile is None else request.pile.decays(ring, request.timestep)
        widths = np.sqrt((1 - decays**2) * ring.bead_temperature)
        modes = np.column_stack([ring.half_step(request.timestep), decays, widths])
        rings, rows = request.block.replicas, padded(ring.beads)
        columns = round_up(6 * self.evaluator.atoms * rings, STEP)
        matrices = [product_matrix(matrix) for matrix in (ring.matrix, ring.matrix.T)]
        room = [np.zeros(rows * columns) for _ in range(2)]
        thermostat, temperature = int(request.pile is not None), float(ring.temperature)
        return RingTables(
            rings, ring.beads, rows, columns, thermostat, temperature, request.degrees, modes.ravel(), *matrices, *room
        )

    def _records(self) -> RingRecords:
        rows, rings = len(self.request.recorded_steps(self.request.every)), self.request.block.replicas
        size = 3 * self.evaluator.atoms * rings
        dipoles = rows if "dipoles" in self.request.record else 0
        shapes = [(rows, rings), (rows, rings), (dipoles, 3 * rings), (rows, size), (rows, size)]
        return RingRecords(*(np.zeros(shape) for shape in shapes))

    def _noise_from(self, step: int) -> FloatArray:
        """Random numbers (steps, N 3 P R) from `step` to the end of its block."""
        if step // RING_BLOCK_STEPS != self.noise_block:
            self.noise_block = step // RING_BLOCK_STEPS
            drawn = self.request.noise(step)
            if drawn is not None:
                self.noise = np.ascontiguousarray(drawn).reshape(RING_BLOCK_STEPS, -1)
        return self.noise if self.request.pile is None else self.noise[step % RING_BLOCK_STEPS :]

    def advance(self, step: int, stop: int, row: int, drifted: bool) -> tuple[int, int]:
        evaluator = self.evaluator
        moved: tuple[int, int] = advance_rings(
            self.state, self.results, self.records, self.settings, self.tables, self._noise_from(step),
            evaluator.layout.lanes, evaluator.layout.tables, evaluator.energy_networks, evaluator.charge_networks,
            evaluator.work, step, stop, row, drifted,
        )  # fmt: skip
        return moved

    def record_spread(self, index: int) -> None:
        force, dipole = self.evaluator.spread_here()
        self.spread[index] = self.ring.split(force).max(0)
        self.dipole_spread[index] = self.ring.split(dipole).max(0)

    def chunk(self) -> Chunk:
        block, evaluator, atoms = self.request.block, self.evaluator, self.evaluator.atoms
        lanes, rings = evaluator.replicas, block.replicas
        reasons = self.ring.split(self.state.reason[:lanes]).max(0)
        retired = [
            Retired(r, int(block.trajectories[r]), int(self.state.retired_at[r]), REASONS[int(reasons[r])])
            for r in np.flatnonzero(reasons).tolist()
        ]
        records = {
            "kinetic": self.records.kinetic,
            "potential": self.records.potential,
            "dipoles": self.records.dipoles.reshape(-1, 3, rings),
            "positions": self.records.positions.reshape(-1, atoms, 3, rings),
            "velocities": self.records.velocities.reshape(-1, atoms, 3, rings),
            "spread": self.spread,
            "dipole_spread": self.dipole_spread,
        }
        positions = evaluator.as_replicas(self.state.x)[:, :, :lanes].copy()
        velocities = evaluator.as_replicas(self.state.v)[:, :, :lanes].copy()
        return self.request.finish(records, positions, velocities, retired)


def run_rings_compiled(evaluator: Evaluator, request: RingRequest) -> Chunk:
    """run_rings by the compiled kernels."""
    run = _RingRun(evaluator, request)
    run.loop(request)
    return run.chunk()
