"""Rules of the deck for label engines: wavefunctions, files, and calculators of the level below."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hpcir.commands.check_molecules import check_molecules
from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.deck.resolved import resolved_text
from hpcir.errors import InputError
from tests.played_programs import TEMPLATES

WATER = Path(__file__).parents[1] / "e2e" / "water.xyz"


def deck(folder: Path, labels: str) -> Path:
    path = folder / "deck.yaml"
    path.write_text(f"system:\n  structure: {WATER}\nlabels:\n  {labels}\n")
    return path


@pytest.mark.parametrize(
    ("labels", "where", "word"),
    [
        ("{wavefunction: ccsd, functional: pbe}", "labels.functional", "no functional"),
        ("{wavefunction: mp2, dispersion: d3bj}", "labels.dispersion", "of its own"),
        ("{engine: tblite, wavefunction: mp2}", "labels.wavefunction", "only the engine 'pyscf'"),
        ("{wavefunction: mp3}", "labels.wavefunction", "must be none, mp2, ccsd or ccsd(t)"),
        ("{files: {level: x}}", "labels.files", "only the engine 'files'"),
        ("{pretrain: {engine: ase}}", "labels.pretrain.calculator", "import path"),
        ("{pretrain: {calculator: 'a:B'}}", "labels.pretrain.calculator", "only the engine 'ase'"),
        ("{pretrain: {engine: tblite, arguments: {a: 1}}}", "labels.pretrain.arguments", "only the engine 'ase'"),
        ("{engine: files, files: {program: molpro}}", "labels.files.program", "orca"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path: Path, labels: str, where: str, word: str) -> None:
    path = tmp_path / "deck.yaml"
    path.write_text(f"system: {{structure: {WATER}}}\nlabels: {labels}\n")
    with pytest.raises(InputError) as caught:
        check_deck(load_deck(path))
    assert f"deck.yaml:2: {where}: " in str(caught.value)
    assert word in str(caught.value)


@pytest.mark.parametrize("labels", ["{wavefunction: ccsd(t)}", "{wavefunction: mp2, functional: hf}"])
def test_keys_that_go_together_are_taken(tmp_path: Path, labels: str) -> None:
    path = tmp_path / "deck.yaml"
    path.write_text(f"system: {{structure: {WATER}}}\nlabels: {labels}\n")
    check_deck(load_deck(path))


@pytest.mark.parametrize("program", sorted(TEMPLATES))
def test_a_template_survives_the_resolved_deck(tmp_path: Path, program: str) -> None:
    """Of several lines, with indentation and braces: letter by letter, and each key on a line of its own."""
    template = "".join(f"      {line}\n" for line in TEMPLATES[program].splitlines())
    path = deck(
        tmp_path, f"engine: files\n  files:\n    program: {program}\n    level: mine\n    template: |\n{template}"
    )
    read = load_deck(path).deck
    assert read.labels.files.template.strip() == TEMPLATES[program].strip()
    text = resolved_text(read)
    assert yaml.safe_load(text)["labels"]["files"]["template"] == read.labels.files.template
    assert sum("template:" in line for line in text.splitlines()) == 1
    (tmp_path / "resolved.yaml").write_text(text)
    assert load_deck(tmp_path / "resolved.yaml").deck == read


def test_a_teacher_without_dipoles_is_refused_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tblite")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "contract"))
    words = "{engine: tblite, pretrain: {engine: ase, calculator: 'misbehaving_calculators:%s'}}"
    for name in ("NoDipole", "Nowhere"):
        path = tmp_path / "deck.yaml"
        path.write_text(f"system: {{structure: {WATER}}}\nlabels: {words % name}\n")
        with pytest.raises(InputError) as caught:
            check_molecules(check_deck(load_deck(path)))
        assert caught.value.where == "labels.pretrain.calculator"
    assert "no class" in caught.value.what
    path.write_text(f"system: {{structure: {WATER}}}\nlabels: {words % 'Springs'}\n")
    check_molecules(check_deck(load_deck(path)))


def test_the_level_below_is_the_calculators(tmp_path: Path) -> None:
    text = "pretrain: {engine: ase, calculator: 'a.b:C', arguments: {model: small}}, time_limit: 5 s"
    path = tmp_path / "deck.yaml"
    path.write_text(f"system: {{structure: {WATER}}}\nlabels: {{{text}}}\n")
    cheap = load_deck(path).deck.labels.pretrain_settings
    assert (cheap.engine, cheap.calculator, cheap.arguments) == ("ase", "a.b:C", {"model": "small"})
    assert cheap.time_limit == 5.0
    path.write_text(f"system: {{structure: {WATER}}}\nlabels: {{pretrain: {{method: GFN1-xTB}}}}\n")
    assert load_deck(path).deck.labels.pretrain_settings.method == "GFN1-xTB"
