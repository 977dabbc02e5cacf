"""Sets of trajectories of one run: the main one, one for each committee member, one for each isotopologue.

All start from the same keyed streams, so that they are paired: trajectory 7 of a member or an isotopologue begins
with the same random numbers as trajectory 7 of the main set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.deck.sections import DynamicsSettings
from hpcir.dynamics.thermal import is_linear, thermal_velocities
from hpcir.models.potential import Potential, ReplicaPotential
from hpcir.molecules.isotopomers import Relabelling, arrangements
from hpcir.molecules.pieces import Connectivity
from hpcir.molecules.structures import Structure, bonds
from hpcir.runtime.mpi import collective
from hpcir.spectra.basins import Basin, all_basins, with_masses
from hpcir.spectra.intensities import observed_frequency
from hpcir.spectra.projection import MAX_ORTHONORMAL, Projection
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context
from hpcir.study.production.minima import find_minima, same_minima
from hpcir.study.production.pigs import with_quantum_nuclei
from hpcir.study.production.plan import StartPopulations, Starts, TrajectoryPlan, restraint_of
from hpcir.study.production.trajectories import TrajectoryStage, run_stages
from hpcir.units import PER_CM
from hpcir.vibrations.mode_names import describe_modes, functional_groups
from hpcir.vibrations.normal_modes import NormalModes, isotope_masses
from hpcir.vibrations.normal_modes import sample as sample_modes

FOLDER = layout.TRAJECTORIES
# Relative margin above the highest harmonic wavenumber that a dipole series must resolve: bands are broad.
HARMONIC_MARGIN = 0.05
# Name of the wall time of a target's main set, over all sessions, in the manifest of a run.
MAIN_SECONDS = "main set"
# Most mode series (modes times trajectories) that are kept for the assignment: 0.1 GB at 5 ps.
MAX_SERIES = 10_000
# Most trajectories of each single committee member: they are for differences between members alone; and of those beside
# a family or an isotopologue.
MAX_MEMBER_TRAJECTORIES, MAX_VARIANT_MEMBER_TRAJECTORIES = 32, 8


@dataclass(frozen=True)
class TrajectorySet:
    """A model, masses (N,) and the minima that belong to them, the starting one first; blocks: the files of its
    trajectories; starts: their starts (None: thermal samples of the starting minimum's normal modes); surface: the
    model and its minima without the correction for quantum nuclei, where `model` has one (PIGS); populations: of the
    conformers that they start in; of: the name of the set that a single member's belongs to; part: the first
    trajectories that are run of all that were planned (None: all); least: the fewest that represent their starts."""

    name: str
    model: Potential
    masses: FloatArray
    minima: tuple[NormalModes, ...]
    trajectories: int
    blocks: tuple[str, ...] = ()
    starts: Starts | None = None
    surface: tuple[Potential, tuple[NormalModes, ...]] | None = None
    populations: StartPopulations | None = None
    of: str = ""
    part: int | None = None
    least: int = 1

    @property
    def taken(self) -> int:
        """The number of trajectories that are run."""
        return self.trajectories if self.part is None else min(self.part, self.trajectories)

    @property
    def calibration(self) -> tuple[float, float]:
        """The measured ratio of true errors to the spread of the committee: of intensities (the larger of forces' and
        dipoles') and of positions (that of forces); 1 where it was not measured. Labels do not measure a correction for
        quantum nuclei: a committee that is better on labels than it thinks is not taken to be so with one."""
        force, dipole = (self.model.spread_threshold(1.0, quantity) for quantity in ("force", "dipole"))
        ratios = [1 / limit if 0 < limit < float("inf") else 1.0 for limit in (force, dipole)]
        if self.surface is not None:
            ratios = [max(ratio, 1.0) for ratio in ratios]
        return max(ratios), ratios[0]

    @property
    def assign(self) -> bool:
        """True where its bands are to be assigned: not a single member's, nor where the series would be too large."""
        size = self.trajectories * len(self.modes)
        return not self.name.startswith(layout.MEMBERS) and size <= MAX_SERIES and len(self.modes) <= MAX_ORTHONORMAL

    @property
    def modes(self) -> NormalModes:
        """The normal modes of the starting minimum."""
        return self.minima[0]

    @property
    def surface_modes(self) -> NormalModes:
        """The normal modes of the starting minimum of the model itself, without a correction for quantum nuclei."""
        return self.modes if self.surface is None else self.surface[1][0]

    def words(self, structure: Structure) -> list[str]:
        """The modes in words."""
        return describe_modes(self.modes, structure.moved(self.modes.positions))


def plan_of(context: Context, chosen: TrajectorySet) -> TrajectoryPlan:
    """The plan of a set."""
    deck = context.deck
    structure = context.structure.moved(chosen.modes.positions)
    steps = dipole_steps(deck.dynamics, chosen.minima)
    changes: dict[str, Any] = {"trajectories": chosen.trajectories, "dipole_every": steps}
    rings = deck.dynamics.nuclei == "trpmd"
    if rings:
        # What beads do against their centroid sets it turning again, within a tenth of a picosecond.
        changes["rotation"] = "keep"
    return TrajectoryPlan(
        name=chosen.name,
        dynamics=deck.dynamics.model_copy(update=changes),
        modes=chosen.modes,
        projection=Projection.of(all_basins(chosen.minima, context.structure), structure, chosen.masses),
        pairs=bonds(structure),
        # The groups' dipoles are those of one geometry, and ring polymers have one of each bead.
        groups=[group.atoms for group in functional_groups(structure)] if chosen.assign and not rings else [],
        assign=chosen.assign,
        masses=chosen.masses,
        spread_limit=chosen.model.spread_threshold(deck.dynamics.force_error),
        starts=chosen.starts,
        connectivity=Connectivity(structure),
        restraint=restraint_of(deck.dynamics, structure, chosen.masses),
        still=rings and deck.dynamics.rotation == "remove",
    )


def dipole_steps(dynamics: DynamicsSettings, minima: Sequence[NormalModes]) -> int:
    """Steps between dipoles: the deck's, or fewer where a harmonic mode would fold back into the spectrum."""
    highest = (1 + HARMONIC_MARGIN) * max(float(modes.wavenumbers[-1]) for modes in minima) * PER_CM
    # As velocity Verlet shows it; the deck's timestep is stable for every vibration of hydrogen.
    shown = float(observed_frequency(np.array([min(highest, 1.99 / dynamics.timestep)]), dynamics.timestep)[0])
    return max(1, min(dynamics.dipole_every, int(np.pi / (shown * dynamics.timestep))))


def run_sets(context: Context, chosen: Sequence[TrajectorySet]) -> list[TrajectorySet]:
    """Run the missing trajectories of several sets together (collective); the sets with their files."""
    if not chosen:
        return []
    if context.root:
        _say_dipoles(context, chosen)
    stages = [_stage_of(context, one) for one in chosen]
    run_stages(stages)
    return [replace(one, blocks=tuple(stage.files)) for one, stage in zip(chosen, stages, strict=True)]


@collective
def is_there(context: Context, chosen: TrajectorySet) -> bool:
    """True where a set has the files of all its trajectories (collective)."""
    return not _stage_of(context, chosen).unfinished()


def _say_dipoles(context: Context, chosen: Sequence[TrajectorySet]) -> None:
    dynamics = context.deck.dynamics
    steps = min(dipole_steps(dynamics, one.minima) for one in chosen)
    if steps < dynamics.dipole_every:
        highest = max(float(modes.wavenumbers[-1]) for one in chosen for modes in one.minima)
        context.progress.log(
            f"dipoles every {steps} steps instead of dynamics.dipole_every, {dynamics.dipole_every}: the vibration at "
            f"{highest:.0f} cm-1 would fold back into the spectrum",
            warning=True,
        )


@collective
def _stage_of(context: Context, chosen: TrajectorySet) -> TrajectoryStage:
    plan = plan_of(context, chosen)
    model = chosen.model
    settings = context.deck.model_dump(mode="json")["dynamics"]
    # A trajectory does not depend on how many there are.
    settings |= {"trajectories": 0, "dipole_every": plan.dynamics.dipole_every}
    minima = [modes.positions for modes in chosen.minima]
    what = [settings, context.deck.seed, chosen.masses, *minima, model.digest]
    what += [chosen.starts.key] if chosen.starts is not None else []
    what += ["still"] if plan.still else []
    what += [] if chosen.assign else ["not assigned"]
    key = context.comm.bcast(digest(*what))

    def potential(replicas: int) -> ReplicaPotential:
        return model.replicas(context.structure.numbers, replicas, context.structure.charge, chosen.masses)

    return TrajectoryStage(context, plan, key, potential, -(-chosen.taken // plan.lockstep))


def main_set(context: Context, model: Potential, modes: NormalModes) -> TrajectorySet:
    """The set of the deck's own masses, with the minima that its trajectories will visit (collective)."""
    minima = tuple(find_minima(context, model, modes, FOLDER))
    count = context.deck.dynamics.trajectories
    return with_nuclei(context, TrajectorySet(layout.MAIN_SET, model, context.structure.masses, minima, count))


def with_nuclei(context: Context, chosen: TrajectorySet) -> TrajectorySet:
    """The set on the potential on which the deck's nuclei move: PIGS has its own for every masses (collective)."""
    if context.deck.dynamics.nuclei != "pigs":
        return chosen
    structure = context.structure.moved(chosen.modes.positions)
    model = with_quantum_nuclei(context, chosen.model, structure, chosen.minima, chosen.name)
    minima = tuple(same_minima(model, chosen.minima, chosen.masses, structure))
    return replace(chosen, model=model, minima=minima, surface=(chosen.model, chosen.minima))


def member_sets(context: Context, chosen: TrajectorySet) -> list[TrajectorySet]:
    """A set for each member of the committee beside a set, fewer trajectories each; none when the deck has them
    switched off."""
    model = chosen.model
    members = model.members
    if members < 2 or not context.deck.spectrum.committee_errors:
        return []
    most = MAX_MEMBER_TRAJECTORIES if chosen.name == layout.MAIN_SET else MAX_VARIANT_MEMBER_TRAJECTORIES
    return [
        TrajectorySet(
            layout.member_set(index, chosen.name),
            model.member(index),
            chosen.masses,
            chosen.minima,
            min(most, chosen.trajectories),
            starts=chosen.starts,
            of=chosen.name,
        )
        for index in range(members)
    ]


def isotope_sets(context: Context, main: TrajectorySet) -> list[TrajectorySet]:
    """A set for each isotopologue of the deck, with its own masses and normal modes (collective)."""
    sets = []
    model, before = main.surface or (main.model, main.minima)
    for name, pattern in context.deck.system.isotopes.items():
        masses = isotope_masses(context.structure, pattern)
        minima = tuple(same_minima(model, before, masses, context.structure))
        starts = isotopomer_starts(context, main, masses)
        own = TrajectorySet(name, model, masses, minima, main.trajectories, starts=starts, populations=main.populations)
        # As many as of the main set, unless these have not all arrangements of the masses yet.
        part = main.part if len(_copies(context, main, masses)) <= main.taken else None
        sets.append(with_nuclei(context, replace(own, part=part)))
    return sets


def _copies(context: Context, main: TrajectorySet, masses: FloatArray) -> list[Relabelling]:
    """All arrangements of masses (N,) that motion leads to."""
    return arrangements(context.structure.moved(main.surface_modes.positions), masses)


def isotopomer_starts(context: Context, main: TrajectorySet, masses: FloatArray) -> Starts | None:
    """Starts of the trajectories of other masses (N,): the main set's, or thermal samples about its first minimum (None
    where these are as the set makes them itself), with the masses arranged in all the ways that motion leads to, each
    as often as the others."""
    copies = _copies(context, main, masses)
    # Distributed in turn; of more arrangements than trajectories, evenly chosen ones.
    turns = np.arange(main.trajectories) % len(copies)
    if len(copies) > main.trajectories:
        turns = np.arange(main.trajectories) * len(copies) // main.trajectories
    if len(copies) == 1:
        return None if main.starts is None else _with_masses(main.starts, main.masses, masses)
    if main.starts is not None:
        return _arranged(main.starts, main.masses, masses, copies, turns)
    return _thermal_starts(context, main.surface_modes, masses, copies, turns)


def arranged(context: Context, chosen: TrajectorySet) -> TrajectorySet:
    """A set of a molecule whose structure names isotopes, started from all arrangements of these."""
    copies = _copies(context, chosen, chosen.masses)
    if len(copies) == 1:
        return chosen
    return replace(chosen, starts=isotopomer_starts(context, chosen, chosen.masses), least=len(copies))


def _arranged(
    starts: Starts, before: FloatArray, masses: FloatArray, copies: Sequence[Relabelling], turns: IntArray
) -> Starts:
    """Starts with the atoms of each exchanged and other masses (N,), velocities by their inverse root."""
    positions, velocities = np.empty_like(starts.positions), np.empty_like(starts.velocities)
    for number, turn in enumerate(turns.tolist()):
        copy = copies[turn]
        scale = np.sqrt(before[copy.order] / masses)[:, None]
        positions[..., number] = copy.of(starts.positions[..., number])
        velocities[..., number] = copy.of(starts.velocities[..., number]) * scale
    orders = [copy.order for copy in copies]
    key = digest(starts.key, "isotopomers", before, masses, *orders)
    return replace(starts, positions=positions, velocities=velocities, key=key)


def _thermal_starts(
    context: Context, modes: NormalModes, masses: FloatArray, copies: Sequence[Relabelling], turns: IntArray
) -> Starts:
    """Thermal samples of a minimum's copies with other masses (N,)."""
    dynamics, seed = context.deck.dynamics, context.deck.seed
    own = [_copied(context, modes, copy, masses) for copy in copies]
    frames = [
        sample_modes(own[turn], dynamics.temperature, 1, context.random("start positions", number))[0]
        for number, turn in enumerate(turns.tolist())
    ]
    positions = np.ascontiguousarray(np.array(frames).transpose(1, 2, 0))
    linear = is_linear(modes.positions, masses)
    ids = np.arange(len(turns))
    velocities = thermal_velocities(
        positions, masses, dynamics.temperature, seed, ids, rotation=dynamics.rotation, linear=linear
    )
    return Starts(positions, velocities, np.ones(len(turns), bool), digest("isotopomers", positions, velocities))


def _copied(context: Context, modes: NormalModes, copy: Relabelling, masses: FloatArray) -> NormalModes:
    """The normal modes of other masses (N,) at the copy of a minimum."""
    basin = Basin(modes.positions, modes.modes, modes.wavenumbers).relabelled(copy.order)
    basin = basin.reflected() if copy.mirrored else basin
    changed = with_masses(basin, context.structure, modes.masses[copy.order], masses)
    return replace(
        modes, positions=changed.positions, masses=masses, modes=changed.modes, wavenumbers=changed.wavenumbers
    )


def _with_masses(starts: Starts, before: FloatArray, masses: FloatArray) -> Starts:
    """The same starts for other masses (N,): classical positions do not depend on them, and velocities go with their
    inverse root."""
    scale = np.sqrt(before / masses)[:, None, None]
    return replace(starts, velocities=starts.velocities * scale, key=digest(starts.key, masses))
