"""Motions that an expansion in normal coordinates does not describe: soft, wide ones, hindered rotors, inversions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.molecules.structures import Structure
from hpcir.vibrations.levels.rovibration import EckartFrame
from hpcir.vibrations.mode_names import describe_modes
from hpcir.vibrations.normal_modes import NormalModes

# A mode below the first (cm-1) that is flat, or moves an atom by more than the second (bohr, rms) in its zero-point
# motion, is left out of the expansion; a torsion below the third is a hindered rotor and is named as one.
SOFT, WIDE, ROTOR = 200.0, 0.15, 450.0
# A fundamental that perturbation theory moves by more than this fraction is named as strongly anharmonic.
STRONG = 0.15


@dataclass(frozen=True)
class LargeAmplitude:
    """A mode (index by ascending wavenumber, cm-1) whose level is not to be trusted, and why; frozen: it is held at
    rest while the other levels are computed, and its own stays harmonic."""

    mode: int
    wavenumber: float
    reason: str
    frozen: bool = False
    rotor: bool = False


def large_amplitudes(modes: NormalModes, structure: Structure) -> tuple[LargeAmplitude, ...]:
    """Large amplitudes that the harmonic analysis alone shows."""
    words = describe_modes(modes, structure)
    widths = np.sqrt((modes.modes**2).sum(2) / modes.masses / (2 * np.abs(modes.angular_frequencies))[:, None]).max(1)
    found = []
    for mode, (wavenumber, word, width) in enumerate(zip(modes.wavenumbers, words, widths, strict=True)):
        if wavenumber < SOFT and (width > WIDE or wavenumber <= 0):
            reason = "soft and wide (left harmonic, and held at rest for the others)"
            found.append(LargeAmplitude(mode, float(wavenumber), reason, frozen=True))
        elif wavenumber < ROTOR and "torsion" in word and width > WIDE:
            reason = "a hindered rotor, whose levels no expansion describes"
            found.append(LargeAmplitude(mode, float(wavenumber), reason, rotor=True))
    return tuple(found)


def strongly_anharmonic(mode: int, harmonic: float, wavenumber: float) -> LargeAmplitude | None:
    """A word where perturbation theory moves a fundamental (cm-1) by more than 15 % of its harmonic place."""
    if abs(wavenumber / harmonic - 1) <= STRONG:
        return None
    reason = f"strongly anharmonic: perturbation theory moves it by {wavenumber - harmonic:+.0f} cm-1"
    return LargeAmplitude(mode, harmonic, reason)


def moving_modes(count: int, large: Sequence[LargeAmplitude]) -> list[int]:
    """Modes by index that are not frozen."""
    frozen = {one.mode for one in large if one.frozen}
    return [mode for mode in range(count) if mode not in frozen]


def frozen_frame(frame: EckartFrame, large: Sequence[LargeAmplitude]) -> EckartFrame:
    """The frame without the normal coordinates that are held at rest."""
    kept = moving_modes(len(frame), large)
    return replace(frame, modes=frame.modes[kept], frequencies=frame.frequencies[kept])
