"""Sources of geometries for the learning loop: their protocol, and the exploration over ranks that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.ring_polymer import RingPolymer
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.bead_exploration import explore_rings
from hpcir.sampling.exploration import ExplorationPlan, explore_block
from hpcir.sampling.target_exploration import TargetFindings, with_spreads
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.journal import Record
from hpcir.study.context import Context, JournalEntry
from hpcir.study.label_farm import Candidate
from hpcir.study.learning.curve import ExplorationFigures, TargetExploration
from hpcir.units import PS

FOLDER = layout.EXPLORATION
# Ring polymers that explore together, where nuclei are quantum ones; for this part of the trajectories' time, and
# checked after so many steps.
RINGS, RING_SHARE, BEAD_CHECK = 4, 4, 10


@dataclass(frozen=True)
class Block:
    """Replicas of one target that explore together: its index, the trajectories' ids, the temperature in hartree; ring:
    as ring polymers."""

    target: int
    ids: IntArray
    temperature: float
    ring: RingPolymer | None = None


@dataclass(frozen=True)
class Tolerance:
    """Expected errors that exploration tolerates: of an atom's force (hartree/bohr) and of the dipole (e bohr)."""

    force: float
    dipole: float


@dataclass(frozen=True)
class Exploration:
    """A round of exploration on rank 0: its blocks, and the findings of each."""

    blocks: Sequence[Block]
    found: Sequence[TargetFindings]


class GeometrySource(Protocol):
    """Geometries for the learning loop: the first ones, exploration with a model, and the choice from what it found."""

    targets: Sequence[Structure]

    def first(self) -> list[Candidate] | None:
        """The geometries of the first round (collective; rank 0's list counts)."""

    def explore(self, number: int, model: Model) -> Exploration | None:
        """Explore with the model of round `number` on all ranks (collective; None but on rank 0)."""

    def choose(self, number: int, model: Model, exploration: Exploration) -> list[Candidate]:
        """The geometries of the next round, as many as the label budget allows (rank 0)."""


def round_purpose(number: int) -> str:
    """The purpose of a round's labels in the label store."""
    return f"round {number}"


def round_key(context: Context, number: int, model: Model) -> str:
    """A digest of all that the findings of a round depend on."""
    settings = context.deck.model_dump(mode="json")
    return digest(number, settings["sampling"], settings["dynamics"], settings["seed"], model.error, model.digest)


@collective
def explore(
    context: Context,
    number: int,
    model: Model,
    targets: Sequence[Structure],
    blocks: Sequence[Block],
    starts_of: Callable[[int, Block], FloatArray],
    tolerance_of: Callable[[Structure], Tolerance],
) -> Exploration | None:
    """Explore all blocks of round `number` over the ranks; known findings come from their journals (collective).

    starts_of(index, block) -> (R, N, 3) bohr. Rank 0 has the findings, in the order of the blocks; None elsewhere.
    """
    key = context.on_root(lambda: round_key(context, number, model))

    def work(index: int) -> JournalEntry:
        block = blocks[index]
        target = targets[block.target]
        starts = starts_of(index, block)
        return _to_record(_explored(context, number, model, target, block, starts, tolerance_of(target)))

    keys = [digest(key, index) for index in range(len(blocks))]
    records = context.map_journalled(f"explore round {number}", FOLDER, keys, work, "blocks")
    return None if records is None else Exploration(blocks, [_from_record(record) for record in records])


def _explored(
    context: Context,
    number: int,
    model: Model,
    target: Structure,
    block: Block,
    starts: FloatArray,
    tolerance: Tolerance,
) -> TargetFindings:
    settings, dynamics = context.deck.sampling, context.deck.dynamics
    plan = ExplorationPlan(
        temperature=block.temperature,
        force_spread=model.spread_threshold(tolerance.force),
        dipole_spread=model.spread_threshold(tolerance.dipole, "dipole"),
        duration=settings.duration if block.ring is None else settings.duration / RING_SHARE,
        timestep=dynamics.timestep,
        time_constant=dynamics.time_constant,
    )
    seed, check = int(digest(context.deck.seed, f"explore {number}")[:12], 16), context.stop.check
    lanes = len(starts) * (1 if block.ring is None else block.ring.beads)
    evaluator = Evaluator(model, target.numbers, lanes, charge=target.charge)
    if block.ring is None:
        findings = explore_block(evaluator, target, starts, block.ids, seed, plan, check)
    else:
        plan = replace(plan, check_every=BEAD_CHECK)
        findings = explore_rings(evaluator, target, block.ring, starts, block.ids, seed, plan, check)
    return with_spreads(model, target, findings)


def _to_record(findings: TargetFindings) -> JournalEntry:
    """Arrays and attributes of a journal record of one explored block."""
    arrays = {
        "geometries": findings.geometries,
        "force_spreads": findings.force_spreads,
        "charge_spreads": findings.charge_spreads,
    }
    return arrays, {"time": findings.time, "takes": findings.takes, "insane": findings.insane}


def _from_record(record: Record) -> TargetFindings:
    """The inverse of `_to_record`."""
    arrays, attributes = record.arrays, record.attributes
    return TargetFindings(
        arrays["geometries"],
        arrays["force_spreads"],
        arrays["charge_spreads"],
        attributes["time"],
        attributes["takes"],
        attributes["insane"],
    )


def exploration_figures(targets: Sequence[Structure], exploration: Exploration) -> ExplorationFigures:
    """Explored time (ps) and geometries taken of a round, in all and by target; the smallest time between takes."""
    by_target: dict[str, TargetExploration] = {}
    for index in dict.fromkeys(block.target for block in exploration.blocks):
        pairs = zip(exploration.blocks, exploration.found, strict=True)
        own = [findings for block, findings in pairs if block.target == index]
        by_target[targets[index].name] = TargetExploration(
            sum(item.time for item in own) / PS,
            sum(item.takes for item in own),
            sum(item.insane for item in own),
        )
    found = by_target.values()
    return ExplorationFigures(
        explored_picoseconds=sum(item.explored_picoseconds for item in found),
        takes=sum(item.takes for item in found),
        insane=sum(item.insane for item in found),
        picoseconds_between_takes=min(item.explored_picoseconds / max(item.takes, 1) for item in found),
        targets=by_target,
    )
