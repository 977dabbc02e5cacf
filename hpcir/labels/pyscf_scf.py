"""Self-consistent fields with PySCF: molecules, first guesses, the two-grid solver and the ladder for hard cases.

Only stages that label import this module, as PySCF takes a second to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import df, dft, gto, lib, scf

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed
from hpcir.labels.pyscf_coulomb import use_fast_coulomb
from hpcir.labels.pyscf_grid import CachedIntegrator, fits, grouped
from hpcir.molecules.structures import Structure

# Norm of the orbital gradient at which an SCF is converged: forces are then settled to 1e-6 hartree/bohr
# (tests/contract/test_engines.py).
ORBITAL_GRADIENT = 1e-5
ENERGY_TOLERANCE = 1e-8
# Grid on which the two-grid solver iterates; finer grids than the deck's would gain nothing.
COARSE_LEVEL = 0
_OUTER_CYCLES = 8
# Orbital gradient to which the coarse equations are first solved, then as a fraction of that on the fine grid.
FIRST_GRADIENT = 3e-3
REDUCTION = 0.02
# Times an unstable open-shell field is followed downhill, and how much lower the next one is at least, hartree.
MAX_FOLLOWED, STATE_ENERGY = 3, 1e-6
# <S^2> above that of the pure spin state: worth a word, and that of another state, which no label may be of.
CONTAMINATED, ANOTHER_STATE = 0.1, 0.5
# Elements from here on have effective core potentials in the def2 and similar basis sets.
_FIRST_HEAVY = 37


@dataclass
class Workshop:
    """Data shared by the labels of one molecule: parsed basis sets and the memory of the grids."""

    molecule: Any
    auxiliary: Any
    fine: CachedIntegrator
    coarse: CachedIntegrator


def parsed_molecule(structure: Structure, settings: LabelSettings) -> Any:
    """PySCF's molecule with the deck's basis set, and pseudopotentials where that has them."""
    return gto.M(
        atom=[(symbol, tuple(p)) for symbol, p in zip(structure.symbols, structure.positions, strict=True)],
        unit="Bohr",
        basis=settings.basis,
        ecp=effective_core_potentials(structure, settings.basis),
        charge=structure.charge,
        spin=structure.multiplicity - 1,
        verbose=0,
    )


def workshop(structure: Structure, settings: LabelSettings) -> Workshop:
    """Parse the basis sets of a structure, once for many labels."""
    molecule = parsed_molecule(structure, settings)
    auxiliary = gto.format_basis(df.addons.make_auxbasis(molecule)) if settings.density_fitting else None
    return Workshop(molecule, auxiliary, CachedIntegrator(for_forces=True), CachedIntegrator())


def effective_core_potentials(structure: Structure, basis: str) -> dict[str, str]:
    """The basis set's own core potentials for elements beyond krypton, where it has them."""
    found = {}
    for symbol in {s for s, z in zip(structure.symbols, structure.numbers, strict=True) if z >= _FIRST_HEAVY}:
        try:
            if gto.basis.load_ecp(basis, symbol):
                found[symbol] = basis
        except (KeyError, RuntimeError):  # an all-electron basis set
            continue
    return found


def mean_field(shop: Workshop, positions: FloatArray, settings: LabelSettings, level: int, coarse: bool) -> Any:
    """PySCF's mean-field object at positions (N, 3) in bohr, restricted for singlets, on a grid level."""
    molecule = shop.molecule.copy()
    molecule.set_geom_(positions, unit="Bohr")
    open_shell = molecule.spin != 0
    if settings.functional.lower() == "hf":
        field = scf.UHF(molecule) if open_shell else scf.RHF(molecule)
    else:
        field = dft.UKS(molecule) if open_shell else dft.RKS(molecule)
        field.xc = settings.functional
    if settings.density_fitting:
        field = field.density_fit(auxbasis=shop.auxiliary)
    field.verbose, field.chkfile = 0, None
    field.max_cycle = settings.max_cycles
    field.conv_tol, field.conv_tol_grad, field.conv_check = ENERGY_TOLERANCE, ORBITAL_GRADIENT, False
    field.disp = {"none": None, "d3": "d3zero"}.get(settings.dispersion, settings.dispersion)
    if settings.functional.lower() != "hf":
        field._numint = shop.coarse if coarse else shop.fine
        field.grids.level = level
        field.grids.build(with_non0tab=False, sort_grids=False)
        # Sorting the points into boxes pays only where orbitals are not kept, and vanish on most of the grid.
        if not fits(molecule, field.grids):
            if field._numint._xc_type(settings.functional) in CachedIntegrator.KINDS:
                grouped(molecule, field.grids)
            else:
                field.grids.build(with_non0tab=True, sort_grids=True)
    return field


def projected_guess(orbitals: list[FloatArray], overlap: FloatArray) -> FloatArray:
    """Density matrices (n_spin, nao, nao) from occupied orbitals of another geometry, orthonormal in this overlap.

    C' = C (C^T S C)^(-1/2), so that the guess has the right number of electrons and is idempotent.
    """
    matrices = []
    for occupied in orbitals:
        values, vectors = np.linalg.eigh(occupied.T @ overlap @ occupied)
        matrices.append(occupied @ ((vectors / values) @ vectors.T) @ occupied.T)
    return np.array(matrices)


def occupied_orbitals(field: Any) -> list[FloatArray]:
    """Occupied orbitals (nao, n_occupied) of a converged field: one array restricted, two unrestricted."""
    coefficients, occupations = np.asarray(field.mo_coeff), np.asarray(field.mo_occ)
    if coefficients.ndim == 2:
        return [coefficients[:, occupations > 0]]
    return [c[:, o > 0] for c, o in zip(coefficients, occupations, strict=True)]


def solve_two_grids(field: Any, coarse: Any, guess: FloatArray | str) -> bool:
    """Converge Kohn-Sham equations on the fine grid with most iterations on a coarse one; True when converged.

    The full approximation scheme of multigrid methods (Brandt, Math. Comput. 31, 333, 1977): the coarse equations
    are solved with the constant correction V_fine[D0] - V_coarse[D0], D0 the last density matrix, until the
    orbital gradient on the fine grid is converged. The solution is that of the fine grid alone.
    """
    core = field.get_hcore()
    coarse._eri, coarse.with_df = field._eri, getattr(field, "with_df", None)
    if getattr(field, "with_df", None) is not None:
        field.with_df.build()  # integrals in memory: PySCF computes them in every iteration otherwise
    density = field.get_init_guess(key=guess) if isinstance(guess, str) else guess
    coarse_potential, correction = coarse.get_veff, np.zeros(1)

    def corrected(*arguments: Any, **more: Any) -> Any:
        plain = coarse_potential(*arguments, **more)
        return lib.tag_array(np.asarray(plain) + correction, **vars(plain))

    coarse.get_veff = corrected
    coarse.conv_tol = 1.0  # the orbital gradient decides
    coarse.conv_tol_grad = FIRST_GRADIENT
    for _ in range(_OUTER_CYCLES):
        coarse.kernel(dm0=density)
        if not coarse.converged:
            return False
        density = coarse.make_rdm1()
        potential = field.get_veff(field.mol, density)
        fock = field.get_fock(h1e=core, vhf=potential, dm=density)
        gradient = field.get_grad(coarse.mo_coeff, coarse.mo_occ, fock)
        norm = float(np.linalg.norm(gradient))
        if norm < ORBITAL_GRADIENT:
            field.mo_energy, field.mo_coeff = field.canonicalize(coarse.mo_coeff, coarse.mo_occ, fock)
            field.mo_occ, field.converged = coarse.mo_occ, True
            field.e_tot = field.energy_tot(density, core, potential)
            return True
        coarse.conv_tol_grad = max(REDUCTION * norm, 0.5 * ORBITAL_GRADIENT)
        correction = np.asarray(potential) - np.asarray(coarse_potential(coarse.mol, density))
    return False


def _one_grid(field: Any, guess: FloatArray | str) -> None:
    field.kernel(dm0=None if isinstance(guess, str) else guess)


def _shifted(field: Any, guess: FloatArray | str) -> None:
    field.level_shift, field.damp, field.diis_start_cycle = 0.3, 0.3, 4
    field.max_cycle *= 3
    field.kernel(dm0=None if isinstance(guess, str) else guess)
    field.level_shift, field.damp = 0, 0


def _guessed(key: str) -> Callable[[Any, Any], None]:
    def run(field: Any, guess: Any) -> None:
        field.level_shift, field.diis_space = 0.1, 12
        field.max_cycle *= 2
        field.kernel(dm0=field.get_init_guess(key=key))

    return run


def _second_order(field: Any, guess: FloatArray | str) -> None:
    solver = field.newton()
    solver.verbose, solver.max_cycle = 0, 100
    solver.conv_tol, solver.conv_tol_grad = ENERGY_TOLERANCE, ORBITAL_GRADIENT
    solver.kernel(dm0=None if isinstance(guess, str) else guess)
    for name in ("mo_coeff", "mo_energy", "mo_occ", "e_tot", "converged"):
        setattr(field, name, getattr(solver, name))


# Rungs for fields that the two-grid solver does not converge, tried in this order.
LADDER: tuple[tuple[str, Callable[[Any, Any], None]], ...] = (
    ("one grid", _one_grid),
    ("level shift and damping", _shifted),
    ("guess from atoms", _guessed("atom")),
    ("guess by Huckel", _guessed("huckel")),
    ("guess from the core Hamiltonian", _guessed("1e")),
    ("second order", _second_order),
)


def climb_ladder(make_field: Callable[[], Any], guess: FloatArray | str, name: str) -> tuple[Any, str]:
    """The first rung that converges: (field, its name). Raises LabelFailed when none does."""
    reasons = []
    for rung, run in LADDER:
        field = make_field()
        try:
            run(field, guess)
        except (np.linalg.LinAlgError, ValueError, RuntimeError, ArithmeticError) as error:
            reasons.append(f"{rung}: {error}")
            continue
        if field.converged:
            return field, rung
        reasons.append(f"{rung}: not converged")
    raise LabelFailed(f"{name}: the SCF did not converge ({'; '.join(reasons)})")


def excess_spin(field: Any) -> float:
    """<S^2> of a converged field less S(S + 1) of its multiplicity; 0 for closed shells."""
    if field.mol.spin == 0:
        return 0.0
    half = field.mol.spin / 2
    return float(field.spin_square()[0]) - half * (half + 1)


def stable(field: Any, make_field: Callable[[], Any]) -> Any:
    """An open-shell field followed downhill until it is a minimum with respect to its orbitals (Seeger, Pople, J. Chem.
    Phys. 66, 3045, 1977), MAX_FOLLOWED times at most; the field itself where it is one, or none is lower."""
    if field.mol.spin == 0:
        return field
    for _ in range(MAX_FOLLOWED):
        rotated = _downhill(field)
        if rotated is None:
            break
        lower = make_field()
        lower.kernel(dm0=lower.make_rdm1(rotated, field.mo_occ))
        if not lower.converged or lower.e_tot > field.e_tot - STATE_ENERGY:
            break
        field = lower
    return field


def _downhill(field: Any) -> Any:
    """Orbitals turned towards a lower energy; None for a stable field."""
    own = getattr(field, "_numint", None)
    if own is not None:
        field._numint = dft.numint.NumInt()  # the response's kernel is PySCF's own
    try:
        turned, _, good, _ = field.stability(return_status=True)
    finally:
        if own is not None:
            field._numint = own
    return None if good else turned


def forces(field: Any) -> FloatArray:
    """Forces (N, 3) in hartree/bohr of a converged field; the exchange-correlation part from the cached orbitals."""
    gradients = field.nuc_grad_method()
    gradients.verbose = 0
    use_fast_coulomb(gradients)
    integrator = getattr(field, "_numint", None)
    if integrator is None or field.do_nlc() or not integrator.cache(field.mol, field.grids, field.xc, forces=True):
        return -np.asarray(gradients.kernel())
    density = np.asarray(field.make_rdm1())
    matrices = density[None] if density.ndim == 2 else density
    part = integrator.gradient(field.mol, field.grids, field.xc, matrices)
    # Without grid points PySCF's own gradient holds everything else.
    coordinates, weights = field.grids.coords, field.grids.weights
    field.grids.coords, field.grids.weights = coordinates[:0], weights[:0]
    try:
        rest = np.asarray(gradients.kernel())
    finally:
        field.grids.coords, field.grids.weights = coordinates, weights
    return -(rest + part)
