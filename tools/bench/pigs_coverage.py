#!/usr/bin/env python3
"""How honest the error bars of PIGS are: whole runs that share nothing but the molecule and the label engine.

tools/bench/pigs_coverage.py [--molecules HCl,H2O] [--seeds 12] [--labels 120] [--trajectories 32] [--folder DIR]
                             [--nuclei pigs]

Every seed is a run of its own: labels (GFN2-xTB), networks, corrections and trajectories. Of each band over 5 km/mol
near a harmonic wavenumber the mean of all seeds stands for the truth; printed are the scatter over the seeds, the root
mean square of the stated error bars and of their parts (sampling, committee), and how many seeds are within one and two
of their own error bars (68 and 95 % of a normal distribution; with an error bar that is itself uncertain, somewhat
fewer). Of a diatomic molecule also the exact fundamental on each run's own surface. Finished runs in the folder are
not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

# ruff: noqa: E402
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from quantum_nuclei import MOLECULES, exact_diatomic, nearest

from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, read_structure, xyz_text
from hpcir.units import ANGSTROM
from hpcir.vibrations.harmonics import model_harmonics

STRONG = 5.0
DECK = """\
system: {{structure: ../{name}.xyz}}
labels: {{engine: tblite, pretrain: {{engine: none}}}}
model: {{members: 4}}
training: {{steps: 800, final_steps: 2000}}
sampling: {{max_labels: {labels}, initial_labels: {first}, round_labels: {each}, rounds: 2, trajectories: 16,
  duration: 0.5 ps, goal: 2 ps}}
test: {{count: 20}}
dynamics: {{nuclei: {nuclei}, trajectories: {trajectories}, equilibration: 1 ps, duration: 3 ps}}
spectrum: {{levels: "no"}}
seed: {seed}
"""
# What is compared of a band: its key, those of its error bar and of the bar's parts, and the unit.
KINDS = (
    ("position_per_cm", "stderr_per_cm", "sampling_stderr_per_cm", "committee_stderr_per_cm", "cm-1"),
    (
        "intensity_km_per_mol",
        "stderr_km_per_mol",
        "sampling_stderr_km_per_mol",
        "committee_stderr_km_per_mol",
        "km/mol",
    ),
)


@dataclass(frozen=True)
class Plan:
    """What the runs of a molecule have in common."""

    name: str
    nuclei: str
    labels: int
    trajectories: int
    folder: Path


def place_of(plan: Plan, seed: int) -> Path:
    return plan.folder / f"{plan.name}-{plan.nuclei}-{plan.labels}-{plan.trajectories}-{seed}"


def finished(plan: Plan, seed: int) -> dict:
    """summary.json of the run of one seed, which is done if it is not there."""
    place = place_of(plan, seed)
    run = place / "run"
    if not (run / "summary.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        numbers, positions = MOLECULES[plan.name]
        molecule = Structure(np.array(numbers), ANGSTROM * np.array(positions, float))
        (plan.folder / f"{plan.name}.xyz").write_text(xyz_text(molecule))
        each = plan.labels // 6
        words = vars(plan) | {"seed": seed, "first": plan.labels - 2 * each, "each": each}
        (place / "deck.yaml").write_text(DECK.format(**words))
        command = [sys.executable, "-m", "hpcir", "run", str(place / "deck.yaml"), "-o", str(run)]
        with (place / "log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return json.loads((run / "summary.json").read_text())


def rows(plan: Plan, summaries: list[dict]) -> tuple[list[str], list[np.ndarray]]:
    """In words, and deviations in error bars (S,) of every band, position and intensity in turn."""
    lines, scores = [], []
    for wavenumber in summaries[0]["harmonic"]["engine_wavenumbers_per_cm"]:
        found = [nearest([*one["bands"], *one["weak_bands"]], wavenumber) for one in summaries]
        if np.mean([band["intensity_km_per_mol"] for band in found]) < STRONG:
            continue
        for value, whole, sampling, committee, unit in KINDS:
            values, bars = (np.array([band[key] for band in found]) for key in (value, whole))
            parts = [np.sqrt(np.mean([band.get(key, np.nan) ** 2 for band in found])) for key in (sampling, committee)]
            # The mean of all has an error of its own.
            away = (values - values.mean()) / (bars * np.sqrt(1 - 1 / len(values)))
            scores.append(away)
            lines.append(
                f"{plan.name} near {wavenumber:.0f}: {values.mean():.2f} {unit}, scatter {values.std(ddof=1):.2f}, "
                f"error bar {np.sqrt(np.mean(bars**2)):.2f} (sampling {parts[0]:.2f}, committee {parts[1]:.2f}); "
                f"{within(away)}"
            )
    return lines, scores


def of_its_own_surface(plan: Plan, seeds: int, summaries: list[dict]) -> str:
    """Of a diatomic molecule: the exact fundamental on each run's own surface, and the band less that."""
    molecule = read_structure(plan.folder / f"{plan.name}.xyz")
    levels = []
    for seed in range(1, seeds + 1):
        model = Model.load(place_of(plan, seed) / "run" / "models" / "model.h5")
        levels.append(exact_diatomic(model, model_harmonics(model, molecule)))
    wavenumber = summaries[0]["harmonic"]["engine_wavenumbers_per_cm"][0]
    found = [nearest([*one["bands"], *one["weak_bands"]], wavenumber)["position_per_cm"] for one in summaries]
    apart = np.array(found) - levels
    return (
        f"{plan.name}: exact on the runs' own surfaces {', '.join(f'{level:.1f}' for level in levels)}; bands less "
        f"these {np.mean(apart):.1f}, scatter {np.std(apart, ddof=1):.1f} cm-1"
    )


def within(away: np.ndarray) -> str:
    """Coverage in words."""
    return f"within one {np.mean(np.abs(away) < 1):.0%}, two {np.mean(np.abs(away) < 2):.0%} of {away.size}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", default="HCl,H2O")
    parser.add_argument("--nuclei", default="pigs", choices=("classical", "trpmd", "pigs"))
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--labels", type=int, default=120)
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hpcir-pigs-coverage")
    options = parser.parse_args()
    positions, intensities = [], []
    for name in options.molecules.split(","):
        plan = Plan(name, options.nuclei, options.labels, options.trajectories, options.folder)
        summaries = [finished(plan, seed) for seed in range(1, options.seeds + 1)]
        lines, scores = rows(plan, summaries)
        if len(MOLECULES[name][0]) == 2:
            lines.append(of_its_own_surface(plan, options.seeds, summaries))
        print(*lines, sep="\n", flush=True)
        positions += scores[::2]
        intensities += scores[1::2]
    print(f"all positions: {within(np.concatenate(positions))}")
    print(f"all intensities: {within(np.concatenate(intensities))}")


if __name__ == "__main__":
    main()
