"""Labels from other programs' files: templates, outputs of every layout, and each way in which an output is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.sections import FilesSettings, LabelSettings
from hpcir.errors import EXIT_INPUT, EXIT_INTERRUPTED, InputError, LabelFailed
from hpcir.labels import Label, create_engine
from hpcir.labels.checks import nuclear_charge_centre
from hpcir.labels.external.engine import ExternalEngine, LabelsMissing, name_of
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM
from tests.played_programs import OUTPUTS, SUFFIXES, TEMPLATES, play, structure_of

PROGRAMS = sorted(TEMPLATES)
# Seven atoms: more than one block of Q-Chem's gradient.
METHYLAMMONIUM_LIKE = Structure(
    np.array([7, 1, 1, 1, 1, 1, 1]),
    np.array(
        [[0.01, 0.02, 0], [1.0, 0, 0.1], [0, 1.1, 0], [0, 0.1, 0.9], [-1.2, 0, 0.2], [0, -0.8, 0.3], [0.1, 0, -1.3]]
    )
    * ANGSTROM,
    charge=1,
    multiplicity=1,
    name="ion",
)
WATER = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0.1], [0, 1.5, -1.0], [0, -1.4, -1.1]]), name="water")


def invented(structure: Structure) -> Label:
    """A label whose every number is another, the dipole about the centre of nuclear charge."""
    x = structure.positions - nuclear_charge_centre(structure)
    return Label(-70.0 - float((x**2).sum()) / 100, 0.05 * np.roll(x, 1, 1), np.array([0.3, -0.2, 0.5]) + 0.01 * x[1])


def settings(program: str, **changes: object) -> LabelSettings:
    files = FilesSettings(program=program, level="B3LYP/def2-TZVP", template=TEMPLATES.get(program, ""))  # type: ignore[arg-type]
    return LabelSettings(engine="files", files=files.model_copy(update=changes))


def output_of(engine: ExternalEngine, program: str, structure: Structure) -> Path:
    assert engine.folder is not None
    return engine.folder / f"{name_of(structure)}{SUFFIXES[program][1]}"


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(program: str, tmp_path: Path) -> ExternalEngine:
    return ExternalEngine(settings(program), tmp_path / "external")


def written(engine: ExternalEngine, program: str, structure: Structure) -> str:
    """The text of a good output, whose input the engine has written."""
    engine.answers([structure])
    text = output_of(engine, program, structure).with_suffix(SUFFIXES[program][0]).read_text()
    return OUTPUTS[program](text, structure_of(text), invented(structure))


@pytest.mark.parametrize("structure", [WATER, METHYLAMMONIUM_LIKE], ids=lambda s: s.name)
def test_the_outputs_numbers_come_back(engine: ExternalEngine, program: str, structure: Structure) -> None:
    engine.check(structure)
    with pytest.raises(LabelsMissing, match="1 label is missing") as caught:
        engine.label(structure)
    assert caught.value.status == EXIT_INTERRUPTED
    assert engine.folder is not None
    assert play(program, engine.folder, invented) == 1
    found, right = engine.label(structure), invented(structure)
    assert found.energy == pytest.approx(right.energy, abs=1e-9)
    np.testing.assert_allclose(found.forces, right.forces, atol=2e-9)
    # ORCA's dipole is about the centre of mass: that the ion's comes back about the nuclear one is the point here.
    np.testing.assert_allclose(found.dipole, right.dipole, atol=5e-9)


def test_a_moved_molecule_is_written_about_its_centre_of_nuclear_charge(engine: ExternalEngine, program: str) -> None:
    moved = WATER.moved(WATER.positions + np.array([7.0, -3.0, 11.0]))
    assert engine.folder is not None
    engine.answers([moved])
    play(program, engine.folder, invented)
    np.testing.assert_allclose(engine.label(moved).dipole, invented(WATER).dipole, atol=5e-9)


def test_good_outputs_are_kept_when_others_are_missing_or_wrong(engine: ExternalEngine, program: str) -> None:
    geometries = [WATER.moved(WATER.positions * (1 + 0.01 * n)) for n in range(4)]
    output_of(engine, program, geometries[0]).parent.mkdir()
    for structure in geometries[:3]:
        output_of(engine, program, structure).write_text(written(engine, program, structure))
    bad = output_of(engine, program, geometries[1])
    bad.write_text(written(engine, program, geometries[2]))
    aside = output_of(engine, program, geometries[2])
    aside.rename(aside.with_suffix(".failed"))
    answers = engine.answers(geometries)
    assert isinstance(answers.labels[0], Label)
    assert isinstance(answers.labels[2], LabelFailed)
    assert answers.labels[1] is None is answers.labels[3]
    with pytest.raises(InputError, match="another geometry") as caught:
        answers.require_all()
    assert caught.value.status == EXIT_INPUT
    assert str(bad) in str(caught.value)
    bad.unlink()
    with pytest.raises(LabelsMissing, match="2 labels are missing"):
        engine.answers(geometries).require_all()
    assert engine.folder is not None
    names = (engine.folder / "missing.txt").read_text().split()
    assert names == [f"{name_of(item)}{SUFFIXES[program][0]}" for item in (geometries[1], geometries[3])]


LEVELS = {"orca": "B3LYP", "gaussian": "b3lyp", "psi4": "b3lyp", "qchem": "b3lyp"}
ENDS = {"orca": "TERMINATED", "gaussian": "Normal", "psi4": "exiting", "qchem": "Thank"}
STATES = {
    "orca": ("Charge          ....    0", "Charge          ....    1"),
    "gaussian": ("Charge =  0", "Charge =  1"),
    "psi4": ("charge = 0", "charge = 1"),
    "qchem": ("0 1\n", "1 1\n"),
}
BROKEN = {
    "orca": "ORCA finished by error termination in SCF",
    "gaussian": " Error termination via Lnk1e in l502.exe",
    "psi4": "Psi4 encountered an error. Buy a developer more coffee!",
    "qchem": " Q-Chem fatal error occurred in module scfman",
}
GRADIENTS = {
    "orca": "CARTESIAN GRADIENT",
    "gaussian": "Forces (Hartrees/Bohr)",
    "psi4": "Total Gradient",
    "qchem": "Gradient of SCF",
}


# What is wrong with an output -> what is said.
WRONG = {
    "level": "the output was made",
    "charge": "the charge is not",
    "end": "has no end",
    "broken": "gave up",
    "gradient": "has no gradient",
    "short": "the gradient has 2 atoms",
    "turned": "turned or moved",
    "atoms": "the atoms are not",
}


def spoilt(text: str, program: str, wrong: str, source: str) -> str:
    """A good output of WATER with one thing wrong; source: the text of its input."""
    if wrong == "level":
        return text.replace(LEVELS[program], "BP86")
    if wrong == "charge":
        return text.replace(*STATES[program])
    if wrong == "end":
        return "".join(line for line in text.splitlines(True) if ENDS[program] not in line)
    if wrong == "broken":
        return text + BROKEN[program] + "\n"
    if wrong == "gradient":
        return text.replace(GRADIENTS[program], "nothing here")
    if wrong == "short":
        pair = Structure(WATER.numbers[:2], WATER.positions[:2])
        short = OUTPUTS[program](source, pair, Label(0, np.zeros((2, 3)), np.zeros(3)))
        at, other = (part.index(GRADIENTS[program]) for part in (text, short))
        return text[:at] + short[other:]
    if wrong == "turned":
        turned = (WATER.positions - nuclear_charge_centre(WATER))[:, [1, 0, 2]] * np.array([1, -1, 1])
        return OUTPUTS[program](source, WATER.moved(turned), invented(WATER))
    return OUTPUTS[program](source, replace(WATER, numbers=np.array([16, 1, 1])), invented(WATER))


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_outputs_are_named_with_file_and_line(engine: ExternalEngine, program: str, wrong: str) -> None:
    good = written(engine, program, WATER)
    path = output_of(engine, program, WATER)
    source = path.with_suffix(SUFFIXES[program][0]).read_text()
    text = spoilt(good, program, wrong, source)
    assert text != good
    path.write_text(text)
    with pytest.raises((InputError, LabelsMissing)) as caught:
        engine.label(WATER)
    assert f"{path}:" in str(caught.value)
    assert WRONG[wrong] in str(caught.value)
    # An output without an end may be in the making: that is waited for, all else is the user's to mend.
    assert caught.value.status == (EXIT_INTERRUPTED if wrong == "end" else EXIT_INPUT)
    path.write_text(good)
    assert engine.label(WATER).energy == pytest.approx(invented(WATER).energy, abs=1e-9)


def test_cores_and_memory_may_be_changed(engine: ExternalEngine, program: str) -> None:
    text = written(engine, program, WATER)
    for old, new in (("nprocs 4", "nprocs 64"), ("memory 2", "memory 200"), ("mem_total 4000", "mem_total 9000")):
        text = text.replace(old, new)
    output_of(engine, program, WATER).write_text(text)
    assert engine.label(WATER).energy == pytest.approx(invented(WATER).energy, abs=1e-9)


def test_templates_lacking_something_are_refused(program: str) -> None:
    template = TEMPLATES[program]
    cases = {"{coordinates}": "no place for the coordinates", "{charge}": "charge", "{multiplicity}": "multiplicity"}
    needed = {"orca": "EnGrad", "gaussian": "nosymm", "psi4": "no_reorient", "qchem": "sym_ignore"}
    cases |= {needed[program]: needed[program].lower()[:5]}
    for place, word in cases.items():
        with pytest.raises(InputError, match=word) as caught:
            create_engine(settings(program, template=template.replace(place, ""))).check(WATER)
        assert caught.value.where == "labels.files.template"
    with pytest.raises(InputError, match=r"write \{coordinates\}|Write \{coordinates\}") as caught:
        create_engine(settings(program, template=template.replace("{coordinates}", "{coords}"))).check(WATER)
    assert caught.value.value == "{coords}"


def test_the_level_has_a_name_and_knows_its_template(program: str) -> None:
    with pytest.raises(InputError, match="name of their level"):
        create_engine(settings(program, level=" ")).check(WATER)
    template = TEMPLATES[program]
    levels = [
        create_engine(settings(program, template=text)).level
        for text in (
            template,
            template.replace("nprocs 4", "nprocs 8"),
            template.replace("tzvp", "qzvp").replace("TZVP", "QZVP"),
        )
    ]
    assert levels[0] == levels[1] != levels[2]


def test_polar_tensors_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        create_engine(settings("orca").model_copy(update={"polar_tensors": True})).check(WATER)
    assert caught.value.where == "labels.polar_tensors"


def extxyz(structures: list[Structure], folder: Path, level: str = "B3LYP/def2-TZVP", **info: object) -> Path:
    """A file that a script with an ASE calculator would write of wanted.xyz."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    frames = []
    for structure in structures:
        label = invented(structure)
        positions = (structure.positions - nuclear_charge_centre(structure)) / ANGSTROM
        atoms = Atoms(structure.symbols, positions, info={"level": level, **info})
        results = {
            "energy": label.energy / EV,
            "forces": label.forces / EV_PER_ANGSTROM,
            "dipole": label.dipole / ANGSTROM,
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(folder / "labelled.extxyz", frames, format="extxyz")
    return folder / "labelled.extxyz"


def test_labelled_frames_of_any_order_are_matched(tmp_path: Path) -> None:
    engine = ExternalEngine(settings("extxyz"), tmp_path)
    geometries = [WATER.moved(WATER.positions * (1 + 0.01 * n)) for n in range(3)]
    with pytest.raises(LabelsMissing, match="3 labels are missing"):
        engine.answers(geometries).require_all()
    from ase.io import read

    wanted = read(tmp_path / "wanted.xyz", ":")
    assert [atoms.info["name"] for atoms in wanted] == [name_of(item) for item in geometries]
    extxyz([geometries[2], geometries[0]], tmp_path)
    answers = engine.answers(geometries)
    for n in (0, 2):
        found, right = answers.labels[n], invented(geometries[n])
        assert isinstance(found, Label)
        assert found.energy == pytest.approx(right.energy, abs=1e-7)
        np.testing.assert_allclose(found.forces, right.forces, atol=1e-7)
        np.testing.assert_allclose(found.dipole, right.dipole, atol=1e-7)
    assert answers.labels[1] is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"level": "BP86"}, "level is not the deck's"),
        ({"charge": 1}, "the charge is not"),
        ({"name": name_of(WATER.moved(WATER.positions * 1.1))}, "another geometry"),
    ],
)
def test_wrong_frames_are_named_with_their_line(tmp_path: Path, change: dict[str, object], word: str) -> None:
    engine = ExternalEngine(settings("extxyz"), tmp_path)
    other = WATER.moved(WATER.positions * 1.1)
    path = extxyz([WATER], tmp_path, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=word) as caught:
        engine.label(other if "name" in change else WATER)
    assert f"{path}:2" in str(caught.value)


def test_frames_that_are_no_labels_are_named(tmp_path: Path) -> None:
    engine = ExternalEngine(settings("extxyz"), tmp_path)
    path = extxyz([WATER, WATER], tmp_path)
    lines = path.read_text().splitlines()
    lines[6] = lines[6].replace("dipole", "dipoel")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="no dipole") as caught:
        engine.label(WATER.moved(WATER.positions * 1.2))
    assert f"{path}:7" in str(caught.value)
