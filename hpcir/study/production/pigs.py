"""Quantum nuclei at classical cost: a model and the learnt correction that makes it the centroids' potential (Te PIGS).

The potential of mean force of a ring polymer's centroid, at an elevated temperature where the curvature problem is
small, moved on classically (Musil, Zaporozhets, Noe, Clementi, Kapil, J. Chem. Phys. 157, 181102, 2022). Here the
centroid is held at each of a few hundred geometries while its beads are averaged, so that mean forces and dipoles are
nearly free of noise (dynamics/centroid_force.py), and a committee of small networks on the model's own symmetry
functions learns what they differ by from the model's. The sum of the two is one model (models/merged.py).

Beads go where labels are fewest, and there the members of a committee differ most. So every member has rings of its
own, which move on its own surface with random numbers of their own, and learns what they felt: members differ by what
their surfaces do at the beads and by the noise of the averages, and the spread of the sum has both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
# The averages over the beads: time before, and steps between averaged frames; the time that all members average
# together, and each at least.
SETTLING, INTERVAL = 50.0 * FS, 4
AVERAGED, MIN_AVERAGED = 200.0 * FS, 50.0 * FS
# The correction's networks and their training.
HIDDEN, STEPS = [20, 20], 1500


@dataclass(frozen=True)
class Points:
    """Centroids (G, N, 3) bohr, and by how much each member's mean forces (M, G, N, 3) and dipoles (M, G, 3) there
    differ from its own at the centroid; noise (M, G, N, 3): a draw of the forces' errors; beads (G, N, 3): one of a
    ring about each centroid, of the members in turn. Atomic units."""

    centroids: FloatArray
    forces: FloatArray
    dipoles: FloatArray
    noise: FloatArray
    beads: FloatArray

    @classmethod
    def of_members(cls, arrays: Mapping[str, FloatArray], structure: Structure) -> Points:
        """Of all members' arrays (M, G, ...), without the centroids about which a ring left the molecule."""
        members, count = arrays["forces"].shape[:2]
        centroids = arrays["centroids"][0]
        good = np.isfinite(arrays["forces"]).all((0, 2, 3)) & GeometryCheck(structure)(centroids)
        forces, dipoles, noise = (arrays[name][:, good] for name in ("forces", "dipoles", "noise"))
        beads = arrays["beads"][np.arange(count) % members, np.arange(count)]
        return cls(centroids[good], forces, dipoles, noise, beads[good])

    def datasets(self) -> dict[str, tuple[FloatArray, str, str]]:
        """The correction as datasets with units and axes."""
        return {
            "centroids": (self.centroids, "bohr", "centroid,atom,xyz"),
            "forces": (self.forces, "hartree/bohr", "member,centroid,atom,xyz"),
            "dipoles": (self.dipoles, "e bohr", "member,centroid,xyz"),
            "noise": (self.noise, "hartree/bohr", "member,centroid,atom,xyz"),
            "beads": (self.beads, "bohr", "centroid,atom,xyz"),
        }

    def facts(self) -> dict[str, float]:
        """Their number, the size of their mean over the members, its noise, and how far members differ, in user
        units."""
        members, unit = len(self.forces), KCAL_PER_MOL_ANGSTROM
        away = ((self.forces - self.forces.mean(0)) ** 2).sum(0) / max(members - 1, 1)
        return {
            "geometries": float(len(self.centroids)),
            "correction_kcal_per_mol_angstrom": float(np.sqrt((self.forces.mean(0) ** 2).mean())) / unit,
            "noise_kcal_per_mol_angstrom": float(np.sqrt((self.noise**2).mean() / members)) / unit,
            "members_differ_kcal_per_mol_angstrom": float(np.sqrt(away.mean())) / unit,
        }

    def group(self, structure: Structure, dipoles: bool) -> LabelledGroup:
        """Labels of the correction: the mean over the members, and what each has beside it."""
        mean, mean_dipole = self.forces.mean(0), self.dipoles.mean(0)
        return LabelledGroup(
            structure.numbers,
            self.centroids,
            forces=mean,
            dipoles=mean_dipole if dipoles else None,
            force_offsets=self.forces - mean,
            dipole_offsets=self.dipoles - mean_dipole if dipoles else None,
        )


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
        "rings of each member, spread controlled",
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
    """All centroids with their members' means, on rank 0 (collective): blocks of each member are distributed and
    journalled."""
    blocks, members = -(-GEOMETRIES // BLOCK), model.members
    single = Evaluator(model, structure.numbers, BLOCK, charge=context.structure.charge)
    averaged = max(AVERAGED / members, MIN_AVERAGED)

    def block(index: int) -> JournalEntry:
        number, member = divmod(index, members)
        ids = np.arange(number * BLOCK, (number + 1) * BLOCK)
        modes = minima[number % len(minima)]
        centroids = _geometries(context, single, structure, modes, ids)
        seed = _seed(context, f"held {member}")
        plan = HeldPlan(ring, context.deck.dynamics.timestep, SETTLING, averaged, INTERVAL, seed)
        replicas, charge = BLOCK * ring.beads, context.structure.charge
        beads = Evaluator(model.member(member), structure.numbers, replicas, charge=charge)
        means = centroid_means(beads, centroids, modes.masses, plan, ids, context.stop.check)
        return {
            "centroids": centroids.transpose(2, 0, 1),
            "forces": (means.forces - means.bare_forces).transpose(2, 0, 1),
            "dipoles": (means.dipoles - means.bare_dipoles).T,
            "noise": means.force_noise.transpose(2, 0, 1),
            "beads": means.beads.transpose(2, 0, 1),
        }, {}

    keys = [digest(key, *divmod(index, members)) for index in range(blocks * members)]
    records = context.map_journalled("mean forces of centroids", FOLDER, keys, block, "blocks")
    if records is None:
        return None
    names = ("centroids", "forces", "dipoles", "noise", "beads")
    arrays = {
        name: np.stack([
            np.concatenate([record.arrays[name] for record in records[member::members]])[:GEOMETRIES]
            for member in range(members)
        ])
        for name in names
    }  # fmt: skip
    return Points.of_members(arrays, structure)


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
    groups = None if points is None else [points.group(structure, bool(model.charge))]
    level = f"centroid of ring polymers at {ring.temperature / KELVIN:.0f} K"
    return trainer.train_groups(groups, level=level, start=None, steps=STEPS, purpose="centroid potential")
