"""Seconds and core-seconds of every stage, and what would make a run faster."""

from __future__ import annotations

from collections.abc import Sequence

from hpcir.study.context import Context
from hpcir.study.production import pigs
from hpcir.study.production.sets import MAIN_SECONDS
from hpcir.study.results.records import StageTime

# In the manifest, the time of the cores in a stage has the stage's name behind this.
CORES = "cores of "
# The part of all time from which on a stage is worth a sentence.
LARGE = 0.2
# What makes each stage shorter.
FASTER = {
    "compile": "kernels are compiled once for a machine: the next run finds them in its cache",
    "pretrain": "more ranks share its labels and the trainings of its members; labels.pretrain has its numbers",
    "prepare": "more ranks share the labels of its normal modes; a cheaper level of theory or polar: no makes fewer",
    "sample": "more ranks share labels, trainings and exploration; a looser accuracy ends it sooner, "
    "training.steps and sampling.max_labels are its upper limits",
    "trajectories": "more ranks share the blocks of dynamics.lockstep trajectories; a looser accuracy takes fewer",
    "variants": "more ranks share it; spectrum.committee_errors: no leaves the members' trajectories out",
    "test": "more ranks share its labels; test.count has their number",
    "spectrum": "more ranks share its blocks",
    "levels": "more ranks share it; spectrum.levels: no leaves it out",
}


def spend(context: Context, stage: str, seconds: float) -> None:
    """Add wall time of all ranks to a stage's (rank 0)."""
    context.directory.spend(stage, seconds)
    context.directory.spend(CORES + stage, seconds * context.comm.size)


def stage_seconds(context: Context) -> dict[str, float]:
    """Wall time of every stage over all sessions of this run."""
    parts = (MAIN_SECONDS, pigs.PART, CORES)
    return {name: seconds for name, seconds in seconds_by_name(context).items() if not name.startswith(parts)}


def stage_times(context: Context) -> tuple[StageTime, ...]:
    """Wall time and cores' time of every stage over all sessions; those of an earlier version count as one rank."""
    known = seconds_by_name(context)
    return tuple(
        StageTime(name, seconds, known.get(CORES + name, seconds)) for name, seconds in stage_seconds(context).items()
    )


def seconds_by_name(context: Context) -> dict[str, float]:
    """Wall time of every stage and of the main set of trajectories, over all sessions."""
    manifest = context.directory.manifest()
    spent = dict(manifest.get("spent", {}))
    for name, entry in manifest.get("stages", {}).items():
        spent[name] = spent.get(name, 0.0) + entry["seconds"]
    return {name: round(seconds, 3) for name, seconds in spent.items()}


def what_is_faster(times: Sequence[StageTime], label_seconds: float) -> str:
    """One sentence on the stage that took most; label_seconds: of cores, in labels of the last level."""
    total = sum(one.core_seconds for one in times)
    if not times or total <= 0:
        return ""
    largest = max(times, key=lambda one: one.core_seconds)
    share = largest.core_seconds / total
    text = f"{100 * share:.0f} % of the time is the stage '{largest.stage}'"
    hint = FASTER.get(largest.stage, "")
    if label_seconds > 0.5 * total:
        text = f"{100 * label_seconds / total:.0f} % of the time are labels"
        hint = "more ranks share them; a cheaper level of theory below (levels) makes fewer of them do"
    elif share < LARGE:
        return f"no stage takes more than {100 * share:.0f} % of the time"
    return f"{text}: {hint}" if hint else text


def table(times: Sequence[StageTime]) -> list[str]:
    """The table of a run's end, a line a stage, the sum last."""
    total = StageTime("all", sum(one.seconds for one in times), sum(one.core_seconds for one in times))
    whole = max(total.core_seconds, 1e-9)
    head = f"{'stage':<14s} {'seconds':>9s} {'core-seconds':>13s} {'share':>6s}"
    return [
        head,
        *(
            f"{one.stage:<14s} {one.seconds:9.1f} {one.core_seconds:13.1f} {100 * one.core_seconds / whole:5.0f} %"
            for one in (*times, total)
        ),
    ]
