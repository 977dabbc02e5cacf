"""Conformers: found by distance geometry (RDKit's ETKDG) or a torsion scan, relaxed, thinned, sorted into families.

ETKDG: Riniker, Landrum, J. Chem. Inf. Model. 55, 2562, 2015; without RDKit the rotatable bonds are turned. Conformers
that an exchange of like atoms or a reflection makes alike (g+t and tg- of pentane) are one, and the order of its point
group says how many basins of classical dynamics it stands for.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import HpcirError, InputError, LabelFailed, RunStopped
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import CARBON, HYDROGEN, NITROGEN, OXYGEN, BondGraph, reprotonated
from hpcir.molecules.structures import Structure, bonds, centre
from hpcir.molecules.symmetry import Geometry, Likeness
from hpcir.units import ANGSTROM, KCAL_PER_MOL

Relax = Callable[[Structure], tuple[Structure, float]]

# Embedded candidates per conformer to be relaxed.
OVERSAMPLING = 8
ENERGY_WINDOW = 10 * KCAL_PER_MOL
MIN_DISTANCE = 0.3 * ANGSTROM
# Standard deviation of the torsions of a scan that is to be relaxed, degrees.
SPREAD = 8.0
# A hydrogen bond: H...acceptor shorter than this, donor-H...acceptor angle wider.
HYDROGEN_BOND_LENGTH, HYDROGEN_BOND_ANGLE = 2.4 * ANGSTROM, 110.0
# From a heavy atom to a proton that moved to it.
PROTON_BOND = 1.0 * ANGSTROM
# Elements whose three bonds make a pyramid.
PYRAMIDS = (7, 15, 33)
# Largest radius of gyration of a folded chain as a fraction of the longest conformer's.
MAX_FOLDED_RADIUS = 0.85


@dataclass(frozen=True)
class Conformer:
    """A relaxed conformer, its energy in hartree, and the order of its point group, reflections included: one of half
    the order stands for twice as many basins."""

    structure: Structure
    energy: float
    symmetry: int = 1


@dataclass(frozen=True)
class Family:
    """Conformers of one kind, the lowest first: name in words, members, Boltzmann weight of all of them together."""

    name: str
    members: tuple[Conformer, ...]
    weight: float


def conformers(
    structure: Structure,
    count: int,
    seed: int,
    relax: Relax,
    window: float = ENERGY_WINDOW,
    *,
    nearest: float = MIN_DISTANCE,
    graph: BondGraph | None = None,
) -> list[Conformer]:
    """Conformers within `window` (hartree) of the lowest, by energy; at most `count` candidates are relaxed.

    relax: a geometry -> (its minimum, energy in hartree), by a label engine or a model; where it raises RunStopped or
    LabelFailed, that candidate is left out. The given structure is always one of the candidates. Dropped: minima whose
    bonds are no longer the molecule's (a proton may have moved), and those within `nearest` (bohr, root mean square,
    like atoms exchanged) of a lower one or its mirror image with its protons at the same atoms. The same seed finds the
    same.
    Raises InputError when no minimum keeps the bonds, and what `relax` raised when it never came to an end.
    """
    graph = bond_graph(structure) if graph is None else graph
    found: list[Conformer] = []
    failure: HpcirError | None = None
    for start in [structure, *starts_of(structure, count, seed, graph)]:
        try:
            minimum, energy = relax(start)
        except (RunStopped, LabelFailed) as error:
            failure = error
            continue
        found.append(Conformer(minimum, energy))
    kept = lowest_unlike(found, graph, window, nearest)
    if not kept and failure is not None:
        raise failure
    if not kept:
        raise InputError(
            "every conformer lost or made a bond when it was relaxed",
            where=structure.source or "system.structure",
            hint="this charge and protonation may have no minimum at this level of theory",
        )
    return kept


def lowest_unlike(
    found: Sequence[Conformer], graph: BondGraph, window: float = ENERGY_WINDOW, nearest: float = MIN_DISTANCE
) -> list[Conformer]:
    """Of relaxed geometries those that `conformers` keeps, by energy; empty where none has the molecule's bonds."""
    bonded = sorted(
        (item for item in found if reprotonated(graph, item.structure) is not None), key=lambda item: item.energy
    )
    within = [item for item in bonded if item.energy - bonded[0].energy <= window]
    kept = [within[index] for index in unlike([item.structure for item in within], nearest, graph)]
    likeness = Likeness(graph.numbers)
    return [replace(item, symmetry=likeness.order(_geometry(item.structure, likeness, graph)[0])) for item in kept]


def starts_of(structure: Structure, count: int, seed: int, graph: BondGraph) -> list[Structure]:
    """Geometries to relax besides the structure itself: `count` - 1 candidates, and those with a proton moved."""
    found = candidates(structure, max(0, count - 1), seed, graph)
    return found + protons_moved([structure, *found], graph)[:count]


def protons_moved(structures: Sequence[Structure], graph: BondGraph) -> list[Structure]:
    """`proton_moved` of each in turn."""
    return [moved for item in structures for moved in proton_moved(item, graph)]


def proton_moved(structure: Structure, graph: BondGraph) -> list[Structure]:
    """The structure with a hydrogen of a positively charged donor moved along each of its hydrogen bonds."""
    found = []
    for donor, hydrogen, acceptor in hydrogen_bonds(structure, graph):
        if graph.formal_charges[donor] > 0:
            positions = structure.positions.copy()
            away = positions[hydrogen] - positions[acceptor]
            positions[hydrogen] = positions[acceptor] + PROTON_BOND * away / np.linalg.norm(away)
            found.append(structure.moved(positions))
    return found


def candidates(structure: Structure, count: int, seed: int, graph: BondGraph) -> list[Structure]:
    """`count` unrelaxed conformers, each `kind` in turn: by RDKit where it is installed, else by the torsion scan."""
    found = embedded(structure, count * OVERSAMPLING, seed, graph) if count else []
    found = found or torsion_scan(structure, count * OVERSAMPLING, seed, graph, SPREAD)
    found = [found[index] for index in unlike(found, MIN_DISTANCE, graph)]
    return [found[index] for index in in_turns(found, graph)[:count]]


def in_turns(structures: Sequence[Structure], graph: BondGraph, each: int = 1) -> list[int]:
    """Indices of the structures, in order the first `each` of every `kind`, then the next of every kind, ..."""
    seen: Counter[str] = Counter()
    turns = []
    for structure in structures:
        name = kind(structure, graph)
        turns.append(seen[name] // each)
        seen[name] += 1
    return sorted(range(len(turns)), key=turns.__getitem__)


def embedded(structure: Structure, count: int, seed: int, graph: BondGraph) -> list[Structure]:
    """Up to `count` conformers by ETKDG and MMFF94, the lowest first; empty without RDKit or when it cannot.

    Handedness is kept as in the structure; amides may be trans or cis.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError:
        return []
    with rdBase.BlockLogs():
        try:
            molecule = rdkit_molecule(structure, graph)
            Chem.AssignStereochemistryFrom3D(molecule)
            settings: Any = rdDistGeom.ETKDGv3()
            settings.randomSeed = int(_random(seed, "conformers").integers(1, 2**31 - 1))
            settings.forceTransAmides = False
            settings.useRandomCoords = len(structure) > 100
            numbers = list(rdDistGeom.EmbedMultipleConfs(molecule, count, settings))
            results = [(0, 0.0)] * len(numbers)
            if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
                results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=500)
        except (ValueError, RuntimeError):
            return []
    order = sorted(range(len(numbers)), key=lambda k: results[k][1])
    frames = [molecule.GetConformer(numbers[k]).GetPositions() * ANGSTROM for k in order]
    return [structure.moved(frame) for frame in frames]


def rdkit_molecule(structure: Structure, graph: BondGraph) -> Any:
    """The RDKit molecule of a structure and its bond graph, atoms in the same order, with its positions."""
    from rdkit import Chem

    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    molecule = Chem.RWMol()
    for number, charge, unpaired in zip(
        structure.numbers.tolist(), graph.formal_charges.tolist(), graph.unpaired.tolist(), strict=True
    ):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNumRadicalElectrons(unpaired)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for (i, j), order in zip(graph.pairs.tolist(), graph.orders.tolist(), strict=True):
        molecule.AddBond(i, j, kinds[order])
    frame = Chem.Conformer(len(structure))
    for index, position in enumerate(structure.positions / ANGSTROM):
        frame.SetAtomPosition(index, position.tolist())
    molecule.AddConformer(frame)
    Chem.SanitizeMol(molecule)
    return molecule


# -- turning about bonds --------------------------------------------------------------------------------------------


def rotors(graph: BondGraph) -> list[tuple[int, int, int, int]]:
    """Torsions (a, i, j, b) about the rotatable bonds i-j, without rotors that a third of a turn brings back (methyl,
    ammonium)."""
    found = []
    for i, j in graph.rotatable:
        ends = (_substituent(graph, i, j), _substituent(graph, j, i))
        if ends[0] is not None and ends[1] is not None:
            found.append((ends[0], i, j, ends[1]))
    return found


def _substituent(graph: BondGraph, atom: int, other: int) -> int | None:
    """The heaviest neighbour of `atom` apart from `other`; None when only hydrogens, two or more, are there and the
    atom is no pyramid."""
    rest = [k for k in graph.neighbours[atom] if k != other]
    if not rest or (_all_hydrogen(graph, rest) and not _pyramid(graph, atom)):
        return None
    return max(rest, key=lambda k: (int(graph.numbers[k]), -k))


def _all_hydrogen(graph: BondGraph, atoms: Sequence[int]) -> bool:
    return len(atoms) > 1 and all(graph.numbers[k] == HYDROGEN for k in atoms)


def _pyramid(graph: BondGraph, atom: int) -> bool:
    """True where an atom with three neighbours has a lone pair out of their plane: that of an amine, not an amide."""
    return (
        int(graph.numbers[atom]) in PYRAMIDS
        and len(graph.neighbours[atom]) == 3
        and graph.formal_charges[atom] <= 0
        and not graph.unsaturated[atom]
        and not any(graph.conjugated(atom, near) for near in graph.neighbours[atom])
    )


def rotor_angle(positions: FloatArray, graph: BondGraph, item: tuple[int, int, int, int]) -> float:
    """The torsion angle in degrees of a rotor; that of the lone pair where two hydrogens are all that an end has, so
    that their labels do not matter."""
    a, i, j, b = item
    points = np.array(positions[[a, i, j, b]])
    for place, atom, other in ((0, i, j), (3, j, i)):
        rest = [k for k in graph.neighbours[atom] if k != other]
        if _all_hydrogen(graph, rest):
            points[place] = positions[atom] - (positions[rest] - positions[atom]).sum(axis=0)
    return torsion(points, (0, 1, 2, 3))


def planar_torsions(graph: BondGraph) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Torsions O=C-X-R of amides, acids and esters, with their kind; not of NH2, whose hydrogens are alike."""
    found = []
    double = {frozenset(pair) for pair, order in zip(graph.pairs.tolist(), graph.orders, strict=True) if order == 2}
    for (i, j), order, ring in zip(graph.pairs.tolist(), graph.orders, graph.in_ring, strict=True):
        for carbon, other in ((i, j), (j, i)):
            if order != 1 or ring or graph.numbers[carbon] != CARBON or graph.numbers[other] not in (NITROGEN, OXYGEN):
                continue
            oxygens = [
                k for k in graph.neighbours[carbon] if graph.numbers[k] == OXYGEN and frozenset((carbon, k)) in double
            ]
            rest = [k for k in graph.neighbours[other] if k != carbon]
            end = None if _all_hydrogen(graph, rest) else _substituent(graph, other, carbon)
            if oxygens and end is not None:
                acid = graph.numbers[end] == HYDROGEN
                name = "amide" if graph.numbers[other] == NITROGEN else "acid" if acid else "ester"
                found.append((name, (oxygens[0], carbon, other, end)))
    return found


def torsion(positions: FloatArray, atoms: tuple[int, int, int, int]) -> float:
    """The torsion angle in degrees, -180 to 180, of four atoms of positions (N, 3)."""
    a, i, j, b = positions[list(atoms)]
    axis = (j - i) / np.linalg.norm(j - i)
    first, second = (a - i) - ((a - i) @ axis) * axis, (b - j) - ((b - j) @ axis) * axis
    return float(np.degrees(np.arctan2(np.cross(axis, first) @ second, first @ second)))


def beyond_bond(graph: BondGraph, i: int, j: int) -> set[int]:
    """Atom j and all atoms that its bonds reach without passing through atom i."""
    beyond, stack = {j}, [j]
    while stack:
        for k in graph.neighbours[stack.pop()]:
            if k != i and k not in beyond:
                beyond.add(k)
                stack.append(k)
    return beyond


def turned(positions: FloatArray, graph: BondGraph, atoms: tuple[int, int, int, int], angle: float) -> FloatArray:
    """Positions with one torsion set to `angle` degrees by turning everything beyond the bond's second atom."""
    _, i, j, _ = atoms
    beyond = beyond_bond(graph, i, j)
    if i in beyond or any(i in graph.neighbours[k] for k in beyond - {j}):
        raise ValueError(f"the bond of atoms {i} and {j} is part of a ring")
    return turned_about(positions, i, j, sorted(beyond), angle - torsion(positions, atoms))


def turned_about(positions: FloatArray, i: int, j: int, atoms: IntArray | list[int], by: float) -> FloatArray:
    """Positions (N, 3) with some atoms turned by so many degrees about the axis from atom i to atom j (Rodrigues)."""
    turn = np.radians(by)
    axis = (positions[j] - positions[i]) / np.linalg.norm(positions[j] - positions[i])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    moved = np.array(positions, float)
    moved[atoms] = (moved[atoms] - positions[j]) @ rotation.T + positions[j]
    return moved


def torsion_scan(structure: Structure, count: int, seed: int, graph: BondGraph, spread: float = 0.0) -> list[Structure]:
    """Up to `count` conformers with the rotatable torsions at their staggered angles: all of them, or a random choice.

    Amide, acid and ester bonds are turned over too, one in eight. Geometries in which atoms clash are left out. spread:
    standard deviation of the angles, degrees: in a plane of symmetry a relaxation would end on a saddle point.
    """
    axes = [(item, _staggered(graph, item)) for item in rotors(graph)]
    flips = [item for _, item in planar_torsions(graph)]
    choices = [angles for _, angles in axes] + [(0.0, 180.0)] * len(flips)
    torsions = [item for item, _ in axes] + flips
    total = float(np.prod([len(angles) for angles in choices]))
    frames: list[Structure] = []
    random = _random(seed, "torsion spread")
    for setting in _settings(choices, len(flips), total, count, seed):
        positions = structure.positions
        for item, angle in zip(torsions, setting, strict=True):
            positions = turned(positions, graph, item, angle + spread * random.standard_normal())
        frame = structure.moved(positions)
        if np.array_equal(np.array(bonds(frame)).reshape(-1, 2), graph.pairs):
            frames.append(frame)
        if len(frames) == count:
            break
    return frames


def _staggered(graph: BondGraph, item: tuple[int, int, int, int]) -> tuple[float, ...]:
    flat = graph.unsaturated[item[1]] or graph.unsaturated[item[2]]
    return (180.0, 120.0, 60.0, 0.0, -60.0, -120.0) if flat else (180.0, 60.0, -60.0)


def _settings(choices: list[tuple[float, ...]], flips: int, total: float, count: int, seed: int) -> Any:
    """All settings when there are few, else random ones, at most ten for each conformer wanted."""
    if total <= 4 * count:
        yield from product(*choices)
        return
    random = _random(seed, "torsion scan")
    for _ in range(10 * count):
        free = [options[random.integers(len(options))] for options in choices[: len(choices) - flips]]
        yield free + [180.0 if random.random() < 1 / 8 else 0.0 for _ in range(flips)]


def _random(seed: int, purpose: str) -> np.random.Generator:
    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


# -- likeness, families, weights ----------------------------------------------------------------------------------


def unlike(structures: Sequence[Structure], nearest: float, graph: BondGraph) -> list[int]:
    """Indices of the structures that are farther than `nearest` (bohr, `Likeness.alike`) from every one kept before and
    its mirror image, or have their mobile protons at other atoms."""
    likeness = Likeness(graph.numbers)
    found = [_geometry(structure, likeness, graph) for structure in structures]
    kept: list[int] = []
    for index, (own, sites) in enumerate(found):
        if not likeness.alike(own, [found[other][0] for other in kept if found[other][1] == sites], nearest):
            kept.append(index)
    return kept


def _geometry(structure: Structure, likeness: Likeness, graph: BondGraph) -> tuple[Geometry, list[int]]:
    """A structure with the bonds that it has, and the atoms that its mobile hydrogens are at, sorted; the graph's bonds
    and nothing where other bonds are not the graph's."""
    now = reprotonated(graph, structure) if graph.mobile else None
    sites = [] if now is None else _carriers(now, graph.mobile)
    return likeness.geometry(structure.positions, now or graph), sites


def _carriers(graph: BondGraph, hydrogens: Sequence[int]) -> list[int]:
    return sorted(graph.neighbours[atom][0] for atom in hydrogens)


def hydrogen_bonds(structure: Structure, graph: BondGraph) -> list[tuple[int, int, int]]:
    """(donor, hydrogen, acceptor) of every hydrogen bond between N and O at least four bonds from H to acceptor."""
    found = []
    positions = structure.positions
    polar = [k for k, z in enumerate(graph.numbers.tolist()) if z in (NITROGEN, OXYGEN)]
    for donor in polar:
        for hydrogen in (k for k in graph.neighbours[donor] if graph.numbers[k] == HYDROGEN):
            near = {donor, *graph.neighbours[donor]} | {m for k in graph.neighbours[donor] for m in graph.neighbours[k]}
            for acceptor in (k for k in polar if k not in near and graph.formal_charges[k] <= 0):
                one, two = positions[donor] - positions[hydrogen], positions[acceptor] - positions[hydrogen]
                length = float(np.linalg.norm(two))
                angle = np.degrees(np.arccos(np.clip(one @ two / np.linalg.norm(one) / length, -1, 1)))
                if length < HYDROGEN_BOND_LENGTH and angle > HYDROGEN_BOND_ANGLE:
                    found.append((donor, hydrogen, acceptor))
    return found


def radius_of_gyration(structure: Structure) -> float:
    """Mass-weighted, in bohr."""
    masses = structure.masses
    away = structure.positions - centre(structure.positions, masses)
    return float(np.sqrt(masses @ (away**2).sum(1) / masses.sum()))


def kind(structure: Structure, graph: BondGraph) -> str:
    """The kind of conformer of a geometry, in words.

    Amides (trans, cis), acids (syn, anti) and esters (Z, E) in the order of the atoms, then moved protons and the
    hydrogen bonds; for molecules with none of them, how many of the rotatable torsions are gauche.
    """
    known = graph
    graph = (reprotonated(graph, structure) or graph) if graph.mobile else graph
    words = {"amide": ("trans", "cis"), "acid": ("syn", "anti"), "ester": ("Z", "E")}
    planar = [
        (name, words[name][abs(torsion(structure.positions, item)) > 90]) for name, item in planar_torsions(graph)
    ]
    parts = [
        f"{'-'.join(word for kind_, word in planar if kind_ == name)} {name}"
        for name in words
        if any(kind_ == name for kind_, _ in planar)
    ]
    names = structure.symbols
    at, was = _carriers(graph, known.mobile), _carriers(known, known.mobile)
    parts += [f"proton on {names[k]}{k + 1}" for k in sorted(set(at)) if at.count(k) > was.count(k)]
    links = sorted({(donor, acceptor) for donor, _, acceptor in hydrogen_bonds(structure, graph)})
    parts += [f"{names[donor]}{donor + 1}-H...{names[acceptor]}{acceptor + 1}" for donor, acceptor in links]
    if parts:
        return ", ".join(parts)
    angles = [abs(rotor_angle(structure.positions, graph, item)) for item in rotors(graph)]
    gauche = sum(angle < 120 for angle in angles)
    return "all trans" if gauche == 0 else f"{gauche} gauche"


def families(found: Sequence[Conformer], temperature: float, graph: BondGraph | None = None) -> list[Family]:
    """Conformers sorted into families, the heaviest first; temperature in hartree (k_B T).

    A family has the same `kind`, and the same shape where the molecule has rotatable torsions: extended or folded,
    a radius of gyration below 0.85 of the longest conformer's.
    """
    if not found:
        return []
    graph = bond_graph(found[0].structure) if graph is None else graph
    longest = max(radius_of_gyration(item.structure) for item in found)
    weights = conformer_weights(found, temperature)
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(found):
        groups.setdefault(family_name(item.structure, graph, longest), []).append(index)
    result = []
    for name, members in groups.items():
        ordered = sorted(members, key=lambda k: found[k].energy)
        result.append(Family(name, tuple(found[k] for k in ordered), float(weights[members].sum())))
    return sorted(result, key=lambda family: -family.weight)


def family_name(structure: Structure, graph: BondGraph, longest: float) -> str:
    """The name of the family of a relaxed geometry; longest: the largest radius of gyration of a conformer, bohr."""
    shape = "folded" if radius_of_gyration(structure) < MAX_FOLDED_RADIUS * longest else "extended"
    return kind(structure, graph) + (f", {shape}" if len(rotors(graph)) > 1 else "")


def conformer_weights(found: Sequence[Conformer], temperature: float) -> FloatArray:
    """Boltzmann weights (K,) that sum to one, each conformer with all its copies; temperature in hartree (k_B T)."""
    copies = np.array([item.energy + temperature * np.log(item.symmetry) for item in found])
    return boltzmann_weights(copies, temperature)


def boltzmann_weights(energies: FloatArray, temperature: float) -> FloatArray:
    """Weights (K,) that sum to one, of energies (K,) at k_B T = temperature, all in hartree."""
    factors = np.exp(-(np.asarray(energies, float) - np.min(energies)) / temperature)
    return np.asarray(factors / factors.sum(), float)
