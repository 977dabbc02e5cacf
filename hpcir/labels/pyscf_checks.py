"""Checks of a deck's functional, basis set and dispersion against PySCF, without computing anything."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError
from hpcir.labels.checks import nearest_names, require_package
from hpcir.molecules.structures import Structure

COMMON_FUNCTIONALS = ("bp86", "pbe", "blyp", "b3lyp", "pbe0", "tpss", "r2scan", "wb97x-v", "hf")
_COMMON_BASES = (
    "def2-svp",
    "def2-tzvp",
    "def2-tzvpp",
    "def2-qzvp",
    "cc-pvdz",
    "cc-pvtz",
    "6-31g*",
    "6-311g**",
)
# Basis sets with functions for all elements to krypton.
COMPLETE_BASES, LAST_COMMON_ELEMENT = ("def2-svp", "def2-tzvp", "def2-tzvpp", "def2-qzvp"), 36
_DISPERSION_VERSIONS = {"d3": "d3zero", "d3bj": "d3bj", "d4": "d4"}


def check_level(settings: LabelSettings, structure: Structure) -> None:
    """Raise InputError naming the deck key that PySCF cannot serve for this structure."""
    require_package("pyscf", "labels.engine", "pyscf", "pip install pyscf")
    if settings.wavefunction != "none":
        _check_basis(settings.basis, structure)
        _check_electrons(settings, structure)
        _check_open_shell(settings, structure)
        return
    if _surely_served(settings, structure):
        return
    _check_functional(settings.functional)
    _check_basis(settings.basis, structure)
    _check_dispersion(settings, structure)


def _surely_served(settings: LabelSettings, structure: Structure) -> bool:
    """True for names and elements that every PySCF has: importing it to ask takes longer than all else of a check."""
    return (
        settings.functional in COMMON_FUNCTIONALS
        and settings.basis in COMPLETE_BASES
        and settings.dispersion == "none"
        and int(structure.numbers.max()) <= LAST_COMMON_ELEMENT
    )


@dataclass(frozen=True)
class OrbitalSpace:
    """Correlated occupied and virtual orbitals of alpha and beta spin, and basis functions."""

    occupied: tuple[int, int]
    virtual: tuple[int, int]
    functions: int


def orbital_space(settings: LabelSettings, structure: Structure) -> OrbitalSpace:
    """Sizes of a correlated calculation; computes no integral."""
    from pyscf.data import elements

    from hpcir.labels.pyscf_scf import parsed_molecule

    molecule = parsed_molecule(structure, settings)
    core = int(elements.chemcore(molecule)) if settings.frozen_core else 0
    alpha, beta = molecule.nelec
    functions = int(molecule.nao)
    return OrbitalSpace((alpha - core, beta - core), (functions - alpha, functions - beta), functions)


def wavefunction_memory(settings: LabelSettings, structure: Structure) -> int:
    """Bytes that a correlated label wants about, from the numbers of orbitals: integrals over basis functions and
    orbitals, amplitudes with their multipliers, the history of their convergence, and half-transformed densities."""
    space = orbital_space(settings, structure)
    n, o, v = space.functions, sum(space.occupied) / 2, sum(space.virtual) / 2
    amplitudes = (o * v) ** 2
    if settings.wavefunction == "mp2" and settings.density_fitting:
        # Three-index amplitudes over some three fitting functions for each basis function, and blocks of integrals.
        numbers = 9 * n * (o * v + n * sum(space.occupied) / 2) + 2e8
    elif settings.wavefunction == "mp2":
        numbers = n**4 / 8 + 2 * amplitudes + 2 * (o * n) ** 2
    else:
        integrals = o**4 + 2 * o**3 * v + 3 * amplitudes + o * v**3 / 2 + v**4 / 4
        numbers = n**4 / 8 + integrals + 16 * amplitudes
    return int(8 * numbers * (1 if structure.multiplicity == 1 else 3))


def _check_electrons(settings: LabelSettings, structure: Structure) -> None:
    space = orbital_space(settings, structure)
    if min(*space.virtual, space.occupied[0]) < 1 or sum(space.occupied) < 2 or space.occupied[1] < 0:
        raise InputError(
            f"{settings.wavefunction.upper()} has nothing to correlate here: {sum(space.occupied)} electrons outside "
            f"the core in {space.functions} basis functions",
            where="labels.wavefunction",
            value=settings.wavefunction,
            hint="set labels.frozen_core: false, or take a larger basis or Hartree-Fock (functional: hf)",
        )


def _check_open_shell(settings: LabelSettings, structure: Structure) -> None:
    """Refuse what has no exact gradient for open shells."""
    if structure.multiplicity == 1:
        return
    if settings.wavefunction == "mp2" and settings.density_fitting:
        raise InputError(
            "MP2 with density fitting is for closed shells",
            where="labels.density_fitting",
            value=True,
            hint="set it to false: MP2 of open shells has exact integrals",
        )
    if settings.wavefunction == "ccsd(t)":
        # PySCF's gradient is off by up to 8e-5 hartree/bohr (BeH, NH2) against differences of its energy.
        raise InputError(
            "there are no exact forces of CCSD(T) for open shells",
            where="labels.wavefunction",
            value=settings.wavefunction,
            hint="take ccsd, or mp2 with density_fitting: false",
        )


def _check_functional(name: str) -> None:
    from pyscf.dft import libxc
    from pyscf.dft.numint import NumInt
    from pyscf.scf.dispersion import parse_dft

    if name.lower() == "hf":
        return
    try:
        functional = parse_dft(name)[0]
        kind = NumInt()._xc_type(functional)
        libxc.parse_xc(functional)
    except (KeyError, ValueError, NotImplementedError, IndexError, TypeError) as error:
        known = [alias.lower() for alias in libxc.XC_ALIAS] + [*COMMON_FUNCTIONALS]
        raise InputError(
            "PySCF knows no such functional",
            where="labels.functional",
            value=name,
            hint=nearest_names(name, known, COMMON_FUNCTIONALS),
        ) from error
    if kind not in ("LDA", "GGA", "MGGA"):
        raise InputError(
            "this is not a functional for Kohn-Sham calculations",
            where="labels.functional",
            value=name,
            hint="for Hartree-Fock write 'hf'",
        )


def _check_basis(name: str, structure: Structure) -> None:
    from pyscf.gto import basis

    missing = [symbol for symbol in sorted(set(structure.symbols)) if not _has_basis(name, symbol)]
    if not missing:
        return
    if not _has_basis(name, "H") and not _has_basis(name, "C"):
        # The names as people write them, found through their form without punctuation.
        plain = {entry.replace("-", "").replace("_", ""): entry for entry in _COMMON_BASES}
        known = [plain.get(alias, alias) for alias in basis.ALIAS]
        raise InputError(
            "PySCF knows no such basis set",
            where="labels.basis",
            value=name,
            hint=nearest_names(name, known, _COMMON_BASES),
        )
    raise InputError(
        f"the basis set has no functions for {', '.join(missing)}",
        where="labels.basis",
        value=name,
        hint="the def2 sets reach to Rn: def2-svp, def2-tzvp",
    )


def _has_basis(name: str, symbol: str) -> bool:
    from pyscf.gto import basis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySCF recommends another package each time
        try:
            return bool(basis.load(name, symbol))
        except Exception:  # several kinds by PySCF's version, some from its parsers
            return False


def _check_dispersion(settings: LabelSettings, structure: Structure) -> None:
    from pyscf.scf.dispersion import parse_disp

    functional = settings.functional
    wanted = _DISPERSION_VERSIONS.get(settings.dispersion)
    method, version, three_body = parse_disp(functional.lower(), wanted)
    if version is None:
        return
    if find_spec("pyscf.dispersion") is None:
        raise InputError(
            "the dispersion correction needs a package that is not installed",
            where="labels.dispersion" if wanted else "labels.functional",
            value=settings.dispersion if wanted else functional,
            hint="pip install pyscf-dispersion, or set labels.dispersion: none",
        )
    from pyscf import gto
    from pyscf.dispersion import dftd3, dftd4

    symbols, positions = structure.symbols, structure.positions
    molecule = gto.M(
        atom=[(s, tuple(p)) for s, p in zip(symbols, positions, strict=True)],
        unit="Bohr",
        charge=structure.charge,
        spin=structure.multiplicity - 1,
        basis="minao" if structure.numbers.max() <= 36 else settings.basis,
        verbose=0,
    )
    try:
        if version.startswith("d3"):
            dftd3.DFTD3Dispersion(molecule, xc=method, version=version, atm=three_body)
        else:
            dftd4.DFTD4Dispersion(molecule, xc=method, atm=three_body)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"no {settings.dispersion} parameters for this functional ({error})",
            where="labels.dispersion",
            value=f"{settings.dispersion} with {functional}",
            hint="set labels.dispersion: none, or take a functional that has them, such as bp86, pbe or b3lyp",
        ) from error
