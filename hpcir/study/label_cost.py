"""The time that a label takes about, without making one: from its level of theory, its atoms and basis functions.

Constants are fitted to processor seconds that `tools/bench/bench_labels --estimates` measures and prints beside the
estimates, from hydrogen chloride to benzene. Another processor is faster or slower by as much as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcir.deck.sections import LabelSettings
from hpcir.labels.pyscf_checks import LAST_COMMON_ELEMENT, OrbitalSpace, orbital_space
from hpcir.molecules.structures import Structure

# Basis functions of the elements up to krypton, of the sets that nearly all decks take: PySCF knows others, and
# importing it takes half a second.
FUNCTIONS: dict[str, tuple[int, ...]] = {
    "def2-svp": (*2 * (5,), *2 * (9,), *6 * (14,), 15, *7 * (18,), *2 * (24,), *10 * (31,), *6 * (32,)),
    "def2-tzvp": (6, 6, 14, 19, *6 * (31,), *2 * (32,), *6 * (37,), 33, 36, *9 * (45,), *7 * (48,)),
    "def2-tzvpp": (14, 14, 19, 19, *6 * (31,), 32, 32, *6 * (42,), 33, 36, *10 * (64,), *6 * (48,)),
    "def2-qzvp": (30, 30, 35, 36, *6 * (57,), 46, 51, *6 * (70,), 56, 56, *10 * (84,), *6 * (75,)),
}
# Seconds that an engine's process takes to start.
_START = {"pyscf": 1.0, "tblite": 0.4}
# Calculations that polar tensors add to a label.
FIELDS = 6
# Work of a functional on the grid, in terms of a GGA's. Functionals that are not here are asked of PySCF.
_GRID = {"bp86": 1.0, "pbe": 1.0, "blyp": 1.0, "b3lyp": 1.3, "pbe0": 1.3, "tpss": 3.5, "r2scan": 3.5}


@dataclass(frozen=True)
class LabelEstimate:
    """Seconds of one core that a label takes about, and the size that they follow from, in words."""

    seconds: float
    size: str


def estimated_label(settings: LabelSettings, structure: Structure) -> LabelEstimate | None:
    """The time of one label of a molecule, within a factor of three or so; None where nothing is known of it: ASE's
    calculators, files, and functionals with a correlation of two grids (VV10)."""
    fields = 1 + FIELDS * settings.polar_tensors
    if settings.engine == "tblite":
        seconds = 1.5e-3 * (len(structure) / 6) ** 1.8
        return LabelEstimate(fields * seconds, f"{len(structure)} atoms")
    if settings.engine != "pyscf":
        return None
    if settings.wavefunction != "none":
        space = orbital_space(settings, structure)
        return LabelEstimate(fields * _correlated(settings, structure, space), f"{space.functions} basis functions")
    functions = basis_functions(settings, structure)
    grid = _grid_work(settings.functional)
    if grid is None:
        return None
    spins = 1 if structure.multiplicity == 1 else 2
    seconds = spins * (_field(settings, functions, grid > 0) + grid * 0.05 * len(structure) * (functions / 24) ** 1.3)
    return LabelEstimate(fields * seconds, f"{functions} basis functions")


def start_seconds(engine: str) -> float:
    """Seconds that an engine's process takes to start, with the import of its package."""
    return _START.get(engine, 0.0)


def basis_functions(settings: LabelSettings, structure: Structure) -> int:
    """The number of basis functions of a molecule."""
    known = FUNCTIONS.get(settings.basis.lower())
    if known is not None and int(structure.numbers.max()) <= LAST_COMMON_ELEMENT:
        return sum(known[number - 1] for number in structure.numbers.tolist())
    from hpcir.labels.pyscf_scf import parsed_molecule

    return int(parsed_molecule(structure, settings).nao)


def _grid_work(functional: str) -> float | None:
    """The work of a functional on the grid in terms of a GGA's; None of one with VV10, whose grid is of pairs."""
    name = functional.lower()
    if name == "hf":
        return 0.0
    if name in _GRID:
        return _GRID[name]
    from pyscf.dft import libxc

    if libxc.is_nlc(name):
        return None
    return (3.5 if libxc.is_meta_gga(name) else 1.0) * (1.3 if libxc.is_hybrid_xc(name) else 1.0)


def _field(settings: LabelSettings, functions: int, on_grid: bool) -> float:
    """Seconds of Coulomb and exchange; a functional with density fitting spends next to all of its time on the grid."""
    if not settings.density_fitting:
        return 0.4 * (functions / 48) ** 4.0
    return 0.0 if on_grid else 0.05 * (functions / 24) ** 2.3


def _correlated(settings: LabelSettings, structure: Structure, space: OrbitalSpace) -> float:
    """Seconds of Hartree-Fock and a correlated wavefunction: the powers of occupied, virtual and all orbitals are those
    of its slowest step."""
    n, o, v = space.functions, sum(space.occupied) / 2, sum(space.virtual) / 2
    if settings.wavefunction == "mp2" and settings.density_fitting:
        steps = 3.6e-9 * o * v * n**3
    elif settings.wavefunction == "mp2":
        steps = 1.8e-8 * o * n**4
    elif settings.wavefunction == "ccsd":
        steps = 0.2 + 1.9e-8 * o**2 * v**4
    else:
        steps = 0.3 + 2.1e-8 * o**3 * v**4
    fitted = settings.wavefunction == "mp2" and settings.density_fitting
    field = 0.05 * (n / 24) ** 2.3 if fitted else 0.4 * (n / 48) ** 4.0
    return (0.1 + field + steps) * (1 if structure.multiplicity == 1 else 3)
