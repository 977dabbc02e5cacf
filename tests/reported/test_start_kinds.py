"""Starts as people make them: from a string, a name, a file of another program; under launchers of other kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.collections import g2
from ase.io import write

from hpcir.cli import main
from hpcir.commands.init import write_start
from hpcir.deck.checks import check_deck, deck_warnings
from hpcir.deck.loader import load_deck
from hpcir.errors import InputError
from hpcir.molecules.structures import read_structure
from hpcir.runtime.launcher import require_pmix, speaks_pmix_alone
from hpcir.units import AMU

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
}


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_becomes_a_deck_that_checks(tmp_path, monkeypatch, capsys, text):
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    charge, multiplicity = STRINGS[text]
    assert main(["init", "--smiles", text, "--engine", "tblite", "-o", "deck.yaml"]) == 0
    loaded = check_deck(load_deck("deck.yaml"))
    assert (loaded.structure.charge, loaded.structure.multiplicity) == (charge, multiplicity)
    assert Path("deck.svg").read_text().lstrip().startswith("<?xml")
    assert "understood as" in capsys.readouterr().out
    assert main(["check", "deck.yaml", "--quick"]) == 0
    if "[2H]" in text:
        assert loaded.structure.masses[0] / AMU == pytest.approx(2.014, abs=1e-3)
    if len(text) > 30:
        assert loaded.deck.sampling.families > 0
        assert loaded.deck.sampling.largest_fragment >= 15


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
    assert main(["check", "molecule.yaml", "--quick"]) == 0
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
