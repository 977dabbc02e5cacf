"""Exploration by ring polymers: their beads go where quantum nuclei do, and of these the one of which the committee is
least sure is labelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.dynamics.chunks import ReplicaBlock
from hpcir.dynamics.ring_polymer import SAMPLING_FRICTION, Pile, RingPolymer, bead_velocities
from hpcir.dynamics.ring_runner import run_rings
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.models.evaluator import Evaluator
from hpcir.molecules.structures import Structure
from hpcir.sampling.exploration import MAX_EXCESS, ExplorationPlan, Findings, GeometryCheck


def explore_rings(
    evaluator: Evaluator,
    reference: Structure,
    ring: RingPolymer,
    starts: FloatArray,
    ids: IntArray,
    seed: int,
    plan: ExplorationPlan,
    check: Callable[[], None] = lambda: None,
) -> Findings:
    """Run ring polymers about starts (R, N, 3) until a bead of each is taken or its time is over.

    evaluator: of P R replicas. Beads begin at the starts and spread by their thermostat. A ring ends at its first bead
    whose expected error passes what is tolerated, or that is unphysical (see exploration.py). Of the beads of that
    moment that are worth a label the one with the largest error is taken, or where there is none, of those of the check
    before. The time explored is that of all beads.
    """
    search = _Search(evaluator, reference, ring, starts, ids, seed, plan)
    while search.running:
        check()
        search.advance()
    return search.findings()


class _Search:
    """Exploration by rings in progress."""

    def __init__(
        self,
        evaluator: Evaluator,
        reference: Structure,
        ring: RingPolymer,
        starts: FloatArray,
        ids: IntArray,
        seed: int,
        plan: ExplorationPlan,
    ) -> None:
        self.evaluator, self.ring, self.plan = evaluator, ring, plan
        self.is_physical, self.masses = GeometryCheck(reference), reference.masses
        positions = np.ascontiguousarray(starts.transpose(1, 2, 0))
        speeds = thermal_velocities(positions, self.masses, ring.temperature, seed, ids)
        velocities = bead_velocities(ring, speeds, self.masses, seed, ids)
        self.block = ReplicaBlock.start(np.tile(positions, (1, 1, ring.beads)), velocities, ids)
        self.pile = Pile(SAMPLING_FRICTION, plan.time_constant, seed)
        self.total = round(plan.duration / plan.timestep)
        self.before, self.excess_before = self._beads(), np.zeros((ring.beads, len(ids)))
        self.taken: list[tuple[FloatArray, float]] = []
        self.frames = self.insane = 0

    @property
    def running(self) -> bool:
        return self.block.step < self.total and bool(self.block.alive.any())

    def _beads(self) -> FloatArray:
        """Geometries (P, R, N, 3)."""
        return self.ring.split(self.block.positions).transpose(2, 3, 0, 1).copy()

    def advance(self) -> None:
        """To the next look at the beads."""
        plan, ring = self.plan, self.ring
        running = self.block.alive.copy()
        steps = min(plan.check_every, self.total - self.block.step)
        chunk = run_rings(
            self.evaluator, self.block, ring, self.masses, steps, plan.timestep, pile=self.pile,
            dipole_every=self.total + 1, dipoles=False,
        )  # fmt: skip
        self.block = chunk.block
        beads = self._beads()
        force, dipole = (ring.split(spread) for spread in self.evaluator.spread_here())
        excess = np.maximum(force / plan.force_spread, dipole / plan.dipole_spread)
        good = self.is_physical(beads) & np.isfinite(excess) & (excess < MAX_EXCESS) & self.block.alive
        for r in np.flatnonzero(running):
            self.frames += 1
            if good[:, r].all() and (excess[:, r] <= 1.0).all():
                continue
            self._take(int(r), beads, excess, good)
            running[r] = False
        self.before, self.excess_before = beads, excess
        self.block = replace(self.block, alive=self.block.alive & running)

    def _take(self, r: int, beads: FloatArray, excess: FloatArray, good: BoolArray) -> None:
        """One bead of ring r, of this check or of the one before."""
        self.insane += int(not good[:, r].all())
        if not good[:, r].any():
            beads, excess, good = self.before, self.excess_before, np.ones_like(good)
        worst = int(np.where(good[:, r], excess[:, r], -1.0).argmax())
        self.taken.append((beads[worst, r], float(excess[worst, r])))

    def findings(self) -> Findings:
        geometries = np.array([geometry for geometry, _ in self.taken]).reshape(-1, len(self.masses), 3)
        final = self._beads()[0][self.block.alive]
        time = self.frames * self.ring.beads * self.plan.check_every * self.plan.timestep
        most = np.array([excess for _, excess in self.taken])
        return Findings(geometries, most, final, time, len(self.taken), self.insane)
