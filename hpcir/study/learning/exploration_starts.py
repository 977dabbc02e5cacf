"""Where the exploration of a target begins: in minima of the round's model, and where quiet trajectories ended.

Of a target that is labelled whole, trajectories start in minima of the model where the deck asks for families (that is
where the final ones will live), or go on from where those of the round before ran to their end: hydrogen bonds and
moved protons take longer than one round to come about. All others start in random conformers.

The lowest minima of each model are labelled first, and start trajectories by their labels' energies. A model of a few
hundred labels has holes, minima that are none and lie lower than all others: by its own energies every trajectory
would start there, and a round's labels would say no more than that it is a hole. They are remembered from round to
round and relaxed anew with every model, as some of the ends are, and the temperature of their weights falls towards the
final trajectories': the first rounds look for conformers, the last ones learn those that the spectrum is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcir.deck.study import Study
from hpcir.labels import Label
from hpcir.models.evaluator import evaluate
from hpcir.models.model import Model
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import Conformer, conformer_weights, in_turns, lowest_unlike, proton_moved
from hpcir.molecules.rotamers import random_rotamer
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.study.context import Context
from hpcir.study.learning.relaxation import ROUGH_TOLERANCE, harmonic_modes, minima
from hpcir.study.learning.source import Block, Exploration
from hpcir.units import KELVIN
from hpcir.vibrations.free_energy import free_energy
from hpcir.vibrations.harmonics import harmonics_at
from hpcir.vibrations.normal_modes import thermal_geometries

FloatArray = NDArray[np.float64]

# Of the trajectories that could go on from the round before, one in so many starts in a minimum all the same. In the
# second half of the rounds all do, where there are minima.
RESTARTED = 2
# In the first rounds, of the minima with hydrogen bonds of a charged donor, one in so many is started in with the
# proton moved along one: a model does not cross a barrier that it has got wrong. Later models know which protons move.
PROTON_MOVED, PROTON_ROUNDS = 4, 2
# Minima are started in by Boltzmann's weights of their free energies: at the first temperature in the first round, so
# that all of the conformers that matter are met, at this multiple of the final trajectories' in the second half of the
# rounds, so that most labels are of the conformers that those will live in.
FIRST_TEMPERATURE, LAST_TEMPERATURE = 1000 * KELVIN, 4 / 3
# A round labels so many minima of its model for it, the lowest, but first no more than so many of a kind: of a kind
# that it has not seen a model may be wrong by some kcal/mol. So many of all rounds' are started in.
LABELLED_MINIMA, OF_A_KIND, STARTED_IN = 24, 3, 30
# Of the round before so many ends are relaxed too: dynamics finds conformers that no search does.
RELAXED_ENDS = 24
# An end may lie so many standard deviations above the mean potential energy of as many harmonic modes at the deck's
# highest temperature. The model before had found a hole there; this one has seen labels of such ends, and knows better.
HIGHEST_END = 5.0


# Labels geometries for the round after one of the given number, as far as there is room (collective); in order.
LabelMinima = Callable[[Sequence[Structure], int], "list[Label | None]"]


class ExplorationStarts:
    """The starts of every round, the same on all ranks."""

    def __init__(self, context: Context, study: Study, graphs: Sequence[BondGraph], label: LabelMinima) -> None:
        self.context, self.study, self.graphs, self.label = context, study, graphs, label
        self.targets = study.targets
        # By target: where the quiet trajectories of the round before ended; the minima of all models so far, with the
        # energies of their labels, and the lowest of them with free energies; the round's model's energy of the lowest.
        self.ends: dict[int, FloatArray] = {}
        self.minima: dict[int, list[Conformer]] = {}
        self.started_in: dict[int, list[Conformer]] = {}
        self.lowest: dict[int, float] = {}

    def _whole(self, target: int) -> bool:
        return self.study.labelled_whole(self.targets[target])

    @collective
    def keep_ends(self, exploration: Exploration | None) -> None:
        """Remember where the quiet trajectories of a round ended, of targets that are labelled whole (collective).

        exploration: on rank 0; None elsewhere.
        """
        self.ends = self.context.on_root(lambda: self._quiet_ends(exploration))

    def _quiet_ends(self, exploration: Exploration | None) -> dict[int, FloatArray]:
        ends: dict[int, list[FloatArray]] = {}
        if exploration is not None:
            for block, findings in zip(exploration.blocks, exploration.found, strict=True):
                if self._whole(block.target):
                    ends.setdefault(block.target, []).append(findings.quiet_ends())
        return {target: np.concatenate(parts) for target, parts in ends.items()}

    @collective
    def prepare(self, number: int, model: Model, key: str) -> None:
        """Find minima of round `number`'s model, label the lowest, and drop the ends that lie too high for it, or in a
        hole (collective).

        key: a digest of the model.
        """
        context = self.context
        count, seed = context.deck.sampling.families, context.deck.seed + number
        for k in range(len(self.targets)) if count else ():
            if not self._whole(k):
                continue
            target, graph, before = self.targets[k], self.graphs[k], self.minima.get(k, [])
            known = [item.structure for item in before[:LABELLED_MINIMA]] + self._some_ends(k, number)
            # However high above the lowest: that may be a hole.
            found = minima(context, model, target, graph, count, seed, key, ROUGH_TOLERANCE, known, math.inf)
            order = in_turns([item.structure for item in found], graph, OF_A_KIND)[:LABELLED_MINIMA]
            found = [found[place] for place in order]
            labels = self.label([item.structure for item in found], number)
            labelled = [
                Conformer(item.structure, label.energy)
                for item, label in zip(found, labels, strict=True)
                if label is not None
            ]
            self.minima[k] = lowest_unlike([*before, *labelled], graph)
            self.started_in[k] = self._with_free_energies(model, self.minima[k][:STARTED_IN], graph, key)
            if self.minima[k]:
                lowest = self.minima[k][0].structure
                self.lowest[k] = evaluate(model, target.numbers, lowest.positions, target.charge).energy
        self.ends = context.on_root(lambda: self._plausible(model))

    def _with_free_energies(self, model: Model, found: list[Conformer], graph: BondGraph, key: str) -> list[Conformer]:
        """Conformers with free energies: their labels' and that of the model's vibrations and rotation (collective)."""
        temperature = self.context.deck.dynamics.temperature
        modes = harmonic_modes(
            self.context, [item.structure for item in found], key, lambda structure: harmonics_at(model, structure)
        )
        return [
            replace(item, energy=item.energy + free_energy(own, temperature, graph))
            for item, own in zip(found, modes, strict=True)
        ]

    def _some_ends(self, target: int, number: int) -> list[Structure]:
        """RELAXED_ENDS of the ends of the round before, at random."""
        ends = self.ends.get(target, np.empty((0,)))
        chosen = self.context.random(f"relaxed ends {number}", target).permutation(len(ends))[:RELAXED_ENDS]
        return [self.targets[target].moved(ends[place]) for place in sorted(chosen.tolist())]

    def _plausible(self, model: Model) -> dict[int, FloatArray]:
        """The ends that heat can reach from the minimum whose label is the lowest, above it as heat is (rank 0)."""
        temperature = max(self.context.deck.sampling.temperatures)
        kept = dict(self.ends)
        for index, lowest in self.lowest.items():
            ends, target = kept.get(index), self.targets[index]
            if ends is None:
                continue
            modes = max(1, 3 * len(target) - 6)
            highest = temperature * (modes / 2 + HIGHEST_END * np.sqrt(modes / 2))
            energies = np.array([evaluate(model, target.numbers, end, target.charge).energy for end in ends])
            kept[index] = ends[(energies > lowest) & (energies < lowest + highest)]
        return kept

    def start(self, block: Block, item: int, number: int) -> FloatArray:
        """(N, 3) Where trajectory `item` of round `number` begins: at an end of the round before, or in a thermal
        conformer, a minimum of the model or a random one."""
        self.context.stop.check()
        target, graph = self.targets[block.target], self.graphs[block.target]
        random = self.context.random(f"explore {number}", item)
        ends, known = self.ends.get(block.target, ()), self.started_in.get(block.target)
        early = self._progress(number) < 1
        if len(ends) and (early or not known) and random.integers(RESTARTED):
            return ends[int(random.integers(len(ends)))]
        if known:  # a model of few labels may hold nothing together yet
            weights = conformer_weights(known, self._temperature(number))
            conformer = known[int(random.choice(len(known), p=weights))].structure
            moved = proton_moved(conformer, graph) if number < PROTON_ROUNDS else []
            if moved and not random.integers(PROTON_MOVED):
                conformer = moved[int(random.integers(len(moved)))]
        else:
            conformer = random_rotamer(target, graph, random)
        return thermal_geometries(conformer, block.temperature, 1, random)[0]

    def _temperature(self, number: int) -> float:
        """That of the minima's weights in round `number`, hartree: evenly down in its logarithm."""
        last, progress = LAST_TEMPERATURE * self.context.deck.dynamics.temperature, self._progress(number)
        return float(FIRST_TEMPERATURE ** (1 - progress) * last**progress)

    def _progress(self, number: int) -> float:
        """From 0 in the first round to 1 in the second half of them."""
        return min(1.0, number / max(1, self.context.deck.sampling.rounds // 2))
