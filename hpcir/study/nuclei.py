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
# The automatic ring polymers of PIGS are at hbar omega / k_B of the stiffest mode over the first, plus the second times
# the temperature of the trajectories. What a static mean force lacks of an anharmonic shift and what the curvature
# problem adds are in proportion to that shift where hbar omega / kT is the same: with all masses times s, T and all
# frequencies times s^(-1/2), the Boltzmann operator depends on s by the shift's own order alone. What the trajectories'
# thermal amplitudes lower is in proportion to it times kT / hbar omega: more in heavier isotopologues and on hotter
# trajectories, where the curvature must do less. All cancel in water (430 K) and heavy water (335 K).
PIGS_RATIO, PIGS_PART = 14.8, 0.25
# Geometries at which PIGS holds centroids, and how many are held together: a piece of work.
HELD_GEOMETRIES, HELD_BLOCK = 192, 16


def refuse_too_few_beads(dynamics: DynamicsSettings, structures: Sequence[Structure]) -> None:
    """Raise InputError for fewer beads than any molecule with these elements needs, before its modes are known."""
    if dynamics.nuclei == "classical" or dynamics.beads == 0:
        return
    least, usual = STIFFEST[any((structure.numbers == 1).any() for structure in structures)]

    def needed(stiffest: float) -> int:
        return beads_needed(stiffest * PER_CM, ring_temperature(dynamics, stiffest), LARGEST_MISSING)

    if dynamics.beads < needed(least):
        raise InputError(
            f"too few beads for {ring_temperature(dynamics, least) / KELVIN:.0f} K",
            where="dynamics.beads",
            value=dynamics.beads,
            hint=f"a stretch of {usual:.0f} cm-1 needs {needed(usual)}; 0 takes what the stiffest mode needs",
        )


def ring_temperature(dynamics: DynamicsSettings, stiffest: float) -> float:
    """Temperature (hartree) of the deck's ring polymers of a molecule whose stiffest mode is at `stiffest` (cm-1)."""
    if dynamics.nuclei != "pigs":
        return dynamics.temperature
    if dynamics.pigs_temperature > 0:
        return dynamics.pigs_temperature
    return pigs_temperature(dynamics.temperature, stiffest)


def pigs_temperature(temperature: float, stiffest: float) -> float:
    """The automatic temperature of PIGS, hartree, for trajectories at `temperature` of a molecule whose stiffest mode
    is at `stiffest` (cm-1); not below the trajectories' own."""
    return max(temperature, stiffest * PER_CM / PIGS_RATIO + PIGS_PART * temperature)


def usual_ring(dynamics: DynamicsSettings, structure: Structure) -> RingPolymer | None:
    """The deck's ring polymer for a molecule whose modes are not known yet, by what is usual for its elements; None for
    classical nuclei."""
    if dynamics.nuclei == "classical":
        return None
    usual = STIFFEST[bool((structure.numbers == 1).any())][1]
    temperature = ring_temperature(dynamics, usual)
    return RingPolymer(dynamics.beads or chosen_beads(0, usual * PER_CM, temperature), temperature)


def ring_of(dynamics: DynamicsSettings, modes: NormalModes) -> RingPolymer:
    """The deck's ring polymer for a molecule with these modes: of TRPMD, or of PIGS at its own temperature.

    Raises InputError for too few beads.
    """
    stiffest = float(modes.wavenumbers.max())
    temperature = ring_temperature(dynamics, stiffest)
    return RingPolymer(chosen_beads(dynamics.beads, stiffest * PER_CM, temperature), temperature)
