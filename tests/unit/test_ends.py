"""Reasons for which the stages of a run ended, and its table of seconds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hpcir.deck.sections import AccuracySettings, Deck
from hpcir.report.tables import core_time, ends_table
from hpcir.storage.run_directory import RunDirectory
from hpcir.study.ends import independent_test_end, level_ends, sampling_end, training_end, trajectories_end
from hpcir.study.learning.accuracy import ModelShare
from hpcir.study.learning.curve import LearningCurve, Round, Stop, StopReason
from hpcir.study.production.convergence import SamplingEnd
from hpcir.study.results.records import (
    ChainLevelFigures,
    EndReason,
    IndependentTest,
    LearningPoint,
    MdFigures,
    StageEnd,
    StageTime,
)
from hpcir.study.times import FASTER, spend, stage_seconds, stage_times, table, what_is_faster
from tests.unit.test_parts import band

DECK = Deck.model_validate({"system": {"structure": "x.xyz"}, "training": {"steps": 400, "final_steps": 300}})


def curve(reason: StopReason, errors=(0.5, 0.2), divisor=4) -> LearningCurve:
    rounds = [Round(n, 40 + 20 * n, force_rmse_kcal_per_mol_angstrom=error) for n, error in enumerate(errors)]
    found = LearningCurve(rounds, steps_divisor=divisor)
    found.stop(Stop(reason, "because"))
    return found


@pytest.mark.parametrize("reason", list(StopReason))
def test_every_reason_of_sampling_has_its_end(reason):
    end = sampling_end(curve(reason), ModelShare("O-H stretch", 3.0, 0.01), AccuracySettings())
    assert (end.stage, end.reason is EndReason.LIMIT) == ("sample", reason.is_limit)
    assert end.sentence == "2 rounds, 60 labels: because"
    assert "the last 20 labels took the held-out force error from 0.5 to 0.2" in end.more
    assert ("not within an accuracy of 1 cm-1 and 2 %" in end.more) == (reason is not StopReason.ACCURACY)


def test_labels_that_bought_nothing_are_said():
    end = sampling_end(curve(StopReason.ROUNDS, (0.2, 0.3)), None, AccuracySettings())
    assert end.more == "the last 20 labels did not lower the held-out force error (0.3 kcal/mol/A)"


@pytest.mark.parametrize(
    ("reason", "divisor", "below", "said"),
    [
        (StopReason.ACCURACY, 4, False, "100 of 400 steps a member (training.steps)"),
        (StopReason.ROUNDS, 1, False, "400 of 400 steps a member (training.steps) in a round (held-out labels did not"),
        (StopReason.ROUNDS, 2, True, "500 of 1000 steps a member (training.retrain_steps)"),
    ],
)
def test_the_lengths_of_trainings(reason, divisor, below, said):
    end = training_end(curve(reason, divisor=divisor), None, DECK, below)
    assert end.sentence.startswith(said)
    assert end.reason is (EndReason.ACCURACY if reason is StopReason.ACCURACY else EndReason.LIMIT)
    final = {True: "all 300 of the final model", False: "all 400 of the final model"}[below]
    assert (final in end.sentence) == (reason is not StopReason.ACCURACY)


def test_levels_below_end_by_their_budget_or_their_rounds():
    points = (LearningPoint(20, 1.0, 0.1, 0.1), LearningPoint(40, 0.4, 0.1, 0.1))
    one = ChainLevelFigures("GFN2-xTB", 400, 0, 1.0, "", points[:1])
    two = ChainLevelFigures("PBE", 40, 0, 1.0, "the label budget of 40 is spent", points, StopReason.LABEL_BUDGET)
    ends = level_ends([one, two])
    assert [end.reason for end in ends] == [EndReason.FIXED, EndReason.LIMIT]
    assert ends[0].sentence.startswith("all 400 labels of GFN2-xTB")
    assert "from 1 to 0.4" in ends[1].more


@pytest.mark.parametrize(
    ("bands", "reason"),
    [
        ([band(shift=0.5, error=0.1)], EndReason.ACCURACY),
        ([band(shift=0.5, error=0.3)], EndReason.LIMIT),
        ([], EndReason.NO_BANDS),
    ],
)
def test_trajectories_end_by_the_errors_of_their_bands(bands, reason):
    end = trajectories_end(bands, MdFigures(64, left_out=2), 256, AccuracySettings(), "methanol")
    assert end.reason is reason
    assert end.sentence.startswith("methanol: 64 trajectories ")
    assert ("the accuracy would take about 1" in end.more) == (reason is EndReason.LIMIT)


def test_every_end_of_trajectories_is_one_of_a_stage():
    assert {EndReason(one.value) for one in SamplingEnd} <= set(EndReason)


def test_the_test_says_how_well_it_knows_its_error():
    end = independent_test_end(DECK, IndependentTest(n=50, force_rmse_relative_stderr=0.08), "")
    assert "50 geometries give the force error to 8 %" in end.sentence
    assert "5.7 %" in end.more
    assert end.reason is EndReason.ACCURACY
    assert (
        independent_test_end(DECK, IndependentTest(n=98, force_rmse_relative_stderr=0.08), "").reason is EndReason.LIMIT
    )
    assert independent_test_end(DECK, IndependentTest(n=0), "") is None


def times(**seconds: float) -> list[StageTime]:
    return [StageTime(name, value, 2 * value) for name, value in seconds.items()]


def test_what_is_faster_is_about_the_largest_part():
    assert "the stage 'sample'" in what_is_faster(times(sample=70, test=30), 0.0)
    assert what_is_faster(times(sample=70, test=30), 150.0).startswith("75 % of the time are labels")
    even = what_is_faster(times(**dict.fromkeys(sorted(FASTER)[:6], 1.0)), 0.0)
    assert even == "no stage takes more than 17 % of the time"
    assert what_is_faster([], 0.0) == ""


def test_the_table_adds_up():
    lines = table(times(sample=70, test=30))
    assert [line.split() for line in lines] == [
        ["stage", "seconds", "core-seconds", "share"],
        ["sample", "70.0", "140.0", "70", "%"],
        ["test", "30.0", "60.0", "30", "%"],
        ["all", "100.0", "200.0", "100", "%"],
    ]


def test_cores_are_counted_session_by_session(tmp_path):
    directory = RunDirectory(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    for ranks, seconds in ((2, 10.0), (1, 5.0)):
        context = SimpleNamespace(directory=directory, comm=SimpleNamespace(size=ranks))
        spend(context, "sample", seconds)
    directory.spend("test", 3.0)  # by a version that did not count cores
    assert stage_times(context) == (StageTime("sample", 15.0, 25.0), StageTime("test", 3.0, 3.0))
    assert stage_seconds(context) == {"sample": 15.0, "test": 3.0}


def test_the_page_escapes_what_it_shows():
    shown = ends_table([StageEnd("sample", EndReason.NOTHING_NEW, "<b> & more", "twice")])
    assert "&lt;b&gt; &amp; more" in shown
    assert "nothing new" in shown
    assert "twice" in shown
    assert "Nothing yet" in ends_table([])
    assert "140 of" not in core_time([], "")
    assert "2 min 20 s of all cores. Faster &lt;x&gt;." in core_time(times(sample=70), "faster <x>")
