"""What must hold for the molecules of a deck with several before the first label: bonds, charges, fragments."""

from __future__ import annotations

import numpy as np

from hpcir.deck.loader import LoadedDeck
from hpcir.deck.study import heavy_atoms
from hpcir.errors import InputError
from hpcir.labels.isolation import ask_engine
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.fragments import check_fragmentable, fragment
from hpcir.molecules.structures import Structure, check_spin


def check_series(loaded: LoadedDeck) -> None:
    """Raise InputError, with molecule and atom named, for bonds that cannot be assigned, a charge that no fragment
    can carry, a cutoff larger than a fragment can hold, and a molecule that the label engine cannot label."""
    settings = loaded.deck.sampling
    for seed in loaded.series.seeds:
        bond_graph(seed)
        ask_engine(loaded.deck.labels, seed)
    for target in loaded.series.targets:
        graph = bond_graph(target)
        if heavy_atoms(target) <= settings.largest_fragment:
            ask_engine(loaded.deck.labels, target)
            continue
        check_fragmentable(target, loaded.deck.model.cutoff, settings.largest_fragment, graph)
        _check_charges(loaded, target, graph)


def _check_charges(loaded: LoadedDeck, target: Structure, graph: BondGraph) -> None:
    """Every atom that carries charge or spin must be in a fragment that is a molecule and that the engine takes."""
    settings = loaded.deck.sampling
    for atom in np.flatnonzero((graph.formal_charges != 0) | (graph.unpaired != 0)).tolist():
        piece = fragment(target, atom, loaded.deck.model.cutoff, settings.largest_fragment, graph=graph)
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
            ask_engine(loaded.deck.labels, piece.structure)
        except InputError as error:
            raise InputError(
                f"the fragment that would carry the charge of {name} cannot be labelled: {error.what}",
                where=target.source,
                value=error.value,
                hint=error.hint,
            ) from None
