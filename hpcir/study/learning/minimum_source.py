"""Geometries around the minimum of one molecule: thermal ones first, then explored ones far from the labelled ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.selection import farthest_points
from hpcir.study.context import Context
from hpcir.study.label_farm import Candidate, LabelBudget, candidates
from hpcir.study.learning.reference import Reference
from hpcir.study.learning.source import RINGS, Block, Exploration, Tolerance, explore, round_purpose
from hpcir.study.nuclei import ring_of
from hpcir.vibrations.normal_modes import sample as sample_modes
from hpcir.vibrations.normal_modes import zero_point_samples
from hpcir.vibrations.optimise import TYPICAL_LABELS

# Replicas that explore together, in small molecules and in large ones, whose kernels are as quick with fewer: more
# blocks are work for more ranks. Fixed, so that the result does not depend on the rank count.
REPLICAS, LARGE_MOLECULE_REPLICAS, LARGE_MOLECULE_ATOMS = 8, 4, 30


def pool_order(context: Context, count: int) -> IntArray:
    """The order in which the first labels are picked from a pool of so many geometries.

    At random: thermal geometries teach more than the farthest ones (docs/learning-curves.md).
    """
    return context.random("initial geometries").permutation(count)


def certain_geometries(context: Context, pool: Sequence[Structure]) -> list[Structure]:
    """Those of a pool that the first round will surely label, in the order of picking: as many as the budget leaves
    room for after an optimisation of the usual length and the normal modes."""
    settings = context.deck.sampling
    reserved = TYPICAL_LABELS + 6 * len(context.structure) + 1
    count = max(0, min(settings.initial_labels, settings.max_labels - reserved))
    return [pool[index] for index in pool_order(context, len(pool))[:count]]


class MinimumSource:
    """The source for one molecule that stays around its minimum.

    pool: geometries that the first labels are picked from (rank 0); none: thermal samples of the reference's normal
    modes, at the deck's temperatures in equal parts.
    """

    def __init__(
        self,
        context: Context,
        budget: LabelBudget,
        reference: Reference,
        functions: SymmetryFunctionSet,
        pool: Sequence[Structure],
    ) -> None:
        self.context, self.budget, self.reference = context, budget, reference
        self.functions, self.pool = functions, pool
        self.targets: Sequence[Structure] = [reference.structure]
        self.block = LARGE_MOLECULE_REPLICAS if len(reference.structure) >= LARGE_MOLECULE_ATOMS else REPLICAS
        dynamics = context.deck.dynamics
        self.ring = None if dynamics.nuclei == "classical" else ring_of(dynamics, reference.modes)

    def first(self) -> list[Candidate] | None:
        """The geometries of the first round (rank 0)."""
        return self.context.at_root(lambda: candidates(self._first(), round_purpose(0)))

    def _first(self) -> list[Structure]:
        settings = self.context.deck.sampling
        count = self.budget.room(settings.initial_labels)
        if self.pool:
            picked = pool_order(self.context, len(self.pool))[:count]
            return [self.pool[index] for index in sorted(picked.tolist())]
        share = np.array_split(np.arange(count), len(settings.temperatures))
        geometries: list[Structure] = []
        for index, (temperature, part) in enumerate(zip(settings.temperatures, share, strict=True)):
            random = self.context.random("initial geometries", index)
            drawn = sample_modes if self.ring is None else zero_point_samples
            sampled = drawn(self.reference.modes, temperature, len(part), random)
            geometries += [self.reference.structure.moved(positions) for positions in sampled]
        return geometries

    @collective
    def explore(self, number: int, model: Model) -> Exploration | None:
        """Committee dynamics from thermal samples of the normal modes; with quantum nuclei as many blocks of ring
        polymers again (collective)."""
        settings = self.context.deck.sampling
        blocks = [
            Block(
                0,
                np.arange(index * self.block, (index + 1) * self.block),
                settings.temperatures[index % len(settings.temperatures)],
            )
            for index in range(-(-settings.trajectories // self.block))
        ]
        if self.ring is not None:
            first = len(blocks) * self.block
            ids = [np.arange(first + n * RINGS, first + (n + 1) * RINGS) for n in range(len(blocks))]
            blocks += [Block(0, own, self.ring.temperature, self.ring) for own in ids]

        def starts(index: int, block: Block) -> FloatArray:
            random = self.context.random(f"explore {number}", index)
            return sample_modes(self.reference.modes, block.temperature, len(block.ids), random)

        tolerance = Tolerance(settings.force_error, settings.dipole_error)
        return explore(self.context, number, model, self.targets, blocks, starts, lambda _: tolerance)

    def choose(self, number: int, model: Model, exploration: Exploration) -> list[Candidate]:
        """The geometries taken that are farthest from each other and from all labels, in descriptor space (rank 0)."""
        found = [
            self.reference.structure.moved(positions)
            for findings in exploration.found
            for positions in findings.taken().geometries
        ]
        if not found:
            return []
        existing = [structure for structure, _ in self.budget.farm.store.select(self.budget.farm.level)]
        points = self._fingerprints(found + existing)
        count = self.budget.room(self.context.deck.sampling.round_labels)
        picked = farthest_points(points[: len(found)], count, points[len(found) :])
        return candidates((found[index] for index in picked), round_purpose(number + 1))

    def _fingerprints(self, structures: list[Structure]) -> FloatArray:
        """(S, K) symmetry functions of all atoms, those that vary, on a common scale."""
        from hpcir.descriptors.derivatives import features_only

        numbers = structures[0].numbers
        values = features_only(self.functions, numbers, np.array([s.positions for s in structures]))
        flat = values.reshape(len(structures), -1)
        spread = flat.std(0)
        return np.asarray((flat - flat.mean(0))[:, spread > 1e-10] / spread[spread > 1e-10])
