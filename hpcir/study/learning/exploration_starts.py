"""Starts of the exploration of a target: minima of the round's model, and final geometries of completed trajectories.

Of a target that is labelled whole, trajectories start in minima of the model where the deck asks for families (the
final ones will start there), or continue from where those of the round before ran to their end: hydrogen bonds and
moved protons take longer than one round to form. All others start in random conformers.

The lowest minima of each model are labelled first, and start trajectories by their labels' energies. A model of a few
hundred labels has spurious minima, which lie lower than all true ones: by its own energies every trajectory would
start there, and the labels of a round would only show that they are spurious. Minima are kept from round to
round and relaxed anew with every model, as some of the ends are, and the temperature of their weights falls towards the
final trajectories': the first rounds look for conformers, the last ones learn those that the spectrum is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hpcir.arrays import FloatArray
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

# Of the trajectories that could continue from the round before, one in so many starts in a minimum instead. In the
# second half of the rounds all do, where there are minima.
RESTART_INTERVAL = 2
# In the first rounds, of the minima with hydrogen bonds of a charged donor, one in so many is started in with the
# proton moved along one: a model does not cross a barrier that it has got wrong. Later models know which protons move.
PROTON_INTERVAL, PROTON_ROUNDS = 4, 2
# Minima are drawn by the Boltzmann weights of their free energies: at the first temperature in the first round, so
# that all of the conformers that matter are met, at this multiple of the final trajectories' in the second half of the
# rounds, so that most labels are of the conformers that those will visit.
FIRST_TEMPERATURE, LAST_TEMPERATURE = 1000 * KELVIN, 4 / 3
# Most minima of its model that a round labels, the lowest ones, but first no more than so many of a kind: a model may
# be wrong by some kcal/mol for a kind without labels. Most minima of all rounds that trajectories start in.
MAX_LABELLED_MINIMA, MAX_MINIMA_PER_KIND, MAX_START_MINIMA = 24, 3, 30
# Most final geometries of the round before that are relaxed: dynamics finds conformers that no search does.
MAX_RELAXED_ENDS = 24
# Most standard deviations of a final geometry's energy above the mean potential energy of as many harmonic modes at the
# deck's highest temperature: a higher one was a spurious minimum of the model before.
MAX_END_DEVIATION = 5.0


# Labels geometries for the round after one of the given number, as far as there is room (collective); in order.
LabelMinima = Callable[[Sequence[Structure], int], "list[Label | None]"]


class ExplorationStarts:
    """The starts of every round, the same on all ranks."""

    def __init__(self, context: Context, study: Study, graphs: Sequence[BondGraph], label: LabelMinima) -> None:
        self.context, self.study, self.graphs, self.label = context, study, graphs, label
        self.targets = study.targets
        # By target: final geometries of completed trajectories of the round before; minima of all models so far, with
        # their labels' energies, and the lowest of them with free energies; the round's model's energy of the lowest.
        self.ends: dict[int, FloatArray] = {}
        self.minima: dict[int, list[Conformer]] = {}
        self.start_minima: dict[int, list[Conformer]] = {}
        self.lowest: dict[int, float] = {}

    def _whole(self, target: int) -> bool:
        return self.study.labelled_whole(self.targets[target])

    @collective
    def keep_ends(self, exploration: Exploration | None) -> None:
        """Keep the final geometries of the completed trajectories, of targets that are labelled whole (collective).

        exploration: on rank 0; None elsewhere.
        """
        self.ends = self.context.on_root(lambda: self._final_geometries(exploration))

    def _final_geometries(self, exploration: Exploration | None) -> dict[int, FloatArray]:
        ends: dict[int, list[FloatArray]] = {}
        if exploration is not None:
            for block, findings in zip(exploration.blocks, exploration.found, strict=True):
                # Beads are no starts of trajectories: their zero-point energy is not thermal.
                if self._whole(block.target) and block.ring is None:
                    ends.setdefault(block.target, []).append(findings.final_geometries())
        return {target: np.concatenate(parts) for target, parts in ends.items()}

    @collective
    def prepare(self, number: int, model: Model, key: str) -> None:
        """Find minima of round `number`'s model, label the lowest, and drop final geometries whose energy is too high
        or too low in that model (collective).

        key: a digest of the model.
        """
        context = self.context
        count, seed = context.deck.sampling.families, context.deck.seed + number
        for k in range(len(self.targets)) if count else ():
            if not self._whole(k):
                continue
            target, graph, before = self.targets[k], self.graphs[k], self.minima.get(k, [])
            known = [item.structure for item in before[:MAX_LABELLED_MINIMA]] + self._random_ends(k, number)
            # At any height above the lowest, which may be spurious.
            found = minima(context, model, target, graph, count, seed, key, ROUGH_TOLERANCE, known, math.inf)
            order = in_turns([item.structure for item in found], graph, MAX_MINIMA_PER_KIND)[:MAX_LABELLED_MINIMA]
            found = [found[place] for place in order]
            labels = self.label([item.structure for item in found], number)
            labelled = [
                Conformer(item.structure, label.energy)
                for item, label in zip(found, labels, strict=True)
                if label is not None
            ]
            self.minima[k] = lowest_unlike([*before, *labelled], graph)
            self.start_minima[k] = self._with_free_energies(model, self.minima[k][:MAX_START_MINIMA], graph, key)
            if self.minima[k]:
                lowest = self.minima[k][0].structure
                self.lowest[k] = evaluate(model, target.numbers, lowest.positions, target.charge).energy
        self.ends = context.on_root(lambda: self._accessible_ends(model))

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

    def _random_ends(self, target: int, number: int) -> list[Structure]:
        """Random final geometries of the round before, MAX_RELAXED_ENDS of them."""
        ends = self.ends.get(target, np.empty((0,)))
        chosen = self.context.random(f"relaxed ends {number}", target).permutation(len(ends))[:MAX_RELAXED_ENDS]
        return [self.targets[target].moved(ends[place]) for place in sorted(chosen.tolist())]

    def _accessible_ends(self, model: Model) -> dict[int, FloatArray]:
        """Final geometries with thermally accessible energies above the minimum whose label is the lowest (rank 0)."""
        temperature = max(self.context.deck.sampling.temperatures)
        kept = dict(self.ends)
        for index, lowest in self.lowest.items():
            ends, target = kept.get(index), self.targets[index]
            if ends is None:
                continue
            modes = max(1, 3 * len(target) - 6)
            highest = temperature * (modes / 2 + MAX_END_DEVIATION * np.sqrt(modes / 2))
            energies = np.array([evaluate(model, target.numbers, end, target.charge).energy for end in ends])
            kept[index] = ends[(energies > lowest) & (energies < lowest + highest)]
        return kept

    def start(self, block: Block, item: int, number: int) -> FloatArray:
        """The start (N, 3) of trajectory `item` of round `number`: a final geometry of the round before, or a thermal
        geometry of a minimum of the model or of a random conformer."""
        self.context.stop.check()
        target, graph = self.targets[block.target], self.graphs[block.target]
        random = self.context.random(f"explore {number}", item)
        ends, known = self.ends.get(block.target, ()), self.start_minima.get(block.target)
        early = self._progress(number) < 1
        if len(ends) and (early or not known) and random.integers(RESTART_INTERVAL):
            return ends[int(random.integers(len(ends)))]
        if known:  # a model of few labels may have no minimum with all bonds yet
            weights = conformer_weights(known, self._temperature(number))
            conformer = known[int(random.choice(len(known), p=weights))].structure
            moved = proton_moved(conformer, graph) if number < PROTON_ROUNDS else []
            if moved and not random.integers(PROTON_INTERVAL):
                conformer = moved[int(random.integers(len(moved)))]
        else:
            conformer = random_rotamer(target, graph, random)
        return thermal_geometries(conformer, block.temperature, 1, random)[0]

    def _temperature(self, number: int) -> float:
        """Temperature of the minima's weights in round `number`, hartree: linear in its logarithm."""
        last, progress = LAST_TEMPERATURE * self.context.deck.dynamics.temperature, self._progress(number)
        return float(FIRST_TEMPERATURE ** (1 - progress) * last**progress)

    def _progress(self, number: int) -> float:
        """Progress from 0 in the first round to 1 in the second half of them."""
        return min(1.0, number / max(1, self.context.deck.sampling.rounds // 2))
