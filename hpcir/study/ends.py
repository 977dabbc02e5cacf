"""Reasons for which the stages of a run ended, and the gain of more: of labels, trainings, trajectories, test."""

from __future__ import annotations

from collections.abc import Sequence

from hpcir.deck.sections import AccuracySettings, Deck
from hpcir.spectra.bands import Band
from hpcir.study.learning.accuracy import ModelShare
from hpcir.study.learning.curve import LearningCurve, StopReason
from hpcir.study.production.convergence import BandErrors, SamplingStop
from hpcir.study.results.records import ChainLevelFigures, EndReason, IndependentTest, MdFigures, StageEnd

ENDS = {
    StopReason.ACCURACY: EndReason.ACCURACY,
    StopReason.GOAL: EndReason.GOAL,
    StopReason.NOTHING_NEW: EndReason.NOTHING_NEW,
    StopReason.ROUNDS: EndReason.LIMIT,
    StopReason.LABEL_BUDGET: EndReason.LIMIT,
}


def level_ends(below: Sequence[ChainLevelFigures]) -> list[StageEnd]:
    """The ends of the levels of theory below the last."""
    found = []
    for level in below:
        counted = f"{level.labels} labels of {level.level}"
        points = [(point.labels, point.force_rmse_kcal_per_mol_angstrom) for point in level.learning]
        if level.stopped is None:
            sentence = f"all {counted} that the deck asks for, learnt in one training"
            found.append(StageEnd("pretrain", EndReason.FIXED, sentence))
        else:
            sentence = f"{counted}: {level.stopped_because}"
            found.append(StageEnd("pretrain", ENDS[level.stopped], sentence, _last_gain(points)))
    return found


def sampling_end(curve: LearningCurve, share: ModelShare | None, wanted: AccuracySettings) -> StageEnd:
    """The end of the rounds of sampling; share: the model's errors' share of the spectrum at their end."""
    assert curve.stopped is not None
    points = [(entry.labels, entry.force_rmse_kcal_per_mol_angstrom) for entry in curve.rounds]
    more = [_last_gain(points)] if len(points) > 1 else []
    if curve.stopped is not StopReason.ACCURACY and share is not None:
        within = "within" if share.meets(wanted) else "not within"
        more.append(f"{share.words()}, {within} {wanted.words()}")
    rounds = "one round" if len(points) == 1 else f"{len(points)} rounds"
    sentence = f"{rounds}, {points[-1][0]} labels: {curve.reason}"
    return StageEnd("sample", ENDS[curve.stopped], sentence, "; ".join(more))


def _last_gain(points: Sequence[tuple[int, float]]) -> str:
    """The gain of the last round, the best guess of the next: points are (labels, held-out force error) of each."""
    if len(points) < 2:
        return ""
    (before, old), (after, new) = points[-2:]
    return (
        f"the last {after - before} labels took the held-out force error from {old:.3g} to {new:.3g} kcal/mol/A"
        if new < old
        else f"the last {after - before} labels did not lower the held-out force error ({new:.3g} kcal/mol/A)"
    )


def training_end(curve: LearningCurve, share: ModelShare | None, deck: Deck, below: bool) -> StageEnd:
    """The lengths of the trainings; share: as of `sampling_end`; below: that they start from the model of a level
    below."""
    steps = deck.training.retrain_steps if below else deck.training.steps
    taken, key = -(-steps // curve.steps_divisor), "training.retrain_steps" if below else "training.steps"
    each = f"{taken} of {steps} steps a member ({key}) in a round"
    if curve.stopped is StopReason.ACCURACY or (share is not None and share.meets(deck.accuracy)):
        sentence = f"{each}: its model is as accurate as the deck asks for, and final without the longer training"
        return StageEnd("trainings", EndReason.ACCURACY, sentence)
    final = deck.training.final_steps if below else max(deck.training.steps, deck.training.final_steps)
    known = "" if curve.steps_divisor > 1 else " (held-out labels did not show that fewer are enough)"
    return StageEnd("trainings", EndReason.LIMIT, f"{each}{known}, and all {final} of the final model")


def trajectories_end(
    bands: Sequence[Band], md: MdFigures, limit: int, wanted: AccuracySettings, name: str = ""
) -> StageEnd:
    """The end of a target's trajectories, of `limit` that the deck allows."""
    count = md.trajectories
    stop = SamplingStop.at(BandErrors.of(bands, count, count - (md.left_out or 0)), limit, wanted)
    sentence = f"{name}: {stop.sentence()}" if name else stop.sentence()
    return StageEnd("trajectories", EndReason(stop.reason.value), sentence, stop.more())


def independent_test_end(deck: Deck, test: IndependentTest, name: str) -> StageEnd | None:
    """The end of a target's test; None where nothing was tested."""
    error = test.force_rmse_relative_stderr
    if not test.n or error is None:
        return None
    before, shifts = f"{name}: " if name else "", [row.shift_error_per_cm for row in test.local_frequencies or ()]
    sentence = f"{before}{test.n} geometries give the force error to {100 * error:.2g} %"
    if shifts:
        sentence += f" and shifts of vibrations to {max(shifts):.2g} cm-1"
    more = f"twice as many would give the force error to {100 * error / 2**0.5:.2g} %"
    # Parts are halves of all at most; labels that failed do not count.
    if test.n <= (deck.test.count + 1) // 2:
        return StageEnd("test", EndReason.ACCURACY, f"{sentence}, of up to {deck.test.count} (test.count)", more)
    return StageEnd("test", EndReason.LIMIT, f"{sentence}; test.count is {deck.test.count}", more)
