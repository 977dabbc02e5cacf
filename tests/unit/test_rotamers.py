"""Rotamers of acids and amides: their names, and Monte Carlo moves that turn them over as often as is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.models.potential import ReplicaFunction
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import planar_torsions, torsion, turned
from hpcir.molecules.rotamer_names import RotamerNames
from hpcir.molecules.rotamers import pivots, torsion_moves
from hpcir.molecules.structures import Structure, read_structure
from hpcir.sampling.tempering import Tempering
from hpcir.units import AMU, ANGSTROM, FS, KELVIN

INPUTS = Path(__file__).parents[2] / "inputs"


def embedded(smiles: str) -> Structure:
    """A geometry of a molecule."""
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import rdDistGeom

    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(molecule, randomSeed=3)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return Structure(numbers, molecule.GetConformer().GetPositions() * ANGSTROM)


def over_and_back(structure: Structure) -> list[str]:
    """The names of a structure with its first planar group at 0 and at 180 degrees."""
    graph = bond_graph(structure)
    names, item = RotamerNames(graph), planar_torsions(graph)[0][1]
    assert names.several
    return [names.name(turned(structure.positions, graph, item, angle)) for angle in (0.0, 180.0)]


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("OC=O", ["syn", "anti"]),
        ("CNC=O", ["trans", "cis"]),
        ("NCC(=O)O", ["syn", "anti"]),
        ("CCC(=O)OC", ["syn", "anti"]),
    ],
)
def test_acids_esters_and_amides_are_in_the_names_of_rotamers(smiles, words):
    assert [name.split()[-1] for name in over_and_back(embedded(smiles))] == words


def test_of_several_acids_those_that_are_turned_over_are_counted():
    def anti(name: str) -> int:
        words = name.split()
        return int(words[words.index("anti") - 1]) if "anti" in words else 0

    near, far = over_and_back(embedded("OC(=O)CC(=O)O"))
    assert anti(far) == anti(near) + 1


def test_an_acid_is_turned_over_as_often_as_its_energies_say():
    """Formic acid with two states of equal width, kT ln 3 apart: a quarter is anti."""
    acid, random = read_structure(INPUTS / "formic-acid.xyz"), np.random.default_rng(11)
    moving = pivots(bond_graph(acid))
    assert [pivot.states for pivot in moving] == [(0.0, 180.0)]

    def energies_of(frames):
        angles = np.radians([torsion(frame, moving[0].atoms) for frame in frames])
        return 10 * np.sin(angles) ** 2 + np.where(np.cos(angles) < 0, np.log(3), 0.0)

    frames, over = np.repeat(acid.positions[None], 60, 0), []
    for _ in range(60):
        frames = torsion_moves(energies_of, lambda x: np.ones(len(x), bool), moving, frames, 1.0, 5, random).positions
        over.append(np.mean([abs(torsion(frame, moving[0].atoms)) > 90 for frame in frames]))
    assert np.mean(over[10:]) == pytest.approx(0.25, abs=0.03)


# -- turns and the region that the training data cover -------------------------------------------------------------

KT, STIFF = 300 * KELVIN, 0.3
HEIGHT = 1.0 * KT
# Unknown: torsions between these, degrees.
UNKNOWN = (95.0, 150.0)


def torsional(x: NDArray) -> ReplicaEvaluation:
    """Four atoms in a chain: stiff distances of neighbours and next ones, HEIGHT (1 + cos) of the torsion."""
    energies, forces = np.zeros(x.shape[2]), np.zeros_like(x)
    for one, two, rest in ((0, 1, 2.0), (1, 2, 2.6), (2, 3, 2.0), (0, 2, 3.7), (1, 3, 3.7)):
        apart = x[two] - x[one]
        length = np.sqrt((apart**2).sum(0))
        energies += 0.5 * STIFF * (length - rest) ** 2
        push = STIFF * (length - rest) * apart / length
        forces[one] += push
        forces[two] -= push
    first, axis, last = x[1] - x[0], x[2] - x[1], x[3] - x[2]
    left, right = np.cross(first, axis, axis=0), np.cross(axis, last, axis=0)
    length = np.sqrt((axis**2).sum(0))
    angle = np.arctan2(length * (first * right).sum(0), (left * right).sum(0))
    energies += HEIGHT * (1 + np.cos(angle))
    pull = HEIGHT * np.sin(angle)
    ends = -length / (left**2).sum(0) * left, length / (right**2).sum(0) * right
    near, far = (first * axis).sum(0) / length**2, (last * axis).sum(0) / length**2
    forces[0] += pull * ends[0]
    forces[1] += pull * (-(1 + near) * ends[0] + far * ends[1])
    forces[2] += pull * (near * ends[0] - (1 + far) * ends[1])
    forces[3] += pull * ends[1]
    return ReplicaEvaluation(energies, forces, None)


def known(positions: NDArray) -> NDArray:
    angles = np.abs([torsion(frame, (0, 1, 2, 3)) for frame in positions.transpose(2, 0, 1)])
    return (angles < UNKNOWN[0]) | (angles > UNKNOWN[1])


def energies_within(frames: NDArray) -> NDArray:
    positions = np.ascontiguousarray(frames.transpose(1, 2, 0))
    return torsional(positions).energies + np.where(known(positions), 0.0, 1e3)


def test_the_edge_of_the_known_region_does_not_shift_populations():
    """Dynamics leaves the region at its edges, and must not turn back into it elsewhere whatever that costs."""
    peroxide = embedded("OO")
    order = [2, 0, 1, 3]  # H O O H
    bent = 1.3 * np.array([[0.0, 1.4, 0.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, -1.4, 0.1]])
    (pivot,) = pivots(bond_graph(peroxide.moved(bent[np.argsort(order)])))
    own = replace(pivot, atoms=(0, 1, 2, 3), beyond=np.array([3]))
    sampler = Tempering(
        ReplicaFunction(torsional), np.full(4, 4 * AMU), np.array([KT]), [own], [], known,
        lambda frames: np.ones(len(frames), bool), energies_within, 40, 1 * FS, 50 * FS, 4, seed=5,
    )  # fmt: skip
    chains = 48
    state = sampler.begin(np.repeat(bent[..., None], chains, axis=2), np.arange(chains))
    outer, lost = [], 0
    for cycle in range(100):
        state, tally = sampler.cycle(state, np.random.default_rng([3, cycle]))
        lost += int(tally.lost.sum())
        outer.append([abs(torsion(frame, (0, 1, 2, 3))) > UNKNOWN[1] for frame in sampler.lowest(state)])
    grid = np.linspace(0, 180, 18001)
    weight = np.exp(-HEIGHT * (1 + np.cos(np.radians(grid))) / KT)
    weight[(grid > UNKNOWN[0]) & (grid < UNKNOWN[1])] = 0.0
    exact = weight[grid > UNKNOWN[1]].sum() / weight.sum()
    by_chain = np.mean(outer[10:], axis=0)
    error = by_chain.std(ddof=1) / np.sqrt(chains)
    assert lost > 50
    assert error < 0.012
    assert by_chain.mean() == pytest.approx(exact, abs=3 * error)
