"""The gas phase's rotational contours on a run's spectrum, where it is compared with an experiment and has none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError, RunStopped
from hpcir.spectra.contour import dipole_directions, principal_axes, rigid_rotor_contour, with_contour
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5
from hpcir.study.results.spectrum_files import StoredSpectrum
from hpcir.study.session import deck_of
from hpcir.units import KELVIN, PER_CM

ROOM_TEMPERATURE = 296.15 * KELVIN
# Words of a JCAMP-DX file's state that no free rotation goes with.
CONDENSED = ("sol", "liq", "film", "mull", "nujol", "kbr", "melt", "crystal", "matrix")


def gas_phase(computed: StoredSpectrum, experiment: StoredSpectrum, path: Path) -> StoredSpectrum:
    """The computed spectrum as a gas shows it, with a note of what was done to it, or why nothing was.

    path: what the user gave for the computed one; a run directory, or a file in one, knows the molecule. Spectra held
    against no experiment, and runs with rotation, come back as they are.
    """
    state = str(experiment.spectrum.metadata.get("state", "")).lower()
    if "state" not in experiment.spectrum.metadata or "state" in computed.spectrum.metadata:
        return computed
    if any(word in state for word in CONDENSED):
        return _noted(computed, f"the experiment is of a condensed phase ({state.strip()}): no rotational contours")
    folder = path if path.is_dir() else path.parent
    try:
        deck = deck_of(folder)
        arrays, _ = read_h5(folder / layout.spectrum_h5())
        minima, _ = read_h5(folder / layout.TRAJECTORIES / layout.MINIMA)
    except (InputError, RunStopped, OSError):
        deck, arrays, minima = None, {}, {}
    if deck is None or not minima:
        return _noted(computed, "no run directory and so no molecule is known: compared without rotational contours")
    if deck.dynamics.rotation == "keep":
        return _noted(computed, "the trajectories rotate: the contours are their own")
    spectrum, words = _contoured(computed.spectrum, experiment.spectrum, arrays, minima)
    return _noted(replace(computed, spectrum=spectrum), words)


def _contoured(
    spectrum: Spectrum, experiment: Spectrum, arrays: dict[str, Any], minima: dict[str, Any]
) -> tuple[Spectrum, str]:
    """The spectrum with contours of the first minimum as a rigid rotor at the experiment's temperature."""
    positions, masses, dipoles = (np.asarray(minima[name][0]) for name in ("positions", "masses", "mode_dipoles"))
    moments, axes = principal_axes(positions, masses)
    temperature = experiment.temperature or ROOM_TEMPERATURE
    resolution = _resolution(experiment)
    spacing = float(spectrum.wavenumbers[1] - spectrum.wavenumbers[0])
    contour = rigid_rotor_contour(moments, temperature, spacing, max(resolution, spacing))
    contributions = np.asarray(arrays.get("mode_contributions", np.ones((len(dipoles) + 1, len(spectrum.wavenumbers)))))
    directions = dipole_directions(contributions, dipoles, axes)
    turning = moments > 1e-4 * moments[2]
    constants = ", ".join(f"{0.5 / moment / PER_CM:.3f}" for moment in moments[turning])
    words = (
        f"rotational contours of a rigid rotor ({constants} cm-1) at {temperature / KELVIN:.0f} K, seen at "
        f"{resolution:g} cm-1, put on the bands, which were computed without rotation; integrals are kept"
    )
    return with_contour(spectrum, contour, directions), words


def _resolution(experiment: Spectrum) -> float:
    """In cm-1: what the file says, or two of its points."""
    match = re.search(r"\d+\.?\d*", str(experiment.metadata.get("resolution_per_cm", "")))
    said = float(match.group()) if match else 0.0
    return said if said > 0 else 2 * float(np.median(np.diff(experiment.wavenumbers)))


def _noted(stored: StoredSpectrum, note: str) -> StoredSpectrum:
    metadata = dict(stored.spectrum.metadata)
    metadata["notes"] = [*metadata.get("notes", []), note]
    return replace(stored, spectrum=replace(stored.spectrum, metadata=metadata))
