"""Events of a molecule's bonds in its trajectories, in words: dissociated clusters, broken bonds, moved protons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.restraint import Restraint
from hpcir.molecules.pieces import EVENT_KINDS, Event
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM, PS

APART_ADVICE = (
    "A cluster evaporates in time: run shorter or colder trajectories (dynamics.duration, dynamics.temperature), which "
    "the spectrum counts as long as they hold together, or hold its pieces together with a flat-bottomed restraint "
    "(dynamics.restraint: 0.5 A)"
)
BROKEN_ADVICE = (
    "A bond breaks where training data are missing, or the molecule reacts: raise sampling.max_labels, or lower "
    "dynamics.temperature"
)
_PHRASES = {"apart": "dissociated", "broken": "broke a bond", "moved": "moved a hydrogen", "formed": "formed a bond"}
_HELD = "had pieces that left each other and were drawn back by the restraint"
# Events and trajectories that a line names.
MAX_NAMED = 6


@dataclass(frozen=True)
class BondEvents:
    """Trajectories in which a cluster dissociated (apart), a bond broke, a hydrogen moved, a bond formed; unmade: left
    out of the spectrum for it; lines: all of it in words; advice: what to do."""

    apart: int = 0
    broken: int = 0
    moved: int = 0
    formed: int = 0
    unmade: int = 0
    lines: tuple[str, ...] = ()
    advice: str = ""


def bond_events(
    blocks: Sequence[IntArray], structure: Structure, timestep: float, count: int, held: bool = False
) -> BondEvents:
    """The events (K, 6) of all blocks (`TrajectoryBlock.events`) in words; timestep in atomic time; count: trajectories
    in all; held: a restraint draws pieces back, and the spectrum has them."""
    rows = np.concatenate([np.zeros((0, 6), np.int64), *blocks])
    own = {kind: rows[rows[:, 1] == index] for index, kind in enumerate(EVENT_KINDS)}
    numbers = {kind: len(set(found[:, 0].tolist())) for kind, found in own.items()}
    lost = ("broken",) if held else ("apart", "broken")
    unmade = len(set(np.concatenate([own[kind][:, 0] for kind in lost]).tolist()))
    phrases = _PHRASES | ({"apart": _HELD} if held else {})
    lines = [
        f"{numbers[kind]} of {count} trajectories {words}"
        f"{', and the spectrum leaves them out' if kind in lost else ''}: "
        f"{_described(own[kind], kind, structure, timestep)}."
        for kind, words in phrases.items()
        if numbers[kind]
    ]
    advice = APART_ADVICE if numbers["apart"] and not held else BROKEN_ADVICE if numbers["broken"] else ""
    return BondEvents(**numbers, unmade=unmade, lines=tuple(lines), advice=advice)


def restraint_line(restraint: Restraint, parts: FloatArray) -> str:
    """The work of a restraint in a sentence; parts (T,) of the time in which it acted on each trajectory."""
    held = int((parts > 0).sum())
    text = (
        f"A restraint held the pieces of the cluster within {restraint.radius / ANGSTROM:.2f} A of its centre of mass"
    )
    if not held:
        return f"{text}, and no trajectory came to it."
    return f"{text}: it acted on {held} of {len(parts)} trajectories, in {100 * parts.mean():.2g} % of their time."


def _described(rows: IntArray, kind: str, structure: Structure, timestep: float) -> str:
    """A description of events, with their trajectories and first times."""
    ordered = rows[np.argsort(rows[:, 5], kind="stable")]
    events = [Event(int(row[0]), kind, tuple(int(a) for a in row[2:5] if a >= 0), int(row[5])) for row in ordered]
    shown = list(dict.fromkeys(event.describe(structure.symbols) for event in events))
    more = f"; {len(shown) - MAX_NAMED} more" if len(shown) > MAX_NAMED else ""
    first: dict[int, int] = {}
    for event in events:
        first.setdefault(event.replica, event.frame)
    times = [f"{replica} at {step * timestep / PS:.2f} ps" for replica, step in list(first.items())[:MAX_NAMED]]
    rest = ", ..." if len(first) > MAX_NAMED else ""
    return f"{'; '.join(shown[:MAX_NAMED])}{more} (trajectory {', '.join(times)}{rest})"
