"""A rank survives whatever its label engine does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, Interrupted, LabelFailed, RunStopped
from hpcir.labels.base import create_engine
from hpcir.labels.frames import FrameReader, pack
from hpcir.labels.isolation import IsolatedEngine, _environment, ask_engine
from hpcir.molecules.structures import Structure
from hpcir.runtime.stopping import StopRequest
from hpcir.units import ANGSTROM

CONTRACT = Path(__file__).parents[1] / "contract"
WATER = Structure(
    np.array([8, 1, 1]),
    np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]) * ANGSTROM,
    name="water",
)
FAR = WATER.moved(WATER.positions + np.array([[0.0, 0.0, 4.0], [0, 0, 0], [0, 0, 0]]) * ANGSTROM)


@pytest.fixture(autouse=True)
def _calculators_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CONTRACT))


def springs(accident: str = "none", name: str = "Springs") -> LabelSettings:
    return LabelSettings(engine="ase", calculator=f"misbehaving_calculators:{name}", arguments={"accident": accident})


@pytest.fixture(scope="module")
def tblite_engine() -> Iterator[IsolatedEngine]:
    pytest.importorskip("tblite")
    with IsolatedEngine(LabelSettings(engine="tblite")) as engine:
        yield engine


def test_isolated_label_equals_the_engines_own(tblite_engine: IsolatedEngine) -> None:
    own = create_engine(LabelSettings(engine="tblite"))
    label, direct = tblite_engine.label(WATER), own.label(WATER)
    assert tblite_engine.level == own.level
    # Threads of this process may add in another order: equal to rounding, not always to the bit.
    assert label.energy == pytest.approx(direct.energy, abs=1e-12)
    np.testing.assert_allclose(label.forces, direct.forces, atol=1e-12)
    np.testing.assert_allclose(label.dipole, direct.dipole, atol=1e-12)


def test_input_errors_come_through(tblite_engine: IsolatedEngine) -> None:
    tblite_engine.check(WATER)
    with (
        IsolatedEngine(LabelSettings(engine="tblite", method="GFN3-xTB")) as engine,
        pytest.raises(InputError) as caught,
    ):
        engine.check(WATER)
    assert caught.value.where == "labels.method"
    assert caught.value.value == "GFN3-xTB"
    assert "GFN2-xTB" in caught.value.hint


@pytest.mark.parametrize(
    ("accident", "words"),
    [
        ("exit", "status 7"),
        ("segfault", "SIGSEGV"),
        ("nan", "not finite in the forces"),
        ("raise", "the external program said no"),
    ],
)
def test_accidents_fail_one_label_only(accident: str, words: str) -> None:
    with IsolatedEngine(springs(accident)) as engine:
        before = engine.label(WATER)
        with pytest.raises(LabelFailed, match=words):
            engine.label(FAR)
        after = engine.label(WATER)
        assert engine.starts == (2 if accident in ("exit", "segfault") else 1)
    assert after.energy == before.energy
    np.testing.assert_array_equal(after.forces, before.forces)


def test_junk_on_the_output_does_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    with IsolatedEngine(springs("print")) as engine:
        label = engine.label(FAR)
        assert engine.starts == 1
    assert np.isfinite(label.energy)
    printed = capfd.readouterr()
    assert "junk" not in printed.out + printed.err


def test_hanging_engine_meets_its_time_limit() -> None:
    with IsolatedEngine(springs("hang"), time_limit=1.0) as engine:
        engine.label(WATER)
        start = time.monotonic()
        with pytest.raises(LabelFailed, match="time_limit"):
            engine.label(FAR)
        assert time.monotonic() - start < 5.0
        assert engine.label(WATER).energy > 0


def test_interruption_ends_a_label_at_once() -> None:
    stop = StopRequest()
    with IsolatedEngine(springs("hang"), check_stop=stop.check) as engine:
        engine.label(WATER)
        stop.request("signal SIGUSR1")
        start = time.monotonic()
        with pytest.raises(Interrupted, match="signal SIGUSR1"):
            engine.label(FAR)
        assert time.monotonic() - start < 2.0


def test_engine_that_cannot_start_is_named() -> None:
    missing = LabelSettings(engine="ase", calculator="misbehaving_calculators:Sprungs")
    with IsolatedEngine(missing) as engine, pytest.raises(InputError, match="Springs"):
        engine.check(WATER)
    no_dipole = springs(name="NoDipole")
    with IsolatedEngine(no_dipole) as engine, pytest.raises(InputError, match="no dipole"):
        engine.check(WATER)
    with (
        IsolatedEngine(springs(name="ForgetsDipole")) as engine,
        pytest.raises(LabelFailed, match="no dipole"),
    ):
        engine.label(WATER)


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("import os; os._exit(5)", RunStopped, "status 5"),
        ("import os; os.kill(os.getpid(), 11)", RunStopped, "SIGSEGV"),
        ("raise SystemExit('no licence')", RunStopped, "no licence"),
        ("raise RuntimeError('no licence')", InputError, "no licence"),
        ("import time; time.sleep(600)", RunStopped, "no answer within 3 s"),
    ],
)
def test_a_deck_is_checked_whatever_its_calculators_module_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "accident.py").write_text(f"{line}\nEngine = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    if "sleep" in line:
        monkeypatch.setattr("hpcir.labels.isolation.CHECK_LIMIT", 3.0)
    with pytest.raises(error, match=words):
        ask_engine(LabelSettings(engine="ase", calculator="accident:Engine"), WATER)


def test_unstartable_process_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcir.labels.isolation._environment", lambda threads: {"PYTHONHOME": "/nowhere"})
    with IsolatedEngine(springs()) as engine, pytest.raises(RunStopped, match="cannot start"):
        engine.label(WATER)


def test_worker_is_no_mpi_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_NAMESPACE", "SLURM_PROCID", "HYDI_CONTROL_FD"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("HOME_OF_DATA", "kept")
    environment = _environment(2)
    assert not [name for name in environment if name.startswith(("PMI", "OMPI", "SLURM", "HYDI"))]
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["HOME_OF_DATA"] == "kept"


def test_worker_dies_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path.insert(0, {str(CONTRACT)!r}); sys.path.insert(0, {str(Path(__file__).parent)!r})
            import test_labels_isolation as t
            engine = t.IsolatedEngine(t.springs("hang"))
            engine.label(t.WATER)
            print(engine._worker._process.pid, flush=True)
            engine.label(t.FAR)
            """
        )
    )
    rank = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert rank.stdout is not None
    worker = int(rank.stdout.readline())
    time.sleep(0.3)
    rank.kill()
    rank.wait()
    deadline = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(worker)
    rank.stdout.close()


def _alive(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody has reaped yet does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] != "Z" if state.parent.exists() else False
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_frames_survive_any_cutting() -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    sent = [({"n": i}, rng.normal(size=i * 7)) for i in range(5)]
    stream = b"".join(pack(header, values) for header, values in sent)
    for size in (1, 3, 50, len(stream)):
        reader, got = FrameReader(), []
        for first in range(0, len(stream), size):
            reader.feed(stream[first : first + size])
            while (frame := reader.next()) is not None:
                got.append(frame)
        assert [header for header, _ in got] == [header for header, _ in sent]
        for (_, values), (_, expected) in zip(got, sent, strict=True):
            np.testing.assert_array_equal(values, expected)
    reader = FrameReader()
    reader.feed(b"Hello, I am a banner of an engine")
    with pytest.raises(ValueError, match="is not a frame"):
        reader.next()
