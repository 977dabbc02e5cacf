"""Arrays kept of a chunk of production: averages for the control variates, series for the assignment."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.runner import Chunk
from hpcir.models.evaluator import Evaluator
from hpcir.models.potential import ReplicaPotential
from hpcir.spectra.basins import eckart_rotations
from hpcir.spectra.controls import mode_moments
from hpcir.spectra.projection import (
    bond_velocities,
    bond_wavenumbers,
    rotation_velocities,
    rotation_wavenumbers,
)
from hpcir.study.production.plan import TrajectoryPlan

FloatArray = NDArray[np.float64]

# Most modes that are projected on: the modes of one conformer say little about larger molecules, and projection takes
# time by the square of the atoms; their controls are the stretches of their bonds.
MAX_PROJECTED_MODES = 120
# Series of the assignment that chunks hold.
SERIES = ("mode_velocities", "basin", "rotations", "group_dipoles")

# Interval of the frames in averages of squared mode velocities (4 fs at the deck's defaults, half the time of a
# projection): they go on for picoseconds, and any average of a control has its exact mean.
AVERAGING_INTERVAL = 2


def chunk_arrays(
    chunk: Chunk, equilibrating: bool, plan: TrajectoryPlan, potential: ReplicaPotential
) -> dict[str, NDArray[Any]]:
    """Arrays of a chunk in the journal: the state to continue from and, in production, series and averages."""
    block = chunk.block
    arrays: dict[str, NDArray[Any]] = {
        "positions": block.positions,
        "velocities": block.velocities,
        "step": np.int64(block.step),
        "alive": block.alive,
        "largest_spread": chunk.spread.max(0) if chunk.spread.size else np.zeros(len(block.alive)),
    }
    if equilibrating:
        return arrays
    arrays |= {
        "dipoles": chunk.dipoles,
        "frames": np.int64(len(chunk.dipoles)),
        "total_energy": (chunk.kinetic + chunk.potential)[:: max(1, len(chunk.kinetic) // 20)],
    }
    arrays |= projected(chunk, plan)
    if plan.groups and potential.kernels is not None:
        arrays["group_dipoles"] = group_dipoles(chunk.positions, plan.groups, potential.kernels)
    return arrays


def projected(chunk: Chunk, plan: TrajectoryPlan) -> dict[str, Any]:
    """Averages that the control variates are made of, by dataset name, and with `plan.assign` the modes' series.

    Retired replicas may hold frames that are no geometry; they are left out of every average later.
    """
    every = 1 if plan.assign else AVERAGING_INTERVAL
    sampled = chunk.positions[::every], chunk.velocities[::every]
    times, replicas = len(sampled[0]), chunk.positions.shape[3]
    frames, velocities = (np.ascontiguousarray(a.transpose(0, 3, 1, 2)).reshape(-1, *a.shape[1:3]) for a in sampled)
    arrays: dict[str, Any] = {}
    if plan.pairs:
        stretching = bond_velocities(frames, velocities, plan.masses, plan.pairs)
        arrays["bond_energies"] = 0.5 * (stretching.reshape(times, replicas, -1) ** 2).mean(0)
    if plan.dynamics.rotation == "keep":
        turning = rotation_velocities(frames, velocities, plan.masses)
        arrays["rotation_energies"] = 0.5 * (turning.reshape(times, replicas, -1) ** 2).mean(0)
    if len(plan.modes) > MAX_PROJECTED_MODES and arrays:
        return arrays
    flat, index = plan.projection.velocities(frames, velocities)
    series = flat.reshape(times, replicas, -1).transpose(0, 2, 1)
    if plan.assign:
        rotations = eckart_rotations(frames, plan.masses, plan.projection.basins, index)
        arrays["mode_velocities"] = series.astype(np.float32)
        arrays["basin"] = index.reshape(times, replicas).astype(np.int16)
        turns = rotations.reshape(times, replicas, 3, 3)
        arrays["rotations"] = np.ascontiguousarray(turns.transpose(0, 2, 3, 1), np.float32)
    if not plan.projection.orthonormal:
        return arrays | {"mode_energies": 0.5 * (series**2).mean(0).T}
    kinds = np.array([basin.kind for basin in plan.projection.basins])
    moments = mode_moments(series, kinds[index].reshape(times, replicas), 1 + int(kinds.max()))
    return arrays | {f"moments_{field.name}": getattr(moments, field.name) for field in fields(moments)}


def group_dipoles(positions: FloatArray, groups: list[list[int]], evaluator: Evaluator) -> NDArray[np.float32]:
    """Dipoles (T, G, 3, R) in e bohr of groups of atoms about the molecule's origin; they add up to the whole.

    positions (T, N, 3, R) in bohr.
    """
    found: NDArray[np.float32] = np.empty((len(positions), len(groups), 3, positions.shape[3]), np.float32)
    for time, frame in enumerate(positions):
        atomic = evaluator.dipole_parts(frame)
        for group, members in enumerate(groups):
            found[time, group] = atomic[members].sum(axis=0)
    return found


def control_wavenumbers(plan: TrajectoryPlan) -> dict[str, FloatArray]:
    """Wavenumbers of the controls in the spectrum: of each kind of basin and of each bond's stretch, cm-1."""
    basins = plan.projection.basins
    kinds = [basin.kind for basin in basins]
    firsts = [basins[kinds.index(kind)] for kind in range(1 + max(kinds))]
    found = {"mode_wavenumbers": np.array([basin.wavenumbers for basin in firsts])}
    if plan.pairs:
        found["bond_wavenumbers"] = bond_wavenumbers(firsts[0], plan.masses, plan.pairs)
    if plan.dynamics.rotation == "keep":
        found["rotation_wavenumbers"] = rotation_wavenumbers(
            firsts[0].positions, plan.masses, plan.dynamics.temperature
        )
    return found


def weighted(chunks: list[dict[str, Any]], name: str) -> FloatArray:
    """The average of an array over chunks of different length."""
    frames = np.array([float(chunk["frames"]) for chunk in chunks])
    return np.asarray(np.tensordot(frames / frames.sum(), np.array([chunk[name] for chunk in chunks]), 1))
