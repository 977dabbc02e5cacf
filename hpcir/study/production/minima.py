"""The conformers that trajectories visit: found by a short hot run of the model, for the control variates.

Frames are projected on the normal modes of the basin that they are in, so the basins must be known before production.
They come from a run of their own, never from the production trajectories: the controls' exact means need basins that
do not depend on those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import RunStopped
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.spectra.basins import Basin, all_basins, distance_squared
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.hdf5 import read_intact, write_h5
from hpcir.study.context import Context
from hpcir.units import FS
from hpcir.vibrations.harmonics import model_harmonics
from hpcir.vibrations.normal_modes import NormalModes, keeps_bonds
from hpcir.vibrations.normal_modes import sample as sample_modes
from hpcir.vibrations.quench import quench

FILE = layout.MINIMA
# The search: replicas, steps, steps between snapshots, and its temperature as a multiple of that of production.
REPLICAS, SEARCH_STEPS, INTERVAL, TEMPERATURE_FACTOR = 16, 6000, 1000, 1.5
FRICTION = 200 * FS
# Most modes of a molecule with controls of each conformer, and most minima; larger ones have too many conformers.
MAX_MODES = 30
MAX_MINIMA = 8
QUENCH_STEPS, QUENCH_FORCE = 500, 5e-4
# Largest root mean square distances (bohr) of equivalent geometries: after the quench, and converged.
QUENCHED_DISTANCE, MIN_DISTANCE = 0.3, 0.1
# Least wavenumber of a vibration of a true minimum, cm-1.
MIN_WAVENUMBER = 10.0


@collective
def find_minima(context: Context, model: Potential, first: NormalModes, folder: str) -> list[NormalModes]:
    """The minima that thermal motion reaches from the first one, which leads the list; the same on every rank.

    Written to FOLDER/minima.h5, and read from there when model and settings are the same (collective).
    """
    dynamics = context.deck.dynamics
    key = digest("minima", context.deck.seed, dynamics.temperature, dynamics.timestep, first.positions, model.digest)
    found = None
    if context.root:
        path = context.directory / folder / FILE
        content = read_intact(path)
        if content is not None and content[1].get("inputs") == key:
            found = _read(content[0])
        else:
            path.parent.mkdir(exist_ok=True)
            with context.progress.stage("minima"):
                found = _search(context, model, first)
            _write(path, found, key)
    result: list[NormalModes] = context.comm.bcast(found)
    return result


def same_minima(
    model: Potential, minima: Sequence[NormalModes], masses: FloatArray, structure: Structure
) -> list[NormalModes]:
    """The minima with the normal modes of other masses (N,)."""
    return [model_harmonics(model, structure.moved(modes.positions), masses) for modes in minima]


def _search(context: Context, model: Potential, first: NormalModes) -> list[NormalModes]:
    minima = [first]
    if len(first) > MAX_MODES or len(first.numbers) < 4:
        return minima
    structure = context.structure.moved(first.positions)
    weights = np.ones(len(structure))
    for geometry in _quenched(context, model, first):
        context.stop.check()
        known = all_basins(minima, structure)
        if len(minima) == MAX_MINIMA or not keeps_bonds(first.numbers, first.positions, geometry):
            continue
        if _is_known(geometry, known, QUENCHED_DISTANCE, weights):
            continue
        try:
            modes = model_harmonics(model, structure.moved(geometry))
        except RunStopped:
            continue
        if modes.wavenumbers[0] > MIN_WAVENUMBER and not _is_known(modes.positions, known, MIN_DISTANCE, weights):
            minima.append(modes)
    return minima


def _is_known(geometry: FloatArray, known: Sequence[Basin], within: float, weights: FloatArray) -> bool:
    here = Basin(geometry, known[0].modes, known[0].wavenumbers)
    return min(distance_squared(here, basin, weights) for basin in known) < within**2


def _quenched(context: Context, model: Potential, first: NormalModes) -> FloatArray:
    """Snapshots (S, N, 3) of a hot run from the first minimum, quenched."""
    dynamics, seed = context.deck.dynamics, context.deck.seed
    temperature = TEMPERATURE_FACTOR * dynamics.temperature
    starts = sample_modes(first, temperature, REPLICAS, context.random("minima"))
    positions = np.ascontiguousarray(starts.transpose(1, 2, 0))
    # Trajectory numbers that production does not use.
    ids = 2**31 + np.arange(REPLICAS)
    velocities = thermal_velocities(positions, first.masses, temperature, seed, ids)
    block = ReplicaBlock.start(positions, velocities, ids)
    evaluator = model.replicas(context.structure.numbers, REPLICAS, context.structure.charge)
    thermostat = Thermostat("langevin", temperature, FRICTION, seed)
    found = []
    for _ in range(SEARCH_STEPS // INTERVAL):
        context.stop.check()
        chunk = run_chunk(
            evaluator, block, first.masses, INTERVAL, dynamics.timestep, dipole_every=INTERVAL, thermostat=thermostat,
            record=(),
        )  # fmt: skip
        block = chunk.block
        found.append(quench(lambda x: evaluator.evaluate(x)[1], block.positions, QUENCH_STEPS, QUENCH_FORCE))
    return np.concatenate(found, axis=2).transpose(2, 0, 1)


def _write(path: Path, minima: Sequence[NormalModes], key: str) -> None:
    units = {"numbers": "atomic number", "positions": "bohr", "wavenumbers": "cm-1", "intensities": "km/mol"}
    arrays = {
        field.name: (
            np.array([getattr(m, field.name) for m in minima]),
            units.get(field.name, "atomic units"),
            "minimum,...",
        )
        for field in fields(NormalModes)
    }
    write_h5(path, arrays, {"format": "hpcir minima", "inputs": key})


def _read(arrays: dict[str, FloatArray]) -> list[NormalModes]:
    count = len(arrays["positions"])
    return [NormalModes(**{field.name: arrays[field.name][k] for field in fields(NormalModes)}) for k in range(count)]
