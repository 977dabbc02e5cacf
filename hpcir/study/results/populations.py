"""The populations of rotamers in production, held against those of the starts; passes between them counted.

Starts that were sampled stand for the canonical ensemble, and production at constant energy keeps it; starts in one
minimum do not, however long the trajectories, until each has passed between rotamers many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import rotor_angle, rotors
from hpcir.molecules.structures import Structure
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.results.records import ConformerVerdict, RotamerPopulation
from hpcir.study.results.trust_map import mirror_states, rotamer_states, stereogenic

FloatArray = NDArray[np.float64]

# Of each trajectory so many snapshots are looked at, at most.
MAX_SNAPSHOTS = 40
# Rotamers are named by all their torsions up to so many; beyond, by how many of these are gauche.
MAX_NAMED = 3
# A population has changed that differs by so many joint standard errors, and by so much.
SIGNIFICANT, MIN_CHANGE = 3.0, 0.02
# Rotamers with a smaller share of starts and production are not listed.
MIN_LISTED = 0.005
WORDS = {0: "t", 1: "g+", -1: "g-"}


@dataclass(frozen=True)
class Visits:
    """The rotamers of R trajectories: names (R, 1 + T), the start first, then T snapshots of production."""

    names: tuple[tuple[str, ...], ...]

    @property
    def passes(self) -> int:
        """Changes of the rotamer from one snapshot to the next: no fewer took place."""
        return sum(one != two for row in self.names for one, two in pairwise(row))

    def populations(self) -> tuple[RotamerPopulation, ...]:
        """Every rotamer's share of starts and of production, the largest first, with standard errors over the
        trajectories."""
        found = []
        for name in sorted({name for row in self.names for name in row}):
            inside = np.array([[one == name for one in row] for row in self.names], float)
            start, production = inside[:, 0], inside[:, 1:].mean(axis=1)
            if max(start.mean(), production.mean()) >= MIN_LISTED:
                found.append(
                    RotamerPopulation(
                        name=name,
                        start=float(start.mean()),
                        start_stderr=_error(start),
                        production=float(production.mean()),
                        production_stderr=_error(production),
                    )
                )
        return tuple(sorted(found, key=lambda row: (-row.production, row.name)))


def _error(values: FloatArray) -> float:
    """The standard error of a share over R trajectories, with 1 / (R + 2) for what so few do not show (Laplace)."""
    count = len(values)
    return float(np.hypot(values.std(ddof=1) / np.sqrt(count), 1 / (count + 2))) if count > 1 else float("nan")


def visits(structure: Structure, graph: BondGraph, blocks: Sequence[TrajectoryBlock]) -> Visits:
    """The rotamers that the valid trajectories of some blocks were in, at their starts and at ends of chunks. A mirror
    image is the same rotamer where the molecule has no stereogenic centre."""
    torsions, mirrored = rotors(graph), not stereogenic(graph)

    def name(frame: FloatArray) -> str:
        angles = np.array([rotor_angle(frame, graph, item) for item in torsions])
        states = tuple(rotamer_states(angles).tolist())
        if len(states) > MAX_NAMED:
            return f"{sum(state != 0 for state in states)} gauche"
        return " ".join(WORDS[state] for state in (max(states, mirror_states(states)) if mirrored else states))

    rows = []
    for block in blocks:
        if block.start_positions is None or not len(block.snapshots):
            continue
        picked = np.unique(np.linspace(0, len(block.snapshots) - 1, MAX_SNAPSHOTS).round().astype(int))
        for replica in np.flatnonzero(block.sane):
            frames = [block.start_positions[..., replica], *block.snapshots[picked][..., replica]]
            rows.append(tuple(name(frame) for frame in frames))
    return Visits(tuple(rows))


def with_populations(
    verdict: ConformerVerdict,
    structure: Structure,
    blocks: Sequence[TrajectoryBlock],
    sampled: bool,
    rotamers: int | None,
) -> ConformerVerdict:
    """The verdict with populations, passes, and a sentence where these cannot be trusted.

    sampled: whether the starts were drawn from the canonical ensemble; rotamers: unlike minima of the model that
    turning about bonds leads to (None: not counted).
    """
    if not verdict.rotatable:
        return verdict
    try:
        graph = bond_graph(structure)
    except InputError:
        return verdict
    found = visits(structure, graph, blocks)
    if not found.names:
        return verdict
    table = found.populations()
    said = [verdict.verdict] if verdict.verdict else []
    if rotamers is None or rotamers > 1:
        said += _doubts(table, found, sampled)
    return replace(verdict, populations=table, passes=found.passes, verdict="; ".join(said))


def _doubts(table: Sequence[RotamerPopulation], found: Visits, sampled: bool) -> list[str]:
    """Reasons why the populations may not be those of the ensemble; none for sampled starts that still hold."""
    if not sampled:
        count = len(found.names)
        return [
            f"all {count} trajectories start in one rotamer and {found.passes} passes to others were seen: the "
            "populations of rotamers are not known"
        ]
    changed = [row for row in table if _changed(row)]
    if not changed:
        return []
    worst = max(changed, key=lambda row: abs(row.production - row.start))
    return [
        f"the populations of rotamers are not in equilibrium: {worst.name} has {_percent(worst.production)} +- "
        f"{_percent(worst.production_stderr)} % in production and {_percent(worst.start)} +- "
        f"{_percent(worst.start_stderr)} % in the sampled starts"
    ]


def _changed(row: RotamerPopulation) -> bool:
    change = abs(row.production - row.start)
    return bool(change > max(MIN_CHANGE, SIGNIFICANT * float(np.hypot(row.start_stderr, row.production_stderr))))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
