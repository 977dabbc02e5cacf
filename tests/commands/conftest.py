"""Single commands as a user gives them, and the folder with labels and a model that their tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcir.cli import main
from hpcir.molecules.structures import Structure, read_structure
from hpcir.units import ANGSTROM

INPUTS = Path(__file__).parents[2] / "inputs"
DECK = """\
system: {structure: methanol.xyz}
labels: {engine: tblite}
model: {members: 2, hidden: [12, 12], radial: 6, shells: 2, zetas: [1, 2], channels: 0}
training: {steps: 1000}
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
    """Methanol, 40 displaced geometries, their labels, a model, its deck; quick.yaml, which hardly trains."""
    folder = tmp_path_factory.mktemp("commands")
    methanol = read_structure(INPUTS / "methanol.xyz")
    write_xyz(folder / "methanol.xyz", [methanol])
    (folder / "deck.yaml").write_text(DECK)
    (folder / "quick.yaml").write_text(DECK.replace("steps: 1000", "steps: 20"))
    random = np.random.default_rng(5)
    shifts = 0.06 * random.standard_normal((40, 6, 3))
    write_xyz(folder / "geometries.xyz", [methanol.moved(methanol.positions + shift) for shift in shifts])
    label = ["label", folder / "geometries.xyz", "--deck", folder / "deck.yaml", "-o", folder / "labels.xyz"]
    train = ["train", "--data", folder / "labels.xyz", "--deck", folder / "deck.yaml", "-o", folder / "model"]
    for arguments in (label, train):
        assert main([str(argument) for argument in arguments]) == 0
    return folder


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
