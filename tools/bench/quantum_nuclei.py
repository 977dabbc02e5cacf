#!/usr/bin/env python
"""Fundamentals of small molecules by classical nuclei, TRPMD and PIGS, all on one GFN2-xTB surface, and what they cost.

tools/bench/quantum_nuclei.py [--molecules HF,HCl,CO,H2O,HCN,CO2] [--nuclei classical,trpmd,pigs] [--folder DIR]
                              [--pigs-temperature 0] [--trajectories N] [--masses H=2.014] [--step]
                              [--cost RUN STRUCTURE] [--noise]

For each molecule a committee is trained on GFN2-xTB labels of the quantum harmonic distribution, widened up to 1.8
times, so that the surface holds where beads go; then `hpcir md` runs with a deck of each kind of nuclei, and the
position of the band that stands for each fundamental is printed with its error bar, beside the harmonic wavenumber of
the surface and, for diatomic molecules, the exact fundamental (sinc-function grid: Colbert, Miller, J. Chem. Phys. 96,
1982, 1992). --pigs-temperature 0 is the program's own choice. bench_quantum takes `band_fundamentals` from here.
--step times instead a step of TRPMD with 32 beads against 32 classical replica-steps, interleaved. --noise measures
how far mean forces of held centroids scatter over seeds, with their control variate and without it. --cost is what PIGS
adds to the processor time of trajectories on a finished run's model. Error bars: see pigs_coverage.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

# ruff: noqa: E402
import numpy as np
from numpy.typing import NDArray

from hpcir.deck.sections import LabelSettings, ModelSettings, TrainingSettings
from hpcir.descriptors.definition import functions_of
from hpcir.dynamics import centroid_force
from hpcir.dynamics.centroid_force import HeldPlan, SpreadControl, centroid_means
from hpcir.dynamics.chunks import ReplicaBlock
from hpcir.dynamics.ring_polymer import TRPMD_FRICTION, Pile, RingPolymer, bead_velocities, chosen_beads
from hpcir.dynamics.ring_runner import run_rings
from hpcir.dynamics.runner import run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.labels import create_engine
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, xyz_text
from hpcir.study.learning.committee import LearntLabel, groups_of
from hpcir.study.learning.reference import modes_of
from hpcir.study.nuclei import pigs_temperature
from hpcir.training.dataset import TrainingData
from hpcir.training.train import train_members
from hpcir.units import ANGSTROM, FS, KCAL_PER_MOL_ANGSTROM, KELVIN, PER_CM
from hpcir.vibrations.harmonics import model_harmonics
from hpcir.vibrations.normal_modes import STEP, NormalModes, displaced_geometries, isotope_masses
from hpcir.vibrations.normal_modes import sample as sample_modes
from hpcir.vibrations.optimise import optimise

FloatArray = NDArray[np.float64]

MOLECULES: dict[str, tuple[list[int], list[list[float]]]] = {
    "HF": ([9, 1], [[0, 0, 0], [0.92, 0, 0]]),
    "HCl": ([17, 1], [[0, 0, 0], [1.28, 0, 0]]),
    "CO": ([6, 8], [[0, 0, 0], [1.13, 0, 0]]),
    "H2O": ([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
    "HCN": ([1, 6, 7], [[-1.07, 0, 0], [0, 0, 0], [1.155, 0, 0]]),
    "CO2": ([6, 8, 8], [[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]]),
}
WIDTHS = (1.0, 1.4, 1.8)
SEED = 1
# Relative differences of harmonic wavenumbers: below the first modes are degenerate, below the second in one band.
DEGENERATE, CLOSE = 1e-3, 0.05
FOLDER = Path(tempfile.gettempdir()) / "hpcir-quantum-nuclei"
DECK = """\
system: {{structure: start.xyz}}
seed: 1
dynamics: {{nuclei: {nuclei}, pigs_temperature: {pigs} K, trajectories: {trajectories}}}
"""


def surface(name: str, folder: Path, labels: int = 500, steps: int = 4000) -> tuple[Model, NormalModes]:
    """The committee of a molecule, and its normal modes at its own minimum; made once in `folder`."""
    numbers, places = MOLECULES[name]
    start = Structure(np.array(numbers), ANGSTROM * np.array(places, float))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.h5"
    if not path.exists():
        model = _trained(_labelled(start, labels), steps)
        model.save(path)
    model = Model.load(path)
    modes = model_harmonics(model, start)
    (folder / "start.xyz").write_text(xyz_text(start.moved(modes.positions)))
    return model, modes


def _labelled(start: Structure, count: int) -> list[LearntLabel]:
    """The minimum with its displaced geometries, and `count` geometries of the widened quantum distribution."""
    engine = create_engine(LabelSettings(engine="tblite"))
    minimum = optimise(start, engine.label).structure
    near = [minimum, *displaced_geometries(minimum, STEP)]
    learnt = [LearntLabel(geometry, engine.label(geometry), always=True) for geometry in near]
    modes = modes_of(minimum, [item.label for item in learnt])
    omega = PER_CM * np.maximum(modes.wavenumbers, 100.0)
    widths = np.sqrt(1 / (2 * omega * np.tanh(omega / (600 * KELVIN))))
    directions = modes.modes / np.sqrt(modes.masses)[:, None]
    random, pairs = np.random.default_rng(SEED), np.triu_indices(len(start), 1)

    def distances(positions: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.norm(positions[pairs[0]] - positions[pairs[1]], axis=-1))

    while len(learnt) < len(near) + count:
        scale = WIDTHS[len(learnt) % len(WIDTHS)] * widths
        moved = minimum.positions + np.einsum("k,kia->ia", scale * random.standard_normal(len(widths)), directions)
        ratio = distances(moved) / distances(minimum.positions)
        if ratio.min() > 0.7 and ratio.max() < 1.5:
            geometry = minimum.moved(moved)
            learnt.append(LearntLabel(geometry, engine.label(geometry)))
    return learnt


def _trained(learnt: list[LearntLabel], steps: int) -> Model:
    settings, training = ModelSettings(members=2), TrainingSettings()
    elements = tuple(sorted(set(learnt[0].structure.numbers.tolist())))
    functions = functions_of(settings, elements)
    data = TrainingData.build(groups_of(learnt), functions, training.precision)
    return train_members(data, settings, training, members=[0, 1], seed=SEED, steps=steps)[0]


def summary_of(
    folder: Path, nuclei: str, pigs_temperature: float, trajectories: int, masses: tuple[str, ...] = ()
) -> dict[str, list[dict[str, float]]]:
    """summary.json of trajectories on the surface in `folder`, with dynamics.nuclei `nuclei`; masses: as `hpcir md
    --masses` takes them."""
    words = [nuclei, f"{pigs_temperature:.0f}", str(trajectories), *masses]
    out = folder / "-".join(words)
    deck = folder / f"{out.name}.yaml"
    deck.write_text(DECK.format(nuclei=nuclei, pigs=pigs_temperature, trajectories=trajectories))
    if not (out / "summary.json").exists():
        command = [sys.executable, "-m", "hpcir", "md", str(folder), str(folder / "start.xyz"), "--deck", str(deck)]
        heavier = ["--masses", *masses] if masses else []
        subprocess.run([*command, *heavier, "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "summary.json").read_text())


def bands_of(summary: dict[str, list[dict[str, float]]]) -> list[dict[str, float]]:
    """All bands of a summary."""
    return [*summary["bands"], *summary["weak_bands"]]


def nearest(found: list[dict[str, float]], wavenumber: float) -> dict[str, float]:
    """The strongest band between 0.85 and 1.05 times a harmonic wavenumber. Raises SystemExit where there is none."""
    near = [band for band in found if 0.85 < band["position_per_cm"] / wavenumber < 1.05]
    if not near:
        raise SystemExit(f"no band near {wavenumber:.0f} cm-1")
    return max(near, key=lambda band: band["intensity_km_per_mol"])


def with_masses(model: Model, modes: NormalModes, masses: tuple[str, ...]) -> NormalModes:
    """The model's normal modes with other masses, such as ('H=2.014',)."""
    if not masses:
        return modes
    molecule = Structure(modes.numbers, modes.positions)
    pattern = {name: float(value) for name, _, value in (word.partition("=") for word in masses)}
    return model_harmonics(model, replace(molecule, nuclear_masses=isotope_masses(molecule, pattern)))


def band_fundamentals(
    name: str,
    nuclei: str,
    folder: Path = FOLDER,
    pigs_temperature: float = 0.0,
    trajectories: int = 64,
    masses: tuple[str, ...] = (),
    own_places: bool = False,
) -> list[float]:
    """cm-1, ascending by the harmonic wavenumber: the place of the band, or, of two modes whose bands may be one or
    with `own_places`, each mode's own, from its velocities; nan for a mode of less than 1 km/mol, which has no band."""
    model, modes = surface(name, folder / name)
    modes = with_masses(model, modes, masses)
    summary = summary_of(folder / name, nuclei, pigs_temperature, trajectories, masses)
    own = [row for row in summary["modes"] if "anharmonic_per_cm" in row]
    active = modes.intensities > 1
    found = []
    for mode, wavenumber in enumerate(modes.wavenumbers):
        apart = np.abs(modes.wavenumbers[active] / wavenumber - 1)
        if not active[mode]:
            found.append(float("nan"))
        elif own_places or ((apart > DEGENERATE) & (apart < CLOSE)).any():
            found.append(own[mode]["anharmonic_per_cm"])
        else:
            found.append(nearest(bands_of(summary), wavenumber)["position_per_cm"])
    return found


def exact_diatomic(model: Model, modes: NormalModes) -> float:
    """The fundamental (cm-1) of a diatomic molecule that does not rotate."""
    mass, points = 1 / (1 / modes.masses).sum(), 300
    length = np.linalg.norm(modes.positions[1] - modes.positions[0])
    r, step = np.linspace(0.62 * length, 1.9 * length, points, retstep=True)
    x = np.zeros((2, 3, points))
    x[1, 0] = r
    energies = Evaluator(model, modes.numbers, points).evaluate(x)[0]
    apart = np.subtract.outer(np.arange(points), np.arange(points))
    kinetic = np.where(apart == 0, np.pi**2 / 3, 2 * (-1.0) ** apart / np.maximum(apart**2, 1)) / (2 * mass * step**2)
    levels = np.linalg.eigvalsh(kinetic + np.diag(energies))
    return float((levels[1] - levels[0]) / PER_CM)


def time_steps(model: Model, modes: NormalModes, beads: int = 32, rings: int = 16, steps: int = 64) -> list[float]:
    """Ratios of a step of TRPMD, noise and dipoles of all beads included, to as many classical replica-steps."""
    lanes, ids, masses = beads * rings, np.arange(rings), modes.masses
    ring = RingPolymer(beads, 300 * KELVIN)
    evaluator = Evaluator(model, modes.numbers, lanes)
    still = np.repeat(modes.positions[:, :, None], lanes, axis=2)
    moving = bead_velocities(ring, np.zeros((len(masses), 3, rings)), masses, SEED, ids)
    speeds = thermal_velocities(still, masses, ring.temperature, SEED, np.arange(lanes))
    pile, ratios = Pile(TRPMD_FRICTION, None, SEED), []
    quantum = run_rings(evaluator, ReplicaBlock.start(still, moving, ids), ring, masses, 200, 0.5 * FS, pile=pile).block
    classical = ReplicaBlock.start(still, speeds, np.arange(lanes))
    for _ in range(9):
        times = [time.process_time()]
        quantum = run_rings(evaluator, quantum, ring, masses, steps, 0.5 * FS, pile=pile).block
        times.append(time.process_time())
        classical = run_chunk(evaluator, classical, masses, steps, 0.5 * FS).block
        times.append(time.process_time())
        ratios.append((times[1] - times[0]) / (times[2] - times[1]))
    return ratios


def mean_force_noise(model: Model, modes: NormalModes, seeds: int = 6) -> tuple[float, float]:
    """Scatter over seeds (kcal/mol/A, root mean square of components) of mean forces of 150 fs about 8 centroids, with
    the control variate and without it."""
    masses, stiffest = modes.masses, float(modes.wavenumbers.max())
    temperature = pigs_temperature(300 * KELVIN, stiffest)
    ring = RingPolymer(chosen_beads(0, stiffest * PER_CM, temperature), temperature)
    centroids = sample_modes(modes, 390 * KELVIN, 8, np.random.default_rng(SEED)).transpose(1, 2, 0)
    evaluator = Evaluator(model, modes.numbers, 8 * ring.beads)
    scatter = []
    for control in (SpreadControl, _NoControl):
        centroid_force.SpreadControl = control
        plans = [HeldPlan(ring, 0.5 * FS, 50 * FS, 150 * FS, 4, seed) for seed in range(seeds)]
        found = [centroid_means(evaluator, centroids, masses, plan, np.arange(8)).forces for plan in plans]
        scatter.append(float(np.sqrt(np.var(found, axis=0, ddof=1).mean())) / KCAL_PER_MOL_ANGSTROM)
    centroid_force.SpreadControl = SpreadControl
    return scatter[0], scatter[1]


class _NoControl(SpreadControl):
    """Takes nothing away."""

    def take(self) -> tuple[FloatArray, FloatArray]:
        return np.zeros_like(self.centroids), np.zeros((3, self.centroids.shape[2]))


def added_seconds(run: Path, structure: Path) -> float:
    """Processor seconds that `hpcir md` takes more with nuclei: pigs than with classical ones, few trajectories."""
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        for nuclei in ("classical", "classical", "pigs"):
            deck = Path(place) / "deck.yaml"
            deck.write_text(
                f"system: {{structure: {structure.resolve()}}}\nspectrum: {{depth: 0.2 ps}}\n"
                f"dynamics: {{nuclei: {nuclei}, trajectories: 16, equilibration: 0.1 ps, duration: 0.5 ps}}\n"
            )
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "hpcir", "md", str(run), str(structure), "--deck", str(deck), "--force"]
            subprocess.run([*command, "-o", f"{place}/{nuclei}"], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # The first run compiles kernels where they are not on the disk.
    return seconds[2] - seconds[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", default=",".join(MOLECULES))
    parser.add_argument("--nuclei", default="classical,trpmd,pigs")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--pigs-temperature", type=float, default=0.0)
    parser.add_argument("--masses", nargs="+", default=[])
    parser.add_argument("--trajectories", type=int, default=64)
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--cost", nargs=2, type=Path, metavar=("RUN", "STRUCTURE"))
    arguments = parser.parse_args()
    if arguments.cost:
        seconds = added_seconds(*arguments.cost)
        print(f"PIGS adds {seconds:.0f} s of one core, {seconds / 2:.0f} s on two ranks")
        return
    for name in arguments.molecules.split(","):
        folder = arguments.folder / name
        model, modes = surface(name, folder)
        if arguments.step:
            ratios = time_steps(model, modes)
            print(f"{name}: a TRPMD step of 32 beads takes {np.median(ratios):.2f} times 32 classical replica-steps")
            continue
        if arguments.noise:
            with_control, without = mean_force_noise(model, modes)
            print(f"{name}: mean forces scatter by {with_control:.3f} kcal/mol/A, {without:.3f} without the control")
            continue
        masses = tuple(arguments.masses)
        modes = with_masses(model, modes, masses)
        if len(modes.numbers) == 2:
            print(f"{name}: exact {exact_diatomic(model, modes):.1f} cm-1")
        for nuclei in arguments.nuclei.split(","):
            summary = summary_of(folder, nuclei, arguments.pigs_temperature, arguments.trajectories, masses)
            found = bands_of(summary)
            for wavenumber, intensity in zip(modes.wavenumbers, modes.intensities, strict=True):
                if intensity > 1:
                    band = nearest(found, wavenumber)
                    place = f"{band['position_per_cm']:.1f} +- {band['stderr_per_cm']:.1f}"
                    print(f"{name}: harmonic {wavenumber:.1f}, {nuclei} {place} cm-1", flush=True)


if __name__ == "__main__":
    main()
