"""Checks of a deck's molecules before the first label: label engine, bonds, charges, fragments."""

from __future__ import annotations

import numpy as np

from hpcir.deck.study import Study
from hpcir.errors import InputError
from hpcir.exchange.level_data import read_level
from hpcir.labels.isolation import ask_engine
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.fragments import check_fragmentable, fragment
from hpcir.molecules.structures import Structure, check_spin


def check_molecules(study: Study) -> None:
    """Raise InputError, with molecule and atom named, for a molecule that a label engine cannot label; where sampling
    goes by bonds, also for bonds that cannot be assigned, a charge that no fragment can carry, and a cutoff larger than
    a fragment can hold."""
    for molecule in _labelled(study):
        ask_engine(study.deck.labels, molecule)
        if study.deck.labels.pretrain.engine in ("tblite", "ase"):
            ask_engine(study.deck.labels.pretrain_settings, molecule, "labels.pretrain")
        for number, level in enumerate(study.deck.levels[:-1]):
            if not level.is_data:
                ask_engine(level.settings, molecule, f"levels.{number}")
    for number, level in enumerate(study.deck.levels):
        if level.is_data:
            read_level(study, number)
    if study.one_minimum:
        return
    settings = study.deck.sampling
    for seed in study.seeds:
        bond_graph(seed)
    for target in study.targets:
        graph = bond_graph(target)
        if not study.labelled_whole(target):
            check_fragmentable(target, study.deck.model.cutoff, settings.largest_fragment, graph)
            _check_charges(study, target, graph)


def _labelled(study: Study) -> list[Structure]:
    """The molecules that are labelled as they are."""
    whole = [target for target in study.targets if study.labelled_whole(target)]
    if study.one_minimum:
        return whole
    known = {id(seed) for seed in study.seeds}
    return [*study.seeds, *(item for item in whole if id(item) not in known)]


def _check_charges(study: Study, target: Structure, graph: BondGraph) -> None:
    """Every atom that carries charge or spin must be in a fragment that is a molecule and that the engine takes."""
    settings = study.deck.sampling
    for atom in np.flatnonzero((graph.formal_charges != 0) | (graph.unpaired != 0)).tolist():
        piece = fragment(target, atom, study.deck.model.cutoff, settings.largest_fragment, graph=graph)
        held = int(np.flatnonzero(piece.atoms == atom)[0])
        name = f"atom {atom + 1} ({target.symbols[atom]}) of {target.name}"
        if not piece.core[held]:
            raise InputError(
                f"{name} carries a charge that no fragment can carry: its surroundings do not fit in one",
                where=target.source,
                value=f"at most {settings.largest_fragment} heavy atoms a fragment",
                hint="allow larger fragments (sampling.largest_fragment)",
            )
        try:
            check_spin(piece.structure)
            ask_engine(study.deck.labels, piece.structure)
        except InputError as error:
            raise InputError(
                f"the fragment that would carry the charge of {name} cannot be labelled: {error.what}",
                where=target.source,
                value=error.value,
                hint=error.hint,
            ) from None
