"""Basins: copies of a minimum, their modes with other masses, which one a frame is in, and how they are found."""

import numpy as np
import pytest

from hpcir.molecules.eckart import eckart_frame
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import Structure
from hpcir.spectra.basins import Basin, all_basins, basin_copies, mirror_order, nearest_basin, rotors
from hpcir.spectra.projection import Projection
from hpcir.units import AMU, ANGSTROM
from hpcir.vibrations.normal_modes import NormalModes, normal_modes
from hpcir.vibrations.quench import quench
from tests.basins import generator, methanol, random_basin


def test_rotor_copies_follow_a_turning_methyl_group():
    """The methyl group turned by 120 degrees is the same molecule: same velocities in the copy's modes."""
    structure = methanol()
    masses = structure.masses
    assert [sorted(group) for group in rotors(structure)] == [
        sorted(i for i in range(6) if structure.numbers[i] == 1 and np.linalg.norm(
            structure.positions[i] - structure.positions[0]) < 1.3 * ANGSTROM)
    ]  # fmt: skip
    copies = basin_copies(random_basin(structure, 13), structure)
    assert len(copies) == 3
    velocities = generator(14).normal(size=(1, 6, 3))
    projection = Projection.of(copies, structure, masses)
    plain, where = projection.velocities(structure.positions[None], velocities)
    group = rotors(structure)[0]
    order = np.arange(6)
    order[group] = np.roll(group, 1)
    turned, other = projection.velocities(structure.positions[None, order], velocities[:, order])
    assert np.allclose(turned, plain)
    assert where[0] == 0
    assert other[0] != 0


def test_mirror_copies_are_reachable_forms():
    """Ethanol: gauche has its mirror image (3 + 3 copies), trans is its own (3), bromochlorofluoromethane has none."""
    from ase.build import molecule

    atoms = molecule("CH3CH2OH")
    trans = Structure(atoms.numbers, atoms.positions * ANGSTROM)
    hydroxyl = next(i for i in range(9) if atoms.numbers[i] == 1 and atoms.get_distance(2, i) < 1.1)
    atoms.set_dihedral(0, 1, 2, hydroxyl, 60, indices=[hydroxyl])
    gauche = Structure(atoms.numbers, atoms.positions * ANGSTROM)
    assert len(basin_copies(random_basin(trans, 17), trans)) == 3
    copies = basin_copies(random_basin(gauche, 18), gauche)
    assert len(copies) == 6
    # Bond lengths keep their labels, and the hydroxyl group is on the other side of the C-C-O plane.
    x, y = copies[0].positions, copies[3].positions
    for i, j in ((0, 1), (1, 2), (2, hydroxyl)):
        assert np.linalg.norm(x[i] - x[j]) == pytest.approx(np.linalg.norm(y[i] - y[j]))
    handed = [np.linalg.det([p[0] - p[1], p[2] - p[1], p[hydroxyl] - p[2]]) for p in (x, y)]
    assert handed[0] == pytest.approx(-handed[1])
    labels = [np.linalg.det([p[a] - p[1] for a in (0, 2, 4)]) if atoms.numbers[4] == 1 else 0 for p in (x, y)]
    assert labels[0] * labels[1] > 0
    chiral = Structure(
        np.array([6, 1, 9, 17, 35]),
        np.array([[0, 0, 0], [1.2, 1.2, 1.2], [-1.5, -1.5, 1.5], [-2, 2, -2], [2.1, -2.1, -2.1]], float),
    )
    assert mirror_order(chiral) is None


def force_field_modes(structure: Structure, masses: np.ndarray | None = None) -> NormalModes:
    return normal_modes(structure, model_hessian(structure, 0.0), masses=masses)


def test_copies_of_an_isotopologue_have_modes_of_their_own():
    """CH2DOH: the deuterium trans or gauche to the hydroxyl group, the two gauche forms mirror images of each other."""
    structure = methanol()
    group = rotors(structure)[0]
    masses = structure.masses.copy()
    masses[group[0]] = 2.014 * AMU
    minimum = force_field_modes(structure, masses)
    basins = all_basins([minimum], structure)
    assert len(basins) == 3
    assert sorted(np.bincount([basin.kind for basin in basins])) == [1, 2]
    for basin in basins:
        own = force_field_modes(structure.moved(basin.positions), masses)
        assert np.allclose(basin.wavenumbers, own.wavenumbers, atol=1e-3)
        assert np.allclose(np.abs(np.einsum("mia,mia->m", basin.modes, own.modes)), 1, atol=1e-6)
    assert len({basin.kind for basin in all_basins([force_field_modes(structure)], structure)}) == 1


def test_two_conformers_are_two_kinds():
    structure = methanol()
    other = structure.moved(structure.positions * 1.1)
    basins = all_basins([force_field_modes(structure), force_field_modes(other)], structure)
    assert [basin.kind for basin in basins] == [0, 0, 0, 1, 1, 1]


def test_the_nearest_basin_is_the_one_with_the_least_distance():
    random, count = generator(20), 200
    masses = random.uniform(1, 16, 6) * AMU
    basins = [Basin(2 * random.normal(size=(6, 3)), np.zeros((1, 6, 3)), np.zeros(1)) for _ in range(7)]
    positions = 2 * random.normal(size=(count, 6, 3)) + 5
    index, rotations = nearest_basin(positions, masses, basins)
    framed = [eckart_frame(positions, basin.positions, masses) for basin in basins]
    distances = [
        np.einsum("i,fia->f", masses, (frame - basin.positions) ** 2)
        for (frame, _), basin in zip(framed, basins, strict=True)
    ]
    assert np.array_equal(index, np.argmin(distances, axis=0))
    expected = np.array([turns for _, turns in framed])[index, np.arange(count)]
    assert np.allclose(rotations, expected)


def test_quench_brings_every_replica_to_its_own_minimum():
    """Independent quartic double wells, from wherever each coordinate stands."""
    random = generator(21)
    start = random.normal(size=(3, 3, 40))

    def forces(x):
        return -0.4 * x * (x**2 - 1)

    found = quench(forces, start, 2000, 1e-6)
    assert np.allclose(np.abs(found), 1, atol=1e-4)
    alone = quench(forces, start[:, :, 7:8], 2000, 1e-6)
    assert np.allclose(alone[:, :, 0], found[:, :, 7], atol=1e-4)


def test_rows_of_internal_coordinates_are_their_derivatives():
    from hpcir.spectra.curvilinear import internal_rows

    x = 2 * generator(22).normal(size=(1, 5, 3))
    atoms = {
        "stretch": np.array([[0, 1], [2, 3]]),
        "bend": np.array([[0, 1, 2]]),
        "torsion": np.array([[0, 1, 2, 3], [4, 2, 1, 0]]),
        "out of plane": np.array([[0, 4, 2, 3]]),
    }

    def values(p):
        def bend(a, b, c):
            u, v = p[a] - p[b], p[c] - p[b]
            return np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))

        def torsion(i, j, k, l):
            one, two, three = p[j] - p[i], p[k] - p[j], p[l] - p[k]
            first, second = np.cross(one, two), np.cross(two, three)
            return np.arctan2(np.linalg.norm(two) * (one @ second), first @ second)

        volume = np.linalg.det([p[0] - p[4], p[2] - p[4], p[3] - p[4]])
        lengths = [np.linalg.norm(p[a] - p[b]) for a, b in ((0, 1), (2, 3))]
        return np.array([*lengths, bend(0, 1, 2), torsion(0, 1, 2, 3), torsion(4, 2, 1, 0), volume])

    rows = internal_rows(x, atoms)[0]
    step = 1e-5 * np.eye(15).reshape(15, 5, 3)
    numeric = np.array([(values(x[0] + d) - values(x[0] - d)) / 2e-5 for d in step]).T
    assert np.allclose(rows, numeric, rtol=1e-6, atol=1e-8)


def test_modes_of_linear_molecules_stay_cartesian():
    """Carbon dioxide has a linear bend, so no torsions or angles: the Cartesian modes serve."""
    structure = Structure(np.array([8, 6, 8]), np.array([[0.0, 0, -2.2], [0, 0, 0], [0, 0, 2.2]]))
    basin = Basin(
        structure.positions, np.linalg.qr(generator(23).normal(size=(9, 4)))[0].T.reshape(4, 3, 3), np.ones(4)
    )
    assert Projection.of([basin], structure, structure.masses).internal is None
