"""Labels from another program, played here, on their whole way: `hpcir label` and `hpcir run`, start after start."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.exchange.reading import read_dataset
from hpcir.labels import Label, create_engine
from hpcir.molecules.structures import Structure, read_structure
from tests.commands.conftest import Command, write_xyz
from tests.e2e.conftest import DECK, WATER, replaced
from tests.played_programs import TEMPLATES, play

pytest.importorskip("tblite")


def played(structure: Structure) -> Label:
    """What the other program computes."""
    return create_engine(LabelSettings(engine="tblite")).label(structure)


def files_deck(program: str, pretrain: str) -> str:
    """The tiny deck with labels from files."""
    template = "".join(f"      {line}\n" for line in TEMPLATES[program].splitlines())
    labels = (
        f"labels:\n  engine: files\n  files:\n    program: {program}\n    level: played\n    template: |\n{template}"
        f"  pretrain: {pretrain}\n"
    )
    return replaced(DECK, {"labels: {engine: tblite}\n": labels})


@pytest.mark.parametrize("program", ["orca", "qchem"])
def test_a_file_of_geometries(program: str, tmp_path: Path, command: Command) -> None:
    water = read_structure(WATER)
    random = np.random.default_rng(5)
    moved = [water.moved(water.positions + 0.06 * random.standard_normal((3, 3))) for _ in range(5)]
    write_xyz(tmp_path / "geometries.xyz", moved)
    deck, out = tmp_path / "deck.yaml", tmp_path / "labels.xyz"
    deck.write_text(files_deck(program, "{engine: none}"))
    arguments = ("label", tmp_path / "geometries.xyz", "--deck", deck, "-o", out)
    status, _, said = command(*arguments)
    folder = tmp_path / "labels.labels.run" / "external"
    assert status == 75
    assert "5 labels are missing" in said
    assert str(folder) in said
    assert play(program, folder, played) == 5
    # One output is of another geometry: it is named, and the others are kept even when they are gone.
    outputs = sorted([*folder.glob("*.out")])
    kept = outputs[2].read_text()
    outputs[2].write_text(outputs[3].read_text())
    status, _, said = command(*arguments)
    assert status == 2
    assert re.search(
        rf"{re.escape(str(outputs[2]))}:\d+: this is another geometry .*right would be", said, re.IGNORECASE
    )
    for output in outputs:
        output.unlink()
    status, _, said = command(*arguments)
    assert (status, "1 label is missing" in said) == (75, True)
    assert (folder / "missing.txt").read_text().split() == [
        outputs[2].with_suffix({"orca": ".inp", "qchem": ".in"}[program]).name
    ]
    outputs[2].write_text(kept)
    assert command(*arguments)[0] == 0
    frames = read_dataset(out).frames
    assert len(frames) == 5
    for frame in frames:
        own = played(Structure(frame.numbers, frame.positions))
        assert frame.energy == pytest.approx(own.energy, abs=1e-9)
        np.testing.assert_allclose(frame.forces, own.forces, atol=1e-8)
        np.testing.assert_allclose(frame.dipole, own.dipole, atol=1e-7)
        assert frame.level.startswith("played (")


def test_a_deck_that_cannot_be_labelled_so_is_refused_with_its_line(tmp_path: Path, command: Command) -> None:
    deck = tmp_path / "deck.yaml"
    text = files_deck("orca", "{engine: none}").replace("{coordinates}", "{coords}")
    deck.write_text(text)
    status, _, said = command("check", deck, "--no-label")
    assert status == 2
    line = 1 + next(n for n, words in enumerate(text.splitlines()) if "template: |" in words)
    assert f"deck.yaml:{line}: labels.files.template: the template has no place for the coordinates" in said
    assert "{coords}" in said


def test_a_run_goes_on_from_start_to_start(tmp_path: Path, command: Command) -> None:
    """Each start labels nothing, reads what was labelled, and writes what comes next; the last one ends the run. The
    level below has the minimum, so that no start goes into an optimisation."""
    deck, out = tmp_path / "deck.yaml", tmp_path / "run"
    template = "".join(f"        {line}\n" for line in TEMPLATES["gaussian"].splitlines())
    levels = (
        "levels:\n  - {engine: tblite, method: GFN1-xTB, labels: 50}\n  - engine: files\n    labels: 12\n    files:\n"
        f"      program: gaussian\n      level: played\n      template: |\n{template}"
    )
    words = {
        "labels: {engine: tblite}\n": levels,
        "max_labels: 40, initial_labels: 10, round_labels: 8, rounds: 2": "rounds: 1",
        "trajectories: 16, duration": "trajectories: 8, duration",
        "steps: 100, final_steps: 100": "steps: 60, pretrain_steps: 100, retrain_steps: 50, final_steps: 50",
        "learning_rate: 0.01}": "learning_rate: 0.01, process: 0}",
        "{count: 10}": '{count: 4, harmonic: "no"}',
        "dynamics: {trajectories: 32, lockstep: 16": "dynamics: {trajectories: 4, lockstep: 4",
        "committee_errors: false": 'committee_errors: false, levels: "no"',
        "force_error: 20": "force_error: 200",
    }
    deck.write_text(replaced(DECK, words))
    asked, starts = [], []
    for _ in range(6):
        status, _, said = command("run", deck, "--out", out)
        starts.append(status)
        if status != 75:
            break
        new = play("gaussian", out / "external", played)
        assert f"{new} label{'s are' if new > 1 else ' is'} missing" in said
        asked.append(new)
    assert starts[-1] == 0, said
    assert asked[0] == 6
    assert asked[-1] == 4  # the test's
    summary = json.loads((out / "summary.json").read_text())
    assert summary["labels"]["count"] == sum(asked[:-1]) <= 12
    frames = [frame for frame in read_dataset(out / "labels.h5").frames if frame.level.startswith("played")]
    assert len(frames) == sum(asked)
    assert (out / "external" / "missing.txt").read_text() == ""
