"""Exploration of large molecules: results of committee dynamics, and fragments around the uncertain atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.fragments import Fragment, fragments_for
from hpcir.molecules.structures import Structure
from hpcir.sampling.exploration import Findings

# Least committee spread of an atom's charge (e) for a label of its environment.
CHARGE_SPREAD = 0.02
# Most fragments of one geometry: further ones of the same frame add little.
MAX_FRAGMENTS = 3


@dataclass(frozen=True)
class TargetFindings:
    """Results of a block of exploration of one target.

    geometries (C, N, 3) bohr: those taken, then final ones of completed replicas; force_spreads (C, N) hartree/bohr and
    charge_spreads (C, N) e of every atom; time explored (atomic units); takes, insane: as in Findings.
    """

    geometries: FloatArray
    force_spreads: FloatArray
    charge_spreads: FloatArray
    time: float
    takes: int
    insane: int

    def taken(self) -> TargetFindings:
        """The findings without the final geometries of completed replicas."""
        kept = slice(self.takes)
        return replace(
            self,
            geometries=self.geometries[kept],
            force_spreads=self.force_spreads[kept],
            charge_spreads=self.charge_spreads[kept],
        )

    def final_geometries(self) -> FloatArray:
        """Final geometries (Q, N, 3) of the replicas that completed their time."""
        return self.geometries[self.takes :]


@dataclass(frozen=True)
class Piece:
    """A molecule to be labelled: a capped fragment, or a whole molecule, its atoms sorted by element.

    learnt (N,): atoms whose forces count; doubtful: the most uncertain atom (in `structure`).
    """

    structure: Structure
    learnt: BoolArray
    doubtful: int
    fragment: Fragment | None = None


def with_spreads(model: Model, target: Structure, findings: Findings) -> TargetFindings:
    """Every atom's spread at the geometries taken and at the final ones of completed replicas."""
    evaluator = Evaluator(model, target.numbers, 1, charge=target.charge)
    taken: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for positions in (*findings.geometries, *findings.final):
        taken.append((positions, *_spreads(evaluator, positions)))
    shape = (len(taken), len(target))
    return TargetFindings(
        np.array([item[0] for item in taken]).reshape(*shape, 3),
        np.array([item[1] for item in taken]).reshape(shape),
        np.array([item[2] for item in taken]).reshape(shape),
        findings.time,
        findings.takes,
        findings.insane,
    )


def _spreads(evaluator: Evaluator, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    replica = positions[:, :, None]
    force = evaluator.force_spread(replica)[:, 0]
    if not evaluator.has_charges:
        return force, np.zeros_like(force)
    _, charges = evaluator.member_dipoles(replica)
    return force, charges.std(0)[:, 0]


def pieces_of(
    target: Structure,
    graph: BondGraph,
    findings: TargetFindings,
    threshold: float,
    radius: float,
    largest: int,
) -> list[Piece]:
    """The fragments around the atoms of large spread, of every geometry found.

    threshold: of the force spread, hartree/bohr; radius: the cutoff, bohr; largest: heavy atoms of a fragment. A
    molecule no larger than that comes whole.
    """
    pieces = []
    for positions, force, charge in zip(
        findings.geometries, findings.force_spreads, findings.charge_spreads, strict=True
    ):
        doubt = np.maximum(force / threshold, charge / CHARGE_SPREAD)
        atoms = np.flatnonzero(doubt > min(1.0, float(doubt.max()) * 0.999))
        found, _ = fragments_for(
            target.moved(positions), atoms, radius, largest, graph=graph, weights=doubt, most=MAX_FRAGMENTS
        )
        pieces += [piece_of(item, doubt) for item in found]
    return pieces


def piece_of(item: Fragment, doubt: FloatArray) -> Piece:
    """A fragment with its atoms sorted by element; `doubt` (N,) of the large molecule's atoms."""
    own = np.where(item.core[: len(item.atoms)], doubt[item.atoms], -1.0)
    worst = int(np.argmax(own))
    count = len(item.structure)
    order = np.array(sorted(range(count), key=lambda k: (-item.structure.numbers[k], k)), np.int64)
    structure = replace(
        item.structure, numbers=item.structure.numbers[order], positions=item.structure.positions[order]
    )
    return Piece(structure, item.core[order], int(np.flatnonzero(order == worst)[0]), item)


def whole(structure: Structure) -> Piece:
    """A molecule to be labelled whole, its atoms sorted by element."""
    order = np.array(sorted(range(len(structure)), key=lambda k: (-structure.numbers[k], k)), np.int64)
    ordered = replace(structure, numbers=structure.numbers[order], positions=structure.positions[order])
    return Piece(ordered, np.ones(len(structure), bool), 0)


def unlike_pieces(pieces: Sequence[Piece], inputs: Sequence[FloatArray], nearest: float) -> list[int]:
    """Indices of the pieces left when those of one bond graph with like core environments are merged.

    inputs: (N, K) descriptors of each piece's atoms on a common scale; nearest: see `fragments.distinct`.
    """
    from hpcir.molecules.fragments import distinct

    fragments, features = [], []
    for piece, values in zip(pieces, inputs, strict=True):
        assert piece.fragment is not None
        fragments.append(replace(piece.fragment, structure=piece.structure, core=piece.learnt))
        features.append(values)
    return distinct(fragments, features, nearest)
