"""The documentation says what the program does: keys, messages, commands, links and examples are checked against it."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import sys
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from hpcir.cli import parser
from hpcir.deck.sections import Deck, LabelSettings
from hpcir.errors import InputError, LabelFailed
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM
from tests.unit.source import trees

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(information after the fence, contents) of every code block."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def loaded(path: Path, name: str) -> ModuleType:
    """A Python file as a module, whatever its suffix."""
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in words}


def test_deck_reference_is_what_the_schema_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    tool = loaded(ROOT / "tools" / "build_deck_reference", "build_deck_reference")
    assert (DOCS / "deck.md").read_text(encoding="utf-8") == tool.page(), "run tools/build_deck_reference"


def test_every_deck_key_is_in_the_reference() -> None:
    page = (DOCS / "deck.md").read_text(encoding="utf-8")
    for name, field in Deck.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {name: field})
        for key in inner:
            assert f"| `{key}` |" in page or f".{key}\n" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_internal_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        assert place.is_file(), f"{page.name}: no file {file}"
        assert not anchor or anchor in anchors(place), f"{page.name}: no heading #{anchor} in {place.name}"


def test_navigation_has_every_page_and_only_those() -> None:
    text = re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def files(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [file for part in (entry.values() if isinstance(entry, dict) else entry) for file in files(part)]

    assert sorted(files(yaml.safe_load(text)["nav"])) == [page.name for page in PAGES]


@cache
def messages() -> list[str]:
    """Every string of the package; of formatted ones the parts between what is filled in."""
    found = []
    for tree in trees().values():
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        found += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
        ]
    return found


def troubles() -> list[str]:
    return re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("message", troubles())
def test_troubleshooting_quotes_messages_that_exist(message: str) -> None:
    parts = [part for part in message.split("…") if part.strip()]
    assert any(len(part.strip()) > 6 for part in parts), "too short to be found by"
    for part in parts:
        assert any(part.strip() in text for text in messages()), f"no message of the program has {part!r}"


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for _, content in blocks(page):
            lines = content.replace("\\\n", " ").splitlines()
            found += [(page.name, line.strip()) for line in lines if re.match(r"\s*(mpirun .*|srun )?hpcir ", line)]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_in_the_documentation_parse(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    options = parser().parse_args(words[words.index("hpcir") + 1 :])
    assert callable(options.answer)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_decks_in_the_documentation_are_valid(page: Path) -> None:
    for kind, content in blocks(page):
        if kind.split()[:1] == ["yaml"]:
            deck = Deck.model_validate({"system": {"structure": "molecule.xyz"}, **yaml.safe_load(content)})
            assert deck.system.structure.endswith(".xyz")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_keys_and_files_that_the_text_names_exist(page: Path) -> None:
    sections = "|".join(Deck.model_fields)
    for name in re.findall(rf"`((?:{sections})(?:\.[a-z_0-9]+)+)(?:: [^`]*)?`", prose(page)):
        if name.rsplit(".", 1)[1] in ("h5", "csv", "html", "json", "yaml") or name == "labels.failed":
            continue
        model: Any = Deck
        for part in name.split("."):
            assert part in model.model_fields, f"{page.name}: there is no {name}"
            model = model.model_fields[part].annotation
    sources = [str(path.relative_to(ROOT)) for path in (ROOT / "hpcir").rglob("*.py")]
    for name in re.findall(r"`((?!src/)(?:\w+/)*\w+\.py)`", prose(page)):
        known = name == "solvated.py" or (ROOT / name).is_file() or any(s.endswith(f"/{name}") for s in sources)
        assert known, f"{page.name}: there is no {name}"


def example(title: str, folder: Path) -> ModuleType:
    """The Python example of that title, as a module in a folder."""
    [content] = [c for kind, c in blocks(DOCS / "howto-own-engine.md") if f'title="{title}"' in kind]
    path = folder / Path(title).name
    path.write_text(content, encoding="utf-8")
    assert sum(bool(line.strip()) for line in content.splitlines()) <= 45, "the page promises about 40 lines"
    return loaded(path, path.stem)


def test_ase_example_gives_forces_of_its_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydrogen fluoride in a continuum: central difference of the energy along the bond, and an axial dipole."""
    from hpcir.labels import create_engine

    example("solvated.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = LabelSettings(
        engine="ase",
        calculator="solvated:Solvated",
        arguments={"functional": "lda,vwn", "basis": "sto-3g"},
    )
    engine = create_engine(settings)
    start = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) * ANGSTROM
    molecule = Structure(np.array([9, 1]), start, name="HF")
    engine.check(molecule)
    label, step = engine.label(molecule), 0.01
    shift = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, step]])
    up, down = (engine.label(molecule.moved(start + sign * shift)).energy for sign in (1, -1))
    assert label.forces[1, 2] == pytest.approx(-(up - down) / (2 * step), abs=1e-4)
    assert label.dipole[2] > 0.3
    assert np.abs(label.dipole[:2]).max() < 1e-6


def test_engine_example_reads_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of an own engine with a program that knows one harmonic bond between charges +q and -q."""
    module = example("hpcir/labels/program_engine.py", tmp_path)
    program = tmp_path / "spring"
    program.write_text(f"#!{sys.executable}\n" + SPRING, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    engine = module.create(LabelSettings(engine="tblite", method="spring"))
    molecule = Structure(np.array([9, 1]), np.array([[0.0, 0.0, 0.3], [0.0, 0.0, 2.3]]), name="HF")
    engine.check(molecule)
    label = engine.label(molecule)
    assert label.energy == pytest.approx(0.5 * 0.4 * (2.0 - 1.7) ** 2, abs=1e-9)
    np.testing.assert_allclose(label.forces, [[0, 0, 0.12], [0, 0, -0.12]], atol=1e-9)
    np.testing.assert_allclose(label.dipole, [0, 0, 0.8], atol=1e-9)
    with pytest.raises(LabelFailed, match="too long"):
        engine.label(molecule.moved(molecule.positions * 5))
    with pytest.raises(InputError, match="no such program"):
        module.create(LabelSettings(engine="tblite", method="no-such-program")).check(molecule)


SPRING = f"""\
import json, sys
rows = [line.split() for line in open(sys.argv[1]).read().splitlines()[2:]]
a, b = (float(row[3]) * {json.dumps(ANGSTROM)} for row in rows)
length = b - a
if length > 5:
    sys.exit("too long")
pull = 0.4 * (length - 1.7)
answer = dict(energy=0.2 * (length - 1.7) ** 2, gradient=[[0, 0, -pull], [0, 0, pull]], dipole=[0, 0, 0.4 * length])
print(json.dumps(answer))
"""
