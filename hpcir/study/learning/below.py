"""The level of theory below the one that is learnt, and its labels of the same geometries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from hpcir.study.label_farm import LabelFarm, candidates
from hpcir.training.dataset import LabelledGroup, element_order, sorted_by_element

if TYPE_CHECKING:
    from hpcir.training.regression.baseline import Values
    from hpcir.training.regression.teacher import LevelBelow

# Geometries of a piece of work.
PIECE = 50


# The purpose of a level's labels at the geometries of the level above.
LEVEL_ABOVE = "level above"


@dataclass(frozen=True)
class Below:
    """A level's model, which trainings of the level above start from, and its engine where that is asked again: then
    the process of the labels above is that of the difference to the level itself.

    everywhere: its labels cost next to nothing, so that displaced geometries have them too; elsewhere these have its
    model's values. farm: opens the farm of the labels that the run has of it.
    """

    model: Model
    engine: LabelSettings | None = None
    everywhere: bool = True
    farm: Callable[[], LabelFarm] | None = None

    def key(self) -> list[object]:
        """All that a training depends on of it, for digests."""
        return [self.model.digest, None if self.engine is None else self.engine.content(), self.everywhere]


@collective
def level_below(context: Context, below: Below | None, groups: Sequence[LabelledGroup]) -> LevelBelow | None:
    """The level below for the process of some labels: with its own labels of their geometries where its engine is asked
    again, and of those around them where it is cheap (collective; the same groups on all ranks)."""
    if below is None:
        return None
    from hpcir.training.regression.teacher import LevelBelow, displaced, has_process  # with torch

    model, training = context.deck.model, context.deck.training
    filled = [group for group in groups if len(group)]
    groups = [sorted_by_element(group) for group in filled]
    if below.engine is None or not has_process(groups, training):
        return LevelBelow(below.model)
    if not below.everywhere:
        return LevelBelow(below.model, farmed(below, filled))
    values = labelled(context, below.engine, [*groups, *displaced(groups, context.deck.seed, model.inputs)])
    return LevelBelow(below.model, values[: len(groups)], values[len(groups) :])


@collective
def farmed(below: Below, groups: Sequence[LabelledGroup]) -> list[Values]:
    """The level's labels of all geometries, of which the run has some already, group by group, atoms sorted by element
    (collective)."""
    from hpcir.training.regression.baseline import Values

    assert below.farm is not None  # an engine that is not cheap has one
    farm = below.farm()
    structures = [Structure(g.numbers, p, g.charge, g.multiplicity) for g in groups for p in g.positions]
    labels = iter(farm.label(candidates(structures, LEVEL_ABOVE)))
    farm.close()
    found = []
    for group in groups:
        order = element_order(group.numbers)
        arrays = _arrays([next(labels) for _ in group.positions], len(group.numbers))
        found.append(Values(arrays["energy"], arrays["forces"][:, order], arrays["dipole"]))
    return found


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
