"""Wrong input to single commands: one message, status 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.conftest import Command, refused

WRONG: dict[str, tuple[list[str], list[str]]] = {
    "label, no geometries": (
        ["label", "nowhere.xyz", "--deck", "deck.yaml", "-o", "o.xyz"],
        ["nowhere.xyz", "does not exist"],
    ),
    "label, no deck": (["label", "methanol.xyz", "--deck", "nowhere.yaml", "-o", "o.xyz"], ["nowhere.yaml"]),
    "label, no folder": (
        ["label", "methanol.xyz", "--deck", "deck.yaml", "-o", "no/o.xyz"],
        ["no", "folder does not exist"],
    ),
    "label, method": (
        ["label", "methanol.xyz", "--deck", "bad.yaml", "-o", "o.xyz"],
        ["bad.yaml:2: labels.method", "GFN7"],
    ),
    "label, broken geometry": (
        ["label", "broken.xyz", "--deck", "deck.yaml", "-o", "o.xyz"],
        ["geometry 2", "overlap"],
    ),
    "train, no data": (["train", "--data", "nowhere.xyz", "-o", "m"], ["nowhere.xyz", "does not exist"]),
    "train, nothing learnable": (
        ["train", "--data", "methanol.xyz", "-o", "m"],
        ["no energy, forces or dipole"],
    ),
    "train, unit": (["train", "--data", "labels.xyz", "--units", "energy=ev", "-o", "m"], ["'ev'", "eV"]),
    "train, pair": (
        ["train", "--data", "labels.xyz", "--units", "energy", "-o", "m"],
        ["--units", "NAME=VALUE"],
    ),
    "train, key": (
        ["train", "--data", "labels.xyz", "--keys", "energy=E0", "-o", "m"],
        ["'E0'", "It holds charge"],
    ),
    "evaluate, no model": (
        ["evaluate", "nowhere", "methanol.xyz", "-o", "o.xyz"],
        ["nowhere", "no model here"],
    ),
    "evaluate, element": (
        ["evaluate", "model", "ammonia.xyz", "-o", "o.xyz"],
        ["geometry 1", "no network for N", "H, C, O"],
    ),
    "md, element": (["md", "model", "ammonia.xyz", "-o", "d"], ["no network for N"]),
    "md, potential": (["md", "model", "methanol.xyz", "--potential", "guess", "-o", "d"], ["'guess'"]),
    "md, count": (
        ["md", "model", "methanol.xyz", "--trajectories", "0", "-o", "d"],
        ["--trajectories", "'0'"],
    ),
    "md, too short": (
        ["md", "model", "methanol.xyz", "--duration", "10 fs", "-o", "d"],
        ["correlation depth", "10 fs"],
    ),
    "md, not ours": (["md", "model", "methanol.xyz", "-o", "thesis"], ["not a run of hpcir"]),
    "md, not ours, force": (
        ["md", "model", "methanol.xyz", "-o", "thesis", "--force"],
        ["not a run of hpcir"],
    ),
    "spectrum, nothing": (
        ["spectrum", "nowhere.csv", "--temperature", "300 K", "-o", "d"],
        ["nowhere.csv", "no such file"],
    ),
    "spectrum, a model": (["spectrum", "model/model.h5", "-o", "d"], ["model.h5", "not a trajectory file"]),
    "compare, nothing": (["compare", "nowhere", "nowhere.csv"], ["nowhere"]),
    "compare, no spectrum": (["compare", "model", "model"], ["no spectrum in this directory"]),
    "compare, kind": (["compare", "methanol.xyz", "methanol.xyz"], [".xyz", "JCAMP"]),
    "export, no model": (["export", "nowhere", "--format", "n2p2", "-o", "d"], ["no model here"]),
    "export, format": (["export", "model", "--format", "onnx", "-o", "d"], ["'onnx'", "n2p2"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gets_one_message(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(place)
    (place / "bad.yaml").write_text("system: {structure: methanol.xyz}\nlabels: {engine: tblite, method: GFN7}\n")
    (place / "thesis").mkdir(exist_ok=True)
    (place / "thesis/chapter1.txt").write_text("mine")
    methanol = (place / "methanol.xyz").read_text()
    (place / "broken.xyz").write_text(methanol + "2\n\nH 0 0 0\nH 0 0 0.01\n")
    (place / "ammonia.xyz").write_text("4\n\nN 0 0 0\nH 0.94 0 0.38\nH -0.47 0.81 0.38\nH -0.47 -0.81 0.38\n")
    before = sorted(place.rglob("*"))
    arguments, words = WRONG[name]
    refused(command(*arguments), *words)
    assert sorted(place.rglob("*")) == before
    assert (place / "thesis/chapter1.txt").read_text() == "mine"
