"""The contract of a label engine, and the one table of engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError
from hpcir.molecules.structures import Structure


@dataclass(frozen=True)
class Label:
    """The answer of electronic structure theory for one geometry, in atomic units.

    energy hartree; forces (N, 3) hartree/bohr; dipole (3,) e bohr about the centre of nuclear charge, nan where the
    engine gives none; seconds of wall time; method: how it converged ('default' or the rung of the ladder for hard
    cases); polar_tensors (N, 3, 3): dmu_x / dr_jy in e at [j, y, x], about an origin at rest, where requested.
    """

    energy: float
    forces: FloatArray
    dipole: FloatArray
    seconds: float = 0.0
    method: str = "default"
    polar_tensors: FloatArray | None = None


def stacked_polar_tensors(tensors: Sequence[FloatArray | None], atoms: int) -> FloatArray | None:
    """Polar tensors (S, N, 3, 3) of S labels of one molecule, nan where one has none; None where none has."""
    if all(one is None for one in tensors):
        return None
    missing = np.full((atoms, 3, 3), np.nan)
    return np.array([missing if one is None else one for one in tensors])


class LabelEngine(Protocol):
    """The interface of a label engine. One instance serves one molecule's stoichiometry, charge and spin at a time."""

    level: str
    """The level of theory in one line, such as 'BP86/def2-SVP (PySCF, density fitting)': the store's key."""

    def check(self, structure: Structure) -> None:
        """Raise InputError when the engine cannot label this molecule (basis, element, spin), computing nothing."""

    def label(self, structure: Structure, polar: bool = False) -> Label:
        """Label one geometry, with polar tensors when asked; depends on the geometry alone, not on what was labelled
        before.

        Raises LabelFailed when it does not converge or returns something that is not finite.
        """


# name in the deck -> 'module:function', imported only when needed (pyscf takes a second to import).
ENGINES: dict[str, str] = {
    "pyscf": "hpcir.labels.pyscf_engine:create",
    "tblite": "hpcir.labels.tblite_engine:create",
    "ase": "hpcir.labels.ase_engine:create",
    "files": "hpcir.labels.external.engine:create",
}


def create_engine(settings: LabelSettings, reference: Structure | None = None) -> LabelEngine:
    """The engine that the deck names. `reference` is the optimised minimum, whose density is the SCF's first guess."""
    try:
        module, function = ENGINES[settings.engine].split(":")
    except KeyError:
        raise InputError(
            "no such label engine",
            where="labels.engine",
            value=settings.engine,
            hint="valid: " + ", ".join(ENGINES),
        ) from None
    factory: Callable[[LabelSettings, Structure | None], LabelEngine] = getattr(import_module(module), function)
    return factory(settings, reference)
