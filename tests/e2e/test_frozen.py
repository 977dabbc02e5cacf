"""Small decks hold what was recorded of them before the program was reshaped, on one, two and three ranks.

tools/frozen says how to compare two trees bit for bit, and records anew where results are meant to change.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.frozen.comparison import differences
from tests.frozen.recording import deviations, figures

FROZEN = Path(__file__).parents[1] / "frozen"
# Rounding differs between processors; measured between AVX-512 and AVX2 are XXX at most.
TOLERANCE = 1e-6


def check(run: Path, name: str) -> None:
    recorded = json.loads((FROZEN / "recorded" / f"{name}.json").read_text())
    assert len(recorded) > 40
    wrong = {key: value for key, value in deviations(recorded, figures(run)) if not value < TOLERANCE}
    assert wrong == {}


@pytest.fixture
def run_frozen(run_deck, tmp_path):
    """run_frozen(name, ranks) -> the finished run directory of a frozen deck."""

    def start(name: str, ranks: int) -> Path:
        out = tmp_path / f"{name}-{ranks}"
        done = run_deck(FROZEN / "decks" / f"{name}.yaml", out, ranks=ranks)
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    return start


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        pytest.param("alkanes", 1),
        pytest.param("ethanol", 2, marks=pytest.mark.mpi),
        pytest.param("methanol", 3, marks=pytest.mark.mpi),
        pytest.param("alkanes-levels", 2, marks=pytest.mark.mpi),
    ],
)
def test_the_results_are_those_recorded(run_frozen, name, ranks):
    check(run_frozen(name, ranks), name)


@pytest.mark.mpi
def test_the_results_are_those_recorded_on_any_rank_count(run_frozen):
    one, two, three = (run_frozen("water-levels", ranks) for ranks in (1, 2, 3))
    assert differences(one, two) == ([], [])
    assert differences(one, three) == ([], [])
    check(three, "water-levels")
