"""A data set in the place of a level of theory, learnt."""

from __future__ import annotations

from pathlib import Path

from hpcir.deck.study import Study, heavy_atoms
from hpcir.exchange.datasets import Dataset, Frame, to_groups
from hpcir.exchange.level_data import read_level
from hpcir.models.model import Model
from hpcir.molecules.pieces import formula
from hpcir.molecules.structures import Structure, symbols
from hpcir.runtime.mpi import collective
from hpcir.study.context import Context
from hpcir.study.label_farm import Candidate
from hpcir.study.learning.below import Below
from hpcir.study.learning.chain import ChainLevel, LearntLevel, one_training, reference_of
from hpcir.study.learning.committee import CommitteeTrainer


@collective
def learnt_from_data(
    context: Context,
    study: Study,
    level: ChainLevel,
    number: int,
    before: LearntLevel | None,
    trainer: CommitteeTrainer,
) -> LearntLevel:
    """Learn a level's data set, at most so many geometries as its budget, from the model of the level before where
    there is one (collective)."""
    dataset = context.at_root(lambda: _chosen(context, read_level(study, number), level.labels))
    name = context.on_root(lambda: _name(dataset, level) if dataset else "")
    groups = context.at_root(lambda: to_groups(dataset) if dataset else [])
    training = context.deck.training
    start, below = (None, None) if before is None else (before.model, before.below)
    steps = training.pretrain_steps if start is None else training.final_steps
    purpose = f"on {name}"
    model: Model = trainer.train_groups(groups, level=name, start=start, steps=steps, purpose=purpose, below=below)
    frames = () if dataset is None else dataset.frames
    pool = [candidate for frame in frames if (candidate := _candidate(study, frame)) is not None]
    reference = None
    if study.one_minimum:
        near = context.structure if before is None or before.reference is None else before.reference.structure
        reference = reference_of(context, model, near)
    curve = one_training(model, len(frames))
    return LearntLevel(name, model, reference, pool, len(frames), 0, 0.0, curve, Below(model))


def _chosen(context: Context, dataset: Dataset, most: int) -> Dataset:
    """At most so many geometries, at random."""
    if len(dataset) <= most:
        return dataset
    picked = context.random("data level").permutation(len(dataset))[:most]
    return dataset.without(set(range(len(dataset))) - set(picked.tolist()))


def _name(dataset: Dataset, level: ChainLevel) -> str:
    told = next((frame.level for frame in dataset.frames if frame.level), "")
    return told or (Path(level.data.file).name if level.data is not None else "")


def _candidate(study: Study, frame: Frame) -> Candidate | None:
    """A geometry that the next level may label; None for a molecule too large to be labelled whole."""
    if study.one_minimum:
        return Candidate(study.structure.moved(frame.positions), "")
    odd = (int(frame.numbers.sum()) - frame.charge) % 2
    item = Structure(frame.numbers, frame.positions, frame.charge, 1 + odd, formula(symbols(frame.numbers)))
    return Candidate(item, "") if heavy_atoms(item) <= study.deck.sampling.largest_fragment else None
