"""ASE calculators that a label engine must survive: crashes, hangs, NaN, junk on the output, a missing dipole."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    """Every pair of atoms on a spring of 1 eV/A^2 at 1.2 A, and fixed charges that sum to `charge` (None: the atoms').

    When the first atom lies further than 3 A from the second, it does what `accident` says.
    """

    implemented_properties: ClassVar = ["energy", "forces", "dipole"]

    def __init__(self, accident: str = "none", charge: float | None = None) -> None:
        super().__init__()
        self.accident, self.charge = accident, charge

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        positions = self.atoms.positions
        delta = positions[:, None] - positions[None]
        distance = np.linalg.norm(delta, axis=-1) + np.eye(len(positions))
        stretch = (distance - 1.2) * (1 - np.eye(len(positions)))
        forces = -(stretch / distance)[..., None] * delta
        total = self.atoms.get_initial_charges().sum() if self.charge is None else self.charge
        charges = np.linspace(-0.3, 0.3, len(positions)) + total / len(positions)
        self.results = {
            "energy": 0.25 * float((stretch**2).sum()),
            "forces": forces.sum(1),
            "dipole": charges @ positions,
        }
        if np.linalg.norm(positions[0] - positions[1]) > 3.0:
            self.have_accident()

    def have_accident(self) -> None:
        if self.accident == "exit":
            os._exit(7)
        if self.accident == "segfault":
            ctypes.string_at(0)
        if self.accident == "hang":
            time.sleep(600)
        if self.accident == "nan":
            self.results["forces"][0, 0] = np.nan
        if self.accident == "raise":
            raise RuntimeError("the external program said no")
        if self.accident == "print":
            sys.stdout.write("junk\n" * 50000)
            sys.stdout.flush()
            os.write(1, b"\x00\x01 more junk, from C\n" * 5000)


class NoDipole(Springs):
    implemented_properties: ClassVar = ["energy", "forces"]


class ForgetsDipole(Springs):
    """Promises a dipole and does not deliver."""

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        del self.results["dipole"]
