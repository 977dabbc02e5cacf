"""Wrong input, as a user gives it to the real program: one clear message, status 2, no traceback, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from hpcir.cli import main

INPUTS = Path(__file__).parents[2] / "inputs"
METHANOL = (INPUTS / "methanol.xyz").read_text(encoding="utf-8")
DECK = "system:\n  structure: methanol.xyz\nlabels:\n  engine: tblite\n"
PYSCF = "system:\n  structure: methanol.xyz\nlabels:\n  functional: {functional}\n  basis: {basis}\n"
Run = Callable[..., subprocess.CompletedProcess]
GPU = DECK + "training:\n  device: cuda\n"

# deck (None: there is none), structure, and what the message must say.
CASES: dict[str, tuple[str | bytes | None, str | None, list[str]]] = {
    "missing deck": (None, METHANOL, ["deck.yaml: the deck does not exist"]),
    "missing structure": (DECK, None, ["deck.yaml:2: system.structure", "does not exist", "'methanol.xyz'"]),
    "wrong element": (DECK, METHANOL.replace("O ", "Qq"), ["methanol.xyz:4", "no such element", "'Qq'"]),
    "odd electrons": (
        DECK.replace("xyz\n", "xyz\n  charge: 1\n", 1),
        METHANOL,
        ["deck.yaml:3: system.charge", "17 electrons", "even multiplicity"],
    ),
    "unknown basis": (PYSCF.format(functional="hf", basis="def2-svq"), METHANOL, ["deck.yaml:5: labels.basis", "svq"]),
    "unknown functional": (
        PYSCF.format(functional="bp68", basis="def2-svp"),
        METHANOL,
        ["deck.yaml:4: labels.functional", "bp68"],
    ),
    "unknown method": (DECK + "  method: GFN3-xTB\n", METHANOL, ["deck.yaml:5: labels.method", "GFN3-xTB", "GFN2-xTB"]),
    "unknown calculator": (
        DECK.replace("tblite", "ase\n  calculator: 'nowhere.at_all:Class'"),
        METHANOL,
        ["deck.yaml:5: labels.calculator", "nowhere.at_all"],
    ),
    "negative timestep": (
        DECK + "dynamics:\n  timestep: -0.5 fs\n",
        METHANOL,
        ["deck.yaml:6: dynamics.timestep", "'-0.5 fs'", "more than 0"],
    ),
    "unknown unit": (DECK + "dynamics:\n  timestep: 0.5 ft\n", METHANOL, ["deck.yaml:6: dynamics.timestep", "'ft'"]),
    "unknown key": (DECK + "dynamics:\n  timstep: 0.5 fs\n", METHANOL, ["deck.yaml:6: dynamics.timstep", "'timestep'"]),
    "not YAML": ("system: [structure: {\n", METHANOL, ["deck.yaml:", "not YAML"]),
    "a tab": (DECK + "dynamics:\n\ttimestep: 0.5 fs\n", METHANOL, ["deck.yaml:6", "a tab", "spaces"]),
    "duplicate keys": (DECK + "seed: 1\nseed: 2\n", METHANOL, ["deck.yaml:6: seed", "twice", "line 5"]),
    "overlapping atoms": (
        DECK,
        METHANOL.replace("-1.0868    0.9749", "-0.0500    0.6700"),
        ["methanol.xyz", "atoms 1 (C) and 3 (H) overlap", "0.008 A"],
    ),
    "a single atom": (DECK, "1\nargon\nAr 0 0 0\n", ["methanol.xyz", "a single atom has no vibrations", "Ar"]),
    "empty deck": ("", METHANOL, ["deck.yaml: the deck is empty", "hpcir init"]),
    "binary deck": (b"\x7fELF\x02\x01\x01\x00", METHANOL, ["deck.yaml", "not a text file"]),
}  # fmt: skip


if metadata.version("torch").endswith("+cpu"):
    CASES["a GPU without its torch"] = (GPU, METHANOL, ["deck.yaml:6: training.device", "without CUDA", "'cuda'"])


def write_case(folder: Path, name: str) -> list[str]:
    deck, structure, expected = CASES[name]
    if deck is not None:
        (folder / "deck.yaml").write_bytes(deck if isinstance(deck, bytes) else deck.encode())
    if structure is not None:
        (folder / "methanol.xyz").write_text(structure, encoding="utf-8")
    return expected


def assert_refused(result: subprocess.CompletedProcess, expected: list[str]) -> None:
    said = result.stderr
    assert result.returncode == 2, said + result.stdout
    assert "Traceback" not in said + result.stdout
    assert said.startswith("hpcir: ")
    assert said.count("hpcir: ") == 1
    for words in expected:
        assert words in said
    assert result.stdout == ""


@pytest.fixture
def in_process(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """As the fixture hpcir, without a process of its own: for what answers before there is anything to do."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> subprocess.CompletedProcess:
        capfd.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
        status = main(list(arguments))
        for number, handler in handlers.items():
            signal.signal(number, handler)
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, status, said.out, said.err)

    return start


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("name", CASES)
def test_one_message_status_2_nothing_written(in_process: Run, tmp_path: Path, name: str, command: str) -> None:
    expected = write_case(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(in_process(command, "deck.yaml"), expected)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["missing deck", "not YAML", "unknown basis", "overlapping atoms", "binary deck"])
def test_the_program_itself_answers_so(hpcir: Run, tmp_path: Path, name: str) -> None:
    expected = write_case(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(hpcir("run", "deck.yaml"), expected)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["unknown key", "odd electrons", "unknown method"])
def test_under_mpirun_one_rank_speaks_for_all(mpirun: Run, tmp_path: Path, name: str) -> None:
    expected = write_case(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    result = mpirun(3, ["-m", "hpcir", "run", "deck.yaml"], cwd=tmp_path)
    assert_refused(result, expected)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.mpi
def test_under_mpirun_wrong_arguments_are_said_once(mpirun: Run, tmp_path: Path) -> None:
    assert_refused(mpirun(3, ["-m", "hpcir", "run"], cwd=tmp_path), ["required: DECK"])


# -- run directories --------------------------------------------------------------------------------------------


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    (tmp_path / "methanol.xyz").write_text(METHANOL, encoding="utf-8")
    (tmp_path / "deck.yaml").write_text(DECK, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", ["check", "run"])
def test_unwritable_directory(hpcir: Run, sound: Path, command: str) -> None:
    locked = sound / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    # Permissions do not count for root, but nobody makes a folder in /proc.
    place = Path("/proc") if os.geteuid() == 0 else locked
    result = hpcir(command, "deck.yaml", "--out", place / "out")
    assert_refused(result, [f"{place}/out: the run directory cannot be written", "--out"])
    assert list(locked.iterdir()) == []


def test_run_directory_that_is_a_file(hpcir: Run, sound: Path) -> None:
    (sound / "out").write_text("mine")
    assert_refused(hpcir("run", "deck.yaml", "--out", "out"), ["out: the run directory is a file"])
    assert (sound / "out").read_text() == "mine"


def test_directory_of_something_else(hpcir: Run, sound: Path) -> None:
    (sound / "thesis").mkdir()
    (sound / "thesis/chapter1.txt").write_text("mine")
    assert_refused(hpcir("run", "deck.yaml", "--out", "thesis"), ["not a run of hpcir", "thesis"])
    assert [path.name for path in (sound / "thesis").iterdir()] == ["chapter1.txt"]


def other_decks_run(hpcir: Run, sound: Path) -> Path:
    """A run directory with a manifest of a deck that differs from deck.yaml."""
    out = sound / "out"
    out.mkdir()
    (out / "manifest.json").write_text(
        json.dumps({"program": "hpcir", "version": "0", "deck": "another", "stages": {}})
    )
    (out / "deck.resolved.yaml").write_text("seed: 7\n")
    return out


@pytest.mark.mpi
def test_run_directory_of_another_deck(hpcir: Run, mpirun: Run, sound: Path) -> None:
    out = other_decks_run(hpcir, sound)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    expected = ["out: the run directory belongs to another deck", "deck.resolved.yaml", "--out"]
    assert_refused(hpcir("run", "deck.yaml", "--out", "out"), expected)
    assert_refused(mpirun(2, ["-m", "hpcir", "run", "deck.yaml", "--out", "out"], cwd=sound), expected)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("flags", [["--fresh"], ["--fresh", "--force"]])
def test_two_runs_on_one_directory(hpcir: Run, sound: Path, flags: list[str]) -> None:
    """The second is refused while a first one lives, whatever it asks for, and the first loses nothing."""
    first = subprocess.Popen(
        [sys.executable, "-m", "hpcir", "run", "deck.yaml", "--out", "out"],
        cwd=sound, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not (sound / "out/lock.json").exists() and time.monotonic() < end and first.poll() is None:
            time.sleep(0.05)
        assert first.poll() is None, "the first run ended before the second began"
        result = hpcir("run", "deck.yaml", "--out", "out", *(flags if "--force" in flags else []))
        assert_refused(result, ["another run works in this directory", f"process {first.pid}"])
        assert first.poll() is None
        assert json.loads((sound / "out/lock.json").read_text())["pid"] == first.pid
    finally:
        first.kill()
        first.wait()


# -- other commands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["report", "nowhere"], ["nowhere", "not a run directory"]),
        (["status", "nowhere"], ["nowhere", "not a run directory"]),
        (["init", "nowhere.xyz"], ["nowhere.xyz", "does not exist"]),
        (["init", "methanol.xyz", "--charge", "18"], ["no electrons are left", "--charge"]),
        (["init", "methanol.xyz", "--engine", "gaussian"], ["--engine", "'gaussian'", "pyscf"]),
        (["run", "deck.yaml", "--walltime", "soon"], ["--walltime", "'soon'"]),
        (["run", "deck.yaml", "--walltime", "-1 h"], ["--walltime", "more than 0"]),
        (["rnu"], ["'rnu'", "run"]),
    ],
)
def test_other_commands(hpcir: Run, sound: Path, arguments: list[str], expected: list[str]) -> None:
    before = sorted(sound.rglob("*"))
    assert_refused(hpcir(*arguments), expected)
    assert sorted(sound.rglob("*")) == before


def test_init_overwrites_nothing(hpcir: Run, sound: Path) -> None:
    (sound / "methanol.yaml").write_text("mine")
    assert_refused(hpcir("init", "methanol.xyz", "--engine", "tblite"), ["methanol.yaml", "exists already", "--force"])
    assert (sound / "methanol.yaml").read_text() == "mine"
    assert shutil.which("hpcir", path=str(Path(sys.executable).parent)) is not None
