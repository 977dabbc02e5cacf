"""The deck: what is read, what is refused and in which words, what is written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hpcir.deck.checks import check_deck, deck_warnings, longest_depth, nyquist_per_cm
from hpcir.deck.loader import load_deck
from hpcir.deck.resolved import deck_digest, json_schema, resolved_text
from hpcir.deck.sections import Deck
from hpcir.errors import InputError
from hpcir.spectra.intensities import correlation_lags
from hpcir.units import FS, KELVIN

INPUTS = Path(__file__).parents[2] / "inputs"
WATER = "3\nwater\nO 0 0 0.117\nH 0 0.757 -0.469\nH 0 -0.757 -0.469\n"


def deck_file(folder: Path, text: str, structure: str = WATER) -> Path:
    (folder / "water.xyz").write_text(structure)
    path = folder / "deck.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str, structure: str = WATER) -> list[str]:
    """The lines of the message that a deck is refused with."""
    path = deck_file(folder, text, structure)
    with pytest.raises(InputError) as caught:
        check_deck(load_deck(path))
    return str(caught.value).replace(str(folder) + "/", "").splitlines()


def with_keys(text: str) -> str:
    return "system: {structure: water.xyz}\n" + text


@pytest.mark.parametrize("name", ["methanol.yaml", "methanol-xtb.yaml", "methanol-quantum.yaml", "methanol-chain.yaml"])
def test_inputs_are_sound(name: str) -> None:
    loaded = load_deck(INPUTS / name)
    assert check_deck(loaded).structure.symbols == ["C", "O", "H", "H", "H", "H"]
    assert loaded.deck.sampling.max_labels <= 250
    assert deck_warnings(check_deck(loaded)) == []


def test_quantities_with_and_without_units_are_the_same(tmp_path: Path) -> None:
    written = load_deck(
        deck_file(tmp_path, with_keys("dynamics: {timestep: 0.25 fs, duration: 4 ps, temperature: 310 K}"))
    )
    bare = load_deck(deck_file(tmp_path, with_keys("dynamics: {timestep: 0.25, duration: 4000, temperature: 310}")))
    assert written.deck == bare.deck
    assert written.deck.dynamics.timestep == pytest.approx(0.25 * FS)
    assert written.deck.dynamics.temperature == pytest.approx(310 * KELVIN)


def test_numbers_read_as_people_write_them(tmp_path: Path) -> None:
    deck = load_deck(deck_file(tmp_path, with_keys("training: {learning_rate: 1e-3}\nseed: 010"))).deck
    assert deck.training.learning_rate == 1e-3
    assert deck.seed == 10


def test_resolved_deck_has_every_default_and_reads_back_the_same(tmp_path: Path) -> None:
    loaded = load_deck(
        deck_file(tmp_path, with_keys("dynamics: {duration: 1.7 ps}\nsampling: {temperatures: [250 K]}"))
    )
    text = resolved_text(loaded.deck)
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert load_deck(again).deck == loaded.deck
    content = yaml.safe_load(text)
    for section, field in Deck.model_fields.items():
        names = getattr(field.annotation, "model_fields", None)
        if names is not None:
            assert content[section].keys() == names.keys()
    assert text.startswith("#")
    moved = yaml.safe_load(resolved_text(loaded.deck, structure="start.xyz"))
    assert moved == content | {"system": content["system"] | {"structure": "start.xyz", "name": "water"}}


def test_resolved_deck_survives_odd_names(tmp_path: Path) -> None:
    name = "a: b # c 'd' \"e\" {f} [g] \u00e9\n* & !x"
    text = resolved_text(Deck.model_validate({"system": {"structure": "water.xyz", "name": name}}))
    again = deck_file(tmp_path, text)
    assert load_deck(again).deck.system.name == name


def test_digest_follows_settings_and_nothing_else(tmp_path: Path) -> None:
    first = load_deck(deck_file(tmp_path, with_keys("seed: 3"))).deck
    same = load_deck(
        deck_file(tmp_path, "seed: 3 # comment\nsystem:\n  structure: ./water.xyz\nlabels: {threads: 2}")
    ).deck
    other = load_deck(deck_file(tmp_path, with_keys("seed: 4"))).deck
    assert deck_digest(first) == deck_digest(same)
    assert deck_digest(first) != deck_digest(other)
    assert deck_digest(first, "dynamics") == deck_digest(other, "dynamics")


def test_threads_come_from_the_environment_unless_the_deck_says(tmp_path: Path) -> None:
    silent = load_deck(deck_file(tmp_path, with_keys("")))
    assert silent.with_threads(3).deck.labels.threads == 3
    told = load_deck(deck_file(tmp_path, with_keys("labels: {threads: 2}")))
    assert told.with_threads(3).deck.labels.threads == 2


def test_schema_knows_quantities_and_choices() -> None:
    schema = json_schema()
    json.dumps(schema)
    dynamics = schema["$defs"]["DynamicsSettings"]["properties"]
    assert dynamics["timestep"]["type"] == ["string", "number"]
    assert dynamics["ensemble"]["enum"] == ["nve", "nvt"]
    assert schema["additionalProperties"] is False


# -- refusals ---------------------------------------------------------------------------------------------------


def test_every_error_is_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = "system: {structure: water.xyz}\ndynamics:\n  timestep: -0.5 fs\n  duraton: 3 ps\nseed: one\n"
    lines = refusal(tmp_path, text)
    assert len(lines) == 3
    assert lines[0].startswith("deck.yaml:3: dynamics.timestep: must be more than 0 (found: '-0.5 fs')")
    assert lines[1].startswith("deck.yaml:4: dynamics.duraton: there is no such key. Did you mean 'duration'?")
    assert lines[2].startswith("deck.yaml:5: seed: must be a whole number (found: 'one')")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dynamics: {timestep: 1 parsec}", "deck.yaml:2: dynamics.timestep: 'parsec' is no unit of time; valid"),
        ("labels: {engine: psycf}", "deck.yaml:2: labels.engine: must be pyscf, tblite, ase or files (found: 'psycf')"),
        ("dynamics: {functional: pbe}", "dynamics.functional: there is no such key. It belongs to labels"),
        ("seed: '3'", "seed: must be a whole number (found: '3'). Write it without quotes"),
        ("seed: true", "seed: must be a whole number (found: True)"),
        ("seed: 9999999999999999999999", "seed: this cannot be read as int"),
        ("training: {force_weight: .inf}", "training.force_weight: must be a finite number (found: inf)"),
        ("training: {force_weight: .nan}", "training.force_weight: must be a finite number (found: nan)"),
        ("model: {hidden: [40]}", "model.hidden: must have at least 2 items (found: '[40]')"),
        ("model: {hidden: [40, -1]}", "model.hidden[2]: must be at least 1 (found: -1)"),
        ("labels: 3", "labels: must be a section of 'key: value' lines (found: 3)"),
        ("labels:", "labels: no value after the colon"),
        ("sampling: {temperatures: [300 K, -5 K]}", "sampling.temperatures[2]: must be more than 0 (found: '-5 K')"),
        ("spectrum: {first: 4000, last: 500}", "spectrum.last: must be more than spectrum.first, 4000 cm-1"),
        ("spectrum: {depth: 9 ps}", "spectrum.depth: must not be more than 4998 fs: dynamics.duration without"),
        ("dynamics: {dipole_every: 9}", "dynamics.dipole_every: dipoles every 4.5 fs resolve 3706 cm-1 at most"),
        ("dynamics: {ensemble: nvt}", "dynamics.ensemble: Langevin friction in production makes every line 53 cm-1"),
        ("dynamics: {timestep: 3 fs}", "dynamics.timestep: too long for the vibrations of hydrogen (found: '3 fs')"),
        ("dynamics: {nuclei: pigs, beads: -4}", "deck.yaml:2: dynamics.beads: must be at least 0 (found: -4)"),
        ("dynamics: {nuclei: pigs, beads: 2.5}", "dynamics.beads: must be a whole number (found: 2.5)"),
        ("dynamics: {nuclei: pigs, pigs_temperature: 200 K}", "dynamics.pigs_temperature: must not be less than"),
        ("sampling: {max_labels: 20}", "sampling.initial_labels: must not be more than sampling.max_labels, 20"),
        ("model: {members: 1}", "model.members: exploration needs the spread of a committee"),
        ("labels: {engine: ase}", "labels.calculator: the engine 'ase' needs the import path of a calculator class"),
        ("labels: {calculator: 'a:B'}", "labels.calculator: only the engine 'ase' reads this"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]", "a: this YAML tag is not read"),
        ("seed: !!int x", "seed: this cannot be read as int"),
        ("? [a, b]\n: 3", "a key must be a word"),
        ("seed: 1\n---\nseed: 2", "not YAML: but found another document"),
    ],
)  # fmt: skip
def test_refusals_name_line_key_value_and_what_is_right(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in line for line in refusal(tmp_path, with_keys(text)))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{D: {H9: 2.014}}", "system.isotopes.D.H9: the molecule has atoms 1 to 3 (found: 'H9')"),
        ("{D: {H1: 2.014}}", "system.isotopes.D.H1: atom 1 of the molecule is O"),
        ("{D: {F: 2.014}}", "system.isotopes.D.F: the molecule has no F"),
        ("{D: {H: -2}}", "system.isotopes.D.H: this is not a mass in amu (found: -2"),
        ("{D: {H: heavy}}", "system.isotopes.D.H: must be a number (found: 'heavy')"),
    ],
)
def test_isotopes_must_be_of_the_molecule(tmp_path: Path, pattern: str, expected: str) -> None:
    lines = refusal(tmp_path, f"system: {{structure: water.xyz, isotopes: {pattern}}}")
    assert any(expected in line for line in lines)


def test_isotopes_of_the_molecule_are_taken(tmp_path: Path) -> None:
    text = "system: {structure: water.xyz, isotopes: {HDO: {H2: 2.014}, D2O: {H: 2.014}}}"
    assert len(check_deck(load_deck(deck_file(tmp_path, text))).structure) == 3


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        (WATER.replace("O", "Ox"), "water.xyz:3: there is no such element (found: 'Ox')"),
        (WATER.replace("0.757", "nan"), "water.xyz:4: a coordinate is not a finite number (found: 'nan')"),
        (WATER.replace("0.757", "0,757"), "water.xyz:4: a coordinate is not a number (found: '0,757')"),
        (WATER.replace("3\n", "4\n", 1), "water.xyz:5: the first line promises 4 atoms, and 3 follow"),
        (WATER.replace("3\n", "2\n", 1), "water.xyz:5: the first line promises 2 atoms, and more follow"),
        (
            WATER.replace("3\n", "three\n", 1),
            "water.xyz:1: the first line must be the number of atoms (found: 'three')",
        ),
        (WATER.replace("0 -0.757", "0 0.757"), "atoms 2 (H) and 3 (H) overlap (found: '0.000 A apart')"),
        ("", "water.xyz:1: the first line must be the number of atoms"),
    ],
)
def test_structures_are_refused_by_line(tmp_path: Path, structure: str, expected: str) -> None:
    assert expected in refusal(tmp_path, with_keys(""), structure)[0]


def test_spin_names_the_decks_line(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, "system:\n  structure: water.xyz\n  charge: 1\n")
    assert line.startswith("deck.yaml:3: system.charge: 9 electrons cannot have multiplicity 1")
    assert "even multiplicity" in line


def test_warnings_are_for_what_is_allowed_but_rarely_meant(tmp_path: Path) -> None:
    text = with_keys("dynamics: {timestep: 1.25 fs, trajectories: 4}\nspectrum: {depth: 4 ps, last: 1500}")
    found = deck_warnings(check_deck(load_deck(deck_file(tmp_path, text))))
    assert len(found) == 4
    assert all("deck.yaml:" in line for line in found)


def test_nyquist_of_the_dipole_series(tmp_path: Path) -> None:
    loaded = load_deck(deck_file(tmp_path, with_keys("dynamics: {timestep: 0.5 fs, dipole_every: 4}")))
    assert nyquist_per_cm(loaded) == pytest.approx(1 / (2 * 2e-15 * 2.99792458e10), rel=1e-6)


@pytest.mark.parametrize(
    ("duration", "timestep", "every"), [("1 ps", "0.5 fs", 4), ("1001 fs", "0.7 fs", 3), ("5 ps", "1 fs", 1)]
)
def test_the_longest_depth_is_what_the_correlation_takes(
    tmp_path: Path, duration: str, timestep: str, every: int
) -> None:
    text = (
        f"dynamics: {{duration: {duration}, timestep: {timestep}, dipole_every: {every}}}\nspectrum: {{depth: 0.1 ps}}"
    )
    deck = load_deck(deck_file(tmp_path, with_keys(text))).deck
    dynamics, longest = deck.dynamics, longest_depth(deck)
    dipoles = -(-round(dynamics.duration / dynamics.timestep) // every)
    between = every * dynamics.timestep
    accepted = deck.spectrum.model_copy(update={"depth": longest})
    assert correlation_lags(dipoles - 1, between, accepted) == dipoles - 1
    with pytest.raises(InputError, match="shorter"):
        correlation_lags(dipoles - 1, between, deck.spectrum.model_copy(update={"depth": longest + between}))
