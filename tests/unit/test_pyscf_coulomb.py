"""The Coulomb part of forces by fitted densities, against PySCF's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto

from hpcir.labels.pyscf_coulomb import use_fast_coulomb

WATER = "O 0 0 0.12; H 0.05 0.79 -0.48; H 0 -0.74 -0.45"


def field_of(atoms: str, spin: int, xc: str) -> Any:
    molecule = gto.M(atom=atoms, basis="def2-svp", spin=spin, charge=spin, verbose=0)
    field = (dft.UKS if spin else dft.RKS)(molecule, xc=xc).density_fit()
    field.grids.level, field.max_cycle = 0, 3
    field.with_df.build()
    field.kernel()
    return field


@pytest.mark.parametrize(("spin", "xc"), [(0, "bp86"), (1, "bp86"), pytest.param(0, "wb97x-v", marks=pytest.mark.long)])
def test_derivatives_are_pyscf_s(spin: int, xc: str) -> None:
    """Of orbitals and of fitting functions, for any density: the field need not be converged."""
    field = field_of(WATER, spin, xc)
    gradients = field.nuc_grad_method()
    density = np.asarray(field.make_rdm1())
    own = gradients.get_j(field.mol, density)
    use_fast_coulomb(gradients)
    assert "get_j" in vars(gradients)
    fast = gradients.get_j(field.mol, density)
    np.testing.assert_allclose(fast, own, atol=1e-9)
    np.testing.assert_allclose(fast.aux, own.aux, atol=1e-8)


def test_without_integrals_in_memory_pyscf_s_own_stays() -> None:
    field = field_of(WATER, 0, "bp86")
    field.with_df._cderi = None
    gradients = field.nuc_grad_method()
    use_fast_coulomb(gradients)
    assert "get_j" not in vars(gradients)


def test_forces_do_not_change() -> None:
    field = field_of(WATER, 0, "bp86")
    before = field.nuc_grad_method().kernel()
    gradients = field.nuc_grad_method()
    use_fast_coulomb(gradients)
    np.testing.assert_allclose(gradients.kernel(), before, atol=1e-8)
