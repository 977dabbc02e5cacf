"""A flat-bottomed restraint that holds the pieces of a cluster together.

E = k/2 sum_p max(0, |R_p - R| - r0)^2, with R_p the centre of mass of a piece and R that of all: nothing within r0, a
spring beyond it. It moves pieces as wholes, so that their vibrations do not feel it; the forces on all atoms add up to
zero, and so do their torques about R. The kernel is `step_kernel.restrain`; here is its plain twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.errors import InputError
from hpcir.units import ANGSTROM, EV

# At 300 K a piece goes 0.1 angstrom into a wall of this stiffness.
STIFFNESS = 2.5 * EV / ANGSTROM**2


@dataclass(frozen=True)
class Restraint:
    """weights (P, N): R_p - R of positions (N, 3) is weights @ positions; radius r0 in bohr; stiffness k in
    hartree/bohr^2."""

    weights: FloatArray
    radius: float
    stiffness: float = STIFFNESS

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise InputError("the radius of a restraint must be positive", value=self.radius)

    @classmethod
    def around(
        cls, pieces: Sequence[Sequence[int]], positions: FloatArray, masses: FloatArray, margin: float
    ) -> Restraint:
        """The restraint of pieces (atoms from 0) that may go `margin` (bohr) further from the cluster's centre than the
        outermost is at positions (N, 3); masses (N,). Raises InputError for fewer than two pieces."""
        if len(pieces) < 2:
            raise InputError("a restraint holds pieces together, and this molecule is one piece", value=len(pieces))
        weights = np.tile(-masses / masses.sum(), (len(pieces), 1))
        for row, atoms in zip(weights, pieces, strict=True):
            row[list(atoms)] += masses[list(atoms)] / masses[list(atoms)].sum()
        outermost = float(np.linalg.norm(weights @ positions, axis=1).max())
        return cls(weights, outermost + margin)

    def distances(self, positions: FloatArray) -> FloatArray:
        """|R_p - R| (..., P, R) of the pieces at positions (..., N, 3, R)."""
        return np.asarray(np.linalg.norm(self._places(positions), axis=-2))

    def reached(self, positions: FloatArray) -> BoolArray:
        """True (..., R) where a piece is beyond the radius, at positions (..., N, 3, R)."""
        return np.asarray((self.distances(positions) > self.radius).any(axis=-2))

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) in hartree and forces (N, 3, R) in hartree/bohr at positions (N, 3, R)."""
        places = self._places(positions)
        distances = np.linalg.norm(places, axis=1)
        beyond = np.maximum(distances - self.radius, 0.0)
        pull = -self.stiffness * beyond / np.maximum(distances, 1e-300)
        forces = np.einsum("pn,pr,par->nar", self.weights, pull, places)
        return 0.5 * self.stiffness * (beyond**2).sum(axis=0), forces

    def _places(self, positions: FloatArray) -> FloatArray:
        """R_p - R (..., P, 3, R)."""
        return np.einsum("pn,...nar->...par", self.weights, positions)


def added(restraint: Restraint | None, energies: FloatArray, forces: FloatArray, positions: FloatArray) -> None:
    """Add a restraint's energies (R,) and forces (N, 3, R) at positions (N, 3, R) in place."""
    if restraint is None:
        return
    own_energies, own_forces = restraint.evaluate(positions)
    energies += own_energies
    forces += own_forces
