"""Motion of the replicas of a set: as classical nuclei, or as ring polymers of beads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.deck.sections import DynamicsSettings
from hpcir.dynamics.chunks import Chunk, ReplicaBlock
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.restraint import Restraint
from hpcir.dynamics.ring_polymer import (
    SAMPLING_FRICTION,
    TRPMD_FRICTION,
    Pile,
    RingPolymer,
    bead_velocities,
)
from hpcir.dynamics.ring_runner import run_rings
from hpcir.dynamics.runner import run_chunk
from hpcir.dynamics.thermal import degrees_of_freedom, is_linear, remove_motion
from hpcir.models.potential import ReplicaPotential
from hpcir.study.nuclei import ring_of
from hpcir.vibrations.normal_modes import NormalModes

# Steps between two evaluations of the committee's spread.
SPREAD_STEPS = 200
# Records that a chunk without records still makes room for: none, as its steps are fewer than this.
NO_RECORD = 1 << 40


class Motion(Protocol):
    """Blocks of trajectories in motion. A trajectory takes `beads` lanes of the potential; lanes are bead after bead,
    trajectories innermost."""

    @property
    def beads(self) -> int:
        """Lanes of a trajectory."""

    def begin(self, positions: FloatArray, velocities: FloatArray, ids: IntArray) -> ReplicaBlock:
        """A block at step 0 from positions and velocities (N, 3, R) of the trajectories (of centroids, for rings)."""

    def at_rest(self, block: ReplicaBlock) -> ReplicaBlock:
        """The block without the motion of the whole molecule."""

    def geometries(self, lanes: FloatArray) -> FloatArray:
        """One geometry that the nuclei take of each trajectory, (N, 3, R) of lanes (N, 3, beads R)."""

    def centres(self, lanes: FloatArray) -> FloatArray:
        """Positions (N, 3, R) that the observables belong to, of lanes (N, 3, beads R)."""

    def run(
        self,
        potential: ReplicaPotential,
        block: ReplicaBlock,
        steps: int,
        *,
        thermostat: bool,
        every: int,
        record: bool,
    ) -> Chunk:
        """Move a block by `steps` steps, with a thermostat or in the production ensemble; with `record` the chunk has
        dipoles, positions and velocities after every multiple of `every`."""


@dataclass(frozen=True)
class Classical:
    """Classical nuclei."""

    dynamics: DynamicsSettings
    modes: NormalModes
    masses: FloatArray
    seed: int
    restraint: Restraint | None = None
    beads: int = 1

    def begin(self, positions: FloatArray, velocities: FloatArray, ids: IntArray) -> ReplicaBlock:
        return ReplicaBlock.start(positions, velocities, ids)

    def at_rest(self, block: ReplicaBlock) -> ReplicaBlock:
        linear = is_linear(self.modes.positions, self.masses)
        return replace(block, velocities=remove_motion(block.positions, block.velocities, self.masses, True, linear))

    def geometries(self, lanes: FloatArray) -> FloatArray:
        return lanes

    def centres(self, lanes: FloatArray) -> FloatArray:
        return lanes

    def run(
        self,
        potential: ReplicaPotential,
        block: ReplicaBlock,
        steps: int,
        *,
        thermostat: bool,
        every: int,
        record: bool,
    ) -> Chunk:
        return run_chunk(
            potential,
            block,
            self.masses,
            steps,
            self.dynamics.timestep,
            dipole_every=every,
            thermostat=self._thermostat() if thermostat or self.dynamics.ensemble == "nvt" else None,
            record=("dipoles", "positions", "velocities") if record else (),
            spread_every=SPREAD_STEPS if potential.kernels is not None else 0,
            restraint=self.restraint,
        )

    def _thermostat(self) -> Thermostat:
        dynamics = self.dynamics
        degrees = degrees_of_freedom(self.modes.positions, self.masses, dynamics.rotation)
        return Thermostat(dynamics.thermostat, dynamics.temperature, dynamics.time_constant, self.seed, degrees)


@dataclass(frozen=True)
class Rings:
    """Ring polymers: PILE before production, and TRPMD in it (see dynamics/ring_polymer.py)."""

    dynamics: DynamicsSettings
    modes: NormalModes
    masses: FloatArray
    seed: int
    ring: RingPolymer
    restraint: Restraint | None = None

    @property
    def beads(self) -> int:
        return self.ring.beads

    def begin(self, positions: FloatArray, velocities: FloatArray, ids: IntArray) -> ReplicaBlock:
        """See Motion. All beads begin where their centroid is; the thermostat spreads them within femtoseconds."""
        moving = bead_velocities(self.ring, velocities, self.masses, self.seed, ids)
        return ReplicaBlock.start(np.tile(positions, (1, 1, self.beads)), moving, ids)

    def at_rest(self, block: ReplicaBlock) -> ReplicaBlock:
        """See Motion: the centroids' motion is taken out."""
        still = self._still(self.centres(block.positions), self.centres(block.velocities))
        return replace(block, velocities=self.ring.moved(block.velocities, still))

    def geometries(self, lanes: FloatArray) -> FloatArray:
        """See Motion: the first bead, which is like any other."""
        return self.ring.split(lanes)[:, :, 0]

    def centres(self, lanes: FloatArray) -> FloatArray:
        """See Motion: the centroids."""
        return self.ring.centroid(lanes)

    def run(
        self,
        potential: ReplicaPotential,
        block: ReplicaBlock,
        steps: int,
        *,
        thermostat: bool,
        every: int,
        record: bool,
    ) -> Chunk:
        dynamics = self.dynamics
        if thermostat or dynamics.ensemble == "nvt":
            friction = SAMPLING_FRICTION if thermostat else TRPMD_FRICTION
            pile = Pile(friction, dynamics.time_constant, self.seed)
        else:
            pile = Pile(TRPMD_FRICTION, None, self.seed)
        return run_rings(
            potential,
            block,
            self.ring,
            self.masses,
            steps,
            dynamics.timestep,
            pile=pile,
            dipole_every=every if record else NO_RECORD,
            dipoles=record,
            spread_every=SPREAD_STEPS if potential.kernels is not None else 0,
            degrees=degrees_of_freedom(self.modes.positions, self.masses, dynamics.rotation),
            restraint=self.restraint,
        )

    def _still(self, centroids: FloatArray, speeds: FloatArray) -> FloatArray:
        """Velocities of centroids without the motion of the whole molecule."""
        linear = is_linear(self.modes.positions, self.masses)
        return remove_motion(centroids, speeds, self.masses, True, linear)


def motion_of(
    dynamics: DynamicsSettings, modes: NormalModes, masses: FloatArray, seed: int, restraint: Restraint | None = None
) -> Motion:
    """The motion of the deck's nuclei. PIGS is classical motion, on another potential."""
    if dynamics.nuclei == "trpmd":
        return Rings(dynamics, modes, masses, seed, ring_of(dynamics, modes), restraint)
    return Classical(dynamics, modes, masses, seed, restraint)
