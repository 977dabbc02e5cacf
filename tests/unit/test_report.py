"""The report: what it reads, what it draws, and the page in a real browser."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcir.deck import Deck, resolved_text
from hpcir.errors import InputError
from hpcir.report import write_report
from hpcir.report.data import load_report_data
from hpcir.report.figures import binned_medians
from hpcir.report.verdict import findings
from hpcir.spectra.spectrum import Spectrum
from hpcir.store import write_h5
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script> $\\frac{"
LINES = np.array([295.0, 1030.0, 1060.0, 1340.0, 1450.0, 1477.0, 2850.0, 2960.0, 3000.0, 3681.0])
STRENGTHS = np.array([110.0, 95.0, 8.0, 25.0, 4.0, 3.0, 60.0, 45.0, 28.0, 25.0])
FORCE_ERROR = 0.31


def lorentzians(x: np.ndarray, width: float) -> np.ndarray:
    shape = width / np.pi / ((x[:, None] - 0.96 * LINES) ** 2 + width**2)
    return np.asarray(shape @ STRENGTHS)


def example_run(folder: Path, name: str = "methanol", spectrum: bool = True, test: bool = True) -> Path:
    """A run directory with the files of the contract and invented but plausible numbers."""
    random = np.random.Generator(np.random.Philox(5))
    folder.mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "manifest.json").write_text("{}")
    deck = Deck.model_validate({"system": {"structure": "methanol.xyz", "name": name}})
    (folder / "deck.resolved.yaml").write_text(resolved_text(deck), encoding="utf-8")
    curve = [
        {"round": i, "labels": n, "force_rmse_kcal_per_mol_angstrom": 30 / n, "energy_rmse_kcal_per_mol": 2 / n,
         "dipole_rmse_debye": 0.8 / n}
        for i, n in enumerate((40, 80, 120, 160, 200))
    ]  # fmt: skip
    (folder / "models/learning_curve.json").write_text(json.dumps({"rounds": curve, "reason": "explored 12.0 ps"}))
    harmonic = {
        "harmonic_wavenumbers_per_cm": (LINES, "cm-1", "mode"),
        "harmonic_intensities_km_per_mol": (STRENGTHS, "km/mol", "mode"),
    }
    write_h5(folder / "prepare.h5", harmonic, {})
    summary: dict[str, Any] = {"labels": {"level": "BP86/def2-SVP (PySCF)", "count": 240, "failed": 1, "seconds": 410.0}}
    summary["stages"] = {"prepare": 71.3, "sample": 305.0, "trajectories": 92.0, "test": 84.1, "spectrum": 3.2}
    summary["provenance"] = {"program": "hpcir", "ranks": 2, "seed": 1, "temperature_kelvin": 300.0}
    summary["md"] = {"trajectories": 64, "steps": 640000, "microseconds_per_step": 8.1}
    if spectrum:
        x = np.arange(0.0, 4500.0, 2.0)
        absorption = lorentzians(x, 9.0)
        stderr = 0.02 * absorption + 0.004
        Spectrum(x, absorption + 0.5 * stderr * random.normal(size=len(x)), stderr).to_csv(folder / "spectrum.csv")
        summary["bands"] = [
            {"position_per_cm": 0.96 * w, "stderr_per_cm": 0.8, "intensity_km_per_mol": s,
             "stderr_km_per_mol": 0.03 * s, "assignment": f"{name} stretch" if w > 2000 else "bend"}
            for w, s in zip(LINES, STRENGTHS, strict=True) if s > 20
        ]  # fmt: skip
    if test:
        write_h5(folder / "test.h5", example_test(random), {})
        summary["test"] = {"n": 100, "force_rmse_kcal_per_mol_angstrom": FORCE_ERROR, "energy_rmse_kcal_per_mol": 0.018,
                           "dipole_rmse_debye": 0.009, "harmonic_mae_per_cm": 2.1}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def example_test(random: np.random.Generator) -> dict[str, Any]:
    energy = -115.5 + random.gamma(9, 0.6, 100) * KCAL_PER_MOL
    forces = random.normal(size=(100, 6, 3)) * 15 * KCAL_PER_MOL_ANGSTROM
    spread = FORCE_ERROR * KCAL_PER_MOL_ANGSTROM * random.lognormal(0, 0.5, (100, 6, 1)) * np.ones(3) / 1.3
    dipole = random.normal(size=(100, 3)) * 1.2 * DEBYE
    arrays = {
        "energy_reference": energy,
        "energy_model": energy + 0.018 * KCAL_PER_MOL * random.normal(size=100),
        "forces_reference": forces,
        "forces_model": forces + spread * random.normal(size=forces.shape),
        "forces_spread": spread,
        "dipole_reference": dipole,
        "dipole_model": dipole + 0.009 * DEBYE * random.normal(size=dipole.shape),
    }
    return {key: (value, "atomic units", "") for key, value in arrays.items()}
