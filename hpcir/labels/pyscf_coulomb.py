"""Derivative of the fitted Coulomb energy by the nuclei from one set of integrals.

With the fitted density rho_P = sum_Q (P|Q)^-1 sum_ij D_ij (ij|Q), the energy J = 1/2 sum_P rho_P sum_ij D_ij (ij|P)
has derivatives of orbitals, (grad i j|P), and of fitting functions, (ij|grad P) and (P|grad Q). PySCF computes (ij|P)
again for rho, and (ij|grad P) anew; here rho comes from the integrals that the SCF kept, and the second kind from the
first by translational invariance: (ij|grad P) = -(grad i j|P) - (i grad j|P). Only modules that label import this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from pyscf import lib
from pyscf.ao2mo.outcore import balance_partition
from pyscf.df.grad.rhf import _int3c_wrapper

from hpcir.arrays import FloatArray

# Bytes of a block of derivatives of three-index integrals.
BLOCK_BYTES = 400_000_000


def use_fast_coulomb(gradients: Any) -> None:
    """Have a density-fitted gradient object take its Coulomb part from `coulomb_derivatives`, where the SCF's integrals
    are in memory; elsewhere it stays as it is."""
    fitted = getattr(gradients.base, "with_df", None)
    if fitted is None or not isinstance(fitted._cderi, np.ndarray):
        return
    metric = fitted.auxmol.intor("int2c2e", hermi=1)
    if len(metric) != len(fitted._cderi):  # linearly dependent functions were left out
        return
    try:
        factor = scipy.linalg.cholesky(metric, lower=True)
    except scipy.linalg.LinAlgError:
        return

    def get_j(mol: Any = None, dm: Any = None, hermi: int = 0) -> Any:
        density = gradients.base.make_rdm1() if dm is None else dm
        return coulomb_derivatives(fitted, factor, np.asarray(density))

    gradients.get_j = get_j


def coulomb_derivatives(fitted: Any, factor: FloatArray, density: FloatArray) -> Any:
    """PySCF's `get_j` of a density-fitted gradient: minus the derivatives (..., 3, nao, nao) of the Coulomb potential
    by its first orbital, with those of the fitting functions, by atom (spins, spins, N, 3), in the tag `aux`.

    fitted: PySCF's density fitting, integrals L^-1 (P|ij) in memory; factor: L, of the metric L L^T = (P|Q); density:
    one matrix or two, symmetric.
    """
    mol, auxiliary = fitted.mol, fitted.auxmol
    orbitals = mol.nao
    matrices = density.reshape(-1, orbitals, orbitals)
    spins = len(matrices)
    packed = lib.pack_tril(matrices + matrices.transpose(0, 2, 1))
    diagonal = np.arange(orbitals)
    packed[:, diagonal * (diagonal + 1) // 2 + diagonal] *= 0.5
    fit = scipy.linalg.solve_triangular(factor, fitted._cderi @ packed.T, lower=True, trans="T").T

    potential = np.zeros((spins, 3, orbitals * orbitals))
    moved = np.empty((spins, 3, auxiliary.nao))
    integrals = _int3c_wrapper(mol, auxiliary, "int3c2e_ip1", "s1")
    places = auxiliary.ao_loc
    most = max(20, BLOCK_BYTES // (24 * orbitals**2))
    flat = matrices.transpose(0, 2, 1).reshape(spins, -1)
    for first, last, _ in balance_partition(places, min(most, auxiliary.nao)):
        own = slice(places[first], places[last])
        # (x, P, j, i) in the order of memory: derivatives of orbital i.
        block = integrals((0, mol.nbas, 0, mol.nbas, first, last)).transpose(0, 3, 2, 1)
        for axis in range(3):
            values = block[axis].reshape(own.stop - own.start, -1)
            potential[:, axis] += fit[:, own] @ values
            moved[:, axis, own] = -2 * (flat @ values.T)
    between = auxiliary.intor("int2c2e_ip1")
    response = np.einsum("np,mxp->mnxp", fit, moved)
    response -= np.einsum("mp,xpq,nq->mnxp", fit, between, fit, optimize=True)
    by_atom = [-response[..., start:stop].sum(-1) for start, stop in auxiliary.aoslice_by_atom()[:, 2:]]
    shape = (*density.shape[:-2], 3, orbitals, orbitals)
    found = potential.reshape(spins, 3, orbitals, orbitals).transpose(0, 1, 3, 2).reshape(shape)
    return lib.tag_array(-found, aux=np.array(by_atom).transpose(1, 2, 0, 3))
