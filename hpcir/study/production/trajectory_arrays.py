"""Arrays kept of a chunk of production: averages for the control variates, series for the assignment."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.runner import Chunk
from hpcir.models.evaluator import Evaluator
from hpcir.models.potential import ReplicaPotential
from hpcir.molecules.eckart import joined_frames, still_frames
from hpcir.molecules.pieces import EVENT_KINDS, Connectivity
from hpcir.spectra.basins import eckart_rotations
from hpcir.spectra.controls import mode_moments
from hpcir.spectra.projection import (
    bond_velocities,
    bond_wavenumbers,
    rotation_velocities,
    rotation_wavenumbers,
)
from hpcir.study.production.plan import TrajectoryPlan

# Most modes that are projected on: the modes of one conformer say little about larger molecules, and projection takes
# time by the square of the atoms; their controls are the stretches of their bonds.
MAX_PROJECTED_MODES = 120
# Series of the assignment that chunks hold.
SERIES = ("mode_velocities", "basin", "rotations", "group_dipoles")

# Frames between two checks of the bonds (20 fs at the deck's defaults).
EVENT_INTERVAL = 10
# Those after which a trajectory is no longer one of its molecule; pieces that a restraint draws back are not apart.
BROKEN = (EVENT_KINDS.index("broken"),)
DISSOCIATED = (EVENT_KINDS.index("apart"), *BROKEN)

# Averages of squared mode velocities take every second frame (4 fs at the deck's defaults, half the time of a
# projection): they go on for picoseconds, and any average of a control has its exact mean.
AVERAGING_INTERVAL = 2


def chunk_arrays(
    chunk: Chunk, equilibrating: bool, plan: TrajectoryPlan, potential: ReplicaPotential, begin: FloatArray
) -> dict[str, NDArray[Any]]:
    """Arrays of a chunk in the journal: the state to continue from and, in production, series and averages.

    begin: positions (N, 3, R) at its beginning.
    """
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
    if plan.still:
        arrays["still_frames"] = still_frames(np.concatenate([begin[None], chunk.positions]), plan.masses, plan.linear)
    if plan.connectivity is not None:
        arrays["events"] = bond_events(chunk, plan.connectivity)
    if plan.restraint is not None:
        arrays["restrained"] = plan.restraint.reached(chunk.positions).mean(axis=0)
    if plan.groups and potential.kernels is not None:
        arrays["group_dipoles"] = group_dipoles(chunk.positions, plan.groups, potential.kernels)
    return arrays


def in_still_frame(
    chunks: list[dict[str, Any]], dipoles: FloatArray, series: dict[str, NDArray[Any]]
) -> tuple[FloatArray, dict[str, NDArray[Any]]]:
    """Dipoles (T, 3, R) and the series of the assignment of a block's production chunks, in the frame that does not
    turn where the chunks have one; as they are where they have none."""
    if "still_frames" not in chunks[0]:
        return dipoles, series
    frames = joined_frames([chunk["still_frames"] for chunk in chunks])
    if "rotations" in series:
        turned = np.einsum("tabr,tcbr->tacr", series["rotations"], frames)
        series = series | {"rotations": turned.astype(np.float32)}
    return np.einsum("tabr,tbr->tar", frames, dipoles), series


def bond_events(chunk: Chunk, connectivity: Connectivity) -> IntArray:
    """(K, 6) what happened to the bonds of living replicas: replica, index into EVENT_KINDS, three atoms from 0 (-1:
    none), the absolute step."""
    looked_at = np.unique(np.r_[np.arange(0, len(chunk.positions), EVENT_INTERVAL), len(chunk.positions) - 1])
    rows = [
        [event.replica, EVENT_KINDS.index(event.kind), *(*event.atoms, -1, -1)[:3], chunk.steps[looked_at[event.frame]]]
        for event in connectivity.events(chunk.positions[looked_at])
        if chunk.block.alive[event.replica]
    ]
    return np.array(rows, np.int64).reshape(-1, 6)


def first_events(chunks: list[dict[str, Any]], ids: IntArray, before: int) -> IntArray:
    """(K, 6) the first of each kind and atoms of a block's `bond_events`: trajectory's id, kind, atoms, steps since
    production began, which was after `before` steps."""
    rows = [chunk["events"] for chunk in chunks if "events" in chunk]
    seen: dict[tuple[int, ...], IntArray] = {}
    for row in np.concatenate(rows) if rows else np.zeros((0, 6), np.int64):
        seen.setdefault(tuple(row[:5].tolist()), row)
    found = np.array(list(seen.values()), np.int64).reshape(-1, 6)
    found[:, 0] = ids[found[:, 0]]
    found[:, 5] -= before
    return found


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
