"""The learning loop: label, train, explore, and again, until exploration finds nothing or the budget is used up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hpcir.errors import InputError
from hpcir.models.model import Model
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context
from hpcir.study.label_farm import TEST, Candidate, LabelBudget
from hpcir.study.learning.accuracy import ModelShare, model_share
from hpcir.study.learning.below import Below
from hpcir.study.learning.committee import CommitteeTrainer, LearntLabel, groups_of, held_out_labels
from hpcir.study.learning.curve import ExplorationFigures, LearningCurve, Round, Stop, StopReason
from hpcir.study.learning.reference import PURPOSE
from hpcir.study.learning.source import GeometrySource, exploration_figures, round_purpose
from hpcir.training.dataset import TrainingData
from hpcir.training.evaluation import added, error_figures, error_sums
from hpcir.units import PS
from hpcir.vibrations.local_frequencies import MIN_GEOMETRIES

FOLDER = layout.MODELS
# Purposes of the labels around the minimum.
MINIMUM_PURPOSES = ("optimisation", PURPOSE)
# Longer trainings follow a short one whose error is within so many times the accuracy.
NEAR = 4


class LearningLoop:
    """Rounds of labels, training and exploration with one source of geometries, at one level of theory.

    below: the level below, whose model every training starts from; None: each begins from fresh weights.
    """

    def __init__(
        self,
        context: Context,
        budget: LabelBudget,
        trainer: CommitteeTrainer,
        source: GeometrySource,
        below: Below | None,
        folder: str = FOLDER,
    ) -> None:
        self.context, self.budget, self.farm = context, budget, budget.farm
        self.trainer, self.source, self.below = trainer, source, below
        self.folder = context.directory / folder
        # The model error's share of the spectrum in the last round, where it is known (rank 0).
        self.share: ModelShare | None = None

    @collective
    def run(self) -> tuple[Model, LearningCurve]:
        """Run all rounds (collective); the final model and its learning curve."""
        context, settings = self.context, self.context.deck.sampling
        context.at_root(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        state = context.on_root(lambda: LearningCurve.load(self.folder))
        wanted = self.source.first()
        model: Model | None = None
        for number in range(settings.rounds + 1):
            self.farm.label(wanted)
            model = self._round_model(number, model, state)
            if context.root:
                context.progress.log(state.rounds[number].line())
            stop = context.on_root(partial(self._stop_before_exploring, number, model))
            if stop is None:
                wanted, stop = self._explored(number, model, state)
            if stop is not None:
                state.stop(stop)
                break
        context.at_root(lambda: state.save(self.folder))
        if context.root:
            context.progress.log(f"sampling done: {state.reason}")
        assert model is not None  # the loop runs at least once
        return self._final_model(model, state), state

    @collective
    def _explored(self, number: int, model: Model, state: LearningCurve) -> tuple[list[Candidate] | None, Stop | None]:
        """The geometries of the next round (rank 0), and the reason to stop, if there is one (collective)."""
        found = self.source.explore(number, model)
        wanted = self.source.choose(number, model, found) if found is not None else None
        figures = None if found is None else exploration_figures(self.source.targets, found)
        explored: ExplorationFigures = self.context.comm.bcast(figures)
        state.explored(number, explored)
        between = explored.picoseconds_between_takes
        return wanted, self.context.on_root(lambda: self._stop_after_exploring(wanted, between))

    def learnt_labels(self) -> list[LearntLabel]:
        """The good labels of this level but the test's; those of the minimum's neighbourhood, which make the
        frequencies, are never held out (rank 0)."""
        return [
            LearntLabel(entry.structure, entry.label, entry.learnt, entry.purpose in MINIMUM_PURPOSES)
            for entry in self.farm.store.requested
            if entry.level == self.farm.level and entry.label is not None and not entry.purpose.startswith(TEST)
        ]

    # -- training -----------------------------------------------------------------------------------------------

    @collective
    def _round_model(self, number: int, before: Model | None, state: LearningCurve) -> Model:
        """The model of a round: from its file when a stopped run had trained it on the same labels, else trained."""
        context = self.context
        labelled = context.at_root(self.learnt_labels) or []
        key = _data_key(labelled)
        path = self.folder / layout.round_file(number)
        done = context.root and number < len(state.rounds) and state.rounds[number].data == key
        stored = context.on_root(lambda: intact_model(path) if done else None)
        if stored is not None:
            return stored
        model = self._trained(number, labelled, self._start(before), state)
        model = context.on_root(lambda: self._calibrated(model, before, number))

        def keep() -> list[Round]:
            model.save(path)
            state.put(Round.of_model(number, len(labelled), key, model))
            state.save(self.folder)
            return state.rounds

        state.rounds = context.on_root(keep)
        return model

    @collective
    def _trained(
        self, number: int, labelled: Sequence[LearntLabel], start: Model | None, state: LearningCurve
    ) -> Model:
        """A round's model. Trainings begin short, are made twice as long where they are not yet as accurate as the deck
        asks for, and stay so for the rounds to come; where they are far from it, full ones follow at once."""
        context, training = self.context, self.context.deck.training
        steps = training.steps if start is None else training.retrain_steps
        if state.steps_divisor > 1 and not context.on_root(self._can_judge):
            state.steps_divisor = 1
        while True:
            divisor = state.steps_divisor
            part, purpose = -(-steps // divisor), f"round {number}"
            model = self.trainer.train(
                labelled, level=self.farm.level, start=start, steps=part, purpose=purpose, below=self.below
            )
            if divisor == 1:
                return model
            wanted, share = context.deck.accuracy, context.on_root(partial(self._share, model))
            if share is not None and share.meets(wanted):
                return model
            if context.root and share is not None:
                context.progress.log(f"after {part} steps a member: {share.words()}")
            near = share is not None and share.wavenumber <= NEAR * wanted.wavenumber
            state.steps_divisor = divisor // 2 if near else 1
            # At once: a run that is stopped in the longer training does not try the short one again.
            context.at_root(lambda: state.save(self.folder))

    def _can_judge(self) -> bool:
        """True where enough labels are held out to know the model error's share (rank 0)."""
        if len(self.source.targets) != 1:
            return False
        return len(held_out_labels(self.learnt_labels(), self.context.deck)) >= MIN_GEOMETRIES

    @collective
    def _final_model(self, model: Model, state: LearningCurve) -> Model:
        """The final committee, trained for longer and on all labels: those that the rounds held out are a tenth of the
        cost. Its errors are measured by the independent test. A model that is as accurate as the deck asks for is
        final already, whatever ended the rounds."""
        context = self.context
        if state.stopped is StopReason.ACCURACY or context.on_root(partial(self._is_accurate, model)):
            return model
        labelled = context.at_root(self.learnt_labels) or []
        key = _data_key(labelled)
        path = self.folder / layout.FINAL_MODEL_FILE
        stored = context.on_root(lambda: intact_model(path) if state.final == key else None)
        if stored is not None:
            return stored
        training, start = context.deck.training, self._start(model)
        final = self.trainer.train(
            labelled,
            level=self.farm.level,
            start=start,
            steps=training.final_steps if start is not None else max(training.steps, training.final_steps),
            purpose="final model",
            below=self.below,
            errors=model.error,
        )
        if context.root:
            final.save(path)
            state.final = key
            state.save(self.folder)
        return final

    def _is_accurate(self, model: Model) -> bool:
        """True where labels held out show that a round's model is as accurate as the deck asks for (rank 0)."""
        self.share = self._share(model)
        return self.share is not None and self.share.meets(self.context.deck.accuracy)

    def _start(self, before: Model | None) -> Model | None:
        """The model that a training starts from: the one before, where the committee was pretrained; else none. A
        committee that has only seen the first labels carries their few directions along, and a new one soon does
        better."""
        return None if self.below is None else before or self.below.model

    def _calibrated(self, model: Model, before: Model | None, number: int) -> Model:
        """The model with its spreads calibrated on the held-out labels and, as far as there are any, on what the last
        exploration took: there the model before was put to the test where the committee disagreed (rank 0)."""
        if before is None:
            return model
        purpose = round_purpose(number)
        fresh = [
            LearntLabel(entry.structure, entry.label, entry.learnt)
            for entry in self.farm.store.requested
            if entry.level == self.farm.level and entry.label is not None and entry.purpose == purpose
        ]
        if not fresh:
            return model
        parts = [self.trainer.held_out]
        for group in groups_of(fresh):
            data = TrainingData.build([group], before.functions, "float64", start=before.energy)
            parts.append(error_sums(before, data, data.groups[0]))
        pooled = error_figures(added(parts))
        taken = error_figures(added(parts[1:]))
        calibration = {name: value for name, value in pooled.items() if name.endswith("_calibration")}
        errors = {f"taken_{name}": value for name, value in taken.items() if name.endswith("_rmse")}
        return replace(model, error={**model.error, **calibration, **errors})

    # -- stopping -----------------------------------------------------------------------------------------------

    def _stop_before_exploring(self, number: int, model: Model) -> Stop | None:
        settings = self.context.deck.sampling
        if number > 0 and self._is_accurate(model):
            assert self.share is not None
            return Stop(StopReason.ACCURACY, self.share.words())
        if self.budget.used() >= self.budget.most:
            return Stop(StopReason.LABEL_BUDGET, f"the label budget of {self.budget.most} is spent")
        if number == settings.rounds:
            return Stop(StopReason.ROUNDS, f"all {settings.rounds} rounds of exploration are done")
        return None

    def _share(self, model: Model) -> ModelShare | None:
        """The model error's share of the one target's spectrum; None of several, whose labels are few each."""
        if len(self.source.targets) != 1:
            return None
        held_out = held_out_labels(self.learnt_labels(), self.context.deck)
        return model_share(model, self.source.targets[0], held_out)

    def _stop_after_exploring(self, wanted: list[Candidate] | None, between: float) -> Stop | None:
        """between: explored time between takes, ps; without a take all that was explored, which shows no more."""
        goal = self.context.deck.sampling.goal / PS
        if between >= goal:
            return Stop(StopReason.GOAL, f"explored {between:.1f} ps per geometry taken at a goal of {goal:g} ps")
        if not wanted:
            return Stop(StopReason.NOTHING_NEW, "exploration found no geometry that is not labelled yet")
        return None


def _data_key(labelled: Sequence[LearntLabel]) -> str:
    """A digest of the geometries that a model is trained on."""
    return digest(*(item.structure.positions for item in labelled))


def intact_model(path: Path) -> Model | None:
    """A model file's model, or None where there is none; a damaged one becomes NAME.damaged and counts as missing."""
    if not path.is_file():
        return None
    try:
        return Model.load(path)
    except InputError:
        os.replace(path, path.with_name(path.name + layout.DAMAGED))
        return None
