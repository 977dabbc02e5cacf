"""The plan of a set of trajectories: dynamics, starts, masses, projection, and the names of its files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.deck.sections import DynamicsSettings
from hpcir.dynamics.restraint import Restraint
from hpcir.dynamics.thermal import is_linear
from hpcir.molecules.pieces import Connectivity, pieces
from hpcir.molecules.structures import Structure
from hpcir.spectra.projection import Projection
from hpcir.storage import layout
from hpcir.vibrations.normal_modes import NormalModes


@dataclass(frozen=True)
class Starts:
    """Starts of production, taken from another set of trajectories: positions and velocities (N, 3, T) of the
    trajectories 0 .. T-1, alive (T,); key: that of the other set."""

    positions: FloatArray
    velocities: FloatArray
    alive: BoolArray
    key: str


@dataclass(frozen=True)
class StartPopulations:
    """The conformers that trajectories start in: kind (T,) of each trajectory, names (B,) of the kinds, and the
    covariance (B, B) of their populations; words: how they are known, or why not (covariance with nan then)."""

    kind: IntArray
    names: tuple[str, ...]
    covariance: FloatArray
    words: str

    @property
    def known(self) -> bool:
        """True where the populations have an error."""
        return bool(np.isfinite(self.covariance).all())

    @classmethod
    def one(cls, count: int, words: str) -> StartPopulations:
        """Those of `count` trajectories of a molecule that has one conformer alone."""
        return cls(np.zeros(count, np.int64), ("one",), np.zeros((1, 1)), words)

    @classmethod
    def unknown(cls, count: int, words: str) -> StartPopulations:
        """Those of `count` trajectories that start in one of several conformers."""
        return cls(np.zeros(count, np.int64), ("one",), np.full((1, 1), np.nan), words)


@dataclass(frozen=True)
class TrajectoryPlan:
    """Settings of a set of trajectories: dynamics, start modes, masses, and its name ('main' or an isotopologue).

    projection: what velocities are projected on for control variates and assignment; pairs: bonds whose stretching is
    a control variate, too; assign: keep the series of the assignment, and the dipoles of these groups of atoms. starts:
    begin there, not at thermal samples of the normal modes; equilibration comes after it, if there is any.
    connectivity: the bonds that trajectories are compared with, to detect reactions and dissociation. restraint: of the
    pieces of a cluster, where the deck wants one. still: trajectories turn, and dipoles are wanted in a frame that does
    not.
    """

    name: str
    dynamics: DynamicsSettings
    modes: NormalModes
    projection: Projection
    pairs: list[tuple[int, int]]
    groups: list[list[int]]
    masses: FloatArray
    spread_limit: float
    starts: Starts | None = None
    assign: bool = False
    connectivity: Connectivity | None = None
    restraint: Restraint | None = None
    still: bool = False

    @property
    def blocks(self) -> int:
        return -(-self.dynamics.trajectories // self.lockstep)

    @property
    def lockstep(self) -> int:
        return min(self.dynamics.lockstep, self.dynamics.trajectories)

    def ids(self, block: int) -> IntArray:
        first = block * self.lockstep
        return np.arange(first, min(first + self.lockstep, self.dynamics.trajectories))

    @property
    def linear(self) -> bool:
        return is_linear(self.modes.positions, self.masses)

    @property
    def equilibration_steps(self) -> int:
        return self._whole(self.dynamics.equilibration)

    @property
    def production_steps(self) -> int:
        return self._whole(self.dynamics.duration)

    def _whole(self, time: float) -> int:
        """Steps in a time, up to a whole number of dipoles."""
        every = self.dynamics.dipole_every
        return -(-round(time / self.dynamics.timestep) // every) * every

    @property
    def chunks(self) -> str:
        """The folder of the journals of this set's chunks, which goes when all blocks are files."""
        return layout.chunks(self.name)

    def file(self, block: int) -> str:
        return layout.block_file(self.name, block)


def restraint_of(dynamics: DynamicsSettings, structure: Structure, masses: FloatArray) -> Restraint | None:
    """The restraint of the deck for a structure at its minimum; None of a single piece, or where none is wanted."""
    found = pieces(structure)
    if dynamics.restraint <= 0 or len(found) < 2:
        return None
    return Restraint.around(found, structure.positions, masses, dynamics.restraint)
