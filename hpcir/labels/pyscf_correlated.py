"""Correlated wavefunctions with PySCF on a Hartree-Fock field: MP2, CCSD and CCSD(T), analytic forces and dipoles.

With exact integrals the dipole comes out of the gradient itself: that is linear in the derivatives of the one-electron
Hamiltonian, which it contracts with the relaxed density, so with the dipole integrals added to those of the last atom
the sum of the gradient over all atoms is the trace of relaxed density and dipole integrals. Without them it is zero:
there is no grid.

MP2: Pople et al., Int. J. Quantum Chem. Symp. 13, 225, 1979; coupled cluster: Scheiner et al., J. Chem. Phys. 87, 5361,
1987; CCSD(T): Lee and Rendell, J. Chem. Phys. 94, 6229, 1991. Only stages that label import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import cc, mp
from pyscf.cc import ccsd_t_lambda
from pyscf.data import elements
from pyscf.grad import ccsd as ccsd_grad
from pyscf.grad import ccsd_t as ccsd_t_grad
from pyscf.grad import mp2 as mp2_grad
from pyscf.grad import uccsd as uccsd_grad
from pyscf.grad import ump2 as ump2_grad

from hpcir.arrays import FloatArray
from hpcir.errors import LabelFailed
from hpcir.labels.pyscf_dfmp2 import fitted_mp2
from hpcir.labels.pyscf_field import field_slopes

# A correlation energy is linear in what is left of the orbital gradient, so the field is converged further than its own
# label needs.
SCF_ENERGY, SCF_GRADIENT = 1e-11, 1e-7
# Of the amplitudes: forces are then settled to 1e-6 hartree/bohr (tests/contract/test_wavefunctions.py).
ENERGY, AMPLITUDES, CYCLES = 1e-9, 1e-7, 100
NO_FIELD = np.zeros(3)


@dataclass(frozen=True)
class Correlated:
    """Energy in hartree, forces (N, 3) in hartree/bohr and dipole (3,) in e bohr about the origin of coordinates."""

    energy: float
    forces: FloatArray
    dipole: FloatArray


def frozen_orbitals(molecule: Any) -> int:
    """Number of core orbitals, which stay doubly occupied (those in effective core potentials apart)."""
    return int(elements.chemcore(molecule))


def correlate(
    field: Any, wavefunction: str, frozen_core: bool, name: str, strength: FloatArray = NO_FIELD
) -> Correlated:
    """Energy, forces and dipole of "mp2", "ccsd" or "ccsd(t)" on a converged Hartree-Fock field; one of RHF with
    density fitting has MP2 with density fitting.

    strength (3,): the uniform electric field that is in the mean field's one-electron Hamiltonian. Raises LabelFailed
    when orbitals, amplitudes or their multipliers do not converge. name: of the molecule, for that.
    """
    tighten(field, name)
    molecule = field.mol
    if getattr(field, "with_df", None) is not None:
        return _fitted(field, frozen_orbitals(molecule) if frozen_core else 0, name, strength)
    solver, run = _prepared(field, wavefunction, frozen_orbitals(molecule) if frozen_core else 0)
    gradients = _probed(solver._scf, strength)
    solver._scf.nuc_grad_method = lambda: gradients
    try:
        energy, gradient = run(name)
    except (np.linalg.LinAlgError, ArithmeticError, RuntimeError) as error:
        raise LabelFailed(f"{name}: {wavefunction.upper()} failed: {error}") from error
    finally:
        del solver._scf.nuc_grad_method
    charges = molecule.atom_charges()
    # In a field the electrons feel a force, too, when all of the molecule moves.
    trace = gradient.sum(0) - molecule.nelectron * strength
    gradient[-1] -= trace
    forces = charges[:, None] * strength - gradient
    return Correlated(energy, forces, charges @ molecule.atom_coords() - trace)


def _fitted(field: Any, core: int, name: str, strength: FloatArray) -> Correlated:
    """MP2 with density fitting, whose relaxed density gives the dipole."""
    molecule = field.mol

    def pull_on_centres(density: FloatArray) -> FloatArray:
        moved = -2 * np.einsum("x,xyij,ij->yi", strength, field_slopes(molecule), density)
        return np.array([moved[:, first:last].sum(1) for first, last in molecule.aoslice_by_atom()[:, 2:]])

    found = fitted_mp2(field, core, pull_on_centres, name)
    charges = molecule.atom_charges()
    electrons = np.einsum("xij,ij->x", molecule.intor("int1e_r"), found.density)
    forces = charges[:, None] * strength - found.gradient
    return Correlated(found.energy, forces, charges @ molecule.atom_coords() - electrons)


def tighten(field: Any, name: str) -> None:
    """Converge a converged field further. Raises LabelFailed."""
    field.conv_tol, field.conv_tol_grad = SCF_ENERGY, SCF_GRADIENT
    field.kernel(dm0=field.make_rdm1())
    if not field.converged:
        raise LabelFailed(f"{name}: the Hartree-Fock orbitals did not converge to {SCF_GRADIENT:g}")


Runner = Callable[[str], tuple[float, FloatArray]]


def _prepared(field: Any, wavefunction: str, core: int) -> tuple[Any, Runner]:
    """The solver with a frozen core, and a function that gives total energy and gradient (N, 3)."""
    frozen = core or None
    restricted = np.asarray(field.mo_coeff).ndim == 2
    if wavefunction == "mp2":
        solver = (mp.mp2.RMP2 if restricted else mp.ump2.UMP2)(field, frozen=frozen)
        solver.verbose = 0

        def second_order(name: str) -> tuple[float, FloatArray]:
            solver.kernel()
            kind = mp2_grad.Gradients if restricted else ump2_grad.Gradients
            return float(solver.e_tot), _quiet(kind(solver)).kernel(solver.t2)

        return solver, second_order
    solver = (cc.ccsd.CCSD if restricted else cc.uccsd.UCCSD)(field, frozen=frozen)
    solver.verbose = 0
    solver.conv_tol, solver.conv_tol_normt, solver.max_cycle = ENERGY, AMPLITUDES, CYCLES
    triples = wavefunction == "ccsd(t)"
    if triples and not restricted:
        raise LabelFailed("there are no exact forces of CCSD(T) for open shells")
    return solver, lambda name: _coupled_cluster(solver, restricted, triples, name)


def _coupled_cluster(solver: Any, restricted: bool, triples: bool, name: str) -> tuple[float, FloatArray]:
    integrals = solver.ao2mo()
    solver.kernel(eris=integrals)
    if not solver.converged:
        raise LabelFailed(f"{name}: the coupled-cluster amplitudes did not converge in {CYCLES} cycles")
    energy = float(solver.e_tot)
    if triples:
        energy += float(solver.ccsd_t(eris=integrals))
        converged, l1, l2 = ccsd_t_lambda.kernel(
            solver, integrals, solver.t1, solver.t2, max_cycle=CYCLES, tol=AMPLITUDES, verbose=0
        )
        kind = ccsd_t_grad.Gradients
    else:
        l1, l2 = solver.solve_lambda(eris=integrals)
        converged = solver.converged_lambda
        kind = ccsd_grad.Gradients if restricted else uccsd_grad.Gradients
    if not converged:
        raise LabelFailed(f"{name}: the coupled-cluster multipliers did not converge in {CYCLES} cycles")
    return energy, _quiet(kind(solver)).kernel(solver.t1, solver.t2, l1, l2, eris=integrals)


def _quiet(gradients: Any) -> Any:
    gradients.verbose = 0
    return gradients


def _probed(field: Any, strength: FloatArray) -> Any:
    """The field's own gradients, with the electric field in the derivatives of the one-electron Hamiltonian, and the
    dipole integrals added to those of the last atom."""
    gradients = field.nuc_grad_method()
    gradients.verbose = 0
    molecule = field.mol
    dipoles = molecule.intor("int1e_r")
    slopes = field_slopes(molecule)
    plain = gradients.hcore_generator

    def generator(mol: Any = None) -> Callable[[int], FloatArray]:
        derivative = plain(mol)
        slices = molecule.aoslice_by_atom()[:, 2:]

        def of_atom(atom: int) -> FloatArray:
            first, last = slices[atom]
            found = np.array(derivative(atom))
            # The orbitals' centres move: d<i|r|j>/dR = -<grad i|r|j> for i on the atom.
            moved = -np.einsum("x,xyij->yij", strength, slopes[:, :, first:last])
            found[:, first:last] += moved
            found[:, :, first:last] += moved.swapaxes(1, 2)
            return found + dipoles if atom == molecule.natm - 1 else found

        return of_atom

    gradients.hcore_generator = generator
    return gradients
