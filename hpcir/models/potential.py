"""The contract of a potential: trained models, imported potentials, label engines, and sums of these.

A `Potential` answers for single geometries of any molecule that it knows; `replicas` makes a `ReplicaPotential` of it,
which answers for many replicas of one molecule in lockstep, as dynamics wants it. All in atomic units.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hpcir.arrays import FloatArray, IntArray
from hpcir.models.evaluation import Evaluation, ReplicaEvaluation

if TYPE_CHECKING:
    from hpcir.models.evaluator import Evaluator


class ReplicaPotential(Protocol):
    """Energies, forces and dipoles of replicas of one molecule; one instance may be used by one thread at a time."""

    @property
    def kernels(self) -> Evaluator | None:
        """The compiled evaluator, which steps replicas by itself, and knows the committee's spread and the atoms' parts
        of the dipole; None for potentials that are stepped in plain numpy."""

    @property
    def chunk_steps(self) -> int:
        """Steps after which the state of trajectories should be on the disk at the latest; slow potentials say few."""

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) in hartree and forces (N, 3, R) in hartree/bohr at positions (N, 3, R) in bohr."""

    def evaluate_with_dipoles(self, positions: FloatArray) -> ReplicaEvaluation:
        """Energies and forces, and dipoles where the potential knows them."""


class Potential(Protocol):
    """Energy, forces and dipole of molecules."""

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that it knows, ascending."""

    @property
    def level(self) -> str:
        """The level of theory that it has or learnt, '' when that is not recorded."""

    @property
    def total_charge(self) -> int:
        """The charge in e of a molecule whose charge is not given."""

    @property
    def has_dipole(self) -> bool:
        """True when it knows dipoles."""

    @property
    def members(self) -> int:
        """The members of its committee, 1 where there is none."""

    @property
    def digest(self) -> str:
        """A digest of all that its answers depend on: equal digests, equal answers."""

    def member(self, index: int) -> Potential:
        """The potential of one member of the committee."""

    def facts(self) -> list[tuple[str, str]]:
        """Its properties as pairs of a name and a text, for printing."""

    def require(self, numbers: IntArray) -> None:
        """Raise InputError when a molecule with these atomic numbers (N,) is not known."""

    def evaluate(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> Evaluation:
        """Energy, forces, charges and dipole, with their spreads, of one geometry: numbers (N,), positions (N, 3) in
        bohr; charge in e (default: total_charge). The dipole is about the centre of nuclear charge. Raises InputError
        for what it does not know, LabelFailed when an engine does not converge."""

    def replicas(
        self, numbers: IntArray, count: int, charge: int | None = None, masses: FloatArray | None = None
    ) -> ReplicaPotential:
        """The potential on `count` replicas of one molecule; dipoles are about the centre of mass with masses (N,)."""

    def spread_threshold(self, error: float, quantity: str = "force") -> float:
        """The spread at which an error (atomic units) is to be expected, of an atom's force ('force') or of the dipole
        ('dipole'); infinite for potentials without a calibrated spread."""

    def polar_tensors(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> FloatArray | None:
        """dmu_x / dr_jy at [j, y, x] in e, (N, 3, 3), about an origin at rest; None where they are not known."""


@dataclass(frozen=True)
class ReplicaFunction:
    """Any function of positions (N, 3, R) as a ReplicaPotential."""

    function: Callable[[FloatArray], ReplicaEvaluation]
    chunk_steps: int = sys.maxsize

    @property
    def kernels(self) -> None:
        """None: the steps are plain."""
        return None

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) and forces (N, 3, R)."""
        found = self.function(positions)
        return found.energies, found.forces

    def evaluate_with_dipoles(self, positions: FloatArray) -> ReplicaEvaluation:
        """All that the function gives."""
        return self.function(positions)
