"""Sets of trajectories of one run: the main one, one for each committee member, one for each isotopologue.

All start from the same keyed streams, so that they are paired: trajectory 7 of a member or an isotopologue begins
with the same random numbers as trajectory 7 of the main set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.runner import Potential
from hpcir.exchange.potentials import AnyPotential, first_weights, on_replicas
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, bonds
from hpcir.spectra.basins import all_basins
from hpcir.spectra.projection import MOST_ORTHONORMAL, Projection
from hpcir.storage.checksums import digest
from hpcir.study.context import Context
from hpcir.study.learning.committee import member_of
from hpcir.study.learning.loop import spread_threshold
from hpcir.study.production.minima import find_minima, same_minima
from hpcir.study.production.trajectories import Starts, TrajectoryPlan, TrajectoryStage, run_stages
from hpcir.study.results.spectrum import SpectrumResult, SpectrumStage
from hpcir.vibrations.mode_names import describe_modes, functional_groups
from hpcir.vibrations.normal_modes import NormalModes, isotope_masses

FloatArray = NDArray[np.float64]

FOLDER = "trajectories"
# Mode series (modes times trajectories) up to which they are kept for the assignment: 0.1 GB at 5 ps.
MOST_ASSIGNED = 10_000
# Trajectories of each single committee member, at most: they show how the members differ, not the spectrum itself.
MEMBER_TRAJECTORIES = 32


@dataclass(frozen=True)
class TrajectorySet:
    """A model, masses (N,) and the minima that belong to them, the starting one first; blocks: the files of its
    trajectories; starts: where they begin (None: thermal samples of the starting minimum's normal modes)."""

    name: str
    model: AnyPotential
    masses: FloatArray
    minima: tuple[NormalModes, ...]
    trajectories: int
    blocks: tuple[str, ...] = ()
    starts: Starts | None = None

    @property
    def assign(self) -> bool:
        """Whether its bands are to be assigned: not a single member's, nor where the series would be too large."""
        size = self.trajectories * len(self.modes)
        return not self.name.startswith("member-") and size <= MOST_ASSIGNED and len(self.modes) <= MOST_ORTHONORMAL

    @property
    def modes(self) -> NormalModes:
        """The normal modes of the starting minimum."""
        return self.minima[0]

    def words(self, structure: Structure) -> list[str]:
        """The modes in words."""
        return describe_modes(self.modes, structure.moved(self.modes.positions))


def plan_of(context: Context, chosen: TrajectorySet) -> TrajectoryPlan:
    """What to run for a set."""
    deck = context.deck
    structure = context.structure.moved(chosen.modes.positions)
    return TrajectoryPlan(
        name=chosen.name,
        dynamics=deck.dynamics.model_copy(update={"trajectories": chosen.trajectories}),
        modes=chosen.modes,
        projection=Projection.of(all_basins(chosen.minima, context.structure), structure, chosen.masses),
        pairs=bonds(structure),
        groups=[group.atoms for group in functional_groups(structure)] if chosen.assign else [],
        assign=chosen.assign,
        masses=chosen.masses,
        # A potential from n2p2 has no calibrated spread, and its trajectories are not judged by it.
        spread_limit=spread_threshold(chosen.model, deck.dynamics.force_error)
        if isinstance(chosen.model, Model)
        else np.inf,
        folder=FOLDER,
        starts=chosen.starts,
    )


def run_sets(context: Context, chosen: Sequence[TrajectorySet]) -> list[TrajectorySet]:
    """Run what is missing of several sets, all together (collective); the sets with their files."""
    if not chosen:
        return []
    stages = [_stage_of(context, one) for one in chosen]
    run_stages(stages)
    return [replace(one, blocks=tuple(stage.files)) for one, stage in zip(chosen, stages, strict=True)]


def _stage_of(context: Context, chosen: TrajectorySet) -> TrajectoryStage:
    plan = plan_of(context, chosen)
    model = chosen.model
    weights = first_weights(model)
    settings = context.deck.model_dump(mode="json")["dynamics"] | {"trajectories": chosen.trajectories}
    minima = [modes.positions for modes in chosen.minima]
    what = [settings, context.deck.seed, chosen.masses, *minima, *weights]
    what += [chosen.starts.key] if chosen.starts is not None else []
    key = context.comm.bcast(digest(*what))

    def potential(replicas: int) -> Evaluator | Potential:
        return on_replicas(model, context.structure.numbers, replicas, context.structure.charge, chosen.masses)

    return TrajectoryStage(context, plan, key, potential)


def main_set(context: Context, model: AnyPotential, modes: NormalModes) -> TrajectorySet:
    """The set of the deck's own masses, with the minima that its trajectories will visit (collective)."""
    minima = find_minima(context, model, modes, FOLDER)
    return TrajectorySet("main", model, context.structure.masses, tuple(minima), context.deck.dynamics.trajectories)


def member_sets(context: Context, main: TrajectorySet) -> list[TrajectorySet]:
    """A set for each member of the committee, fewer trajectories each; none when the deck does not want them."""
    model = main.model
    members = model.members
    if not isinstance(model, Model) or members < 2 or not context.deck.spectrum.committee_errors:
        return []
    count = min(MEMBER_TRAJECTORIES, main.trajectories)
    return [
        TrajectorySet(f"member-{index}", member_of(model, index), main.masses, main.minima, count)
        for index in range(members)
    ]


def isotope_sets(context: Context, main: TrajectorySet) -> list[TrajectorySet]:
    """A set for each isotopologue of the deck, with its own masses and normal modes."""
    sets = []
    for name, pattern in context.deck.system.isotopes.items():
        masses = isotope_masses(context.structure, pattern)
        minima = same_minima(main.model, main.minima, masses, context.structure)
        sets.append(TrajectorySet(name, main.model, masses, tuple(minima), main.trajectories))
    return sets


def spectrum_of_set(
    context: Context, chosen: TrajectorySet, name: str, member_spectra: FloatArray | None = None
) -> SpectrumResult | None:
    """The spectrum of a set, written as NAME.csv and NAME.h5 (collective; the result on rank 0)."""
    words = chosen.words(context.structure)
    return SpectrumStage(context, chosen.modes, words, chosen.blocks, name, chosen.trajectories).run(member_spectra)


def member_curves(context: Context, members: list[TrajectorySet]) -> FloatArray | None:
    """Each member's own spectrum (members, F) with the deck's estimator, on rank 0 (collective); else None.

    None too when there are fewer than two members, or one of them has no sane trajectory. A rank takes a whole member.
    """

    def curve(index: int) -> FloatArray | None:
        chosen = members[index]
        return SpectrumStage(context, chosen.modes, [], chosen.blocks, chosen.name, chosen.trajectories).curve()

    found = context.deal("correlate members", range(len(members)), curve, "members")
    if found is None:
        return None
    present = [found[index] for index in range(len(members)) if found[index] is not None]
    return np.array(present) if len(present) == len(members) > 1 else None
