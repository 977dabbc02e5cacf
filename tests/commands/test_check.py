"""`hpcir check`: when it makes a label, what it says where it makes none, and its estimate of a label's time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hpcir.commands import check
from hpcir.deck.sections import LabelSettings
from hpcir.labels.checks import finished_label
from hpcir.labels.isolation import IsolatedEngine
from hpcir.labels.pyscf_checks import COMPLETE_BASES, LAST_COMMON_ELEMENT
from hpcir.molecules.structures import Structure
from hpcir.study.label_cost import FUNCTIONS, basis_functions, estimated_label
from tests.commands.conftest import Command, done, refused

WATER = "3\n\nO 0 0 0.1173\nH 0 0.7572 -0.4692\nH 0 -0.7572 -0.4692\n"
HYDRONIUM = "4\ncharge=1\nO 0 0 0.1\nH 0 0.94 -0.2\nH 0.81 -0.47 -0.2\nH -0.81 -0.47 -0.2\n"
NEVER_HEARS = """
from tblite.ase import TBLite

class OwnCharge(TBLite):
    def __init__(self, total=0, **k):
        super().__init__(method="GFN2-xTB", charge=total, multiplicity=1, verbosity=0, **k)
"""


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that make a label, which it is spared: ten seconds a label, of a real one's shape."""
    made: list[str] = []

    def label(self: IsolatedEngine, structure: Structure, polar: bool = False) -> object:
        made.append(self._settings.engine)
        return finished_label(structure, -1.0, np.zeros((len(structure), 3)), np.zeros(3), 10.0, "default")

    monkeypatch.setattr(IsolatedEngine, "label", label)
    return made


def deck(folder: Path, labels: str, structure: str = WATER, charge: int = 0) -> Path:
    (folder / "water.xyz").write_text(structure)
    path = folder / "deck.yaml"
    path.write_text(f"system: {{structure: water.xyz, charge: {charge}}}\nlabels: {labels}\n")
    return path


def test_a_label_that_takes_long_is_made_only_when_asked_for(
    tmp_path: Path, command: Command, labelled: list[str]
) -> None:
    path = deck(tmp_path, "{engine: pyscf, basis: def2-tzvp}")
    plain = done(command("check", path))
    assert not labelled
    seconds = estimated_label(LabelSettings(basis="def2-tzvp"), _water()).seconds
    assert f"No label was made: it would take about {seconds:.1g} s, estimated from 43 basis functions" in plain
    assert "--label makes one" in plain
    assert "all labels on 1 rank" in plain
    assert "memory of a label" not in plain
    assert "the label engine's process apart" in plain
    for option in ("--no-label", "--quick"):
        assert done(command("check", path, option)) == plain
    asked = done(command("check", path, "--label"))
    assert labelled == ["pyscf"]
    assert "10 s, BP86/def2-tzvp" in asked
    assert "memory of a label" in asked
    assert "No label was made" not in asked


def test_a_cheap_label_is_made(tmp_path: Path, command: Command, labelled: list[str]) -> None:
    path = deck(tmp_path, "{engine: tblite}")
    assert "No label was made" not in done(command("check", path))
    assert labelled == ["tblite"]
    assert "No label was made" in done(command("check", path, "--no-label"))
    assert labelled == ["tblite"]


def test_a_label_of_two_grids_has_no_estimate(tmp_path: Path, command: Command, labelled: list[str]) -> None:
    said = done(command("check", deck(tmp_path, "{engine: pyscf, functional: wb97x-v}")))
    assert not labelled
    assert "No label was made: its time is not estimated" in said
    assert "all labels on" not in said


def test_a_calculator_that_never_hears_of_the_charge_is_found_by_check_and_by_the_first_label(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_hears.py").write_text(NEVER_HEARS)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *paths]))
    monkeypatch.syspath_prepend(str(tmp_path))
    path = deck(tmp_path, "{engine: ase, calculator: 'never_hears:OwnCharge', pretrain: {engine: none}}", HYDRONIUM, 1)
    said = "the calculator's dipole moves as that of a molecule with charge +0"
    refused(command("check", path), said)
    assert "No label was made: its time is not estimated" in done(command("check", path, "--no-label"))
    refused(command("label", tmp_path / "water.xyz", "--deck", path, "-o", tmp_path / "out.xyz"), said)
    refused(command("run", path, "--out", tmp_path / "run"), said)


def _water() -> Structure:
    return Structure(np.array([8, 1, 1]), np.array([[0, 0, 0.2], [0, 1.4, -0.9], [0, -1.4, -0.9]]), name="water")


def test_the_numbers_of_functions_are_those_of_pyscf() -> None:
    gto = pytest.importorskip("pyscf.gto")
    symbols = pytest.importorskip("pyscf.data.elements").ELEMENTS[1 : LAST_COMMON_ELEMENT + 1]
    assert set(FUNCTIONS) == set(COMPLETE_BASES)
    for basis, functions in FUNCTIONS.items():
        assert list(functions) == [gto.M(atom=f"{one} 0 0 0", basis=basis, spin=None).nao for one in symbols]
    assert basis_functions(LabelSettings(basis="def2-svp"), _water()) == 24
    assert basis_functions(LabelSettings(basis="cc-pvdz"), _water()) == 24


def test_estimates_rank_what_labels_cost() -> None:
    """Processor seconds of `tools/bench/bench_labels --estimates` for water: 0.14 at the default level."""
    pytest.importorskip("pyscf")

    def seconds(**words: object) -> float:
        estimate = estimated_label(LabelSettings(**words), _water())
        assert estimate is not None
        return estimate.seconds

    assert 0.07 < seconds() < 0.3
    assert seconds(engine="tblite") < 0.01 * seconds()
    assert seconds() < seconds(functional="b3lyp") < seconds(functional="tpss")
    assert seconds(functional="hf") < seconds() < seconds(basis="def2-tzvp") < seconds(basis="def2-qzvp")
    assert seconds(functional="m06-2x") == pytest.approx(seconds(functional="tpss") * 1.3)
    assert seconds(wavefunction="ccsd", density_fitting=False) < seconds(
        wavefunction="ccsd(t)", density_fitting=False, basis="def2-tzvp"
    )
    assert seconds(polar_tensors=True) == pytest.approx(7 * seconds())
    radical = Structure(np.array([8, 1]), np.array([[0, 0, 0.0], [0, 0, 1.8]]), multiplicity=2)
    closed = Structure(np.array([8, 1]), np.array([[0, 0, 0.0], [0, 0, 1.8]]), charge=-1)
    both = [estimated_label(LabelSettings(), one) for one in (radical, closed)]
    assert both[0].seconds == pytest.approx(2 * both[1].seconds)
    assert estimated_label(LabelSettings(engine="ase", calculator="a:B"), _water()) is None


def test_the_limit_is_a_second_with_the_start_of_the_engine() -> None:
    """No label of PySCF is below it, since its import takes as long."""
    assert check.CHEAP_LABEL == 1.0
    assert check.start_seconds("pyscf") >= check.CHEAP_LABEL > check.start_seconds("tblite")
