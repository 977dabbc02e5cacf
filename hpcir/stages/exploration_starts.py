"""Where the exploration of a target begins: in minima of the round's model, and where quiet trajectories ended.

Of a target that is labelled whole, trajectories start in minima of the model where the deck asks for families (that is
where the final ones will live), or go on from where those of the round before ran to their end: hydrogen bonds and
moved protons take longer than one round to come about. All others start in random conformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.deck_series import heavy_atoms
from hpcir.models.evaluator import evaluate
from hpcir.models.model import Model
from hpcir.sampling.bonding import BondGraph
from hpcir.sampling.conformers import Conformer, boltzmann_weights, proton_moved
from hpcir.sampling.rotamers import random_rotamer, thermal_geometries
from hpcir.sampling.target_exploration import TargetFindings
from hpcir.stages.context import Context
from hpcir.stages.relaxation import ROUGH_TOLERANCE, minima
from hpcir.structures import Structure
from hpcir.units import KELVIN

FloatArray = NDArray[np.float64]

# Of the trajectories that could go on from the round before, one in so many starts in a minimum all the same.
RESTARTED = 2
# In the first rounds, of the minima with hydrogen bonds of a charged donor, one in so many is started in with the
# proton moved along one: a model does not cross a barrier that it has got wrong. Later models know which protons move.
PROTON_MOVED, PROTON_ROUNDS = 4, 2
# Minima of the model are started in by Boltzmann's weights at this temperature: far enough above the final ones' that a
# wrong order of conformers is found out.
MINIMA_TEMPERATURE = 1000 * KELVIN
# An end may lie so many standard deviations above the mean potential energy of as many harmonic modes at the deck's
# highest temperature. The model before had found a hole there; this one has seen labels of such ends, and knows better.
HIGHEST_END = 5.0


@dataclass(frozen=True)
class Block:
    """Replicas of one target that explore together: its index, the trajectories' ids, the temperature in hartree."""

    target: int
    ids: NDArray[np.int64]
    temperature: float


class ExplorationStarts:
    """The starts of every round, the same on all ranks."""

    def __init__(self, context: Context, targets: Sequence[Structure], graphs: Sequence[BondGraph]) -> None:
        self.context, self.targets, self.graphs = context, targets, graphs
        # By target: where the quiet trajectories of the round before ended; the minima of the round's model.
        self.ends: dict[int, FloatArray] = {}
        self.minima: dict[int, list[Conformer]] = {}

    def labelled_whole(self, target: int) -> bool:
        """Whether target number `target` is small enough to be labelled as it is."""
        return heavy_atoms(self.targets[target]) <= self.context.deck.sampling.largest_fragment

    def keep_ends(self, blocks: Sequence[Block], found: Sequence[TargetFindings] | None) -> None:
        """Remember where the quiet trajectories ended, of targets that are labelled whole (collective).

        found: what each block found, on rank 0; None elsewhere.
        """
        ends: dict[int, list[FloatArray]] = {}
        for block, findings in zip(blocks, found or (), strict=found is not None):
            if self.labelled_whole(block.target):
                ends.setdefault(block.target, []).append(findings.quiet_ends())
        self.ends = self.context.comm.bcast({target: np.concatenate(parts) for target, parts in ends.items()})

    def prepare(self, number: int, model: Model, key: str) -> None:
        """Find the minima of round `number`'s model, and drop the ends that lie too high for it (collective).

        key: a digest of the model.
        """
        context = self.context
        count, seed = context.deck.sampling.families, context.deck.seed + number
        wanted = [k for k in range(len(self.targets)) if count and self.labelled_whole(k)]
        self.minima = {
            k: minima(context, model, self.targets[k], self.graphs[k], count, seed, key, ROUGH_TOLERANCE)
            for k in wanted
        }
        self.ends = context.comm.bcast(self._plausible(model) if context.root else None)

    def _plausible(self, model: Model) -> dict[int, FloatArray]:
        """The ends that heat can reach from the lowest minimum of `model` (rank 0)."""
        temperature = max(self.context.deck.sampling.temperatures)
        kept = dict(self.ends)
        for index, found in self.minima.items():
            ends, target = kept.get(index), self.targets[index]
            if ends is None or not found:
                continue
            modes = max(1, 3 * len(target) - 6)
            highest = temperature * (modes / 2 + HIGHEST_END * np.sqrt(modes / 2))
            energies = np.array([evaluate(model, target.numbers, end, target.charge).energy for end in ends])
            kept[index] = ends[energies < min(item.energy for item in found) + highest]
        return kept

    def start(self, block: Block, item: int, number: int) -> FloatArray:
        """(N, 3) Where trajectory `item` of round `number` begins: at an end of the round before, or in a thermal
        conformer, a minimum of the model or a random one."""
        self.context.stop.check()
        target, graph = self.targets[block.target], self.graphs[block.target]
        random = self.context.random(f"explore {number}", item)
        ends = self.ends.get(block.target, ())
        if len(ends) and random.integers(RESTARTED):
            return ends[int(random.integers(len(ends)))]
        known = self.minima.get(block.target)
        if known:  # a model of few labels may hold nothing together yet
            weights = boltzmann_weights(np.array([item.energy for item in known]), MINIMA_TEMPERATURE)
            conformer = known[int(random.choice(len(known), p=weights))].structure
            moved = proton_moved(conformer, graph) if number < PROTON_ROUNDS else []
            if moved and not random.integers(PROTON_MOVED):
                conformer = moved[int(random.integers(len(moved)))]
        else:
            conformer = random_rotamer(target, graph, random)
        return thermal_geometries(conformer, block.temperature, 1, random)[0]
