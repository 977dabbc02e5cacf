"""The two ways to a learning loop, picked by the properties of a study: around one minimum, or by seeds and
fragments.

Each gives, in order: the levels of theory below the last one of the chain (pretraining), the reference minimum of the
last one where there is one, and its loop with its source of geometries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from hpcir.deck.study import Study
from hpcir.runtime.mpi import collective
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelBudget, LabelFarm, LabelStore, candidates
from hpcir.study.learning.chain import (
    ChainLevel,
    LearntLevel,
    Way,
    chain_of,
    learnt_along_trajectories,
    learnt_in_rounds,
    reference_of,
)
from hpcir.study.learning.committee import CommitteeTrainer
from hpcir.study.learning.data_level import learnt_from_data
from hpcir.study.learning.fragment_source import FragmentSource
from hpcir.study.learning.loop import LearningLoop
from hpcir.study.learning.minimum_source import MinimumSource, certain_geometries
from hpcir.study.learning.pretrain import own_pool
from hpcir.study.learning.reference import Reference, check_minimum, harmonic_analysis, optimised, write
from hpcir.study.learning.source import GeometrySource, round_purpose
from hpcir.vibrations.normal_modes import stiff_hessian


class Approach(ABC):
    """The steps before production. below: the levels that are learnt so far."""

    def __init__(self, context: Context, study: Study, trainer: CommitteeTrainer, store: LabelStore) -> None:
        self.context, self.study, self.trainer, self.store = context, study, trainer, store
        self.below: list[LearntLevel] = []

    @cached_property
    def chain(self) -> tuple[ChainLevel, ...]:
        """The levels of the study, those that are to be had."""
        return chain_of(self.context)

    @property
    def _before(self) -> LearntLevel | None:
        return self.below[-1] if self.below else None

    @collective
    def pretrain(self) -> None:
        """Label and learn the levels of theory below the last one (collective)."""
        for number, level in enumerate(self.chain[:-1]):
            self.below.append(self._learnt(number, level))

    @collective
    def _learnt(self, number: int, level: ChainLevel) -> LearntLevel:
        context = level.context(self.context)
        if level.way is Way.TRAJECTORIES:
            return learnt_along_trajectories(context, level, self.store, self.trainer)
        if level.way is Way.DATA:
            return learnt_from_data(context, self.study, level, number, self._before, self.trainer)
        farm, reference = self._prepared(context, level)
        try:
            return learnt_in_rounds(self._loop(context, level, farm, reference), reference)
        finally:
            farm.close()

    @collective
    def prepare(self) -> tuple[LabelFarm, Reference | None]:
        """The farm of the last level, open, and its reference minimum where sampling needs one (collective)."""
        level = self.chain[-1]
        farm, reference = self._prepared(level.context(self.context), level)
        if self.context.root and reference is not None and reference.labelled:
            write(self.context, reference)
        return farm, reference

    @collective
    def loop(self, farm: LabelFarm, reference: Reference | None) -> LearningLoop:
        """The learning loop of the last level, from what `prepare` gave (collective)."""
        level = self.chain[-1]
        return self._loop(level.context(self.context), level, farm, reference)

    @collective
    def _loop(self, context: Context, level: ChainLevel, farm: LabelFarm, reference: Reference | None) -> LearningLoop:
        budget = LabelBudget(farm, level.labels)
        source = self._source(context, budget, reference)
        below = None if self._before is None else self._before.below
        return LearningLoop(context, budget, self.trainer, source, below, level.folder)

    def _farm(self, context: Context, level: ChainLevel, of: Reference | None) -> LabelFarm:
        return LabelFarm(context, level.settings, of.structure if of else None, self.store)

    @abstractmethod
    def _prepared(self, context: Context, level: ChainLevel) -> tuple[LabelFarm, Reference | None]:
        """A level's farm, and its minimum where sampling needs one (collective)."""

    @abstractmethod
    def _source(self, context: Context, budget: LabelBudget, reference: Reference | None) -> GeometrySource:
        """The source of geometries of a level's loop (collective)."""


def approach_of(context: Context, study: Study, trainer: CommitteeTrainer, store: LabelStore) -> Approach:
    """The approach that fits a study."""
    if study.one_minimum:
        return AroundMinimum(context, study, trainer, store)
    return SeedsAndFragments(context, study, trainer, store)


class AroundMinimum(Approach):
    """One molecule, explored around its minimum; a cheap first level gives thermal geometries of its own dynamics."""

    @collective
    def _prepared(self, context: Context, level: ChainLevel) -> tuple[LabelFarm, Reference]:
        """The minimum is labelled, from the level below's where there is one, or that of the level below's model. While
        rank 0 optimises, the others label the first geometries of the pool."""
        before = self._before
        if before is not None and not level.own_minimum:
            near = context.structure if before.reference is None else before.reference.structure
            reference = reference_of(context, before.model, near)
            return self._farm(context, level, reference), reference
        if before is not None and before.reference is not None:
            # One reference for all labels of a level, so that the first labels may begin before the minimum is known.
            farm = self._farm(context, level, before.reference)
            hessian = stiff_hessian(before.reference.modes)
            pool = before.structures
            beside = context.at_root(lambda: candidates(certain_geometries(context, pool), round_purpose(0)))
            minimum = optimised(context, farm, before.reference.structure, hessian=hessian, beside=beside or ())
        else:
            farm = self._farm(context, level, None)
            minimum = optimised(context, farm, context.structure)
        reference = harmonic_analysis(context, farm, minimum)
        if before is None:
            farm.close()
            farm = self._farm(context, level, reference)
        context.at_root(lambda: check_minimum(context, reference.modes))
        return farm, reference

    @collective
    def _source(self, context: Context, budget: LabelBudget, reference: Reference | None) -> MinimumSource:
        assert reference is not None  # this approach prepares one
        pool = own_pool(context, reference) if self._before is None else self._before.structures
        return MinimumSource(context, budget, reference, self.trainer.functions, pool)


class SeedsAndFragments(Approach):
    """Several molecules, or large or flexible ones: every level goes through rounds of its own, and no minimum is
    needed, since each target has one of the final model."""

    def _prepared(self, context: Context, level: ChainLevel) -> tuple[LabelFarm, None]:
        return self._farm(context, level, None), None

    def _source(self, context: Context, budget: LabelBudget, reference: Reference | None) -> FragmentSource:
        pool = () if self._before is None else self._before.pool
        return FragmentSource(context, budget, self.study, self.trainer, pool)
