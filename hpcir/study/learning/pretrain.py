"""Stage pretrain: thousands of labels of a cheap level of theory, and the committee that learnt from them.

Short thermostatted trajectories of the cheap engine itself, from thermally sampled normal modes of its own
minimum, at the temperatures of the exploration. The pool of geometries is also where the first expensive labels
are chosen from.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.deck.sections import LabelSettings
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError, LabelFailed
from hpcir.labels import Label, create_engine
from hpcir.labels.base import LabelEngine
from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.models.model import Model
from hpcir.models.potential import ReplicaFunction
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.exploration import Sanity
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context, Kept
from hpcir.study.label_farm import LabelFarm, LabelStore
from hpcir.study.learning.committee import CommitteeTrainer, LearntLabel
from hpcir.study.learning.reference import Reference, harmonic_analysis, optimised
from hpcir.units import FS
from hpcir.vibrations.normal_modes import sample as sample_modes

FOLDER = layout.CHEAP_JOURNALS
MODEL = layout.PRETRAINED_MODEL
TIMESTEP = 1.0 * FS
# Steps between two labels that are kept (12 fs: the fast vibrations have moved on), and labels kept of a trajectory
# (0.6 ps: hindered rotors turn).
KEEP_EVERY = 12
KEPT = 50
# Geometries that the first labels of a cheap main engine are picked from: so many for each, and in all at most.
OWN_POOL_EACH, OWN_POOL = 10, 1000
FRICTION_TIME = 50.0 * FS
FloatArray = NDArray[np.float64]
# Positions (1, N, 3) in bohr at which trajectory number n of a temperature begins.
Start = Callable[[int, float], FloatArray]
# Labels of trajectory number n: positions, energies, forces and dipoles.
Labelled = Callable[[LabelEngine, int], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Pretrained:
    """Results of the cheap level: its settings and level, its labels (rank 0), its minimum with the normal modes."""

    settings: LabelSettings
    level: str
    labelled: list[tuple[Structure, Label]]
    reference: Reference

    @property
    def pool(self) -> list[Structure]:
        """The geometries of its labels, in order (rank 0)."""
        return [structure for structure, _ in self.labelled]


def cheap_settings(context: Context) -> LabelSettings | None:
    """The cheap engine's settings, or None: switched off, not installed, the same as the main engine, or unfit."""
    labels = context.deck.labels
    wanted = labels.pretrain.engine
    if wanted == "none" or (wanted == "auto" and labels.engine == "tblite"):
        return None
    if importlib.util.find_spec("tblite") is None:
        if wanted == "auto":
            return None
        raise InputError(
            "tblite is not installed", where="labels.pretrain.engine", hint="pip install tblite, or set it to none"
        )
    settings = LabelSettings(engine="tblite", method=labels.pretrain.method)
    try:
        create_engine(settings).check(context.structure)
    except InputError:
        if wanted == "auto":
            return None
        raise
    return settings


@collective
def cheap_labels(context: Context, settings: LabelSettings, store: LabelStore) -> Pretrained:
    """Minimum, modes and pool of the cheap level (collective)."""
    farm = LabelFarm(context, settings, None, store)
    minimum = optimised(context, farm, context.structure, "cheap optimisation")
    reference = harmonic_analysis(context, farm, minimum, "cheap normal modes")
    level = farm.level
    farm.close()
    pool = _pool_of_modes(context, settings, reference, context.deck.labels.pretrain.labels)
    return Pretrained(settings, level, pool, reference)


@collective
def pretrain(context: Context, pretrained: Pretrained, trainer: CommitteeTrainer) -> Model:
    """The committee trained on the cheap labels; from its file when it is there (collective)."""
    directory = context.directory
    content = context.deck.model_dump(mode="json", include={"model", "training", "seed"})
    inputs = context.on_root(lambda: digest(content, *(s.positions for s, _ in pretrained.labelled)))
    if context.on_root(lambda: directory.finished("pretrain", inputs)) is not None:
        return context.on_root(lambda: Model.load(directory / MODEL))
    model = trainer.train(
        [LearntLabel(*pair) for pair in pretrained.labelled],
        level=pretrained.level,
        start=None,
        steps=context.deck.training.pretrain_steps,
        purpose=f"on {pretrained.level}",
    )
    if context.root:
        model.save(directory / MODEL)
        directory.finish("pretrain", inputs, [MODEL], 0.0, model.error)
    return model


@collective
def pretrain_around(
    context: Context, settings: LabelSettings, structures: Sequence[Structure], trainer: CommitteeTrainer
) -> tuple[Model, str]:
    """The committee trained on cheap labels of short trajectories that start at `structures` in turn, and the cheap
    level (collective)."""

    def start(index: int, temperature: float) -> FloatArray:
        return structures[index % len(structures)].positions[None]

    def labelled(engine: LabelEngine, number: int) -> dict[str, np.ndarray]:
        return _trajectory(context, engine, context.structure, start, number)

    engine = context.engine(settings, context.structure)
    level = engine.level
    engine.close()
    wanted = context.deck.labels.pretrain.labels
    pool = _pool(context, settings, context.structure, labelled, wanted, *(s.positions for s in structures))
    learnt = [LearntLabel(*pair) for pair in pool]
    steps = context.deck.training.pretrain_steps
    return trainer.train(learnt, level=level, start=None, steps=steps, purpose=f"on {level}"), level


@collective
def own_pool(context: Context, reference: Reference) -> list[Structure]:
    """Thermal geometries of the main engine itself, where its labels cost next to nothing (rank 0; else none)."""
    settings = context.deck.labels
    if settings.engine != "tblite":
        return []
    count = min(OWN_POOL, OWN_POOL_EACH * context.deck.sampling.initial_labels)
    return [structure for structure, _ in _pool_of_modes(context, settings, reference, count)]


@collective
def _pool_of_modes(
    context: Context, settings: LabelSettings, reference: Reference, labels: int
) -> list[tuple[Structure, Label]]:
    """The pool of trajectories from thermally sampled normal modes, and of displaced ones where nuclei are quantum."""

    def start(index: int, temperature: float) -> FloatArray:
        return sample_modes(reference.modes, temperature, 1, context.random("pretrain", index))

    quantum = context.deck.dynamics.nuclei != "classical"

    def labelled(engine: LabelEngine, number: int) -> dict[str, np.ndarray]:
        if quantum and number % 2:
            return _zero_point(context, engine, reference, number)
        return _trajectory(context, engine, reference.structure, start, number)

    return _pool(context, settings, reference.structure, labelled, labels, *[quantum] * quantum)


@collective
def _pool(
    context: Context, settings: LabelSettings, structure: Structure, labelled: Labelled, labels: int, *inputs: object
) -> list[tuple[Structure, Label]]:
    """Run the trajectories that are not journalled yet, over all ranks; all labels in order on rank 0. inputs: what
    `labelled` depends on besides settings, structure and seed."""
    count = -(-labels // KEPT)
    key = digest(settings.model_dump(), structure.positions, context.deck.seed, count, *inputs)
    engine = context.engine(settings, structure)

    def trajectory(number: int) -> Kept:
        return labelled(engine, number), {"trajectory": number}

    records = context.map_journalled(
        "cheap labels", FOLDER, [digest(key, n) for n in range(count)], trajectory, "trajectories"
    )
    engine.close()
    if records is None:
        return []
    return [pair for record in records for pair in _pairs(structure, record.arrays)]


def _pairs(structure: Structure, arrays: dict[str, np.ndarray]) -> list[tuple[Structure, Label]]:
    columns: Sequence[Any] = [arrays[name] for name in ("positions", "energy", "forces", "dipole")]
    return [(structure.moved(r), Label(float(e), f, d)) for r, e, f, d in zip(*columns, strict=True)]


def _trajectory(
    context: Context, engine: LabelEngine, structure: Structure, start: Start, index: int
) -> dict[str, np.ndarray]:
    """One short Langevin trajectory of the cheap engine; every KEEP_EVERY-th sane frame with its label."""
    temperatures = context.deck.sampling.temperatures
    temperature = temperatures[index % len(temperatures)]
    masses, sane = structure.masses, Sanity(structure)
    positions = np.ascontiguousarray(start(index, temperature).transpose(1, 2, 0))
    ids = np.array([index])
    seed = int(digest(context.deck.seed, "pretrain")[:12], 16)
    velocities = thermal_velocities(positions, masses, temperature, seed, ids, purpose="pretrain")
    block = ReplicaBlock.start(positions, velocities, ids)
    thermostat = Thermostat("langevin", temperature, FRICTION_TIME, seed)
    latest: dict[str, Label] = {}

    def answer(points: np.ndarray) -> ReplicaEvaluation:
        label = engine.label(structure.moved(points[:, :, 0]))
        latest["label"] = label
        return ReplicaEvaluation(np.array([label.energy]), label.forces[:, :, None])

    potential = ReplicaFunction(answer)
    kept: list[tuple[np.ndarray, Label]] = []
    for _ in range(KEPT):
        try:
            chunk = run_chunk(potential, block, masses, KEEP_EVERY, TIMESTEP, thermostat=thermostat, record=())
        except LabelFailed:
            break
        block = chunk.block
        frame = block.positions[:, :, 0].copy()
        if not block.alive.all() or not sane(frame):
            break
        kept.append((frame, latest["label"]))
    return _arrays(kept, len(masses))


def _zero_point(context: Context, engine: LabelEngine, reference: Reference, index: int) -> dict[str, np.ndarray]:
    """KEPT geometries of the quantum harmonic distribution, with their labels: where the beads of quantum nuclei go."""
    temperatures = context.deck.sampling.temperatures
    temperature = temperatures[index % len(temperatures)]
    random = context.random("pretrain", index)
    kept: list[tuple[np.ndarray, Label]] = []
    for geometry in sample_modes(reference.modes, temperature, KEPT, random, quantum=True):
        context.stop.check()
        with suppress(LabelFailed):
            kept.append((geometry, engine.label(reference.structure.moved(geometry))))
    return _arrays(kept, len(reference.structure))


def _arrays(kept: list[tuple[np.ndarray, Label]], atoms: int) -> dict[str, np.ndarray]:
    """The arrays that the journal keeps of labelled geometries."""
    shape = (len(kept), atoms, 3)
    return {
        "positions": np.array([frame for frame, _ in kept]).reshape(shape),
        "energy": np.array([label.energy for _, label in kept]),
        "forces": np.array([label.forces for _, label in kept]).reshape(shape),
        "dipole": np.array([label.dipole for _, label in kept]).reshape(-1, 3),
    }
