"""Whole runs of a water dimer: free, it dissociates, which is counted; restrained, it is one cluster on any ranks.

The short twins are in tests/physics/test_restraint.py: a restrained trajectory is the same bit for bit in any block.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import differences, finish, results

pytestmark = [pytest.mark.long, pytest.mark.mpi, pytest.mark.timeout(3600)]
RUN_LIMIT = 1500  # seconds, on a busy machine

DIMER = """\
6
water dimer
O -1.464 0.099 0.3
H -1.956 0.624 -0.340
H -1.797 -0.799 0.206
O 1.369 0.146 -0.395
H 1.894 0.486 0.335
H 0.451 0.165 -0.083
"""
DECK = """\
system: {structure: dimer.xyz}
labels: {engine: tblite, pretrain: {engine: none}}
model: {members: 2, hidden: [15, 15], radial: 8, shells: 2}
training: {steps: 800, final_steps: 1200, retrain_steps: 500}
sampling:
  {max_labels: 180, initial_labels: 100, round_labels: 30, rounds: 2, trajectories: 8, duration: 1 ps, goal: 3 ps}
test: {count: 20}
dynamics: {trajectories: 12, lockstep: 4, duration: 3 ps, equilibration: 0.5 ps}
spectrum: {depth: 1 ps, committee_errors: false}
"""


@pytest.fixture(scope="module")
def decks(made_once) -> Path:
    """A folder with the decks free.yaml and held.yaml."""

    def make(folder: Path) -> None:
        (folder / "dimer.xyz").write_text(DIMER)
        (folder / "free.yaml").write_text(DECK)
        (folder / "held.yaml").write_text(DECK.replace("0.5 ps}", "0.5 ps, restraint: 0.5 A}"))

    return made_once("dimer-decks", make)


@pytest.fixture(scope="module")
def run_of(decks, made_once, run_deck):
    """run_of(name, ranks) -> the finished run directory of a deck."""

    def run(name: str, ranks: int) -> Path:
        def make(folder: Path) -> None:
            finish(run_deck, decks / f"{name}.yaml", folder / "run", ranks, apart=True, timeout=RUN_LIMIT)

        return made_once(f"dimer-{name}-{ranks}", make) / "run"

    return run


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def test_a_free_dimer_dissociates_and_the_result_says_when(run_of):
    run = run_of("free", 2)
    dynamics = summary(run)["md"]
    assert dynamics["came_apart"] >= 1
    line = next(line for line in dynamics["bond_events"] if "dissociated" in line)
    assert line.startswith(f"{dynamics['came_apart']} of 12 trajectories dissociated, and the spectrum leaves them out")
    assert re.search(r"\(trajectory \d+ at \d\.\d\d ps", line)
    assert "dissociated" in (run / "log.txt").read_text()
    assert dynamics.get("restraint") is None


def test_a_restrained_dimer_is_the_same_on_one_two_and_three_ranks(run_of):
    runs = [run_of("held", ranks) for ranks in (1, 2, 3)]
    first = results(runs[0])
    for run in runs[1:]:
        assert differences(first, results(run)) == []
    said = {summary(run)["md"]["restraint"] for run in runs}
    assert len(said) == 1
    assert re.search(r"within \d\.\d\d A of its centre of mass: it acted on [1-9]\d* of 12 trajectories", said.pop())
    for run in runs:
        dynamics = summary(run)["md"]
        assert not any("dissociated" in line for line in dynamics["bond_events"])
        assert "A restraint held the pieces" in (run / "report.html").read_text()
