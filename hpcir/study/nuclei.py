"""The ring polymers that a deck asks for."""

from __future__ import annotations

from collections.abc import Sequence

from hpcir.deck.sections import DynamicsSettings
from hpcir.dynamics.ring_polymer import LARGEST_MISSING, RingPolymer, beads_needed, chosen_beads
from hpcir.errors import InputError
from hpcir.molecules.structures import Structure
from hpcir.units import KELVIN, PER_CM
from hpcir.vibrations.normal_modes import NormalModes

# What the stiffest mode of a molecule with hydrogen, and of one without, is at least, and what it usually is (cm-1).
STIFFEST = {True: (2000.0, 3700.0), False: (400.0, 1700.0)}


def refuse_too_few_beads(dynamics: DynamicsSettings, structures: Sequence[Structure]) -> None:
    """Raise InputError for fewer beads than any molecule with these elements needs, before its modes are known."""
    if dynamics.nuclei == "classical" or dynamics.beads == 0:
        return
    least, usual = STIFFEST[any((structure.numbers == 1).any() for structure in structures)]
    temperature = _temperature(dynamics)
    if dynamics.beads < beads_needed(least * PER_CM, temperature, LARGEST_MISSING):
        raise InputError(
            f"too few beads for {temperature / KELVIN:g} K",
            where="dynamics.beads",
            value=dynamics.beads,
            hint=f"a stretch of {usual:.0f} cm-1 needs {beads_needed(usual * PER_CM, temperature, LARGEST_MISSING)}; 0 "
            "takes what the molecule's stiffest mode needs",
        )


def _temperature(dynamics: DynamicsSettings) -> float:
    return dynamics.pigs_temperature if dynamics.nuclei == "pigs" else dynamics.temperature


def ring_of(dynamics: DynamicsSettings, modes: NormalModes) -> RingPolymer:
    """The deck's ring polymer for a molecule with these modes: of TRPMD, or of PIGS at its own temperature.

    Raises InputError for too few beads.
    """
    temperature = _temperature(dynamics)
    stiffest = float(modes.wavenumbers.max()) * PER_CM
    return RingPolymer(chosen_beads(dynamics.beads, stiffest, temperature), temperature)
