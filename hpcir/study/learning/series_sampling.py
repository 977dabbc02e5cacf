"""Stage sample of a deck with several molecules: seeds first, then fragments of the targets where they are doubtful.

The loop is that of `sample.Sampler`; what differs is where geometries come from. The first are thermal geometries
about conformers of the seeds. Then the committee runs on the targets themselves; the atoms whose forces or charges it
disagrees about give capped fragments to be labelled, until every target runs quietly (Gastegger, Behler, Marquetand,
Chem. Sci. 8, 6924, 2017). In a fragment only the forces of atoms whose surroundings are those of the whole are learnt,
unless the deck wants all of them (`sampling.fragment_forces`).

Of a target that is labelled whole the ends of quiet trajectories are labelled too: a committee of local networks can
agree and be wrong. Where trajectories begin: `exploration_starts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.deck.study import Series, heavy_atoms
from hpcir.labels import Label
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import NEAREST, unlike
from hpcir.molecules.fragments import fragment
from hpcir.molecules.rotamers import random_rotamer
from hpcir.molecules.structures import Structure
from hpcir.sampling.exploration import ExplorationPlan, explore_block
from hpcir.sampling.target_exploration import (
    Piece,
    TargetFindings,
    piece_of,
    pieces_of,
    unlike_pieces,
    whole,
    with_spreads,
)
from hpcir.sampling.trust import ElementReference, references
from hpcir.storage.checksums import digest
from hpcir.storage.journal import Record
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.committee import CommitteeTrainer, groups_of
from hpcir.study.learning.exploration_starts import Block, ExplorationStarts
from hpcir.study.learning.loop import EXPLORED, FOLDER, Sampler, Sampling, round_purpose, spread_threshold
from hpcir.training.dataset import LabelledGroup
from hpcir.training.reduction import Reduction, fit_reductions
from hpcir.units import PS
from hpcir.vibrations.normal_modes import thermal_geometries

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Replicas of a block: so many atoms together, within limits. By the molecule alone, not by the number of ranks.
BLOCK_ATOMS, MOST_REPLICAS = 200, 8
# Core environments nearer than this in the networks' inputs (unit spread) are one.
SAME_ENVIRONMENT = 0.05
# An error as large as this multiple of the usual one (held-out components of forces or dipoles) is met at once in large
# molecules: no reason to take a geometry, and dynamics must get past it to reach the conformers that it will live in.
USUAL = 4.0
# Conformers of each target whose fragments help to fix the networks' inputs before anything is labelled.
FORESEEN = 4


@dataclass(frozen=True)
class Pretrained:
    """What a cheap level of theory gave: its model, and the geometries it was labelled at (rank 0)."""

    model: Model
    geometries: list[Structure]


class MaskedTrainer(CommitteeTrainer):
    """Trains on labels of many molecules; `masks`: which atoms' forces are learnt, by `geometry_key` (rank 0)."""

    def __init__(self, context: Context, functions: Any, masks: Mapping[str, BoolArray]) -> None:
        super().__init__(context, functions)
        self.masks = masks

    def groups(
        self, labelled: Sequence[tuple[Structure, Label]], always_learnt: Sequence[bool] | None = None
    ) -> list[LabelledGroup]:
        return masked_groups(labelled, self.masks, always_learnt)


def geometry_key(numbers: NDArray[np.int64], positions: FloatArray) -> str:
    """A geometry, whatever its level of theory."""
    return digest(np.asarray(numbers, np.int64), np.asarray(positions, np.float64))


def masked_groups(
    labelled: Sequence[tuple[Structure, Label]],
    masks: Mapping[str, BoolArray],
    always_learnt: Sequence[bool] | None = None,
) -> list[LabelledGroup]:
    """Labels as training groups, the forces of atoms that `masks` leaves out not learnt; all are without a mask."""
    groups = []
    for group in groups_of(labelled, always_learnt):
        everything = np.ones(len(group.numbers), bool)
        mask = [masks.get(geometry_key(group.numbers, positions), everything) for positions in group.positions]
        groups.append(replace(group, force_mask=np.array(mask)))
    return groups


class SeriesSampler(Sampler):
    """The loop over seeds and targets."""

    trainer: MaskedTrainer

    def __init__(
        self,
        context: Context,
        farm: LabelFarm,
        series: Series,
        trainer: MaskedTrainer,
        masks: dict[str, BoolArray],
        pretrained: Pretrained | None = None,
        folder: str = FOLDER,
    ) -> None:
        self.context, self.farm, self.series, self.trainer, self.masks = context, farm, series, trainer, masks
        self.pretrained = pretrained.model if pretrained is not None else None
        self.pool = pretrained.geometries if pretrained is not None else []
        self.folder = context.directory / folder
        self.folder.parent.mkdir(exist_ok=True)
        self.graphs = [bond_graph(target) for target in series.targets]
        self.radius = context.deck.model.cutoff
        self.starts = ExplorationStarts(context, series.targets, self.graphs, self._label_minima)

    def run(self) -> tuple[Model, Sampling]:
        """All rounds (collective); the final model and how it came about."""
        if self.pretrained is None:
            fitted = self._inputs() if self.context.root else None
            self.trainer.reductions = self.context.comm.bcast(fitted)
        return super().run()

    def as_pretrained(self, model: Model) -> Pretrained:
        """This level's model and geometries, for a level above it to begin with."""
        labelled = self._training_labels()[0] if self.context.root else []
        return Pretrained(model, [structure for structure, _ in labelled])

    # -- before the first round ---------------------------------------------------------------------------------

    def _inputs(self) -> dict[int, Reduction]:
        """The networks' inputs, from unlabelled geometries of the seeds and of fragments of the targets (rank 0)."""
        sample: dict[bytes, list[Structure]] = {}
        geometries = self._thermal_seeds(4 * len(self.series.seeds), "inputs")
        for index, (target, graph) in enumerate(zip(self.series.targets, self.graphs, strict=True)):
            for piece in self._foreseen(index, target, graph):
                geometries.append(piece.structure)
        for structure in geometries:
            sample.setdefault(structure.numbers.tobytes(), []).append(structure)
        return fit_reductions(
            self.trainer.functions,
            [(items[0].numbers, np.array([item.positions for item in items])) for items in sample.values()],
            self.context.deck.model.inputs,
        )

    def _foreseen(self, index: int, target: Structure, graph: BondGraph) -> Iterator[Piece]:
        """Fragments of a target's thermal conformers, one conformer a fragment, centres spread over the molecule."""
        temperatures = self.context.deck.sampling.temperatures
        heavy = np.flatnonzero(target.numbers != 1)
        for number in range(FORESEEN):
            random = self.context.random("foreseen", index, number)
            rotamer = random_rotamer(target, graph, random)
            temperature = temperatures[number % len(temperatures)]
            frame = rotamer.moved(thermal_geometries(rotamer, temperature, 1, random)[0])
            for centre in heavy[:: max(1, len(heavy) // 3)]:
                item = fragment(frame, int(centre), self.radius, self._largest, graph=graph)
                yield piece_of(item, np.ones(len(target)))

    @property
    def _largest(self) -> int:
        return self.context.deck.sampling.largest_fragment

    def _initial(self) -> list[Structure]:
        """The first geometries: some of those that the level below was labelled at, else thermal ones about
        conformers of the seeds."""
        settings = self.context.deck.sampling
        count = min(settings.initial_labels, settings.max_labels)
        if self.pool:
            picked = self.context.random("initial geometries").permutation(len(self.pool))[:count]
            return [self.pool[index] for index in sorted(picked.tolist())]
        return self._thermal_seeds(count, "initial geometries")

    def _thermal_seeds(self, count: int, purpose: str) -> list[Structure]:
        """`count` thermal geometries, every seed in turn, its conformers and the temperatures in turn."""
        settings, seeds = self.context.deck.sampling, self.series.seeds
        geometries = []
        for index, seed in enumerate(seeds):
            found = self._conformers(index, seed)
            for number, place in enumerate(range(index, count, len(seeds))):
                conformer = found[number % len(found)]
                temperature = settings.temperatures[(number // len(found)) % len(settings.temperatures)]
                random = self.context.random(purpose, place)
                frame = conformer.moved(thermal_geometries(conformer, temperature, 1, random)[0])
                geometries.append(whole(frame).structure)
        return geometries

    def _conformers(self, index: int, seed: Structure) -> list[Structure]:
        """Unlike conformers of a seed, the given one first."""
        wanted, graph = self.context.deck.sampling.conformers, bond_graph(seed)
        random = self.context.random("seed conformers", index)
        found = [seed, *(random_rotamer(seed, graph, random) for _ in range(4 * (wanted - 1)))]
        return [found[k] for k in unlike(found, NEAREST, graph)][:wanted]

    # -- exploration on the targets -----------------------------------------------------------------------------

    def _blocks(self) -> list[Block]:
        """Who explores in a round: the deck's trajectories shared evenly by the targets, the largest target first."""
        settings, targets = self.context.deck.sampling, self.series.targets
        each = -(-settings.trajectories // len(targets))
        blocks = []
        for index in sorted(range(len(targets)), key=lambda k: -len(targets[k])):
            size = max(1, min(MOST_REPLICAS, BLOCK_ATOMS // len(targets[index]), each))
            for number, first in enumerate(range(0, each, size)):
                ids = np.arange(first, min(first + size, each)) + 1000 * index
                blocks.append(Block(index, ids, settings.temperatures[number % len(settings.temperatures)]))
        return blocks

    def _explore(self, number: int, model: Model) -> tuple[list[Structure], dict[str, Any]]:
        """Explore all targets on all ranks; the next geometries (rank 0) and the round's figures."""
        context = self.context
        blocks = self._blocks()
        key = context.comm.bcast(self._exploration_key(number, model) if context.root else None)
        self.starts.prepare(number, model, key)
        found = self._found(number, model, blocks, key)
        self.starts.keep_ends(blocks, found)
        if found is None:
            return [], context.comm.bcast(None)
        figures: dict[str, Any] = context.comm.bcast(self._figures(blocks, found))
        threshold = spread_threshold(model, self._tolerated(model))
        pieces: list[Piece] = []
        for block, findings in zip(blocks, found, strict=True):
            target, graph = self.series.targets[block.target], self.graphs[block.target]
            told = findings if self.starts.labelled_whole(block.target) else findings.taken()
            pieces += pieces_of(target, graph, told, threshold, self.radius, self._largest)
        return self._chosen(number, pieces), figures

    def _found(self, number: int, model: Model, blocks: list[Block], inputs: str) -> list[TargetFindings] | None:
        """What each block of a round finds, in order on rank 0 (None elsewhere); known ones from their journals."""
        records = self.context.deal_once(
            f"explore round {number}",
            EXPLORED,
            [digest(inputs, index) for index in range(len(blocks))],
            lambda index: to_record(self._explore_target(blocks[index], model, number)),
            "blocks",
        )
        return None if records is None else [from_record(record) for record in records]

    def _explore_target(self, block: Block, model: Model, number: int) -> TargetFindings:
        context, settings = self.context, self.context.deck.sampling
        target = self.series.targets[block.target]
        starts = [self.starts.start(block, item, number) for item in block.ids.tolist()]
        plan = ExplorationPlan(
            temperature=block.temperature,
            force_spread=spread_threshold(model, self._tolerated(model)),
            dipole_spread=spread_threshold(model, self._tolerated(model, "dipole", target), "dipole"),
            duration=settings.duration,
            timestep=context.deck.dynamics.timestep,
            time_constant=context.deck.dynamics.time_constant,
        )
        evaluator = Evaluator(model, target.numbers, len(starts), charge=target.charge)
        seed = int(digest(context.deck.seed, f"explore {number}")[:12], 16)
        findings = explore_block(evaluator, target, np.array(starts), block.ids, seed, plan, context.stop.check)
        return with_spreads(model, target, findings)

    def _tolerated(self, model: Model, quantity: str = "force", target: Structure | None = None) -> float:
        """The expected error of an atom's force, or of a target's dipole, that exploration goes on with."""
        settings = self.context.deck.sampling
        error = settings.force_error if target is None else settings.dipole_error * self._size(target)
        return max(error, USUAL * model.error.get(f"{quantity}_rmse", 0.0))

    def _size(self, target: Structure) -> float:
        """By how much more than a fragment's a target's dipole may be off: independent errors add as their root."""
        return max(1.0, heavy_atoms(target) / self._largest) ** 0.5

    def _figures(self, blocks: list[Block], found: list[TargetFindings]) -> dict[str, Any]:
        """Explored time and takes, in all and by target; the time between takes is the restless target's."""
        by_target: dict[str, dict[str, float]] = {}
        for block, findings in zip(blocks, found, strict=True):
            entry = by_target.setdefault(
                self.series.targets[block.target].name, {"explored_picoseconds": 0.0, "takes": 0, "insane": 0}
            )
            entry["explored_picoseconds"] += findings.time / PS
            entry["takes"] += findings.takes
            entry["insane"] += findings.insane
        entries = by_target.values()
        return {
            "explored_picoseconds": sum(entry["explored_picoseconds"] for entry in entries),
            "takes": int(sum(entry["takes"] for entry in entries)),
            "insane": int(sum(entry["insane"] for entry in entries)),
            "picoseconds_between_takes": min(e["explored_picoseconds"] / max(e["takes"], 1) for e in entries),
            "targets": by_target,
        }

    def training_environments(self) -> dict[int, ElementReference]:
        """The environments that were learnt from, by element, for the trust map (rank 0)."""
        from hpcir.descriptors.derivatives import features_only

        labelled, _ = self._training_labels()
        frames = []
        for group in masked_groups(labelled, self.masks):
            features = features_only(self.trainer.functions, group.numbers, group.positions)
            assert group.force_mask is not None
            for values, mask in zip(features, group.force_mask, strict=True):
                frames.append((group.numbers[mask], values[mask]))
        return references(frames)

    def _label_minima(self, structures: Sequence[Structure], number: int) -> list[Label | None]:
        """Label minima of round `number`'s model for the next round, as far as there is room (collective)."""
        used = self.context.comm.bcast(self.labels_used() if self.context.root else None)
        room = max(0, min(len(structures), self.context.deck.sampling.max_labels - used))
        labels = self.farm.label(structures[:room], round_purpose(number + 1))
        return [*labels, *[None] * (len(structures) - room)]

    # -- selection ----------------------------------------------------------------------------------------------

    def _chosen(self, number: int, pieces: list[Piece]) -> list[Structure]:
        """The pieces of the next round: duplicates merged, then so many at random as there is room for: the farthest
        from what is known are the most strained, and teach less about what trajectories meet (rank 0)."""
        settings = self.context.deck.sampling
        room = max(0, min(settings.round_labels, settings.max_labels - self.labels_used()))
        pieces = [piece for piece in pieces if piece.learnt.any()]
        if not pieces or not room:
            return []
        inputs = [self._inputs_of(piece) for piece in pieces]
        kept = unlike_pieces(pieces, inputs, SAME_ENVIRONMENT)
        chosen = self.context.random("chosen", number).permutation(len(kept))[:room]
        result = []
        for k in sorted(chosen.tolist()):
            piece = pieces[kept[k]]
            if settings.fragment_forces == "core":
                self.masks[geometry_key(piece.structure.numbers, piece.structure.positions)] = piece.learnt
            result.append(piece.structure)
        return result

    def _inputs_of(self, piece: Piece) -> FloatArray:
        """(N, K) inputs of the networks."""
        from hpcir.descriptors.derivatives import features_only

        structure, reductions = piece.structure, self.trainer.reductions or {}
        features = features_only(self.trainer.functions, structure.numbers, structure.positions[None])[0]
        return np.array([reductions[int(z)].apply(f) for z, f in zip(structure.numbers, features, strict=True)])


def to_record(findings: TargetFindings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and attributes of a journal record of one explored block."""
    arrays = {
        "geometries": findings.geometries,
        "force_spreads": findings.force_spreads,
        "charge_spreads": findings.charge_spreads,
    }
    return arrays, {"time": findings.time, "takes": findings.takes, "insane": findings.insane}


def from_record(record: Record) -> TargetFindings:
    """The inverse of `to_record`."""
    arrays, attributes = record.arrays, record.attributes
    return TargetFindings(
        arrays["geometries"],
        arrays["force_spreads"],
        arrays["charge_spreads"],
        attributes["time"],
        attributes["takes"],
        attributes["insane"],
    )
