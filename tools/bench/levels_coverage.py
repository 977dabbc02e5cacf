#!/usr/bin/env python3
"""How honest the error bars of levels are: many committees, each trained on labels of its own, against the surface.

tools/bench/levels_coverage.py [--molecules H2O,HCN,CO2] [--committees 12] [--labels 150] [--steps 2000]
                               [--results FILE.json]

Each committee of four learns GFN2-xTB labels of quantum samples of the normal modes at 600 K, drawn anew, and gives
fundamentals, overtones and combinations with error bars by perturbation theory. These are held against
perturbation theory on the surface itself, so that the difference is learning's alone. Printed: how many levels are
within one and two of their own standard deviations (68 and 95 % of a normal distribution), for fundamentals and for
the others, and the median error and error bar. States of which no product has MAIN_SHARE have no name to compare them
by (2 v2 and 2 v3 of water) and are left out. Committees that the results hold are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# ruff: noqa: E402
import numpy as np

from hpcir.deck.sections import LabelSettings, ModelSettings, TrainingSettings
from hpcir.descriptors.definition import functions_of
from hpcir.labels import create_engine
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.study.learning.committee import LearntLabel, groups_of
from hpcir.training.dataset import TrainingData
from hpcir.training.train import train_members
from hpcir.units import ANGSTROM, KELVIN
from hpcir.vibrations.levels.harmonic import minimum_of, surface_modes
from hpcir.vibrations.levels.result import Levels
from hpcir.vibrations.levels.solve import vibrational_levels
from hpcir.vibrations.levels.surface import LabelSurface, member_surfaces, surface_of
from hpcir.vibrations.normal_modes import sample

MOLECULES: dict[str, tuple[list[int], list[list[float]]]] = {
    "H2O": ([8, 1, 1], [[0, 0, 0], [0.76, 0.58, 0], [-0.76, 0.58, 0]]),
    "HCN": ([6, 1, 7], [[0, 0, 0], [0, 0, 1.07], [0, 0, -1.15]]),
    "CO2": ([6, 8, 8], [[0, 0, 0], [0, 0, 1.14], [0, 0, -1.14]]),
    "H2CO": ([6, 8, 1, 1], [[0, 0, 0], [0, 0, 1.2], [0.94, 0, -0.58], [-0.94, 0, -0.58]]),
}
MAIN_SHARE = 0.6
MEMBERS, TEMPERATURE = 4, 600 * KELVIN


def committee(minimum: Structure, surface: LabelSurface, count: int, steps: int, seed: int) -> Model:
    """A committee trained on `count` labels drawn with this seed, and on the minimum."""
    modes = surface_modes(surface, minimum, minimum.masses)
    random = np.random.Generator(np.random.Philox(key=[7, seed]))
    geometries = [minimum, *(minimum.moved(x) for x in sample(modes, TEMPERATURE, count, random, quantum=True))]
    learnt = [LearntLabel(geometry, surface.label(geometry)) for geometry in geometries]
    settings, training = ModelSettings(members=MEMBERS), TrainingSettings(precision="float64")
    elements = tuple(sorted(set(minimum.numbers.tolist())))
    data = TrainingData.build(groups_of(learnt), functions_of(settings, elements), training.precision)
    return train_members(data, settings, training, members=range(MEMBERS), seed=seed, steps=steps)[0]


def places(levels: Levels) -> dict[str, tuple[float, float]]:
    """Wavenumber and error bar of each level that is mainly one product, by its name, in cm-1."""
    main = (level for level in levels.levels if level.share >= MAIN_SHARE)
    return {level.name: (level.wavenumber_per_cm, level.stderr_per_cm) for level in main}


def deviations(name: str, count: int, steps: int, seed: int) -> list[tuple[str, float, float]]:
    """(level, model less surface, error bar) in cm-1 of one committee."""
    numbers, positions = MOLECULES[name]
    start = Structure(np.array(numbers), np.array(positions, float) * ANGSTROM, name=name)
    engine = create_engine(LabelSettings(engine="tblite"), start)
    surface = LabelSurface(engine.label, start, start.masses)
    minimum = minimum_of(surface, start)
    truth = places(vibrational_levels(surface, minimum, start.masses, quick=True))
    model = committee(minimum, surface, count, steps, seed)
    own, members = surface_of(model, start, start.masses), member_surfaces(model, start, start.masses)
    found = places(vibrational_levels(own, minimum, start.masses, members, quick=True))
    return [(level, found[level][0] - truth[level][0], found[level][1]) for level in truth if level in found]


def summary(rows: list[tuple[str, float, float]]) -> str:
    """Coverage in words."""
    errors, bars = (np.abs(np.array([row[place] for row in rows])) for place in (1, 2))
    within = [f"{100 * np.mean(errors <= size * bars):.0f} % within {size}" for size in (1, 2)]
    return (
        f"{', '.join(within)} standard deviations; median error {np.median(errors):.2f} cm-1, median error bar "
        f"{np.median(bars):.2f} cm-1 ({len(rows)} levels)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", default="H2O,HCN,CO2,H2CO")
    parser.add_argument("--committees", type=int, default=12)
    parser.add_argument("--labels", type=int, default=150)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--results", type=Path, default=Path("levels_coverage.json"))
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    for seed in range(1, options.committees + 1):
        for name in options.molecules.split(","):
            key = f"{name} {options.labels} {options.steps} {seed}"
            if key not in results:
                results[key] = deviations(name, options.labels, options.steps, seed)
                options.results.write_text(json.dumps(results))
                print(f"{key}: {summary(results[key])}", flush=True)
    rows = [tuple(row) for key, found in results.items() for row in found if key.split()[0] in options.molecules]
    fundamental = [row for row in rows if row[0].startswith("v") and "+" not in row[0]]
    print(f"fundamentals: {summary(fundamental)}")
    print(f"overtones and combinations: {summary([row for row in rows if row not in fundamental])}")


if __name__ == "__main__":
    main()
