"""Small decks give what was recorded of them before the program was reshaped, on one, two and three ranks.

tools/frozen compares two trees bit for bit, and records anew where results are meant to change.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import finish
from tests.frozen.comparison import differences
from tests.frozen.recording import deviations, figures
from tests.frozen.rounding import PINNED, probe

LONG = pytest.mark.long
FROZEN = Path(__file__).parents[1] / "frozen"
# Of each figure, relative to its norm. Runs that round alike agree to the 12 digits that are recorded.
TOLERANCE = 1e-9
# Where a machine rounds otherwise: what is labelled before anything is trained (AVX-512 to AVX2: 3e-8).
BEFORE_TRAINING = re.compile(
    r"GFN2-xTB.*/((cheap )?(optimisation|normal modes)|round 0)/(energy|positions|forces|dipole)"
)
ROUNDING_OF_LABELS = 1e-6


@pytest.fixture(scope="module")
def rounds_alike() -> bool:
    """Whether this machine's libraries give the bits that they gave when the results were recorded."""
    return probe() == json.loads((FROZEN / "recorded" / "rounding.json").read_text())["probe"]


@pytest.fixture
def run_frozen(run_deck, made_once, monkeypatch):
    """run_frozen(name, ranks) -> the finished run directory of a frozen deck, made once for all tests."""
    for variable, value in PINNED.items():
        monkeypatch.setenv(variable, value)

    def start(name: str, ranks: int) -> Path:
        deck = FROZEN / "decks" / f"{name}.yaml"
        finished = made_once(
            f"frozen-{name}-{ranks}", lambda folder: finish(run_deck, deck, folder / "run", ranks, apart=True)
        )
        return finished / "run"

    return start


def check(run: Path, name: str, rounds_alike: bool) -> None:
    recorded = json.loads((FROZEN / "recorded" / f"{name}.json").read_text())
    found = dict(deviations(recorded, figures(run)))
    early = {key: value for key, value in found.items() if BEFORE_TRAINING.search(key)}
    assert len(early) >= 3
    assert {key: value for key, value in early.items() if not value < ROUNDING_OF_LABELS} == {}
    if not rounds_alike:
        pytest.skip("other libraries or another processor than in the recording: compared up to the first training")
    assert {key: value for key, value in found.items() if not value < TOLERANCE} == {}


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("peroxide-levels", 1),
        pytest.param("methanol", 2, marks=pytest.mark.mpi),
        pytest.param("methanol", 3, marks=[LONG, pytest.mark.mpi]),
        pytest.param("alkanes", 1, marks=LONG),
        pytest.param("ethanol", 2, marks=[LONG, pytest.mark.mpi]),
        pytest.param("alkanes-levels", 2, marks=[LONG, pytest.mark.mpi]),
    ],
)
def test_the_results_are_those_recorded(run_frozen, rounds_alike, name, ranks):
    check(run_frozen(name, ranks), name, rounds_alike)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=LONG)])
def test_the_results_are_those_recorded_on_any_rank_count(run_frozen, rounds_alike, ranks):
    one, more = (run_frozen("peroxide-levels", count) for count in (1, ranks))
    assert differences(one, more) == ([], [])
    check(more, "peroxide-levels", rounds_alike)
