"""Sums of potentials: one that answers for the molecule, and corrections to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.models.evaluation import Evaluation, ReplicaEvaluation
from hpcir.models.potential import Potential, ReplicaPotential
from hpcir.storage import checksums


@dataclass(frozen=True)
class SumOfPotentials:
    """base plus corrections: energies, forces, charges and dipoles add.

    The molecule's charge belongs to the base; corrections are evaluated for a charge of 0. A correction without dipoles
    leaves charges and dipole as they are. Committees of more than one member must be equally large: member m of the sum
    is the sum of the members m. A spread is calibrated where the base's is and no correction is a committee. Raises
    InputError when the committees do not fit.
    """

    base: Potential
    corrections: tuple[Potential, ...]

    def __post_init__(self) -> None:
        sizes = sorted({part.members for part in self.parts} - {1})
        if len(sizes) > 1:
            raise InputError("the committees of a sum of potentials differ in size", value=sizes)

    @property
    def parts(self) -> tuple[Potential, ...]:
        """The base, then the corrections."""
        return (self.base, *self.corrections)

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that all parts know."""
        return tuple(sorted(set.intersection(*(set(part.elements) for part in self.parts))))

    @property
    def level(self) -> str:
        """The parts' levels of theory."""
        return " + ".join(part.level for part in self.parts if part.level)

    @property
    def total_charge(self) -> int:
        """The base's."""
        return self.base.total_charge

    @property
    def has_dipole(self) -> bool:
        """True when the base knows dipoles."""
        return self.base.has_dipole

    @property
    def members(self) -> int:
        """The members of the largest committee."""
        return max(part.members for part in self.parts)

    @property
    def digest(self) -> str:
        """A digest of the parts' digests."""
        return checksums.digest("sum", *(part.digest for part in self.parts))

    def member(self, index: int) -> SumOfPotentials:
        """The sum of the parts' members."""
        base, *corrections = (part.member(index) if part.members > 1 else part for part in self.parts)
        return SumOfPotentials(base, tuple(corrections))

    @cached_property
    def _members(self) -> Sequence[Potential]:
        return [self.member(index) for index in range(self.members)]

    def facts(self) -> list[tuple[str, str]]:
        """The parts' properties, one part after the other."""
        return [
            (f"{'base' if number == 0 else f'correction {number}'}: {name}", text)
            for number, part in enumerate(self.parts)
            for name, text in part.facts()
        ]

    def require(self, numbers: IntArray) -> None:
        """Raise InputError when a part does not know a molecule with these atomic numbers (N,)."""
        for part in self.parts:
            part.require(numbers)

    def evaluate(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> Evaluation:
        """Energy, forces, charges and dipole of one geometry, with the spreads of the members' sums."""
        if sum(part.members > 1 for part in self.parts) > 1:
            return _mean([member.evaluate(numbers, positions, charge) for member in self._members])
        found = [
            self.base.evaluate(numbers, positions, charge),
            *(part.evaluate(numbers, positions, 0) for part in self.corrections),
        ]
        # Only one part has a spread at all, so spreads add.
        with_dipole = [one for one, part in zip(found, self.parts, strict=True) if one is found[0] or part.has_dipole]
        return Evaluation(
            energy=sum(one.energy for one in found),
            forces=_sum([one.forces for one in found]),
            charges=_sum([one.charges for one in with_dipole]),
            dipole=_sum([one.dipole for one in with_dipole]),
            energy_spread=sum(one.energy_spread for one in found),
            forces_spread=_sum([one.forces_spread for one in found]),
            charges_spread=_sum([one.charges_spread for one in with_dipole]),
            dipole_spread=_sum([one.dipole_spread for one in with_dipole]),
        )

    def replicas(
        self, numbers: IntArray, count: int, charge: int | None = None, masses: FloatArray | None = None
    ) -> SumOfReplicas:
        """The sum on `count` replicas of one molecule; dipoles are about the centre of mass with masses (N,)."""
        base = self.base.replicas(numbers, count, charge, masses)
        corrections = [(part.replicas(numbers, count, 0, masses), part.has_dipole) for part in self.corrections]
        return SumOfReplicas(base, corrections)

    def spread_threshold(self, error: float, quantity: str = "force") -> float:
        """The base's, where no correction has a spread of its own; else infinite."""
        if any(part.members > 1 for part in self.corrections):
            return np.inf
        return self.base.spread_threshold(error, quantity)

    def polar_tensors(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> FloatArray | None:
        """The sum (N, 3, 3) of the parts' polar tensors; None where one that knows dipoles does not know them."""
        tensors = [
            self.base.polar_tensors(numbers, positions, charge),
            *(part.polar_tensors(numbers, positions, 0) for part in self.corrections if part.has_dipole),
        ]
        known = [one for one in tensors if one is not None]
        return _sum(known) if len(known) == len(tensors) else None


class SumOfReplicas:
    """A sum of potentials on replicas of one molecule: the base's, and corrections, each with True when its dipole
    counts."""

    def __init__(self, base: ReplicaPotential, corrections: Sequence[tuple[ReplicaPotential, bool]]) -> None:
        self.base, self.corrections = base, corrections

    @property
    def kernels(self) -> None:
        """None: the steps are plain, the parts' forces compiled where they are."""
        return None

    @property
    def chunk_steps(self) -> int:
        """Those of the slowest part."""
        return min([self.base.chunk_steps, *(part.chunk_steps for part, _ in self.corrections)])

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) and forces (N, 3, R) at positions (N, 3, R)."""
        found = [part.evaluate(positions) for part in (self.base, *(part for part, _ in self.corrections))]
        return _sum([energies for energies, _ in found]), _sum([forces for _, forces in found])

    def evaluate_with_dipoles(self, positions: FloatArray) -> ReplicaEvaluation:
        """Energies and forces, and dipoles where the base knows them."""
        base = self.base.evaluate_with_dipoles(positions)
        found, dipoles = [base], [] if base.dipoles is None else [base.dipoles]
        for part, counts in self.corrections:
            one = part.evaluate_with_dipoles(positions)
            found.append(one)
            if counts and one.dipoles is not None:
                dipoles.append(one.dipoles)
        return ReplicaEvaluation(
            _sum([one.energies for one in found]),
            _sum([one.forces for one in found]),
            None if base.dipoles is None else _sum(dipoles),
        )


def _sum(arrays: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(np.sum(np.stack(arrays), axis=0))


def _mean(members: Sequence[Evaluation]) -> Evaluation:
    """Means and standard deviations of single members' evaluations."""
    return Evaluation.of_members(
        np.array([one.energy for one in members]),
        np.stack([one.forces for one in members]),
        np.stack([one.charges for one in members]),
        np.stack([one.dipole for one in members]),
    )
