"""Chunks of ring-polymer trajectories: rings moved together, their centroids and bead means recorded."""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.chunks import LARGEST_STEP, RECORDS, Chunk, ReplicaBlock
from hpcir.dynamics.restraint import Restraint
from hpcir.dynamics.ring_compiled import run_rings_compiled
from hpcir.dynamics.ring_plain import PlainRings, RingRequest
from hpcir.dynamics.ring_polymer import Pile, RingPolymer
from hpcir.errors import InputError
from hpcir.models.potential import ReplicaPotential


def run_rings(
    potential: ReplicaPotential,
    block: ReplicaBlock,
    ring: RingPolymer,
    masses: FloatArray,
    steps: int,
    timestep: float,
    *,
    pile: Pile | None,
    dipole_every: int = 4,
    dipoles: bool = True,
    spread_every: int = 0,
    degrees: int = 0,
    restraint: Restraint | None = None,
) -> Chunk:
    """Move a block of R rings of P beads by `steps` steps of `timestep` (atomic time); see ring_polymer.py.

    block: positions and velocities (N, 3, P R) of the beads, trajectories and alive (R,). potential: of P R
    replicas; one with compiled kernels is stepped by them, others in plain numpy. pile: PILE, or None for
    RPMD. degrees: of freedom of the centroid (0: 3 N - 3). restraint: is added to the potential of every bead.

    A record is made after each step whose absolute number is a multiple of dipole_every: positions and velocities
    (T, N, 3, R) are the centroid's, dipoles (T, 3, R), potential and kinetic (T, R) means over the beads, kinetic the
    centroid-virial estimator; spread the largest of the beads'. A ring with an unphysical bead is retired as a
    whole. The result does not depend on how a run is cut into chunks.
    """
    if steps < 0 or dipole_every < 1:
        raise InputError("steps must be 0 or more, and dipole_every 1 or more", value=(steps, dipole_every))
    lanes = ring.beads * block.replicas
    if block.positions.shape != (len(masses), 3, lanes) or block.velocities.shape != block.positions.shape:
        raise InputError(
            "the beads of a block have the wrong shape",
            value=(block.positions.shape, block.velocities.shape),
            hint=f"expected {(len(masses), 3, lanes)}",
        )
    request = RingRequest(
        block=block, masses=np.asarray(masses, float), steps=steps, timestep=timestep, every=dipole_every,
        record=RECORDS if dipoles else RECORDS[1:], spread_every=spread_every, restraint=restraint,
        ring=ring, pile=pile,
        largest_step=float(LARGEST_STEP * np.sqrt(ring.beads)),  # beads move at P times the temperature
        degrees=degrees or max(1, 3 * len(masses) - 3),
    )  # fmt: skip
    if potential.kernels is not None:
        return run_rings_compiled(potential.kernels, request)
    if spread_every > 0:
        raise InputError("only a model has a committee: spread_every needs compiled kernels")
    return PlainRings(potential, request).run()
