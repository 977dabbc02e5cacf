"""Results as records: what is written is what is read, every number has its unit, and one function for any targets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from hpcir.descriptors.definition import automatic_set
from hpcir.errors import InputError
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.models.random_model import random_model
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import Structure, read_structure
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.spectra.bands import Band
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.storage.json_result import finite
from hpcir.storage.records import as_dict, from_json, read_record
from hpcir.storage.run_directory import RunDirectory
from hpcir.study.context import Context
from hpcir.study.label_farm import Entry, LabelStore
from hpcir.study.learning.committee import LearntLabel
from hpcir.study.learning.curve import LearningCurve, Round, Stop, StopReason, read_curve
from hpcir.study.learning.reference import Reference
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.sets import MAIN_SECONDS, TrajectorySet
from hpcir.study.production.targets import Target
from hpcir.study.results import records
from hpcir.study.results.compared import Compared
from hpcir.study.results.records import (
    Group,
    IndependentTest,
    MdFigures,
    ModeRow,
    SpectrumFigures,
    Summary,
    read_summary,
    read_trust_map,
)
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.study.results.summary import Finished, Shared, lines, write_run
from hpcir.study.results.trust_map import training_environments
from hpcir.study.session import default_deck, session
from hpcir.units import FS, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM, KELVIN
from hpcir.vibrations.normal_modes import NormalModes, normal_modes

INPUTS = Path(__file__).parents[2] / "inputs"
NAN = float("nan")
BAND = Band(1030.0, 0.4, 95.0, 2.0, 1031.0, NAN, 990.0, 1070.0, 1.5)
FUNCTIONS = automatic_set((1, 6, 8), 9.0, 5, 2, (1,))


# -- records and JSON -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Small:
    count: int
    value: float
    reason: StopReason | None = None
    parts: dict[str, tuple[float, ...]] | None = None


def test_unknown_numbers_are_null_and_come_back() -> None:
    written = json.dumps(finite(as_dict(Small(3, NAN, StopReason.GOAL, {"a": (1.5, NAN)}))))
    assert json.loads(written) == {"count": 3, "value": None, "reason": "goal", "parts": {"a": [1.5, None]}}
    back = from_json(Small, json.loads(written))
    assert (back.count, back.reason) == (3, StopReason.GOAL)
    assert math.isnan(back.value)
    assert back.parts is not None
    assert back.parts["a"][0] == 1.5


def test_what_is_not_there_has_no_key_and_other_keys_are_passed_over() -> None:
    assert as_dict(Small(1, 2.0)) == {"count": 1, "value": 2.0}
    assert from_json(Small, {"count": 1, "value": 2, "of a later version": []}) == Small(1, 2.0)
    assert math.isnan(from_json(Small, {"count": 1}).value)  # a number that the file's version did not have


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"count": 1.5, "value": 1.0}, ["summary.json: count", "whole number", "1.5"]),
        ({"count": True, "value": 1.0}, ["count", "whole number"]),
        ({"value": 1.0}, ["count", "missing"]),
        ({"count": 1, "value": "x"}, ["value", "number", "'x'"]),
        ({"count": 1, "reason": "tired"}, ["reason", "label_budget", "tired"]),
        ({"count": 1, "parts": {"a": [1.0, "x"]}}, ["parts: a[1]", "number"]),
        ({"count": 1, "parts": [1.0]}, ["parts", "table"]),
        ([], ["summary.json", "table"]),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_place(content: object, words: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        from_json(Small, content, "summary.json")
    assert all(word in str(raised.value) for word in words)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"labels": ')
    with pytest.raises(InputError, match="cannot be read"):
        read_record(Summary, path)
    with pytest.raises(FileNotFoundError):
        read_summary(tmp_path / "nothing.json")


# Endings of names and the units that they stand for.
UNITS = {
    "_per_cm": "cm-1",
    "_km_per_mol": "km/mol",
    "_kcal_per_mol": "kcal/mol",
    "_kcal_per_mol_per_100_ps": "kcal/mol per 100 ps",
    "_kcal_per_mol_angstrom": "kcal/mol/A",
    "_debye": "D",
    "_rmse_e": "e",
    "milliseconds_per_step": "ms",
    "microseconds_per_step": "us",
    "picoseconds": "ps",
    "picoseconds_between_takes": "ps",
}


def numbers_of(kind: type) -> Iterator[tuple[str, str]]:
    """Name and unit of every field of a record that has a unit in its name or in its type."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is None and not (isinstance(hint, type) and hint is float):
            continue
        units = list(units_in(hint))
        ending = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
        if units or ending:
            yield f"{kind.__name__}.{name}: {ending}", f"{kind.__name__}.{name}: {units[0] if units else ''}"


def units_in(hint: object) -> Iterator[str]:
    if get_origin(hint) is Annotated:
        yield get_args(hint)[1]
        return
    for part in get_args(hint):
        yield from units_in(part)


def test_units_of_all_figures_are_those_in_their_names() -> None:
    kinds = [kind for kind in vars(records).values() if is_dataclass(kind) and isinstance(kind, type)]
    pairs = [pair for kind in {*kinds, Band, Round} for pair in numbers_of(kind)]
    assert len(pairs) > 40
    seconds = [pair for pair in pairs if pair[1].endswith(": s")]
    assert [pair for pair in pairs if pair[0] != pair[1] and pair not in seconds] == []
    own = {"ChainFigures.seconds_at_the_last: s", "ChainLevelFigures.seconds: s"}
    assert {pair[1] for pair in seconds} == {
        *own, "LabelFigures.seconds: s", "Summary.stages: s", "Timing.seconds: s", "StageTime.seconds: s",
        "StageTime.core_seconds: s",
    }  # fmt: skip


# -- the learning curve -----------------------------------------------------------------------------------------------


def test_a_learning_curve_comes_back_with_its_reason(tmp_path: Path) -> None:
    curve = LearningCurve()
    curve.put(Round(0, 40, "a", force_rmse_kcal_per_mol_angstrom=1.5))
    curve.put(Round(1, 80, "b"))
    curve.put(Round(1, 90, "c"))  # done anew on other labels
    curve.stop(Stop(StopReason.LABEL_BUDGET, "the label budget of 90 is spent"))
    curve.save(tmp_path)
    back = LearningCurve.load(tmp_path)
    assert [entry.labels for entry in back.rounds] == [40, 90]
    assert (back.stopped, back.reason) == (StopReason.LABEL_BUDGET, "the label budget of 90 is spent")
    assert back.stopped is not None
    assert back.stopped.is_limit
    assert not StopReason.GOAL.is_limit
    assert (
        as_dict(read_curve(tmp_path / layout.LEARNING_CURVE_FILE))["rounds"][0]["force_rmse_kcal_per_mol_angstrom"]
        == 1.5
    )


def test_a_learning_curve_that_was_changed_counts_as_none(tmp_path: Path) -> None:
    curve = LearningCurve()
    curve.put(Round(0, 40))
    curve.save(tmp_path)
    path = tmp_path / layout.LEARNING_CURVE_FILE
    path.write_text(path.read_text().replace('"labels": 40', '"labels": 41'))
    assert LearningCurve.load(tmp_path) == LearningCurve()
    assert read_curve(path).rounds[0].labels == 41  # to look at it is another matter


def test_a_learning_curve_of_a_version_without_the_enumeration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    rounds = [{"round": 0, "labels": 40, "data": "x", "force_rmse_kcal_per_mol_angstrom": NAN}]
    path.write_text(json.dumps({"rounds": rounds, "reason": "the label budget of 40 is spent", "final": ""}))
    found = read_curve(path)
    assert found.stopped is None
    assert found.reason == "the label budget of 40 is spent"


# -- blocks and the independent test ----------------------------------------------------------------------------------


def example_block(structure: Structure, count: int = 4) -> TrajectoryBlock:
    random = np.random.Generator(np.random.Philox(3))
    sane = np.arange(count) != 1
    shape = (len(structure), 3, count)
    return TrajectoryBlock(
        dipoles=random.normal(size=(20, 3, count)),
        total_energy=random.normal(size=(5, count)),
        snapshots=structure.positions[None, :, :, None] + 0.02 * random.normal(size=(3, *shape)),
        largest_spread=np.zeros(count),
        trajectory=np.arange(10, 10 + count),
        sane=sane,
        alive=np.ones(count, bool),
        inputs="made from this",
        starts="begun there",
        time_between_dipoles=2 * FS,
        timestep=0.5 * FS,
        temperature=300 * KELVIN,
        averages={"mode_energies": random.normal(size=(count, 12))},
        wavenumbers={"mode_wavenumbers": random.normal(size=(1, 12))},
        start_positions=random.normal(size=shape),
        start_velocities=random.normal(size=shape),
        start_alive=np.ones(count, bool),
    )


def test_a_block_is_read_as_it_was_written(tmp_path: Path) -> None:
    block = example_block(read_structure(INPUTS / "methanol.xyz"))
    block.write(tmp_path / "block.h5")
    back = TrajectoryBlock.read(tmp_path / "block.h5")
    for field in fields(TrajectoryBlock):
        mine, theirs = getattr(block, field.name), getattr(back, field.name)
        if isinstance(mine, dict):
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
        else:
            assert np.array_equal(mine, theirs)
    assert back.sane_dipoles.shape == (20, 3, 3)
    assert back.left_out == 1
    np.testing.assert_array_equal(back.sane_averages["mode_energies"], block.averages["mode_energies"][[0, 2, 3]])
    np.testing.assert_array_equal(back.geometries()[1], block.snapshots[0, :, :, 2])
    np.testing.assert_array_equal(back.drift, (block.total_energy[-1] - block.total_energy[0])[[0, 2, 3]])


def test_another_file_is_no_block(tmp_path: Path) -> None:
    structure = read_structure(INPUTS / "methanol.xyz")
    compared(structure).write(tmp_path / "test.h5", "level")
    with pytest.raises(InputError, match="not a trajectory file of hpcir"):
        TrajectoryBlock.read(tmp_path / "test.h5")
    example_block(structure).write(tmp_path / "block.h5")
    with pytest.raises(InputError, match="no independent test"):
        Compared.read(tmp_path / "block.h5")


def compared(structure: Structure) -> Compared:
    shape = (5, len(structure), 3)
    zeros = np.zeros(shape)
    return Compared(
        positions=np.repeat(structure.positions[None], 5, 0),
        energy_reference=np.zeros(5),
        energy_model=np.full(5, 2 * KCAL_PER_MOL),
        forces_reference=zeros,
        forces_model=zeros + 0.25 * KCAL_PER_MOL_ANGSTROM,
        forces_spread=zeros,
        dipole_reference=np.zeros((5, 3)),
        dipole_model=np.zeros((5, 3)),
    )


def test_figures_of_the_independent_test_are_in_user_units(tmp_path: Path) -> None:
    test = compared(read_structure(INPUTS / "methanol.xyz"))
    test.write(tmp_path / "test.h5", "level")
    figures = Compared.read(tmp_path / "test.h5").figures()
    assert figures.errors == (pytest.approx(0.25), pytest.approx(2.0), 0.0)
    assert figures.energy_offset_kcal_per_mol == pytest.approx(2.0)
    assert figures.polar_tensor_rmse_e is None
    assert "polar_tensor_rmse_e" not in as_dict(figures)


# -- the summary of one target and of several -------------------------------------------------------------------------


def example_result(molecule: str) -> SpectrumResult:
    x = np.linspace(0, 4000, 5)
    return SpectrumResult(
        Spectrum(x, np.ones(5), np.zeros(5), metadata={"molecule": molecule}),
        MdFigures(4, 1, 100, 0.01, 0.02),
        SpectrumFigures("plain", "more trajectories are wanted", {}, 3, 4000.0, 3900.0),
        (BAND,),
        (),
        (ModeRow("C-O stretch", 1050.0, 1030.0, 0.5, 3.0, 90.0, 95.0), ModeRow("rest", contribution_km_per_mol=1.0)),
        (Group("OH", (2, 6), 50.0),),
    )


def modes_of(structure: Structure) -> NormalModes:
    return normal_modes(structure, model_hessian(structure), np.ones((3, 3 * len(structure))))


def finished_target(context: Context, model: Model, whole: bool) -> Finished:
    """A target of a run with trajectories in its folder and invented figures; whole: with the reference too."""
    structure, folder = context.structure, context.directory
    (folder / layout.TRAJECTORIES).mkdir(parents=True, exist_ok=True)
    block = layout.block_file(layout.MAIN_SET, 0)
    example_block(structure).write(folder / block)
    modes = modes_of(structure)
    main = TrajectorySet(layout.MAIN_SET, model, structure.masses, (modes,), 4, (block,))
    context.directory.spend(MAIN_SECONDS, 2.0)
    isotopes = (replace(main, name="D4"),) if whole else ()
    reference = Reference(structure, modes, -1.0) if whole else None
    return Finished(
        Target(context, main, reference, isotopes=isotopes),
        IndependentTest(n=5, force_rmse_kcal_per_mol_angstrom=0.3) if whole else IndependentTest(n=0),
        {name: example_result(name) for name in (layout.SPECTRUM, *(one.name for one in isotopes))},
    )


def lost_target(context: Context) -> Target:
    """A target of which eight trajectories were lost."""
    structure = read_structure(INPUTS / "formic-acid.xyz")
    main = TrajectorySet(layout.MAIN_SET, random_model(FUNCTIONS, 1), structure.masses, (modes_of(structure),), 8)
    return Target(replace(context, structure=structure), main)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    methanol = INPUTS / "methanol.xyz"
    with session(
        tmp_path / "run", SerialCommunicator(), default_deck(methanol), read_structure(methanol), "1"
    ) as opened:
        yield opened


@pytest.fixture
def shared(context: Context) -> Shared:
    structure = context.structure
    model = random_model(FUNCTIONS, 1, members=2)
    store = LabelStore()
    purposes = ["round 0", "round 0", "normal modes", "test"]
    for number, purpose in enumerate(purposes):
        moved = structure.moved(structure.positions + 0.01 * number)
        label = Label(-1.0, np.zeros_like(structure.positions), np.zeros(3))
        store.entries[str(number)] = Entry(moved, "level", purpose, label)
        store.request(str(number))
    curve = LearningCurve([Round(0, 3)])
    curve.stop(Stop(StopReason.ROUNDS, "all 1 rounds of exploration are done"))
    return Shared(
        store,
        "level",
        model,
        curve,
        training_environments(
            model, [LearntLabel(structure, Label(-1.0, np.zeros_like(structure.positions), np.zeros(3)))]
        ),
    )


def test_the_summary_of_one_target(context: Context, shared: Shared) -> None:
    summary = write_run(context, shared, [finished_target(context, shared.model, whole=True)])
    folder = context.directory
    written = json.loads((folder / layout.SUMMARY).read_text())
    assert list(written) == [
        "labels", "sampling", "model", "harmonic", "trust", "ensemble", "test", "md", "spectrum", "bands",
        "weak_bands", "modes", "groups", "side_by_side", "isotopologues", "isotopologue_modes", "ends", "stages",
        "times", "faster", "provenance", "largest_labelled_heavy_atoms", "targets",
    ]  # fmt: skip
    assert written["labels"]["by_purpose"] == {"round 0": 2, "normal modes": 1, "test": 1}
    assert (written["labels"]["count"], written["labels"]["test_count"]) == (3, 1)
    assert written["sampling"] == {
        "rounds": 1, "stopped_because": "all 1 rounds of exploration are done", "stopped": "rounds"
    }  # fmt: skip
    assert written["test"]["harmonic_mae_per_cm"] == 0.0
    assert written["md"]["microseconds_per_step"] == pytest.approx(2e4)
    assert written["bands"][0]["peak_stderr_per_cm"] is None
    assert written["modes"][1] == {"name": "rest", "contribution_km_per_mol": 1.0}
    assert list(written["isotopologues"]) == list(written["isotopologue_modes"]) == ["D4"]
    assert written["largest_labelled_heavy_atoms"] == 2
    assert list(written["targets"]) == ["methanol"]
    assert read_trust_map(folder / layout.TRUST).frames == 9
    assert finite(as_dict(read_summary(folder / layout.SUMMARY))) == finite(as_dict(summary)) == written
    assert [end["stage"] for end in written["ends"]] == ["sample", "trainings", "trajectories"]
    assert [end["reason"] for end in written["ends"]] == ["limit", "limit", "no_bands"]
    assert "all 1 rounds of exploration are done" in written["ends"][0]["sentence"]
    said = "\n".join(lines(summary))
    assert "independent test on 5 geometries: force 0.300 kcal/mol/A, energy ? kcal/mol" in said
    assert "methanol:" not in said  # there is no other


def test_the_summary_of_several_targets_is_about_the_first(context: Context, shared: Shared, tmp_path: Path) -> None:
    ethanol = read_structure(INPUTS / "ethanol.xyz")
    folder = RunDirectory(context.directory / layout.target_folder("ethanol"))
    other = replace(context, structure=ethanol, directory=folder)
    one, two = (finished_target(each, shared.model, whole) for each, whole in ((context, True), (other, False)))
    summary = write_run(context, shared, [one, two], [lost_target(context)])
    own = read_summary(folder / layout.SUMMARY)
    assert own.targets is None
    assert own.harmonic is not None
    assert own.harmonic.engine_wavenumbers_per_cm is None
    assert math.isnan(own.harmonic.mae_per_cm)
    assert own.isotopologues == {}
    assert (folder / layout.TRUST).is_file()
    assert summary.targets is not None
    assert list(summary.targets) == ["methanol", "ethanol", "formic-acid"]
    lost = json.loads((context.directory / layout.SUMMARY).read_text())["targets"]["formic-acid"]
    assert lost == {"atoms": 5, "md": {"trajectories": 8, "left_out": 8}}
    assert finite(as_dict(summary.targets["ethanol"])["bands"]) == finite(as_dict(own)["bands"])
    assert summary.harmonic is not None
    assert summary.harmonic.engine_wavenumbers_per_cm is not None
    said = lines(summary)
    assert "formic-acid: trajectories: 8, 8 left out" in said
    assert any(line.startswith("ethanol: trajectories: 4, 1 left out") for line in said)
