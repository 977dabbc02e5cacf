"""Forces in a uniform electric field with PySCF, for polar tensors.

The field F adds +F . r for electrons and -Z F . R for nuclei; forces follow from the density in the field, with
    dE/dR_A = (PySCF's own gradient) - Z_A F - 2 sum_(i on A, j) D_ij <grad i| F . r |j>.
Only stages that label import this module, as PySCF takes a second to import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import LabelFailed
from hpcir.labels.checks import polar_tensors_by_fields
from hpcir.labels.pyscf_scf import ENERGY_TOLERANCE, ORBITAL_GRADIENT, forces

# Convergence criterion as a fraction of a label's: a difference of two forces is divided by a small field.
CONVERGENCE_FACTOR = 0.1


def polar_tensors(
    field: Any, name: str, correlated: Callable[[Any, FloatArray], FloatArray] | None = None
) -> FloatArray:
    """Polar tensors (N, 3, 3) about the origin of a converged mean field, which is left in the last field's state.

    correlated: forces (N, 3) of a wavefunction on a mean field that is converged in an electric field, and that field.
    Raises LabelFailed when the SCF does not converge in a field. name: of the molecule, for that.
    """
    core, density = field.get_hcore(), field.make_rdm1()
    dipoles = field.mol.intor("int1e_r")
    slopes = field_slopes(field.mol)

    def forces_in(strength: FloatArray) -> FloatArray:
        shifted = core + np.einsum("x,xij->ij", strength, dipoles)
        _solve(field, lambda *_: shifted, density, name)
        if correlated is not None:
            return correlated(field, strength)
        return forces(field) + _field_forces(field, strength, slopes)

    return polar_tensors_by_fields(forces_in)


def _solve(field: Any, core: Callable[..., FloatArray], density: FloatArray, name: str) -> None:
    field.get_hcore = core
    field.conv_tol, field.conv_tol_grad = CONVERGENCE_FACTOR * ENERGY_TOLERANCE, CONVERGENCE_FACTOR * ORBITAL_GRADIENT
    try:
        field.kernel(dm0=density)
    except (np.linalg.LinAlgError, ArithmeticError) as error:
        raise LabelFailed(f"{name}: the SCF in an electric field failed: {error}") from error
    if not field.converged:
        raise LabelFailed(f"{name}: the SCF in an electric field did not converge")


def field_slopes(molecule: Any) -> FloatArray:
    """<grad_y i| r_x |j> as [x, y, i, j]."""
    # PySCF's int1e_irp is <i| r_x grad_y |j>.
    return np.asarray(molecule.intor("int1e_irp", comp=9)).reshape(3, 3, molecule.nao, molecule.nao).swapaxes(2, 3)


def _field_forces(field: Any, strength: FloatArray, slopes: FloatArray) -> FloatArray:
    """The field's part of the forces (N, 3) at fixed density matrix: on the nuclei, and on the orbitals' centres."""
    molecule = field.mol
    density = np.asarray(field.make_rdm1())
    total = density if density.ndim == 2 else density.sum(0)
    by_orbital = np.einsum("x,xyij,ij->iy", strength, slopes, total)
    pulled = [2 * by_orbital[first:last].sum(0) for first, last in molecule.aoslice_by_atom()[:, 2:]]
    return molecule.atom_charges()[:, None] * strength + np.array(pulled)
