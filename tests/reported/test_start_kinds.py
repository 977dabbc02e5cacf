"""Starts as people make them: from a string, a name, a file of another program; under launchers of other kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.collections import g2
from ase.io import write

from hpcir.cli import main
from hpcir.commands.check_molecules import check_molecules
from hpcir.commands.init import write_start
from hpcir.commands.init_size import settings_for
from hpcir.deck.checks import check_deck, deck_warnings
from hpcir.deck.loader import load_deck
from hpcir.deck.study import heavy_atoms
from hpcir.errors import InputError
from hpcir.molecules.strings import drawn
from hpcir.molecules.structures import Structure, read_structure, xyz_text
from hpcir.runtime.launcher import require_pmix, speaks_pmix_alone
from hpcir.units import AMU, ANGSTROM

STRINGS = {
    "CCO": (0, 1),
    "c1ccccc1": (0, 1),
    "C1CC2CCC1C2": (0, 1),
    "N[C@@H](C)C(=O)O": (0, 1),
    "F[C@H](Cl)Br": (0, 1),
    "[NH3+]CC(=O)[O-]": (0, 1),
    "CC(=O)[O-]": (-1, 1),
    "[NH4+]": (1, 1),
    "C[CH2]": (0, 2),
    "[O]N=O": (0, 2),
    "O=O": (0, 3),
    "[2H]O[2H]": (0, 1),
    "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O": (0, 1),
    "C1CCCCC1": (0, 1),
    "O=C1C=CC(=O)C=C1": (0, 1),
    "C/C=C/C": (0, 1),
    "C#N": (0, 1),
    "C[N+](=O)[O-]": (0, 1),
    "[H][H]": (0, 1),
    "C[S@](=O)CC": (0, 1),
}
DIMER = (
    "6\nwater dimer\nO -1.464 0.099 0.3\nH -1.956 0.624 -0.340\nH -1.797 -0.799 0.206\nO 1.369 0.146 -0.395\n"
    "H 1.894 0.486 0.335\nH 0.451 0.165 -0.083\n"
)


def flat(text: str) -> str:
    """Canonical SMILES without handedness, of which a built molecule has more than its string."""
    chem = pytest.importorskip("rdkit.Chem")
    return chem.MolToSmiles(chem.MolFromSmiles(text), isomericSmiles=False)


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_becomes_a_deck_that_checks(tmp_path, monkeypatch, capsys, text):
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    charge, multiplicity = STRINGS[text]
    assert main(["init", "--smiles", text, "--engine", "tblite", "-o", "deck.yaml"]) == 0
    loaded = check_deck(load_deck("deck.yaml"))
    assert (loaded.structure.charge, loaded.structure.multiplicity) == (charge, multiplicity)
    assert Path("deck.svg").read_text().lstrip().startswith("<?xml")
    said = capsys.readouterr().out
    assert "understood as" in said
    assert main(["check", "deck.yaml", "--no-label"]) == 0
    assert multiplicity == 3 or flat(drawn(loaded.structure).smiles) == flat(text)
    if "[2H]" in text:
        assert loaded.structure.masses[0] / AMU == pytest.approx(2.014, abs=1e-3)
    if len(text) > 30:
        assert loaded.deck.sampling.families > 0
        assert loaded.deck.sampling.largest_fragment >= 15


def chain(carbons: int) -> Structure:
    """An alkane, all of its torsions anti."""
    rise, up, out = 1.266, 0.43, 0.89
    carbon = [np.array([n * rise, up * (-1) ** n, 0.0]) for n in range(carbons)]
    hydrogen = [
        place + np.array([0, 0.63 * (-1) ** n, side * out]) for n, place in enumerate(carbon) for side in (-1, 1)
    ]
    hydrogen += [carbon[0] + [-0.9, -0.62, 0], carbon[-1] + [0.9, 0.62 * (-1) ** carbons, 0]]
    numbers = np.array([6] * carbons + [1] * len(hydrogen))
    return Structure(numbers, np.array(carbon + hydrogen) * ANGSTROM, name="chain")


def test_a_molecule_too_large_to_label_whole_gets_seeds_and_fragments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("chain.xyz").write_text(xyz_text(chain(34)))
    write_start(Path("chain.xyz"), engine="tblite", output=Path("deck.yaml"))
    said = capsys.readouterr().out
    assert "34 heavy atoms are too many to label by the hundred: fragments of at most 12" in said
    study = check_deck(load_deck("deck.yaml"))
    check_molecules(study)
    assert not study.labelled_whole(study.structure)
    assert study.deck.sampling.families == 0
    assert [seed.source for seed in study.seeds] == [str(Path("deck-seeds/seed-01.xyz"))]
    assert all(heavy_atoms(seed) <= 12 for seed in study.seeds)


def test_a_large_ion_is_labelled_whole():
    """Its charge polarises what would be cut away."""
    pytest.importorskip("rdkit")
    ion = chain(32)
    ion.numbers[0] = 7
    ion = replace(ion, charge=1)
    assert settings_for(ion, "tblite", "seeds").seeds == {}
    assert any("labelled whole" in reason for reason in settings_for(ion, "tblite", "seeds").reasons)


def test_a_cluster_is_offered_a_restraint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("dimer.xyz").write_text(DIMER)
    write_start(Path("dimer.xyz"), engine="tblite")
    assert "dynamics.restraint holds its pieces together" in capsys.readouterr().out
    text = Path("dimer.yaml").read_text()
    assert check_deck(load_deck("dimer.yaml")).deck.dynamics.restraint == 0
    Path("dimer.yaml").write_text(text.replace("# restraint:", "restraint:"))
    assert check_deck(load_deck("dimer.yaml")).deck.dynamics.restraint == pytest.approx(0.5 * ANGSTROM)
    Path("water.xyz").write_text("3\n\nO 0 0 0.1\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\n")
    Path("dimer.yaml").write_text(text.replace("# restraint:", "restraint:").replace("dimer.xyz", "water.xyz"))
    with pytest.raises(InputError, match="the structure is one piece"):
        check_deck(load_deck("dimer.yaml"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Na+].[Cl-]", "2 molecules or ions, a salt"),
        ("CC*", "no element"),
        ("C1CC", "no SMILES string"),
        ("", "no SMILES string"),
        ("C" * 200, "more than 400 atoms"),
        ("[He]", "single atom"),
    ],
)
def test_strings_that_are_refused_in_words(tmp_path, monkeypatch, text, words):
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        write_start(None, smiles=text, engine="tblite")
    assert list(tmp_path.iterdir()) == []


def test_a_name_wants_its_tables_or_is_found_in_them(tmp_path, monkeypatch):
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "chemicals.identifiers", None)
    with pytest.raises(InputError, match=r"hpcir\[names\]"):
        write_start(None, name="ethanol", engine="tblite")


def test_names_of_the_offline_tables():
    pytest.importorskip("chemicals")
    from hpcir.molecules.strings import smiles_of_name

    assert smiles_of_name("ethanol") == "CCO"
    with pytest.raises(InputError, match="no such name"):
        smiles_of_name("not a substance at all")


@pytest.mark.parametrize(
    ("name", "smiles"),
    [
        ("C2H5OH", "CCO"),  # was dimethyl ether, the first compound of that composition
        ("CH3OH", "CO"),
        ("NO", "[N]=O"),
        ("OCS", "C(=O)=S"),
        ("HNCO", "C(=N)=O"),  # was fulminic acid
        ("D2O", "[2H]O[2H]"),
        ("CO", "[C-]#[O+]"),
    ],
)
def test_a_formula_is_the_compound_that_has_it_as_a_name_or_alone(name, smiles):
    pytest.importorskip("chemicals")
    from hpcir.molecules.strings import smiles_of_name

    assert smiles_of_name(name) == smiles


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("C6H6", "a formula that 16 compounds have .* benzene or"),
        ("(CH3)2CO", "a formula that .* acetone"),  # was oxetane
        ("CN", "no such name"),  # was methylamine, of the SMILES string
        ("OH", "no such name"),  # was the hydroxide ion
        ("", "no such name"),
    ],
)
def test_a_formula_of_several_compounds_and_a_string_in_the_place_of_a_name_are_refused(name, words):
    pytest.importorskip("chemicals")
    from hpcir.molecules.strings import smiles_of_name

    with pytest.raises(InputError, match=words):
        smiles_of_name(name)


def test_one_source_is_wanted(tmp_path):
    with pytest.raises(InputError, match="one of a structure file, --smiles and --name"):
        write_start(None)
    with pytest.raises(InputError, match="one of a structure file, --smiles and --name"):
        write_start(tmp_path / "a.xyz", smiles="C")


@pytest.mark.parametrize("name", [name for name in g2.names if len(g2[name]) > 1][::6])
def test_molecules_of_g2_start_and_check(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write("molecule.xyz", g2[name])
    assert main(["init", "molecule.xyz", "--engine", "tblite"]) == 0
    assert main(["check", "molecule.yaml", "--no-label"]) == 0
    assert deck_warnings(check_deck(load_deck("molecule.yaml"))) == []


def test_a_charge_in_the_file_is_the_deck_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "4\nhydronium total_charge=1\nO 0 0 0.1\nH 0 0.94 -0.2\nH 0.81 -0.47 -0.2\nH -0.81 -0.47 -0.2\n"
    Path("ion.xyz").write_text(text)
    write_start(Path("ion.xyz"), engine="tblite")
    assert check_deck(load_deck("ion.yaml")).structure.charge == 1
    Path("ion.yaml").write_text(Path("ion.yaml").read_text().replace("charge: 1", "charge: 0"))
    with pytest.raises(InputError, match=r"states the total charge \+1, and \+0 is declared"):
        _ = check_deck(load_deck("ion.yaml")).structure


@pytest.mark.parametrize("name", ["a b.xyz", "@water.xyz", "wasser-ß.xyz", "-w.xyz", "50%.xyz"])
def test_odd_names_of_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("3\nwater\nO 0 0 0.1\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\n")
    write_start(Path(name), engine="tblite", output=Path("deck.yaml"))
    assert len(check_deck(load_deck("deck.yaml")).structure) == 3
    assert len(read_structure(name)) == 3


def test_pmix_without_a_library_that_speaks_it(monkeypatch):
    for variable in ("PMI_RANK", "PMI_FD", "PMI_SIZE", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PMIX_RANK", "0")
    assert speaks_pmix_alone()
    with pytest.raises(InputError, match=r"speaks PMIx.*srun --mpi=list"):
        require_pmix("MPICH Version:      4.3.1\nMPICH configure: --with-pm=hydra")
    require_pmix("MPICH Version:      4.3.1\nMPICH configure: --with-pmix=/usr")
    require_pmix("Open MPI v5.0.7")
    monkeypatch.setenv("PMI_RANK", "0")
    assert not speaks_pmix_alone()


def test_the_program_under_such_a_launcher_ends_with_words(tmp_path):
    """What `srun --mpi=pmix` sets: status 2 and the hint with an MPICH that does not speak it, a run with others."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "SLURM"))}
    environment |= {"PMIX_RANK": "0", "PMIX_NAMESPACE": "x"}
    script = "import mpi4py; mpi4py.rc.initialize = False\nfrom mpi4py import MPI\nprint(MPI.Get_library_version())\n"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    if not said.startswith("MPICH") or "pmix" in said.lower():
        pytest.skip("this MPI speaks PMIx")
    command = [sys.executable, "-m", "hpcir", "schema"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert "srun --mpi=list" in ended.stderr


@pytest.mark.parametrize(
    ("words", "keys", "said"),
    [
        ("isotopes: {heavy: {H: 200}}", "", "this is not a mass in amu"),
        ("isotopes: {heavy: {O: 2.014}}", "", "Isotopes of O have"),
        ("isotopes: {light: {H: 0.1134}}", "", ""),
        ("isotopes: {heavy: {O2: 18}}", "", "atom 2 of the molecule is H"),
        ("charge: 0", "dynamics: {temperature: 300000 K}\n", "no molecule is whole at this temperature"),
        ("charge: 0", "dynamics: {temperature: 3000 K}\n", ""),
    ],
)
def test_masses_and_temperatures_are_held_against_physics(tmp_path, capsys, words, keys, said):
    (tmp_path / "w.xyz").write_text("3\nw\nO 0 0 0.1173\nH 0 0.7572 -0.4692\nH 0 -0.7572 -0.4692\n")
    deck = tmp_path / "a.yaml"
    deck.write_text(f"system: {{structure: w.xyz, {words}}}\nlabels: {{engine: tblite}}\n{keys}")
    assert main(["check", "--no-label", str(deck)]) == (2 if said else 0)
    assert said in capsys.readouterr().err
