"""The settings that a molecule's size and flexibility want in a new deck, with the reasons: functions, families,
fragments with seeds, the restraint of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from hpcir.errors import InputError
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.fragments import check_fragmentable, fragments_for
from hpcir.molecules.pieces import pieces, unit_note
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM

# Bonds that turn, methyl groups not counted, from which on one minimum does not stand for a molecule; heavy atoms
# beyond which the defaults want more; elements beyond which the networks' inputs want to be more.
FLOPPY, LARGE, MANY_ELEMENTS = 3, 12, 4
# Heavy atoms of the largest molecule that a label of each engine is taken of by the hundred.
WHOLE = {"tblite": 30, "pyscf": 20}
# Cutoff of the symmetry functions where fragments are cut (angstrom), and the sizes of fragments that are tried.
FRAGMENT_CUTOFF, FRAGMENT_SIZES = 4.0, (12, 14, 16, 18, 20, 24, 28)


@dataclass(frozen=True)
class SizeSettings:
    """Lines of the deck's sections beside the defaults, the reasons in words, and the seeds to write by name."""

    model: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    dynamics: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    seeds: dict[str, Structure] = field(default_factory=dict)


def settings_for(structure: Structure, engine: str, folder: str) -> SizeSettings:
    """The settings for a molecule that is labelled by an engine; folder: of the seeds, as the deck will name it."""
    model, sampling, dynamics, reasons = list[str](), list[str](), list[str](), list[str]()
    heavy, elements = int((structure.numbers != 1).sum()), len(set(structure.numbers.tolist()))
    if heavy > LARGE or elements > MANY_ELEMENTS:
        model.append("  inputs: 160                 # more kinds of surroundings than the default of 120 tells apart")
        reasons.append(f"{heavy} heavy atoms of {elements} elements: model.inputs is 160")
    graph = _graph(structure)
    cut = _fragments(structure, graph, WHOLE[engine]) if heavy > WHOLE[engine] else None
    turning = 0 if graph is None else _turning_bonds(structure, graph)
    if cut is not None:
        largest, seeds = cut
        names = ", ".join(f"{folder}/{name}.xyz" for name in seeds)
        model.insert(0, f"  cutoff: {FRAGMENT_CUTOFF:g} A                 # what a fragment holds whole around an atom")
        sampling += [
            f"  seeds: [{names}]",
            f"  largest_fragment: {largest:<10}# heavy atoms; larger molecules are labelled in fragments",
        ]
        reasons.append(
            f"{heavy} heavy atoms are too many to label by the hundred: fragments of at most {largest} are cut around "
            f"doubtful atoms, and sampling starts from {len(seeds)} of them (sampling.seeds)"
        )
    elif turning >= FLOPPY and structure.nuclear_masses is None and find_spec("rdkit") is not None:
        sampling.append(
            "  families: 20                # conformers that are relaxed, weighted and given a spectrum each"
        )
        reasons.append(f"{turning} bonds turn: the spectrum is of families of conformers (sampling.families)")
        if heavy > LARGE:
            sampling.append(f"  largest_fragment: {heavy:<10}# heavy atoms: the molecule is labelled whole")
            reasons.append(f"{heavy} heavy atoms are labelled whole (sampling.largest_fragment)")
    if len(pieces(structure)) > 1 and not unit_note(structure):
        dynamics.append("  # restraint: 0.5 A          # holds the pieces of the cluster together")
        reasons.append("a cluster may dissociate: dynamics.restraint holds its pieces together, where it is wanted")
    return SizeSettings(
        tuple(model), tuple(sampling), tuple(dynamics), tuple(reasons), cut[1] if cut is not None else {}
    )


def _graph(structure: Structure) -> BondGraph | None:
    try:
        return bond_graph(structure)
    except InputError:
        return None


def _fragments(structure: Structure, graph: BondGraph | None, whole: int) -> tuple[int, dict[str, Structure]] | None:
    """The size of fragments that fits a large molecule, and fragments that hold every atom, by name; None where none
    fits, for ions, whose charge polarises what would be cut away, and for isotopes."""
    if graph is None or np.any(graph.formal_charges) or structure.nuclear_masses is not None:
        return None
    radius = FRAGMENT_CUTOFF * ANGSTROM
    for largest in FRAGMENT_SIZES:
        try:
            check_fragmentable(structure, radius, largest, graph)
        except InputError:
            continue
        found, _ = fragments_for(structure, range(len(structure)), radius, largest, graph=graph)
        kinds = {piece.key: piece.structure for piece in reversed(found)}
        ordered = sorted(kinds.values(), key=len)
        return largest, {f"seed-{number:02d}": piece for number, piece in enumerate(ordered, 1)}
    return None


def _turning_bonds(structure: Structure, graph: BondGraph) -> int:
    """Bonds about which a molecule turns into other conformers: without those of methyl groups and the like."""

    def alike(atom: int, other: int) -> bool:
        ends = [structure.numbers[k] for k in graph.neighbours[atom] if k != other]
        return len(ends) == 3 and len(set(ends)) == 1 and ends[0] == 1

    return sum(not alike(i, j) and not alike(j, i) for i, j in graph.rotatable)
