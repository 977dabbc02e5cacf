"""The contract of a label engine for correlated wavefunctions, and for functionals beyond the usual ones.

Small molecules in small bases: what is tested are derivatives, which know nothing of the size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError
from hpcir.labels.base import create_engine
from hpcir.labels.checks import nuclear_charge_centre
from hpcir.molecules.structures import Structure

pytest.importorskip("pyscf")

FLUORIDE = Structure(np.array([9, 1]), np.array([[0.02, -0.03, 0.05], [0.1, 0.2, 1.85]]), name="hydrogen fluoride")
HYDROXYL = Structure(np.array([8, 1]), np.array([[0.0, 0.0, 0.1], [0.1, 0.1, 1.9]]), multiplicity=2, name="hydroxyl")
# A radical whose ground state is not degenerate: a weak field does not turn its orbitals.
BERYLLIUM_HYDRIDE = Structure(
    np.array([4, 1]), np.array([[0.0, 0.0, 0.1], [0.1, 0.1, 2.6]]), multiplicity=2, name="beryllium hydride"
)
HYDRONIUM = Structure(
    np.array([8, 1, 1, 1]),
    np.array([[0.0, 0.0, 0.2], [1.8, 0.0, -0.4], [-0.9, 1.5, -0.4], [-0.85, -1.6, -0.35]]),
    charge=1,
    name="hydronium",
)
WATER = Structure(np.array([8, 1, 1]), np.array([[0.06, 0, 0.23], [0, 1.49, -0.91], [0.09, -1.4, -0.85]]), name="water")
HYDROGEN = Structure(np.array([1, 1]), np.array([[0.02, -0.03, 0.05], [0.1, 0.2, 1.55]]), name="hydrogen")
WAVEFUNCTIONS = ("mp2", "ccsd", "ccsd(t)")
CASES = [
    *((FLUORIDE, kind, True) for kind in (*WAVEFUNCTIONS, "df-mp2")),
    *((HYDROXYL, kind, True) for kind in ("mp2", "ccsd")),
    *((FLUORIDE, kind, False) for kind in ("ccsd(t)", "df-mp2")),
    (WATER, "df-mp2", True),
]


def settings(kind: str = "none", **changes: Any) -> LabelSettings:
    """Settings of a wavefunction; 'df-mp2' is MP2 with density fitting."""
    wavefunction = kind.removeprefix("df-")
    fitted = kind in ("none", "df-mp2")
    plain = LabelSettings(engine="pyscf", basis="6-31g", wavefunction=wavefunction, density_fitting=fitted)  # type: ignore[arg-type]
    return plain.model_copy(update=changes)


def random(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def rotation(key: int) -> np.ndarray:
    q, r = np.linalg.qr(random(key).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def slope(energy: Any, step: float) -> float:
    """Derivative at 0 of a function of one number, to the fourth order in the step."""
    back, near, next_, far = (energy(n * step) for n in (-2, -1, 1, 2))
    return float(back - 8 * near + 8 * next_ - far) / (12 * step)


@pytest.mark.parametrize(("structure", "kind", "frozen"), CASES, ids=lambda x: getattr(x, "name", str(x)))
def test_forces_and_dipole_are_the_energys_derivatives(structure: Structure, kind: str, frozen: bool) -> None:
    """Forces by the positions, the dipole by an electric field in the one-electron Hamiltonian."""
    from hpcir.labels import pyscf_scf
    from hpcir.labels.pyscf_correlated import correlate
    from hpcir.labels.pyscf_engine import mean_field_settings

    chosen = settings(kind, frozen_core=frozen)
    engine = create_engine(chosen, structure)
    engine.check(structure)
    label = engine.label(structure)
    direction = random(1).normal(size=structure.positions.shape)
    numeric = slope(lambda s: engine.label(structure.moved(structure.positions + s * direction)).energy, 0.01)
    assert -np.sum(label.forces * direction) == pytest.approx(numeric, abs=2e-6)
    np.testing.assert_allclose(label.forces.sum(0), 0, atol=1e-9)

    mean = mean_field_settings(chosen)
    shop = pyscf_scf.workshop(structure, mean)
    axis = np.array([0.36, -0.48, 0.8])

    def in_field(strength: float) -> float:
        field = pyscf_scf.mean_field(
            shop, structure.positions - nuclear_charge_centre(structure), mean, 3, coarse=False
        )
        core = field.get_hcore() + strength * np.einsum("x,xij->ij", axis, field.mol.intor("int1e_r"))
        field.get_hcore = lambda *_: core
        field.kernel()
        return correlate(field, chosen.wavefunction, frozen, structure.name).energy

    assert label.dipole @ axis == pytest.approx(-slope(in_field, 2e-3), abs=2e-6)


@pytest.mark.parametrize(
    ("structure", "kind"),
    [*((FLUORIDE, kind) for kind in (*WAVEFUNCTIONS, "df-mp2")), *((HYDROXYL, kind) for kind in ("mp2", "ccsd"))],
    ids=lambda x: getattr(x, "name", x),
)
def test_a_label_turns_with_its_geometry_and_depends_on_nothing_else(structure: Structure, kind: str) -> None:
    engine = create_engine(settings(kind), structure)
    first = engine.label(structure)
    turn = rotation(2)
    second = engine.label(structure.moved(structure.positions @ turn.T + np.array([3.0, -2.0, 1.0])))
    assert second.energy == pytest.approx(first.energy, abs=1e-9)
    np.testing.assert_allclose(second.forces, first.forces @ turn.T, atol=2e-7)
    np.testing.assert_allclose(second.dipole, first.dipole @ turn.T, atol=2e-6)
    again = engine.label(structure)
    assert again.energy == pytest.approx(first.energy, abs=1e-11)
    np.testing.assert_allclose(again.forces, first.forces, atol=1e-10)
    np.testing.assert_allclose(again.dipole, first.dipole, atol=1e-10)
    fresh = create_engine(settings(kind), structure)
    fresh.label(structure.moved(1.05 * structure.positions))
    np.testing.assert_allclose(fresh.label(structure).forces, first.forces, atol=1e-10)


def test_an_ions_dipole_is_about_the_centre_of_nuclear_charge() -> None:
    engine = create_engine(settings("df-mp2"), HYDRONIUM)
    here = engine.label(HYDRONIUM)
    there = engine.label(HYDRONIUM.moved(HYDRONIUM.positions + np.array([7.0, -3.0, 11.0])))
    np.testing.assert_allclose(there.dipole, here.dipole, atol=2e-6)
    assert here.dipole[2] < -0.3, "the protons below carry the charge, so the dipole points down"


@pytest.mark.parametrize(("structure", "kind"), [(FLUORIDE, "ccsd"), (BERYLLIUM_HYDRIDE, "mp2"), (FLUORIDE, "df-mp2")])
def test_polar_tensors_are_the_dipoles_gradient(structure: Structure, kind: str) -> None:
    engine = create_engine(settings(kind), structure)
    tensors = engine.label(structure, True).polar_tensors
    assert tensors is not None
    direction = random(8).normal(size=structure.positions.shape)

    def dipole(step: float) -> np.ndarray:
        return engine.label(structure.moved(structure.positions + step * direction)).dipole

    numeric = (dipole(5e-3) - dipole(-5e-3)) / 1e-2
    np.testing.assert_allclose(np.einsum("jyx,jy->x", tensors, direction), numeric, atol=3e-4)
    np.testing.assert_allclose(tensors.sum(0), 0, atol=1e-6)


def test_energies_are_those_of_pyscf_alone() -> None:
    from pyscf import cc, gto, mp, scf

    molecule = gto.M(
        atom=[("F", FLUORIDE.positions[0]), ("H", FLUORIDE.positions[1])], unit="Bohr", basis="6-31g", verbose=0
    )
    field = scf.RHF(molecule).run(conv_tol=1e-12)
    coupled = cc.CCSD(field, frozen=1).run(conv_tol=1e-10)
    right = {
        "mp2": mp.MP2(field, frozen=1).run().e_tot,
        "ccsd": coupled.e_tot,
        "ccsd(t)": coupled.e_tot + coupled.ccsd_t(),
    }
    for kind, energy in right.items():
        assert create_engine(settings(kind)).label(FLUORIDE).energy == pytest.approx(energy, abs=1e-8)


def test_fitted_mp2_is_pyscfs_and_near_the_exact_one() -> None:
    """The energy against PySCF's, whose fitting basis is the same; forces and dipole against exact integrals."""
    from pyscf import gto, scf
    from pyscf.mp.dfmp2_native import DFRMP2

    from hpcir.labels.pyscf_dfmp2 import fitted_mp2

    atoms = [(s, p) for s, p in zip(WATER.symbols, WATER.positions, strict=True)]
    molecule = gto.M(atom=atoms, unit="Bohr", basis="6-31g", verbose=0)
    field = scf.RHF(molecule).density_fit()
    field.kernel()
    other = DFRMP2(field, frozen=1)
    other.kernel()
    found = fitted_mp2(field, 1, lambda density: 0.0 * molecule.atom_coords(), "water")
    assert found.energy == pytest.approx(other.e_tot, abs=1e-9)
    np.testing.assert_allclose(found.density, other.make_rdm1(relaxed=True, ao_repr=True), atol=2e-5)
    fitted, exact = (create_engine(settings(kind)).label(WATER) for kind in ("df-mp2", "mp2"))
    np.testing.assert_allclose(fitted.forces, exact.forces, atol=2e-4)
    np.testing.assert_allclose(fitted.dipole, exact.dipole, atol=5e-4)


def test_levels_and_refusals_name_what_they_are() -> None:
    levels = {
        create_engine(settings(kind, frozen_core=core)).level
        for kind in (*WAVEFUNCTIONS, "df-mp2")
        for core in (True, False)
    }
    assert len(levels) == 8
    assert "CCSD(T)/6-31g (PySCF, frozen core)" in levels
    one_electron = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 2.0]]), charge=1, multiplicity=2)
    with pytest.raises(InputError, match="nothing to correlate") as caught:
        create_engine(settings("ccsd")).check(one_electron)
    assert caught.value.where == "labels.wavefunction"
    with pytest.raises(InputError, match="no exact forces") as caught:
        create_engine(settings("ccsd(t)")).check(HYDROXYL)
    assert caught.value.where == "labels.wavefunction"
    with pytest.raises(InputError, match="closed shells") as caught:
        create_engine(settings("df-mp2")).check(HYDROXYL)
    assert caught.value.where == "labels.density_fitting"
    with pytest.raises(InputError) as caught:
        create_engine(settings("ccsd", basis="nonsense")).check(WATER)
    assert caught.value.where == "labels.basis"


def test_memory_grows_as_the_theory_says() -> None:
    """Twice the virtual orbitals: about 16 times the integrals of four of them."""
    from hpcir.labels.pyscf_checks import orbital_space, wavefunction_memory

    space = orbital_space(settings("ccsd"), WATER)
    assert (space.occupied, space.virtual, space.functions) == ((4, 4), (8, 8), 13)
    assert orbital_space(settings("ccsd"), HYDROXYL).occupied == (4, 3)
    sizes = [wavefunction_memory(settings("ccsd", basis=basis), WATER) for basis in ("cc-pvtz", "cc-pvqz")]
    functions = [orbital_space(settings("ccsd", basis=basis), WATER).functions for basis in ("cc-pvtz", "cc-pvqz")]
    assert functions == [58, 115]
    assert 10 < sizes[1] / sizes[0] < 16
    # cc-pVQZ: 110 virtual orbitals, whose integrals alone are 110^4 / 4 numbers.
    assert sizes[1] > 8 * 110**4 / 4
    assert wavefunction_memory(settings("mp2", basis="cc-pvqz"), WATER) < sizes[1]


# The grid moves with the atoms, and forces do not know that: 1e-4 hartree/bohr. The nonlocal correlation of the -V
# functionals sums over pairs of grid points, a minute for water: they get the smallest molecule on a coarser grid.
@pytest.mark.parametrize(
    ("functional", "structure"),
    [
        ("camb3lyp", WATER),
        ("wb97x-v", HYDROGEN),
        ("wb97m-v", HYDROGEN),
        ("r2scan", WATER),
        ("wb97x-d3bj", WATER),
    ],
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_range_separated_and_meta_functionals(
    functional: str, structure: Structure, monkeypatch: pytest.MonkeyPatch
) -> None:
    if structure is HYDROGEN:
        monkeypatch.setattr("pyscf.dft.gen_grid.Grids.level", 1)
    if functional == "wb97x-d3bj":
        pytest.importorskip("pyscf.dispersion")
    engine = create_engine(settings(functional=functional), structure)
    engine.check(structure)
    label = engine.label(structure)
    assert label.method == "default"
    direction = random(1).normal(size=structure.positions.shape)
    direction /= np.linalg.norm(direction)
    numeric = slope(lambda s: engine.label(structure.moved(structure.positions + s * direction)).energy, 0.01)
    assert -np.sum(label.forces * direction) == pytest.approx(numeric, abs=1.5e-4)
    assert np.abs(label.forces.sum(0)).max() < 3e-4
