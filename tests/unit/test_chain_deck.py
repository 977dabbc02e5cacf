"""Decks with a chain of levels of theory: their meaning, and refusals with file, line and what would be right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from hpcir.commands.check_molecules import check_molecules
from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.deck.resolved import deck_digest, resolved_text
from hpcir.deck.sections import Deck, System
from hpcir.deck.study import Study
from hpcir.errors import InputError
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.level_data import read_level
from hpcir.molecules.structures import read_structure

WATER = Path(__file__).parents[1] / "e2e" / "water.xyz"
CALCULATOR = "tests.unit.test_chain_deck:ForcesAlone"


class ForcesAlone:
    """An ASE calculator that knows no dipole."""

    implemented_properties = ("energy", "forces")

    def __init__(self, **_: object) -> None: ...


def study_of(folder: Path, levels: str, more: str = "") -> Study:
    path = folder / "deck.yaml"
    path.write_text(f"system: {{structure: {WATER}}}\nlevels:\n{levels}{more}")
    return check_deck(load_deck(path))


def refusal(folder: Path, levels: str, more: str = "") -> str:
    with pytest.raises(InputError) as caught:
        study_of(folder, levels, more)
    return str(caught.value)


CHAIN = """\
  - {engine: tblite, labels: 60}
  - {functional: pbe, labels: 30}
  - {functional: b3lyp, labels: 20, threads: 2}
"""


def test_the_last_level_is_the_deck_s(tmp_path: Path) -> None:
    deck = study_of(tmp_path, CHAIN).deck
    assert (deck.labels.functional, deck.labels.pretrain.engine) == ("b3lyp", "none")
    counts = deck.sampling
    assert (counts.max_labels, counts.initial_labels, counts.round_labels) == (20, 10, 5)
    assert not deck.labels_its_minimum


def test_the_resolved_deck_can_be_run_again(tmp_path: Path) -> None:
    deck = study_of(tmp_path, CHAIN).deck
    again = tmp_path / "again.yaml"
    again.write_text(resolved_text(deck, str(WATER)))
    resolved = check_deck(load_deck(again)).deck
    assert (resolved.levels, resolved.labels, resolved.sampling) == (deck.levels, deck.labels, deck.sampling)
    assert "labels" not in yaml.safe_load(again.read_text())


def test_the_digest_of_a_deck_without_a_chain_is_that_of_before() -> None:
    """Run directories of before are still their decks'; threads change no result."""
    plain = Deck(system=System(structure="a.xyz"))
    labels = plain.labels.model_dump(mode="json")
    del labels["threads"], labels["dipoles"]
    before = hashlib.sha256(json.dumps({"labels": labels}, sort_keys=True).encode()).hexdigest()[:24]
    assert deck_digest(plain, "labels") == before


def test_the_digest_of_a_chain_tells_levels_apart_but_not_threads(tmp_path: Path) -> None:
    found = [
        deck_digest(study_of(tmp_path, CHAIN.replace(old, new)).deck)
        for old, new in (("", ""), ("threads: 2", "threads: 1"), ("functional: pbe", "functional: blyp"))
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("levels", "more", "line", "key", "word"),
    [
        ("  - {engine: tblite}\n", "labels: {engine: tblite}\n", 4, "labels", "labels or levels"),
        ("  - {engine: tblite}\n", "sampling: {max_labels: 50}\n", 4, "sampling.max_labels", "counts of their own"),
        ("  - {labels: 20, round_labels: 30}\n", "", 3, "levels[1].round_labels", "level's labels, 20"),
        ("  - {engine: tblite, minimum: model}\n", "", 3, "levels[1].minimum", "no model below"),
        ("  - {}\n  - {functional: bp86, threads: 4}\n", "", 4, "levels[2]", "same level of theory"),
        ("  - {wavefunction: mp2, functional: pbe}\n", "", 3, "levels[1].functional", "no functional"),
        ("  - {engine: tblite, fnctional: pbe}\n", "", 3, "levels[1].fnctional", "did you mean 'functional'"),
        ("  - {engine: ase}\n", "", 3, "levels[1].calculator", "import path"),
        (f"  - {{engine: ase, calculator: '{CALCULATOR}', dipoles: false}}\n", "", 3, "levels[1].dipoles", "needed"),
        (
            f"  - {{}}\n  - {{engine: ase, calculator: '{CALCULATOR}', dipoles: false}}\n  - {{functional: pbe}}\n",
            "",
            4,
            "levels[2].dipoles",
            "right would be a calculator with dipoles",
        ),
        (
            f"  - {{engine: ase, calculator: '{CALCULATOR}', arguments: {{charge: 1}}}}\n  - {{}}\n",
            "",
            3,
            "levels[1].arguments.charge",
            "right would be 0",
        ),
        ("  - {data: {file: none.xyz}}\n  - {}\n", "", 3, "levels[1].data.file", "does not exist"),
        (f"  - {{data: {{file: {WATER}}}, functional: pbe}}\n  - {{}}\n", "", 3, "levels[1].functional", "or has an"),
        (f"  - {{}}\n  - {{data: {{file: {WATER}}}}}\n", "", 4, "levels[2].data.file", "the last level"),
    ],
)
def test_levels_that_cannot_be_are_refused(
    tmp_path: Path, levels: str, more: str, line: int, key: str, word: str
) -> None:
    said = refusal(tmp_path, levels, more)
    assert f"deck.yaml:{line}: {key}: " in said
    assert word.lower() in said.lower()


def test_a_teacher_without_dipoles_is_refused_unless_the_deck_says_that_it_has_none(tmp_path: Path) -> None:
    levels = f"  - {{engine: ase, calculator: '{CALCULATOR}'}}\n  - {{engine: tblite}}\n"
    with pytest.raises(InputError, match=r"returns no dipole.*dipoles: false") as caught:
        check_molecules(study_of(tmp_path, levels))
    assert caught.value.where == "levels.0.calculator"
    check_molecules(study_of(tmp_path, levels.replace("'}", "', dipoles: false}")))


# -- data sets ------------------------------------------------------------------------------------------------------


def dataset(folder: Path, order: tuple[int, ...] = (0, 1, 2), charge: int = 0, energies: bool = True) -> Path:
    """Twelve geometries of water with made-up labels."""
    water, random = read_structure(WATER), np.random.default_rng(3)
    frames = []
    for _ in range(12):
        moved = water.positions + 0.05 * random.standard_normal((3, 3))
        labels = (-76 + 0.01 * random.random(), 0.01 * random.standard_normal((3, 3))) if energies else (None, None)
        index = list(order)
        forces = None if labels[1] is None else (labels[1] - labels[1].mean(0))[index]
        dipole = np.array([0.0, 0.1, -0.7]) + 0.01 * random.standard_normal(3)
        frames.append(Frame(water.numbers[index], moved[index], labels[0], forces, dipole, charge=charge, level="CC"))
    path = folder / "data.extxyz"
    write_extxyz(Dataset(tuple(frames)), path)
    return path


DATA = "  - {data: {file: data.extxyz, units: ase, dipole_origin: charge}}\n  - {engine: tblite, labels: 20}\n"


def test_a_data_set_of_the_molecule_is_taken(tmp_path: Path) -> None:
    dataset(tmp_path)
    assert len(read_level(study_of(tmp_path, DATA), 0)) == 12


@pytest.mark.parametrize(
    ("what", "word", "right"),
    [
        ({"order": (1, 0, 2)}, "atoms in another order", "right would be O H H"),
        ({"order": (0, 1)}, "another molecule", "right would be O H H"),
        ({"charge": 1}, "disagree in the charge", "right would be +0"),
        ({"energies": False}, "neither energies nor forces", "keys"),
    ],
)
def test_a_data_set_that_disagrees_with_the_deck_is_refused(
    tmp_path: Path, what: dict[str, object], word: str, right: str
) -> None:
    dataset(tmp_path, **what)  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        read_level(study_of(tmp_path, DATA), 0)
    said = str(caught.value)
    assert "deck.yaml:3: levels[1].data.file" in said
    assert word.lower() in said.lower()
    assert right.lower() in said.lower()
