"""Chunks of trajectories: blocks of replicas moved together, with their dipoles, energies and spreads recorded."""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.chunks import LARGEST_FORCE, LARGEST_STEP, RECORDS, Chunk, ChunkRequest, ReplicaBlock
from hpcir.dynamics.compiled import run_compiled
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.plain import PlainReplicas
from hpcir.dynamics.restraint import Restraint
from hpcir.errors import InputError
from hpcir.models.potential import ReplicaPotential

__all__ = ["RECORDS", "Chunk", "ReplicaBlock", "run_chunk"]


def run_chunk(
    potential: ReplicaPotential,
    block: ReplicaBlock,
    masses: FloatArray,
    steps: int,
    timestep: float,
    *,
    dipole_every: int = 4,
    thermostat: Thermostat | None = None,
    record: tuple[str, ...] = ("dipoles",),
    spread_every: int = 0,
    largest_step: float = LARGEST_STEP,
    largest_force: float = LARGEST_FORCE,
    restraint: Restraint | None = None,
) -> Chunk:
    """Move a block of replicas by `steps` steps of `timestep` (atomic time), NVE or with a thermostat.

    potential: of block.replicas replicas; one with compiled kernels is stepped by them, others in plain numpy.
    masses (N,) in electron masses. A record (see Chunk) is made after each step whose absolute number is a multiple of
    dipole_every: energies always, and what `record` names of 'dipoles', 'positions', 'velocities'. With
    spread_every > 0 the committee's spread is taken after each multiple of it. restraint: added to the potential. A
    replica that moves or feels more than the limits is retired and the others continue. The result does not depend on
    how a run is cut into chunks.
    """
    unknown = [name for name in record if name not in RECORDS]
    if unknown:
        raise InputError("no such record", value=unknown[0], hint="valid: " + ", ".join(RECORDS))
    if steps < 0 or dipole_every < 1:
        raise InputError("steps must be 0 or more, and dipole_every 1 or more", value=(steps, dipole_every))
    request = ChunkRequest(
        block=block, masses=np.asarray(masses, float), steps=steps, timestep=timestep, every=dipole_every,
        spread_every=spread_every, restraint=restraint, thermostat=thermostat, record=record,
        largest_step=largest_step, largest_force=largest_force,
    )  # fmt: skip
    if potential.kernels is not None:
        return run_compiled(potential.kernels, request)
    return PlainReplicas(potential, request).run()
