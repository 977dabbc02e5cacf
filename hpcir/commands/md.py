"""Command md: trajectories alone, with a model, or with the label engine itself as the reference (AIMD).

The reference starts where the model's own trajectories started their production when the model is that of a run: the
mode energies, most of the noise between single trajectories, are then shared, and the comparison is paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.commands.tables import print_bands
from hpcir.deck.checks import ROUNDING, longest_depth
from hpcir.deck.loader import LoadedDeck
from hpcir.deck.sections import Deck
from hpcir.errors import InputError, LabelFailed
from hpcir.exchange.potentials import AnyPotential, load_potential, potential_file
from hpcir.labels import create_engine
from hpcir.labels.isolation import IsolatedEngine
from hpcir.molecules.structures import Structure, read_structure
from hpcir.runtime.mpi import Communicator, on_root
from hpcir.storage.checksums import digest, file_digest
from hpcir.storage.hdf5 import read_h5
from hpcir.storage.json_result import write_json
from hpcir.study.context import Context
from hpcir.study.production import sets
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.production.trajectories import Starts, TrajectoryStage, run_stages
from hpcir.study.results.analysis import model_harmonics
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.study.results.spectrum_files import NAME
from hpcir.study.session import deck_of, default_deck, session
from hpcir.units import FS, KELVIN
from hpcir.vibrations.normal_modes import NormalModes

FloatArray = NDArray[np.float64]

SUMMARY = "summary.json"
MODEL = "models"
# Steps before the first look at the engine's speed, and seconds of work between two states on the disk after it.
FIRST_STEPS = 20
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Task:
    """What a run of `md` works on; the same on every rank. starts: those of the run's own trajectories, if any."""

    deck: Deck
    structure: Structure
    model: AnyPotential
    modes: NormalModes
    starts: Starts | None
    level: str
    key: str


class LabelPotential:
    """The label engine as a potential of the trajectory runner: positions (N, 3, R) in bohr give energies (R,),
    forces (N, 3, R) and dipoles (3, R) about the centre of mass, in atomic units.

    A geometry that cannot be labelled gives NaN, which retires its trajectory. `chunk_steps`: the steps after which
    the trajectories' state should be on the disk.
    """

    def __init__(self, engine: IsolatedEngine, structure: Structure, warn: Callable[[str], None]) -> None:
        self.engine, self.structure, self.warn = engine, structure, warn
        masses, charges = structure.masses, structure.numbers.astype(float)
        self.weights = charges / charges.sum() - masses / masses.sum()
        self.seconds = 0.0
        self.count = 0
        self.last: dict[int, tuple[FloatArray, tuple[float, FloatArray, FloatArray]]] = {}

    @property
    def chunk_steps(self) -> int:
        if self.count < FIRST_STEPS:
            return FIRST_STEPS
        return max(1, int(CHECKPOINT_SECONDS * self.count / max(self.seconds, 1e-9)))

    def __call__(self, positions: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        answers = [self._one(replica, positions[:, :, replica]) for replica in range(positions.shape[2])]
        energies, forces, dipoles = zip(*answers, strict=True)
        return np.array(energies), np.stack(forces, -1), np.stack(dipoles, -1)

    def _one(self, replica: int, positions: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        # The first geometry of a chunk is the last one of the chunk before; a retired replica stays where it is.
        if replica in self.last and np.array_equal(self.last[replica][0], positions):
            return self.last[replica][1]
        answer = self._label(positions)
        self.last[replica] = (positions.copy(), answer)
        return answer

    def _label(self, positions: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        began = time.perf_counter()
        try:
            label = self.engine.label(self.structure.moved(positions))
        except LabelFailed as error:
            self.warn(f"a geometry of a trajectory could not be labelled: {error}")
            return np.nan, np.full(positions.shape, np.nan), np.full(3, np.nan)
        finally:
            self.seconds += time.perf_counter() - began
            self.count += 1
        # mu(centre of mass) = mu(R0) + Q (R0 - centre of mass).
        return label.energy, label.forces, label.dipole + self.structure.charge * (self.weights @ positions)


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
) -> None:
    """Run trajectories over the ranks and make their spectrum (collective; goes on where it was stopped).

    potential: 'model', or 'labels' for the deck's label engine. deck: default that of the run or model directory, else
    defaults. trajectories, duration (fs) and charge replace the deck's. With a run directory and 'labels' there is no
    equilibration: production starts with the positions and velocities of the run's own trajectories. Writes
    trajectories/main-*.h5, spectrum.csv, spectrum.h5 and summary.json.
    """

    def read() -> Task:
        settings = deck.deck if deck is not None else deck_of(model) or default_deck(structure)
        return read_task(model, structure, _changed(settings, trajectories, duration), potential, charge)

    task = on_root(comm, read)
    with session(output, comm, task.deck, task.structure, task.key, force=force, walltime=walltime) as context:
        began = time.monotonic()
        chosen, timing = _by_labels(context, task) if potential == "labels" else _by_model(context, task)
        seconds = time.monotonic() - began
        result = sets.spectrum_of_set(context, chosen, NAME)
    if result is not None:
        _finish(output, task, result, {**timing, "seconds": seconds, "ranks": comm.size})


def _changed(deck: Deck, trajectories: int | None, duration: float | None) -> Deck:
    changes: dict[str, Any] = {}
    if trajectories is not None:
        changes["trajectories"] = trajectories
    if duration is not None:
        changes["duration"] = duration * FS
    changed = deck.model_copy(update={"dynamics": deck.dynamics.model_copy(update=changes)})
    dynamics, depth = changed.dynamics, changed.spectrum.depth
    if depth > longest_depth(changed) * (1 + ROUNDING):
        raise InputError(
            "the trajectories are shorter than the correlation depth of the spectrum",
            where="dynamics.duration",
            value=f"{dynamics.duration / FS:g} fs",
            hint=f"spectrum.depth is {depth / FS:g} fs: run longer, or give a deck with a smaller depth",
        )
    return changed


def read_task(path: Path, structure: Path, deck: Deck, potential: str, charge: int | None) -> Task:
    """Everything that can be wrong, looked at before the first step. Raises InputError."""
    model = load_potential(path)
    total = charge if charge is not None else deck.system.charge or model.total_charge
    molecule = read_structure(structure, total, deck.system.multiplicity)
    model.require(molecule.numbers)
    level, starts = f"model of {model.level or 'unknown level'}", None
    if potential == "labels":
        engine = create_engine(deck.labels)
        engine.check(molecule)
        level = engine.level
        starts = read_starts(path, molecule, deck)
        changes = {"lockstep": 1} if starts is None else {"lockstep": 1, "equilibration": 0.0}
        deck = deck.model_copy(update={"dynamics": deck.dynamics.model_copy(update=changes)})
    elif not model.charge:
        raise InputError("the model knows no dipole, so its trajectories give no spectrum", where=str(path))
    modes = model_harmonics(model, molecule)
    sections = {"dynamics", "seed", "spectrum"} | ({"labels"} if potential == "labels" else set())
    settings = deck.model_dump(mode="json", include=sections)
    settings.get("labels", {}).pop("threads", None)
    what = (
        potential,
        settings,
        molecule.charge,
        file_digest(potential_file(path)),
        starts.key if starts else "",
    )
    return Task(
        deck,
        molecule,
        model,
        modes,
        starts,
        level,
        f"md-{digest(*what, molecule.numbers, molecule.positions)}",
    )


def read_starts(run: Path, structure: Structure, deck: Deck) -> Starts | None:
    """Positions and velocities at the beginning of production of a run's main trajectories; None when `run` has none.

    Raises InputError when they are of another molecule, another temperature, or too few for the deck.
    """
    blocks = sorted((run / sets.FOLDER).glob("main-*.h5"))
    if not blocks:
        return None
    read = [read_h5(block) for block in blocks]
    if not all("start_positions" in arrays for arrays, _ in read):
        raise InputError("the run's trajectories do not know where they started", where=str(run), hint="run them again")
    joined = {
        name: np.concatenate([arrays[name] for arrays, _ in read], axis=-1)
        for name in ("trajectory", "start_positions", "start_velocities", "start_alive")
    }
    temperature = float(read[0][1]["temperature"])
    if joined["start_positions"].shape[0] != len(structure):
        raise InputError(
            f"the run's molecule has {joined['start_positions'].shape[0]} atoms",
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
    if count > len(joined["trajectory"]):
        raise InputError(
            f"the run has {len(joined['trajectory'])} trajectories to start from",
            where="dynamics.trajectories",
            value=count,
            hint="give --trajectories",
        )
    order = np.argsort(joined["trajectory"])[:count]
    key = str(read[0][1]["starts"])
    return Starts(
        joined["start_positions"][:, :, order],
        joined["start_velocities"][:, :, order],
        joined["start_alive"].astype(bool)[order],
        key,
    )


def _by_model(context: Context, task: Task) -> tuple[TrajectorySet, dict[str, Any]]:
    chosen = sets.main_set(context, task.model, task.modes)
    plan = sets.plan_of(context, chosen)
    folder = context.directory / plan.folder
    resumed = any(folder.glob(f"{plan.name}-*.h5")) or any((context.directory / plan.chunks).glob("*.journal"))
    context.comm.barrier()
    began = time.monotonic()
    (chosen,) = sets.run_sets(context, [chosen])
    seconds = (time.monotonic() - began) * context.comm.size
    if context.root:
        # The folder is then a model directory itself, from which the reference can start.
        task.model.save(context.directory / MODEL)
    steps = chosen.trajectories * (plan.equilibration_steps + plan.production_steps)
    return chosen, {} if resumed else {"microseconds_per_step": 1e6 * seconds / steps}


def _by_labels(context: Context, task: Task) -> tuple[TrajectorySet, dict[str, Any]]:
    """The reference: one trajectory at a time on each rank, every step a label; projected on the model's minima."""
    chosen = sets.main_set(context, task.model, task.modes)
    plan = replace(sets.plan_of(context, chosen), spread_limit=np.inf, starts=task.starts)
    settings = context.deck.labels
    with IsolatedEngine(settings, None, settings.time_limit, check_stop=context.stop.check) as engine:
        potential = LabelPotential(engine, context.structure, context.progress.warn)
        stage = TrajectoryStage(context, plan, task.key, lambda replicas: potential)
        run_stages([stage])
    spent = context.comm.allgather((potential.seconds, potential.count))
    seconds, count = (sum(values) for values in zip(*spent, strict=True))
    timing = {"labels": count, "milliseconds_per_step": 1e3 * seconds / count if count else None}
    return replace(chosen, blocks=tuple(stage.files)), timing


def _finish(output: Path, task: Task, result: SpectrumResult, timing: dict[str, Any]) -> None:
    """summary.json, the table of bands and the time a step took."""
    content = {
        "level": task.level,
        "starts": task.starts.key if task.starts is not None else "",
        "md": result.md,
        "spectrum": result.figures,
        "bands": result.bands,
        "weak_bands": result.weak_bands,
        "modes": result.modes,
        "groups": result.groups,
        "timing": timing,
    }
    write_json(output / SUMMARY, content)
    kelvin = task.deck.dynamics.temperature / KELVIN
    print_bands(result.spectrum.bands, f"{task.level}: {result.md['trajectories']} trajectories, {kelvin:g} K")
    print(result.spectrum.metadata["verdict"])
    if timing.get("milliseconds_per_step"):
        print(f"{timing['labels']} steps in this session, {timing['milliseconds_per_step']:.3g} ms each on its rank")
    elif "microseconds_per_step" in timing:
        print(f"{timing['microseconds_per_step']:.3g} core-microseconds a step of one trajectory")
    if task.starts is not None:
        print("started from the run's own trajectories: `hpcir compare RUN DIR` compares trajectory by trajectory")
    print(f"written: {output / f'{NAME}.csv'}, {output / f'{NAME}.h5'}, {output / SUMMARY}")
