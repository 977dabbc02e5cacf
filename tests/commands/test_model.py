"""`hpcir train`, `evaluate`, `export` and `import` on labels of GFN2-xTB: one tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpcir.exchange.n2p2 import import_n2p2
from hpcir.exchange.reading import read_dataset
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, read_frames, read_structure
from hpcir.units import ANGSTROM, EV, KCAL_PER_MOL
from tests.commands.conftest import DECK, Command, done, refused, write_xyz
from tests.e2e.conftest import replaced


def test_model_has_learnt(place: Path) -> None:
    figures = json.loads((place / "model/training.json").read_text())
    forces = np.array([frame.forces for frame in read_dataset(place / "labels.xyz").frames])
    scatter = float(forces.std()) / KCAL_PER_MOL * ANGSTROM
    assert figures["test"]["force_rmse_kcal_per_mol_angstrom"] < 0.3 * scatter
    assert figures["provenance"]["geometries"] == 40
    assert Model.load(place / "model").level == figures["level"]


@pytest.mark.long
def test_a_cheap_level_below_takes_error_off_a_dozen_labels(place: Path, tmp_path: Path, command: Command) -> None:
    lines = (place / "labels.xyz").read_text().splitlines(keepends=True)
    few, size = tmp_path / "few.xyz", int(lines[0]) + 2
    few.write_text("".join(lines[: 12 * size]))
    deck = tmp_path / "deck.yaml"
    cheap = "{engine: tblite, pretrain: {engine: tblite, method: GFN1-xTB, labels: 150}}"
    steps = "{steps: 300, pretrain_steps: 600, final_steps: 300}"
    deck.write_text(replaced(DECK, {"{engine: tblite}": cheap, "{steps: 1000}": steps}))
    (tmp_path / "methanol.xyz").write_text((place / "methanol.xyz").read_text())
    errors = []
    for pretrain in ("none", "auto"):
        folder = tmp_path / pretrain
        done(command("train", "--data", few, "--deck", deck, "--pretrain", pretrain, "-o", folder))
        model = Model.load(folder)
        missed = [
            model.evaluate(frame.numbers, frame.positions).forces - frame.forces
            for frame in read_dataset(place / "labels.xyz").frames[12:]
        ]
        errors.append(float(np.sqrt(np.mean(np.square(missed)))))
    assert errors[1] < 0.6 * errors[0]
    provenance = json.loads((tmp_path / "auto/training.json").read_text())["provenance"]
    assert provenance["pretrained_on"].startswith("GFN1-xTB")


def few_labels(place: Path, folder: Path) -> Path:
    """The first dozen labels."""
    lines = (place / "labels.xyz").read_text().splitlines(keepends=True)
    few = folder / "few.xyz"
    few.write_text("".join(lines[: 12 * (int(lines[0]) + 2)]))
    return few


def test_a_training_begins_from_a_model_or_from_a_level_of_the_deck(
    place: Path, tmp_path: Path, command: Command
) -> None:
    """After twenty steps on a dozen labels what the start has learnt is what the model knows."""
    few, deck = few_labels(place, tmp_path), tmp_path / "deck.yaml"
    levels = "levels:\n  - {engine: tblite, method: GFN1-xTB, labels: 60}\n  - {engine: tblite}"
    words = {"labels: {engine: tblite}": levels, "{steps: 1000}": "{steps: 20, pretrain_steps: 400, final_steps: 20}"}
    deck.write_text(replaced(DECK, words))
    (tmp_path / "methanol.xyz").write_text((place / "methanol.xyz").read_text())
    rest, errors = read_dataset(place / "labels.xyz").frames[12:], {}
    for name, start in (("none", "none"), ("model", place / "model"), ("level", 1)):
        done(command("train", "--data", few, "--deck", deck, "--pretrain", start, "-o", tmp_path / name))
        model = Model.load(tmp_path / name)
        missed = [model.evaluate(frame.numbers, frame.positions).forces - frame.forces for frame in rest]
        errors[name] = float(np.sqrt(np.mean(np.square(missed))))
    assert errors["model"] < 0.5 * errors["none"]
    assert errors["level"] < 0.8 * errors["none"]
    told = json.loads((tmp_path / "level/training.json").read_text())["provenance"]
    assert told["pretrained_on"].startswith("GFN1-xTB")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("3", ("no such level", "It has 0 levels")),
        ("nowhere", ("nor a model", "nowhere")),
        ("model", ("other widths", "12, 12", "deck.resolved.yaml")),
    ],
)
def test_a_start_that_cannot_be_is_refused(
    place: Path, tmp_path: Path, command: Command, start: str, words: tuple[str, ...]
) -> None:
    deck = tmp_path / "deck.yaml"
    deck.write_text(replaced(DECK, {"hidden: [12, 12]": "hidden: [16, 16]"}))
    (tmp_path / "methanol.xyz").write_text((place / "methanol.xyz").read_text())
    given = place / "model" if start == "model" else start
    refused(
        command("train", "--data", place / "labels.xyz", "--deck", deck, "--pretrain", given, "-o", tmp_path / "out"),
        "--pretrain",
        *words,
    )


def rewritten(place: Path, target: Path, change: Callable[[str], str]) -> Path:
    target.write_text(change((place / "labels.xyz").read_text()))
    return target


def test_audit_refuses_zero_dipoles(place: Path, tmp_path: Path, command: Command) -> None:
    import re

    data = rewritten(place, tmp_path / "zero.xyz", lambda text: re.sub('dipole="[^"]*"', 'dipole="0 0 0"', text))
    status, out, err = command("train", "--data", data, "--deck", place / "deck.yaml", "-o", tmp_path / "model")
    refused((status, out, err), "the audit found errors", "zero", "--force")
    assert "dipole" in out
    assert not (tmp_path / "model").exists()


def test_warnings_of_the_audit_and_names_not_read_are_told_at_the_end(
    place: Path, tmp_path: Path, command: Command
) -> None:
    def copied(text: str) -> str:
        lines = text.splitlines(keepends=True)
        return (text + "".join(lines[: int(lines[0]) + 2])).replace("dipole=", "moment=")

    data = rewritten(place, tmp_path / "copied.xyz", copied)
    out = done(command("train", "--data", data, "--deck", place / "quick.yaml", "-o", tmp_path / "model"))
    assert "\nwarning: copies of other geometries, mirror images counted: geometry 41." in out
    assert "note: left out: geometry 41, a copy of another one" in out
    assert "not read: moment (see --keys)" in out
    assert out.index("not read:") < out.index("train outside data: starts")
    assert "the file also holds moment: see --keys" in out
    training = json.loads((tmp_path / "model/training.json").read_text())
    assert any("copies" in note for note in training["notes"])
    assert training["provenance"]["geometries"] == len(read_dataset(place / "labels.xyz"))


def test_data_that_no_memory_can_hold_is_refused(
    place: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpcir.commands import train as outside_training

    monkeypatch.setattr(outside_training, "physical_memory", lambda: 2**20)
    arguments = ["--data", place / "labels.xyz", "--deck", place / "deck.yaml", "-o", tmp_path / "model"]
    refused(command("train", *arguments), "GiB of memory", "geometry in")
    assert not (tmp_path / "model").exists()


def test_model_without_dipoles_says_so(place: Path, tmp_path: Path, command: Command) -> None:
    arguments = ["--data", place / "labels.xyz", "--keys", "energy=energy", "forces=forces", "level=level"]
    arguments += ["--units", "energy=eV", "forces=eV/A", "dipole=D"]
    out = done(command("train", *arguments, "--deck", place / "quick.yaml", "-o", tmp_path / "model"))
    assert "no dipoles" in out
    assert "dipole: none in the file, though their unit is declared" in out
    # What is not there has no error either: not even one of zero.
    assert "dipole RMSE" not in out
    assert "force RMSE" in out
    done(command("evaluate", tmp_path / "model", place / "methanol.xyz", "-o", tmp_path / "out.xyz"))
    assert read_dataset(tmp_path / "out.xyz").having("dipole") == []
    answer = command(
        "md", tmp_path / "model", place / "methanol.xyz", "--deck", place / "deck.yaml", "-o", tmp_path / "md"
    )
    refused(answer, "has no dipole")
    assert not (tmp_path / "md").exists()


def test_evaluate_forces_are_the_slope_of_the_energy(place: Path, tmp_path: Path, command: Command) -> None:
    """Several molecules in one file: methanol twice, displaced, and water, whose elements the model knows."""
    methanol = read_structure(place / "methanol.xyz")
    step = np.zeros((6, 3))
    step[5, 1] = 1e-3 * ANGSTROM
    water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) * ANGSTROM)
    forward, back = (methanol.moved(methanol.positions + sign * step) for sign in (1, -1))
    path = write_xyz(tmp_path / "in.xyz", [forward, back, methanol, water])
    done(command("evaluate", place / "model", path, "-o", tmp_path / "out.xyz"))
    frames = read_frames(tmp_path / "out.xyz")
    energies = [atoms.get_potential_energy() for atoms in frames]
    assert frames[2].get_forces()[5, 1] == pytest.approx(-(energies[0] - energies[1]) / 2e-3, abs=2e-5)
    assert [len(atoms) for atoms in frames] == [6, 6, 6, 3]
    for frame in read_dataset(tmp_path / "out.xyz").frames:
        assert np.sum(frame.charges) == pytest.approx(0, abs=1e-9)
    own = Model.load(place / "model").evaluate(methanol.numbers, methanol.positions)
    assert energies[2] == pytest.approx(own.energy / EV, abs=1e-6)
    assert frames[2].info["energy_spread"] == pytest.approx(own.energy_spread / EV, rel=1e-4)


def test_export_is_the_same_potential(place: Path, tmp_path: Path, command: Command) -> None:
    done(command("export", place / "model", "--format", "n2p2", "-o", tmp_path / "n2p2"))
    methanol = read_structure(place / "methanol.xyz")
    back = import_n2p2([tmp_path / "n2p2/member-00", tmp_path / "n2p2/member-01"])
    there = Model.load(place / "model").evaluate(methanol.numbers, methanol.positions)
    here = back.evaluate(methanol.numbers, methanol.positions)
    assert here.energy == pytest.approx(there.energy, rel=1e-9)
    assert np.allclose(here.forces, there.forces, atol=1e-8)
    refused(command("export", place / "model", "--format", "n2p2", "-o", tmp_path / "n2p2"), "exists already")
