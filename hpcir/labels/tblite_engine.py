"""Label engine tblite: the extended tight-binding methods GFN2-xTB, GFN1-xTB and IPEA1-xTB.

Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652, 2019 (GFN2-xTB).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hpcir.deck import LabelSettings
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label
from hpcir.labels.checks import finished_label, nearest_names, nuclear_charge_centre, require_package
from hpcir.structures import Structure

METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")
HEAVIEST_ELEMENT = 86
# tblite's default accuracy of 1 leaves 4e-6 hartree/bohr of noise in the forces of methanol, 0.01 leaves 5e-8
# (tools/bench/bench_labels).
ACCURACY = 0.01
# Rungs for charges that do not converge: (name, settings of the calculator).
LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("default", {"mixer-damping": 0.4, "max-iter": 250}),
    ("damped", {"mixer-damping": 0.1, "max-iter": 1000}),
    ("strongly damped", {"mixer-damping": 0.02, "max-iter": 3000}),
)


class TbliteEngine:
    """Labels by tblite. Every label starts from superposed atomic densities, so it depends on the geometry alone."""

    def __init__(self, settings: LabelSettings) -> None:
        self.method = settings.method
        self.level = f"{settings.method} (tblite)"
        self._calculator: Any = None
        self._key: tuple[Any, ...] = ()

    def check(self, structure: Structure) -> None:
        """InputError when the method is unknown, an element has no parameters, or tblite is missing."""
        if self.method not in METHODS:
            raise InputError(
                "no such method of tblite",
                where="labels.method",
                value=self.method,
                hint=nearest_names(self.method, METHODS, METHODS),
            )
        require_package("tblite", "labels.engine", "tblite", "pip install tblite")
        if structure.numbers.max() > HEAVIEST_ELEMENT:
            heavy = structure.symbols[int(structure.numbers.argmax())]
            raise InputError(
                f"{self.method} has no parameters for {heavy}",
                where=structure.source or "system.structure",
                value=heavy,
                hint="elements up to Rn; take labels.engine: pyscf for this molecule",
            )

    def label(self, structure: Structure) -> Label:
        """Label one geometry; LabelFailed when the charges do not converge on any rung of the ladder."""
        from tblite.exceptions import TBLiteRuntimeError

        start = time.perf_counter()
        origin = nuclear_charge_centre(structure)
        positions = np.ascontiguousarray(structure.positions - origin)
        reasons = []
        for rung, options in LADDER:
            try:
                calculator = self._prepared(structure, positions, options)
                result = calculator.singlepoint()
                energy, gradient, dipole = result["energy"], result["gradient"], result["dipole"]
            except TBLiteRuntimeError as error:
                reasons.append(f"{rung}: {str(error).strip() or 'no reason given'}")
                self._calculator = None
                continue
            seconds = time.perf_counter() - start
            return finished_label(structure, float(energy), -gradient, dipole, seconds, rung)
        raise LabelFailed(f"{structure.name}: tblite did not converge ({'; '.join(reasons)})")

    def _prepared(self, structure: Structure, positions: Any, options: dict[str, Any]) -> Any:
        """The calculator at these positions; kept between labels of one molecule, built anew otherwise."""
        from tblite.interface import Calculator

        unpaired = structure.multiplicity - 1
        key = (structure.numbers.tobytes(), structure.charge, unpaired, *options.values())
        if self._calculator is None or key != self._key:
            calculator = Calculator(self.method, structure.numbers, positions, float(structure.charge), unpaired)
            for name, value in {"verbosity": 0, "accuracy": ACCURACY, **options}.items():
                calculator.set(name, value)
            self._calculator, self._key = calculator, key
        else:
            self._calculator.update(positions)
        return self._calculator


def create(settings: LabelSettings, reference: Structure | None = None) -> TbliteEngine:
    """The engine of the deck; the reference is not needed."""
    return TbliteEngine(settings)
