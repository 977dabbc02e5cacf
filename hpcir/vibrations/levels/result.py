"""Vibrational levels as a value: what is known of each level, and of all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hpcir.arrays import FloatArray

Method = Literal["grid", "variational", "perturbation"]
METHODS: dict[str, str] = {
    "grid": "exact, on a grid",
    "variational": "configuration interaction with Watson's Hamiltonian",
    "perturbation": "second-order perturbation theory with resonances",
}


@dataclass(frozen=True)
class Level:
    """One vibrational level above the ground state.

    name: 'v3', '2 v1', 'v2 + v5', modes numbered by ascending harmonic wavenumber; motion: the modes in words;
    wavenumber_per_cm and intensity_km_per_mol of the transition from the ground state at 0 K, with the standard
    deviation over the committee's members (nan: unknown); harmonic_per_cm, harmonic_km_per_mol: of the product;
    perturbation_per_cm: by perturbation theory; share: the part of the product that gives the name; partners: what else
    is in the state, with shares; remark: why the figure should not be trusted, if so.
    """

    name: str
    kind: str
    motion: str
    wavenumber_per_cm: float
    stderr_per_cm: float
    intensity_km_per_mol: float
    stderr_km_per_mol: float
    harmonic_per_cm: float
    harmonic_km_per_mol: float
    perturbation_per_cm: float
    share: float
    partners: tuple[str, ...]
    remark: str


@dataclass(frozen=True)
class Levels:
    """Levels of a molecule at its minimum.

    method: of the wavenumbers (`METHODS` in words); members: of the committee that error bars are over (0: none);
    zero_point_per_cm with the members' standard deviation; rotational_per_cm: A, B, C of the minimum and averaged over
    zero-point motion, descending (a linear molecule has B alone); resonances: in words; converged_per_cm: how far the
    fundamentals moved when the variational basis was halved (nan for other methods); levels: ascending; positions (N,
    3) in bohr of the minimum; remarks: on the whole.
    """

    method: Method
    members: int
    zero_point_per_cm: float
    zero_point_stderr_per_cm: float
    rotational_equilibrium_per_cm: tuple[float, ...]
    rotational_per_cm: tuple[float, ...]
    resonances: tuple[str, ...]
    converged_per_cm: float
    levels: tuple[Level, ...]
    positions: FloatArray
    remarks: tuple[str, ...]

    @property
    def fundamentals(self) -> tuple[Level, ...]:
        """The levels with one quantum, ascending by wavenumber."""
        return tuple(level for level in self.levels if level.kind == "fundamental")

    def content(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)
