"""An ASE calculator that is GFN2-xTB near the minimum of methanol, and misbehaves where its C-O bond is stretched."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tblite.ase import TBLite

# Angstrom; the bond of the minimum is 1.41, and the displaced geometries of the normal modes stay below this.
STRETCHED = 1.43
ACCIDENTS = ("raise", "exit", "segfault", "nan", "hang")


def times_before() -> int:
    """How many accidents this rank's workers had before: kept in a file, because most of them end the process."""
    counter = Path(tempfile.gettempdir()) / f"hpcir-unruly-{os.getppid()}"
    count = counter.stat().st_size if counter.exists() else 0
    with counter.open("ab") as file:
        file.write(b".")
    return count


class Unruly(TBLite):
    """accidents: those to have, one after the other; `everywhere`: at every geometry."""

    def __init__(self, accidents: tuple[str, ...] = ACCIDENTS, everywhere: bool = False) -> None:
        super().__init__(method="GFN2-xTB", verbosity=0)
        self.accidents, self.everywhere = tuple(accidents), everywhere

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        super().calculate(atoms, *arguments, **keywords)
        positions = atoms.positions
        if self.everywhere or np.linalg.norm(positions[0] - positions[1]) > STRETCHED:
            self.have(self.accidents[times_before() % len(self.accidents)])

    def have(self, accident: str) -> None:
        if accident == "raise":
            raise RuntimeError("SCF not converged in 128 cycles")
        if accident == "exit":
            os._exit(7)
        if accident == "segfault":
            os.kill(os.getpid(), 11)
        if accident == "hang":
            time.sleep(600)
        if accident == "nan":
            self.results["forces"][0, 0] = np.nan
