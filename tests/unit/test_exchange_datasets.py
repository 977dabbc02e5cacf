"""Data sets in and out: declared keys and units, nothing guessed, nothing silently zero."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from hpcir.errors import InputError
from hpcir.exchange.datasets import Dataset, Frame, to_groups, unit_size
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.reading import read_dataset
from hpcir.molecules.structures import centre, standard_masses
from hpcir.storage.hdf5 import write_h5
from hpcir.units import ANGSTROM, DEBYE, EV, KCAL_PER_MOL

NUMBERS = np.array([8, 1, 1])
SHAPE = ANGSTROM * np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])


def frames(count: int = 4, charge: int = 0) -> tuple[Frame, ...]:
    random = np.random.Generator(np.random.Philox(key=[1, 2]))
    made = []
    for _ in range(count):
        made.append(
            Frame(
                numbers=NUMBERS,
                positions=SHAPE + 0.1 * random.standard_normal((3, 3)),
                energy=float(-76.0 + 0.01 * random.standard_normal()),
                forces=0.02 * random.standard_normal((3, 3)),
                dipole=0.7 * random.standard_normal(3),
                charges=random.standard_normal(3),
                charge=charge,
                level="HF/6-31G",
            )
        )
    return tuple(made)


def assert_same(one: Dataset, other: Dataset, tolerance: float = 1e-10) -> None:
    assert len(one) == len(other)
    for a, b in zip(one.frames, other.frames, strict=True):
        np.testing.assert_array_equal(a.numbers, b.numbers)
        assert (a.charge, a.level) == (b.charge, b.level)
        for name in ("positions", "energy", "forces", "dipole", "charges"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None), name
            if x is not None:
                np.testing.assert_allclose(x, y, atol=tolerance, rtol=0)


@pytest.mark.parametrize("units", ["ase", "atomic"])
def test_extxyz_round_trip(tmp_path, units):
    data = Dataset(frames())
    path = write_extxyz(data, tmp_path / "data.xyz", units=units)
    assert_same(read_dataset(path, units=units), data)
    assert_same(read_dataset(path), data)  # the file says its units


def test_extxyz_round_trip_under_other_names_and_units(tmp_path):
    data = Dataset(frames(charge=-1))
    units = {
        "energy": "kcal/mol",
        "forces": "kcal/mol/A",
        "dipole": "debye",
        "charges": "e",
        "positions": "bohr",
    }
    keys = {q: f"REF_{q}" for q in ("energy", "forces", "dipole", "charges", "charge", "level")}
    path = write_extxyz(data, tmp_path / "data.xyz", units=units, keys=keys)
    assert_same(read_dataset(path, units=units, keys=keys, dipole_origin="charge"), data, 1e-9)


def test_an_atomic_unit_of_each_kind():
    assert unit_size("energy", "hartree") == unit_size("forces", "hartree/bohr") == 1.0
    assert unit_size("forces", "kJ/mol/nm") == pytest.approx(unit_size("energy", "kJ/mol") / (10 * ANGSTROM))
    assert unit_size("dipole", "debye") == pytest.approx(1 / 2.541746, rel=1e-6)
    with pytest.raises(InputError, match="no such unit"):
        unit_size("forces", "eV")


def test_ases_own_file_and_units(tmp_path):
    atoms = Atoms("OH2", SHAPE / ANGSTROM)
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0, forces=np.ones((3, 3)), dipole=[0.1, 0.2, 0.3])
    write(tmp_path / "one.xyz", atoms)
    frame = read_dataset(tmp_path / "one.xyz", units="ase").frames[0]
    assert frame.energy == pytest.approx(-2.0 * EV)
    np.testing.assert_allclose(frame.forces, EV / ANGSTROM)
    np.testing.assert_allclose(frame.dipole, np.array([0.1, 0.2, 0.3]) * ANGSTROM)
    assert frame.charges is None  # not there: unknown, not zero


def test_names_of_others_must_be_declared(tmp_path):
    atoms = Atoms("OH2", SHAPE / ANGSTROM)
    atoms.info["REF_energy"] = -2069.0
    atoms.info["my_dipole"] = np.array([0.0, 0.0, 1.8])
    atoms.arrays["REF_forces"] = np.full((3, 3), 0.1)
    path = tmp_path / "data.xyz"
    write(path, [atoms, atoms])
    with pytest.raises(InputError, match=r"holds .*REF_energy.*my_dipole"):
        read_dataset(path, units="ase")
    keys = {"energy": "REF_energy", "forces": "REF_forces", "dipole": "my_dipole"}
    data = read_dataset(path, units={"energy": "eV", "forces": "eV/A", "dipole": "debye"}, keys=keys)
    assert data.frames[1].dipole[2] == pytest.approx(1.8 * DEBYE)
    with pytest.raises(InputError, match="no dipole under the name 'dipole'"):
        read_dataset(path, units="ase", keys={"energy": "REF_energy", "dipole": "dipole"})
    with pytest.raises(InputError, match="unit of dipole is not declared"):
        read_dataset(path, units={"energy": "eV", "forces": "eV/A"}, keys=keys)
    with pytest.raises(InputError, match="shape"):
        read_dataset(path, units="ase", keys={"energy": "REF_energy", "forces": "my_dipole"})


def test_a_geometry_without_what_was_asked_for(tmp_path):
    whole = frames(3)
    partial = Dataset((*whole[:2], Frame(NUMBERS, SHAPE, energy=-76.0, level="HF/6-31G")))
    path = write_extxyz(partial, tmp_path / "data.xyz")
    with pytest.raises(InputError, match="geometry 3: no forces"):
        read_dataset(path, units="ase")
    data = read_dataset(path, units="ase", missing="allow")
    assert data.having("forces") == [0, 1]
    assert data.frames[2].dipole is None
    groups = to_groups(data)
    assert [len(group) for group in groups] == [2, 1]
    assert groups[1].forces is None
    assert groups[1].energies is not None


@pytest.mark.parametrize("origin", ["mass", "geometry", "zero", "charge"])
def test_an_ions_dipole_is_moved_to_the_centre_of_nuclear_charge(tmp_path, origin):
    partial = np.array([-0.3, 0.7, 0.6])
    weights = {"mass": standard_masses(NUMBERS), "geometry": np.ones(3), "charge": NUMBERS.astype(float)}
    positions = SHAPE + np.array([1.0, -2.0, 3.0])
    start = centre(positions, weights[origin]) if origin in weights else np.zeros(3)
    frame = Frame(NUMBERS, positions, energy=-75.0, dipole=partial @ (positions - start), charge=1)
    path = write_extxyz(Dataset((frame,)), tmp_path / "ion.xyz", units="atomic")
    with pytest.raises(InputError, match="origin of the dipole of an ion"):
        read_dataset(path, units="atomic")
    found = read_dataset(path, units="atomic", dipole_origin=origin).frames[0].dipole
    np.testing.assert_allclose(found, partial @ (positions - centre(positions, weights["charge"])), atol=1e-10)


def test_charges_that_contradict(tmp_path):
    path = write_extxyz(Dataset(frames(charge=1)), tmp_path / "ion.xyz")
    with pytest.raises(InputError, match="another total charge"):
        read_dataset(path, units="ase", charge=0, dipole_origin="charge")


def test_periodic_cells_are_refused(tmp_path):
    atoms = Atoms("OH2", SHAPE / ANGSTROM, cell=[9, 9, 9], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0)
    write(tmp_path / "cell.xyz", atoms)
    with pytest.raises(InputError, match="periodic"):
        read_dataset(tmp_path / "cell.xyz", units="ase")


def arrays(data: Dataset) -> dict[str, np.ndarray]:
    return {
        "z": NUMBERS,
        "R": np.array([f.positions for f in data.frames]) / ANGSTROM,
        "E": np.array([f.energy for f in data.frames])[:, None] / KCAL_PER_MOL,
        "F": np.array([f.forces for f in data.frames]) / (KCAL_PER_MOL / ANGSTROM),
        "D": np.array([f.dipole for f in data.frames]) / DEBYE,
    }


MD17_UNITS = {"positions": "A", "energy": "kcal/mol", "forces": "kcal/mol/A", "dipole": "debye"}


def without_charges(data: Dataset) -> Dataset:
    return Dataset(
        tuple(Frame(f.numbers, f.positions, f.energy, f.forces, f.dipole, level=f.level) for f in data.frames)
    )


@pytest.mark.parametrize(
    "names", [{}, {"z": "nuclear_charges", "R": "coords", "E": "energies", "F": "forces", "D": "dipoles"}]
)
def test_npz_of_known_layouts(tmp_path, names):
    data = Dataset(frames())
    np.savez(tmp_path / "set.npz", **{names.get(k, k): v for k, v in arrays(data).items()})
    read = read_dataset(tmp_path / "set.npz", units=MD17_UNITS, level="HF/6-31G")
    assert_same(read, without_charges(data))


def test_padded_npz(tmp_path):
    data = Dataset(frames(3))
    held = arrays(data)
    padded = {
        "N": np.array([3, 3, 3]),
        "Z": np.pad(np.tile(NUMBERS, (3, 1)), ((0, 0), (0, 2))),
        "R": np.pad(held["R"], ((0, 0), (0, 2), (0, 0))),
        "E": held["E"][:, 0],
        "F": np.pad(held["F"], ((0, 0), (0, 2), (0, 0))),
        "D": held["D"],
        "Q": np.zeros(3),
    }
    np.savez(tmp_path / "set.npz", **padded)
    assert_same(read_dataset(tmp_path / "set.npz", units=MD17_UNITS, level="HF/6-31G"), without_charges(data))


def test_npz_whose_names_decide_nothing(tmp_path):
    held = arrays(Dataset(frames()))
    np.savez(tmp_path / "a.npz", **(held | {"numbers": NUMBERS, "positions": held["R"], "energy": held["E"]}))
    with pytest.raises(InputError, match=r"hpcir and MD17.*holds z \(3,\)"):
        read_dataset(tmp_path / "a.npz", units=MD17_UNITS)
    keys = {"numbers": "z", "positions": "R", "energy": "E", "forces": "F"}
    assert read_dataset(tmp_path / "a.npz", units=MD17_UNITS, keys=keys).frames[0].dipole is None
    np.savez(tmp_path / "b.npz", a=held["R"], b=held["E"])
    with pytest.raises(InputError, match="none of the known layouts"):
        read_dataset(tmp_path / "b.npz", units=MD17_UNITS)
    with pytest.raises(InputError, match="no array 'Q'"):
        read_dataset(tmp_path / "a.npz", units=MD17_UNITS, keys=keys | {"dipole": "Q"})
    np.savez(tmp_path / "c.npz", **(held | {"F": held["F"][:2]}))
    with pytest.raises(InputError, match="forces 'F' has the wrong shape"):
        read_dataset(tmp_path / "c.npz", units=MD17_UNITS)
    with pytest.raises(InputError, match="unit of positions"):
        read_dataset(tmp_path / "a.npz", units={"energy": "eV"}, keys=keys)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("z", np.array(["O", "H", "H"]), "atomic numbers 'z' are no numbers"),
        ("z", np.array([8, 1, 0]), "no atomic number in 'z'"),
        ("z", np.array([8, 1, 300]), "no atomic number in 'z'"),
        ("z", np.array([8.5, 1, 1]), "no atomic number in 'z'"),
        ("E", np.full(4, "x"), "'E' does not hold real numbers"),
        ("E", np.full(4, 1j), "'E' does not hold real numbers"),
    ],
)
def test_npz_of_odd_contents_is_refused_in_words(tmp_path, name, value, message):
    held = arrays(Dataset(frames())) | {name: value}
    np.savez(tmp_path / "odd.npz", **held)
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path / "odd.npz", units=MD17_UNITS)


@pytest.mark.parametrize("count", [0, -1, 4, 2.5])
def test_padding_that_does_not_fit(tmp_path, count):
    held = arrays(Dataset(frames()))
    padded = {"Z": np.tile(NUMBERS, (4, 1)), "N": np.full(4, count), "R": held["R"], "E": held["E"], "F": held["F"]}
    np.savez(tmp_path / "padded.npz", **padded)
    with pytest.raises(InputError, match=r"number of atoms does not fit.*1 to 3"):
        read_dataset(tmp_path / "padded.npz", units=MD17_UNITS)


def test_what_was_not_read_is_known(tmp_path):
    held = arrays(Dataset(frames()))
    np.savez(tmp_path / "more.npz", **({k: v for k, v in held.items() if k != "D"} | {"mu": held["D"]}))
    assert read_dataset(tmp_path / "more.npz", units=MD17_UNITS).unread == ("mu",)


def test_npz_with_objects_is_refused(tmp_path):
    held = arrays(Dataset(frames()))
    np.savez(tmp_path / "o.npz", **(held | {"z": np.array([NUMBERS, "x"], dtype=object)}), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        read_dataset(tmp_path / "o.npz", units=MD17_UNITS)


def test_hdf5_of_others_and_of_ours(tmp_path):
    data = Dataset(frames())
    held = arrays(data)
    write_h5(tmp_path / "set.h5", {f"water/{k}": (v, "?", "?") for k, v in held.items()}, {})
    keys = {
        q: f"water/{k}" for q, k in zip(("numbers", "positions", "energy", "forces", "dipole"), "zREFD", strict=True)
    }
    read = read_dataset(tmp_path / "set.h5", units=MD17_UNITS, keys=keys, level="HF/6-31G")
    assert_same(read, without_charges(data))
    ours = {
        "numbers": (NUMBERS, "atomic number", "atom"),
        "positions": (np.array([f.positions for f in data.frames]), "bohr", "geometry,atom,xyz"),
        "energy": (np.array([f.energy for f in data.frames]), "hartree", "geometry"),
        "forces": (np.array([f.forces for f in data.frames]), "hartree/bohr", "geometry,atom,xyz"),
        "dipole": (np.array([f.dipole for f in data.frames]), "e bohr", "geometry,xyz"),
    }
    attributes = {"format": "hpcir labels", "group_0000.level": "HF/6-31G", "group_0000.charge": 0}
    write_h5(tmp_path / "labels.h5", {f"group_0000/{k}": v for k, v in ours.items()}, attributes)
    assert_same(read_dataset(tmp_path / "labels.h5"), without_charges(data), 0.0)


def test_ase_database(tmp_path):
    path = tmp_path / "set.db"
    with connect(path) as database:
        for n in range(3):
            atoms = Atoms("OH2", SHAPE / ANGSTROM)
            atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - n, forces=np.full((3, 3), 0.5))
            database.write(atoms, data={"mu": [0.0, 0.0, 1.5]}, gap=3.0)
    with pytest.raises(InputError, match="looks like the dipole under 'mu'"):
        read_dataset(path)
    data = read_dataset(path, keys={"energy": "energy", "forces": "forces"})
    assert [f.energy for f in data.frames] == pytest.approx([-EV, -2 * EV, -3 * EV])
    assert data.frames[0].dipole is None
    keys = {"energy": "energy", "dipole": "mu"}
    with pytest.raises(InputError, match="unit of dipole is not declared"):
        read_dataset(path, keys=keys)
    data = read_dataset(path, keys=keys, units={"dipole": "debye"})
    assert data.frames[2].dipole[2] == pytest.approx(1.5 * DEBYE)
    assert data.frames[2].forces is None
    (tmp_path / "no.db").write_text("not a database")
    with pytest.raises(InputError, match="cannot be read"):
        read_dataset(tmp_path / "no.db")


def test_groups_for_training():
    other = Frame(np.array([1, 8, 1]), SHAPE[[1, 0, 2]], energy=-76.0)
    groups = to_groups(Dataset((*frames(2), other, *frames(1, charge=1))))
    assert [len(g) for g in groups] == [2, 1, 1]
    assert [g.charge for g in groups] == [0, 0, 1]
    np.testing.assert_array_equal(groups[1].numbers, [1, 8, 1])
    np.testing.assert_allclose(groups[0].positions[0], frames(2)[0].positions)
    with pytest.raises(InputError, match="teaches nothing"):
        to_groups(Dataset((Frame(NUMBERS, SHAPE),)))


def test_a_data_set_prints_what_it_is():
    text = repr(Dataset(frames(2), source="water.xyz"))
    assert "2 geometries of H2O" in text
    assert "2 energy" in text
    assert "water.xyz" in text


def test_file_kinds_and_arguments_are_checked(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(InputError, match="not a data set"):
        read_dataset(tmp_path / "a.csv")
    with pytest.raises(InputError, match="does not exist"):
        read_dataset(tmp_path / "b.xyz")
    path = write_extxyz(Dataset(frames()), tmp_path / "data.xyz")
    with pytest.raises(InputError, match="origin"):
        read_dataset(path, units="ase", dipole_origin="middle")
    with pytest.raises(InputError, match="no such unit of energy"):
        read_dataset(path, units={"energy": "ev"})
