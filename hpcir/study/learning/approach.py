"""The two ways to a learning loop, picked by the properties of a study: around one minimum, or by seeds and fragments.

Each gives, in order: the level of theory below (pretraining), the reference minimum of the deck's level where there is
one, and the loop with its source of geometries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from hpcir.deck.study import Study
from hpcir.models.model import Model
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.study.context import Context
from hpcir.study.label_farm import Candidate, LabelBudget, LabelFarm, LabelStore, candidates
from hpcir.study.learning import pretrain
from hpcir.study.learning.committee import CommitteeTrainer
from hpcir.study.learning.fragment_source import FragmentSource
from hpcir.study.learning.loop import LearningLoop
from hpcir.study.learning.minimum_source import MinimumSource, certain_geometries
from hpcir.study.learning.reference import Reference, check_minimum, harmonic_analysis, optimised, write
from hpcir.study.learning.source import round_purpose
from hpcir.vibrations.normal_modes import stiff_hessian


class Approach(Protocol):
    """The steps before production."""

    def pretrain(self) -> None:
        """Label and learn the level of theory below, where there is one (collective)."""

    def prepare(self) -> tuple[LabelFarm, Reference | None]:
        """The farm of the deck's level, open, and its reference minimum where sampling needs one (collective)."""

    def loop(self, farm: LabelFarm, reference: Reference | None) -> LearningLoop:
        """The learning loop of the deck's level, from what `prepare` gave (collective)."""


def approach_of(context: Context, study: Study, trainer: CommitteeTrainer, store: LabelStore) -> Approach:
    """The approach that fits a study."""
    if study.one_minimum:
        return AroundMinimum(context, trainer, store)
    return SeedsAndFragments(context, study, trainer, store)


class AroundMinimum:
    """One molecule, explored around its minimum; the level below gives thermal geometries of its own dynamics."""

    def __init__(self, context: Context, trainer: CommitteeTrainer, store: LabelStore) -> None:
        self.context, self.trainer, self.store = context, trainer, store
        self.cheap: pretrain.Pretrained | None = None
        self.start: Model | None = None

    @collective
    def pretrain(self) -> None:
        settings = pretrain.cheap_settings(self.context)
        if settings is not None:
            self.cheap = pretrain.cheap_labels(self.context, settings, self.store)
            self.start = pretrain.pretrain(self.context, self.cheap, self.trainer)

    @collective
    def prepare(self) -> tuple[LabelFarm, Reference]:
        """The minimum of the deck's level, from the cheap one's where there is one; while rank 0 optimises, the others
        label the first geometries of the cheap level's pool."""
        context, cheap = self.context, self.cheap
        if cheap:
            # One reference for all labels of a run, so that the first labels may begin before the minimum is known.
            farm = self._farm(cheap.reference)
            hessian = stiff_hessian(cheap.reference.modes)
            beside = context.at_root(lambda: candidates(certain_geometries(context, cheap.pool), round_purpose(0)))
            minimum = optimised(context, farm, cheap.reference.structure, hessian=hessian, beside=beside or ())
        else:
            farm = self._farm(None)
            minimum = optimised(context, farm, context.structure)
        reference = harmonic_analysis(context, farm, minimum)
        if not cheap:
            farm.close()
            farm = self._farm(reference)
        if context.root:
            write(context, reference)
            check_minimum(context, reference.modes)
        return farm, reference

    def _farm(self, of: Reference | None) -> LabelFarm:
        return LabelFarm(self.context, self.context.deck.labels, of.structure if of else None, self.store)

    @collective
    def loop(self, farm: LabelFarm, reference: Reference | None) -> LearningLoop:
        context = self.context
        assert reference is not None  # this approach prepares one
        pool = self.cheap.pool if self.cheap else pretrain.own_pool(context, reference)
        budget = LabelBudget(farm, context.deck.sampling.max_labels)
        source = MinimumSource(context, budget, reference, self.trainer.functions, pool)
        return LearningLoop(context, budget, self.trainer, source, self.start)


class SeedsAndFragments:
    """Several molecules, or large or flexible ones; the level below goes through rounds of its own."""

    def __init__(self, context: Context, study: Study, trainer: CommitteeTrainer, store: LabelStore) -> None:
        self.context, self.study, self.trainer, self.store = context, study, trainer, store
        self.start: Model | None = None
        self.pool: list[Candidate] = []

    @collective
    def pretrain(self) -> None:
        """Sample at the level below in the same way: its model and geometries begin the deck's level."""
        context, settings = self.context, pretrain.cheap_settings(self.context)
        if settings is None:
            return
        count = context.deck.labels.pretrain.labels
        changes = {"max_labels": count, "initial_labels": -(-count // 3), "round_labels": -(-count // 8)}
        sampling = context.deck.sampling.model_copy(update=changes)
        cheap = replace(context, deck=context.deck.model_copy(update={"sampling": sampling}))
        farm = LabelFarm(cheap, settings, None, self.store)
        try:
            loop = self._loop(cheap, farm, layout.PRETRAINED)
            self.start, _ = loop.run()
            labelled = context.at_root(loop.learnt_labels) or []
            self.pool = [Candidate(item.structure, "", item.forces) for item in labelled]
        finally:
            farm.close()

    def prepare(self) -> tuple[LabelFarm, Reference | None]:
        """The farm, and no minimum: each target has one of the final model."""
        return LabelFarm(self.context, self.context.deck.labels, None, self.store), None

    @collective
    def loop(self, farm: LabelFarm, reference: Reference | None) -> LearningLoop:
        return self._loop(self.context, farm, layout.MODELS)

    def _loop(self, context: Context, farm: LabelFarm, folder: str) -> LearningLoop:
        budget = LabelBudget(farm, context.deck.sampling.max_labels)
        source = FragmentSource(context, budget, self.study, self.trainer, self.pool)
        return LearningLoop(context, budget, self.trainer, source, self.start, folder)
