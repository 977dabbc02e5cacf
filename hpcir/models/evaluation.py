"""The answer of a potential for one geometry, or for many replicas of one molecule at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The answer of a potential for one geometry (atomic units): committee means and spreads.

    energy hartree; forces (N, 3) hartree/bohr; charges (N,) e; dipole (3,) e bohr about the centre of nuclear
    charge; energy_spread, forces_spread (N, 3), charges_spread (N,), dipole_spread (3,): standard deviations
    over the members. Charges and dipole are NaN where the potential does not know them.
    """

    energy: float
    forces: FloatArray
    charges: FloatArray
    dipole: FloatArray
    energy_spread: float
    forces_spread: FloatArray
    charges_spread: FloatArray
    dipole_spread: FloatArray

    @classmethod
    def of_members(
        cls, energies: FloatArray, forces: FloatArray, charges: FloatArray, dipoles: FloatArray
    ) -> Evaluation:
        """Means and standard deviations over members (M,): energies (M,), forces (M, N, 3), charges (M, N), dipoles
        (M, 3)."""
        return cls(
            energy=float(energies.mean()),
            forces=forces.mean(0),
            charges=charges.mean(0),
            dipole=dipoles.mean(0),
            energy_spread=float(energies.std()),
            forces_spread=forces.std(0),
            charges_spread=charges.std(0),
            dipole_spread=dipoles.std(0),
        )

    def facts(self) -> list[tuple[str, str]]:
        """The values with their spreads in atomic units, as pairs of a name and a text, for printing."""
        size = np.linalg.norm(self.forces, axis=1).max(initial=0.0)
        spread = np.linalg.norm(self.forces_spread, axis=1).max(initial=0.0)
        dipole = ", ".join(f"{value:.4f}" for value in self.dipole)
        total = f"{self.charges.sum():+.3f}" if np.isfinite(self.charges).all() else "unknown"
        return [
            ("energy", f"{self.energy:.6f} +- {self.energy_spread:.1g} hartree"),
            ("largest force", f"{size:.4g} hartree/bohr, largest spread {spread:.1g}"),
            ("dipole", f"({dipole}) e bohr, spread {np.linalg.norm(self.dipole_spread):.1g}"),
            ("charges", f"{len(self.charges)}, sum {total} e"),
        ]

    def __repr__(self) -> str:
        return f"evaluation of {len(self.forces)} atoms\n" + "\n".join(f"  {n}: {text}" for n, text in self.facts())

    def _repr_html_(self) -> str:
        return html_table(f"evaluation of {len(self.forces)} atoms", self.facts())


@dataclass(frozen=True)
class ReplicaEvaluation:
    """Energies (R,) in hartree, forces (N, 3, R) in hartree/bohr and dipoles (3, R) in e bohr of R replicas.

    dipoles: None where the potential does not know them.
    """

    energies: FloatArray
    forces: FloatArray
    dipoles: FloatArray | None = None


def origin_weights(origin: str, numbers: IntArray, masses: FloatArray | None) -> FloatArray:
    """Weights (N,) of the positions in the origin of dipoles: 'charge', or 'mass' with masses (N,)."""
    if origin == "charge":
        weights = numbers.astype(float)
    elif origin == "mass" and masses is not None:
        weights = np.asarray(masses, float)
    else:
        raise InputError("no such origin of dipoles", value=origin, hint="'charge', or 'mass' with the masses")
    return np.asarray(weights / weights.sum())


def html_table(title: str, facts: list[tuple[str, str]]) -> str:
    """A small table for notebooks; every text is escaped."""
    from html import escape

    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts)
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"
