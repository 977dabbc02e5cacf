"""Units: atomic units inside, user units at the edge, one set of constants (CODATA 2022).

A factor `X` is the size of one user unit in atomic units: `value_in_atomic = value * X`. Atomic units are
hartree, bohr, electron mass, elementary charge, hbar/hartree; temperatures are hartree (k_B T).
"""

from __future__ import annotations

import re
from math import pi
from typing import Annotated

# CODATA 2022 in SI units, written out: importing scipy.constants takes longer than all else that a short command does.
BOHR_M = 5.29177210544e-11
HARTREE_J = 4.359744722206e-18
TIME_S = 2.4188843265864e-17
LIGHT_M_PER_S = 299792458.0
CHARGE_C = 1.602176634e-19
AVOGADRO_PER_MOL = 6.02214076e23
BOLTZMANN_J_PER_K = 1.380649e-23
ELECTRON_KG = 9.1093837139e-31
DALTON_KG = 1.66053906892e-27
VACUUM_F_PER_M = 8.8541878188e-12
GAS_J_PER_MOL_K = AVOGADRO_PER_MOL * BOLTZMANN_J_PER_K
CALORIE_J = 4.184
ZERO_CELSIUS_K = 273.15
ATM_PA = 101325.0
TORR_PA = ATM_PA / 760

ANGSTROM = 1e-10 / BOHR_M
FS = 1e-15 / TIME_S
PS = 1e-12 / TIME_S
AMU = DALTON_KG / ELECTRON_KG
EV = CHARGE_C / HARTREE_J
KCAL_PER_MOL = 1000 * CALORIE_J / AVOGADRO_PER_MOL / HARTREE_J
KJ_PER_MOL = 1000 / AVOGADRO_PER_MOL / HARTREE_J
KELVIN = BOLTZMANN_J_PER_K / HARTREE_J
DEBYE = 1e-21 / LIGHT_M_PER_S / (CHARGE_C * BOHR_M)
EV_PER_ANGSTROM = EV / ANGSTROM
KCAL_PER_MOL_ANGSTROM = KCAL_PER_MOL / ANGSTROM
# Angular frequency of a wavenumber of 1 cm-1: omega = 2 pi c nu.
PER_CM = 2 * pi * LIGHT_M_PER_S * 100 * TIME_S
# N_A/(12 eps0 c^2) |dmu/dQ|^2 in km/mol for |dmu/dQ|^2 in e^2/amu (974.9 km/mol) and in atomic units (e^2/m_e).
KM_PER_MOL_PER_E2_AMU = AVOGADRO_PER_MOL * CHARGE_C**2 / (12 * VACUUM_F_PER_M * LIGHT_M_PER_S**2 * DALTON_KG) / 1000
KM_PER_MOL_PER_E2_ME = KM_PER_MOL_PER_E2_AMU * AMU

# Dimension -> unit -> size in atomic units; the first unit of each is the documented unit of a bare number.
UNITS: dict[str, dict[str, float]] = {
    "length": {"A": ANGSTROM, "angstrom": ANGSTROM, "bohr": 1.0, "nm": 10 * ANGSTROM, "pm": 0.01 * ANGSTROM},
    "time": {"fs": FS, "ps": PS, "ns": 1000 * PS},
    "temperature": {"K": KELVIN},
    "energy": {
        "kcal/mol": KCAL_PER_MOL,
        "eV": EV,
        "meV": EV / 1000,
        "kJ/mol": KJ_PER_MOL,
        "hartree": 1.0,
    },
    "force": {
        "kcal/mol/A": KCAL_PER_MOL_ANGSTROM,
        "eV/A": EV_PER_ANGSTROM,
        "hartree/bohr": 1.0,
    },
    "dipole": {"D": DEBYE, "debye": DEBYE, "e*bohr": 1.0, "e*A": ANGSTROM},
    "wavenumber": {"cm-1": 1.0, "1/cm": 1.0, "cm^-1": 1.0},
    "wall_time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0},
}

# Numbers of results in user units: the types of the fields of records, with the unit in their metadata.
PerCm = Annotated[float, "cm-1"]
KmPerMol = Annotated[float, "km/mol"]
KcalPerMol = Annotated[float, "kcal/mol"]
KcalPerMolPer100Ps = Annotated[float, "kcal/mol per 100 ps"]
KcalPerMolAngstrom = Annotated[float, "kcal/mol/A"]
Debye = Annotated[float, "D"]
ElementaryCharges = Annotated[float, "e"]
Seconds = Annotated[float, "s"]
Milliseconds = Annotated[float, "ms"]
Microseconds = Annotated[float, "us"]
Picoseconds = Annotated[float, "ps"]

_QUANTITY = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*$")


def parse_quantity(text: str | float | int, dimension: str) -> float:
    """A number with an optional unit, such as "0.5 fs" or 300, in atomic units.

    A bare number is in the dimension's documented unit (the first in `UNITS[dimension]`). Wavenumbers stay in
    cm-1 and wall times in seconds. Raises ValueError naming the valid units.
    """
    units = UNITS[dimension]
    if isinstance(text, bool):
        raise ValueError(f"expected a {dimension}, such as '1 {next(iter(units))}'")
    if isinstance(text, (int, float)):
        return float(text) * next(iter(units.values()))
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a {dimension} such as '1 {next(iter(units))}'")
    number, unit = match.groups()
    if unit is None:
        return float(number) * next(iter(units.values()))
    if unit not in units:
        raise ValueError(f"'{unit}' is no unit of {dimension}; valid units: {', '.join(units)}")
    return float(number) * units[unit]


def is_number(text: str) -> bool:
    """True where a text is a number as Python writes one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_quantity(value: float, dimension: str) -> str:
    """The inverse of `parse_quantity`, in the dimension's documented unit, to 12 significant digits."""
    unit, size = next(iter(UNITS[dimension].items()))
    return f"{value / size:.12g} {unit}"
