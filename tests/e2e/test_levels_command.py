"""`hpcir levels` as a user gives it: a model of hydrogen fluoride trained on GFN2-xTB, and the label engine itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hpcir.cli import main
from hpcir.deck.sections import LabelSettings
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.labels import create_engine
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM
from tests.conftest import Run

pytest.importorskip("tblite")

FLUORIDE = "2\nhydrogen fluoride\nF 0 0 0\nH 0 0 0.93\n"
DECK = """\
system: {structure: hf.xyz, isotopes: {D: {H: 2.014}}}
labels: {engine: tblite}
model: {members: 2, hidden: [10, 10], radial: 8, shells: 0, zetas: [1]}
training: {steps: 800, batch: 16, precision: float64}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("levels")
    (folder / "hf.xyz").write_text(FLUORIDE)
    (folder / "hf.yaml").write_text(DECK)
    before = Path.cwd()
    import os

    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    """A committee trained on bond lengths from 0.7 to 1.4 A."""
    engine = create_engine(LabelSettings(engine="tblite"))
    frames = []
    for bond in np.linspace(0.70, 1.40, 60):
        structure = Structure(np.array([9, 1]), np.array([[0, 0, 0], [0.1 * bond, 0, bond]]) * ANGSTROM)
        label = engine.label(structure)
        frames.append(
            Frame(
                structure.numbers, structure.positions, label.energy, label.forces, label.dipole, None, 0,
                engine.level, "bond",
            )
        )  # fmt: skip
    write_extxyz(Dataset(tuple(frames)), place / "hf-labels.xyz")
    assert main(["train", "--data", "hf-labels.xyz", "--deck", "hf.yaml", "-o", "model", "--force"]) == 0
    return place / "model"


def test_levels_of_a_model_near_those_of_the_engine(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["levels", str(model), "hf.xyz", "--masses", "H=2.014", "-o", "hf.json", "--force"]) == 0
    out = capsys.readouterr().out
    found = json.loads(Path("hf.json").read_text())
    assert "F-H stretch" in out
    assert found["members"] == 2
    assert found["level"] == "GFN2-xTB (tblite)"
    first = next(level for level in found["levels"] if level["kind"] == "fundamental")
    # Exact on the engine's surface: 3463 (tools/bench/bench_quantum); harmonic 3763.
    assert first["wavenumber_per_cm"] == pytest.approx(3463, abs=25)
    assert first["stderr_per_cm"] < 40
    assert first["intensity_km_per_mol"] == pytest.approx(56.4, rel=0.1)
    heavy = found["isotopologues"]["isotopologue"]["levels"][0]
    assert 1.33 < first["wavenumber_per_cm"] / heavy["wavenumber_per_cm"] < 1.40
    assert found["origin"]["program"]


def test_levels_of_the_label_engine_itself(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "engine"
    folder.mkdir()
    (folder / "hf.xyz").write_text(FLUORIDE)
    (folder / "deck.resolved.yaml").write_text(DECK)
    assert main(["levels", str(folder), str(folder / "hf.xyz"), "--potential", "labels"]) == 0
    assert "exact, on a grid" in capsys.readouterr().out
    found = json.loads((folder / "levels.json").read_text())
    assert found["method"] == "grid"
    assert found["levels"][0]["wavenumber_per_cm"] == pytest.approx(3463.1, abs=0.5)
    assert found["isotopologues"]["D"]["zero_point_per_cm"] < 0.75 * found["zero_point_per_cm"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["levels", "nowhere"], ["nowhere"]),
        (["levels", "model"], ["no minimum is known here", "structure file"]),
        (["levels", "model", "hf.xyz", "--masses", "H=heavy"], ["mass", "heavy"]),
        (["levels", "model", "hf.xyz", "--masses", "C=14"], ["no such atom", "C"]),
        (["levels", "model", "nothing.xyz"], ["nothing.xyz"]),
    ],
)
def test_wrong_input_is_named(
    model: Path, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *(["-o", "x.json"] if len(arguments) > 2 else [])]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_levels_are_the_same_on_any_rank_count(model: Path, ranks: int, mpirun: Run) -> None:
    """Two members and an isotopologue over the ranks: every number to the last digit."""
    asked = ["levels", str(model), "hf.xyz", "--masses", "H=2.014", "--force", "-o"]
    assert main([*asked, "one.json"]) == 0
    done = mpirun(ranks, ["-m", "hpcir", *asked, f"ranks-{ranks}.json"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("zero-point energy") == 2
    one, other = (json.loads(Path(name).read_text()) for name in ("one.json", f"ranks-{ranks}.json"))
    one.pop("origin"), other.pop("origin")
    assert one == other


@pytest.mark.mpi
def test_saddle_point_ends_all_ranks_with_one_message(place: Path, mpirun: Run) -> None:
    """Straight water: both of its isotopologues fail, each on a rank of its own."""
    folder = place / "straight"
    folder.mkdir()
    (folder / "water.xyz").write_text("3\nstraight water\nO 0 0 0\nH 0 0 0.94\nH 0 0 -0.94\n")
    (folder / "deck.resolved.yaml").write_text(
        "system: {structure: water.xyz, isotopes: {D2O: {H: 2.014}}}\nlabels: {engine: tblite}\n"
    )
    done = mpirun(2, ["-m", "hpcir", "levels", str(folder), str(folder / "water.xyz"), "--potential", "labels"])
    assert done.returncode == 2, done.stdout + done.stderr
    assert "saddle point" in done.stderr
    assert "start from a structure without that symmetry" in done.stderr.lower()
    assert not (folder / "levels.json").exists()


FLAT = """\
from ase.calculators.calculator import Calculator, all_changes


class FlatWell(Calculator):
    \"\"\"A bond in a nearly flat, strongly quartic well (eV, A).\"\"\"

    implemented_properties = ["energy", "forces", "dipole"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        vector = self.atoms.positions[1] - self.atoms.positions[0]
        length = (vector @ vector) ** 0.5
        x = length - 1.16
        force = -(0.8 * x + 700.0 * x**3) * vector / length
        dipole = 0.1 * vector
        self.results = {"energy": 0.4 * x**2 + 175.0 * x**4, "forces": [-force, force], "dipole": dipole}
"""


def test_expansion_that_diverges_is_refused_with_words(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "flat"
    folder.mkdir()
    (folder / "flat_well.py").write_text(FLAT)
    (folder / "co.xyz").write_text("2\na flat well\nC 0 0 0\nO 0 0 1.15\n")
    (folder / "deck.resolved.yaml").write_text(
        "system: {structure: co.xyz}\nlabels: {engine: ase, calculator: 'flat_well:FlatWell'}\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    assert main(["levels", str(folder), str(folder / "co.xyz"), "--potential", "labels"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    for words in ("the expansion of the surface diverges: mode v1 comes out at", "harmonic", "The motion is wide"):
        assert words in said
    assert not (folder / "levels.json").exists()
