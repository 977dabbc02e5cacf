"""Command md: trajectories alone, with a model, or with the label engine itself as the reference (AIMD).

The reference starts where the model's own trajectories started their production when the model is that of a run: the
mode energies, most of the noise between single trajectories, are then shared, and the comparison is paired.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.commands.levels import mass_numbers
from hpcir.commands.tables import print_bands
from hpcir.deck.checks import UNIT_ROUNDING, friction_width_per_cm, longest_depth
from hpcir.deck.loader import LoadedDeck
from hpcir.deck.sections import Deck
from hpcir.errors import InputError
from hpcir.exchange.potentials import StoredPotential, load_potential
from hpcir.labels import create_engine
from hpcir.labels.isolation import IsolatedEngine
from hpcir.labels.potential import EnginePotential
from hpcir.molecules.structures import Structure, read_structure
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.json_result import write_json
from hpcir.storage.records import as_dict
from hpcir.study.context import Context
from hpcir.study.production import sets
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.plan import Starts
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.results.records import Timing, TrajectorySummary
from hpcir.study.results.spectra import spectrum_of_set
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.study.session import deck_of, default_deck, require_charge, session
from hpcir.units import FS, KELVIN
from hpcir.vibrations.harmonics import model_harmonics
from hpcir.vibrations.normal_modes import NormalModes, isotope_masses


@dataclass(frozen=True)
class Task:
    """The task of a run of `md`; the same on every rank. starts: those of the run's own trajectories, if any."""

    deck: Deck
    structure: Structure
    model: StoredPotential
    modes: NormalModes
    starts: Starts | None
    level: str
    key: str


@collective
def md(
    model: Path,
    structure: Path,
    deck: LoadedDeck | None,
    potential: str,
    output: Path,
    force: bool,
    comm: Communicator,
    trajectories: int | None = None,
    duration: float | None = None,
    charge: int | None = None,
    walltime: float | None = None,
    masses: dict[str, str] | None = None,
) -> None:
    """Run trajectories over the ranks and make their spectrum (collective; continues where it was stopped).

    potential: 'model', or 'labels' for the deck's label engine. deck: default that of the run or model directory, else
    defaults. trajectories, duration (fs) and charge replace the deck's; masses: others in amu by element or atom. With
    a run directory and 'labels' there is no equilibration, unless with other masses: production starts with the
    positions and velocities of the run's own trajectories. Writes
    trajectories/main-*.h5, spectrum.csv, spectrum.h5 and summary.json.
    """

    def read() -> Task:
        settings = deck.deck if deck is not None else deck_of(model) or default_deck(structure)
        return read_task(model, structure, _changed(settings, trajectories, duration), potential, charge, masses)

    task = on_root(comm, read)
    with session(output, comm, task.deck, task.structure, task.key, force=force, walltime=walltime) as context:
        began = time.monotonic()
        chosen, timing = _by_labels(context, task) if potential == "labels" else _by_model(context, task)
        seconds = time.monotonic() - began
        result = spectrum_of_set(context, chosen, layout.SPECTRUM)
    if result is not None:
        _finish(output, task, result, replace(timing, seconds=seconds, ranks=comm.size))


def _changed(deck: Deck, trajectories: int | None, duration: float | None) -> Deck:
    changes: dict[str, int | float] = {}
    if trajectories is not None:
        changes["trajectories"] = trajectories
    if duration is not None:
        changes["duration"] = duration * FS
    changed = deck.model_copy(update={"dynamics": deck.dynamics.model_copy(update=changes)})
    dynamics, depth = changed.dynamics, changed.spectrum.depth
    if (broad := friction_width_per_cm(changed)) > 0:
        raise InputError(
            f"Langevin friction in production makes every line {broad:.0f} cm-1 broader",
            where="dynamics.ensemble",
            value="nvt",
            hint="give thermostat: svr, or ensemble: nve",
        )
    if depth > longest_depth(changed) * (1 + UNIT_ROUNDING):
        raise InputError(
            "the trajectories are shorter than the correlation depth of the spectrum",
            where="dynamics.duration",
            value=f"{dynamics.duration / FS:g} fs",
            hint=f"spectrum.depth is {depth / FS:g} fs: run longer, or give a deck with a smaller depth",
        )
    return changed


def read_task(
    path: Path,
    structure: Path,
    deck: Deck,
    potential: str,
    charge: int | None,
    masses: dict[str, str] | None = None,
) -> Task:
    """Checks before the first step. Raises InputError."""
    model = load_potential(path)
    total = charge if charge is not None else deck.system.charge or model.total_charge
    molecule = read_structure(structure, total, deck.system.multiplicity)
    if masses:
        changed = isotope_masses(molecule, mass_numbers(masses), where="--masses")
        molecule = replace(molecule, nuclear_masses=changed)
    model.require(molecule.numbers)
    require_charge(model, path, molecule.charge, str(structure))
    level, starts = f"model of {model.level or 'unknown level'}", None
    if potential == "labels":
        if deck.dynamics.nuclei != "classical":
            raise InputError(
                "trajectories of the label engine are those of classical nuclei",
                where="dynamics.nuclei",
                value=deck.dynamics.nuclei,
                hint="give a deck with nuclei: classical",
            )
        engine = create_engine(deck.labels)
        engine.check(molecule)
        level = engine.level
        # Velocities of a run's trajectories are those of its own masses.
        starts = None if masses else read_starts(path, molecule, deck)
        changes = {"lockstep": 1} if starts is None else {"lockstep": 1, "equilibration": 0.0}
        deck = deck.model_copy(update={"dynamics": deck.dynamics.model_copy(update=changes)})
    elif not model.has_dipole:
        raise InputError("the model has no dipole, so its trajectories give no spectrum", where=str(path))
    modes = model_harmonics(model, molecule)
    sections = {"dynamics", "seed", "spectrum"} | ({"labels"} if potential == "labels" else set())
    settings = deck.model_dump(mode="json", include=sections)
    settings.get("labels", {}).pop("threads", None)
    what = (
        potential,
        settings,
        molecule.charge,
        model.digest,
        starts.key if starts else "",
    )
    return Task(
        deck,
        molecule,
        model,
        modes,
        starts,
        level,
        f"md-{digest(*what, molecule.numbers, molecule.positions, *_isotopes(molecule))}",
    )


def _isotopes(structure: Structure) -> list[FloatArray]:
    return [] if structure.nuclear_masses is None else [structure.nuclear_masses]


def read_starts(run: Path, structure: Structure, deck: Deck) -> Starts | None:
    """Positions and velocities at the beginning of production of a run's main trajectories; None when `run` has none.

    Raises InputError when they are of another molecule, another temperature, or too few for the deck.
    """
    blocks = sorted(run.glob(layout.block_files(layout.MAIN_SET)))
    if not blocks:
        return None
    read = [TrajectoryBlock.read(block) for block in blocks]
    starts = [block.begin for block in read]
    known = [start for start in starts if start is not None]
    if len(known) < len(starts):
        raise InputError("the run's trajectory files have no starts", where=str(run), hint="run them again")
    positions, velocities, alive = (np.concatenate(parts, axis=-1) for parts in zip(*known, strict=True))
    numbers = np.concatenate([block.trajectory for block in read])
    temperature = read[0].temperature
    if len(positions) != len(structure):
        raise InputError(
            f"the run's molecule has {len(positions)} atoms",
            where=structure.source,
            value=len(structure),
        )
    if abs(temperature - deck.dynamics.temperature) > 1e-6 * temperature:
        raise InputError(
            f"the run's trajectories are of {temperature / KELVIN:g} K",
            where="dynamics.temperature",
            value=f"{deck.dynamics.temperature / KELVIN:g} K",
        )
    count = deck.dynamics.trajectories
    if count > len(numbers):
        raise InputError(
            f"the run has {len(numbers)} trajectories to start from",
            where="dynamics.trajectories",
            value=count,
            hint="give --trajectories",
        )
    order = np.argsort(numbers)[:count]
    return Starts(positions[:, :, order], velocities[:, :, order], alive[order], read[0].starts)


@collective
def _by_model(context: Context, task: Task) -> tuple[TrajectorySet, Timing]:
    chosen = sets.main_set(context, task.model, task.modes)
    plan = sets.plan_of(context, chosen)
    blocks = context.directory.path.glob(layout.block_files(plan.name))
    resumed = any(blocks) or any((context.directory / plan.chunks).glob("*.journal"))
    context.comm.barrier()
    began = time.monotonic()
    (chosen,) = sets.run_sets(context, [chosen])
    seconds = (time.monotonic() - began) * context.comm.size
    if context.root:
        # The folder is then a model directory itself, from which the reference can start.
        task.model.save(context.directory / layout.MODELS)
    steps = chosen.trajectories * (plan.equilibration_steps + plan.production_steps)
    return chosen, Timing() if resumed else Timing(microseconds_per_step=1e6 * seconds / steps)


@collective
def _by_labels(context: Context, task: Task) -> tuple[TrajectorySet, Timing]:
    """The reference: one trajectory at a time on each rank, every step a label; projected on the model's minima."""
    by_model = sets.main_set(context, task.model, task.modes)
    settings = context.deck.labels
    with IsolatedEngine(settings, None, settings.time_limit, check_stop=context.stop.check) as engine:
        potential = EnginePotential(engine, context.structure, context.progress.warn)
        (chosen,) = sets.run_sets(context, [replace(by_model, model=potential, starts=task.starts)])
    spent = context.comm.allgather((potential.seconds, potential.count))
    seconds, count = (sum(values) for values in zip(*spent, strict=True))
    timing = Timing(labels=count, milliseconds_per_step=1e3 * seconds / count if count else float("nan"))
    return chosen, timing


def _finish(output: Path, task: Task, result: SpectrumResult, timing: Timing) -> None:
    """summary.json, the table of bands and the time a step took."""
    summary = TrajectorySummary(
        level=task.level,
        starts=task.starts.key if task.starts is not None else "",
        md=result.md,
        spectrum=result.figures,
        bands=result.bands,
        weak_bands=result.weak_bands,
        modes=result.modes,
        groups=result.groups,
        timing=timing,
    )
    write_json(output / layout.SUMMARY, as_dict(summary))
    kelvin = task.deck.dynamics.temperature / KELVIN
    print_bands(result.spectrum.bands, f"{task.level}: {result.md.trajectories} trajectories, {kelvin:g} K")
    print(result.figures.verdict)
    if timing.milliseconds_per_step is not None and timing.labels:
        print(f"{timing.labels} steps in this session, {timing.milliseconds_per_step:.3g} ms each on its rank")
    elif timing.microseconds_per_step is not None:
        print(f"{timing.microseconds_per_step:.3g} core-microseconds a step of one trajectory")
    if task.starts is not None:
        print("started from the run's own trajectories: `hpcir compare RUN DIR` compares trajectory by trajectory")
    written = (layout.spectrum_csv(), layout.spectrum_h5(), layout.SUMMARY)
    print(f"written: {', '.join(str(output / name) for name in written)}")
