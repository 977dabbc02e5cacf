"""label, train, evaluate, md, spectrum, compare and export, as a user gives them, on GFN2-xTB and a tiny model."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hpcir
from hpcir.cli import main
from hpcir.commands import md as reference
from hpcir.commands.md import LabelPotential
from hpcir.deck.sections import LabelSettings
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import Interrupted, LabelFailed
from hpcir.exchange.datasets import read_dataset
from hpcir.exchange.n2p2 import import_n2p2
from hpcir.exchange.potentials import on_replicas
from hpcir.labels import Label, create_engine
from hpcir.labels.isolation import IsolatedEngine
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, read_frames, read_structure
from hpcir.spectra.jcamp_io import write_jcamp
from hpcir.spectra.spectrum import Spectrum
from hpcir.study.results.spectrum_files import read_spectrum
from hpcir.units import ANGSTROM, EV, FS, KCAL_PER_MOL, KELVIN, KM_PER_MOL_PER_E2_ME, PER_CM

INPUTS = Path(__file__).parents[2] / "inputs"
DECK = """\
system: {structure: methanol.xyz}
labels: {engine: tblite}
model: {members: 2, hidden: [12, 12], radial: 6, shells: 2, zetas: [1, 2]}
training: {steps: 1500}
dynamics: {trajectories: 3, lockstep: 2, equilibration: 0.05 ps, duration: 0.3 ps}
spectrum: {depth: 0.15 ps}
"""
Answer = tuple[int, str, str]
Command = Callable[..., Answer]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Commands catch signals; the test run wants its own handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """command('label', ...) -> exit status, standard output, standard error."""

    def start(*arguments: object) -> Answer:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = int(error.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return start


def done(answer: Answer) -> str:
    assert answer[0] == 0, answer[1] + answer[2]
    return answer[1]


def refused(answer: Answer, *words: str) -> None:
    status, out, err = answer
    assert status == 2, out + err
    assert "Traceback" not in out + err
    assert err.startswith("hpcir: ")
    assert err.count("hpcir: ") == 1
    for word in words:
        assert word in err


def write_xyz(path: Path, structures: list[Structure]) -> Path:
    lines = []
    for s in structures:
        rows = zip(s.symbols, s.positions / ANGSTROM, strict=True)
        lines += [str(len(s)), "", *(f"{name} " + " ".join(f"{x:.8f}" for x in row) for name, row in rows)]
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with methanol, a deck, 40 displaced geometries, their labels and a model trained on them."""
    folder = tmp_path_factory.mktemp("commands")
    methanol = read_structure(INPUTS / "methanol.xyz")
    write_xyz(folder / "methanol.xyz", [methanol])
    (folder / "deck.yaml").write_text(DECK)
    random = np.random.default_rng(5)
    shifts = 0.06 * random.standard_normal((40, 6, 3))
    write_xyz(folder / "geometries.xyz", [methanol.moved(methanol.positions + shift) for shift in shifts])
    label = ["label", folder / "geometries.xyz", "--deck", folder / "deck.yaml", "-o", folder / "labels.xyz"]
    train = ["train", "--data", folder / "labels.xyz", "--deck", folder / "deck.yaml", "-o", folder / "model"]
    for arguments in (label, train):
        assert main([str(argument) for argument in arguments]) == 0
    return folder


# -- label ------------------------------------------------------------------------------------------------------


def test_labels_are_those_of_the_engine(place: Path) -> None:
    dataset = read_dataset(place / "labels.xyz")
    assert len(dataset) == 40
    frame = dataset.frames[17]
    own = create_engine(LabelSettings(engine="tblite")).label(Structure(frame.numbers, frame.positions))
    # Twelve decimals of angstrom, eV and eV/A are in the file.
    assert frame.energy == pytest.approx(own.energy, abs=1e-9)
    assert np.allclose(frame.forces, own.forces, atol=1e-9)
    assert np.allclose(frame.dipole, own.dipole, atol=1e-9)
    assert "GFN2-xTB" in frame.level


def test_label_goes_on_and_never_labels_twice(place: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (place / "labels.xyz").read_bytes()
    arguments = ["label", place / "geometries.xyz", "--deck", place / "deck.yaml", "-o", place / "labels.xyz"]
    refused(command(*arguments), "labels.xyz", "there already", "--force")

    def never(*_: Any) -> Label:
        raise AssertionError("labelled again")

    monkeypatch.setattr(IsolatedEngine, "label", never)
    assert "40 of 40" in done(command(*arguments, "--force"))
    assert (place / "labels.xyz").read_bytes() == before


@pytest.mark.parametrize("failing", [{1}, {0, 1, 2, 3}])
def test_failed_labels_are_named(
    place: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, failing: set[int]
) -> None:
    structures = [Structure(f.numbers, f.positions) for f in read_dataset(place / "labels.xyz").frames[:4]]
    path = write_xyz(tmp_path / "four.xyz", structures)
    genuine = IsolatedEngine.label

    def label(self: IsolatedEngine, structure: Structure, polar: bool = False) -> Label:
        if any(np.allclose(structure.positions, structures[n].positions, atol=1e-6) for n in failing):
            raise LabelFailed("the SCF did not converge")
        return genuine(self, structure)

    monkeypatch.setattr(IsolatedEngine, "label", label)
    status, out, err = command("label", path, "--deck", place / "deck.yaml", "-o", tmp_path / "out.xyz")
    for n in failing:
        assert f"geometry {n + 1}: not labelled: the SCF did not converge" in out
    assert len(read_frames(tmp_path / "out.failed.xyz")) == len(failing)
    if len(failing) == 4:
        assert status == 3
        assert "none of 4" in err
        assert not (tmp_path / "out.xyz").exists()
    else:
        assert status == 0
        kept = read_dataset(tmp_path / "out.xyz").frames
        assert len(kept) == 3
        assert np.allclose(kept[1].positions, structures[2].positions, atol=1e-6)


@pytest.mark.mpi
def test_two_ranks_write_the_same(place: Path, tmp_path: Path, mpirun: Callable[..., Any]) -> None:
    """Labels and evaluations of two ranks, byte by byte; rank 0 reads alone, and says alone what is wrong."""
    label = ["label", place / "geometries.xyz", "--deck", place / "deck.yaml", "-o", tmp_path / "labels.xyz"]
    commands = [label]
    for ending in ("1", "2"):
        output = tmp_path / f"evaluated-{ending}.xyz"
        commands.append(["evaluate", place / "model", place / "labels.xyz", "-o", output])
    for ranks, arguments in zip((2, 1, 2), commands, strict=True):
        result = mpirun(ranks, ["-m", "hpcir", *map(str, arguments)], cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "labels.xyz").read_bytes() == (place / "labels.xyz").read_bytes()
    assert (tmp_path / "evaluated-1.xyz").read_bytes() == (tmp_path / "evaluated-2.xyz").read_bytes()
    result = mpirun(2, ["-m", "hpcir", "evaluate", "nowhere", "labels.xyz", "-o", "o.xyz"], cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("hpcir: ") == 1


# -- train, evaluate, export ------------------------------------------------------------------------------------


def test_model_has_learnt(place: Path) -> None:
    figures = json.loads((place / "model/training.json").read_text())
    forces = np.array([frame.forces for frame in read_dataset(place / "labels.xyz").frames])
    scatter = float(forces.std()) / KCAL_PER_MOL * ANGSTROM
    assert figures["test"]["force_rmse_kcal_per_mol_angstrom"] < 0.3 * scatter
    assert figures["provenance"]["geometries"] == 40
    assert Model.load(place / "model").level == figures["level"]


def test_a_cheap_level_below_halves_the_error_of_a_dozen_labels(place: Path, tmp_path: Path, command: Command) -> None:
    lines = (place / "labels.xyz").read_text().splitlines(keepends=True)
    few, size = tmp_path / "few.xyz", int(lines[0]) + 2
    few.write_text("".join(lines[: 12 * size]))
    deck = tmp_path / "deck.yaml"
    cheap = "{engine: tblite, pretrain: {engine: tblite, method: GFN1-xTB, labels: 150}}"
    steps = "{steps: 300, pretrain_steps: 600, final_steps: 300}"
    deck.write_text(DECK.replace("{engine: tblite}", cheap).replace("{steps: 1500}", steps))
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
    assert errors[1] < 0.5 * errors[0]
    provenance = json.loads((tmp_path / "auto/training.json").read_text())["provenance"]
    assert provenance["pretrained_on"].startswith("GFN1-xTB")


def rewritten(place: Path, target: Path, change: Callable[[str], str]) -> Path:
    target.write_text(change((place / "labels.xyz").read_text()))
    return target


def test_audit_refuses_zero_dipoles(place: Path, tmp_path: Path, command: Command) -> None:
    import re

    data = rewritten(place, tmp_path / "zero.xyz", lambda text: re.sub('dipole="[^"]*"', 'dipole="0 0 0"', text))
    status, out, err = command("train", "--data", data, "--deck", place / "deck.yaml", "-o", tmp_path / "model")
    refused((status, out, err), "the audit speaks against", "zero", "--force")
    assert "dipole" in out
    assert not (tmp_path / "model").exists()


def test_warnings_of_the_audit_and_names_not_read_are_told_at_the_end(
    place: Path, tmp_path: Path, command: Command
) -> None:
    def copied(text: str) -> str:
        lines = text.splitlines(keepends=True)
        return (text + "".join(lines[: int(lines[0]) + 2])).replace("dipole=", "moment=")

    data = rewritten(place, tmp_path / "copied.xyz", copied)
    out = done(command("train", "--data", data, "--deck", place / "deck.yaml", "-o", tmp_path / "model"))
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
    out = done(command("train", *arguments, "--deck", place / "deck.yaml", "-o", tmp_path / "model"))
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
    refused(answer, "knows no dipole")
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
    refused(command("export", place / "model", "--format", "n2p2", "-o", tmp_path / "n2p2"), "there already")


@pytest.fixture(scope="session")
def imported(place: Path) -> Path:
    """The model through n2p2's files and back, without model.h5: as a potential that only n2p2's kernels can run.

    Its charges are a part of the model's dipole alone, which an import takes for all of it only when told to.
    """
    assert main(["export", str(place / "model"), "--format", "n2p2", "-o", str(place / "n2p2")]) == 0
    charges = [str(folder) for folder in sorted((place / "n2p2").glob("member-*/charges-*"))]
    assert len(charges) == 2
    arguments = ["import", str(place / "n2p2"), "--charges", *charges, "-o", str(place / "imported")]
    assert main(arguments) == 0
    (place / "imported/model.h5").unlink()
    return place / "imported"


# -- md ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def by_model(place: Path) -> Path:
    out = place / "by-model"
    arguments = ["md", place / "model", place / "methanol.xyz", "--deck", place / "deck.yaml", "-o", out]
    assert main([str(argument) for argument in arguments]) == 0
    return out


@pytest.fixture(scope="session")
def by_labels(place: Path, by_model: Path) -> Path:
    """The reference: the label engine's own trajectories, from the starts of the model's."""
    out = place / "by-labels"
    arguments = ["md", by_model, place / "methanol.xyz", "--potential", "labels", "-o", out]
    assert main([str(argument) for argument in arguments]) == 0
    return out


def blocks(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of all main blocks, joined over trajectories."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted((folder / "trajectories").glob("main-*.h5")):
        with h5py.File(path) as file:
            for name in (
                "trajectory",
                "dipoles",
                "start_positions",
                "start_velocities",
                "sane",
            ):
                found.setdefault(name, []).append(file[name][()])
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def test_imported_potential_moves_as_the_model_does(place: Path, imported: Path) -> None:
    """Lockstep replicas in n2p2's kernels and plain steps, against the vector kernels: the same dynamics."""
    methanol = read_structure(place / "methanol.xyz")
    random = np.random.Generator(np.random.Philox(3))
    positions = methanol.positions[:, :, None] + 0.02 * random.standard_normal((6, 3, 3))
    velocities = thermal_velocities(positions, methanol.masses, 300 * KELVIN, 1, [0, 1, 2])
    ends = []
    for path in (place / "model", imported):
        potential = on_replicas(hpcir.load(path), methanol.numbers, 3, 0, methanol.masses)
        block = ReplicaBlock.start(positions, velocities, [0, 1, 2])
        chunk = run_chunk(potential, block, methanol.masses, 200, 0.5 * FS, dipole_every=50)
        assert chunk.dipoles.shape == (4, 3, 3)
        ends.append(chunk.block.positions)
    assert np.abs(ends[0] - positions).max() > 0.1
    assert np.allclose(ends[0], ends[1], rtol=0, atol=1e-8)


def test_imported_potential_gives_a_spectrum(place: Path, imported: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "md"
    printed = done(command("md", imported, place / "methanol.xyz", "--deck", place / "deck.yaml", "-o", out))
    assert "core-microseconds a step" in printed
    assert blocks(out)["sane"].all()
    assert (out / "spectrum.csv").is_file()
    assert "n2p2 potential" in repr(hpcir.load(out))
    done(command("evaluate", out, place / "geometries.xyz", "-o", tmp_path / "e.xyz"))


def test_reference_starts_where_the_model_did(by_model: Path, by_labels: Path) -> None:
    one, two = blocks(by_model), blocks(by_labels)
    assert two["trajectory"].tolist() == [0, 1, 2] == one["trajectory"].tolist()
    assert np.array_equal(one["start_positions"], two["start_positions"])
    # The overall rotation is taken out of them twice: equal but for rounding.
    assert np.allclose(one["start_velocities"], two["start_velocities"], rtol=0, atol=1e-15)
    # After 2 fs on the other surface each dipole is still nearest to that of the same trajectory.
    first, second = one["dipoles"][0], two["dipoles"][0]
    distances = np.linalg.norm(first[:, :, None] - second[:, None, :], axis=0)
    assert distances.argmin(axis=1).tolist() == [0, 1, 2]
    assert distances.diagonal().min() > 0
    assert one["dipoles"].shape == two["dipoles"].shape == (150, 3, 3)


def test_reference_conserves_energy(by_labels: Path) -> None:
    found = blocks(by_labels)
    assert found["sane"].all()
    # Velocity Verlet at 0.5 fs: fluctuations below 0.3 kcal/mol for methanol at 300 K, and no trend.
    for path in (by_labels / "trajectories").glob("main-*.h5"):
        with h5py.File(path) as file:
            assert np.ptp(file["total_energy"][()]) / KCAL_PER_MOL < 0.3
    summary = json.loads((by_labels / "summary.json").read_text())
    assert summary["timing"]["milliseconds_per_step"] > 0
    assert summary["md"]["left_out"] == 0


def test_interrupted_reference_goes_on_to_the_same_trajectories(
    place: Path,
    by_model: Path,
    by_labels: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference, "CHECKPOINT_SECONDS", 0.02)
    genuine = LabelPotential._label
    counts = {"labels": 0}

    def label(self: LabelPotential, positions: np.ndarray) -> Any:
        counts["labels"] += 1
        if counts["labels"] == 900:
            raise Interrupted("stopped by the test")
        return genuine(self, positions)

    monkeypatch.setattr(LabelPotential, "_label", label)
    arguments = ["md", by_model, place / "methanol.xyz", "--potential", "labels", "-o", tmp_path / "again"]
    status, _, err = command(*arguments)
    assert (status, "stopped by the test" in err) == (75, True)
    assert not (tmp_path / "again/spectrum.h5").exists()
    done(command(*arguments))
    # 3 trajectories of 600 steps: what was done before the stop is not done again, but for one chunk.
    assert counts["labels"] < 1803 + 200
    one, two = blocks(tmp_path / "again"), blocks(by_labels)
    assert np.allclose(one["dipoles"], two["dipoles"], atol=1e-9)


def test_compare_is_paired(by_model: Path, by_labels: Path, tmp_path: Path, command: Command) -> None:
    out = done(command("compare", by_model, by_labels, "-o", tmp_path))
    assert "trajectory by trajectory" in out
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["paired"] is True
    assert found["verdict"] in out
    assert (tmp_path / "comparison.png").stat().st_size > 5000


def test_spectrum_of_own_trajectories_is_that_of_md(
    by_labels: Path, place: Path, tmp_path: Path, command: Command
) -> None:
    series = sorted((by_labels / "trajectories").glob("main-*.h5"))
    out = done(command("spectrum", *series, "--deck", place / "deck.yaml", "-o", tmp_path / "out"))
    assert "km/mol" in out
    own, again = read_spectrum(by_labels), read_spectrum(tmp_path / "out")
    assert np.allclose(own.spectrum.absorption, again.spectrum.absorption, rtol=1e-10)
    assert again.starts == own.starts
    assert again.trajectories is not None
    assert again.trajectories.tolist() == [0, 1, 2]
    refused(
        command(
            "spectrum",
            *series,
            "--deck",
            place / "deck.yaml",
            "--temperature",
            "500 K",
            "-o",
            tmp_path / "other",
        ),
        "temperature is 300 K",
        "500 K",
    )


def test_dipoles_of_ions_are_about_the_centre_of_mass() -> None:
    """Fixed point charges: what an engine says about the centre of nuclear charge, moved, against the definition."""
    numbers, charges = np.array([8, 1, 1, 1]), np.array([-0.5, 0.5, 0.5, 0.5])
    positions = np.random.default_rng(1).standard_normal((4, 3))
    ion = Structure(numbers, positions, charge=1)

    class PointCharges:
        def label(self, structure: Structure) -> Label:
            centre = numbers @ structure.positions / numbers.sum()
            return Label(0.0, np.zeros((4, 3)), charges @ (structure.positions - centre))

    potential = LabelPotential(PointCharges(), ion, print)  # type: ignore[arg-type]
    _, _, dipoles = potential(np.stack([positions, positions + 3.0], axis=-1))
    mass_centre = ion.masses @ positions / ion.masses.sum()
    assert np.allclose(dipoles, (charges @ (positions - mass_centre))[:, None])


def test_a_retired_replica_costs_no_labels() -> None:
    class Counting:
        count = 0

        def label(self, structure: Structure) -> Label:
            self.count += 1
            raise LabelFailed("never")

    said: list[str] = []
    engine = Counting()
    potential = LabelPotential(engine, Structure(np.array([1, 1]), np.zeros((2, 3))), said.append)  # type: ignore[arg-type]
    still = np.zeros((2, 3, 1))
    for _ in range(3):
        energies, forces, _ = potential(still)
        assert np.isnan(energies).all()
        assert np.isnan(forces).all()
    assert engine.count == 1
    assert "never" in said[0]


# -- spectrum, compare ------------------------------------------------------------------------------------------


def cosine_series(path: Path, wavenumber: float, amplitude: float, step: float, header: str = "D") -> Path:
    """A dipole that swings at one wavenumber (cm-1) with an amplitude in debye, every `step` fs for 5 ps."""
    times = np.arange(0, 5000, step)
    x = amplitude * np.cos(wavenumber * PER_CM * times * FS)
    rows = [f"{t},{value:.10f},0,0" for t, value in zip(times, x, strict=True)]
    path.write_text("\n".join([f"time_fs,dipole_x_{header},dipole_y_{header},dipole_z_{header}", *rows]))
    return path


def test_intensity_of_a_cosine(tmp_path: Path, command: Command) -> None:
    """The spectrum integrates to K <mudot^2> / kT with K = N_A/(12 eps0 c^2): the known answer of one oscillator."""
    series = cosine_series(tmp_path / "series.csv", 1500, 0.1, 2.0)
    arguments = ["spectrum", series, "--temperature", "300 K", "-o", tmp_path / "out"]
    done(command(*arguments))
    found = read_spectrum(tmp_path / "out").spectrum
    from hpcir.units import DEBYE

    velocity = 1500 * PER_CM * 0.1 * DEBYE
    expected = KM_PER_MOL_PER_E2_ME * 0.5 * velocity**2 / (300 * KELVIN)
    assert found.integral(1300, 1700) == pytest.approx(expected, rel=0.01)
    assert found.wavenumbers[np.argmax(found.absorption)] == pytest.approx(1500, abs=3)
    refused(command(*arguments), "there already")


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("D", [], ["temperature is not declared", "--temperature"]),
        ("furlong", ["--temperature", "300 K"], ["unknown unit", "furlong"]),
        ("D", ["--temperature", "300 K", "--unit", "e*A"], ["declares dipoles in D"]),
        ("D", ["--temperature", "300 K", "--step", "1 fs"], ["5 fs apart", "1 fs"]),
        ("D", ["--temperature", "-300 K"], ["more than 0"]),
        ("D", ["--temperature", "300 K"], ["dynamics.dipole_every"]),
    ],
)
def test_spectrum_takes_nothing_for_granted(
    tmp_path: Path, command: Command, header: str, options: list[str], words: list[str]
) -> None:
    series = cosine_series(tmp_path / "series.csv", 500, 0.1, 5.0, header)
    refused(command("spectrum", series, *options, "-o", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def gaussians(*places: tuple[float, float]) -> Spectrum:
    grid = np.arange(400.0, 4000.0, 2.0)
    bands = [height * np.exp(-0.5 * ((grid - place) / 15) ** 2) for place, height in places]
    return Spectrum(grid, np.sum(bands, axis=0), np.full(len(grid), np.nan), temperature=300 * KELVIN)


def test_compare_finds_the_shift(tmp_path: Path, command: Command) -> None:
    first, second = gaussians((1010, 2.0), (3000, 1.0)), gaussians((1000, 1.0), (3000, 1.0))
    first.to_csv(tmp_path / "first.csv")
    write_jcamp(second, tmp_path / "second.jdx")
    out = done(command("compare", tmp_path / "first.csv", tmp_path / "second.jdx", "-o", tmp_path / "out"))
    assert "errors are unknown" in out
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [band["shift_per_cm"] for band in found["bands"]] == pytest.approx([10, 0], abs=0.3)
    assert [band["intensity_ratio"] for band in found["bands"]] == pytest.approx([2, 1], rel=0.01)
    same = done(command("compare", tmp_path / "first.csv", tmp_path / "first.csv"))
    assert "Pearson 1.0000, cosine 1.0000, spectral information similarity 1.0000" in same


def test_terms_of_trajectories_survive_the_file(tmp_path: Path) -> None:
    from hpcir.study.results.spectrum_files import paired, write_spectrum

    one = gaussians((1000, 1.0))
    terms = np.outer([0.5, 1.0, 1.5], one.absorption)
    full = Spectrum(one.wavenumbers, one.absorption, one.stderr, terms=terms, temperature=one.temperature)
    write_spectrum(tmp_path, "a", full, [0, 1, 2], "same")
    write_spectrum(
        tmp_path,
        "b",
        Spectrum(one.wavenumbers, one.absorption, one.stderr, terms=terms[::-1]),
        [5, 2, 1],
        "same",
    )
    write_spectrum(tmp_path, "c", full, [0, 1, 2], "other")
    a, b, c = (read_spectrum(tmp_path / f"{name}.h5") for name in "abc")
    pair = paired(a, b)
    assert pair is not None
    assert np.array_equal(pair[0].terms, terms[[1, 2]])
    # The second file's rows are trajectories 5, 2 and 1: the two that both have, in the order of their numbers.
    assert np.array_equal(pair[1].terms, terms[[0, 1]])
    assert paired(a, c) is None


# -- wrong input ------------------------------------------------------------------------------------------------

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
        ["geometry 1", "no element N", "H, C, O"],
    ),
    "md, element": (["md", "model", "ammonia.xyz", "-o", "d"], ["no element N"]),
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
    "spectrum, a model": (["spectrum", "model/model.h5", "-o", "d"], ["model.h5", "trajectories"]),
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
