"""Starts of the trajectories of a molecule with several minima: the model's canonical ensemble by replica exchange.

Independent chains of `sampling.tempering` run, round after round, until the populations of rotamers have the error
that the deck asks for or the time for it is spent; the highest temperature is the hottest that sampling explored, where
the model has learnt. Starts are frames of the lowest rungs, as many of every rotamer as its population says, with
velocities of their own, so that the trajectories stand for the ensemble and not for one minimum. Chains are spread over
the ranks in groups, a round of a group being journalled: the result depends neither on ranks nor on resumption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.dynamics.runner import ReplicaBlock
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator, spread_of
from hpcir.models.model import Model
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import Conformer, conformer_weights
from hpcir.molecules.isotopomers import operations
from hpcir.molecules.rotamer_names import RotamerNames
from hpcir.molecules.rotamers import pivots, random_rotamer
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.exploration import GeometryCheck
from hpcir.sampling.tempering import Basins, Chains, Tally, Tempering, basins_of, ladder
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context, JournalEntry
from hpcir.study.learning.relaxation import QUENCH_STEPS, ROUGH_TOLERANCE, harmonic_modes, minima
from hpcir.study.production.plan import StartPopulations, Starts
from hpcir.units import FS, KCAL_PER_MOL, KELVIN
from hpcir.vibrations.free_energy import free_energy
from hpcir.vibrations.harmonics import harmonics_at
from hpcir.vibrations.normal_modes import thermal_geometries
from hpcir.vibrations.quench import quench

# Names of the basins of minima (T, N, 3).
NameMinima = Callable[[FloatArray], list[str]]

FOLDER = layout.STARTS
# Chains, and those of a group, which one rank moves together.
CHAINS, GROUP = 16, 4
# Steps of dynamics of a cycle, and their length at most (BAOAB's positions are canonical at twice production's step);
# cycles of a round; rounds that are left out of the populations.
CYCLE_STEPS, MAX_TIMESTEP, ROUND_CYCLES, BURN_IN = 20, 1.0 * FS, 25, 1
# Turns of a cycle: so many, and for each bond that turns, at most. Between turns of the same frozen geometry little is
# learnt, and dynamics alone does not cross barriers.
TURNS, MAX_TURNS = 2, 12
# Evaluations of every member of the committee in a cycle, besides one a turn.
CHECKS = 4
# Rounds at least and at most; in between, evaluations of all lanes at most as a part of production's.
MIN_ROUNDS, MAX_ROUNDS, SHARE = 5, 80, 0.5
# Largest energy above the lowest of rotamers that count, in kT, and the most that are relaxed.
ROTAMER_WINDOW, MAX_ROTAMERS = 7.0, 12
# Energy above the lowest, in kT, under which a minimum that no chain came to is said: it would have a twentieth of the
# lowest one's share.
MISSED_WINDOW = 3.0
# Most random conformers drawn for a start until one is covered by the training data.
MAX_ATTEMPTS = 20
# Energy added to a geometry outside the region covered by the training data, hartree.
PENALTY = 1e3


@dataclass(frozen=True)
class Canonical:
    """Canonical frames of a molecule, and the populations of its basins.

    basins: populations with their errors; frames (P, N, 3) of the lowest rungs with their names (P,); temperatures (L,)
    hartree; tally of all cycles of all chains; cycles of each chain; goal: the error asked for; left_out: further
    frames, outside the region covered by the training data; key: a digest of what they depend on; missed: low minima of
    the model that no chain came to, in words; harmonic: weights by name of the model's minima, as a check.
    """

    basins: Basins
    frames: FloatArray
    names: tuple[str, ...]
    temperatures: FloatArray
    tally: Tally
    cycles: int
    goal: float
    left_out: int
    key: str
    by_rotamers: bool = True
    missed: tuple[str, ...] = ()
    harmonic: Mapping[str, float] = field(default_factory=dict)

    def draw(
        self,
        context: Context,
        structure: Structure,
        count: int,
        purpose: str,
        weights: Mapping[str, float] | None = None,
    ) -> tuple[Starts, StartPopulations]:
        """Starts of `count` trajectories: frames drawn systematically, as many of each basin as its population says (or
        its weight, where there are others), with thermal velocities; and the basins that they are of.

        Raises ValueError where no frame has a weight.
        """
        random = context.random(f"canonical picks {purpose}")
        known = self.basins.names
        number = {name: place for place, name in enumerate(known)}
        kind = np.array([number[name] for name in self.names])
        frequency = np.bincount(kind, minlength=len(known))
        shares = frequency / len(kind) if weights is None else np.array([weights.get(name, 0.0) for name in known])
        each = np.where(frequency > 0, shares / np.maximum(frequency, 1), 0.0)[kind]
        if not each.sum() > 0:
            raise ValueError("no frame has a weight")
        shuffled = random.permutation(len(kind))
        order = shuffled[np.argsort(kind[shuffled], kind="stable")]
        # Equal steps along the cumulated weights of the frames, sorted by basin; then in random order, so that the
        # first few trajectories represent all.
        edges = np.cumsum(each[order]) / each.sum()
        picks = order[np.searchsorted(edges, (np.arange(count) + random.random()) / count * (1 - 1e-12))]
        picks = picks[random.permutation(count)]
        positions = np.ascontiguousarray(self.frames[picks].transpose(1, 2, 0))
        dynamics, seed = context.deck.dynamics, int(digest(context.deck.seed, purpose)[:12], 16)
        velocities = thermal_velocities(
            positions, structure.masses, dynamics.temperature, seed, np.arange(count), rotation=dynamics.rotation
        )
        starts = Starts(positions, velocities, np.ones(count, bool), digest(self.key, purpose, positions, velocities))
        words = (
            f"{len(known)} conformers by replica exchange, the largest error {100 * self.basins.largest_error:.1f} %"
        )
        return starts, StartPopulations(kind[picks], known, self.basins.covariance, words)

    @property
    def shortcomings(self) -> list[str]:
        """Goals that were not reached, in words."""
        said = []
        if self.basins.unconnected:
            sets = "; ".join(", ".join(names) for names in self.basins.unconnected)
            said.append(
                f"replica exchange did not connect these rotamers with the others in {self.cycles} cycles: {sets}"
            )
        if self.missed:
            said.append(
                f"no chain of replica exchange came to these low minima of the model: {', '.join(self.missed)}. "
                "Their populations are not known; conformers that were labelled (sampling.families) would be sampled"
            )
        if not self.basins.largest_error <= self.goal:
            times = (self.basins.largest_error / self.goal) ** 2
            said.append(
                f"the populations of rotamers are known to {100 * self.basins.largest_error:.1f} %, not to the "
                f"{100 * self.goal:.1f} % asked for (dynamics.population_error): that takes about {times:.1f} times "
                f"the {self.cycles} cycles that there was time for"
            )
        return said

    @property
    def facts(self) -> str:
        """The sampling of the ensemble, in words."""
        tally, hottest = self.tally, float(self.temperatures[-1]) / KELVIN
        parts = [f"{self.cycles} cycles of replica exchange up to {hottest:.0f} K"]
        if len(tally.swaps_tried):
            parts.append(f"{100 * tally.acceptance.min():.0f} to {100 * tally.acceptance.max():.0f} % of swaps taken")
        if tally.turns_tried.sum():
            parts.append(f"{100 * tally.turns_taken[0] / max(1, tally.turns_tried[0]):.0f} % of turns")
        lost = int(tally.lost.sum())
        if lost:
            parts.append(f"{lost} times a replica left the region covered by the training data and went back")
        return ", ".join(parts)


@dataclass(frozen=True)
class Rotamers:
    """Unlike minima of a model that turning about bonds and puckering rings lead to, the lowest first, mirror images
    being one: names, energies (K,) above the lowest in hartree, whether the training data cover them (K,), and their
    harmonic weights (K,): classical, with rotation, symmetry numbers and rotors for soft torsions."""

    names: tuple[str, ...] = ("one",)
    energies: FloatArray = field(default_factory=lambda: np.zeros(1))
    covered: BoolArray = field(default_factory=lambda: np.ones(1, bool))
    weights: FloatArray = field(default_factory=lambda: np.ones(1))

    @property
    def harmonic(self) -> dict[str, float]:
        """The harmonic weights by name."""
        return {name: float(self.weights[[one == name for one in self.names]].sum()) for name in self.names}

    def missing(self, visited: Sequence[str], temperature: float) -> tuple[str, ...]:
        """Those under MISSED_WINDOW (temperature in hartree) whose name is none of the visited ones, in words."""
        found: dict[str, str] = {}
        for name, energy, covered in zip(self.names, self.energies.tolist(), self.covered.tolist(), strict=True):
            if name not in visited and energy < MISSED_WINDOW * temperature:
                outside = "" if covered else " and outside the region covered by the training data"
                found.setdefault(name, f"{name} ({energy / KCAL_PER_MOL:.1f} kcal/mol above the lowest{outside})")
        return tuple(found.values())


@collective
def find_rotamers(context: Context, model: Model, structure: Structure, weights_key: str) -> Rotamers:
    """The unlike minima of a model, ROTAMER_WINDOW above the lowest at most (collective); one where nothing turns.

    weights_key: a digest of the model.
    """
    try:
        graph = bond_graph(structure)
    except InputError:
        return Rotamers()
    names = RotamerNames(graph)
    if not names.several:
        return Rotamers()
    window = ROTAMER_WINDOW * context.deck.dynamics.temperature
    seed = context.deck.seed
    found = minima(context, model, structure, graph, MAX_ROTAMERS, seed, weights_key, ROUGH_TOLERANCE, window=window)
    if not found:
        return Rotamers()
    frames = np.array([item.structure.positions for item in found])
    evaluator = Evaluator(model, structure.numbers, len(found), charge=structure.charge)
    spread = evaluator.force_spread(np.ascontiguousarray(frames.transpose(1, 2, 0))).max(0)
    return Rotamers(
        tuple(names.name(frame) for frame in frames),
        np.array([item.energy - found[0].energy for item in found]),
        np.asarray(spread < model.spread_threshold(context.deck.dynamics.force_error)),
        _harmonic_weights(context, model, found, graph, weights_key),
    )


@collective
def _harmonic_weights(
    context: Context, model: Model, found: Sequence[Conformer], graph: BondGraph, weights_key: str
) -> FloatArray:
    """Harmonic weights (K,) of minima of a model (collective)."""
    temperature = context.deck.dynamics.temperature
    structures = [item.structure for item in found]
    modes = harmonic_modes(context, structures, f"{weights_key} as it is", lambda one: harmonics_at(model, one))
    free = [
        replace(item, energy=item.energy + free_energy(own, temperature, graph))
        for item, own in zip(found, modes, strict=True)
    ]
    return conformer_weights(free, temperature)


@collective
def canonical_ensemble(
    context: Context,
    model: Model,
    structure: Structure,
    count: int,
    weights_key: str,
    first: FloatArray | None = None,
    name_minima: NameMinima | None = None,
    rotamers: Rotamers | None = None,
) -> Canonical:
    """Frames of a molecule at the deck's temperature for `count` trajectories to start at (collective; rank 0's
    arguments count).

    weights_key: a digest of the model; first (K, N, 3): geometries that the chains begin at in turn (default: random
    rotamers); name_minima: the names of the minima below frames (default: the rotamers of the frames); rotamers: minima
    of the model, of which those that no chain came to are said. Rounds that are done come from their journal.
    """
    sampler = _Sampler(
        context, model, structure, count, weights_key, context.comm.bcast(first), name_minima is not None
    )
    name = name_minima or sampler.names_of
    rounds: list[_Round] = []
    names: list[list[str]] = []
    while True:
        rounds.append(sampler.round(rounds[-1] if rounds else None, len(rounds)))
        if context.root:
            names.append(name(rounds[-1].minima.reshape(-1, len(structure), 3)))
        if len(rounds) < MIN_ROUNDS:
            continue
        found = context.on_root(lambda: sampler.result(rounds, names))
        if found.basins.largest_error <= found.goal or len(rounds) >= sampler.most_rounds:
            break
    if rotamers is not None:
        missed = rotamers.missing(found.basins.names, context.deck.dynamics.temperature)
        found = replace(found, missed=missed, harmonic=rotamers.harmonic)
    if context.root:
        for line in found.shortcomings:
            context.progress.log(f"{structure.name}: {line}", warning=True)
        context.progress.log(f"starts of {structure.name}: {found.facts}")
    return found


@dataclass(frozen=True)
class _Round:
    """All chains' frames (S, C, N, 3) of the lowest rung in a round of S cycles, the minima below them where these are
    wanted (else the frames), known (S, C); states of the groups."""

    frames: FloatArray
    minima: FloatArray
    known: BoolArray
    states: tuple[dict[str, Any], ...]
    tally: Tally


class _Sampler:
    """The chains of one molecule."""

    def __init__(
        self,
        context: Context,
        model: Model,
        structure: Structure,
        count: int,
        weights_key: str,
        first: FloatArray | None,
        quenched: bool,
    ) -> None:
        self.context, self.model, self.structure, self.first = context, model, structure, first
        self.quenched = quenched
        self.graph: BondGraph = bond_graph(structure)
        dynamics, sampling = context.deck.dynamics, context.deck.sampling
        degrees = max(1, 3 * len(structure) - 6)
        hottest = max(dynamics.temperature, *sampling.temperatures)
        self.temperatures = ladder(dynamics.temperature, hottest, degrees)
        self.chains = min(CHAINS, max(GROUP, count))
        self.groups = [np.arange(one, min(one + GROUP, self.chains)) for one in range(0, self.chains, GROUP)]
        self.goal = dynamics.population_error
        self.moving = pivots(self.graph)
        self.turns = min(TURNS * (1 + len(self.moving)), MAX_TURNS) if self.moving else 0
        self.timestep = max(dynamics.timestep, min(2 * dynamics.timestep, MAX_TIMESTEP))
        production = dynamics.duration / dynamics.timestep * dynamics.trajectories
        a_cycle = CYCLE_STEPS + (self.turns + CHECKS) * model.members
        a_round = ROUND_CYCLES * a_cycle * len(self.temperatures) * self.chains
        self.most_rounds = int(min(MAX_ROUNDS, max(MIN_ROUNDS, SHARE * production / a_round)))
        what = [dynamics.temperature, dynamics.force_error, context.deck.seed, self.temperatures, self.chains]
        what += [CYCLE_STEPS, ROUND_CYCLES, self.timestep, self.turns]
        what += [] if first is None else [first]
        self.key = digest("canonical", weights_key, structure.positions, quenched, *what)
        self.names = RotamerNames(self.graph)
        self.seed = int(digest(context.deck.seed, "starts")[:12], 16)

    def names_of(self, frames: FloatArray) -> list[str]:
        """The rotamers of frames (T, N, 3)."""
        return [self.names.name(frame) for frame in frames]

    @collective
    def round(self, before: _Round | None, number: int) -> _Round:
        """The next round of all groups (collective)."""
        context = self.context

        def group(index: int) -> JournalEntry:
            return self._group(index, number, None if before is None else before.states[index]), {"round": number}

        keys = [digest(self.key, number, index) for index in range(len(self.groups))]
        records = context.map_journalled(f"canonical starts of {self.structure.name}", FOLDER, keys, group, "groups")
        found: list[dict[str, Any]] = context.comm.bcast(None if records is None else [dict(r.arrays) for r in records])
        tallies = [Tally(**{name: one[name] for name in Tally.none(1).arrays()}) for one in found]
        total = Tally.none(len(self.temperatures))
        for tally in tallies:
            total = total.plus(tally)
        frames, minima = (np.concatenate([one[name] for one in found], axis=1) for name in ("frames", "minima"))
        return _Round(
            frames,
            minima,
            np.concatenate([one["known"] for one in found], axis=1).astype(bool),
            tuple(found),
            total,
        )

    def _group(self, index: int, number: int, state: dict[str, Any] | None) -> dict[str, Any]:
        """A round of one group: its state at the end, the frames of the lowest rungs, and the counts."""
        chains, context = self.groups[index], self.context
        sampler = self._tempering(len(self.temperatures) * len(chains))
        if state is None:
            now = sampler.begin(self._first(chains, sampler), chains)
        else:
            lanes = state["lanes"].astype(np.int64)
            block = ReplicaBlock(
                state["positions"], state["velocities"], int(state["step"]), lanes, state["alive"].astype(bool)
            )
            now = Chains(block, int(state["cycles"]))
        tally, frames, known = Tally.none(sampler.rungs), [], []
        for _ in range(ROUND_CYCLES):
            context.stop.check()
            now, counted = sampler.cycle(now, context.random("tempering", index, now.cycles))
            tally = tally.plus(counted)
            frames.append(sampler.lowest(now))
            known.append(sampler.is_known(now.block.positions)[: len(chains)])
        return {
            "positions": now.block.positions,
            "velocities": now.block.velocities,
            "step": np.int64(now.block.step),
            "lanes": now.block.trajectories,
            "alive": now.block.alive,
            "cycles": np.int64(now.cycles),
            "frames": np.array(frames),
            "minima": self._minima(np.array(frames)),
            "known": np.array(known),
            **tally.arrays(),
        }

    def _minima(self, frames: FloatArray) -> FloatArray:
        """The minima below frames (S, C, N, 3), roughly, where they are wanted; else the frames."""
        if not self.quenched:
            return frames
        flat = np.ascontiguousarray(frames.reshape(-1, *frames.shape[2:]).transpose(1, 2, 0))
        evaluator = Evaluator(self.model, self.structure.numbers, flat.shape[2], charge=self.structure.charge)
        found = quench(lambda x: np.nan_to_num(evaluator.evaluate(x)[1]), flat, QUENCH_STEPS, ROUGH_TOLERANCE)
        return np.asarray(found.transpose(2, 0, 1).reshape(frames.shape))

    def _tempering(self, lanes: int) -> Tempering:
        dynamics, structure = self.context.deck.dynamics, self.structure
        evaluator = Evaluator(self.model, structure.numbers, lanes, charge=structure.charge)
        limit = self.model.spread_threshold(dynamics.force_error)

        def is_known(positions: FloatArray) -> BoolArray:
            return np.asarray(evaluator.force_spread(positions).max(0) < limit)

        def energies_of(frames: FloatArray) -> FloatArray:
            energies, forces = evaluator.members(np.ascontiguousarray(frames.transpose(1, 2, 0)))
            return np.asarray(energies.mean(0) + np.where(spread_of(forces).max(0) < limit, 0.0, PENALTY))

        return Tempering(
            evaluator,
            structure.masses,
            self.temperatures,
            self.moving,
            operations(structure),
            is_known,
            GeometryCheck(structure),
            energies_of,
            CYCLE_STEPS,
            self.timestep,
            dynamics.time_constant,
            self.turns,
            self.seed,
        )

    def _first(self, chains: IntArray, sampler: Tempering) -> FloatArray:
        """First geometries (N, 3, C) of some chains: thermal random rotamers, drawn until covered by the training data,
        MAX_ATTEMPTS times at most; or the geometries given."""
        if self.first is not None:
            return np.ascontiguousarray(self.first[chains % len(self.first)].transpose(1, 2, 0))
        temperature, context = self.context.deck.dynamics.temperature, self.context
        streams = [context.random("starts", item) for item in chains.tolist()]
        physical = GeometryCheck(self.structure)
        positions = np.zeros((len(self.structure), 3, len(chains)))
        missing = np.ones(len(chains), bool)
        for _ in range(MAX_ATTEMPTS):
            for place in np.flatnonzero(missing):
                rotamer = random_rotamer(self.structure, self.graph, streams[place])
                positions[:, :, place] = thermal_geometries(rotamer, temperature, 1, streams[place])[0]
            every = np.tile(positions, (1, 1, sampler.rungs))
            missing &= ~(physical(positions.transpose(2, 0, 1)) & sampler.is_known(every)[: len(chains)])
            if not missing.any():
                break
        return positions

    def result(self, rounds: Sequence[_Round], names: Sequence[Sequence[str]]) -> Canonical:
        """Populations over all rounds but the first BURN_IN (rank 0); frames outside the known region do not count,
        unless a chain has no others."""
        frames = np.concatenate([one.frames for one in rounds[BURN_IN:]])
        known = np.concatenate([one.known for one in rounds[BURN_IN:]])
        if not known.any(axis=0).all():
            known = np.ones_like(known)
        tally = Tally.none(len(self.temperatures))
        for one in rounds:
            tally = tally.plus(one.tally)
        named = np.concatenate(
            [np.array(row, object).reshape(one.known.shape) for row, one in zip(names, rounds, strict=True)][BURN_IN:]
        )
        rows = [named[known[:, chain], chain].tolist() for chain in range(known.shape[1])]
        kept = known.ravel()
        return Canonical(
            basins=basins_of(rows),
            frames=frames.reshape(-1, *frames.shape[2:])[kept],
            names=tuple(named.ravel()[kept].tolist()),
            temperatures=self.temperatures,
            tally=tally,
            cycles=len(rounds) * ROUND_CYCLES,
            goal=self.goal,
            left_out=int((~kept).sum()),
            key=digest(self.key, len(rounds)),
            by_rotamers=not self.quenched,
        )
