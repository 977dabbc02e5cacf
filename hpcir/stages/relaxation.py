"""Minima of a molecule on a model's surface, searched over all ranks; each relaxation is done once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpcir.errors import LabelFailed, RunStopped
from hpcir.models.model import Model
from hpcir.sampling.bonding import BondGraph
from hpcir.sampling.conformers import WINDOW, Conformer, lowest_unlike, starts_of
from hpcir.sampling.optimise import optimise
from hpcir.stages.analysis import as_label_function
from hpcir.stages.context import Context
from hpcir.store import digest
from hpcir.structures import Structure

FOLDER = "families"
# Largest force on an atom of a minimum, hartree/bohr; and of one that a trajectory merely starts near.
FORCE_TOLERANCE, ROUGH_TOLERANCE = 2e-4, 1e-3


def minima(
    context: Context,
    model: Model,
    structure: Structure,
    graph: BondGraph,
    count: int,
    seed: int,
    key: str,
    tolerance: float = FORCE_TOLERANCE,
    known: Sequence[Structure] = (),
    window: float = WINDOW,
) -> list[Conformer]:
    """Unlike minima of a model, by energy, from `count` candidates, those with a proton moved, and known geometries of
    the molecule (collective; rank 0's count).

    key: a digest of the model; tolerance: largest force on an atom, hartree/bohr; window: how far above the lowest they
    may lie, hartree. Empty when no relaxation came to an end with the molecule's bonds kept.
    """
    starts = context.comm.bcast(
        [structure, *starts_of(structure, count, seed, graph), *known] if context.root else None
    )
    relaxed = over_ranks(
        context, f"relax {structure.name}", starts, key, lambda start: _relaxed(model, start, tolerance)
    )
    found = [
        Conformer(structure.moved(arrays["positions"]), float(arrays["energy"]))
        for arrays in relaxed
        if arrays["converged"]
    ]
    return context.comm.bcast(lowest_unlike(found, graph, window) if context.root else None)


def _relaxed(model: Model, structure: Structure, tolerance: float) -> dict[str, Any]:
    try:
        found = optimise(structure, as_label_function(model), force_tolerance=tolerance)
    except (RunStopped, LabelFailed):
        return {"positions": structure.positions, "energy": np.float64(0), "converged": np.bool_(False)}
    return {
        "positions": found.structure.positions,
        "energy": np.float64(found.label.energy),
        "converged": np.bool_(True),
    }


def over_ranks(
    context: Context,
    what: str,
    structures: Sequence[Structure],
    key: str,
    work: Callable[[Structure], dict[str, Any]],
) -> list[dict[str, Any]]:
    """work(structure) of every structure, dealt to the ranks and journalled; in order, on every rank (collective)."""
    keys = [digest(what, key, structure.positions) for structure in structures]
    records = context.deal_once(what, FOLDER, keys, lambda index: (work(structures[index]), {}), "geometries")
    found: list[dict[str, Any]] = context.comm.bcast(None if records is None else [r.arrays for r in records])
    return found
