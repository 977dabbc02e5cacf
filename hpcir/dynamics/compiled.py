"""Chunks by the compiled kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.dynamics.chunks import REASONS, RECORDS, Chunk, ChunkRequest, Request, Retired
from hpcir.dynamics.step_kernel import (
    Records,
    Results,
    Settings,
    State,
    advance,
    check_forces,
    restrain,
    restraint_settings,
)
from hpcir.dynamics.streams import BLOCK_STEPS
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator


class CompiledRun(ABC):
    """One chunk of lanes in the making. spread, dipole_spread: (T', R) of the committee.

    Subclasses have settings, and advance the lanes and record; `lanes`: replicas, or beads of all rings.
    """

    settings: Settings

    def __init__(self, evaluator: Evaluator, request: Request, alive: BoolArray) -> None:
        self.evaluator, block, lanes = evaluator, request.block, len(alive)
        evaluator.set_positions(block.positions)
        stride = evaluator.layout.stride
        velocities = np.zeros_like(evaluator.x)
        evaluator.as_replicas(velocities)[:, :, :lanes] = np.where(alive, block.velocities, 0.0)
        everywhere = np.zeros(stride)
        everywhere[:lanes] = alive
        since, reason = np.zeros(stride, np.int64), np.zeros(stride, np.int64)
        self.state = State(evaluator.x, velocities, evaluator.x.copy(), everywhere, since, reason)
        self.results = Results(
            evaluator.atomic_energies,
            evaluator.forces,
            evaluator.charges,
            evaluator.atomic_dipoles,
            evaluator.energies,
            evaluator.dipole,
            evaluator.origin_weights,
        )
        shape = (len(request.recorded_steps(request.spread_every)), block.replicas)
        self.spread, self.dipole_spread = np.zeros(shape), np.zeros(shape)
        self.noise, self.noise_block = np.zeros((1, 1)), -1

    @abstractmethod
    def advance(self, step: int, stop: int, row: int, drifted: bool) -> tuple[int, int]:
        """Move from step to stop, or to where the lists of neighbours end; where it is, and the next row of records."""

    @abstractmethod
    def record_spread(self, index: int) -> None:
        """Fill a row of the committee's spreads."""

    def loop(self, request: Request) -> None:
        """All steps of the chunk."""
        evaluator = self.evaluator
        evaluator.compute()
        restrain(self.state, self.results, self.settings)
        check_forces(self.state, self.results, self.settings, request.block.step)
        step, row, drifted = request.block.step, 0, False
        while step < request.last:
            stop = request.next_stop(step)
            step, row = self.advance(step, stop, row, drifted)
            drifted = step < stop
            if drifted:
                evaluator.refresh()
            elif request.spread_every > 0 and step % request.spread_every == 0:
                self.record_spread(step // request.spread_every - request.block.step // request.spread_every - 1)


class _Run(CompiledRun):
    """A chunk of replicas."""

    def __init__(self, evaluator: Evaluator, request: ChunkRequest) -> None:
        self.request, block = request, request.block
        if block.replicas != evaluator.replicas:
            raise InputError(
                "the block and the evaluator differ in replicas", value=(block.replicas, evaluator.replicas)
            )
        if "dipoles" in request.record and not evaluator.has_charges:
            raise InputError("this model has no charge networks, so no dipoles can be recorded")
        super().__init__(evaluator, request, block.alive)
        self.settings, self.records = self._settings(), self._records()

    def _settings(self) -> Settings:
        request, evaluator = self.request, self.evaluator
        thermostat = request.thermostat
        asked = [int(name in request.record) for name in RECORDS]
        integers = [request.kind(), request.block.replicas, request.every, *asked]
        decay = np.exp(-request.timestep / thermostat.time_constant) if thermostat else 1.0
        half_skin = (evaluator.layout.reach - evaluator.model.functions.cutoff) / 2
        reals = [
            request.timestep, decay, request.largest_step, request.largest_force, half_skin, evaluator.total_charge
        ]  # fmt: skip
        walls, weights = restraint_settings(request.restraint, evaluator.atoms)
        temperatures = np.zeros(evaluator.layout.stride)
        if thermostat:
            temperatures[: request.block.replicas] = thermostat.temperatures(request.block.replicas)
        return Settings(
            np.array(integers, np.int64),
            np.array([*reals, *walls]),
            np.ascontiguousarray(request.masses),
            temperatures,
            weights,
        )

    def _records(self) -> Records:
        rows, stride = len(self.request.recorded_steps(self.request.every)), self.evaluator.layout.stride
        dipoles, positions, velocities = (rows if name in self.request.record else 0 for name in RECORDS)
        size = 3 * self.evaluator.atoms * stride
        return Records(
            np.zeros((rows + 1, stride)),  # the last row is room to work in
            np.zeros((rows + 1, stride)),
            np.zeros((dipoles, 3 * stride)),
            np.zeros((positions, size)),
            np.zeros((velocities, size)),
        )

    def _noise_from(self, step: int) -> FloatArray:
        """Random numbers (steps, numbers) from `step` to the end of its block, in the kernels' layout."""
        thermostat, evaluator = self.request.thermostat, self.evaluator
        if thermostat is None:
            return self.noise
        if step // BLOCK_STEPS != self.noise_block:
            self.noise_block = step // BLOCK_STEPS
            drawn = thermostat.noise(self.request.block.trajectories, self.noise_block, evaluator.atoms)
            padded = np.zeros((*drawn.shape[:-1], evaluator.layout.stride))
            padded[..., : drawn.shape[-1]] = drawn
            self.noise = padded.reshape(BLOCK_STEPS, -1)
        return self.noise[step % BLOCK_STEPS :]

    def advance(self, step: int, stop: int, row: int, drifted: bool) -> tuple[int, int]:
        evaluator = self.evaluator
        moved: tuple[int, int] = advance(
            self.state, self.results, self.records, self.settings, self._noise_from(step),
            evaluator.layout.lanes, evaluator.layout.tables, evaluator.energy_networks,
            evaluator.charge_networks, evaluator.work, step, stop, row, drifted,
        )  # fmt: skip
        return moved

    def record_spread(self, index: int) -> None:
        self.spread[index], self.dipole_spread[index] = self.evaluator.spread_here()

    def chunk(self) -> Chunk:
        evaluator, block = self.evaluator, self.request.block
        retired = [
            Retired(
                r,
                int(block.trajectories[r]),
                int(self.state.retired_at[r]),
                REASONS[int(self.state.reason[r])],
            )
            for r in np.flatnonzero(self.state.reason).tolist()
        ]
        live, stride, atoms = block.replicas, evaluator.layout.stride, evaluator.atoms
        arrays = {
            "kinetic": self.records.kinetic[:-1, :live].copy(),
            "potential": self.records.potential[:-1, :live].copy(),
            "dipoles": _cut(self.records.dipoles, (3, stride), live),
            "positions": _cut(self.records.positions, (atoms, 3, stride), live),
            "velocities": _cut(self.records.velocities, (atoms, 3, stride), live),
            "spread": self.spread,
            "dipole_spread": self.dipole_spread,
        }
        positions = evaluator.as_replicas(self.state.x)[:, :, :live].copy()
        velocities = evaluator.as_replicas(self.state.v)[:, :, :live].copy()
        return self.request.finish(arrays, positions, velocities, retired)


def _cut(rows: FloatArray, shape: tuple[int, ...], live: int) -> FloatArray:
    """Rows (T, flat) as (T, *shape) without the spare lanes, which are the last of the last axis."""
    whole = rows.reshape(len(rows), *shape)
    return whole if shape[-1] == live else np.ascontiguousarray(whole[..., :live])


def run_compiled(evaluator: Evaluator, request: ChunkRequest) -> Chunk:
    """run_chunk by the compiled kernels."""
    run = _Run(evaluator, request)
    run.loop(request)
    return run.chunk()
