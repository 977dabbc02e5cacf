"""The chain of levels of theory of a study, the cheapest first: each fine-tunes the model of the one before, on
geometries that the one before has explored; the last one is the spectrum's.

`labels` with `labels.pretrain` are a chain of two levels, `levels` one of any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial

from hpcir.deck.sections import DataSettings, Deck, LabelSettings
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context
from hpcir.study.label_farm import Candidate, LabelFarm, LabelStore, candidates
from hpcir.study.learning.below import Below
from hpcir.study.learning.committee import CommitteeTrainer
from hpcir.study.learning.curve import LearningCurve, Round
from hpcir.study.learning.loop import LearningLoop, intact_model
from hpcir.study.learning.pretrain import cheap_labels, cheap_settings, pretrain
from hpcir.study.learning.reference import Reference
from hpcir.vibrations.harmonics import model_harmonics


class Way(Enum):
    """The origin of a level's labels: along trajectories of its own engine, in rounds of exploration with its model,
    or from a data set."""

    TRAJECTORIES = "trajectories"
    ROUNDS = "rounds"
    DATA = "data"


@dataclass(frozen=True)
class ChainLevel:
    """A level before anything is computed.

    settings: of its engine; folder: of its models, in the run directory; labels: its budget; own_minimum: whether it
    labels its own minimum and normal modes rather than take those of the level below's model; sampling: the counts that
    stand in the place of the deck's; data: the data set where it is one.
    """

    settings: LabelSettings
    way: Way
    folder: str
    labels: int
    own_minimum: bool = True
    sampling: Mapping[str, int] = field(default_factory=dict)
    data: DataSettings | None = None

    def context(self, context: Context) -> Context:
        """The run's context with this level's counts and engine in the deck."""
        if not self.sampling:
            return context
        sampling = context.deck.sampling.model_copy(update=dict(self.sampling))
        deck: Deck = context.deck.model_copy(update={"sampling": sampling, "labels": self.settings})
        return replace(context, deck=deck)


@dataclass(frozen=True)
class LearntLevel:
    """A level that is learnt: its name, model and minimum (None where the study has several molecules) on every rank;
    on rank 0 its geometries with the forces learnt there, its counts and label seconds, and its learning curve. below:
    the level as what the next one is the difference to."""

    level: str
    model: Model
    reference: Reference | None
    pool: list[Candidate]
    labels: int
    failed: int
    seconds: float
    curve: LearningCurve
    below: Below

    @property
    def structures(self) -> list[Structure]:
        """The geometries of its labels, in order (rank 0)."""
        return [item.structure for item in self.pool]


def chain_of(context: Context) -> tuple[ChainLevel, ...]:
    """The levels of a deck, those that are to be had: a cheap level that the deck leaves open may not be."""
    deck = context.deck
    if deck.levels:
        return _of_levels(deck)
    last = ChainLevel(deck.labels, Way.ROUNDS, layout.MODELS, deck.sampling.max_labels)
    cheap = cheap_settings(context)
    if cheap is None:
        return (last,)
    count = deck.labels.pretrain.labels
    way = Way.TRAJECTORIES if deck.explores_one_minimum else Way.ROUNDS
    counts = {"max_labels": count, "initial_labels": -(-count // 3), "round_labels": -(-count // 8)}
    return ChainLevel(cheap, way, layout.PRETRAINED, count, sampling=counts), last


def _of_levels(deck: Deck) -> tuple[ChainLevel, ...]:
    """The levels of a deck's list. Engines whose labels cost next to nothing, as the first of several, are labelled
    along their own trajectories."""
    found = []
    last = len(deck.levels) - 1
    for number, level in enumerate(deck.levels):
        way = Way.DATA if level.is_data else Way.ROUNDS
        if number == 0 < last and level.engine in ("tblite", "ase") and deck.explores_one_minimum and not level.is_data:
            way = Way.TRAJECTORIES
        own = level.has_own_minimum(number)
        folder = layout.MODELS if number == last else layout.level_folder(number)
        data = level.data if level.is_data else None
        found.append(ChainLevel(level.settings, way, folder, level.budget, own, level.sampling, data))
    return tuple(found)


@collective
def reference_of(context: Context, model: Model, near: Structure) -> Reference:
    """The model's minimum near a structure with its normal modes, which cost no label (collective)."""

    def found() -> Reference:
        modes = model_harmonics(model, near)
        minimum = near.moved(modes.positions)
        energy = model.evaluate(minimum.numbers, minimum.positions, minimum.charge).energy
        return Reference(minimum, modes, energy, labelled=False)

    return context.on_root(found)


@collective
def learnt_along_trajectories(
    context: Context, level: ChainLevel, store: LabelStore, trainer: CommitteeTrainer
) -> LearntLevel:
    """Label a cheap level along its own trajectories around its own minimum, and learn it (collective)."""
    cheap = cheap_labels(context, level.settings, level.labels, store)
    model = pretrain(context, cheap, trainer, layout.level_model(level.folder))
    pool, count = candidates(cheap.pool, ""), len(cheap.labelled)
    curve = one_training(model, count)
    below = Below(model, level.settings)
    return LearntLevel(cheap.level, model, cheap.reference, pool, count, 0, cheap.seconds, curve, below)


def one_training(model: Model, labels: int) -> LearningCurve:
    """The learning curve of a level that was learnt in one training."""
    return LearningCurve([Round.of_model(0, labels, "", model)])


@collective
def learnt_in_rounds(loop: LearningLoop, reference: Reference | None) -> LearntLevel:
    """Run a level's learning loop (collective)."""
    context, farm = loop.context, loop.farm
    model, curve = loop.run()
    labelled = context.at_root(loop.learnt_labels) or []
    if context.root:
        context.progress.log(f"{farm.level}: learnt from {len(labelled)} labels; {curve.reason}")
    pool = [Candidate(item.structure, "", item.forces) for item in labelled]
    own = [entry for entry in farm.store.requested if entry.level == farm.level]
    seconds = sum(entry.label.seconds for entry in own if entry.label is not None)
    failed = sum(entry.label is None for entry in own)
    below = _below(context, farm, model, reference)
    return LearntLevel(farm.level, model, reference, pool, len(labelled), failed, seconds, curve, below)


def _below(context: Context, farm: LabelFarm, model: Model, reference: Reference | None) -> Below:
    """A level that was learnt in rounds as what the next one is the difference to. The outputs of a program that the
    user runs are not asked for again."""
    settings, near = farm.settings, None if reference is None else reference.structure
    if settings.engine == "files":
        return Below(model)
    if settings.engine == "tblite":
        return Below(model, settings)
    return Below(model, settings, everywhere=False, farm=partial(LabelFarm, context, settings, near, farm.store))


@collective
def fresh_weights(context: Context, loop: LearningLoop, trainer: CommitteeTrainer, model: Model) -> Model | None:
    """A committee from fresh weights on the last level's labels, which the independent test holds against the chain's
    `model`: what the levels below are worth (collective). None where the deck has no chain of `levels`, or no test."""
    deck = context.deck
    if len(deck.levels) < 2 or deck.test.count == 0:
        return None
    labelled = context.at_root(loop.learnt_labels) or []
    key = context.on_root(lambda: digest(model.digest, *(item.structure.positions for item in labelled)))
    path = context.directory / layout.FRESH_MODEL

    def stored() -> Model | None:
        found = intact_model(path)
        return found if found is not None and found.provenance.get("inputs") == key else None

    known = context.on_root(stored)
    if known is not None:
        return known
    steps = max(deck.training.steps, deck.training.final_steps)
    trained = trainer.train(
        labelled, level=loop.farm.level, start=None, steps=steps, purpose="from fresh weights, to compare", errors={}
    )
    fresh = replace(trained, provenance={**trained.provenance, "inputs": key})
    context.at_root(lambda: fresh.save(path))
    return fresh
