"""Constants and units against CODATA as SciPy has it."""

from __future__ import annotations

import math

import pytest
from scipy import constants as si

from hpcir import units


@pytest.mark.parametrize(
    ("own", "codata"),
    [
        (units.BOHR_M, si.physical_constants["Bohr radius"][0]),
        (units.HARTREE_J, si.physical_constants["Hartree energy"][0]),
        (units.TIME_S, si.physical_constants["atomic unit of time"][0]),
        (units.LIGHT_M_PER_S, si.c),
        (units.CHARGE_C, si.elementary_charge),
        (units.AVOGADRO_PER_MOL, si.Avogadro),
        (units.BOLTZMANN_J_PER_K, si.Boltzmann),
        (units.ELECTRON_KG, si.electron_mass),
        (units.DALTON_KG, si.atomic_mass),
        (units.VACUUM_F_PER_M, si.epsilon_0),
        (units.GAS_J_PER_MOL_K, si.R),
        (units.CALORIE_J, si.calorie),
        (units.ZERO_CELSIUS_K, si.zero_Celsius),
        (units.ATM_PA, si.atm),
        (units.TORR_PA, si.torr),
    ],
)
def test_constants_are_codatas(own: float, codata: float) -> None:
    """SciPy before 1.15 has CODATA 2018, 1 in 10^9 away."""
    assert own == pytest.approx(codata, rel=2e-9, abs=0)


def test_atomic_units_belong_together() -> None:
    """Bohr, hartree and time from hbar, the electron's mass and charge and the fine-structure constant."""
    hbar, alpha, light = si.hbar, si.fine_structure, units.LIGHT_M_PER_S
    assert units.BOHR_M * units.ELECTRON_KG * light * alpha / hbar == pytest.approx(1, rel=1e-9)
    assert units.ELECTRON_KG * (light * alpha) ** 2 / units.HARTREE_J == pytest.approx(1, rel=1e-9)
    assert units.TIME_S * units.HARTREE_J / hbar == pytest.approx(1, rel=1e-9)
    assert units.CHARGE_C**2 / (4 * math.pi * units.VACUUM_F_PER_M * hbar * light) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "dimension", "size"),
    [
        ("1 eV", "energy", 1 / 27.211386),
        ("1 kcal/mol", "energy", 1 / 627.5095),
        ("1 A", "length", 1 / 0.529177211),
        ("1 fs", "time", 41.341373),
        ("315775 K", "temperature", 1.0),
        ("1 D", "dipole", 1 / 2.541746),
    ],
)
def test_sizes_of_user_units(text: str, dimension: str, size: float) -> None:
    assert units.parse_quantity(text, dimension) == pytest.approx(size, rel=1e-6)
