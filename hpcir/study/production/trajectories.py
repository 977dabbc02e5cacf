"""Stage trajectories: independent molecular dynamics with the committee, dipole series and mode energies out.

The unit of work is a block of replicas in lockstep; blocks are distributed over ranks, chunks of a block are
journalled with the state to continue from, finished blocks are HDF5 files, and when all are, the journals are
removed. A trajectory depends on its number alone.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpcir.arrays import IntArray
from hpcir.dynamics.runner import ReplicaBlock
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.models.potential import ReplicaPotential
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.hdf5 import read_intact
from hpcir.storage.journal import Journal, Place
from hpcir.study.context import Context
from hpcir.study.production.block import CONTROL_AVERAGES, TrajectoryBlock
from hpcir.study.production.motion import Motion, motion_of
from hpcir.study.production.plan import TrajectoryPlan
from hpcir.study.production.trajectory_arrays import (
    BROKEN,
    DISSOCIATED,
    SERIES,
    chunk_arrays,
    control_wavenumbers,
    first_events,
    in_still_frame,
    weighted,
)
from hpcir.vibrations.normal_modes import sample as sample_modes

# Steps of a chunk, between two states on the disk: a second or so of one core; of ring polymers at least the second.
CHUNK_STEPS, RING_CHUNK_STEPS = 2000, 400
PotentialOf = Callable[[int], ReplicaPotential]


class TrajectoryStage:
    """The work of one plan (collective); `run_stages` runs it. potential_of(replicas) gives a potential; blocks: the
    first blocks of the plan, which are to be run (default: all)."""

    def __init__(
        self, context: Context, plan: TrajectoryPlan, key: str, potential_of: PotentialOf, blocks: int | None = None
    ) -> None:
        self.context, self.plan, self.key, self.potential_of = context, plan, key, potential_of
        self.blocks = plan.blocks if blocks is None else min(blocks, plan.blocks)
        self.motion: Motion = motion_of(plan.dynamics, plan.modes, plan.masses, context.deck.seed, plan.restraint)
        self.folder = context.directory / layout.TRAJECTORIES
        if context.root:
            self.folder.mkdir(exist_ok=True)
        context.comm.barrier()

    @property
    def files(self) -> list[str]:
        """The names of the block files."""
        return [self.plan.file(block) for block in range(self.blocks)]

    def block_key(self, number: int) -> str:
        """A digest of all that a block depends on: a last one of fewer trajectories is another when there are more."""
        width = len(self.plan.ids(number))
        return self.key if width == self.plan.dynamics.lockstep else digest(self.key, width)

    @collective
    def forget_chunks(self) -> None:
        """Remove the chunks of a set whose blocks are all files: they take as much disk again (collective).

        Killed in the middle of it, the next session finds nothing to do, and removes the rest.
        """
        context = self.context
        context.comm.barrier()
        if context.root:
            folder = context.directory / self.plan.chunks
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another set's may still be there
                folder.parent.rmdir()
        context.comm.barrier()

    @collective
    def forget_others(self) -> None:
        """Remove the files of blocks beyond those of this stage that another model made, whose numbers this set may
        have run before (collective)."""
        context, plan = self.context, self.plan
        if context.root:
            for block in range(self.blocks, plan.blocks):
                path = context.directory / plan.file(block)
                content = read_intact(path)
                if content is not None and content[1].get("inputs") != self.block_key(block):
                    path.unlink()
        context.comm.barrier()

    @collective
    def unfinished(self) -> list[int]:
        """The blocks without an intact file, the same on every rank; each looks at its share of the files."""
        comm, plan = self.context.comm, self.plan
        done = np.zeros(self.blocks, np.int64)
        for block in range(comm.rank, self.blocks, comm.size):
            content = read_intact(self.context.directory / plan.file(block))
            done[block] = content is not None and content[1].get("inputs") == self.block_key(block)
        return [int(block) for block in np.flatnonzero(comm.sum_arrays(done) == 0)]

    def places(self, todo: list[int]) -> dict[int, list[list[Place]]]:
        """Places of the chunks of unfinished blocks in the journals, in order and without a gap (rank 0 looks, so that
        a thousand ranks do not read every journal). A chunk may be there twice, where the first one was damaged."""
        wanted, found = set(todo), dict[int, dict[int, list[Place]]]()
        for heading in self.context.directory.index(self.plan.chunks):
            attributes = heading.attributes
            block = attributes["block"]
            if block in wanted and attributes.get("inputs") == self.block_key(block):
                found.setdefault(block, {}).setdefault(attributes["chunk"], []).append(heading.place)
        return {
            block: [chunks[n] for n in itertools.takewhile(chunks.__contains__, itertools.count())]
            for block, chunks in found.items()
        }

    def _chunks(self, places: list[list[Place]]) -> list[dict[str, Any]]:
        """The journalled chunks of a block up to the first that is damaged."""
        chunks = []
        for copies in places:
            records = (self.context.directory.record_at(self.plan.chunks, place) for place in copies)
            intact = next((record for record in records if record is not None), None)
            if intact is None:
                break
            chunks.append(intact.arrays)
        return chunks

    def run_block(self, number: int, journal: Journal, places: list[list[Place]]) -> None:
        """Run a block to its end, from where its journalled chunks leave off."""
        lanes = self.motion.beads * len(self.plan.ids(number))
        potential, chunks = self.potential_of(lanes), self._chunks(places)
        block = restored(chunks[-1], self.plan.ids(number)) if chunks else self._start(number)
        total = self.plan.equilibration_steps + self.plan.production_steps
        while block.step < total:
            self.context.stop.check()
            block, arrays = self._advance(block, potential, number)
            attributes = {"inputs": self.block_key(number), "block": number, "chunk": len(chunks)}
            journal.append(digest(self.block_key(number), number, len(chunks)), arrays, attributes)
            chunks.append(arrays)
        self._finish_block(number, chunks)

    def _start(self, number: int) -> ReplicaBlock:
        """Thermal starts: positions from the normal modes, velocities from the Maxwell distribution; or the plan's."""
        plan, seed = self.plan, self.context.deck.seed
        ids = plan.ids(number)
        if plan.starts is not None:
            positions, velocities = plan.starts.positions[:, :, ids], plan.starts.velocities[:, :, ids]
            return replace(self.motion.begin(positions, velocities, ids), alive=plan.starts.alive[ids])
        temperature = plan.dynamics.temperature
        starts = np.concatenate(
            [sample_modes(plan.modes, temperature, 1, self.context.random("start positions", int(i))) for i in ids]
        )
        positions = np.ascontiguousarray(starts.transpose(1, 2, 0))
        rotation, linear = plan.dynamics.rotation, plan.linear
        velocities = thermal_velocities(
            positions, plan.masses, temperature, seed, ids, rotation=rotation, linear=linear
        )
        return self.motion.begin(positions, velocities, ids)

    def _advance(
        self, block: ReplicaBlock, potential: ReplicaPotential, number: int
    ) -> tuple[ReplicaBlock, dict[str, Any]]:
        """One chunk: thermostatted before `equilibration_steps`, the deck's ensemble after; the journal's arrays."""
        plan, dynamics = self.plan, self.plan.dynamics
        equilibrating = block.step < plan.equilibration_steps
        end = plan.equilibration_steps if equilibrating else plan.equilibration_steps + plan.production_steps
        if block.step == plan.equilibration_steps and dynamics.rotation == "remove":
            block = self.motion.at_rest(block)
        every = dynamics.dipole_every
        usual = CHUNK_STEPS if self.motion.beads == 1 else max(RING_CHUNK_STEPS, CHUNK_STEPS // self.motion.beads)
        wanted = min(usual, potential.chunk_steps)
        steps = min(max(1, wanted // every) * every, end - block.step)
        chunk = self.motion.run(
            potential,
            block,
            steps,
            thermostat=equilibrating,
            every=CHUNK_STEPS if equilibrating else every,
            record=not equilibrating,
        )
        for retired in chunk.retired:
            self.context.progress.log(
                f"trajectory {retired.trajectory} became unphysical at step {retired.step}: {retired.reason}",
                warning=True,
            )
        begin = self.motion.centres(block.positions)
        return chunk.block, chunk_arrays(chunk, equilibrating, plan, potential, begin)

    def _finish_block(self, number: int, chunks: list[dict[str, Any]]) -> None:
        """Join the production chunks of a block into its HDF5 file."""
        production = [chunk for chunk in chunks if "dipoles" in chunk]
        alive = production[-1]["alive"]
        # Of production alone: a start from the normal modes may be far off before it has relaxed.
        spread = np.max([chunk["largest_spread"] for chunk in production], axis=0)
        dipoles = np.concatenate([chunk["dipoles"] for chunk in production])
        start = self._production_start(number, chunks)
        events = first_events(production, self.plan.ids(number), self.plan.equilibration_steps)
        unmade = DISSOCIATED if self.plan.restraint is None else BROKEN
        whole = ~np.isin(self.plan.ids(number), events[np.isin(events[:, 1], unmade), 0])
        dynamics, named = self.plan.dynamics, production[0]
        joined = {name: np.concatenate([chunk[name] for chunk in production]) for name in SERIES if name in named}
        dipoles, joined = in_still_frame(production, dipoles, joined)
        TrajectoryBlock(
            dipoles=dipoles,
            total_energy=np.concatenate([chunk["total_energy"] for chunk in production]),
            snapshots=np.array([self.motion.geometries(chunk["positions"]) for chunk in production]),
            largest_spread=spread,
            trajectory=self.plan.ids(number),
            sane=alive & (spread <= self.plan.spread_limit) & whole,
            events=events,
            restrained=weighted(production, "restrained") if self.plan.restraint is not None else None,
            alive=alive,
            inputs=self.block_key(number),
            starts=self.key if self.plan.starts is None or self.plan.equilibration_steps else self.plan.starts.key,
            time_between_dipoles=dynamics.timestep * dynamics.dipole_every,
            timestep=dynamics.timestep,
            temperature=dynamics.temperature,
            averages={name: weighted(production, name) for name in named if name.startswith(CONTROL_AVERAGES)},
            wavenumbers=control_wavenumbers(self.plan),
            start_positions=self.motion.centres(start.positions),
            start_velocities=self.motion.centres(start.velocities),
            start_alive=start.alive,
            mode_dipoles=np.array([b.dipoles for b in self.plan.projection.basins]) if self.plan.assign else None,
            **joined,
        ).write(self.context.directory / self.plan.file(number))

    def _production_start(self, number: int, chunks: list[dict[str, Any]]) -> ReplicaBlock:
        """The replicas at the beginning of production: after the last chunk of equilibration."""
        before = [chunk for chunk in chunks if "dipoles" not in chunk]
        block = restored(before[-1], self.plan.ids(number)) if before else self._start(number)
        if self.plan.dynamics.rotation != "remove":
            return block
        return self.motion.at_rest(block)


@collective
def run_stages(stages: Sequence[TrajectoryStage]) -> None:
    """Run the unfinished blocks of several plans, distributed over all ranks together (collective)."""
    context = stages[0].context
    unfinished = [stage.unfinished() for stage in stages]
    todo = [(n, block) for n, blocks in enumerate(unfinished) for block in blocks]
    if todo:
        places: list[dict[int, list[list[Place]]]] = context.comm.bcast(
            [stage.places(blocks) for stage, blocks in zip(stages, unfinished, strict=True)] if context.root else None
        )
        journals = [context.directory.journal(stage.plan.chunks, context.comm.node) for stage in stages]
        total = sum(stage.blocks for stage in stages)
        names = ", ".join(stage.plan.name for stage in stages)
        with context.progress.stage(f"trajectories {names}", total=total, unit="blocks") as shown:
            for item in context.comm.counter(len(todo)):
                n, block = todo[item]
                stages[n].run_block(block, journals[n], places[n].get(block, []))
                shown.advance_to(total - len(todo) + item + 1)
        for journal in journals:
            journal.close()
    for stage in stages:
        stage.forget_chunks()
        stage.forget_others()


def restored(state: dict[str, Any], ids: IntArray) -> ReplicaBlock:
    """The block as it was at the end of a journalled chunk."""
    return ReplicaBlock(state["positions"], state["velocities"], int(state["step"]), ids, state["alive"])
