"""The populations of rotamers in production, held against the canonical ones; passes between them counted.

Starts that were sampled stand for the canonical ensemble, and production at constant energy keeps it; starts in one
minimum do not, however long the trajectories, until each has passed between rotamers many times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.rotamer_names import RotamerNames
from hpcir.molecules.structures import Structure
from hpcir.sampling.tempering import Basins
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.canonical_starts import Canonical
from hpcir.study.results.records import ConformerVerdict, RotamerPopulation

# Of each trajectory so many snapshots are looked at, at most.
MAX_SNAPSHOTS = 40
# A population has changed that differs by so many joint standard errors, and by so much.
SIGNIFICANT, MIN_CHANGE = 3.0, 0.02
# Rotamers with a smaller share of starts and production are not listed.
MIN_LISTED = 0.005


@dataclass(frozen=True)
class Visits:
    """The rotamers of R trajectories: names (R, 1 + T), the start first, then T snapshots of production."""

    names: tuple[tuple[str, ...], ...]

    @property
    def passes(self) -> int:
        """Changes of the rotamer from one snapshot to the next: no fewer took place."""
        return sum(one != two for row in self.names for one, two in pairwise(row))

    def populations(
        self, canonical: Basins | None = None, harmonic: Mapping[str, float] | None = None
    ) -> tuple[RotamerPopulation, ...]:
        """Every rotamer's share of starts, of production and of the canonical ensemble where it was sampled, the
        largest first, with standard errors over the trajectories (over the chains of the canonical one); harmonic: the
        weights of the model's minima by name, where they are known."""
        found = []
        known = {} if canonical is None else canonical.table
        for name in sorted({name for row in self.names for name in row} | set(known)):
            inside = np.array([[one == name for one in row] for row in self.names], float)
            start, production = inside[:, 0], inside[:, 1:].mean(axis=1)
            share, error = known.get(name, (0.0, 0.0))
            if max(start.mean(), production.mean(), share) >= MIN_LISTED:
                found.append(
                    RotamerPopulation(
                        name=name,
                        start=float(start.mean()),
                        start_stderr=_error(start),
                        production=float(production.mean()),
                        production_stderr=_error(production),
                        canonical=None if canonical is None else float(share),
                        canonical_stderr=None if canonical is None else float(error),
                        harmonic=harmonic.get(name, 0.0) if harmonic else None,
                    )
                )
        return tuple(sorted(found, key=lambda row: (-row.production, row.name)))


def _error(values: FloatArray) -> float:
    """The standard error of a share over R trajectories, with 1 / (R + 2) for what so few do not show (Laplace)."""
    count = len(values)
    return float(np.hypot(values.std(ddof=1) / np.sqrt(count), 1 / (count + 2))) if count > 1 else float("nan")


def visits(graph: BondGraph, blocks: Iterable[TrajectoryBlock]) -> Visits:
    """The rotamers that the valid trajectories of some blocks were in, at their starts and at ends of chunks. A mirror
    image is the same rotamer where the molecule has no stereogenic centre."""
    name = RotamerNames(graph).name
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
    blocks: Iterable[TrajectoryBlock],
    canonical: Canonical | None,
    rotamers: int | None,
) -> ConformerVerdict:
    """The verdict with populations, passes, and a sentence for each reason why these cannot be trusted.

    canonical: the ensemble that the starts were drawn from, where it was sampled; rotamers: unlike minima of the model
    that turning about bonds and puckering rings lead to (None: not counted).
    """
    try:
        graph = bond_graph(structure)
    except InputError:
        return verdict
    if not RotamerNames(graph).several:
        return verdict
    found = visits(graph, blocks)
    if not found.names:
        return verdict
    table = found.populations(_by_rotamers(canonical), None if canonical is None else canonical.harmonic)
    said = [verdict.verdict] if verdict.verdict else []
    if rotamers is None or rotamers > 1:
        said += _doubts(table, found, canonical)
    return replace(
        verdict,
        populations=table,
        passes=found.passes,
        sampling=None if canonical is None else canonical.facts,
        left_out=None if canonical is None else canonical.left_out,
        verdict="; ".join(said),
    )


def _by_rotamers(canonical: Canonical | None) -> Basins | None:
    """The canonical populations where they are those of rotamers, and not of families."""
    return canonical.basins if canonical is not None and canonical.by_rotamers else None


def _doubts(table: Sequence[RotamerPopulation], found: Visits, canonical: Canonical | None) -> list[str]:
    """Reasons why the populations may not be those of the ensemble; none for sampled starts that still hold."""
    if canonical is None:
        count = len(found.names)
        return [
            f"all {count} trajectories start in one rotamer and {found.passes} passes to others were seen: the "
            "populations of rotamers are not known"
        ]
    said = canonical.shortcomings
    changed = [row for row in table if _changed(row)]
    if changed:
        worst = max(changed, key=lambda row: abs(row.production - _right(row)[0]))
        share, error = _right(worst)
        said.append(
            f"the populations of rotamers are not in equilibrium: {worst.name} has {_percent(worst.production)} +- "
            f"{_percent(worst.production_stderr)} % in production and {_percent(share)} +- {_percent(error)} % in the "
            f"{'sampled starts' if worst.canonical is None else 'canonical ensemble'}"
        )
    return said


def _right(row: RotamerPopulation) -> tuple[float, float]:
    """The share that a rotamer should have, with its error: the canonical one, or that of the sampled starts."""
    if row.canonical is None or row.canonical_stderr is None:
        return row.start, row.start_stderr
    return row.canonical, row.canonical_stderr


def _changed(row: RotamerPopulation) -> bool:
    share, error = _right(row)
    change = abs(row.production - share)
    return bool(change > max(MIN_CHANGE, SIGNIFICANT * float(np.hypot(error, row.production_stderr))))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
