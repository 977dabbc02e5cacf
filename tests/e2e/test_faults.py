"""Faults injected into whole runs: killed processes, failing engines, full disks, damaged files. Nothing may be lost
that was finished, nothing computed twice, and no result may differ from that of a run that nothing happened to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hpcir.storage.journal import read_journal, read_record
from hpcir.storage.lock import lock_identity
from tests.e2e.conftest import (
    DECK,
    ROOT,
    WATER,
    assert_part_of,
    assert_same,
    computed,
    differences,
    finish,
    replaced,
    results,
    said,
    start,
)

LONG = pytest.mark.long


@pytest.fixture(scope="module")
def run_seconds(undisturbed: Path) -> float:
    """What a run of the tiny deck takes with its kernels compiled, imports included; kills fall anywhere in it."""
    stages = json.loads((undisturbed / "summary.json").read_text())["stages"]
    return 2.0 + sum(seconds for name, seconds in stages.items() if name != "compile")


def processes_of(out: Path) -> dict[int, int | None]:
    """Process numbers of the ranks that work in a run directory, with their ranks (None: the launcher itself)."""
    found: dict[int, int | None] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(out).encode() not in words:
                continue
            variables = dict(v.split(b"=", 1) for v in (folder / "environ").read_bytes().split(b"\0") if b"=" in v)
            rank = variables.get(b"PMI_RANK", variables.get(b"OMPI_COMM_WORLD_RANK"))
            found[int(folder.name)] = None if rank is None else int(rank)
    return found


def assert_no_work_twice(out: Path) -> None:
    """Looked at between the sessions of a run, too: chunks of trajectories go when their blocks are all finished."""
    assert set(computed(out).values()) <= {1}, "work was done twice"


# -- killed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 3), *(pytest.param(n, 10, marks=LONG, id=f"ten-{n}") for n in range(1, 6))]
)
@pytest.mark.timeout(3600)
def test_killed_at_random_moments_a_run_ends_as_if_nothing_was(
    undisturbed, deck, run_deck, run_seconds, tmp_path, say, seed, kills
):
    random = np.random.default_rng(seed)
    done = number = 0
    while done < kills:
        out = tmp_path / f"run-{number}"
        number += 1
        while done < kills:
            process = start(deck, out)
            try:
                status = process.wait(timeout=random.uniform(0.1, run_seconds))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
                assert_no_work_twice(out)
                assert_part_of(undisturbed, out)
            else:
                assert status == 0, said(out)
                break
        finish(run_deck, deck, out)
        assert_same(undisturbed, out)
        shutil.rmtree(out)
    say(f"seed {seed}: {done} kills in {number} runs, each finished and the same as the undisturbed one")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("seed", "ranks"), [(0, 2), (1, 3), *(pytest.param(n, 2 + n % 2, marks=LONG) for n in range(2, 20))]
)
def test_when_one_rank_dies_the_job_ends_at_once_and_names_it(
    undisturbed_on_two, deck, run_deck, run_seconds, tmp_path, say, seed, ranks
):
    random = np.random.default_rng(seed)
    out = tmp_path / "run"
    longest = 0.6 * run_seconds
    victims: dict[int, int] = {}
    while sorted(victims) != list(range(ranks)):
        process = start(deck, out, ranks)
        end = time.monotonic() + 120
        while not (out / "log.txt").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(random.uniform(0, longest))
        victims = {rank: pid for pid, rank in processes_of(out).items() if rank is not None}
        if process.poll() is not None:  # it was quicker than the one whose seconds are known
            assert process.returncode == 0, said(out)
            shutil.rmtree(out)
            longest, victims = longest / 2, {}
    victim = int(random.integers(ranks))
    os.kill(victims[victim], signal.SIGKILL)
    killed = time.monotonic()
    assert process.wait(timeout=60) != 0
    seconds = time.monotonic() - killed
    assert seconds < 15
    assert f"rank {victim}" in said(out)
    say(f"seed {seed}: rank {victim} of {ranks} killed, the job ended {seconds:.1f} s later and named it")
    assert "Traceback" not in said(out), said(out)
    end = time.monotonic() + 5
    while processes_of(out) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(out) == {}
    finish(run_deck, deck, out, ranks=ranks)
    assert differences(results(undisturbed_on_two), results(out)) == []
    assert set(computed(out).values()) == {1}


# As `hpcir run`, with the state of a training saved ten times as often.
SAVES_OFTEN = (
    "import sys; from hpcir.study.learning import checkpoint; checkpoint.SAVE_INTERVAL = 0.3;"
    " from hpcir.cli import main; sys.exit(main())"
)


def test_a_training_goes_on_from_its_last_seconds(deck, run_deck, tmp_path):
    """Killed in the middle of a long training, a run takes up the optimiser where it was, and ends the same."""
    long = tmp_path / "long.yaml"
    words = {"members: 2": "members: 1", "steps: 100, final": "steps: 3000, final", "rounds: 2": "rounds: 0"}
    long.write_text(replaced(deck.read_text(), words))
    process = start(long, tmp_path / "killed", program=("-c", SAVES_OFTEN))
    state = tmp_path / "killed" / "models" / "in-progress" / "member-000.training"
    end = time.monotonic() + 600
    while not state.exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    record = read_record(state)
    assert record is not None
    assert 0 < int(record.arrays["step"]) < 3000
    finish(run_deck, long, tmp_path / "killed")
    finish(run_deck, long, tmp_path / "whole")
    log = (tmp_path / "killed" / "log.txt").read_text()
    assert f"member 0 resumes at step {int(record.arrays['step'])} of 3000" in log
    assert differences(results(tmp_path / "whole"), results(tmp_path / "killed")) == []
    assert not state.parent.exists()


def test_killed_before_the_manifest_a_directory_is_still_a_runs(deck, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "lock.json").write_text("")
    (out / "deck.resolved.yaml").write_text("system")
    (out / ".manifest.json.4711").write_text("{")
    process = start(deck, out, 1, "--until", "prepare")
    assert process.wait(timeout=300) == 0, said(out)
    assert (out / "manifest.json").exists()


def test_the_lock_of_a_dead_run_goes_to_one_of_many(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hpcir.storage.run_directory import RunDirectory\n"
        "from hpcir.errors import InputError\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "try: RunDirectory(Path(sys.argv[1])).open('deck', '')\n"
        "except InputError as error: print('refused', error.what)\n"
        "else: print('open')\n"
        "sys.stdout.flush(); sys.stdin.read()\n"
    )
    for attempt in range(3):
        out = tmp_path / f"run-{attempt}"
        out.mkdir()
        (out / "lock.json").write_text(json.dumps(lock_identity() | {"pid": 4194000, "started": "1"}))
        at = str(time.time() + 4.0)
        many = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(out), at],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(5)
        ]
        answers = [process.stdout.readline().strip() for process in many if process.stdout is not None]
        for process in many:
            process.communicate()
        assert sorted(answers) == ["open"] + ["refused another run works in this directory"] * 4


def test_walltime_stops_with_status_75_and_the_moved_directory_goes_on(undisturbed, deck, run_deck, tmp_path):
    out = tmp_path / "run"
    process = start(deck, out, 1, "--walltime", "4 s")
    assert process.wait(timeout=120) == 75, said(out)
    assert "time limit" in said(out)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    out.rename(moved)
    finish(run_deck, deck, moved)
    assert_same(undisturbed, moved)


# -- engines ----------------------------------------------------------------------------------------------------


def unruly_deck(folder: Path, arguments: str) -> Path:
    """Methanol, labelled by the calculator that misbehaves; no exploration, no test."""
    words = f"calculator: 'tests.e2e.unruly:Unruly', time_limit: 4 s, pretrain: {{engine: none}}{arguments}"
    path = folder / "unruly.yaml"
    changed = {
        str(WATER): str(ROOT / "inputs" / "methanol.xyz"),
        "{engine: tblite}": f"{{engine: ase, {words}}}",
        "max_labels: 40, initial_labels: 10": "max_labels: 110, initial_labels: 40",
        "shells: 2": "shells: 3",
        "steps: 100, final": "steps: 250, final",
        "rounds: 2": "rounds: 0",
        "count: 10": "count: 0",
    }
    path.write_text(replaced(DECK, changed))
    return path


def test_labels_that_fail_in_every_way_are_set_aside_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    process = start(unruly_deck(tmp_path, ""), out, 1)
    assert process.wait(timeout=600) == 0, said(out)
    records = [record for path in (out / "labels").glob("*.journal") for record in read_journal(path)[0]]
    reasons = [record.attributes["reason"] for record in records if record.attributes["reason"]]
    for words in ("SCF not converged", "status 7", "SIGSEGV", "not finite", "limit of 4 s"):
        assert any(words in reason for reason in reasons), (words, reasons)
    assert json.loads((out / "summary.json").read_text())["labels"]["failed"] == len(reasons)
    assert "Traceback" not in said(out)


def test_when_no_label_succeeds_the_run_stops_itself_with_one_message(tmp_path):
    out = tmp_path / "run"
    process = start(unruly_deck(tmp_path, ", arguments: {accidents: [raise], everywhere: true}"), out, 1)
    assert process.wait(timeout=300) == 3, said(out)
    assert said(out).count("hpcir: ") == 1
    assert "SCF not converged" in said(out)
    assert "Traceback" not in said(out)
