"""MP2 of closed shells with density fitting throughout: energy, analytic gradient and relaxed density.

Weigend and Haeser, Theor. Chem. Acc. 97, 331, 1997 (RI-MP2 gradients). PySCF has the energy alone. The Lagrangian is
    L = sum_ijab T_ij^ab (ia|jb) (Hylleraas) + sum_ai z_ai F_ai + sum_fi z_fi F_fi + sum_pq w_pq (S_pq - delta_pq)
with T_ij^ab = 2 t_ij^ab - t_ij^ba, f a frozen core orbital. It is stationary in amplitudes and orbitals, so that the
gradient is its derivative at fixed amplitudes and orbital coefficients. Indices: i, j occupied and correlated; a, b
virtual; p, q any; mu, nu basis functions; P, Q fitting functions. Only stages that label import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import df
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from hpcir.arrays import FloatArray
from hpcir.errors import LabelFailed

# Numbers of a block of three-centre integrals: fitting functions are taken as many at a time as fit.
BLOCK_NUMBERS = 40_000_000
# Of the response of the orbitals: forces are settled to 1e-8 hartree/bohr.
RESPONSE, CYCLES = 1e-10, 60


@dataclass(frozen=True)
class FittedMP2:
    """Energy in hartree, gradient (N, 3) in hartree/bohr without what an electric field does, and the relaxed density
    matrix (n, n)."""

    energy: float
    gradient: FloatArray
    density: FloatArray


@dataclass(frozen=True)
class _Fit:
    """A fitting basis: its molecule, and the Cholesky factor of its Coulomb metric."""

    molecule: Any
    auxiliary: Any
    factor: tuple[FloatArray, bool]

    @classmethod
    def of(cls, molecule: Any, basis: Any) -> _Fit:
        auxiliary = df.addons.make_auxmol(molecule, basis)
        return cls(molecule, auxiliary, cho_factor(auxiliary.intor("int2c2e"), lower=True))

    def solve(self, right: FloatArray) -> FloatArray:
        """The metric's inverse on the first axis of an array."""
        return np.asarray(cho_solve(self.factor, right.reshape(len(right), -1))).reshape(right.shape)

    def blocks(self, kind: str = "int3c2e") -> Iterator[tuple[slice, FloatArray]]:
        """Slices of fitting functions, and their integrals (mu nu|P) as [..., mu, nu, P], a block after the other."""
        shells, places = self.auxiliary.nbas, self.auxiliary.ao_loc
        components = 1 if kind == "int3c2e" else 3
        most = max(1, BLOCK_NUMBERS // (components * self.molecule.nao**2))
        first = 0
        while first < shells:
            last = first + 1
            while last < shells and places[last + 1] - places[first] <= most:
                last += 1
            orbitals = self.molecule.nbas
            slices = (0, orbitals, 0, orbitals, first, last)
            block = df.incore.aux_e2(
                self.molecule, self.auxiliary, kind, aosym="s1", comp=components, shls_slice=slices
            )
            yield slice(places[first], places[last]), np.asarray(block)
            first = last

    def half(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """(P|xy) (P, x, y) with orbitals left (n, x) and right (n, y)."""
        found = np.empty((self.auxiliary.nao, left.shape[1], right.shape[1]))
        for part, integrals in self.blocks():
            found[part] = np.einsum("mx,mnP,ny->Pxy", left, integrals, right, optimize=True)
        return found

    def gradient(self, three: Callable[[slice], FloatArray], two: FloatArray) -> FloatArray:
        """Sum (N, 3) of three(slice)[P, mu, nu] d(P|mu nu)/dR, symmetric in mu and nu, and two[P, Q] d(P|Q)/dR,
        symmetric."""
        rows, columns = np.zeros((3, self.molecule.nao)), np.zeros((3, self.auxiliary.nao))
        for part, integrals in self.blocks("int3c2e_ip1"):
            rows -= 2 * np.einsum("xmnP,Pmn->xm", integrals, three(part), optimize=True)
        for part, integrals in self.blocks("int3c2e_ip2"):
            columns[:, part] -= np.einsum("xmnP,Pmn->xP", integrals, three(part), optimize=True)
        columns -= 2 * np.einsum("xPQ,PQ->xP", self.auxiliary.intor("int2c2e_ip1"), two)
        return _by_atom(self.molecule, rows) + _by_atom(self.auxiliary, columns)


def _by_atom(molecule: Any, rows: FloatArray) -> FloatArray:
    return np.array([rows[:, first:last].sum(1) for first, last in molecule.aoslice_by_atom()[:, 2:]])


@dataclass(frozen=True)
class _Amplitudes:
    """From the amplitudes: correlation energy, densities of occupied (o, o) and virtual (v, v) orbitals, the
    contracted three-index amplitudes Y (P, o, v) and their two-index partner (P, Q)."""

    energy: float
    occupied: FloatArray
    virtual: FloatArray
    three: FloatArray
    two: FloatArray


def _amplitudes(fit: _Fit, occupied: FloatArray, virtual: FloatArray, energies: tuple[FloatArray, FloatArray]) -> Any:
    integrals = fit.half(occupied, virtual)
    fitted = fit.solve(integrals)
    low, high = energies
    o, v = len(low), len(high)
    energy, dens_o, dens_v = 0.0, np.zeros((o, o)), np.zeros((v, v))
    three = np.empty_like(integrals)
    for i in range(o):
        exchange = np.einsum("Pa,Pjb->ajb", integrals[:, i], fitted, optimize=True)
        gaps = low[i] + low[None, :, None] - high[:, None, None] - high[None, None, :]
        plain = exchange / gaps
        combined = 2 * plain - plain.transpose(2, 1, 0)
        energy += float(np.vdot(combined, exchange))
        three[:, i] = np.einsum("ajb,Pjb->Pa", combined, fitted, optimize=True)
        dens_v += 2 * np.einsum("ajc,bjc->ab", combined, plain, optimize=True)
        dens_o -= 2 * np.einsum("aib,ajb->ij", combined, plain, optimize=True)
    two = np.einsum("Pia,Qia->PQ", three, fitted, optimize=True)
    return _Amplitudes(energy, dens_o, dens_v, three, two)


def fitted_mp2(field: Any, core: int, extra: Callable[[FloatArray], FloatArray], name: str) -> FittedMP2:
    """MP2 on a converged RHF field with density fitting, `core` orbitals frozen.

    extra: the gradient (N, 3) that a one-electron operator beside PySCF's own adds for a density matrix. Raises
    LabelFailed when the orbitals' response does not converge. name: of the molecule, for that.
    """
    molecule, energies, coefficients = field.mol, field.mo_energy, field.mo_coeff
    occupied = int((field.mo_occ > 0).sum())
    active, virtual = coefficients[:, core:occupied], coefficients[:, occupied:]
    fit = _Fit.of(molecule, df.addons.make_auxbasis(molecule, mp2fit=True))
    found = _amplitudes(fit, active, virtual, (energies[core:occupied], energies[occupied:]))
    pull = _orbital_pull(fit, found, active, virtual, coefficients, core)
    correlation, weighted = _relaxed(field, found, pull, core, name)
    density, change = field.make_rdm1(), coefficients @ correlation @ coefficients.T
    total = density + change
    gradients = field.nuc_grad_method()
    gradients.verbose = 0
    derivative, overlaps = gradients.hcore_generator(molecule), gradients.get_ovlp(molecule)
    gradient = np.array([np.einsum("xij,ij->x", derivative(atom), total) for atom in range(molecule.natm)])
    weights = coefficients @ weighted @ coefficients.T - gradients.make_rdm1e(energies, coefficients, field.mo_occ)
    gradient += _by_atom(molecule, 2 * np.einsum("xij,ij->xi", overlaps, weights))
    gradient += _mean_field_gradient(field, 0.5 * density + change, coefficients[:, :occupied])

    def three(part: slice) -> FloatArray:
        pairs = np.einsum("mi,Pia,na->Pmn", active, found.three[part], virtual, optimize=True)
        return 2 * (pairs + pairs.transpose(0, 2, 1))

    gradient += fit.gradient(three, -2 * found.two)
    gradient += gradients.grad_nuc(molecule) + extra(total)
    return FittedMP2(float(field.e_tot) + found.energy, gradient, total)


def _orbital_pull(
    fit: _Fit, found: _Amplitudes, active: FloatArray, virtual: FloatArray, coefficients: FloatArray, core: int
) -> FloatArray:
    """X_pq: derivative of the Hylleraas energy by U_pq, dC_q = sum_p C_p U_pq; (n, n), zero for frozen q."""
    n, o = len(coefficients), active.shape[1]
    by_occupied, by_virtual = np.zeros((n, o)), np.zeros((n, virtual.shape[1]))
    for part, integrals in fit.blocks():
        y = found.three[part]
        by_occupied += np.einsum("mnP,na,Pia->mi", integrals, virtual, y, optimize=True)
        by_virtual += np.einsum("mnP,ni,Pia->ma", integrals, active, y, optimize=True)
    pull = np.zeros((coefficients.shape[1], coefficients.shape[1]))
    pull[:, core : core + o] = 4 * coefficients.T @ by_occupied
    pull[:, core + o :] = 4 * coefficients.T @ by_virtual
    return pull


def _relaxed(field: Any, found: _Amplitudes, pull: FloatArray, core: int, name: str) -> tuple[FloatArray, FloatArray]:
    """The correlation's share of the relaxed density, and the overlaps' multipliers w, both (n, n) in orbitals."""
    energies, coefficients = field.mo_energy, field.mo_coeff
    o = core + len(found.occupied)
    frozen, active = slice(0, core), slice(core, o)
    density = np.zeros_like(pull)
    density[active, active], density[o:, o:] = found.occupied, found.virtual
    if core:
        density[frozen, active] = -0.5 * pull[frozen, active] / (energies[frozen, None] - energies[None, active])
        density[active, frozen] = density[frozen, active].T

    def potential(of: FloatArray) -> FloatArray:
        """J - K/2 of a density, in orbitals."""
        back = coefficients @ of @ coefficients.T
        return np.asarray(coefficients.T @ np.asarray(field.get_veff(field.mol, back)) @ coefficients)

    gaps = energies[o:, None] - energies[None, :o]

    def response(flat: FloatArray) -> FloatArray:
        part = np.zeros_like(density)
        part[o:, :o] = flat.reshape(gaps.shape)
        return (gaps * part[o:, :o] + 2 * potential(part + part.T)[o:, :o]).ravel()

    right = (0.5 * (pull[:o, o:].T - pull[o:, :o]) - 2 * potential(density)[o:, :o]).ravel()
    solved = _conjugate_gradient(response, right, gaps.ravel())
    if solved is None:
        raise LabelFailed(f"{name}: the orbitals' response to MP2 did not converge in {CYCLES} cycles")
    solved = solved.reshape(gaps.shape)
    density[o:, :o], density[:o, o:] = solved, solved.T
    slope = pull + 2 * energies[:, None] * density
    slope[:, :o] += 4 * potential(density)[:, :o]
    return density, -0.25 * (slope + slope.T)


def _conjugate_gradient(
    product: Callable[[FloatArray], FloatArray], right: FloatArray, diagonal: FloatArray
) -> FloatArray | None:
    """Solution of product(x) = right, symmetric and positive, to RESPONSE; None when CYCLES do not suffice."""
    shape = (len(right), len(right))
    operator = LinearOperator(shape, matvec=product, dtype=float)
    rough = LinearOperator(shape, matvec=lambda x: x / diagonal, dtype=float)
    solved, left_off = cg(operator, right, rtol=0.0, atol=RESPONSE, maxiter=CYCLES, M=rough)
    return None if left_off else np.asarray(solved)


def _mean_field_gradient(field: Any, with_: FloatArray, occupied: FloatArray) -> FloatArray:
    """tr[R V'(D)] (N, 3): the two-electron derivative of a fitted mean field, D = 2 C C^T, R any symmetric matrix."""
    fit = _Fit.of(field.mol, field.with_df.auxbasis)
    density = 2 * occupied @ occupied.T
    charges = np.empty((2, fit.auxiliary.nao))
    half = np.empty((fit.auxiliary.nao, len(density), occupied.shape[1]))
    for part, integrals in fit.blocks():
        charges[:, part] = np.einsum("dmn,mnP->dP", np.array([with_, density]), integrals, optimize=True)
        half[part] = np.einsum("mnP,ni->Pmi", integrals, occupied, optimize=True)
    charges = fit.solve(charges.T).T
    half = fit.solve(half)
    turned = np.einsum("mn,Pni->Pmi", with_, half, optimize=True)

    def three(part: slice) -> FloatArray:
        exchange = np.einsum("Pmi,ni->Pmn", turned[part], occupied, optimize=True)
        coulomb = charges[1, part, None, None] * with_ + charges[0, part, None, None] * density
        return np.asarray(coulomb - exchange - exchange.transpose(0, 2, 1))

    two = np.einsum("Pmi,Qmi->PQ", turned, half, optimize=True)
    pair = np.outer(charges[0], charges[1])
    return fit.gradient(three, 0.5 * (two + two.T) - 0.5 * (pair + pair.T))
