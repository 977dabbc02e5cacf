"""A label engine as a potential: dynamics and vibrations at the engine's own level of theory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label, LabelEngine
from hpcir.models.evaluation import Evaluation, ReplicaEvaluation, origin_weights
from hpcir.models.potential import Potential, ReplicaPotential
from hpcir.molecules.structures import Structure
from hpcir.storage import checksums

# Steps before the first measurement of the engine's speed, and seconds of work between two states on the disk after it.
FIRST_STEPS = 20
CHECKPOINT_SECONDS = 20.0


class EnginePotential:
    """A hpcir.models.potential.Potential of an engine that labels one molecule.

    structure: gives the molecule's elements, charge and spin. warn: called when a geometry of a replica cannot be
    labelled; its energy, forces and dipole are then NaN, which retires its trajectory. seconds and count: those of the
    labels made by replicas so far.
    """

    def __init__(
        self, engine: LabelEngine, structure: Structure, warn: Callable[[str], None] = lambda message: None
    ) -> None:
        self.engine, self.structure, self.warn = engine, structure, warn
        self.seconds, self.count = 0.0, 0

    @property
    def elements(self) -> tuple[int, ...]:
        """The elements of its molecule."""
        return tuple(sorted(set(self.structure.numbers.tolist())))

    @property
    def level(self) -> str:
        """The engine's level of theory."""
        return self.engine.level

    @property
    def total_charge(self) -> int:
        """The molecule's charge."""
        return self.structure.charge

    @property
    def has_dipole(self) -> bool:
        """Always: every label has a dipole."""
        return True

    @property
    def members(self) -> int:
        """1: there is no committee."""
        return 1

    @property
    def digest(self) -> str:
        """A digest of the level of theory, charge and spin."""
        return checksums.digest("labels", self.engine.level, self.structure.charge, self.structure.multiplicity)

    def member(self, index: int) -> Potential:
        """Itself."""
        return self

    def facts(self) -> list[tuple[str, str]]:
        """Level of theory, charge and spin."""
        return [
            ("level of theory", self.engine.level),
            ("total charge", f"{self.structure.charge:+d}" if self.structure.charge else "0"),
            ("multiplicity", str(self.structure.multiplicity)),
            ("digest", self.digest),
        ]

    def require(self, numbers: IntArray) -> None:
        """Raise InputError for atoms other than those of its molecule, in whatever order."""
        if sorted(np.asarray(numbers).tolist()) != sorted(self.structure.numbers.tolist()):
            raise InputError("the label engine was made for another molecule", where=self.structure.source)

    def evaluate(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> Evaluation:
        """A label of one geometry, with spreads of zero and unknown charges. Raises LabelFailed."""
        label = self.engine.label(self._geometry(numbers, positions, charge))
        zero = np.zeros_like(label.forces)
        unknown = np.full(len(numbers), np.nan)
        return Evaluation(label.energy, label.forces, unknown, label.dipole, 0.0, zero, unknown, np.zeros(3))

    def replicas(
        self, numbers: IntArray, count: int, charge: int | None = None, masses: FloatArray | None = None
    ) -> ReplicaPotential:
        """The engine on `count` replicas, one label after the other."""
        molecule = self._geometry(numbers, np.zeros((len(numbers), 3)), charge)
        return EngineReplicas(self, molecule, count, masses)

    def spread_threshold(self, error: float, quantity: str = "force") -> float:
        """Infinite: there is no spread."""
        return np.inf

    def polar_tensors(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> FloatArray | None:
        """Polar tensors (N, 3, 3) of an engine that has them. Raises LabelFailed."""
        return self.engine.label(self._geometry(numbers, positions, charge), polar=True).polar_tensors

    def label_or_none(self, structure: Structure) -> Label | None:
        """The label of a replica's geometry; None, with a warning, when there is none. Seconds and count go up."""
        began = time.perf_counter()
        try:
            return self.engine.label(structure)
        except LabelFailed as error:
            self.warn(f"a geometry of a trajectory could not be labelled: {error}")
            return None
        finally:
            self.seconds += time.perf_counter() - began
            self.count += 1

    def _geometry(self, numbers: IntArray, positions: FloatArray, charge: int | None) -> Structure:
        numbers = np.asarray(numbers, np.int64)
        self.require(numbers)
        own = self.structure.charge if charge is None else charge
        return replace(self.structure, numbers=numbers, positions=np.asarray(positions, float), charge=own)


class EngineReplicas:
    """The label engine on `replicas` replicas of one molecule, for the trajectory runner; a hpcir.models.potential.
    ReplicaPotential. Dipoles are about the centre of mass with masses (N,), else about that of nuclear charge."""

    def __init__(
        self, potential: EnginePotential, molecule: Structure, replicas: int, masses: FloatArray | None
    ) -> None:
        self.potential, self.molecule, self.replicas = potential, molecule, replicas
        charges = origin_weights("charge", molecule.numbers, None)
        origin = "charge" if masses is None else "mass"
        self.weights = charges - origin_weights(origin, molecule.numbers, masses)
        self.last: dict[int, tuple[FloatArray, tuple[float, FloatArray, FloatArray]]] = {}

    @property
    def kernels(self) -> None:
        """None: the steps are plain."""
        return None

    @property
    def chunk_steps(self) -> int:
        """The steps of some seconds of work: a state on the disk must not cost more than that when it is lost."""
        if self.potential.count < FIRST_STEPS:
            return FIRST_STEPS
        return max(1, int(CHECKPOINT_SECONDS * self.potential.count / max(self.potential.seconds, 1e-9)))

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) and forces (N, 3, R) at positions (N, 3, R)."""
        found = self.evaluate_with_dipoles(positions)
        return found.energies, found.forces

    def evaluate_with_dipoles(self, positions: FloatArray) -> ReplicaEvaluation:
        """Energies, forces and dipoles (3, R); NaN for a geometry that cannot be labelled."""
        answers = [self._one(replica, positions[:, :, replica]) for replica in range(positions.shape[2])]
        energies, forces, dipoles = zip(*answers, strict=True)
        return ReplicaEvaluation(np.array(energies), np.stack(forces, -1), np.stack(dipoles, -1))

    def _one(self, replica: int, positions: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        # The first geometry of a chunk is the last one of the chunk before; a retired replica stays where it is.
        if replica in self.last and np.array_equal(self.last[replica][0], positions):
            return self.last[replica][1]
        answer = self._answer(positions)
        self.last[replica] = (positions.copy(), answer)
        return answer

    def _answer(self, positions: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        label = self.potential.label_or_none(self.molecule.moved(positions))
        if label is None:
            return np.nan, np.full(positions.shape, np.nan), np.full(3, np.nan)
        # mu(centre of mass) = mu(R0) + Q (R0 - centre of mass).
        return label.energy, label.forces, label.dipole + self.molecule.charge * (self.weights @ positions)
