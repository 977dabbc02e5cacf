"""The targets of a study in production: a folder for each, and its sets of trajectories.

A target's trajectories start by its properties: in conformer families where the deck wants them; in thermal samples of
the one minimum that sampling explored, where turning about bonds leads to no other; else in conformers sampled with the
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.deck.resolved import resolved_text
from hpcir.deck.sections import Deck
from hpcir.deck.study import Study
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, xyz_text
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.files import write_atomic
from hpcir.storage.hdf5 import read_intact, write_h5
from hpcir.storage.run_directory import RunDirectory
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.reference import Reference
from hpcir.study.production import sets
from hpcir.study.production.canonical_starts import Canonical, canonical_ensemble, find_rotamers
from hpcir.study.production.families import (
    MAX_FAMILY_TRAJECTORIES,
    Ensemble,
    family_populations,
    family_starts,
    find_families,
    main_starts,
    sampled_ensemble,
    worth_a_spectrum,
)
from hpcir.study.production.parts import ErrorsOf, run_in_parts
from hpcir.study.production.pigs import with_quantum_nuclei
from hpcir.study.production.plan import StartPopulations
from hpcir.study.production.sets import TrajectorySet
from hpcir.vibrations.harmonics import model_harmonics
from hpcir.vibrations.normal_modes import NormalModes


@dataclass(frozen=True)
class Target:
    """A molecule with its own context and its sets of trajectories.

    reference: the engine's minimum, where it is known. ensemble: conformer families where the deck wants them; started:
    the family that each main trajectory starts in; families: (number, set) of those with trajectories of their own.
    rotamers: unlike minima that turning about bonds leads to, where they were counted; canonical: the populations that
    the trajectories start with, where there are several.
    """

    context: Context
    main: TrajectorySet
    reference: Reference | None = None
    members: tuple[TrajectorySet, ...] = ()
    isotopes: tuple[TrajectorySet, ...] = ()
    ensemble: Ensemble | None = None
    started: tuple[int, ...] = ()
    families: tuple[tuple[int, TrajectorySet], ...] = ()
    rotamers: int | None = None
    canonical: Canonical | None = None

    @property
    def others(self) -> tuple[TrajectorySet, ...]:
        """The isotopologues' and the families' sets."""
        return (*self.isotopes, *(one for _, one in self.families))

    def members_of(self, chosen: TrajectorySet) -> list[TrajectorySet]:
        """The sets of single members beside a set."""
        return [one for one in self.members if one.of == chosen.name]

    @property
    def structure(self) -> Structure:
        return self.context.structure

    @property
    def name(self) -> str:
        return self.structure.name


def target_contexts(context: Context, study: Study) -> list[Context]:
    """The contexts of all targets: that of the run where there is one target, else each with a folder of its own."""
    if len(study.targets) == 1:
        return [context]
    return [_target_context(context, structure, index == 0) for index, structure in enumerate(study.targets)]


def _target_context(context: Context, structure: Structure, first: bool) -> Context:
    """The context of one target of several: its folder, and the deck as if it were the only molecule."""
    deck = context.deck
    isotopes = {
        name: pattern
        for name, pattern in deck.system.isotopes.items()
        if all(first or key in structure.symbols for key in pattern)
    }
    system = deck.system.model_copy(
        update={
            "structure": layout.START,
            "name": structure.name,
            "charge": structure.charge,
            "multiplicity": structure.multiplicity,
            "targets": [],
            "isotopes": isotopes,
        }
    )
    sampling = deck.sampling.model_copy(update={"seeds": [], "families": 0})
    own: Deck = deck.model_copy(update={"system": system, "sampling": sampling})
    directory = RunDirectory(context.directory / layout.target_folder(structure.name))
    return replace(context, deck=own, structure=structure, directory=directory)


def make_folder(context: Context, model: Model) -> None:
    """Make a target's folder, with the files that `hpcir md`, `report` and `compare` look for there (rank 0)."""
    directory = context.directory
    directory.path.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / layout.DECK, resolved_text(context.deck, layout.START))
    write_atomic(directory / layout.START, xyz_text(context.structure))
    model.save(directory / layout.MODEL)


@collective
def main_trajectories(
    context: Context,
    study: Study,
    model: Model,
    farm: LabelFarm,
    reference: Reference | None,
    errors_of: ErrorsOf,
) -> list[Target]:
    """Run the main trajectories of every target, and those of its conformer families (collective).

    reference: the minimum that sampling explored around, if it was one; errors_of: the errors of the bands that a set's
    trajectories give so far, by which their number is decided.
    """
    contexts = target_contexts(context, study)
    if context.root and len(contexts) > 1:
        for own in contexts:
            make_folder(own, model)
    context.comm.barrier()
    if count := context.deck.sampling.families:
        key = model.digest
        ensembles = [find_families(own, farm, model, count, key) for own in contexts]
        return [
            _by_families(own, model, ensemble, errors_of) for own, ensemble in zip(contexts, ensembles, strict=True)
        ]
    near = [reference.structure if reference is not None else own.structure for own in contexts]
    modes = harmonics(contexts, model, near)
    return [_by_modes(own, model, found, reference, errors_of) for own, found in zip(contexts, modes, strict=True)]


def _by_modes(
    context: Context, model: Model, modes: NormalModes, reference: Reference | None, errors_of: ErrorsOf
) -> Target:
    """A target's main trajectories from thermal samples of its one minimum, or from the model's canonical ensemble
    where there are several."""
    main, rotamers, canonical = sets.main_set(context, model, modes), None, None
    near = context.structure if reference is None else context.structure.moved(modes.positions)
    if reference is not None:
        rotamers = find_rotamers(context, model, near, model.digest)
    if rotamers is None or len(rotamers.names) > 1:
        canonical = canonical_ensemble(context, model, near, main.trajectories, model.digest, rotamers=rotamers)
        starts, populations = canonical.draw(context, near, main.trajectories, "main")
        main = replace(main, starts=starts, populations=populations)
    else:
        one = StartPopulations.one(main.trajectories, "one minimum, by a search about its bonds and rings")
        main = replace(main, populations=one)
    main = sets.arranged(context, main)
    of_engine = reference if reference is not None and reference.labelled else None
    (main,) = run_in_parts(context, main, [], errors_of)
    known = None if rotamers is None else len(rotamers.names)
    return Target(context, main, of_engine, rotamers=known, canonical=canonical)


def _by_families(context: Context, model: Model, ensemble: Ensemble, errors_of: ErrorsOf) -> Target:
    """A target's trajectories from its conformer families: the main ones by the canonical weights, and some of each
    family that has a spectrum of its own, all of them together."""
    count, masses, structure = context.deck.dynamics.trajectories, context.structure.masses, context.structure
    canonical = sampled_ensemble(context, model, ensemble, count, model.digest)
    ensemble = ensemble.weighted(canonical, context.deck.dynamics.temperature)
    starts, populations = main_starts(context, ensemble, canonical, count)
    started = family_populations(ensemble, populations)
    main = TrajectorySet(
        layout.MAIN_SET, model, masses, (ensemble.modes[0][0],), count, starts=starts, populations=populations
    )
    if context.deck.dynamics.nuclei == "pigs":
        minima = [modes[0] for modes in ensemble.modes]
        corrected = with_quantum_nuclei(context, model, structure, minima, layout.MAIN_SET)
        main, model = replace(main, model=corrected, surface=(model, main.minima)), corrected
    main = sets.arranged(context, main)
    numbers, own = worth_a_spectrum(ensemble), []
    for number in numbers:
        few = min(MAX_FAMILY_TRAJECTORIES, count)
        starts = family_starts(context, ensemble, canonical, few, number)
        family = TrajectorySet(
            layout.family_set(number),
            model,
            masses,
            (ensemble.modes[number][0],),
            few,
            starts=starts,
            populations=StartPopulations.one(few, "one family"),
        )
        own.append(sets.arranged(context, family))
    main, *own = run_in_parts(context, main, own, errors_of)
    families, started = tuple(zip(numbers, own, strict=True)), started[: main.taken]
    return Target(context, main, ensemble=ensemble, started=started, families=families, canonical=canonical)


@collective
def variants(target: Target) -> Target:
    """Run the trajectories of a target's isotopologues and of single members beside every set, together
    (collective)."""
    context = target.context
    isotopes = sets.isotope_sets(context, target.main)
    families = [one for _, one in target.families]
    members = [one for chosen in (target.main, *isotopes, *families) for one in sets.member_sets(context, chosen)]
    done = sets.run_sets(context, [*isotopes, *members])
    return replace(target, isotopes=tuple(done[: len(isotopes)]), members=tuple(done[len(isotopes) :]))


# -- normal modes -------------------------------------------------------------------------------------------------


@collective
def harmonics(contexts: Sequence[Context], model: Model, near: Sequence[Structure]) -> list[NormalModes]:
    """The model's normal modes of every target at its minimum near a structure, over all ranks; from their files where
    they are there (collective)."""
    first = contexts[0]
    known = first.on_root(lambda: _known_modes(contexts, model, near))
    todo = sorted(set(range(len(contexts))) - set(known), key=lambda index: -len(near[index]))

    def written(index: int) -> NormalModes:
        modes = model_harmonics(model, near[index])
        write_modes(contexts[index], modes, _modes_key(model, near[index]))
        return modes

    found = first.map_over_ranks("normal modes", todo, written, "geometries")
    known |= first.comm.bcast(found)
    return [known[index] for index in range(len(contexts))]


def _modes_key(model: Model, near: Structure) -> str:
    """A digest of all that a target's normal modes depend on."""
    return digest(model.digest, near.numbers, near.positions)


def _known_modes(contexts: Sequence[Context], model: Model, near: Sequence[Structure]) -> dict[int, NormalModes]:
    known = {}
    for index, (context, structure) in enumerate(zip(contexts, near, strict=True)):
        content = read_intact(context.directory / layout.MODES)
        if content is not None and content[1].get("inputs") == _modes_key(model, structure):
            known[index] = NormalModes.from_arrays(content[0])
    return known


def write_modes(context: Context, modes: NormalModes, key: str) -> None:
    """modes.h5 of a target's folder: the minimum of the model, its normal modes and harmonic intensities."""
    units = {
        "numbers": ("atomic number", "atom"),
        "positions": ("bohr", "atom,xyz"),
        "masses": ("electron mass", "atom"),
        "wavenumbers": ("cm-1", "mode"),
        "modes": ("mass-weighted, orthonormal", "mode,atom,xyz"),
        "reduced_masses": ("electron mass", "mode"),
        "mode_dipoles": ("e/sqrt(electron mass)", "mode,xyz"),
        "intensities": ("km/mol", "mode"),
    }
    arrays = {name: (np.asarray(value), *units[name]) for name, value in modes.to_arrays().items()}
    write_h5(context.directory / layout.MODES, arrays, {"format": "hpcir modes", "inputs": key})
