"""summary.json: what was used, how good the model is, the bands, the time, where it all comes from."""

from __future__ import annotations

import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from hpcir import __version__
from hpcir.models.model import Model
from hpcir.sampling.normal_modes import NormalModes
from hpcir.stages.analysis import harmonic_error
from hpcir.stages.context import Context
from hpcir.stages.farm import LabelStore
from hpcir.stages.prepare import Reference
from hpcir.stages.sample import Sampling
from hpcir.stages.spectrum import SpectrumResult
from hpcir.store import write_atomic
from hpcir.units import FS, KELVIN

FILE = "summary.json"
LIBRARIES = ("numpy", "scipy", "torch", "numba", "h5py", "pyscf", "tblite", "ase", "mpi4py", "mpich", "openmpi")


def write(
    context: Context,
    store: LabelStore,
    level: str,
    model: Model,
    reference: Reference,
    modes: NormalModes,
    sampling: Sampling,
    test: dict[str, Any],
    spectrum: SpectrumResult,
) -> dict[str, Any]:
    """Write summary.json in the run directory (rank 0) and return its content."""
    test = {**test, "harmonic_mae_per_cm": harmonic_error(modes, reference.modes)}
    summary = {
        "labels": label_figures(store, level),
        "sampling": {"rounds": len(sampling.rounds), "stopped_because": sampling.reason},
        "test": test,
        "model": {"members": model.members, "level": model.level, "held_out": model.error},
        "md": spectrum.md,
        "spectrum": spectrum.figures,
        "bands": spectrum.bands,
        "harmonic": {
            "engine_wavenumbers_per_cm": reference.modes.wavenumbers.tolist(),
            "engine_intensities_km_per_mol": reference.modes.intensities.tolist(),
            "model_wavenumbers_per_cm": modes.wavenumbers.tolist(),
            "model_intensities_km_per_mol": modes.intensities.tolist(),
        },
        "stages": stage_seconds(context),
        "provenance": provenance(context),
    }
    write_atomic(context.directory / FILE, json.dumps(finite(summary), indent=1))
    return summary


def label_figures(store: LabelStore, level: str) -> dict[str, Any]:
    """Counts and time of the labels of the main level, and the cheap ones apart."""
    own = [entry for entry in store.entries.values() if entry.level == level]
    good = [entry for entry in own if entry.label is not None]
    test = [entry for entry in good if entry.purpose == "test"]
    by_purpose: dict[str, int] = {}
    for entry in good:
        by_purpose[entry.purpose] = by_purpose.get(entry.purpose, 0) + 1
    return {
        "level": level,
        "count": len(good) - len(test),
        "test_count": len(test),
        "failed": len(own) - len(good),
        "seconds": float(sum(entry.label.seconds for entry in good if entry.label is not None)),
        "by_purpose": by_purpose,
        "other_levels": len(store.entries) - len(own),
    }


def stage_seconds(context: Context) -> dict[str, float]:
    """Wall time of every stage over all sessions of this run."""
    manifest = context.directory.manifest()
    spent = dict(manifest.get("spent", {}))
    for name, entry in manifest.get("stages", {}).items():
        spent[name] = spent.get(name, 0.0) + entry["seconds"]
    return {name: round(seconds, 3) for name, seconds in spent.items()}


def provenance(context: Context) -> dict[str, Any]:
    """Program, libraries, machine, ranks, seed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "program": "hpcir",
        "version": __version__,
        "libraries": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "ranks": context.comm.size,
        "seed": context.deck.seed,
        "temperature_kelvin": context.deck.dynamics.temperature / KELVIN,
        "timestep_fs": context.deck.dynamics.timestep / FS,
        "deck": context.deck.model_dump(mode="json"),
    }


def finite(value: Any) -> Any:
    """JSON knows no NaN: such numbers become null, arrays lists."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
