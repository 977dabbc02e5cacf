"""Dipoles are taken often enough for the highest harmonic mode, whatever the spectrum's last wavenumber is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpcir.deck.sections import DynamicsSettings
from hpcir.study.production.sets import dipole_steps
from hpcir.units import FS, PER_CM


@pytest.mark.parametrize(("highest", "steps"), [(3700.0, 8), (1500.0, 13), (4400.0, 7)])
def test_steps_between_dipoles_do_not_fold_the_highest_mode_back(highest, steps):
    """At 6.5 fs a mode at 3700 cm-1 would show at 1432."""
    dynamics = DynamicsSettings(dipole_every=13)
    found = dipole_steps(dynamics, [SimpleNamespace(wavenumbers=np.array([500.0, highest]))])
    assert found == pytest.approx(steps, abs=1)
    resolved = np.pi / (found * 0.5 * FS) / PER_CM
    assert resolved > highest
    if found < 13:
        assert np.pi / ((found + 1) * 0.5 * FS) / PER_CM < 1.15 * highest


def test_the_highest_of_all_minima_counts_and_few_steps_stay():
    minima = [SimpleNamespace(wavenumbers=np.array([one])) for one in (1000.0, 3900.0)]
    dynamics = DynamicsSettings(dipole_every=13)
    assert dipole_steps(dynamics, minima) == dipole_steps(dynamics, minima[1:])
    assert dipole_steps(DynamicsSettings(dipole_every=4), minima) == 4
