"""Quantum nuclei at classical cost: a model and the learnt correction that makes it the centroids' potential (Te PIGS).

The potential of mean force of a ring polymer's centroid, at an elevated temperature where the curvature problem is
small, moved on classically (Musil, Zaporozhets, Noe, Clementi, Kapil, J. Chem. Phys. 157, 181102, 2022). Here the
centroid is held at each of a few hundred geometries while its beads are averaged, so that mean forces and dipoles are
nearly free of noise (dynamics/centroid_force.py), and a committee of small networks on the model's own symmetry
functions learns what they differ by from the model's. The sum of the two is one model (models/merged.py).

What noise is left is the same for all members, so they would agree about it: each learns forces that are moved by a
draw of its own of as much noise (a wild bootstrap: Wu, Ann. Statist. 14, 1261, 1986), and their spread has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.centroid_force import HeldPlan, centroid_means
from hpcir.dynamics.chunks import ReplicaBlock
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.ring_polymer import RingPolymer
from hpcir.dynamics.runner import run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError, RunStopped
from hpcir.models.evaluator import Evaluator
from hpcir.models.merged import sum_of
from hpcir.models.model import Model
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.exploration import GeometryCheck
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.hdf5 import write_h5
from hpcir.study.context import Context, JournalEntry
from hpcir.study.learning.committee import CommitteeTrainer
from hpcir.study.nuclei import HELD_BLOCK, HELD_GEOMETRIES, ring_of
from hpcir.training.dataset import LabelledGroup
from hpcir.training.reduction import reduction_of
from hpcir.units import FS, KCAL_PER_MOL_ANGSTROM, KELVIN
from hpcir.vibrations.normal_modes import NormalModes
from hpcir.vibrations.normal_modes import sample as sample_modes

# Of the manifest's entries of corrections, whose time is that of the trajectories' stage.
PART = "pigs "
FOLDER = layout.PIGS
GEOMETRIES, BLOCK = HELD_GEOMETRIES, HELD_BLOCK
# Temperature of the dynamics that they come from, as a multiple of production's, and its time after thermal starts.
TEMPERATURE_FACTOR, WARMING = 1.3, 300.0 * FS
FRICTION_TIME = 50.0 * FS
# The averages over the beads: times, and steps between averaged frames.
SETTLING, AVERAGED, INTERVAL = 100.0 * FS, 300.0 * FS, 4
# The correction's networks and their training.
HIDDEN, STEPS = [20, 20], 1500


@dataclass(frozen=True)
class Points:
    """Centroids (G, N, 3) bohr, and by how much the mean forces (G, N, 3) and dipoles (G, 3) there differ from the
    model's; noise (G, N, 3): a draw of the forces' errors; beads (G, N, 3): one of each ring. Atomic units."""

    centroids: FloatArray
    forces: FloatArray
    dipoles: FloatArray
    noise: FloatArray
    beads: FloatArray

    def datasets(self) -> dict[str, tuple[FloatArray, str, str]]:
        """The correction as datasets with units and axes."""
        return {
            "centroids": (self.centroids, "bohr", "centroid,atom,xyz"),
            "forces": (self.forces, "hartree/bohr", "centroid,atom,xyz"),
            "dipoles": (self.dipoles, "e bohr", "centroid,xyz"),
            "noise": (self.noise, "hartree/bohr", "centroid,atom,xyz"),
            "beads": (self.beads, "bohr", "centroid,atom,xyz"),
        }

    def facts(self) -> dict[str, float]:
        """Their number, size and noise, in user units."""
        unit = KCAL_PER_MOL_ANGSTROM
        return {
            "geometries": float(len(self.centroids)),
            "correction_kcal_per_mol_angstrom": float(np.sqrt((self.forces**2).mean())) / unit,
            "noise_kcal_per_mol_angstrom": float(np.sqrt((self.noise**2).mean())) / unit,
        }


@collective
def with_quantum_nuclei(
    context: Context, potential: Potential, structure: Structure, minima: Sequence[NormalModes], name: str
) -> Model:
    """The model with its correction for the masses of `minima`, which are the model's own (collective).

    Written to pigs/NAME.h5, and read from there when it is of the same model and settings. Raises InputError for a
    potential that is not hpcir's own.
    """
    if not isinstance(potential, Model):
        raise InputError("this potential cannot be corrected: PIGS needs a model of hpcir", where="dynamics.nuclei")
    ring = ring_of(context.deck.dynamics, minima[0])
    key = context.on_root(lambda: _key(context, potential, minima, ring))
    path, stage = layout.correction_file(name), f"{PART}{name}"
    if context.on_root(lambda: context.directory.finished(stage, key)) is None:
        context.at_root(lambda: (context.directory / FOLDER).mkdir(exist_ok=True))
        points = _points(context, potential, structure, minima, ring, key)
        correction = _learnt(context, potential, structure, points, ring)
        if context.root and points is not None:
            correction.save(context.directory / path)
            centroids = layout.centroids_file(name)
            write_h5(context.directory / centroids, points.datasets(), {"format": "hpcir centroids"})
            files = [path, centroids]
            context.directory.finish(stage, key, files, 0.0, points.facts() | correction.error)
    return sum_of(potential, context.on_root(lambda: Model.load(context.directory / path)))


def _key(context: Context, model: Model, minima: Sequence[NormalModes], ring: RingPolymer) -> str:
    """A digest of all that a correction depends on."""
    dynamics = context.deck.dynamics
    places = [modes.positions for modes in minima]
    settings = [
        GEOMETRIES,
        HIDDEN,
        STEPS,
        "noise",
        ring.beads,
        ring.temperature,
        dynamics.temperature,
        dynamics.timestep,
    ]
    return digest("pigs", settings, context.deck.seed, minima[0].masses, *places, model.digest)


@collective
def _points(
    context: Context,
    model: Model,
    structure: Structure,
    minima: Sequence[NormalModes],
    ring: RingPolymer,
    key: str,
) -> Points | None:
    """All centroids with their means, on rank 0 (collective): blocks are distributed and journalled."""
    blocks = -(-GEOMETRIES // BLOCK)
    charge = context.structure.charge
    single = Evaluator(model, structure.numbers, BLOCK, charge=charge)
    beads = Evaluator(model, structure.numbers, BLOCK * ring.beads, charge=charge)

    def block(index: int) -> JournalEntry:
        ids = np.arange(index * BLOCK, (index + 1) * BLOCK)
        modes = minima[index % len(minima)]
        centroids = _geometries(context, single, structure, modes, ids)
        plan = HeldPlan(ring, context.deck.dynamics.timestep, SETTLING, AVERAGED, INTERVAL, _seed(context, "held"))
        means = centroid_means(beads, centroids, modes.masses, plan, ids, context.stop.check)
        return {
            "centroids": centroids.transpose(2, 0, 1),
            "forces": (means.forces - means.bare_forces).transpose(2, 0, 1),
            "dipoles": (means.dipoles - means.bare_dipoles).T,
            "noise": means.force_noise.transpose(2, 0, 1),
            "beads": means.beads.transpose(2, 0, 1),
        }, {}

    records = context.map_journalled(
        "mean forces of centroids", FOLDER, [digest(key, n) for n in range(blocks)], block, "blocks"
    )
    if records is None:
        return None
    names = ("centroids", "forces", "dipoles", "noise", "beads")
    joined = [np.concatenate([record.arrays[name] for record in records])[:GEOMETRIES] for name in names]
    good = np.isfinite(joined[1]).all((1, 2)) & GeometryCheck(structure)(joined[0])
    return Points(*(array[good] for array in joined))


def _seed(context: Context, purpose: str) -> int:
    return int(digest(context.deck.seed, "pigs", purpose)[:12], 16)


def _geometries(
    context: Context, evaluator: Evaluator, structure: Structure, modes: NormalModes, ids: IntArray
) -> FloatArray:
    """Geometries (N, 3, BLOCK) of thermal motion about a minimum, somewhat hotter than production."""
    dynamics = context.deck.dynamics
    temperature, seed = TEMPERATURE_FACTOR * dynamics.temperature, _seed(context, "geometries")
    starts = [sample_modes(modes, temperature, 1, context.random("pigs starts", int(i)))[0] for i in ids]
    positions = np.ascontiguousarray(np.array(starts).transpose(1, 2, 0))
    velocities = thermal_velocities(positions, modes.masses, temperature, seed, ids, rotation="remove")
    chunk = run_chunk(
        evaluator,
        ReplicaBlock.start(positions, velocities, ids),
        modes.masses,
        round(WARMING / dynamics.timestep),
        dynamics.timestep,
        thermostat=Thermostat("langevin", temperature, FRICTION_TIME, seed),
        record=(),
    )
    return chunk.block.positions


def member_noise(noise: FloatArray, members: int, random: np.random.Generator) -> FloatArray:
    """Noise (members, G, N, 3) of its own for each member, from one draw (G, N, 3): on the average over the members
    nothing, and with the draw's own size as their standard deviation."""
    factors = random.standard_normal((members, len(noise)))
    return np.asarray((factors - factors.mean(0))[:, :, None, None] * noise)


@collective
def _learnt(context: Context, model: Model, structure: Structure, points: Points | None, ring: RingPolymer) -> Model:
    """A committee of corrections, trained over all ranks on rank 0's points (collective)."""
    if context.on_root(lambda: points is not None and len(points.centroids) < GEOMETRIES // 2):
        raise RunStopped(
            "most centroids left the molecule while their beads were averaged: the model does not reach as far as "
            f"quantum nuclei do at {ring.temperature / KELVIN:.0f} K"
        )
    deck = context.deck
    settings = deck.model.model_copy(update={"hidden": HIDDEN, "charge_hidden": HIDDEN, "members": model.members})
    training = deck.training.model_copy(update={"weighting": "equal", "optimizer": "soap", "process": 0})
    own = replace(context, deck=deck.model_copy(update={"model": settings, "training": training}))
    trainer = CommitteeTrainer(own, model.functions)
    trainer.reductions = {element: reduction_of(networks) for element, networks in model.energy.items()}
    groups = None
    if points is not None:
        groups = [
            LabelledGroup(
                structure.numbers,
                points.centroids,
                forces=points.forces,
                dipoles=points.dipoles if model.charge else None,
                force_noise=member_noise(points.noise, model.members, context.random("centroid noise")),
            )
        ]
    level = f"centroid of ring polymers at {ring.temperature / KELVIN:.0f} K"
    return trainer.train_groups(groups, level=level, start=None, steps=STEPS, purpose="centroid potential")
