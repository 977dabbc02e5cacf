"""The command line: quick, consistent, and threads set before any library reads them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcir import cli
from hpcir.commands.check import check_engine, formula
from hpcir.commands.status import run_status, status_lines
from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.runtime.progress import Progress
from hpcir.runtime.threads import VARIABLES, oversubscription, set_threads

ROOT = Path(__file__).parents[2]
METHANOL = (ROOT / "inputs/methanol.xyz").read_text(encoding="utf-8")
HEAVY = ("torch", "pyscf", "ase", "matplotlib", "numba", "scipy", "h5py", "numpy", "mpi4py", "rich")
Run = Callable[..., subprocess.CompletedProcess]


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after some code."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_parser_loads_nothing_heavy() -> None:
    assert modules_after("from hpcir.cli import parser\nparser()").isdisjoint(HEAVY)


def test_a_broken_deck_is_refused_before_anything_heavy(tmp_path: Path) -> None:
    deck = tmp_path / "deck.yaml"
    deck.write_text("system: {structure: a.xyz}\nsee: 1\n")
    code = f"from hpcir.cli import main\nassert main(['check', {str(deck)!r}]) == 2"
    assert modules_after(code).isdisjoint({"torch", "pyscf", "ase", "matplotlib", "numba", "h5py", "mpi4py"})


def test_help_and_broken_decks_answer_in_a_second(hpcir: Run, tmp_path: Path) -> None:
    """Processor seconds of the process itself, the least of three: what it takes on an idle machine."""
    (tmp_path / "deck.yaml").write_text("system: {structure: a.xyz}\nsee: 1\n")
    for arguments, status in ((["--help"], 0), (["check", "deck.yaml"], 2)):
        seconds = []
        for _ in range(3):
            before = os.times()
            assert hpcir(*arguments).returncode == status
            after = os.times()
            seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert min(seconds) < 1.0


def test_every_command_of_the_contract_has_help() -> None:
    names = ["run", "init", "check", "label", "train", "evaluate", "md", "spectrum", "compare", "export"]
    names += ["report", "status", "schema", "import", "completion"]
    for name in names:
        with pytest.raises(SystemExit) as caught:
            cli.main([name, "--help"])
        assert caught.value.code == 0


def test_version_and_schema(hpcir: Run) -> None:
    assert hpcir("--version").stdout.startswith("hpcir ")
    assert json.loads(hpcir("schema").stdout)["title"] == "hpcir deck"


def test_walltime_takes_units() -> None:
    assert cli.parser().parse_args(["run", "a.yaml", "--walltime", "110 min"]).walltime == pytest.approx(6600)
    assert cli.parser().parse_args(["spectrum", "a.csv", "--step", "2 fs", "-o", "x"]).step == pytest.approx(2)


# -- threads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deck", "environment", "threads"),
    [
        ("labels: {threads: 3}", {"OMP_NUM_THREADS": "5", "SLURM_CPUS_PER_TASK": "4"}, 3),
        ("seed: 1", {"OMP_NUM_THREADS": "5", "SLURM_CPUS_PER_TASK": "4"}, 5),
        ("seed: 1", {"SLURM_CPUS_PER_TASK": "4"}, 4),
        ("seed: 1", {}, 1),
        ("labels: {threads: many}", {}, 1),
        ("{", {"SLURM_CPUS_PER_TASK": "nonsense"}, 1),
    ],
)
def test_threads_by_deck_user_slurm_or_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deck: str, environment: dict[str, str], threads: int
) -> None:
    for name in (*VARIABLES, "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "deck.yaml"
    path.write_text(deck)
    assert set_threads(path) == threads
    assert {os.environ[name] for name in VARIABLES} == {str(threads)}


def test_threads_are_set_before_numpy_is_loaded() -> None:
    assert "numpy" not in modules_after("from hpcir.runtime.threads import set_threads\nset_threads('no such deck')")


def test_oversubscription_counts_the_ranks_of_each_host() -> None:
    assert oversubscription([("a", (0, 1)), ("a", (0, 1))], 1) == ""
    assert oversubscription([("a", (0,)), ("a", (1,)), ("b", (0,))], 1) == ""  # bound ranks, two hosts
    assert "3 ranks x 1 threads on a need 3 cores" in oversubscription([("a", (0, 1))] * 3, 1)
    assert "may use 2" in oversubscription([("a", (0, 1))], 4)


# -- init and check ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("charge", "engine", "multiplicity"), [(0, "tblite", 1), (1, "tblite", 2), (0, "pyscf", 1)])
def test_init_writes_a_deck_that_loads(hpcir: Run, tmp_path: Path, charge: int, engine: str, multiplicity: int) -> None:
    (tmp_path / "my molecule.xyz").write_text(METHANOL)
    result = hpcir("init", "my molecule.xyz", "--charge", charge, "--engine", engine, "-o", "sub/my.yaml", "--slurm")
    assert result.returncode == 0, result.stderr
    study = check_deck(load_deck(tmp_path / "sub/my.yaml"))
    assert study.structure.multiplicity == multiplicity
    assert study.deck.labels.engine == engine
    assert study.loaded.name == "my molecule"
    check_engine(study)
    job = tmp_path / "sub/my.slurm"
    assert subprocess.run(["bash", "-n", job], check=False).returncode == 0
    assert "requeue" in job.read_text()


@pytest.mark.parametrize(
    ("atoms", "arguments", "multiplicity", "word"),
    [
        (["O 0 0 0", "O 0 0 1.21"], [], 3, "ground state of O2 is a triplet"),
        (["O 0 0 0", "O 0 0 1.21"], ["--multiplicity", "1"], 1, "3 for a triplet"),
        (["O 0 0 0", "O 0 0 1.26"], ["--charge", "-1"], 2, "at least 2"),
        (["C 0 0 0", "O 0 0 1.13"], [], 1, "3 for a triplet"),
    ],
)
def test_init_says_which_spin_it_takes(
    hpcir: Run, tmp_path: Path, atoms: list[str], arguments: list[str], multiplicity: int, word: str
) -> None:
    (tmp_path / "x.xyz").write_text("\n".join([str(len(atoms)), "", *atoms, ""]))
    result = hpcir("init", "x.xyz", *arguments)
    assert result.returncode == 0, result.stderr
    assert f"multiplicity {multiplicity}" in result.stdout
    assert word in result.stdout
    assert check_deck(load_deck(tmp_path / "x.yaml")).structure.multiplicity == multiplicity


def test_check_prints_plan_and_cost_and_writes_nothing(hpcir: Run, tmp_path: Path) -> None:
    (tmp_path / "methanol.xyz").write_text(METHANOL)
    deck = "system: {structure: methanol.xyz}\nlabels: {engine: tblite}\nmodel: {channels: 6}\n"
    (tmp_path / "deck.yaml").write_text(deck)
    before = sorted(tmp_path.rglob("*"))
    result = hpcir("check", "deck.yaml")
    assert result.returncode == 0, result.stderr
    for words in (
        "CH4O",
        "GFN2-xTB",
        "64 x 5 ps at 300 K",
        "normal modes",
        "30 radial, 144 angular",
        "contractions of 6 channels",
        "times that without contractions",
        "37",
        "one label",
        "MiB",
        "The deck is fine",
    ):
        assert words in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_hill_formula() -> None:
    assert formula(["O", "H", "C", "H", "H", "H"]) == "CH4O"
    assert formula(["O", "H", "H"]) == "H2O"
    assert formula(["Na", "Cl"]) == "ClNa"


# -- progress and status ----------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.json").write_text('{"stages": {}}')
    return tmp_path


def test_progress_writes_log_and_state(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(0, run_folder, size=2) as progress:
        with progress.stage("label", total=40, unit="labels", done=10) as stage:
            for _ in range(20):
                stage.advance(force_rmse_kcal_per_mol_angstrom=0.31)
            stage.note("one geometry was set aside")
            progress._write(force=True)
            state = json.loads((run_folder / "progress.json").read_text())
            assert (state["stage"], state["done"], state["total"]) == ("label", 30, 40)
            assert state["figures"] == {"force_rmse_kcal_per_mol_angstrom": 0.31}
            assert state["seconds_left"] >= 0
        Progress(1, run_folder, size=2, quiet=True).warn("a label failed\non two lines")
    lines = (run_folder / "log.txt").read_text().splitlines()
    assert all(line[:4].isdigit() and (" rank 0 " in line or " rank 1 " in line) for line in lines)
    assert any("rank 0 label: one geometry was set aside" in line for line in lines)
    assert any("rank 1 -: warning: a label failed on two lines" in line for line in lines)
    assert "force RMSE 0.31 kcal/mol/Å" in capsys.readouterr().out
    assert json.loads((run_folder / "progress.json").read_text())["state"] == "done"


def test_stages_inside_one_another(run_folder: Path) -> None:
    progress = Progress(0, run_folder, quiet=True)
    with progress.stage("sample", total=3), progress.stage("label", total=5) as inner:
        inner.advance()
        assert progress.state()["stage"] == "label"
    assert list(progress.stages) == ["label", "sample"]
    assert progress.state()["stage"] is None


def test_a_display_that_cannot_write_stops_nothing(tmp_path: Path) -> None:
    with Progress(0, tmp_path / "gone", quiet=True) as progress, progress.stage("label", total=1) as stage:
        stage.advance()
    assert not (tmp_path / "gone").exists()


def test_other_ranks_neither_show_nor_write_the_state(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, run_folder, size=4) as progress, progress.stage("label", total=1) as stage:
        stage.advance()
    assert capsys.readouterr().out == ""
    assert not (run_folder / "progress.json").exists()


def test_status_tells_running_killed_and_done(run_folder: Path) -> None:
    from hpcir.storage.run_directory import RunDirectory

    assert run_status(run_folder)["state"] == "not started"
    directory = RunDirectory(run_folder)
    directory._lock()
    progress = Progress(0, run_folder, quiet=True)
    with progress, progress.stage("label", total=40, unit="labels") as stage:
        stage.advance(12)
        progress._write(force=True)
        status = run_status(run_folder)
        assert (status["state"], status["alive"], status["process"]["pid"]) == ("running", True, os.getpid())
        assert any("label: 12 of 40 labels" in line for line in status_lines(run_folder, status))
        directory.unlock()
        assert run_status(run_folder)["state"] == "killed"
    assert run_status(run_folder)["state"] == "done"
    status = run_status(run_folder)
    json.dumps(status)


def test_heartbeat_comes_from_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcir.runtime.progress.HEARTBEAT_INTERVAL", 0.01)
    beats: list[float] = []
    with Progress(0, heartbeat=lambda: beats.append(time.monotonic()), quiet=True):
        end = time.monotonic() + 5
        while len(beats) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert len(beats) >= 3


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hpcir ev", ["evaluate"]),
        ("hpcir export model --form", ["--format"]),
        ("hpcir export model --format ", ["n2p2"]),
        ("hpcir run met", ["methanol.xyz"]),
        ("hpcir md model met", ["methanol.xyz"]),
    ],
)
def test_bash_completes(typed, expected, tmp_path, capsys):
    """The script in a real bash: what it offers for a line that is typed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    pytest.importorskip("shtab")
    assert cli.main(["completion", "bash"]) == 0
    (tmp_path / "hpcir.bash").write_text(capsys.readouterr().out)
    (tmp_path / "methanol.xyz").write_text("")
    words = shlex.split(typed) + ([""] if typed.endswith(" ") else [])
    line = f"""
source ./hpcir.bash
COMP_WORDS=({shlex.join(words)})
COMP_CWORD={len(words) - 1}
COMP_LINE={shlex.quote(typed)}
COMP_POINT={len(typed)}
$(complete -p hpcir | sed 's/.*-F \\([^ ]*\\).*/\\1/') hpcir {shlex.quote(words[-1])} {shlex.quote(words[-2])}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run([bash, "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert [word.strip() for word in done.stdout.split()] == expected, done.stderr
