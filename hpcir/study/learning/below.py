"""The level of theory below the one that is learnt, and its labels where they cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context, JournalEntry
from hpcir.training.dataset import LabelledGroup, sorted_by_element

if TYPE_CHECKING:
    from hpcir.training.regression.baseline import Values
    from hpcir.training.regression.teacher import LevelBelow

# Geometries of a piece of work.
PIECE = 50


@dataclass(frozen=True)
class Below:
    """A level's model, which trainings of the level above start from, and its engine where its labels cost next to
    nothing: then the process of the labels above is that of the difference to the level itself."""

    model: Model
    engine: LabelSettings | None = None

    def key(self) -> list[object]:
        """All that a training depends on of it, for digests."""
        return [self.model.digest, None if self.engine is None else self.engine.content()]


@collective
def level_below(context: Context, below: Below | None, groups: Sequence[LabelledGroup]) -> LevelBelow | None:
    """The level below for the process of some labels: with its own labels of their geometries and of those around them
    where its engine is cheap (collective; the same groups on all ranks)."""
    if below is None:
        return None
    from hpcir.training.regression.teacher import LevelBelow, displaced, has_process  # with torch

    model, training = context.deck.model, context.deck.training
    groups = [sorted_by_element(group) for group in groups if len(group)]
    if below.engine is None or not has_process(groups, training):
        return LevelBelow(below.model)
    places = displaced(groups, context.deck.seed, model.inputs)
    return LevelBelow(below.model, labelled(context, below.engine, [*groups, *places]))


@collective
def labelled(context: Context, settings: LabelSettings, groups: Sequence[LabelledGroup]) -> list[Values]:
    """A cheap engine's labels of all geometries, group by group, spread over ranks and journalled (collective)."""
    from hpcir.training.regression.baseline import Values

    engine = context.engine(settings, None)
    pieces = [(g, start) for g, group in enumerate(groups) for start in range(0, len(group), PIECE)]

    def positions_of(piece: int) -> FloatArray:
        number, start = pieces[piece]
        return groups[number].positions[start : start + PIECE]

    def label(piece: int) -> JournalEntry:
        group = groups[pieces[piece][0]]
        found = [_label(engine, group, positions) for positions in positions_of(piece)]
        return _arrays(found, len(group.numbers)), {}

    keys = []
    for piece, (number, _) in enumerate(pieces):
        group = groups[number]
        state = (group.charge, group.multiplicity)
        keys.append(digest("below", settings.content(), group.numbers, state, positions_of(piece)))
    records = context.map_journalled("labels of the level below", layout.BELOW_JOURNALS, keys, label, "pieces")
    engine.close()
    arrays: list[dict[str, FloatArray]] = context.comm.bcast(None if records is None else [r.arrays for r in records])
    parts: list[list[dict[str, FloatArray]]] = [[] for _ in groups]
    for (number, _), found in zip(pieces, arrays, strict=True):
        parts[number].append(found)
    return [
        Values(*(np.concatenate([p[name] for p in own]) for name in ("energy", "forces", "dipole"))) for own in parts
    ]


def _label(engine, group: LabelledGroup, positions: FloatArray) -> Label | None:  # type: ignore[no-untyped-def]
    try:
        label: Label = engine.label(Structure(group.numbers, positions, group.charge, group.multiplicity))
    except LabelFailed:
        return None
    return label


def _arrays(labels: Sequence[Label | None], atoms: int) -> dict[str, FloatArray]:
    """Labels as arrays, nan for those that failed."""
    nothing = np.full((atoms, 3), np.nan)
    return {
        "energy": np.array([np.nan if label is None else label.energy for label in labels]),
        "forces": np.array([nothing if label is None else label.forces for label in labels]),
        "dipole": np.array([nothing[0] if label is None else label.dipole for label in labels]),
    }
