"""The ring polymers that a deck asks for."""

from __future__ import annotations

from hpcir.deck.sections import DynamicsSettings
from hpcir.dynamics.ring_polymer import RingPolymer, chosen_beads
from hpcir.units import PER_CM
from hpcir.vibrations.normal_modes import NormalModes


def ring_of(dynamics: DynamicsSettings, modes: NormalModes) -> RingPolymer:
    """The deck's ring polymer for a molecule with these modes: of TRPMD, or of PIGS at its own temperature.

    Raises InputError for too few beads.
    """
    temperature = dynamics.pigs_temperature if dynamics.nuclei == "pigs" else dynamics.temperature
    stiffest = float(modes.wavenumbers.max()) * PER_CM
    return RingPolymer(chosen_beads(dynamics.beads, stiffest, temperature), temperature)
