"""Cases of public trackers of other programs, with inputs made after them: the right value, or words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError
from hpcir.exchange.reading import read_dataset
from hpcir.molecules.structures import Structure, read_structure
from hpcir.spectra.files.jcamp import read_jcamp
from hpcir.units import AMU, ANGSTROM

PLACES = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])


def structure(path: Path, text: str) -> Structure:
    path.write_text(text)
    return read_structure(path)


def water(found: Structure) -> None:
    np.testing.assert_array_equal(found.numbers, [8, 1, 1])
    np.testing.assert_allclose(found.positions / ANGSTROM, PLACES, atol=1e-3)


def pdb(names: list[str], ends: list[str] | None = None, residue: str = "LIG") -> str:
    lines = []
    for number, (name, place) in enumerate(zip(names, PLACES, strict=True)):
        coordinates = "".join(f"{x:8.3f}" for x in place)
        end = f"{'':10s}{ends[number]}" if ends else ""
        lines.append(f"ATOM  {number + 1:5d} {name:4s} {residue} A   1    {coordinates}  1.00  0.00{end}")
    return "\n".join([*lines, "END", ""])


@pytest.mark.parametrize(
    "names", [[" O  ", " H1 ", " H2 "], [" OG1", " HG1", "HG11"], [" OE ", "1HE ", " HO "], ["OW  ", "1HW ", "2HW "]]
)
def test_pdb_files_without_elements_go_by_the_columns_of_the_names(tmp_path, names):
    """HG1 is a hydrogen, not mercury; OG1 an oxygen, not oganesson."""
    water(structure(tmp_path / "a.pdb", pdb(names)))


def test_a_name_that_two_elements_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"fits C and Ca .*columns 77 and 78"):
        structure(tmp_path / "a.pdb", pdb(["CA  ", " H1 ", " H2 "]))
    with pytest.raises(InputError, match="fits none"):
        structure(tmp_path / "a.pdb", pdb([" O  ", " H1 ", " Q2 "]))


def test_pdb_elements_to_the_left_and_formal_charges(tmp_path):
    water(structure(tmp_path / "a.pdb", pdb([" O  ", " H1 ", " H2 "], ["O ", "H ", "H "])))
    path = tmp_path / "b.pdb"
    path.write_text(pdb([" O  ", " H1 ", " H2 "], [" O1-", " H", " H1-"]))
    assert read_structure(path).charge == -2
    with pytest.raises(InputError, match="states the total charge -2"):
        read_structure(path, 0)


QM9 = (
    "3\ngdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t-76.404702\t\n"
    "O\t0.0000000000\t 1.1730*^-6\t 0.1173000000\t-0.589706\nH\t 0.0\t 0.7572000000\t-0.4692000000\t 0.294853\n"
    "H\t 0.0000000000\t-0.7572000000\t-0.4692000000\t 0.294853\n1671.4222\t3803.6305\t3907.698\nO\tO\t\n"
    "InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
)


def test_the_files_of_qm9_are_read(tmp_path):
    """Tabs, charges after the coordinates, exponents of Mathematica, and three more lines."""
    water(structure(tmp_path / "a.xyz", QM9))
    with pytest.raises(InputError, match="promises 3 atoms"):
        structure(tmp_path / "b.xyz", QM9.replace("gdb", "no").replace("*^", "e"))


@pytest.mark.parametrize("first", ["O1", "o01", "O"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_numbered_labels_tabs_and_ends_of_files(tmp_path, first, end):
    rows = [f"{name}\t" + "\t".join(map(str, row)) for name, row in zip([first, "H2", "H3"], PLACES, strict=True)]
    water(structure(tmp_path / "a.xyz", "\n".join(["  3", "Turbomole", *rows]) + end))


ORCA = "! HF\n* xyz 0 1\nO 0 0 0.1173\nH 0 0.7572 -0.4692\nH 0 -0.7572 -0.4692\n*\n"


def test_masses_and_files_of_orca_s_inputs(tmp_path):
    heavy = structure(tmp_path / "a.inp", ORCA.replace("H 0 0.7572 -0.4692", "H 0 0.7572 -0.4692 M = 2.01410"))
    water(heavy)
    np.testing.assert_allclose(heavy.masses / AMU, [15.999, 2.0141, 1.008], atol=1e-3)
    (tmp_path / "geom.xyz").write_text("3\n\n" + "\n".join(ORCA.split("\n")[2:5]))
    named = structure(tmp_path / "b.inp", "! HF\n* xyzfile 2 3 geom.xyz\n")
    water(named)
    assert (named.charge, named.multiplicity) == (2, 3)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("H : 0 -0.7572 -0.4692", "a.inp:5.*ghost and dummy"),
        ("Q 0.5 0 0 3", "a.inp:5"),
        ("DA 0 -0.7 3", "a.inp:5"),
    ],
)
def test_ghosts_dummies_and_charges_of_orca_are_refused(tmp_path, row, words):
    with pytest.raises(InputError, match=words):
        structure(tmp_path / "a.inp", ORCA.replace("H 0 -0.7572 -0.4692", row))
    with pytest.raises(InputError, match=r"are read of '\* xyz'"):
        structure(tmp_path / "b.inp", "! HF\n* int 0 1\nO 0 0 0 0 0 0\nH 1 0 0 0.96 0 0\n*\n")


def test_a_number_in_the_place_of_an_element_is_no_count_of_atoms(tmp_path):
    """ASE takes it as a formula of so many atoms, and never ends."""
    with pytest.raises(InputError, match=r"a\.inp:6"):
        structure(tmp_path / "a.inp", ORCA[:-2] + 60 * "5" + "\n*\n")


def gaussian(route: str, size: float, state: str) -> str:
    rows = [f"{name} " + " ".join(f"{x / size:.8f}" for x in row) for name, row in zip("OHH", PLACES, strict=True)]
    return "\n".join([route, "", "water", "", state, *rows, "", ""])


@pytest.mark.parametrize(
    ("route", "size"),
    [("#p hf", 1.0), ("#p hf units=au", 0.529177210544), ("#p hf Units=(AU,Deg)", 0.529177210544)],
)
@pytest.mark.parametrize("state", ["0 1", "0,1", "-2, 3"])
def test_gaussian_inputs_in_bohr_and_with_commas(tmp_path, route, size, state):
    found = structure(tmp_path / "a.gjf", gaussian(route, size, state))
    water(found)
    assert (found.charge, found.multiplicity) == ((-2, 3) if "-2" in state else (0, 1))


def test_turbomole_in_angstrom_and_what_it_has_elsewhere(tmp_path):
    rows = "\n".join(" ".join(map(str, row)) + f" {name}" for name, row in zip("ohh", PLACES, strict=True))
    water(structure(tmp_path / "a.coord", f"$coord angs\n{rows}\n$end\n"))
    for symbol in ("d", "q"):
        with pytest.raises(InputError, match=r"a\.coord:4.*system\.isotopes"):
            structure(tmp_path / "a.coord", f"$coord\n{rows[:-1]}{symbol}\n$end\n")
    with pytest.raises(InputError, match=r"a\.coord:3.*no number"):
        structure(tmp_path / "a.coord", f"$coord angs\n{rows}\n$end\n".replace("0.7572", "0x7"))
    with pytest.raises(InputError, match="fractional"):
        structure(tmp_path / "a.coord", f"$coord frac\n{rows}\n$end\n")


def test_mol_files_of_the_newer_kind_with_charge_radical_and_isotope(tmp_path):
    pytest.importorskip("rdkit")
    atoms = [
        f"M  V30 {n} {name} {x} {y} {z} 0" for n, (name, (x, y, z)) in enumerate(zip("OHH", PLACES, strict=True), 1)
    ]
    atoms[0] += " CHG=1 RAD=2"
    atoms[1] += " MASS=2"
    head = (
        "\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  V30 COUNTS 3 2 0 0 0\nM  V30 BEGIN ATOM\n"
    )
    bonds = "\nM  V30 END ATOM\nM  V30 BEGIN BOND\nM  V30 1 1 1 2\nM  V30 2 1 1 3\n"
    tail = bonds + "M  V30 END BOND\nM  V30 END CTAB\nM  END\n"
    found = structure(tmp_path / "a.mol", head + "\n".join(atoms) + tail)
    water(found)
    assert (found.charge, found.multiplicity) == (1, 2)
    np.testing.assert_allclose(found.masses / AMU, [15.999, 2.0141, 1.008], atol=1e-3)


def dataset(path: Path, words: str, dipole: str = "dipole") -> Path:
    random, text = np.random.default_rng(1), ""
    for _ in range(12):
        text += f'3\nProperties=species:S:1:pos:R:3:forces:R:3 energy={random.normal():.6f} {dipole}="0 0 1" {words}\n'
        for name, row in zip("OHH", PLACES + 0.05 * random.normal(size=(3, 3)), strict=True):
            text += name + "".join(f" {x:.6f}" for x in [*row, *random.normal(size=3)]) + "\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["overall_charge", "formal_charge", "mol_charge", "charge_state", "Q_total"])
def test_more_names_of_a_charge_that_is_not_read(tmp_path, name):
    with pytest.raises(InputError, match=rf"total charge under '{name}'"):
        read_dataset(dataset(tmp_path / "a.xyz", f"{name}=1.0"), units="ase")
    assert len(read_dataset(dataset(tmp_path / "a.xyz", f"{name}=0.0"), units="ase")) == 12


@pytest.mark.parametrize("name", ["dipoles", "REF_dipole", "dipole_moment", "mu"])
def test_a_dipole_under_another_name_stops(tmp_path, name):
    path = dataset(tmp_path / "a.xyz", "", name)
    with pytest.raises(InputError, match=rf"the dipole under '{name}'.*dipole={name}"):
        read_dataset(path, units="ase")
    keys = {"energy": "energy", "forces": "forces"}
    assert len(read_dataset(path, units="ase", keys=keys | {"dipole": name}).having("dipole")) == 12
    assert len(read_dataset(path, units="ase", keys=keys).having("dipole")) == 0


def test_elements_of_deepmd_s_mixed_systems(tmp_path):
    """type.raw is filled with zeros there: elements are those of real_atom_types.npy."""
    (tmp_path / "a" / "set.000").mkdir(parents=True)
    (tmp_path / "a" / "type.raw").write_text("0\n0\n0\n")
    (tmp_path / "a" / "type_map.raw").write_text("H\nO\n")
    places = PLACES + 0.05 * np.random.default_rng(1).normal(size=(12, 3, 3))
    held = {"coord": places.reshape(12, 9), "energy": np.arange(12.0), "real_atom_types": np.tile([1, 0, 0], (12, 1))}
    for name, array in held.items():
        np.save(tmp_path / "a" / "set.000" / f"{name}.npy", array)
    np.testing.assert_array_equal(read_dataset(tmp_path / "a").frames[3].numbers, [8, 1, 1])


SHIMADZU = (
    "##TITLE=#_3\n##JCAMP-DX=4.24\n##BLOCK_ID=1\n##DATATYPE=INFRARED SPECTRUM\n##OWNER= \n##ORIGIN= \n##XUNITS=1/CM\n"
    "##YUNITS=TRANSMITTANCE\n##FIRSTX=4.000000E+002\n##LASTX=4.100000E+002\n##XFACTOR=5.0E-001\n##YFACTOR=1.0E-001\n"
    "##$CORRECTIONDATE=<05/29/26 11:20:18>, <System Administrator>\n<05/29/26 11:20:18>, <Measured with: 1102>\n\n"
    "##FIRSTY=90\n##NPOINTS=6\n##XYDATA=(X++(Y..Y))\n800I00j0%JKL\n820I00\n##END=\n"
)


def test_a_shimadzu_file_with_lines_between_its_records(tmp_path):
    (tmp_path / "a.jdx").write_text(SHIMADZU)
    spectrum = read_jcamp(tmp_path / "a.jdx")
    np.testing.assert_allclose(spectrum.absorption, -np.log([0.9, 0.89, 0.89, 0.891, 0.893, 0.896]), atol=2e-3)
    assert any("percent" in note for note in spectrum.metadata["notes"])


def test_points_in_pairs_with_factors(tmp_path):
    pairs = "\n".join(f"{2 * x}, {y}" for x, y in zip(range(400, 412, 2), (900, 890, 890, 891, 893, 896), strict=True))
    text = SHIMADZU.replace("##XYDATA=(X++(Y..Y))\n800I00j0%JKL\n820I00", f"##XYPOINTS=(XY..XY)\n{pairs}")
    (tmp_path / "a.jdx").write_text(text.replace("##BLOCK_ID=1", "##DATA CLASS=XYPOINTS"))
    np.testing.assert_allclose(
        read_jcamp(tmp_path / "a.jdx").absorption, -np.log([0.9, 0.89, 0.89, 0.891, 0.893, 0.896]), atol=2e-3
    )
