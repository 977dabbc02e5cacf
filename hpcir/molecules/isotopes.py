"""Isotopes by symbol, as structure files write them: D, T, 13C, 18O, with their atomic masses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hpcir.errors import InputError

# Atomic masses in amu of AME2020 (Wang et al., Chin. Phys. C 45, 030003, 2021), of the isotopes that vibrational
# spectroscopy substitutes or that are the abundant ones of such elements.
MASSES: dict[tuple[str, int], float] = {
    ("H", 1): 1.00782503190,
    ("H", 2): 2.01410177784,
    ("H", 3): 3.01604928132,
    ("Li", 6): 6.0151228874,
    ("Li", 7): 7.016003434,
    ("B", 10): 10.012936862,
    ("B", 11): 11.009305166,
    ("C", 12): 12.0,
    ("C", 13): 13.00335483534,
    ("C", 14): 14.003241989,
    ("N", 14): 14.00307400425,
    ("N", 15): 15.00010889827,
    ("O", 16): 15.99491461926,
    ("O", 17): 16.99913175595,
    ("O", 18): 17.99915961214,
    ("F", 19): 18.99840316207,
    ("Si", 28): 27.97692653442,
    ("Si", 29): 28.97649466434,
    ("Si", 30): 29.973770137,
    ("S", 32): 31.97207117354,
    ("S", 33): 32.97145890862,
    ("S", 34): 33.967867011,
    ("Cl", 35): 34.96885269,
    ("Cl", 37): 36.965902573,
    ("Br", 79): 78.918337574,
    ("Br", 81): 80.916288197,
}
LAST_ELEMENT = 118
_HYDROGENS = {"D": 2, "T": 3}
_LABELLED = re.compile(r"^\[?(\d{1,3})([A-Z][a-z]?)\]?$", re.ASCII)


def check_numbers(numbers: Iterable[int], where: str) -> None:
    """Raise InputError for an atomic number that is no element's: lists of elements do not reach there."""
    for atom, number in enumerate(numbers, 1):
        if not 0 <= number <= LAST_ELEMENT:
            raise InputError("an atom is of no element", where=f"{where}, atom {atom}", value=int(number))


def isotope(word: str) -> tuple[str, int] | None:
    """(element, mass number) of a symbol such as 'D', 'T', '13C' or '[18O]'; None of anything else."""
    if word.upper() in _HYDROGENS:
        return "H", _HYDROGENS[word.upper()]
    match = _LABELLED.match(word)
    return (match.group(2), int(match.group(1))) if match else None


def isotope_mass(element: str, number: int, where: str = "") -> float:
    """The atomic mass in amu of an isotope. Raises InputError for one that is not in the table."""
    mass = MASSES.get((element, number))
    if mass is None:
        known = [f"{n}{e}" for e, n in MASSES if e == element]
        raise InputError(
            f"the mass of this isotope is not known here ({', '.join(known) or f'none of {element}'})",
            where=where,
            value=f"{number}{element}",
            hint=f"write {element} in the structure, and give the mass in amu as an isotopologue, such as "
            f"system.isotopes: {{labelled: {{{element}: {number}.0}}}}",
        )
    return mass


def check_mass(element: str, mass: float, where: str) -> None:
    """Raise InputError for a mass in amu that no isotope of an element has: of hydrogen muonium's to that of 7H, of
    others within two fifths of the standard weight."""
    from ase.data import atomic_masses, atomic_numbers

    usual = float(atomic_masses[atomic_numbers[element]])
    low, high = (0.1, 7.1) if element == "H" else (0.6 * usual, 1.4 * usual)
    if not low <= mass <= high:
        raise InputError(
            "this is not a mass in amu",
            where=where,
            value=mass,
            hint=f"isotopes of {element} have {low:.3g} to {high:.3g}; deuterium has 2.014",
        )


def isotope_symbol(element: str, mass: float) -> str | None:
    """The symbol of the isotope of an element that has a mass in amu (to 1e-4), such as 'D' or '13C'; else None."""
    for (symbol, number), own in MASSES.items():
        if symbol == element and abs(own - mass) < 1e-4:
            return {2: "D", 3: "T"}.get(number, f"{number}{symbol}") if element == "H" else f"{number}{symbol}"
    return None
