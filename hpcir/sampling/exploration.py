"""Committee dynamics until the committee disagrees, and the test for physical geometries.

A geometry is taken where the expected error (committee spread times calibration) of an atom's force or of the dipole
exceeds the tolerance of the deck; when the trajectory becomes unphysical first, its last physical frame (Gastegger,
Behler, Marquetand, Chem. Sci. 8, 6924, 2017, adaptive sampling).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.models.evaluator import Evaluator
from hpcir.molecules.bonding import PROTON_CARRIERS, mobile_hydrogens
from hpcir.molecules.structures import Structure, bonds

# Largest length of a bond as a multiple of its own, and least distance of a pair as a fraction of its bonding length.
MAX_STRETCH = 1.5
MIN_APPROACH = 0.65
# Largest expected error of a frame that is labelled, as a multiple of the tolerated one: beyond it the frame before is
# taken.
MAX_EXCESS = 4.0


@dataclass(frozen=True)
class Findings:
    """Results of one block of exploration.

    geometries (C, N, 3) bohr; excess (C,): the expected error over the tolerated one; final (Q, N, 3): last geometries
    of the replicas that completed their time; time explored by all replicas (atomic units); takes: replicas whose
    geometry was taken; insane: those of them that became unphysical.
    """

    geometries: FloatArray
    excess: FloatArray
    final: FloatArray
    time: float
    takes: int
    insane: int


class GeometryCheck:
    """Test for geometries that are still the molecule: every bond within reach, no overlapping atoms.

    A hydrogen of nitrogen, oxygen, sulphur or a halogen may be bonded to any of these atoms: protons move.
    """

    def __init__(self, reference: Structure) -> None:
        from ase.data import covalent_radii

        from hpcir.units import ANGSTROM

        pairs = np.array(bonds(reference), int).reshape(-1, 2)
        self.mobile = mobile_hydrogens(reference.numbers, pairs)
        self.carriers = np.flatnonzero(np.isin(reference.numbers, PROTON_CARRIERS))
        self.first, self.second = pairs[~np.isin(pairs, self.mobile).any(1)].T
        self.lengths = np.linalg.norm(reference.positions[self.first] - reference.positions[self.second], axis=-1)
        radii = np.asarray(covalent_radii)[reference.numbers] * ANGSTROM
        self.rows, self.columns = np.triu_indices(len(reference), 1)
        self.nearest = MIN_APPROACH * (radii[self.rows] + radii[self.columns])
        self.proton_reach = MAX_STRETCH * (radii[self.mobile][:, None] + radii[self.carriers])

    def __call__(self, positions: FloatArray) -> BoolArray:
        """Positions (..., N, 3) -> (...) bool."""
        bond = np.linalg.norm(positions[..., self.first, :] - positions[..., self.second, :], axis=-1)
        pair = np.linalg.norm(positions[..., self.rows, :] - positions[..., self.columns, :], axis=-1)
        whole = np.all(bond < MAX_STRETCH * self.lengths, axis=-1)
        if self.mobile:
            away = positions[..., self.mobile, None, :] - positions[..., None, self.carriers, :]
            whole &= np.all(np.any(np.linalg.norm(away, axis=-1) < self.proton_reach, axis=-1), axis=-1)
        return np.asarray(whole & np.all(pair > self.nearest, axis=-1) & np.isfinite(positions).all((-1, -2)))


@dataclass(frozen=True)
class ExplorationPlan:
    """Settings of a block of exploration; atomic units. force_spread and dipole_spread: those at which the error is no
    longer tolerated."""

    temperature: float
    force_spread: float
    dipole_spread: float
    duration: float
    timestep: float
    time_constant: float
    check_every: int = 5
    chunk_steps: int = 200


def explore_block(
    evaluator: Evaluator,
    reference: Structure,
    starts: FloatArray,
    ids: IntArray,
    seed: int,
    plan: ExplorationPlan,
    check: Callable[[], None] = lambda: None,
) -> Findings:
    """Run a block of replicas from starts (R, N, 3) until each is taken or its time is over.

    ids (R,) and seed fix the velocities and the thermostat's noise: another seed for every round. `check` is called
    between chunks and may raise, to end the work.
    """
    is_physical = GeometryCheck(reference)
    masses = reference.masses
    positions = np.ascontiguousarray(starts.transpose(1, 2, 0))
    velocities = thermal_velocities(positions, masses, plan.temperature, seed, ids)
    block = ReplicaBlock.start(positions, velocities, ids)
    thermostat = Thermostat("langevin", plan.temperature, plan.time_constant, seed)
    total = round(plan.duration / plan.timestep)
    last_physical = starts.copy()
    taken: list[tuple[FloatArray, float]] = []
    explored = insane = 0
    while block.step < total and block.alive.any():
        check()
        steps = min(plan.chunk_steps, total - block.step)
        chunk = run_chunk(
            evaluator,
            block,
            masses,
            steps,
            plan.timestep,
            dipole_every=plan.check_every,
            thermostat=thermostat,
            record=("positions",),
            spread_every=plan.check_every,
        )
        frames = chunk.positions.transpose(3, 0, 1, 2)
        excess = np.maximum(chunk.spread / plan.force_spread, chunk.dipole_spread / plan.dipole_spread)
        running = block.alive.copy()
        block = chunk.block
        for replica in np.flatnonzero(running):
            outcome = first_take(frames[replica], excess[:, replica], is_physical, last_physical[replica])
            explored += outcome.frames * plan.check_every
            last_physical[replica] = outcome.geometry
            if outcome.taken:
                taken.append((outcome.geometry, outcome.excess))
                insane += not outcome.is_physical
                running[replica] = False
        block = replace(block, alive=block.alive & running)
    geometries = np.array([geometry for geometry, _ in taken]).reshape(-1, *starts.shape[1:])
    most = np.array([item for _, item in taken])
    final = last_physical[block.alive]
    return Findings(geometries, most, final, explored * plan.timestep, len(taken), int(insane))


@dataclass(frozen=True)
class Take:
    """The end of one replica's chunk: taken or not, the geometry (or the last physical one), frames gone through."""

    taken: bool
    is_physical: bool
    geometry: FloatArray
    excess: float
    frames: int


def first_take(frames: FloatArray, excess: FloatArray, is_physical: GeometryCheck, before: FloatArray) -> Take:
    """The first of frames (T, N, 3) whose excess (T,) of expected over tolerated error is over 1, or that is
    unphysical; beyond MAX_EXCESS the frame before is taken.

    before: the geometry (N, 3) that came before them.
    """
    good = is_physical(frames) & np.isfinite(excess) & (excess < MAX_EXCESS)
    hits = np.flatnonzero(~good | (excess > 1.0))
    if len(hits) == 0:
        return Take(False, True, frames[-1], float(excess[-1]), len(frames))
    hit = int(hits[0])
    if good[hit]:
        return Take(True, True, frames[hit], float(excess[hit]), hit + 1)
    geometry = frames[hit - 1] if hit else before
    return Take(True, False, geometry, float(excess[hit - 1]) if hit else 1.0, hit + 1)
