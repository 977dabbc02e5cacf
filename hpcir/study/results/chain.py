"""Figures of the chain of levels of theory: labels and learning curve of each level, and what the chain is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpcir.runtime.progress import duration_text
from hpcir.study.learning.chain import LearntLevel
from hpcir.study.learning.curve import LearningCurve
from hpcir.study.results.records import (
    ChainFigures,
    ChainLevelFigures,
    IndependentTest,
    LabelFigures,
    LearningPoint,
    OtherModel,
)

# Names of the further models that the test of a chain is asked about.
FRESH, BELOW = "from fresh weights", "level below"


def points(curve: LearningCurve) -> tuple[LearningPoint, ...]:
    """The rounds of a learning curve."""
    return tuple(
        LearningPoint(
            entry.labels,
            entry.force_rmse_kcal_per_mol_angstrom,
            entry.energy_rmse_kcal_per_mol,
            entry.dipole_rmse_debye,
        )
        for entry in curve.rounds
    )


def level_figures(level: LearntLevel) -> ChainLevelFigures:
    """The figures of a level below the last (rank 0)."""
    curve = level.curve
    return ChainLevelFigures(
        level.level, level.labels, level.failed, level.seconds, curve.reason, points(curve), curve.stopped
    )


def chain_figures(
    below: Sequence[ChainLevelFigures], labels: LabelFigures, curve: LearningCurve, test: IndependentTest
) -> ChainFigures | None:
    """The figures of a chain of two levels or more; None without a level below."""
    if not below:
        return None
    # The last level's seconds are those of the test's labels too.
    each = labels.seconds / max(sum(labels.by_purpose.values()), 1)
    last = ChainLevelFigures(
        labels.level, labels.count, labels.failed, each * labels.count, curve.reason, points(curve), curve.stopped
    )
    at_the_last = each * sum(level.labels for level in below)
    return ChainFigures((*below, last), at_the_last, _verdict(below, last, at_the_last, test))


def _verdict(
    below: Sequence[ChainLevelFigures], last: ChainLevelFigures, at_the_last: float, test: IndependentTest
) -> str:
    counts = ", ".join(f"{level.labels} of {level.level}" for level in below)
    spent = sum(level.seconds for level in below)
    text = (
        f"chain of levels: {last.labels} labels of {last.level} on {counts}; these took {duration_text(spent)} of "
        f"label time, and would have taken {duration_text(at_the_last)} at the last level"
    )
    found = [
        f"{_figure(other)} {words}"
        for name, words in ((FRESH, "without the levels below"), (BELOW, "without the last level"))
        if (other := (test.others or {}).get(name)) is not None
    ]
    if not found or test.force_rmse_kcal_per_mol_angstrom is None:
        return text
    return (
        f"{text}. The test's forces and dipoles: "
        f"{_figure(OtherModel(test.force_rmse_kcal_per_mol_angstrom, test.dipole_rmse_debye))} with the chain, "
        f"{', '.join(found)}"
    )


def _figure(model: OtherModel) -> str:
    force, dipole = model.force_rmse_kcal_per_mol_angstrom, model.dipole_rmse_debye
    shown = ["?" if value is None or not math.isfinite(value) else f"{value:.3g}" for value in (force, dipole)]
    return f"{shown[0]} kcal/mol/A and {shown[1]} D"
