"""One target of a deck with several: a folder of its own, like a run's, with modes, trajectories, test and spectrum."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcir.deck.resolved import resolved_text
from hpcir.deck.sections import Deck
from hpcir.deck.study import heavy_atoms
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, xyz_text
from hpcir.storage.checksums import digest
from hpcir.storage.files import write_atomic
from hpcir.storage.hdf5 import read_h5, read_intact, write_h5
from hpcir.storage.run_directory import RunDirectory
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.reference import Reference
from hpcir.study.production import sets
from hpcir.study.production.families import FAMILY_TRAJECTORIES, Ensemble, ensemble_starts, worth_a_spectrum
from hpcir.study.production.rotamer_starts import sampled_starts
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.results import analysis
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.vibrations.normal_modes import NormalModes

FOLDER = "targets"
MODES = "modes.h5"
START = "start.xyz"
MODEL = "models/model.h5"


@dataclass(frozen=True)
class Target:
    """A molecule with its own context (folder targets/NAME of the run) and its trajectories; where the deck wants
    conformer families: these, the family that each main trajectory starts in, and the families' own trajectories."""

    context: Context
    main: TrajectorySet
    ensemble: Ensemble | None = None
    started: tuple[int, ...] = ()
    families: tuple[tuple[int, TrajectorySet], ...] = ()

    @property
    def structure(self) -> Structure:
        return self.context.structure

    @property
    def name(self) -> str:
        return self.structure.name


def target_context(context: Context, structure: Structure) -> Context:
    """The context of one target: its folder, and the deck as if it were the only molecule."""
    deck = context.deck
    system = deck.system.model_copy(
        update={
            "structure": START,
            "name": structure.name,
            "charge": structure.charge,
            "multiplicity": structure.multiplicity,
            "targets": [],
        }
    )
    sampling = deck.sampling.model_copy(update={"seeds": [], "families": 0})
    own: Deck = deck.model_copy(update={"system": system, "sampling": sampling})
    directory = RunDirectory(context.directory / f"{FOLDER}/{structure.name}")
    return Context(own, structure, directory, context.comm, context.progress, context.stop)


def prepare(context: Context, model: Model) -> None:
    """Make a target's folder, with what `hpcir md`, `report` and `compare` look for there (rank 0)."""
    directory = context.directory
    directory.path.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / "deck.resolved.yaml", resolved_text(context.deck, START))
    write_atomic(directory / START, xyz_text(context.structure))
    model.save(directory / MODEL)


def modes_key(context: Context, model: Model) -> str:
    """What a target's normal modes depend on."""
    return digest(model_key(model), context.structure.numbers, context.structure.positions)


def model_key(model: Model) -> str:
    """A digest of all weights."""
    weights = [w for group in (model.energy, model.charge) for c in group.values() for w in (*c.weights, *c.biases)]
    return digest(*weights)


def harmonics(contexts: list[Context], model: Model) -> list[NormalModes]:
    """The model's normal modes of every target at its minimum, over all ranks (collective); from their files where
    they are there."""
    comm = contexts[0].comm
    known: dict[int, NormalModes] = {}
    if contexts[0].root:
        for index, context in enumerate(contexts):
            content = read_intact(context.directory / MODES)
            if content is not None and content[1].get("inputs") == modes_key(context, model):
                known[index] = NormalModes.from_arrays(content[0])
    todo = comm.bcast([index for index in range(len(contexts)) if index not in known])
    todo = sorted(todo, key=lambda index: -len(contexts[index].structure))

    def written(index: int) -> NormalModes:
        modes = analysis.model_harmonics(model, contexts[index].structure)
        write_modes(contexts[index], modes, modes_key(contexts[index], model))
        return modes

    known |= contexts[0].deal("normal modes", todo, written, "geometries") or {}
    known = comm.bcast(known)
    return [known[index] for index in range(len(contexts))]


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
    arrays = {name: (value, *units[name]) for name, value in modes.to_arrays().items()}
    write_h5(context.directory / MODES, arrays, {"format": "hpcir modes", "inputs": key})


def trajectories(context: Context, model: Model, modes: NormalModes) -> Target:
    """Run a target's trajectories from conformers sampled with the model (collective)."""
    main = sets.main_set(context, model, modes)
    starts = sampled_starts(context, model, context.structure, main.trajectories, model_key(model))
    return Target(context, _run(context, [replace(main, starts=starts)])[0])


def family_trajectories(context: Context, model: Model, ensemble: Ensemble) -> Target:
    """Run a target's trajectories from its conformer families: the main ones by Boltzmann's weights, and some of each
    family that has a spectrum of its own, all of them together (collective)."""
    count = context.deck.dynamics.trajectories
    masses = context.structure.masses
    starts, started = ensemble_starts(context, ensemble, count)
    main = TrajectorySet("main", model, masses, (ensemble.modes[0][0],), count, starts=starts)
    numbers, own = worth_a_spectrum(ensemble), []
    for number in numbers:
        few = min(FAMILY_TRAJECTORIES, count)
        starts, _ = ensemble_starts(context, ensemble, few, number)
        modes = (ensemble.modes[number][0],)
        own.append(TrajectorySet(f"family-{number + 1}", model, masses, modes, few, starts=starts))
    main, *own = _run(context, [main, *own])
    return Target(context, main, ensemble, tuple(started), tuple(zip(numbers, own, strict=True)))


def _run(context: Context, chosen: list[TrajectorySet]) -> list[TrajectorySet]:
    """Run sets together, the main one first. Only that one's time is told by steps, so the whole is shared out by the
    trajectories."""
    began = time.monotonic()
    try:
        return sets.run_sets(context, chosen)
    finally:
        if context.root:
            spent, all_of_them = time.monotonic() - began, sum(one.trajectories for one in chosen)
            context.directory.spend("trajectories", spent * chosen[0].trajectories / all_of_them)
            if len(chosen) > 1:
                context.directory.spend("families", spent * (1 - chosen[0].trajectories / all_of_them))


def test(context: Context, farm: LabelFarm, model: Model, target: Target) -> dict[str, Any]:
    """The independent test of one target: geometries of its own trajectories labelled whole (collective)."""
    settings = context.deck.test
    if settings.count == 0 or heavy_atoms(target.structure) > settings.largest:
        return {"n": 0}
    reference = Reference(target.structure, target.main.modes, np.nan)
    return analysis.independent_test(context, farm, model, reference, target.main.blocks)


def spectra(target: Target) -> dict[str, SpectrumResult] | None:
    """The spectrum of a target's trajectories, and those of its families by name (collective; empty but on rank 0). A
    family whose trajectories all left the region that the model knows has none; a target without one trajectory of its
    own is lost: None, on all ranks. The log says so of either."""
    if _lost(target, target.main):
        return None
    results = {"spectrum": sets.spectrum_of_set(target.context, target.main, "spectrum")}
    for _, chosen in target.families:
        if not _lost(target, chosen):
            results[chosen.name] = sets.spectrum_of_set(target.context, chosen, f"spectrum-{chosen.name}")
    return {name: result for name, result in results.items() if result is not None}


def _lost(target: Target, chosen: TrajectorySet) -> bool:
    """Whether no trajectory of a set stayed where the model knows its way; the log says so (collective)."""
    context = target.context
    lost: bool = context.comm.bcast(not _any_sane(context, chosen) if context.root else None)
    if lost and context.root:
        which = "" if chosen is target.main else f" of {chosen.name}"
        context.progress.log(
            f"{target.name}: no spectrum{which}: all trajectories left the region that the model knows", warning=True
        )
    return lost


def _any_sane(context: Context, chosen: TrajectorySet) -> bool:
    return any(read_h5(context.directory / block)[0]["sane"].any() for block in chosen.blocks)
