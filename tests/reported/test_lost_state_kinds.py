"""Charge and spin that files keep in their own ways, and columns that are not what they look like: each was taken for a
neutral singlet, or for other elements, with status 0."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.collections import g2
from ase.db import connect

from hpcir.cli import main
from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.errors import InputError
from hpcir.exchange.reading import read_dataset
from hpcir.molecules.pieces import bare_carbons
from hpcir.molecules.structures import read_structure, structure_of

SULFATE = [("S", 0.0, 0.0, 0.0)] + [
    ("O", *(0.86 * np.array(signs))) for signs in ((1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1))
]
CARBENE = [("C", 0.0, 0.0, 0.1), ("H", 0.0, 0.86, -0.6), ("H", 0.0, -0.86, -0.6)]


def extended(atoms, column, values):
    rows = [f"{name} {x} {y} {z} {value}\n" for (name, x, y, z), value in zip(atoms, values, strict=True)]
    return f'{len(atoms)}\nProperties=species:S:1:pos:R:3:{column}:R:1 pbc="F F F"\n' + "".join(rows)


def mol(atoms, tail=""):
    rows = [f"{x:10.4f}{y:10.4f}{z:10.4f} {name:<3s} 0  0  0  0  0  0\n" for name, x, y, z in atoms]
    bonds = [f"  1{n:3d}  1  0\n" for n in range(2, len(atoms) + 1)]
    head = f"m\n\n\n{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000\n"
    return head + "".join(rows + bonds) + tail + "M  END\n"


def mol2(atoms, types, kind, charges=None):
    text = f"@<TRIPOS>MOLECULE\nm\n{len(atoms)} {len(atoms) - 1} 1 0 0\nSMALL\n{kind}\n\n@<TRIPOS>ATOM\n"
    for number, ((name, x, y, z), own) in enumerate(zip(atoms, types, strict=True), 1):
        charge = "" if charges is None else f" {charges[number - 1]}"
        text += f"{number} {name}{number} {x} {y} {z} {own} 1 UNL{charge}\n"
    bonds = "".join(f"{n} 1 {n + 1} 1\n" for n in range(1, len(atoms)))
    return f"{text}@<TRIPOS>BOND\n{bonds}"


def test_the_sum_of_the_atoms_initial_charges_is_the_charge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.xyz").write_text(extended(SULFATE, "initial_charges", [0.8] + 4 * [-0.7]))
    assert main(["init", "a.xyz", "--engine", "tblite"]) == 0
    assert check_deck(load_deck("a.yaml")).structure.charge == -2
    with pytest.raises(InputError, match=r"states the total charge -2, and \+0 is declared"):
        read_structure("a.xyz", 0)
    for sum_is_none in ([0.8, -0.7, -0.7, -0.7, -0.2], [0.8, -0.2, -0.2, -0.2, -0.2], 5 * [np.nan]):
        (tmp_path / "b.xyz").write_text(extended(SULFATE, "initial_charges", sum_is_none))
        assert read_structure("b.xyz").charge == 0
    both = extended(SULFATE, "initial_charges", [0.8] + 4 * [-0.7]).replace("pbc=", "charge=-1 pbc=")
    (tmp_path / "c.xyz").write_text(both)
    assert read_structure("c.xyz", multiplicity=2).charge == -1
    (tmp_path / "geometry.in").write_text(
        "atom 0 0 0 N\n  initial_charge 1.0\n"
        + "".join(f"atom {x} {y} {z} H\n" for _, x, y, z in [(0, *(0.685 * np.array(r[1:]))) for r in SULFATE[1:]])
    )
    assert read_structure("geometry.in").charge == 1


def test_the_sum_of_the_atoms_magnetic_moments_is_the_spin(tmp_path):
    (tmp_path / "a.xyz").write_text(extended(SULFATE[1:3], "initial_magmoms", [1.0, 1.0]))
    assert read_structure(tmp_path / "a.xyz").multiplicity == 3
    (tmp_path / "a.xyz").write_text(extended(SULFATE[1:3], "initial_magmoms", [1.0, -1.0]))
    assert read_structure(tmp_path / "a.xyz").multiplicity == 1


@pytest.mark.parametrize("form", ["xyz", "db"])
def test_data_sets_with_initial_charges_are_of_ions(tmp_path, form):
    path = tmp_path / f"a.{form}"
    if form == "xyz":
        text = extended(SULFATE, "initial_charges", [0.8] + 4 * [-0.7])
        path.write_text(text.replace("pbc=", 'energy=-1.0 dipole="0 0 1" pbc='))
    else:
        atoms = Atoms([row[0] for row in SULFATE], [row[1:] for row in SULFATE], charges=[0.8] + 4 * [-0.7])
        connect(path).write(atoms, data={"energy": -1.0, "dipole": [0.0, 0.0, 1.0]})
    options = {
        "units": {"energy": "eV", "dipole": "D"},
        "keys": {"energy": "energy", "dipole": "dipole", "charge": "charge"},
    }
    with pytest.raises(InputError, match=r"the origin of the dipole of an ion \(charge -2\) is not declared"):
        read_dataset(path, **options)
    found = read_dataset(path, dipole_origin="zero", **options)
    assert found.frames[0].charge == -2


def test_a_mol2_file_without_charges_does_not_state_that_it_is_neutral(tmp_path):
    pytest.importorskip("rdkit")
    path = tmp_path / "a.mol2"
    path.write_text(mol2(SULFATE, ["S.o2"] + 4 * ["O.co2"], "NO_CHARGES"))
    with pytest.raises(InputError, match=r"does not say the total charge of what looks like an ion .*O\.co2"):
        read_structure(path)
    assert read_structure(path, -2).charge == -2
    path.write_text(mol2(SULFATE, ["S.o2"] + 4 * ["O.co2"], "USER_CHARGES", [0.8] + 4 * [-0.7]))
    assert read_structure(path).charge == -2
    path.write_text(mol2(CARBENE, ["C.3", "H", "H"], "NO_CHARGES"))
    assert read_structure(path).charge == 0
    assert read_structure(path, 1, 2).charge == 1


@pytest.mark.parametrize(("code", "multiplicity"), [(1, 1), (3, 3)])
def test_singlets_and_triplets_of_mol_files(tmp_path, monkeypatch, code, multiplicity):
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mol").write_text(mol(CARBENE, f"M  RAD  1   1   {code}\n"))
    assert read_structure("a.mol").multiplicity == multiplicity
    assert main(["init", "a.mol", "--engine", "tblite"]) == 0
    assert check_deck(load_deck("a.yaml")).structure.multiplicity == multiplicity
    rows = "".join(
        f"M  V30 {n} {name} {x} {y} {z} 0{f' RAD={code}' if n == 1 else ''}\n"
        for n, (name, x, y, z) in enumerate(CARBENE, 1)
    )
    (tmp_path / "b.mol").write_text(
        "m\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  V30 COUNTS 3 2 0 0 0\n"
        "M  V30 BEGIN ATOM\n"
        f"{rows}M  V30 END ATOM\nM  V30 BEGIN BOND\nM  V30 1 1 1 2\nM  V30 2 1 1 3\nM  V30 END BOND\nM  V30 END CTAB\n"
        "M  END\n"
    )
    assert read_structure("b.mol").multiplicity == multiplicity


def test_a_column_that_counts_the_atoms_is_no_element(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("3\n\n1 8 0 0 0.1173\n2 1 0 0.7572 -0.4692\n3 1 0 -0.7572 -0.4692\n")
    with pytest.raises(InputError, match=r"a\.xyz:3: the first column counts the atoms"):
        read_structure(path)
    path.write_text("2\n\n1 0 0 0.0\n3 0 0 1.6\n")  # lithium hydride by atomic numbers
    assert read_structure(path).symbols == ["H", "Li"]


@pytest.mark.parametrize(("columns", "boundary"), [("id type x y z", "ff ff ff"), ("id type xs ys zs", "pp pp pp")])
def test_types_of_lammps_are_no_elements(tmp_path, columns, boundary):
    path = tmp_path / "a.lammpstrj"
    text = (
        f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS {boundary}\n0 20\n0 20\n0 20\n"
        f"ITEM: ATOMS {columns}\n"
        "1 1 10 10 10.117\n2 2 10 10.757 9.531\n3 2 10 9.243 9.531\n"
    )
    path.write_text(text)
    with pytest.raises(InputError, match="a dump of LAMMPS without a column of elements"):
        read_structure(path)
    path.write_text(
        text.replace(boundary, "ff ff ff")
        .replace(columns, "id element x y z")
        .replace("1 1 10", "1 O 10")
        .replace("2 2 10", "2 H 10")
        .replace("3 2 10", "3 H 10")
    )
    assert read_structure(path).symbols == ["O", "H", "H"]


def test_a_coordinate_that_no_molecule_has_is_refused(tmp_path):
    (tmp_path / "a.xyz").write_text("2\n\nH 0 0 1e200\nH 0 0 0\n")
    with pytest.raises(InputError, match=r"a coordinate that no molecule has \(found: '1e\+200 A'\)"):
        read_structure(tmp_path / "a.xyz")
    (tmp_path / "a.xyz").write_text("2\n\nH 1000 0 5000.74\nH 1000 0 5000\n")
    assert len(read_structure(tmp_path / "a.xyz")) == 2


@pytest.mark.parametrize(
    ("comment", "state"),
    [
        ("1 2", (1, 2)),  # charge and multiplicity alone
        ("-1 2", (-1, 2)),
        ("+1 2 H2O", (1, 2)),  # QCElemental's xyz+
        ("charge: 1, multiplicity: 2", (1, 2)),
        ("water cation (charge 1, multiplicity 2)", (1, 2)),
        ("charge = +1; mult=2", (1, 2)),
        ("0 1", (0, 1)),
        ("1 1", (0, 1)),  # no spin that ten electrons less one have: not charge and multiplicity
        ("12 2", (0, 1)),
        ("frame 1 2", (0, 1)),
        ("1 2 3-trimer", (0, 1)),
        ("no charge", (0, 1)),
        ("recharge=1", (0, 1)),
    ],
)
def test_charge_and_spin_of_a_comment_line(tmp_path, comment, state):
    (tmp_path / "a.xyz").write_text(f"3\n{comment}\nO 0 0 0.1173\nH 0 0.7572 -0.4692\nH 0 -0.7572 -0.4692\n")
    structure = read_structure(tmp_path / "a.xyz")
    assert (structure.charge, structure.multiplicity) == state


@pytest.mark.parametrize("second", [("8.0", "1.0"), ("15.999", "1.008"), ("15.9994", "1.0079")])
def test_a_column_of_charges_or_masses_is_not_x(tmp_path, second):
    o, h = second
    (tmp_path / "a.xyz").write_text(f"3\n\nO {o} 0 0 0.1173\nH {h} 0 0.7572 -0.4692\nH {h} 0 -0.7572 -0.4692\n")
    with pytest.raises(InputError, match=r"a\.xyz:3: the second column has the elements' nuclear charges or masses"):
        read_structure(tmp_path / "a.xyz")
    (tmp_path / "a.xyz").write_text("2\n\nH 0 0 0.37 0.1\nH 0 0 -0.37 -0.1\n")  # a fifth column of charges
    assert read_structure(tmp_path / "a.xyz").symbols == ["H", "H"]


def test_a_drawing_with_hydrogens_is_no_structure(tmp_path):
    """As databases of drawings give it (2D in the head of the file)."""
    pytest.importorskip("rdkit")
    water = [("O", 2.5369, -0.155, 0.0), ("H", 3.0739, 0.155, 0.0), ("H", 2.0, 0.155, 0.0)]
    drawing = mol(water).replace("m\n\n\n", "962\n  -OEChem-07072003582D\n\n")
    (tmp_path / "a.sdf").write_text(drawing)
    with pytest.raises(InputError, match=r"of a drawing \(2D\).*--smiles"):
        read_structure(tmp_path / "a.sdf")
    (tmp_path / "a.sdf").write_text(drawing.replace("582D", "583D"))
    assert len(read_structure(tmp_path / "a.sdf")) == 3


def test_carbons_without_their_hydrogens_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [("C1", 0.0, 0.0, 0.0, "C"), ("C2", 1.5, 0.0, 0.0, "C"), ("O", 2.0, 1.3, 0.3, "O")]
    line = "HETATM{:5d}  {:<3s} ETH A   1    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2s}\n"
    (tmp_path / "a.pdb").write_text("".join(line.format(n, *row) for n, row in enumerate(rows, 1)) + "END\n")
    assert main(["init", "a.pdb", "--engine", "tblite"]) == 0
    assert "warning: C1, C2 want bonds, as where a file leaves hydrogens out" in capsys.readouterr().out
    for name in ("CO2", "C2F4", "NCCN", "CCl4", "CH2_s1A1d", "CH3", "C6H6", "CN"):
        assert bare_carbons(structure_of(g2[name], 0, 1, name, name)) == []


def test_no_molecule_of_g2_is_told_to_lack_hydrogens():
    for name in g2.names:
        if len(g2[name]) > 1:
            assert bare_carbons(structure_of(g2[name], 0, 1, name, name)) == [], name
