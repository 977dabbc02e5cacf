"""Geometries of several molecules, large or flexible ones: seeds first, then fragments around uncertain atoms.

The first are thermal geometries about conformers of the seeds. Then the committee runs on the targets themselves; the
atoms whose forces or charges it disagrees about give capped fragments to be labelled, until no target exceeds the
tolerance (Gastegger, Behler, Marquetand, Chem. Sci. 8, 6924, 2017). In a fragment only the forces of atoms whose
surroundings are those of the whole are learnt, unless the deck wants all of them (`sampling.fragment_forces`).

Of a target that is labelled whole the final geometries of completed trajectories are labelled too: a committee of local
networks can agree and be wrong. Starts of trajectories: `exploration_starts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.study import Study, heavy_atoms
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import MIN_DISTANCE, unlike
from hpcir.molecules.fragments import fragment
from hpcir.molecules.rotamers import random_rotamer
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.target_exploration import Piece, piece_of, pieces_of, unlike_pieces, whole
from hpcir.study.context import Context
from hpcir.study.label_farm import Candidate, LabelBudget, candidates
from hpcir.study.learning.committee import CommitteeTrainer
from hpcir.study.learning.exploration_starts import ExplorationStarts
from hpcir.study.learning.source import (
    RINGS,
    Block,
    Exploration,
    Tolerance,
    explore,
    round_key,
    round_purpose,
)
from hpcir.study.nuclei import usual_ring
from hpcir.training.reduction import Reduction, fit_reductions
from hpcir.vibrations.normal_modes import thermal_geometries

# Replicas of a block: so many atoms together, within limits. By the molecule alone, not by the number of ranks.
BLOCK_ATOMS, MAX_REPLICAS = 200, 8
# Core environments nearer than this in the networks' inputs (unit spread) are one.
MAX_DUPLICATE_DISTANCE = 0.05
# Tolerated error as a multiple of the usual one (held-out components of forces or dipoles): large molecules reach less
# at once, and dynamics must get past it to reach the conformers that production will visit.
TOLERATED_MULTIPLE = 4.0
# Conformers of each target whose fragments help to fix the networks' inputs before anything is labelled.
CONFORMERS_PER_TARGET = 4


class FragmentSource:
    """The source for the seeds and targets of a study.

    pool: what the level of theory below was labelled at, with the forces learnt there (rank 0); empty: thermal seeds.
    """

    def __init__(
        self,
        context: Context,
        budget: LabelBudget,
        study: Study,
        trainer: CommitteeTrainer,
        pool: Sequence[Candidate] = (),
    ) -> None:
        self.context, self.budget, self.study, self.trainer, self.pool = context, budget, study, trainer, pool
        self.targets: Sequence[Structure] = study.targets
        self.graphs = [bond_graph(target) for target in study.targets]
        self.radius = context.deck.model.cutoff
        self.starts = ExplorationStarts(context, study, self.graphs, self._label_minima)

    @property
    def _largest(self) -> int:
        return self.context.deck.sampling.largest_fragment

    # -- before the first round ---------------------------------------------------------------------------------

    @collective
    def first(self) -> list[Candidate] | None:
        """The first geometries: some of those that the level below was labelled at, else thermal ones about
        conformers of the seeds. Fixes the networks' inputs where no level below has (collective)."""
        if self.trainer.reductions is None:
            self.trainer.reductions = self.context.on_root(self._inputs)
        return self.context.at_root(self._first)

    def _first(self) -> list[Candidate]:
        settings = self.context.deck.sampling
        count = min(settings.initial_labels, settings.max_labels)
        if self.pool:
            picked = self.context.random("initial geometries").permutation(len(self.pool))[:count]
            chosen = [self.pool[index] for index in sorted(picked.tolist())]
            return [Candidate(item.structure, round_purpose(0), item.learnt) for item in chosen]
        return candidates(self._thermal_seeds(count, "initial geometries"), round_purpose(0))

    def _inputs(self) -> dict[int, Reduction]:
        """The networks' inputs, from unlabelled geometries of the seeds and of fragments of the targets (rank 0)."""
        sample: dict[bytes, list[Structure]] = {}
        geometries = self._thermal_seeds(4 * len(self.study.seeds), "inputs")
        for index, (target, graph) in enumerate(zip(self.targets, self.graphs, strict=True)):
            geometries += [piece.structure for piece in self._thermal_fragments(index, target, graph)]
        for structure in geometries:
            sample.setdefault(structure.numbers.tobytes(), []).append(structure)
        return fit_reductions(
            self.trainer.functions,
            [(items[0].numbers, np.array([item.positions for item in items])) for items in sample.values()],
            self.context.deck.model.inputs,
        )

    def _thermal_fragments(self, index: int, target: Structure, graph: BondGraph) -> Iterator[Piece]:
        """Fragments of a target's thermal conformers, one conformer a fragment, centres spread over the molecule."""
        temperatures = self.context.deck.sampling.temperatures
        heavy = np.flatnonzero(target.numbers != 1)
        for number in range(CONFORMERS_PER_TARGET):
            random = self.context.random("foreseen", index, number)
            rotamer = random_rotamer(target, graph, random)
            temperature = temperatures[number % len(temperatures)]
            frame = rotamer.moved(thermal_geometries(rotamer, temperature, 1, random)[0])
            for centre in heavy[:: max(1, len(heavy) // 3)]:
                item = fragment(frame, int(centre), self.radius, self._largest, graph=graph)
                yield piece_of(item, np.ones(len(target)))

    def _thermal_seeds(self, count: int, purpose: str) -> list[Structure]:
        """`count` thermal geometries, every seed in turn, its conformers and the temperatures in turn; where nuclei are
        quantum ones every other geometry of a conformer and a temperature has zero-point amplitudes."""
        zero_point = self.context.deck.dynamics.nuclei != "classical"
        settings, seeds = self.context.deck.sampling, self.study.seeds
        geometries = []
        for index, seed in enumerate(seeds):
            found = self._conformers(index, seed)
            for number, place in enumerate(range(index, count, len(seeds))):
                conformer = found[number % len(found)]
                temperature = settings.temperatures[(number // len(found)) % len(settings.temperatures)]
                random = self.context.random(purpose, place)
                quantum = zero_point and number // (len(found) * len(settings.temperatures)) % 2 == 1
                frame = conformer.moved(thermal_geometries(conformer, temperature, 1, random, quantum)[0])
                geometries.append(whole(frame).structure)
        return geometries

    def _conformers(self, index: int, seed: Structure) -> list[Structure]:
        """Unlike conformers of a seed, the given one first."""
        wanted, graph = self.context.deck.sampling.conformers, bond_graph(seed)
        random = self.context.random("seed conformers", index)
        found = [seed, *(random_rotamer(seed, graph, random) for _ in range(4 * (wanted - 1)))]
        return [found[k] for k in unlike(found, MIN_DISTANCE, graph)][:wanted]

    # -- exploration on the targets -----------------------------------------------------------------------------

    def _blocks(self) -> list[Block]:
        """The blocks of a round: the deck's trajectories shared evenly by the targets, the largest target first; with
        quantum nuclei as many blocks of ring polymers again."""
        settings, targets = self.context.deck.sampling, self.targets
        each = -(-settings.trajectories // len(targets))
        blocks = []
        for index in sorted(range(len(targets)), key=lambda k: -len(targets[k])):
            size = max(1, min(MAX_REPLICAS, BLOCK_ATOMS // len(targets[index]), each))
            for number, first in enumerate(range(0, each, size)):
                ids = np.arange(first, min(first + size, each)) + 1000 * index
                blocks.append(Block(index, ids, settings.temperatures[number % len(settings.temperatures)]))
            if (ring := usual_ring(self.context.deck.dynamics, targets[index])) is not None:
                rings = min(size, RINGS)
                for first in range(0, -(-each // size) * rings, rings):
                    ids = np.arange(each + first, each + first + rings) + 1000 * index
                    blocks.append(Block(index, ids, ring.temperature, ring))
        return blocks

    @collective
    def explore(self, number: int, model: Model) -> Exploration | None:
        """Committee dynamics of all targets, of ring polymers too where nuclei are quantum ones (collective)."""
        context, blocks = self.context, self._blocks()
        self.starts.prepare(number, model, context.on_root(lambda: round_key(context, number, model)))

        def starts(index: int, block: Block) -> FloatArray:
            return np.array([self.starts.start(block, item, number) for item in block.ids.tolist()])

        found = explore(context, number, model, self.targets, blocks, starts, lambda t: self._tolerance(model, t))
        self.starts.keep_ends(found)
        return found

    def _tolerance(self, model: Model, target: Structure) -> Tolerance:
        """The expected errors that exploration of a target tolerates; a dipole's grows with the root of its size."""
        settings = self.context.deck.sampling
        size = max(1.0, heavy_atoms(target) / self._largest) ** 0.5
        return Tolerance(
            max(settings.force_error, TOLERATED_MULTIPLE * model.error.get("force_rmse", 0.0)),
            max(settings.dipole_error * size, TOLERATED_MULTIPLE * model.error.get("dipole_rmse", 0.0)),
        )

    @collective
    def _label_minima(self, structures: Sequence[Structure], number: int) -> list[Label | None]:
        """Label minima of round `number`'s model for the next round, as far as there is room (collective)."""
        room = self.context.on_root(lambda: self.budget.room(len(structures)))
        labels = self.budget.farm.label(candidates(structures[:room], round_purpose(number + 1)))
        return [*labels, *[None] * (len(structures) - room)]

    # -- choice -------------------------------------------------------------------------------------------------

    def choose(self, number: int, model: Model, exploration: Exploration) -> list[Candidate]:
        """The pieces of the next round: duplicates merged, then so many at random as there is room for: those
        farthest from the training data are the most strained, and represent trajectories less (rank 0)."""
        settings = self.context.deck.sampling
        pieces = [piece for piece in self._pieces(model, exploration) if piece.learnt.any()]
        room = self.budget.room(settings.round_labels)
        if not pieces or not room:
            return []
        inputs = [self._inputs_of(piece) for piece in pieces]
        kept = unlike_pieces(pieces, inputs, MAX_DUPLICATE_DISTANCE)
        chosen = self.context.random("chosen", number).permutation(len(kept))[:room]
        picked = [pieces[kept[k]] for k in sorted(chosen.tolist())]
        core = settings.fragment_forces == "core"
        return [Candidate(item.structure, round_purpose(number + 1), item.learnt if core else None) for item in picked]

    def _pieces(self, model: Model, exploration: Exploration) -> list[Piece]:
        """Molecules to label: geometries taken, and final geometries of completed trajectories of whole targets."""
        pieces: list[Piece] = []
        for block, findings in zip(exploration.blocks, exploration.found, strict=True):
            target, graph = self.targets[block.target], self.graphs[block.target]
            threshold = model.spread_threshold(self._tolerance(model, target).force)
            used = findings if self.study.labelled_whole(target) else findings.taken()
            pieces += pieces_of(target, graph, used, threshold, self.radius, self._largest)
        return pieces

    def _inputs_of(self, piece: Piece) -> FloatArray:
        """(N, K) inputs of the networks."""
        from hpcir.descriptors.derivatives import features_only

        structure, reductions = piece.structure, self.trainer.reductions or {}
        features = features_only(self.trainer.functions, structure.numbers, structure.positions[None])[0]
        return np.array([reductions[int(z)].apply(f) for z, f in zip(structure.numbers, features, strict=True)])
