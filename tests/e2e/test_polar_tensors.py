"""Polar tensors on their whole way: asked for in a deck, labelled, written, learnt, and tested by a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcir.cli import main
from hpcir.deck.sections import LabelSettings
from hpcir.exchange.reading import read_dataset
from hpcir.labels import create_engine
from hpcir.molecules.structures import Structure, read_structure
from tests.commands.conftest import INPUTS, write_xyz
from tests.e2e.conftest import differences, finish, replaced, results

DECK = """\
system: {structure: methanol.xyz}
labels: {engine: tblite, polar_tensors: true}
model: {members: 2, hidden: [12, 12], radial: 6, shells: 2, zetas: [1, 2], channels: 0}
training: {steps: 200, learning_rate: 0.01, process: 0}
"""


def test_label_writes_what_train_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methanol = read_structure(INPUTS / "methanol.xyz")
    random = np.random.default_rng(5)
    moved = [methanol.moved(methanol.positions + 0.06 * random.standard_normal((6, 3))) for _ in range(14)]
    write_xyz(tmp_path / "methanol.xyz", [methanol])
    write_xyz(tmp_path / "geometries.xyz", moved)
    (tmp_path / "deck.yaml").write_text(DECK)
    where = ["--deck", str(tmp_path / "deck.yaml"), "-o"]
    assert main(["label", str(tmp_path / "geometries.xyz"), *where, str(tmp_path / "labels.xyz")]) == 0
    (frame,) = read_dataset(tmp_path / "labels.xyz").frames[3:4]
    own = create_engine(LabelSettings(engine="tblite")).label(Structure(frame.numbers, frame.positions), True)
    np.testing.assert_allclose(frame.polar_tensors, own.polar_tensors, atol=1e-6)
    capsys.readouterr()
    assert main(["train", "--data", str(tmp_path / "labels.xyz"), *where, str(tmp_path / "model")]) == 0
    assert "14 polar_tensors" in capsys.readouterr().out


@pytest.mark.mpi
def test_a_run_with_polar_tensors(deck, run_deck, tmp_path) -> None:
    """On two ranks as on one; its test has their error, and labels.h5 holds them."""
    asked = tmp_path / "polar.yaml"
    asked.write_text(replaced(deck.read_text(), {"engine: tblite}": "engine: tblite, polar_tensors: true}"}))
    for ranks in (1, 2):
        finish(run_deck, asked, tmp_path / f"run-{ranks}", ranks=ranks)
    found = results(tmp_path / "run-1")
    assert differences(found, results(tmp_path / "run-2")) == []
    test = json.loads((tmp_path / "run-1" / "summary.json").read_text())["test"]
    assert 0 < test["polar_tensor_rmse_e"] < 0.2
    assert {row["motion"] for row in test["local_frequencies"]} >= {"H2O stretch", "H2O bend"}
    frames = read_dataset(tmp_path / "run-1" / "labels.h5").frames
    assert sum(frame.polar_tensors is not None for frame in frames) > 0.9 * len(frames)
