"""Molecules of several pieces, or that dissociate or react; and coordinates in other units than angstrom.

Bonds go by covalent radii, contacts by van der Waals radii (Alvarez, Dalton Trans. 2013, 8617, through ASE). A bond
counts as broken only well beyond where vibrations take it, and as formed only well within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.molecules.isotopes import isotope_symbol
from hpcir.molecules.structures import Structure, bonds, standard_masses
from hpcir.units import AMU, ANGSTROM

# Two pieces whose nearest atoms are this many times the sum of their van der Waals radii apart have left each other.
APART = 1.4
# A bond is broken at this many times the sum of covalent radii, a new one formed at that many.
BROKEN, FORMED = 1.7, 1.15
EVENT_KINDS = ("apart", "broken", "formed", "moved")
# Units that coordinates come in, with their size in the angstrom that they are read as.
_LIKELY = {"bohr": 0.529177210544, "nm": 10.0, "pm": 0.01, "m": 1e10}
# Bonds of an atom, in a mean over them, that a molecule has when its coordinates are in the right unit.
_MIN_BONDS = 0.9
# The sum of bond orders below which a carbon atom is bare.
_BARE = 2.3


def pieces(structure: Structure) -> list[list[int]]:
    """Atoms (from 0) of every connected piece, by bonds."""
    links: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in bonds(structure):
        links[i].append(j)
        links[j].append(i)
    found: list[list[int]] = []
    seen: set[int] = set()
    for start in range(len(structure)):
        if start in seen:
            continue
        piece, queue = {start}, [start]
        while queue:
            fresh = [other for other in links[queue.pop()] if other not in piece]
            piece.update(fresh)
            queue += fresh
        seen |= piece
        found.append(sorted(piece))
    return found


def unit_note(structure: Structure) -> str:
    """A note on unusual bonds of a structure that was read as angstrom, in a sentence; '' when nothing is.

    No atom bonded: the unit in which most atoms would be, if there is one.
    """
    if len(structure) < 2 or bonds(structure):
        return ""
    for unit, size in _LIKELY.items():
        scaled = structure.moved(structure.positions * size)
        if 2 * len(bonds(scaled)) >= _MIN_BONDS * len(structure) and not _overlapping(scaled):
            return f"no two atoms are bonded; the coordinates look like {unit}, and are read as angstrom"
    return "no two atoms are bonded: are the coordinates in angstrom?"


def structure_notes(structure: Structure) -> list[str]:
    """Notes on a structure before a run, a sentence each: the unit of the coordinates, pieces, isotopes."""
    unit = unit_note(structure)
    if unit:
        return [unit]
    notes = []
    bare = bare_carbons(structure)
    if bare:
        names = ", ".join(f"C{atom + 1}" for atom in bare[:6]) + (" and more" if len(bare) > 6 else "")
        notes.append(f"{names} want bonds, as where a file leaves hydrogens out (crystals and proteins do): add them")
    found = pieces(structure)
    if len(found) > 1:
        parts = " and ".join(formula([structure.symbols[atom] for atom in piece]) for piece in found[:4])
        near = "" if together(structure) else ", which are far from each other"
        notes.append(
            f"the structure is of {len(found)} pieces without a bond between them{near}: {parts}"
            f"{' and more' if len(found) > 4 else ''}; trajectories in which they leave each other are left out, "
            "unless dynamics.restraint holds them together"
        )
    heavy = isotope_words(structure)
    if heavy:
        notes.append(f"the file names isotopes, whose masses are used: {heavy}")
    return notes


def bare_carbons(structure: Structure) -> list[int]:
    """Carbon atoms (from 0) that lack two bonds or so, by the lengths of those that they have, in a molecule without
    hydrogens or with three of such carbons at least; [] in others, which may be carbenes and radicals.

    A bond's order by Pauling (J. Am. Chem. Soc. 69, 542, 1947): each tenfold shortens it by 0.71 angstrom.
    """
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii) * ANGSTROM
    orders = np.zeros(len(structure))
    for i, j in bonds(structure):
        single = radii[structure.numbers[i]] + radii[structure.numbers[j]]
        distance = float(np.linalg.norm(structure.positions[i] - structure.positions[j]))
        orders[[i, j]] += 10 ** ((single - distance) / (0.71 * ANGSTROM))
    bare = np.flatnonzero((structure.numbers == 6) & (orders < _BARE)).tolist()
    return bare if 1 not in structure.numbers or len(bare) > 2 else []


def isotope_words(structure: Structure) -> str:
    """The atoms of isotopes that the structure's file names, such as 'D2, D3 (2.0141 amu)'; '' when there are none."""
    if structure.nuclear_masses is None:
        return ""
    masses = structure.nuclear_masses / AMU
    usual = standard_masses(structure.numbers) / AMU
    by_kind: dict[tuple[str, float], list[str]] = {}
    for atom, (symbol, mass, other) in enumerate(zip(structure.symbols, masses, usual, strict=True)):
        if abs(mass - other) > 0.15:
            kind = isotope_symbol(symbol, mass) or symbol
            by_kind.setdefault((kind, round(float(mass), 4)), []).append(f"{symbol}{atom + 1}")
    return "; ".join(f"{', '.join(atoms)} are {kind} ({mass:g} amu)" for (kind, mass), atoms in by_kind.items())


def formula(symbols: list[str]) -> str:
    """The Hill formula, such as 'CH4O'."""
    first = [name for name in ("C", "H") if "C" in symbols and name in symbols]
    names = first + sorted(set(symbols) - set(first))
    return "".join(f"{name}{symbols.count(name) if symbols.count(name) > 1 else ''}" for name in names)


def _overlapping(structure: Structure) -> bool:
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii)[structure.numbers] * ANGSTROM
    distance = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=-1)
    ratio = distance[np.triu_indices(len(structure), 1)] / (radii[:, None] + radii)[np.triu_indices(len(structure), 1)]
    return bool(ratio.min() < 0.7)


@dataclass(frozen=True)
class Event:
    """A change of a replica's bonds: kind 'apart', 'broken', 'formed' or 'moved' (a hydrogen to another atom); atoms,
    from 0 (of 'apart': one of each of two pieces); frame: the first of the series at which it is seen, from 0."""

    replica: int
    kind: str
    atoms: tuple[int, ...]
    frame: int

    def describe(self, symbols: Sequence[str]) -> str:
        """The change in words, atoms by symbol and number from 1."""
        names = [f"{symbols[atom]}{atom + 1}" for atom in self.atoms]
        if self.kind == "apart":
            return f"the pieces of {names[0]} and {names[1]} left each other"
        if self.kind == "moved":
            return f"{names[0]} moved from {names[1]} to {names[2]}"
        return f"the bond {names[0]}-{names[1]} {'broke' if self.kind == 'broken' else 'formed'}"


class Connectivity:
    """The bonds and pieces of a molecule at its start, to hold the geometries of trajectories against."""

    def __init__(self, structure: Structure) -> None:
        from ase.data import covalent_radii
        from ase.data.vdw_alvarez import vdw_radii

        self.structure = structure
        self.rows, self.columns = np.triu_indices(len(structure), 1)
        covalent = np.asarray(covalent_radii)[structure.numbers] * ANGSTROM
        contact = np.nan_to_num(np.asarray(vdw_radii)[structure.numbers], nan=2.0) * ANGSTROM
        self.covalent = covalent[self.rows] + covalent[self.columns]
        self.contact = contact[self.rows] + contact[self.columns]
        pairs = set(bonds(structure))
        ends = zip(self.rows.tolist(), self.columns.tolist(), strict=True)
        self.bonded: BoolArray = np.array([pair in pairs for pair in ends], np.bool_)
        self.pieces = pieces(structure)
        piece = np.zeros(len(structure), np.int64)
        for number, atoms in enumerate(self.pieces):
            piece[atoms] = number
        self.between = piece[self.rows] != piece[self.columns]
        self.piece = piece

    def events(self, positions: FloatArray) -> list[Event]:
        """The first change of each kind and atoms in positions (T, N, 3, R) in bohr, replica by replica.

        Broken bonds and formed ones of one hydrogen are one event, a move.
        """
        found: list[Event] = []
        for replica in range(positions.shape[3]):
            frames = positions[..., replica]
            delta = frames[:, self.rows] - frames[:, self.columns]
            distance = np.sqrt((delta**2).sum(axis=-1))
            if not np.all(np.isfinite(distance)):
                continue
            found += self._apart(distance, replica)
            ratio = distance / self.covalent
            changed = [(ratio > BROKEN) & self.bonded, (ratio < FORMED) & ~self.bonded]
            own = [
                Event(replica, kind, (int(self.rows[k]), int(self.columns[k])), int(np.argmax(where[:, k])))
                for kind, where in zip(("broken", "formed"), changed, strict=True)
                for k in np.flatnonzero(where.any(axis=0))
            ]
            found += self._moves(own)
        return found

    def _apart(self, distance: FloatArray, replica: int) -> list[Event]:
        """Pieces that have no other piece near."""
        if len(self.pieces) < 2:
            return []
        near: BoolArray = (distance < APART * self.contact)[:, self.between]
        first, second = self.piece[self.rows[self.between]], self.piece[self.columns[self.between]]
        ends = np.unique(np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1), axis=0)
        linked = np.stack(
            [near[:, (np.minimum(first, second) == i) & (np.maximum(first, second) == j)].any(1) for i, j in ends],
            axis=1,
        )
        kinds, inverse = np.unique(linked, axis=0, return_inverse=True)
        groups = np.array([_groups(len(self.pieces), ends[kind]) for kind in kinds])
        alone = np.asarray(groups.any(axis=1), np.bool_)[inverse.reshape(-1)]
        if not alone.any():
            return []
        frame = int(np.argmax(alone))
        other = int(np.argmax(groups[inverse.reshape(-1)[frame]] != 0))
        return [Event(replica, "apart", (self.pieces[0][0], self.pieces[other][0]), frame)]

    def _moves(self, events: list[Event]) -> list[Event]:
        """Events with the two of a hydrogen that goes from one atom to another as one."""
        numbers, left = self.structure.numbers, list(events)
        found = []
        for broken in [event for event in events if event.kind == "broken"]:
            for formed in [event for event in left if event.kind == "formed"]:
                shared = set(broken.atoms) & set(formed.atoms)
                atom = next((a for a in shared if numbers[a] == 1), None)
                if atom is not None:
                    here, there = (next(a for a in event.atoms if a != atom) for event in (broken, formed))
                    found.append(replace(formed, kind="moved", atoms=(atom, here, there)))
                    left = [event for event in left if event not in (broken, formed)]
                    break
        return [*found, *left]


def _groups(count: int, pairs: IntArray) -> IntArray:
    """(count,) 0 for pieces that are linked to the first by pairs (P, 2), others for those that are not."""
    group = np.arange(count)
    for i, j in pairs.tolist():
        group[group == group[j]] = group[i]
    return group - group[0]


def together(structure: Structure) -> bool:
    """True where the pieces of a structure are near enough to each other to be one cluster."""
    frames = structure.positions[None, :, :, None]
    return not any(event.kind == "apart" for event in Connectivity(structure).events(frames))
