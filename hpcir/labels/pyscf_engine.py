"""Label engine PySCF: Kohn-Sham with any functional, basis and dispersion, Hartree-Fock, MP2, CCSD and CCSD(T).

Sun et al., J. Chem. Phys. 153, 024109, 2020 (PySCF).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed
from hpcir.labels.base import Label
from hpcir.labels.checks import finished_label, nuclear_charge_centre
from hpcir.molecules.structures import Structure, superimpose

# Largest displacement of an atom (bohr) from the reference with which the reference's density is the first guess.
GUESS_REACH = 3.0
# Guess for a geometry far from the reference: a minimal basis with atomic occupations.
_STANDARD_GUESS = "minao"
# Largest net force over the root of the number of atoms, hartree/bohr: it is the error of a force, which an integration
# grid leaves that is too coarse for its functional.
MAX_NET_FORCE = 2e-4


class PyscfEngine:
    """Labels by PySCF.

    Each geometry is turned onto the reference and labelled there, from the reference's orbitals made orthonormal
    in the new overlap; forces and dipole are turned back. So a label depends on the geometry alone, and the
    orientation of the integration grid does not add noise.
    """

    def __init__(self, settings: LabelSettings, reference: Structure | None = None) -> None:
        self.settings = mean_field_settings(settings)
        self.wavefunction, self.frozen_core = settings.wavefunction, settings.frozen_core
        self._given_settings = settings
        self.level = _level(settings)
        self._reference = reference
        self._orbitals: list[FloatArray] | None = None
        self._shop: Any = None
        self._shop_key: tuple[Any, ...] = ()

    def check(self, structure: Structure) -> None:
        """InputError for an unknown functional, basis or dispersion, or an element that the basis does not have."""
        from hpcir.labels.pyscf_checks import check_level

        check_level(self._given_settings, structure)

    def label(self, structure: Structure, polar: bool = False) -> Label:
        """Label one geometry; LabelFailed when no rung of the ladder converges, a value is not finite, or the grid is
        too coarse for the functional."""
        start = time.perf_counter()
        if not np.all(np.isfinite(structure.positions)):
            raise LabelFailed(f"{structure.name}: a coordinate is not a finite number")
        positions, rotation, guess = self._placed(structure)
        field, rung = self._converged(structure, positions, guess)
        word = _spin_word(field, structure.name)
        # The centre of nuclear charge is the origin, so the dipole is about it, for ions too.
        energy, forces, dipole = self._properties(field, structure.name)
        self._require_fine_grid(forces, structure.name)
        tensors = None
        if polar:
            from hpcir.labels import pyscf_field

            placed = pyscf_field.polar_tensors(field, structure.name, self._forces_in_field(structure.name))
            tensors = np.einsum("jyx,yk,xl->jkl", placed, rotation, rotation)
        seconds = time.perf_counter() - start
        return finished_label(structure, energy, forces @ rotation, dipole @ rotation, seconds, rung + word, tensors)

    def _properties(self, field: Any, name: str) -> tuple[float, FloatArray, FloatArray]:
        """Energy, forces (N, 3) and dipole (3,) about the origin, of the field or the wavefunction on it."""
        if self.wavefunction == "none":
            from hpcir.labels import pyscf_scf

            dipole = np.asarray(field.dip_moment(unit="AU", verbose=0))
            return float(field.e_tot), pyscf_scf.forces(field), dipole
        from hpcir.labels.pyscf_correlated import correlate

        found = correlate(field, self.wavefunction, self.frozen_core, name)
        return found.energy, found.forces, found.dipole

    def _require_fine_grid(self, forces: FloatArray, name: str) -> None:
        """Raise LabelFailed where the net force shows that the forces (N, 3) are wrong by more than MAX_NET_FORCE."""
        error = float(np.linalg.norm(forces.sum(0))) / np.sqrt(len(forces))
        if self.wavefunction == "none" and error > MAX_NET_FORCE:
            raise LabelFailed(
                f"{name}: the forces of {self.level} are wrong by {error:.1g} hartree/bohr, by their net force: the "
                f"integration grid is too coarse for this functional. Give a labels.grid_level above "
                f"{self.settings.grid_level}, or a functional that is less sensitive to it"
            )

    def _forces_in_field(self, name: str) -> Callable[[Any, FloatArray], FloatArray] | None:
        """Forces (N, 3) of a field that is converged in an electric field; None where they are the mean field's own."""
        if self.wavefunction == "none":
            return None
        from hpcir.labels.pyscf_correlated import correlate

        return lambda field, strength: correlate(field, self.wavefunction, self.frozen_core, name, strength).forces

    def _placed(self, structure: Structure) -> tuple[FloatArray, FloatArray, FloatArray | str]:
        """Positions on the reference with the centre of nuclear charge at the origin, the rotation, the guess."""
        reference = self._reference
        if reference is None or _key(reference) != _key(structure):
            return structure.positions - nuclear_charge_centre(structure), np.eye(3), _STANDARD_GUESS
        target = reference.positions - nuclear_charge_centre(reference)
        positions, rotation, _ = superimpose(structure.positions, target, structure.numbers.astype(float))
        if np.abs(positions - target).max() > GUESS_REACH:
            return positions, rotation, _STANDARD_GUESS
        return positions, rotation, self._guess(reference, positions)

    def _guess(self, reference: Structure, positions: FloatArray) -> FloatArray | str:
        from hpcir.labels import pyscf_scf

        if self._orbitals is None:
            target = reference.positions - nuclear_charge_centre(reference)
            try:
                field, _ = self._converged(reference, target, _STANDARD_GUESS)
                field = pyscf_scf.stable(field, lambda: self._mean_field(reference, target))
            except LabelFailed:
                self._reference = None  # no guess from it, ever, so that labels do not depend on their order
                return _STANDARD_GUESS
            self._orbitals = pyscf_scf.occupied_orbitals(field)
        molecule = self._workshop(reference).molecule.copy()
        molecule.set_geom_(positions, unit="Bohr")
        matrices = pyscf_scf.projected_guess(self._orbitals, molecule.intor_symmetric("int1e_ovlp"))
        return 2 * matrices[0] if len(matrices) == 1 else matrices

    def _workshop(self, structure: Structure) -> Any:
        from hpcir.labels import pyscf_scf

        if self._shop is None or self._shop_key != _key(structure):
            self._shop, self._shop_key = pyscf_scf.workshop(structure, self.settings), _key(structure)
        return self._shop

    def _mean_field(self, structure: Structure, positions: FloatArray) -> Any:
        """The field to be converged, on the deck's grid."""
        from hpcir.labels import pyscf_scf

        settings = self.settings
        return pyscf_scf.mean_field(self._workshop(structure), positions, settings, settings.grid_level, coarse=False)

    def _converged(self, structure: Structure, positions: FloatArray, guess: FloatArray | str) -> tuple[Any, str]:
        """A converged field and the rung of the ladder that did it."""
        from hpcir.labels import pyscf_scf

        shop, settings = self._workshop(structure), self.settings

        def field() -> Any:
            return self._mean_field(structure, positions)

        first = field()
        try:
            if settings.functional.lower() == "hf":
                first.kernel(dm0=None if isinstance(guess, str) else guess)
            else:
                level = min(pyscf_scf.COARSE_LEVEL, settings.grid_level)
                coarse = pyscf_scf.mean_field(shop, positions, settings, level, coarse=True)
                pyscf_scf.solve_two_grids(first, coarse, guess)
        except (np.linalg.LinAlgError, ArithmeticError):
            first.converged = False  # overlapping atoms and the like; the ladder says why
        if first.converged:
            return first, "default"
        return pyscf_scf.climb_ladder(field, guess, structure.name)


def _spin_word(field: Any, name: str) -> str:
    """A word for a label whose spin is contaminated, "" for others. Raises LabelFailed for one of another state."""
    from hpcir.labels import pyscf_scf

    excess = pyscf_scf.excess_spin(field)
    if excess > pyscf_scf.ANOTHER_STATE:
        raise LabelFailed(
            f"{name}: <S^2> is {excess:.2f} above that of multiplicity {field.mol.spin + 1}: this geometry has another "
            "electronic state, which one potential cannot describe"
        )
    return f" (<S^2> {excess:.2f} too large)" if excess > pyscf_scf.CONTAMINATED else ""


def _key(structure: Structure) -> tuple[Any, ...]:
    return structure.numbers.tobytes(), structure.charge, structure.multiplicity


def mean_field_settings(settings: LabelSettings) -> LabelSettings:
    """The settings of the mean field: Hartree-Fock below a wavefunction, with exact integrals below coupled cluster."""
    if settings.wavefunction == "none":
        return settings
    fitted = settings.density_fitting and settings.wavefunction == "mp2"
    return settings.model_copy(update={"functional": "hf", "density_fitting": fitted, "dispersion": "none"})


def _level(settings: LabelSettings) -> str:
    """The level of theory in one line; everything that changes the numbers is in it."""
    if settings.wavefunction != "none":
        core = "frozen core" if settings.frozen_core else "all electrons"
        fitted = "density fitting, " if mean_field_settings(settings).density_fitting else ""
        return f"{settings.wavefunction.upper()}/{settings.basis.lower()} (PySCF, {fitted}{core})"
    functional = settings.functional
    details = ["density fitting"] if settings.density_fitting else []
    if functional.lower() != "hf":
        details.append(f"grid {settings.grid_level}")
    dispersion = "" if settings.dispersion == "none" else f"-{settings.dispersion.upper()}"
    return f"{functional.upper()}{dispersion}/{settings.basis.lower()} (PySCF{''.join(', ' + d for d in details)})"


def create(settings: LabelSettings, reference: Structure | None = None) -> PyscfEngine:
    """The engine of the deck; labels start from the reference's orbitals."""
    return PyscfEngine(settings, reference)
