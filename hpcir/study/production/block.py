"""A block of trajectories: named arrays with units and axes, one HDF5 file, which every reader takes in whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.storage.hdf5 import read_h5, write_h5

FORMAT = "hpcir trajectories"
# Beginnings of the names of the averages that control variates are made of, and the ending of the names of their
# wavenumbers.
CONTROL_AVERAGES = ("moments_", "mode_energies", "bond_energies", "rotation_energies")
WAVENUMBERS = "_wavenumbers"
AVERAGE_AXES = ("powers of hartree", "trajectory,...")
WAVENUMBER_AXES = {
    "mode_wavenumbers": ("cm-1", "conformer,mode"),
    "bond_wavenumbers": ("cm-1", "bond"),
    "rotation_wavenumbers": ("cm-1", "axis"),
}


def _dataset(unit: str, axes: str) -> dict[str, str]:
    return {"unit": unit, "axes": axes}


@dataclass(frozen=True)
class TrajectoryBlock:
    """R trajectories of N atoms propagated in lockstep, atomic units; the axes of every array are in its metadata.

    dipoles at T times, of ring polymers without `rotation: keep` in a frame that does not turn; total_energy at fewer;
    snapshots: geometries at ends of chunks; largest_spread of the committee; trajectory: numbers; sane: valid, the
    expected force error stayed below the limit; alive: stayed physical. start_*: the start of production. averages: of
    squares and products of velocities, by name, the trajectory being the first
    axis; wavenumbers: of these in the spectrum. The rest, which only blocks with an assignment have: velocities of
    modes, the basin that a trajectory is in and the rotation into its frame, dipoles of groups of atoms, and the dipole
    derivatives of the basins' modes. events: of bonds, the first of each kind and atoms: trajectory, index into
    pieces.EVENT_KINDS, atoms from 0 (-1: none), steps since production began. restrained: the part of the time in which
    the restraint of a cluster acted. inputs, starts: keys of all that the trajectories depend on, and of their starts.
    time_between_dipoles, timestep: atomic time; temperature: kT.
    """

    dipoles: FloatArray = field(metadata=_dataset("e bohr", "time,xyz,trajectory"))
    total_energy: FloatArray = field(metadata=_dataset("hartree", "time,trajectory"))
    snapshots: FloatArray = field(metadata=_dataset("bohr", "chunk,atom,xyz,trajectory"))
    largest_spread: FloatArray = field(metadata=_dataset("hartree/bohr", "trajectory"))
    trajectory: IntArray = field(metadata=_dataset("number", "trajectory"))
    sane: BoolArray = field(metadata=_dataset("bool", "trajectory"))
    alive: BoolArray = field(metadata=_dataset("bool", "trajectory"))
    inputs: str
    starts: str
    time_between_dipoles: float
    timestep: float
    temperature: float
    averages: dict[str, FloatArray] = field(default_factory=dict)
    wavenumbers: dict[str, FloatArray] = field(default_factory=dict)
    start_positions: FloatArray | None = field(default=None, metadata=_dataset("bohr", "atom,xyz,trajectory"))
    start_velocities: FloatArray | None = field(
        default=None, metadata=_dataset("bohr hartree/hbar", "atom,xyz,trajectory")
    )
    start_alive: BoolArray | None = field(default=None, metadata=_dataset("bool", "trajectory"))
    mode_dipoles: FloatArray | None = field(default=None, metadata=_dataset("e/sqrt(electron mass)", "basin,mode,xyz"))
    mode_velocities: NDArray[np.float32] | None = field(
        default=None, metadata=_dataset("sqrt(hartree)", "time,mode,trajectory")
    )
    basin: IntArray | None = field(default=None, metadata=_dataset("number", "time,trajectory"))
    rotations: NDArray[np.float32] | None = field(
        default=None, metadata=_dataset("", "time,xyz of the basin,xyz,trajectory")
    )
    group_dipoles: NDArray[np.float32] | None = field(
        default=None, metadata=_dataset("e bohr", "time,group,xyz,trajectory")
    )
    events: IntArray | None = field(
        default=None, metadata=_dataset("trajectory, kind, three atoms, step", "event,field")
    )
    restrained: FloatArray | None = field(default=None, metadata=_dataset("fraction of the time", "trajectory"))

    @classmethod
    def read(cls, path: Path) -> TrajectoryBlock:
        """A block from its file. Raises RunStopped when that cannot be read or is damaged, InputError when it is of
        something else."""
        arrays, attributes = read_h5(path)
        if attributes.get("format") != FORMAT:
            raise InputError(
                "not a trajectory file of hpcir",
                where=str(path),
                value=attributes.get("format"),
                hint="see hpcir md",
            )
        named = {one.name: arrays[one.name] for one in _datasets() if one.name in arrays}
        named |= {name: named[name].astype(bool) for name in ("sane", "alive", "start_alive") if name in named}
        return cls(
            **named,
            inputs=str(attributes.get("inputs", "")),
            starts=str(attributes.get("starts", attributes.get("inputs", ""))),
            time_between_dipoles=float(attributes["time_between_dipoles"]),
            timestep=float(attributes["timestep"]),
            temperature=float(attributes["temperature"]),
            averages={name: value for name, value in arrays.items() if name.startswith(CONTROL_AVERAGES)},
            wavenumbers={name: value for name, value in arrays.items() if name.endswith(WAVENUMBERS)},
        )

    def write(self, path: Path) -> None:
        """Write the block's file. Raises RunStopped when that fails."""
        arrays: dict[str, tuple[object, str, str]] = {}
        for one in _datasets():
            value = getattr(self, one.name)
            if value is not None:
                arrays[one.name] = (value, one.metadata["unit"], one.metadata["axes"])
        arrays |= {name: (value, *AVERAGE_AXES) for name, value in self.averages.items()}
        arrays |= {name: (value, *WAVENUMBER_AXES[name]) for name, value in self.wavenumbers.items()}
        attributes = {
            "format": FORMAT,
            "inputs": self.inputs,
            "time_between_dipoles": self.time_between_dipoles,
            "timestep": self.timestep,
            "temperature": self.temperature,
            "starts": self.starts,
        }
        write_h5(path, arrays, attributes)

    @property
    def sane_dipoles(self) -> FloatArray:
        """Dipoles (T, 3, S) of the valid trajectories."""
        return self.dipoles[:, :, self.sane]

    @property
    def sane_averages(self) -> dict[str, FloatArray]:
        """Averages (S, ...) of the valid trajectories, by name."""
        return {name: value[self.sane] for name, value in self.averages.items()}

    @property
    def begin(self) -> tuple[FloatArray, FloatArray, BoolArray] | None:
        """Positions and velocities (N, 3, R) at the beginning of production, and those that were alive (R,); None
        where the file's version does not have them."""
        if self.start_positions is None or self.start_velocities is None or self.start_alive is None:
            return None
        return self.start_positions, self.start_velocities, self.start_alive

    @property
    def left_out(self) -> int:
        """The number of trajectories that are not valid."""
        return int((~self.sane).sum())

    @property
    def drift(self) -> FloatArray:
        """Change (S,) of the total energy over each valid trajectory."""
        energy = self.total_energy[:, self.sane]
        return np.asarray(energy[-1] - energy[0])

    def geometries(self) -> FloatArray:
        """Snapshots (C S, N, 3) of the valid trajectories, in order of time."""
        frames = self.snapshots[..., self.sane].transpose(0, 3, 1, 2)
        return np.asarray(frames.reshape(-1, *frames.shape[2:]))


def _datasets() -> Iterator[Field[object]]:
    return (one for one in fields(TrajectoryBlock) if "axes" in one.metadata)


def spread_geometries(blocks: list[TrajectoryBlock], count: int) -> FloatArray:
    """At most `count` geometries (G, N, 3) of the valid trajectories of some blocks, evenly over them all."""
    every = np.concatenate([block.geometries() for block in blocks])
    picked = np.unique(np.linspace(0, max(len(every) - 1, 0), count).round().astype(int))[: len(every)]
    return np.asarray(every[picked])
