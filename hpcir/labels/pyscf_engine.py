"""Label engine PySCF: Kohn-Sham or Hartree-Fock, any functional and basis, density fitting, dispersion.

Sun et al., J. Chem. Phys. 153, 024109, 2020 (PySCF).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.deck import LabelSettings
from hpcir.errors import LabelFailed
from hpcir.labels.base import Label
from hpcir.labels.checks import finished_label, nuclear_charge_centre
from hpcir.structures import Structure, superimpose

FloatArray = NDArray[np.float64]


class PyscfEngine:
    def __init__(self, settings: LabelSettings, reference: Structure | None) -> None:
        self.settings = settings
        self.reference = reference
        s = settings
        self.level = f"{s.functional}/{s.basis} (PySCF, grid {s.grid_level})"
        self._reference_dm: Any = None

    def check(self, structure: Structure) -> None:
        return None

    def _mean_field(self, structure: Structure, positions: FloatArray) -> Any:
        from pyscf import dft, gto

        mol = gto.M(
            atom=[(z, tuple(p)) for z, p in zip(structure.symbols, positions, strict=True)],
            unit="Bohr",
            basis=self.settings.basis,
            charge=structure.charge,
            spin=structure.multiplicity - 1,
            verbose=0,
        )
        mf = dft.RKS(mol) if structure.multiplicity == 1 else dft.UKS(mol)
        mf = mf.density_fit()
        mf.xc = self.settings.functional
        mf.grids.level = self.settings.grid_level
        mf.max_cycle = self.settings.max_cycles
        mf.conv_tol = 1e-9
        return mf

    def label(self, structure: Structure) -> Label:
        start = time.perf_counter()
        reference = structure if self.reference is None else self.reference
        weights = structure.numbers.astype(float)
        positions, rotation, _ = superimpose(
            structure.positions, reference.positions - nuclear_charge_centre(reference), weights
        )
        mf = self._mean_field(structure, positions)
        energy = mf.kernel()
        if not mf.converged:
            raise LabelFailed("unconverged")
        forces = -mf.nuc_grad_method().kernel()
        dipole = mf.dip_moment(unit="AU", verbose=0)
        return finished_label(
            structure, float(energy), forces @ rotation, dipole @ rotation, time.perf_counter() - start, "default"
        )


def create(settings: LabelSettings, reference: Structure | None = None) -> PyscfEngine:
    """The engine of the deck."""
    return PyscfEngine(settings, reference)
