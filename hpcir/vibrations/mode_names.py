"""Words for normal modes from internal coordinates: O-H stretch, CH3 rock, torsion about C-O.

A mode's share of each internal coordinate is its part of the potential energy in the model force field,
k_s (B_s dx)^2 (Morino, Kuchitsu, J. Chem. Phys. 20, 1809, 1952, without the cross terms). Shares are summed over the
coordinates of a functional group, and the largest one or two give the name.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.molecules.internal_coordinates import InternalCoordinate, internal_coordinates, neighbours
from hpcir.molecules.structures import Structure
from hpcir.vibrations.normal_modes import NormalModes

# A second motion is named when its share is at least this, and this part of the first one's.
MIN_SECOND_SHARE = 0.2
MIN_SHARE_RATIO = 0.5
# Heavy atoms in the order in which a bond is written: carbon first, then as in the periodic table.
_ORDER = {6: 0}


def describe_modes(modes: NormalModes, structure: Structure) -> list[str]:
    """A few words for every mode (n_modes), such as 'O-H stretch' or 'C-O stretch + CH3 rock'.

    structure gives the bond graph (the minimum of the modes). A molecule without bonds gets 'relative motion'.
    """
    coordinates = internal_coordinates(structure)
    displacements = (modes.modes / np.sqrt(modes.masses)[:, None]).reshape(len(modes), -1)
    return [_name(coordinates, structure, displacement) for displacement in displacements]


def motion(coordinate: InternalCoordinate, structure: Structure) -> str:
    """The kind of a stretch or bend without its phase: 'CH2 stretch', 'C-C stretch', 'CH2 bend', 'C-C-H bend'."""
    kind, unit, *more = _group(coordinate, structure, neighbours(structure))
    return f"{more[0] if more else unit} {kind.rsplit(maxsplit=1)[-1]}"


@dataclass(frozen=True)
class AtomGroup:
    """A heavy atom with its hydrogens (or atoms without bonds): name such as 'CH3' or 'OH 2', atoms by index."""

    name: str
    atoms: list[int]


def functional_groups(structure: Structure) -> list[AtomGroup]:
    """Every heavy atom with the hydrogens on it, in the order of the atoms; each atom is in one group."""
    near = neighbours(structure)
    owner = {}
    for atom in range(len(structure)):
        heavy = [other for other in near[atom] if structure.numbers[other] > 1]
        owner[atom] = heavy[0] if structure.numbers[atom] == 1 and heavy else atom
    centres = sorted(set(owner.values()))
    words = [_xh(centre, structure, near) for centre in centres]
    found: list[AtomGroup] = []
    for number, (centre, word) in enumerate(zip(centres, words, strict=True)):
        name = word if words.count(word) == 1 else f"{word} {1 + words[:number].count(word)}"
        found.append(AtomGroup(name, [atom for atom in range(len(structure)) if owner[atom] == centre]))
    return found


def shares_of_mode(coordinates: list[InternalCoordinate], displacement: FloatArray) -> FloatArray:
    """Potential energy share (n_coordinates,) of each internal coordinate in a displacement (3N,); they sum to 1."""
    energy = np.array([c.force_constant * float(c.row @ displacement) ** 2 for c in coordinates])
    return energy / max(energy.sum(), 1e-300)


def _name(coordinates: list[InternalCoordinate], structure: Structure, displacement: FloatArray) -> str:
    if not coordinates:
        return "relative motion"
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    near = neighbours(structure)
    for index, coordinate in enumerate(coordinates):
        groups[_group(coordinate, structure, near)].append(index)
    shares = shares_of_mode(coordinates, displacement)
    changes = np.array([c.row @ displacement for c in coordinates])
    ranked = sorted(groups, key=lambda g: -shares[groups[g]].sum())
    words: list[str] = []
    first = shares[groups[ranked[0]]].sum()
    for group in ranked[:3]:
        share = shares[groups[group]].sum()
        if words and (share < MIN_SECOND_SHARE or share < MIN_SHARE_RATIO * first):
            break
        members = [coordinates[i] for i in groups[group]]
        word = _words(group, members, changes[groups[group]], structure, displacement)
        if word not in words:
            words.append(word)
    return " + ".join(words[:2])


def _group(coordinate: InternalCoordinate, structure: Structure, near: list[list[int]]) -> tuple[str, ...]:
    """The key under which a coordinate is counted: kind of motion and functional group, not the single atom."""
    numbers, atoms = structure.numbers, coordinate.atoms
    if coordinate.kind == "stretch":
        hydrogens = [a for a in atoms if numbers[a] == 1]
        if len(hydrogens) == 1:
            centre = next(a for a in atoms if a != hydrogens[0])
            return ("X-H stretch", _xh(centre, structure, near))
        return ("stretch", _bond(atoms[0], atoms[1], structure))
    if coordinate.kind in ("bend", "linear bend"):
        centre = atoms[1]
        ends = [a for a in (atoms[0], atoms[2]) if numbers[a] == 1]
        if len(ends) == 2:
            return ("H-X-H bend", _xh(centre, structure, near))
        if len(ends) == 1:
            return ("H-X-Y bend", _xh(centre, structure, near), _bend_word(atoms, structure))
        return ("bend", _bend_word(atoms, structure))
    if coordinate.kind == "torsion":
        return ("torsion", _bond(atoms[1], atoms[2], structure))
    return ("out of plane", structure.symbols[atoms[1]], _xh(atoms[1], structure, near))


def _words(
    group: tuple[str, ...],
    members: list[InternalCoordinate],
    changes: FloatArray,
    structure: Structure,
    displacement: FloatArray,
) -> str:
    kind, unit = group[0], group[1]
    several = len(unit) > 2 and unit[-1].isdigit()  # CH3, CH2, NH2, not CH or OH
    if unit == "H2O":
        unit, several = "OH2", True
    if kind == "X-H stretch":
        if unit == "OH2":
            return f"O-H {_phase(changes, members, structure)} stretch"
        if not several:
            return f"{unit[0] if len(unit) == 2 else unit[:-1]}-H stretch"
        return f"{unit} {_phase(changes, members, structure)} stretch"
    if kind == "stretch":
        phase = f" {_phase(changes, members, structure)}" if len(members) == 2 and _share_an_atom(members) else ""
        return f"{unit}{phase} stretch"
    if kind == "H-X-H bend":
        if unit == "OH2":
            return "H-O-H bend"
        if unit.endswith("H2"):
            return f"{unit} scissor"
        return f"{unit} {_umbrella(changes)} bend"
    if kind == "H-X-Y bend":
        if not several:
            return f"{group[2]} bend"
        return f"{unit} {_rock_word(unit, members, changes, structure, displacement)}"
    if kind == "torsion":
        return f"torsion about {unit}"
    if kind == "out of plane":
        return f"{group[2] if 'H' in group[2] else group[1]} out-of-plane bend"
    return f"{unit} bend"


def _phase(changes: FloatArray, members: list[InternalCoordinate], structure: Structure) -> str:
    """Symmetric when most of the motion lengthens the bonds of each centre together."""
    together, total = 0.0, float((changes**2).sum())
    for centre in {_centre(member, structure) for member in members}:
        own = np.array([c for c, member in zip(changes, members, strict=True) if _centre(member, structure) == centre])
        together += float(own.sum() ** 2 / len(own))
    return "symmetric" if together > 0.5 * total else "antisymmetric"


def _centre(member: InternalCoordinate, structure: Structure) -> int:
    """The heavier atom of a stretch with hydrogen; of other stretches the atom of lower atomic number."""
    i, j = member.atoms
    one, two = structure.numbers[i], structure.numbers[j]
    if 1 in (one, two):
        return i if one > 1 else j
    return i if one <= two else j


def _umbrella(changes: FloatArray) -> str:
    """Umbrella when the three angles open together."""
    return "umbrella" if changes.sum() ** 2 > 0.5 * len(changes) * (changes**2).sum() else "antisymmetric"


def _rock_word(
    unit: str,
    members: list[InternalCoordinate],
    changes: FloatArray,
    structure: Structure,
    displacement: FloatArray,
) -> str:
    """Umbrella or rock of three hydrogens; rock, wag or twist of two, by the motion of the hydrogens.

    The two hydrogens of a centre move along its H...H line (rock), together across their plane (wag), or opposite
    to each other across it (twist) or along it (scissor). Groups of the same name vote together.
    """
    if not unit.endswith("H2"):
        return "umbrella bend" if _umbrella(changes) == "umbrella" else "rock"
    moved = displacement.reshape(-1, 3)
    weight = {"rock": 0.0, "wag": 0.0, "twist": 0.0, "scissor": 0.0}
    for centre in {member.atoms[1] for member in members}:
        hydrogens = sorted({a for m in members if m.atoms[1] == centre for a in m.atoms if structure.numbers[a] == 1})
        if len(hydrogens) != 2:
            continue
        a, b = hydrogens
        positions = structure.positions
        along = positions[a] - positions[b]
        along /= np.linalg.norm(along)
        normal = np.cross(positions[a] - positions[centre], positions[b] - positions[centre])
        normal /= np.linalg.norm(normal)
        first, second = moved[a] - moved[centre], moved[b] - moved[centre]
        weight["rock"] += float((first + second) @ along) ** 2
        weight["wag"] += float((first + second) @ normal) ** 2
        weight["scissor"] += float((first - second) @ along) ** 2
        weight["twist"] += float((first - second) @ normal) ** 2
    return max(weight, key=lambda word: weight[word])


def _share_an_atom(members: list[InternalCoordinate]) -> bool:
    return bool(set(members[0].atoms) & set(members[1].atoms))


def _xh(centre: int, structure: Structure, near: list[list[int]]) -> str:
    """CH3, CH2, NH2, CH, OH: the centre with its hydrogens."""
    count = sum(structure.numbers[a] == 1 for a in near[centre])
    symbol = structure.symbols[centre]
    if symbol == "O" and count == 2 and len(structure) == 3:
        return "H2O"
    return symbol + ("" if not count else "H" if count == 1 else f"H{count}")


def _bond(a: int, b: int, structure: Structure) -> str:
    names = structure.symbols
    first, second = sorted((a, b), key=lambda i: (_ORDER.get(int(structure.numbers[i]), 1), structure.numbers[i]))
    return f"{names[first]}{_bond_mark(a, b, structure)}{names[second]}"


def _bond_mark(a: int, b: int, structure: Structure) -> str:
    """'=' or '#' for bonds between heavy atoms much shorter than a single one (sum of covalent radii)."""
    from ase.data import covalent_radii

    from hpcir.units import ANGSTROM

    if 1 in (structure.numbers[a], structure.numbers[b]):
        return "-"
    single = (covalent_radii[structure.numbers[a]] + covalent_radii[structure.numbers[b]]) * ANGSTROM
    ratio = float(np.linalg.norm(structure.positions[a] - structure.positions[b])) / single
    # Oxygen keeps its two bonds, however short they are (carbon dioxide).
    if 8 in (structure.numbers[a], structure.numbers[b]) and len(structure) > 2:
        return "=" if ratio < 0.895 else "-"
    return "#" if ratio < 0.825 else "=" if ratio < 0.895 else "-"


def _bend_word(atoms: tuple[int, ...], structure: Structure) -> str:
    """C-O-H, H-C=O: hydrogen last, heavier ends after lighter ones."""
    i, j, k = atoms
    numbers = structure.numbers
    if numbers[i] == 1 or (numbers[k] != 1 and (numbers[i], i) > (numbers[k], k)):
        i, k = k, i
    names = structure.symbols
    return f"{names[i]}{_bond_mark(i, j, structure)}{names[j]}{_bond_mark(j, k, structure)}{names[k]}"
