"""Minima of a molecule on a model's surface, searched over all ranks; each relaxation is done once.

Many candidates are brought down roughly, in lockstep, and the lowest of these relaxed: of random
conformers of a peptide few fold into the hydrogen bonds of its lowest minima.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import LabelFailed, RunStopped
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import (
    ENERGY_WINDOW,
    MIN_DISTANCE,
    SPREAD,
    Conformer,
    embedded,
    lowest_unlike,
    protons_moved,
    torsion_scan,
    unlike,
)
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context, JournalEntry
from hpcir.vibrations.harmonics import as_label_function
from hpcir.vibrations.normal_modes import NormalModes
from hpcir.vibrations.optimise import optimise
from hpcir.vibrations.quench import quench

FOLDER = layout.RELAXATIONS
# Largest force on an atom of a minimum, hartree/bohr; and of one that a trajectory merely starts near.
FORCE_TOLERANCE, ROUGH_TOLERANCE = 2e-4, 1e-3
# Candidates that are quenched for each that is relaxed; steps of the quench; geometries that are quenched together.
CANDIDATES, QUENCH_STEPS, LOCKSTEP = 8, 200, 8


@collective
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
    window: float = ENERGY_WINDOW,
) -> list[Conformer]:
    """Up to `count` unlike minima of a model, by energy (collective; rank 0's arguments count).

    Quenched are the structure, CANDIDATES times `count` conformers by RDKit, where it is installed, and as many by the
    torsion scan, some of them with a proton moved, and known geometries of the molecule. key: a digest of the model;
    tolerance: largest force on an atom, hartree/bohr; window: how far above the lowest they may lie, hartree. Empty
    when no relaxation came to an end with the molecule's bonds kept.
    """
    starts: list[Structure] = []
    if context.root:
        many = CANDIDATES * count
        scanned = torsion_scan(structure, many, seed, graph, SPREAD)
        found = [structure, *embedded(structure, many, seed, graph), *scanned]
        unrelaxed = [found[place] for place in unlike(found, MIN_DISTANCE, graph)]
        starts = [*unrelaxed, *protons_moved(unrelaxed, graph)[:count], *known]
    quenched = _quenched(context, model, context.comm.bcast(starts), key)
    lowest = context.on_root(lambda: lowest_unlike(quenched, graph, math.inf)[:count])
    relaxed = map_structures(
        context,
        f"relax {structure.name}",
        [item.structure for item in lowest],
        key,
        lambda start: _relaxed(model, start, tolerance),
    )
    kept = [
        Conformer(structure.moved(arrays["positions"]), float(arrays["energy"]))
        for arrays in relaxed
        if arrays["converged"]
    ]
    return context.on_root(lambda: lowest_unlike(kept, graph, window))


@collective
def _quenched(context: Context, model: Model, starts: Sequence[Structure], key: str) -> list[Conformer]:
    """Geometries of one molecule brought down by QUENCH_STEPS steps, with their energies (collective; on rank 0)."""
    first = starts[0]
    blocks = [
        np.array([item.positions for item in starts[begin : begin + LOCKSTEP]])
        for begin in range(0, len(starts), LOCKSTEP)
    ]

    def block(index: int) -> JournalEntry:
        evaluator = Evaluator(model, first.numbers, len(blocks[index]), charge=first.charge)

        def forces_of(positions: FloatArray) -> FloatArray:
            return np.nan_to_num(evaluator.evaluate(positions)[1])

        positions = np.ascontiguousarray(blocks[index].transpose(1, 2, 0))
        found = quench(forces_of, positions, QUENCH_STEPS, ROUGH_TOLERANCE)
        return {"positions": found.transpose(2, 0, 1), "energies": evaluator.evaluate(found)[0]}, {}

    what = f"quench {first.name}"
    records = context.map_journalled(what, FOLDER, [digest(what, key, item) for item in blocks], block, "blocks")
    return [
        Conformer(first.moved(positions), float(energy))
        for record in records or ()
        for positions, energy in zip(record.arrays["positions"], record.arrays["energies"], strict=True)
        if np.isfinite(energy)
    ]


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


def harmonic_modes(
    context: Context, structures: Sequence[Structure], key: str, modes_of: Callable[[Structure], NormalModes]
) -> list[NormalModes]:
    """Normal modes of a model at, or near, geometries of one molecule, in order (collective). key: a digest of the
    model and of how `modes_of` goes about it."""
    if not structures:
        return []
    found = map_structures(context, f"modes {structures[0].name}", structures, key, lambda s: modes_of(s).to_arrays())
    return [NormalModes.from_arrays(arrays) for arrays in found]


@collective
def map_structures(
    context: Context,
    what: str,
    structures: Sequence[Structure],
    key: str,
    work: Callable[[Structure], dict[str, Any]],
) -> list[dict[str, Any]]:
    """work(structure) of every structure, distributed over the ranks and journalled; in order, on every rank
    (collective)."""
    keys = [digest(what, key, structure.positions) for structure in structures]
    records = context.map_journalled(what, FOLDER, keys, lambda index: (work(structures[index]), {}), "geometries")
    found: list[dict[str, Any]] = context.comm.bcast(None if records is None else [r.arrays for r in records])
    return found
