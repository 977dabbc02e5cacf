"""Label engine tblite: the extended tight-binding methods GFN2-xTB, GFN1-xTB and IPEA1-xTB.

Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652, 2019 (GFN2-xTB).
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label
from hpcir.labels.checks import (
    finished_label,
    nearest_names,
    nuclear_charge_centre,
    polar_tensors_by_fields,
    require_package,
)
from hpcir.molecules.structures import Structure

NO_FIELD = np.zeros(3)
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
    """Labels by tblite. Every label starts from superposed atomic densities, so it depends on the geometry alone; in a
    field the molecule starts from the label."""

    def __init__(self, settings: LabelSettings) -> None:
        self.method = settings.method
        self.level = f"{settings.method} (tblite)"
        # By electric field, all of the molecule and the settings that the key names.
        self._calculators: dict[bytes, Any] = {}
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

    def label(self, structure: Structure, polar: bool = False) -> Label:
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
                tensors = self._polar_tensors(structure, positions, options, result) if polar else None
            except TBLiteRuntimeError as error:
                reasons.append(f"{rung}: {str(error).strip() or 'no reason given'}")
                self._calculators.clear()
                continue
            seconds = time.perf_counter() - start
            return finished_label(structure, float(energy), -gradient, dipole, seconds, rung, tensors)
        raise LabelFailed(f"{structure.name}: tblite did not converge ({'; '.join(reasons)})")

    def _polar_tensors(
        self, structure: Structure, positions: FloatArray, options: dict[str, Any], without: Any
    ) -> FloatArray:
        """By fields, from the result without one."""

        def forces_in(field: FloatArray) -> FloatArray:
            result = self._prepared(structure, positions, options, field).singlepoint(without, copy=True)
            return -np.asarray(result["gradient"])

        return polar_tensors_by_fields(forces_in)

    def _prepared(
        self, structure: Structure, positions: FloatArray, options: dict[str, Any], field: FloatArray = NO_FIELD
    ) -> Any:
        """The calculator at these positions; kept between labels of one molecule, built anew otherwise."""
        unpaired = structure.multiplicity - 1
        key = (structure.numbers.tobytes(), structure.charge, unpaired, *options.values())
        if key != self._key:
            self._calculators.clear()
            self._key = key
        if field.tobytes() in self._calculators:
            calculator = self._calculators[field.tobytes()]
            calculator.update(positions)
        else:
            calculator = self._calculators[field.tobytes()] = self._built(structure, positions, options, field)
        return calculator

    def _built(self, structure: Structure, positions: FloatArray, options: dict[str, Any], field: FloatArray) -> Any:
        from tblite.interface import Calculator

        unpaired = structure.multiplicity - 1
        calculator = Calculator(self.method, structure.numbers, positions, float(structure.charge), unpaired)
        for name, value in {"verbosity": 0, "accuracy": ACCURACY, **options}.items():
            calculator.set(name, value)
        if field.any():
            # Its Python interface takes the vector as a C array alone; the library copies it.
            vector = import_module("tblite.library").ffi.new("double[]", field.tolist())
            calculator.add("electric-field", vector)
        return calculator


def create(settings: LabelSettings, reference: Structure | None = None) -> TbliteEngine:
    """The engine of the deck; the reference is not needed."""
    return TbliteEngine(settings)
