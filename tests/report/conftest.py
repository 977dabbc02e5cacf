"""Example run directories, written once for all tests of the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcir.deck.resolved import resolved_text
from hpcir.deck.sections import Deck
from hpcir.molecules.structures import read_structure
from hpcir.report.writing import write_report
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage.hdf5 import write_h5
from hpcir.study.production.block import TrajectoryBlock
from hpcir.units import DEBYE, FS, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM, KELVIN

INPUTS = Path(__file__).parents[2] / "inputs"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script> $\\frac{"
LINES = np.array([295.0, 1030.0, 1060.0, 1340.0, 1450.0, 1477.0, 2850.0, 2960.0, 3000.0, 3681.0])
STRENGTHS = np.array([110.0, 95.0, 8.0, 25.0, 4.0, 3.0, 60.0, 45.0, 28.0, 25.0])
FORCE_ERROR = 0.31


def lorentzians_apart(x: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(STRENGTHS[:, None] * width / np.pi / ((x - 0.96 * LINES[:, None]) ** 2 + width**2))


def lorentzians(x: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(lorentzians_apart(x, width).sum(0))


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
    (folder / "models/learning_curve.json").write_text(
        json.dumps({"rounds": curve, "reason": "explored 12.0 ps", "stopped": "goal"})
    )
    harmonic = {
        "harmonic_wavenumbers_per_cm": (LINES, "cm-1", "mode"),
        "harmonic_intensities_km_per_mol": (STRENGTHS, "km/mol", "mode"),
    }
    methanol = read_structure(INPUTS / "methanol.xyz")
    harmonic |= {"numbers": (methanol.numbers, "", "atom"), "positions": (methanol.positions, "bohr", "atom,xyz")}
    write_h5(folder / "prepare.h5", harmonic, {})
    summary: dict[str, Any] = {
        "labels": {"level": "BP86/def2-SVP (PySCF)", "count": 240, "failed": 1, "seconds": 410.0}
    }
    summary["stages"] = {"prepare": 71.3, "sample": 305.0, "trajectories": 92.0, "test": 84.1, "spectrum": 3.2}
    summary["provenance"] = {"program": "hpcir", "ranks": 2, "seed": 1, "temperature_kelvin": 300.0}
    summary["md"] = {"trajectories": 64, "steps": 640000, "microseconds_per_step": 8.1}
    if spectrum:
        x = np.arange(0.0, 4500.0, 2.0)
        absorption = lorentzians(x, 9.0)
        stderr = 0.02 * absorption + 0.004
        Spectrum(x, absorption + 0.5 * stderr * random.normal(size=len(x)), stderr).to_csv(folder / "spectrum.csv")
        terms = absorption * (1 + 0.2 * random.normal(size=(16, 1)))
        curves = {"wavenumbers": x, "absorption": absorption, "stderr": stderr, "trajectories": terms}
        curves |= {
            "mode_contributions": lorentzians_apart(x, 9.0),
            "group_contributions": np.outer([0.7, 0.3], absorption),
        }
        parts = {"modes": [*(f"mode {i % 9}" for i in range(len(LINES)))], "groups": ["CH3", "OH <b>"]}
        attributes = {"format": "hpcir spectrum", "parts": json.dumps(parts)}
        write_h5(folder / "spectrum.h5", {k: (v, "", "") for k, v in curves.items()}, attributes)
        write_example_trajectories(folder, random)
        summary["bands"] = [
            {"position_per_cm": 0.96 * w, "stderr_per_cm": 0.8, "intensity_km_per_mol": s,
             "stderr_km_per_mol": 0.03 * s, "lower_per_cm": 0.96 * w - 40, "upper_per_cm": 0.96 * w + 40,
             "sampling_stderr_km_per_mol": 0.02 * s, "committee_stderr_km_per_mol": 0.02 * s,
             "assignment": f"{name} stretch" if w > 2000 else "bend"}
            for w, s in zip(LINES, STRENGTHS, strict=True) if s > 20
        ]  # fmt: skip
    if test:
        write_h5(folder / "test.h5", example_test(random), {})
        summary["test"] = {"n": 100, "force_rmse_kcal_per_mol_angstrom": FORCE_ERROR, "energy_rmse_kcal_per_mol": 0.018,
                           "dipole_rmse_debye": 0.009, "harmonic_mae_per_cm": 2.1}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def example_series(folder: Path) -> Path:
    """A run of two molecules: the folder of the first holds the test and the trajectories."""
    first = example_run(folder)
    for name in ("test.h5", "trajectories", "prepare.h5"):
        (folder / "targets/methanol").mkdir(parents=True, exist_ok=True)
        (folder / name).rename(folder / "targets/methanol" / name)
    summary = json.loads((folder / "summary.json").read_text())
    one = {"atoms": 6, **{key: summary[key] for key in ("test", "md", "bands")}}
    two = {
        **one,
        "atoms": 9,
        "test": {**one["test"], "force_rmse_kcal_per_mol_angstrom": 0.5},
        "bands": one["bands"][:3],
    }
    summary["harmonic"] = {"model_wavenumbers_per_cm": list(LINES), "model_intensities_km_per_mol": list(STRENGTHS)}
    summary["targets"] = {"methanol": one, "<b>ethanol": two}
    summary["families"] = [{"name": "folded <i>", "weight": 0.9, "conformers": 2, "free_energies_kcal_per_mol": [0.0],
                            "trajectories": 8}]  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    for name in ("methanol", "<b>ethanol"):
        (folder / "targets" / name).mkdir(exist_ok=True)
        (folder / "targets" / name / "report.html").write_text("")
    shutil.copy(INPUTS / "methanol.xyz", folder / "targets/methanol/start.xyz")
    shutil.copy(folder / "spectrum.csv", folder / "spectrum-ethanol.csv")
    return first


def write_example_trajectories(folder: Path, random: np.random.Generator) -> None:
    (folder / "trajectories").mkdir()
    energy = -115.0 + KCAL_PER_MOL * (random.normal(size=8) + 0.02 * random.normal(size=(20, 8)))
    alive = np.arange(8) != 3
    energy[:, 3] = np.nan
    TrajectoryBlock(
        dipoles=np.zeros((100, 3, 8)),
        total_energy=energy,
        snapshots=np.zeros((1, 6, 3, 8)),
        largest_spread=np.zeros(8),
        trajectory=np.arange(8),
        sane=alive,
        alive=alive,
        inputs="",
        starts="",
        time_between_dipoles=2.0 * FS,
        timestep=0.5 * FS,
        temperature=300 * KELVIN,
    ).write(folder / "trajectories/main-00000.h5")


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
        "positions": np.zeros((100, 6, 3)),
        "forces_spread": spread,
        "dipole_reference": dipole,
        "dipole_model": dipole + 0.009 * DEBYE * random.normal(size=dipole.shape),
    }
    return {key: (value, "atomic units", "") for key, value in arrays.items()}


def write_example_trust(folder: Path) -> None:
    """A trust.json in which atom n (from 0) is n + 1 usual distances away, and the sentences of the summary."""
    atoms = [
        {"atom": n, "name": f"X{n + 1}", "largest_distance": 1.0 + n, "mean_distance": 0.5, "largest_spread": 6.0 - n,
         "mean_spread": 0.1, "outside": 0.25 * (n == 5), "excess": 0.07 * (n == 5),
         "description": "G2 to H, eta 2.0 A^-2" if n == 5 else ""}
        for n in range(6)
    ]  # fmt: skip
    (folder / "trust.json").write_text(json.dumps({"frames": 10, "atoms": atoms[::-1]}))
    summary = json.loads((folder / "summary.json").read_text())
    summary["trust"] = {"verdict": "the environment farthest from the training data is that of <X6>"}
    summary["ensemble"] = {"verdict": "one minimum does not represent the ensemble: 12 % of the frames"}
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    example_run(folder / "good")
    example_run(folder / "hostile", HOSTILE)
    example_run(folder / "half", spectrum=False, test=False)
    example_series(folder / "series")
    for path in sorted(folder.iterdir()):
        write_report(path)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium", reason="no selenium: pip install selenium")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                 "--disable-dev-shm-usage", "--window-size=1100,1400"):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
