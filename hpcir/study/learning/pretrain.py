"""Stage pretrain: thousands of labels of a cheap level of theory, and the committee that learnt from them.

Short thermostatted trajectories of the cheap engine itself, from thermally sampled normal modes of its own
minimum, at the temperatures of the exploration. The pool of geometries is also where the first expensive labels
are chosen from.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from hpcir.sampling.exploration import GeometryCheck
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context, JournalEntry
from hpcir.study.label_farm import FOLDER as LABELS
from hpcir.study.label_farm import LabelFarm, LabelStore, candidates
from hpcir.study.learning.below import Below
from hpcir.study.learning.committee import CommitteeTrainer, LearntLabel
from hpcir.study.learning.reference import Reference, harmonic_analysis, optimised
from hpcir.units import FS
from hpcir.vibrations.normal_modes import sample as sample_modes
from hpcir.vibrations.normal_modes import zero_point_samples

FOLDER = layout.CHEAP_JOURNALS
TIMESTEP = 1.0 * FS
# Steps between two labels (12 fs: the fast vibrations decorrelate), and labels of a trajectory (0.6 ps: hindered rotors
# turn).
LABEL_INTERVAL = 12
LABELS_PER_TRAJECTORY = 50
# Geometries of the pool for each first label of a cheap main engine, for each of its vibrations, and in all, at most.
POOL_FACTOR, POOL_PER_VIBRATION, MAX_POOL = 10, 200, 1000
FRICTION_TIME = 50.0 * FS
# Sizes of an atom's step along an axis from geometries of outside data, bohr: up to a hydrogen atom's at 500 K.
SPREADS = (0.04, 0.08, 0.12, 0.16)


@dataclass(frozen=True)
class Pretrained:
    """Results of the cheap level: its settings and level, its labels with their seconds (rank 0), its minimum with the
    normal modes."""

    settings: LabelSettings
    level: str
    labelled: list[tuple[Structure, Label]]
    reference: Reference
    seconds: float

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
    if wanted == "ase":  # asked before the run began
        return labels.pretrain_settings
    if importlib.util.find_spec("tblite") is None:
        if wanted == "auto":
            return None
        raise InputError(
            "tblite is not installed", where="labels.pretrain.engine", hint="pip install tblite, or set it to none"
        )
    settings = labels.pretrain_settings
    try:
        create_engine(settings).check(context.structure)
    except InputError:
        if wanted == "auto":
            return None
        raise
    return settings


@collective
def cheap_labels(context: Context, settings: LabelSettings, count: int, store: LabelStore) -> Pretrained:
    """Minimum, modes and pool, of `count` labels, of the cheap level (collective)."""
    farm = LabelFarm(context, settings, None, store)
    minimum = optimised(context, farm, context.structure, "cheap optimisation")
    reference = harmonic_analysis(context, farm, minimum, "cheap normal modes")
    level = farm.level
    farm.close()
    pool, seconds = _pool(context, settings, reference, count)
    return Pretrained(settings, level, pool, reference, seconds)


@collective
def pretrain(context: Context, pretrained: Pretrained, trainer: CommitteeTrainer, file: str) -> Model:
    """The committee trained on the cheap labels; from its file when it is there (collective)."""
    directory = context.directory
    content = context.deck.model_dump(mode="json", include={"model", "training", "seed"})
    inputs = context.on_root(lambda: digest(content, *(s.positions for s, _ in pretrained.labelled)))
    if context.on_root(lambda: directory.finished("pretrain", inputs)) is not None:
        return context.on_root(lambda: Model.load(directory / file))
    model = trainer.train(
        [LearntLabel(*pair) for pair in pretrained.labelled],
        level=pretrained.level,
        start=None,
        steps=context.deck.training.pretrain_steps,
        purpose=f"on {pretrained.level}",
    )
    if context.root:
        model.save(directory / file)
        directory.finish("pretrain", inputs, [file], 0.0, model.error)
    return model


def around(context: Context, structures: Sequence[Structure], count: int) -> list[Structure]:
    """`count` geometries around those given: each of these once, as far as they go, then in turn with every atom moved
    by normally distributed steps, whose size is one of SPREADS."""
    pool = list(structures[:count])
    while len(pool) < count:
        number = len(pool)
        random = context.random("around the data", number)
        base = structures[number % len(structures)]
        pool.append(base.moved(base.positions + random.choice(SPREADS) * random.standard_normal(base.positions.shape)))
    return pool


@collective
def pretrain_around(
    context: Context, settings: LabelSettings, count: int, structures: Sequence[Structure], trainer: CommitteeTrainer
) -> tuple[Below, str]:
    """The level of `count` cheap labels of geometries around `structures`, learnt, and its name (collective).

    Displaced geometries do as much as trajectories from the structures, which take twelve times as many calculations.
    """
    store = LabelStore()
    context.at_root(lambda: store.load(list(context.directory.records(LABELS))))
    farm = LabelFarm(context, settings, None, store)
    pool = around(context, structures, count)
    labels = farm.label(candidates(pool, "around the data"))
    level = farm.level
    farm.close()
    labelled = [LearntLabel(s, label) for s, label in zip(pool, labels, strict=True) if label is not None]
    steps = context.deck.training.pretrain_steps
    model = trainer.train(labelled, level=level, start=None, steps=steps, purpose=f"on {level}")
    return Below(model, settings if settings.engine == "tblite" else None), level


@collective
def own_pool(context: Context, reference: Reference) -> list[Structure]:
    """Thermal geometries of the main engine itself, where its labels cost next to nothing (rank 0; else none)."""
    settings = context.deck.labels
    if settings.engine != "tblite":
        return []
    vibrations, first = len(reference.modes.wavenumbers), context.deck.sampling.initial_labels
    count = min(MAX_POOL, POOL_FACTOR * first, max(first, POOL_PER_VIBRATION * vibrations))
    return [structure for structure, _ in _pool(context, settings, reference, count)[0]]


@collective
def _pool(
    context: Context, settings: LabelSettings, reference: Reference, labels: int
) -> tuple[list[tuple[Structure, Label]], float]:
    """Run the trajectories that are not journalled yet, over all ranks; all labels in order, and the seconds that they
    took, on rank 0."""
    count = -(-labels // LABELS_PER_TRAJECTORY)
    quantum = context.deck.dynamics.nuclei != "classical"
    key = digest(settings.content(), reference.structure.positions, context.deck.seed, count, *[quantum] * quantum)
    engine = context.engine(settings, reference.structure)

    def trajectory(number: int) -> JournalEntry:
        labelled, started = _zero_point if quantum and number % 2 else _trajectory, time.perf_counter()
        arrays = labelled(context, engine, reference, number)
        return arrays, {"trajectory": number, "seconds": time.perf_counter() - started}

    records = context.map_journalled(
        "cheap labels", FOLDER, [digest(key, n) for n in range(count)], trajectory, "trajectories"
    )
    engine.close()
    if records is None:
        return [], 0.0
    pairs = [pair for record in records for pair in _pairs(reference.structure, record.arrays)]
    return pairs, sum(record.attributes.get("seconds", 0.0) for record in records)


def _pairs(structure: Structure, arrays: dict[str, np.ndarray]) -> list[tuple[Structure, Label]]:
    columns: Sequence[Any] = [arrays[name] for name in ("positions", "energy", "forces", "dipole")]
    return [(structure.moved(r), Label(float(e), f, d)) for r, e, f, d in zip(*columns, strict=True)]


def _trajectory(context: Context, engine: LabelEngine, reference: Reference, index: int) -> dict[str, np.ndarray]:
    """One short Langevin trajectory of the cheap engine; every LABEL_INTERVAL-th physical frame with its label."""
    temperatures = context.deck.sampling.temperatures
    temperature = temperatures[index % len(temperatures)]
    masses, is_physical = reference.structure.masses, GeometryCheck(reference.structure)
    start = sample_modes(reference.modes, temperature, 1, context.random("pretrain", index))
    positions = np.ascontiguousarray(start.transpose(1, 2, 0))
    ids = np.array([index])
    seed = int(digest(context.deck.seed, "pretrain")[:12], 16)
    velocities = thermal_velocities(positions, masses, temperature, seed, ids, purpose="pretrain")
    block = ReplicaBlock.start(positions, velocities, ids)
    thermostat = Thermostat("langevin", temperature, FRICTION_TIME, seed)
    latest: dict[str, Label] = {}

    def answer(points: np.ndarray) -> ReplicaEvaluation:
        label = engine.label(reference.structure.moved(points[:, :, 0]))
        latest["label"] = label
        return ReplicaEvaluation(np.array([label.energy]), label.forces[:, :, None])

    potential = ReplicaFunction(answer)
    kept: list[tuple[np.ndarray, Label]] = []
    for _ in range(LABELS_PER_TRAJECTORY):
        try:
            chunk = run_chunk(potential, block, masses, LABEL_INTERVAL, TIMESTEP, thermostat=thermostat, record=())
        except LabelFailed:
            break
        block = chunk.block
        frame = block.positions[:, :, 0].copy()
        if not block.alive.all() or not is_physical(frame):
            break
        kept.append((frame, latest["label"]))
    return _arrays(kept, len(masses))


def _zero_point(context: Context, engine: LabelEngine, reference: Reference, index: int) -> dict[str, np.ndarray]:
    """Labelled geometries of the quantum harmonic distribution, which the beads of quantum nuclei reach."""
    temperatures = context.deck.sampling.temperatures
    temperature = temperatures[index % len(temperatures)]
    random = context.random("pretrain", index)
    kept: list[tuple[np.ndarray, Label]] = []
    for geometry in zero_point_samples(reference.modes, temperature, LABELS_PER_TRAJECTORY, random):
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
