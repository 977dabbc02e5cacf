"""Structure files as people bring them: dialects, isotopes, charges, units, other programs. The right value, or
words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.isotopes import MASSES, isotope
from hpcir.molecules.pieces import Connectivity, pieces, structure_notes, unit_note
from hpcir.molecules.structures import Structure, read_frames, read_structure, xyz_text
from hpcir.study.session import read_structures
from hpcir.units import AMU, ANGSTROM
from hpcir.vibrations.normal_modes import normal_modes

PLACES = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])


def water(path: Path, symbols: str = "OHH", comment: str = "water", form: str = "{:.8f}") -> Path:
    words = symbols.split() if " " in symbols else list(symbols)
    rows = [f"{word} " + " ".join(form.format(x) for x in row) for word, row in zip(words, PLACES, strict=True)]
    path.write_text("\n".join(["3", comment, *rows, ""]), encoding="utf-8")
    return path


def same(structure: Structure) -> None:
    np.testing.assert_array_equal(structure.numbers, [8, 1, 1])
    np.testing.assert_allclose(structure.positions / ANGSTROM, PLACES, atol=1e-6)


@pytest.mark.parametrize("symbols", ["OHH", "8 1 1", "o h h"])
@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_dialects_of_xyz(tmp_path, symbols, fortran, extended):
    comment = 'Properties=species:S:1:pos:R:3 pbc="F F F"' if extended else "water"
    if extended and symbols == "o h h":
        pytest.skip("ASE's own columns")
    path = water(tmp_path / "a.xyz", symbols, comment, "{:.8E}")
    text = path.read_text().replace("E+", "D+").replace("E-", "D-") if fortran else path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    same(read_structure(path))
    assert len(read_frames(path)) == len(read_structures(path)) == 1


def test_several_frames_of_numbers(tmp_path):
    text = water(tmp_path / "a.xyz", "8 1 1").read_text()
    (tmp_path / "b.xyz").write_text(text + "\n" + text)
    assert [len(item) for item in read_structures(tmp_path / "b.xyz")] == [3, 3]


@pytest.mark.parametrize("symbols", ["O D D", "O 2H 2H", "O [2H] [2H]", "18O D D"])
def test_isotopes_by_symbol_set_masses(tmp_path, symbols):
    """Heavy water's stretches and bend lie below light water's by the ratios of reduced masses."""
    light, heavy = read_structure(water(tmp_path / "h.xyz")), read_structure(water(tmp_path / "d.xyz", symbols))
    assert heavy.masses[1] / AMU == pytest.approx(2.01410178)
    assert heavy.masses[0] / AMU == pytest.approx(17.9991596 if "18O" in symbols else 15.999, abs=1e-3)
    hessian = model_hessian(light, 0.0)
    dipoles = np.zeros((9, 3))
    ratio = normal_modes(heavy, hessian, dipoles).wavenumbers / normal_modes(light, hessian, dipoles).wavenumbers
    assert np.all((ratio > 0.70) & (ratio < 0.76))
    assert "are D (2.0141 amu)" in structure_notes(heavy)[-1]
    again = tmp_path / "again.xyz"
    again.write_text(xyz_text(heavy))
    np.testing.assert_allclose(read_structure(again).masses, heavy.masses, rtol=1e-9)


def test_isotopes_are_those_of_the_tables():
    chem = pytest.importorskip("rdkit.Chem")
    for (symbol, number), mass in MASSES.items():
        assert chem.GetPeriodicTable().GetMassForIsotope(symbol, number) == pytest.approx(mass, abs=1e-5)
    assert isotope("13C") == ("C", 13)
    assert isotope("T") == ("H", 3)
    assert isotope("Co") is None


def test_an_isotope_without_a_mass_is_refused_with_the_key(tmp_path):
    with pytest.raises(InputError, match=r"mass of this isotope.*system\.isotopes"):
        read_structure(water(tmp_path / "a.xyz", "O 4H H"))


@pytest.mark.parametrize("word", ["charge", "total_charge", "q"])
def test_a_charge_that_the_file_states_is_held_to(tmp_path, word):
    path = water(tmp_path / "a.xyz", comment=f"water cation {word}=2")
    assert read_structure(path).charge == 2
    with pytest.raises(InputError, match=r"states the total charge \+2, and \+0 is declared"):
        read_structure(path, 0)


@pytest.mark.parametrize(("factor", "unit"), [(1 / 0.529177, "bohr"), (100.0, "pm")])
def test_coordinates_in_another_unit_are_told(factor, unit):
    structure = Structure(np.array([8, 1, 1]), PLACES * factor * ANGSTROM)
    assert f"look like {unit}" in unit_note(structure)
    assert unit_note(Structure(np.array([8, 1, 1]), PLACES * ANGSTROM)) == ""


def test_coordinates_in_nanometres_overlap(tmp_path):
    path = water(tmp_path / "a.xyz")
    rows = path.read_text().splitlines()
    rows[2:] = [f"{row.split()[0]} " + " ".join(f"{float(x) / 10:.6f}" for x in row.split()[1:]) for row in rows[2:]]
    path.write_text("\n".join(rows))
    with pytest.raises(InputError, match="overlap"):
        read_structure(path)


def dimer() -> Structure:
    return Structure(np.array([8, 1, 1] * 2), np.concatenate([PLACES, PLACES + np.array([0, 0, 2.9])]) * ANGSTROM)


def test_pieces_are_told_before_a_run():
    assert [len(piece) for piece in pieces(dimer())] == [3, 3]
    assert "2 pieces" in structure_notes(dimer())[0]


def test_what_comes_apart_and_what_reacts_is_found_with_its_time():
    start = dimer()
    frames = np.repeat(start.positions[None, :, :, None], 40, axis=0).repeat(4, axis=3)
    frames[10:, 3:, 2, 0] += 6 * ANGSTROM  # the second molecule leaves
    frames[20:, 1, :, 1] = start.positions[3] + np.array([0, 0, -0.97]) * ANGSTROM  # a proton goes to it
    frames[30:, 1, 1, 2] += 2.5 * ANGSTROM  # a hydrogen goes nowhere
    frames[:, :, :, 3] += 0.05 * np.random.default_rng(3).normal(size=(40, 6, 3)) * ANGSTROM  # heat
    found = {event.replica: event for event in Connectivity(start).events(frames)}
    assert (found[0].kind, found[0].frame) == ("apart", 10)
    assert (found[1].kind, found[1].atoms, found[1].frame) == ("moved", (1, 0, 3), 20)
    assert (found[2].kind, found[2].atoms, found[2].frame) == ("broken", (0, 1), 30)
    assert 3 not in found
    assert found[1].describe(start.symbols) == "H2 moved from O1 to O4"


GJF = "#p b3lyp/6-31g*\n\nwater\n\n0 1\nO 0.0 0.0 0.1173\nH(Iso=2) 0.0 0.7572 -0.4692\nH 0.0 -0.7572 -0.4692\n\n"
ORCA = "! B3LYP def2-SVP\n* xyz 0 1\nO 0.0 0.0 0.1173\nH 0.0 0.7572 -0.4692\nH 0.0 -0.7572 -0.4692\n*\n"
PDB = (
    "HETATM    1  O   HOH A   1       0.000   0.000   0.117  1.00  0.00           O\n"
    "HETATM    2  H1  HOH A   1       0.000   0.757  -0.469  1.00  0.00           H\n"
    "HETATM    3  H2  HOH A   1       0.000  -0.757  -0.469  1.00  0.00           H\nEND\n"
)
MOL = (
    "water\n  made\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n"
    "    0.0000    0.0000    0.1173 O   0  0\n    0.0000    0.7572   -0.4692 H   0  0\n"
    "    0.0000   -0.7572   -0.4692 H   0  0\n"
    "  1  2  1  0\n  1  3  1  0\nM  END\n"
)
MOL2 = (
    "@<TRIPOS>MOLECULE\nwater\n3 2 1 0 0\nSMALL\nUSER_CHARGES\n@<TRIPOS>ATOM\n"
    "1 O 0.0 0.0 0.1173 O.3 1 W -0.8\n2 H 0.0 0.7572 -0.4692 H 1 W 0.4\n3 H 0.0 -0.7572 -0.4692 H 1 W 0.4\n"
    "@<TRIPOS>BOND\n1 1 2 1\n2 1 3 1\n"
)
BOHR = 0.529177210544
TURBOMOLE = "$coord\n" + "".join(
    "  {:.8f} {:.8f} {:.8f} {}\n".format(*(row / BOHR), symbol) for row, symbol in zip(PLACES, "ohh", strict=True)
) + "$end\n"  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.gjf", GJF),
        ("a.com", GJF),
        ("a.inp", ORCA),
        ("a.pdb", PDB),
        ("a.pdb", "CRYST1   30.000   30.000   30.000  90.00  90.00  90.00 P 1           1\n" + PDB),
        ("a.mol", MOL),
        ("a.sdf", MOL + "$$$$\n"),
        ("a.mol2", MOL2),
        ("coord", TURBOMOLE),
    ],
)
def test_other_programs_structures(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    if name.endswith((".mol", ".sdf", ".mol2")):
        pytest.importorskip("rdkit")
    structure = read_structure(path)
    np.testing.assert_array_equal(structure.numbers, [8, 1, 1])
    np.testing.assert_allclose(structure.positions / ANGSTROM, PLACES, atol=1e-3)
    assert structure.charge == 0
    if name.endswith((".gjf", ".com")):
        assert structure.masses[1] / AMU == pytest.approx(2.014, abs=1e-3)


def test_charges_of_other_programs(tmp_path):
    pytest.importorskip("rdkit")
    ion = MOL.replace("M  END", "M  CHG  1   1   2\nM  END")
    (tmp_path / "a.mol").write_text(ion)
    (tmp_path / "a.inp").write_text(ORCA.replace("xyz 0 1", "xyz 2 3"))
    assert read_structure(tmp_path / "a.mol").charge == 2
    assert (read_structure(tmp_path / "a.inp").charge, read_structure(tmp_path / "a.inp").multiplicity) == (2, 3)


def test_one_molecule_out_of_a_crystal(tmp_path):
    """Two molecules of water, one of them over the edge of the cell, come out whole; a salt is refused."""
    places = np.concatenate([PLACES + 1.0, PLACES + np.array([4, 0.2, 4])]) / [8, 8, 8]
    rows = [
        f"{s}{n} {s} " + " ".join(f"{x % 1:.6f}" for x in p)
        for n, (s, p) in enumerate(zip("OHHOHH", places, strict=True))
    ]
    head = (
        "data_ice\n_cell_length_a 8\n_cell_length_b 8\n_cell_length_c 8\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    )
    (tmp_path / "a.cif").write_text(head + "\n".join(rows) + "\n")
    structure = read_structure(tmp_path / "a.cif")
    assert sorted(structure.numbers.tolist()) == [1, 1, 8]
    assert len(pieces(structure)) == 1
    (tmp_path / "b.cif").write_text(head + "\n".join(rows[:3]) + "\nNa1 Na 0.7 0.7 0.7\n")
    with pytest.raises(InputError, match="several kinds of molecules"):
        read_structure(tmp_path / "b.cif")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xyz", "3\nc\nO 0 0 0\nH 0 0 nan\nH 0 1 0\n", "not a finite number"),
        ("a.xyz", "3\nc\nO 0 0 0\nH 0 0 1\n", "promises 3 atoms"),
        ("a.xyz", '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3\nO 0 0 0\nH 0 0 1\n', "periodic cell"),
        ("a.mol", MOL.replace("0.1173 O", "0.1173 R#"), "no element|cannot be read"),
        ("a.inp", "! HF\n* xyz zero 1\nO 0 0 0\n*\n", "ORCA input cannot be read"),
        ("a.pdb", PDB.replace("O   HOH", "O  AHOH"), "alternative places"),
    ],
)
def test_what_is_refused_in_words(tmp_path, name, text, words):
    if name.endswith(".mol"):
        pytest.importorskip("rdkit")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_structure(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_of_other_systems(tmp_path, encoding):
    """A comment with an umlaut, and what Windows' editors and shells write."""
    path = water(tmp_path / "a.xyz", comment="w\u00e4ssrig")
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    same(read_structure(path))
    path.write_bytes(b"\x7fELF\x00\x01\xff")
    with pytest.raises(InputError, match="not a text file"):
        read_structure(path)


@pytest.mark.parametrize(
    "symbols", [["C13", "H", "H", "H", "H"], ["C", "H2", "H2", "H2", "H2"], ["C", "H", "H2", "H", "H"]]
)
@pytest.mark.parametrize("extended", [False, True])
def test_a_symbol_that_is_an_isotope_or_a_label_is_refused(tmp_path, symbols, extended):
    places = ["0 0 0", "0.63 0.63 0.63", "-0.63 -0.63 0.63", "-0.63 0.63 -0.63", "0.63 -0.63 -0.63"]
    comment = "Properties=species:S:1:pos:R:3" if extended else "methane"

    def text(names: list[str]) -> str:
        return "\n".join(["5", comment, *(f"{name} {place}" for name, place in zip(names, places, strict=True)), ""])

    path = tmp_path / "a.xyz"
    path.write_text(text(symbols))
    with pytest.raises(InputError, match=r"a\.xyz:\d: a symbol that is an isotope's, or the label of an atom"):
        read_structure(path)
    for labels in (["C13", "H1", "H2", "H3", "H4"], ["C1", "H2", "H3", "H4", "H5"], ["C", "H1", "H2", "H3", "H4"]):
        path.write_text(text(labels))
        assert read_structure(path).nuclear_masses is None


def crystal(path: Path, symbol: str = "H", parts: tuple[str, str] = ("1.0", "1.0"), more: str = "") -> Path:
    """One molecule of water in a cell of 10 A."""
    edges = "".join(f"_cell_length_{edge} 10\n" for edge in "abc")
    edges += "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    loop = "loop_\n" + "".join(f"_atom_site_{column}\n" for column in columns)
    rows = (
        f"O1 O 0.5 0.5 0.51173 1.0\n{symbol}1 {symbol} 0.5 0.57572 0.45308 {parts[0]}\n"
        f"H2 H 0.5 0.42428 0.45308 {parts[1]}\n{more}"
    )
    path.write_text(f"data_x\n{edges}_symmetry_space_group_name_H-M 'P 1'\n{loop}{rows}")
    return path


def test_a_disordered_crystal_is_refused(tmp_path):
    """Both places of an atom would be two atoms."""
    assert list(read_structure(crystal(tmp_path / "a.cif")).symbols) == ["O", "H", "H"]
    path = crystal(tmp_path / "b.cif", parts=("0.5", "1.0"), more="H3 H 0.57572 0.5 0.45308 0.5\n")
    with pytest.raises(InputError, match=r"disordered.*H 0\.5, H 0\.5"):
        read_structure(path)


def test_deuterium_of_a_crystal_has_its_atom_s_mass(tmp_path):
    found = read_structure(crystal(tmp_path / "a.cif", "D"))
    np.testing.assert_allclose(found.masses / AMU, [15.999, 2.0141018, 1.008], rtol=1e-5)


SDF = (
    "{title}\n  made\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.1173 O   0  0\n"
    "    0.0000    0.7572   -0.4692 H   0  0\n    0.0000   -0.7572   -0.4692 H   0  0\n"
    "  1  2  1  0\n  1  3  1  0\nM  END\n"
)


@pytest.mark.parametrize("titles", [("", ""), ("a", ""), ("", "b")])
@pytest.mark.parametrize("between", ["$$$$\n", "$$$$\r\n", "> <energy>\n-1.0\n\n$$$$\n", "$$$$\n\n"])
def test_molecules_without_a_title_in_one_file(tmp_path, titles, between):
    if between.endswith("\n\n") and not titles[1]:
        pytest.skip("an empty line more, or the title: the same text")
    path = tmp_path / "a.sdf"
    path.write_bytes(between.join(SDF.format(title=title) for title in titles).encode())
    assert len(read_frames(path)) == 2
    same(read_structure(path))


def gaussian(rows: str, after: str = "") -> str:
    return f"#p hf/3-21g\n\nwater\n\n-1 2\n{rows}\n\n{after}"


CARTESIAN = "O 0 0 0.1173\nH 0 0.7572 -0.4692\nH 0 -0.7572 -0.4692"
Z_MATRIX = "O\nH 1 r\nH 1 r 2 a"


@pytest.mark.parametrize(
    "text",
    [
        gaussian(CARTESIAN),
        gaussian(CARTESIAN.replace("O 0", "O -1 0").replace("H 0", "H 0 0")),
        gaussian(CARTESIAN.replace("O", "8").replace("H", "1")),
        gaussian(Z_MATRIX, "r=0.957836\na=104.477\n\n"),
        gaussian(Z_MATRIX, "r 0.957836\na 104.477\n\n"),
        gaussian(Z_MATRIX.replace(" r", " 0.957836").replace(" a", " 104.477")),
        gaussian(CARTESIAN, "--Link1--\n#p mp2\n\nnext\n\n0 1\nO 0 0 0\n\n"),
        gaussian(CARTESIAN, "1 2 1.0\n2\n3\n\nH 0\n3-21G\n****\n\n"),
    ],
)
def test_inputs_of_gaussian(tmp_path, text):
    """Whole numbers as coordinates, freeze codes, variables, further steps, what comes after the geometry."""
    (tmp_path / "a.gjf").write_text(text)
    found = read_structure(tmp_path / "a.gjf")
    assert (list(found.symbols), found.charge, found.multiplicity) == (["O", "H", "H"], -1, 2)
    distances = np.linalg.norm(found.positions[[1, 2, 2]] - found.positions[[0, 0, 1]], axis=1) / ANGSTROM
    np.testing.assert_allclose(distances, [0.95784, 0.95784, 1.5144], atol=1e-3)


@pytest.mark.parametrize(
    ("line", "charge", "multiplicity"),
    [("$eht charge=1 unpaired=1", 1, 2), ("$eht charge=-2", -2, 1), ("$eht  charge= 0  unpaired= 2", 0, 3), ("", 0, 1)],
)
def test_the_charge_in_turbomole_s_coordinates(tmp_path, line, charge, multiplicity):
    rows = "\n".join(f"{x} {y} {z} {name}" for name, (x, y, z) in zip("ohh", PLACES / 0.529177210544, strict=True))
    (tmp_path / "coord").write_text(f"$coord\n{rows}\n{line}\n$end\n")
    found = read_structure(tmp_path / "coord")
    assert (found.charge, found.multiplicity) == (charge, multiplicity)
