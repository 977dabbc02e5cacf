"""The main trajectories of a target in parts, until the bands' sampling errors are within the deck's accuracy.

All trajectories that the deck allows are planned: their numbers, starts and blocks do not depend on how many are run. A
run that continues with a tighter accuracy runs the rest, and one that takes all has the same as without parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hpcir.runtime.mpi import collective
from hpcir.study.context import Context
from hpcir.study.production import sets
from hpcir.study.production.convergence import FIRST_LOOK, BandErrors, look_counts
from hpcir.study.production.sets import TrajectorySet

# The bands' sampling errors of the trajectories that a set has, the same on all ranks (collective).
ErrorsOf = Callable[[Context, TrajectorySet], BandErrors]


@collective
def run_in_parts(
    context: Context, main: TrajectorySet, beside: list[TrajectorySet], errors_of: ErrorsOf
) -> list[TrajectorySet]:
    """Run a main set until its bands are as accurate as the deck asks for, and sets beside it with its first part
    (collective): the sets with their files, the main one first.

    What is decided depends on the trajectories alone. Those that are there from before count, whatever the accuracy.
    """
    counts = part_counts(context, main)
    for number, count in enumerate(counts):
        main = replace(main, part=count if count < main.trajectories else None)
        main, *beside = _run(context, [main, *beside])
        if count == counts[-1]:
            break
        errors = errors_of(context, main)
        enough = errors.surely_meets(context.deck.accuracy)
        if context.root:
            _say(context, errors, main.trajectories, enough)
        if enough and not sets.is_there(context, replace(main, part=counts[number + 1])):
            break
    return [main, *beside]


def part_counts(context: Context, main: TrajectorySet) -> tuple[int, ...]:
    """The numbers of trajectories at the ends of the parts."""
    return look_counts(main.trajectories, context.deck.dynamics.lockstep, max(FIRST_LOOK, main.least))


def first_blocks(context: Context, main: TrajectorySet) -> tuple[str, ...]:
    """The files of the first part of a set that was run, whatever the accuracy."""
    return main.blocks[: -(-part_counts(context, main)[0] // context.deck.dynamics.lockstep)]


def _say(context: Context, errors: BandErrors, limit: int, enough: bool) -> None:
    """The errors so far, and a warning where the upper limit will come before the accuracy (rank 0)."""
    text, wanted = f"{context.structure.name}: {errors.words()}", context.deck.accuracy
    needed = errors.needed(wanted)
    if enough or needed is None or needed <= limit:
        context.progress.log(f"{text}: {'no more are needed' if enough else 'more are run'}")
        return
    context.progress.log(
        f"{text}; {wanted.words()} would take about {needed} trajectories, {needed / errors.count:.2g} times the time "
        f"of these, and dynamics.trajectories allows {limit}: the errors will be larger than the deck's accuracy",
        warning=True,
    )


def _run(context: Context, chosen: list[TrajectorySet]) -> list[TrajectorySet]:
    """Run sets together, the main one first, and keep its time: the whole is shared out by the trajectories."""
    began = time.monotonic()
    try:
        return sets.run_sets(context, chosen)
    finally:
        if context.root:
            share = chosen[0].taken / sum(one.taken for one in chosen)
            context.directory.spend(sets.MAIN_SECONDS, (time.monotonic() - began) * share)
