"""summary.json: what was used, how good the model is, the bands, the time, where it all comes from."""

from __future__ import annotations

import json
import platform
from typing import Any

from hpcir.models.model import Model
from hpcir.runtime.progress import figure_parts
from hpcir.storage.files import write_atomic
from hpcir.storage.json_result import finite
from hpcir.storage.provenance import origin
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelStore
from hpcir.study.learning.loop import Sampling
from hpcir.study.learning.reference import Reference
from hpcir.study.results.analysis import harmonic_error
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.units import FS, KELVIN
from hpcir.vibrations.normal_modes import NormalModes

FILE = "summary.json"
# Bands weaker than this are in the files but not in the log.
SHOWN_KM_PER_MOL = 2.0


def content(
    context: Context,
    store: LabelStore,
    level: str,
    model: Model,
    reference: Reference,
    modes: NormalModes,
    sampling: Sampling,
) -> dict[str, Any]:
    """What is known of labels, sampling, model and harmonic frequencies."""
    return {
        "labels": label_figures(store, level),
        "sampling": {"rounds": len(sampling.rounds), "stopped_because": sampling.reason},
        "model": {"members": model.members, "level": model.level, "held_out": model.error},
        "harmonic": {
            "mae_per_cm": harmonic_error(modes, reference.modes),
            "engine_wavenumbers_per_cm": reference.modes.wavenumbers,
            "engine_intensities_km_per_mol": reference.modes.intensities,
            "model_wavenumbers_per_cm": modes.wavenumbers,
            "model_intensities_km_per_mol": modes.intensities,
        },
    }


def write(
    context: Context, known: dict[str, Any], test: dict[str, Any], spectra: dict[str, SpectrumResult]
) -> dict[str, Any]:
    """Write summary.json in the run directory (rank 0) and return it."""
    main = spectra["spectrum"]
    stages = stage_seconds(context)
    steps = main.md["steps"]
    md = {**main.md, "microseconds_per_step": 1e6 * stages.get("trajectories", 0.0) * context.comm.size / max(steps, 1)}
    summary = {
        **known,
        "test": {**test, "harmonic_mae_per_cm": known["harmonic"]["mae_per_cm"]},
        "md": md,
        "spectrum": main.figures,
        "bands": main.bands,
        "weak_bands": main.weak_bands,
        "modes": main.modes,
        "groups": main.groups,
        "isotopologues": {name: result.bands for name, result in spectra.items() if result is not main},
        "isotopologue_modes": {name: result.modes for name, result in spectra.items() if result is not main},
        "stages": stages,
        "provenance": provenance(context),
    }
    summary = finite(summary)
    write_atomic(context.directory / FILE, json.dumps(summary, indent=1))
    return summary


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary in words, for the end of the log."""
    labels, test, md, spectrum = (summary[name] for name in ("labels", "test", "md", "spectrum"))
    said = [
        f"labels: {labels['count']} of {labels['level']} ({labels['failed']} failed), {labels['test_count']} more for "
        f"the test; {summary['sampling']['stopped_because']}",
    ]
    if test["n"]:
        said.append(
            f"independent test on {test['n']} geometries: force "
            f"{test['force_rmse_kcal_per_mol_angstrom']:.3f} kcal/mol/A, energy "
            f"{test['energy_rmse_kcal_per_mol']:.4f} kcal/mol, dipole {test['dipole_rmse_debye']:.4f} D"
        )
    said += local_line(test)
    said.append(f"harmonic frequencies, model against engine: {test['harmonic_mae_per_cm']:.2f} cm-1 mean absolute")
    step = figure_parts("microseconds_per_step", md["microseconds_per_step"])[1]
    said.append(
        f"trajectories: {md['trajectories']}, {md['left_out']} left out; drift "
        f"{md['drift_kcal_per_mol_per_100_ps']:.3f} kcal/mol in 100 ps; {step}"
    )
    said += [band_line(band) for band in summary["bands"] if (band["intensity_km_per_mol"] or 0) > SHOWN_KM_PER_MOL]
    said.append(spectrum["verdict"])
    said += [summary[name]["verdict"] for name in ("trust", "ensemble") if summary.get(name, {}).get("verdict")]
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["stages"].items())
    said.append(f"time: {sum(summary['stages'].values()):.0f} s ({times})")
    return said


def band_line(band: dict[str, Any]) -> str:
    """One band: position and intensity with their errors (? where few trajectories give none), and its words."""

    def figure(name: str, width: int) -> str:
        value = band[name]
        return f"{value:{width}.1f}" if value is not None else f"{'?':>{width}}"

    return (
        f"band {figure('position_per_cm', 7)} +- {figure('stderr_per_cm', 4)} cm-1, "
        f"{figure('intensity_km_per_mol', 6)} +- {figure('stderr_km_per_mol', 4)} km/mol  {band['assignment']}"
    ).rstrip()


def label_figures(store: LabelStore, level: str) -> dict[str, Any]:
    """Counts and time of the labels of the main level, and the cheap ones apart."""
    own = [entry for entry in store.asked if entry.level == level]
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
        "other_levels": len(store.asked) - len(own),
    }


def local_line(test: dict[str, Any]) -> list[str]:
    """The largest shift of a kind of vibration that the test's forces tell of, in words; none where they tell none."""
    found = [row for row in test.get("local_frequencies") or [] if row["shift_per_cm"] is not None]
    if not found:
        return []
    row = max(found, key=lambda row: abs(row["shift_per_cm"]))
    return [
        f"the test's forces put {row['motion']} {row['shift_per_cm']:+.1f} +- {row['shift_error_per_cm']:.1f} cm-1 "
        f"from the engine's {row['wavenumber_per_cm']:.0f} cm-1, the largest shift of {len(found)} kinds of vibration"
    ]


def stage_seconds(context: Context) -> dict[str, float]:
    """Wall time of every stage over all sessions of this run."""
    manifest = context.directory.manifest()
    spent = dict(manifest.get("spent", {}))
    for name, entry in manifest.get("stages", {}).items():
        spent[name] = spent.get(name, 0.0) + entry["seconds"]
    return {name: round(seconds, 3) for name, seconds in spent.items()}


def provenance(context: Context) -> dict[str, Any]:
    """Program, commit and libraries, seed, hosts, ranks and machine; the deck itself, and the digest by which the other
    files name it."""
    told = origin()
    return {
        **told,
        "deck_digest": told.get("deck", ""),
        "machine": platform.machine(),
        "ranks": context.comm.size,
        "temperature_kelvin": context.deck.dynamics.temperature / KELVIN,
        "timestep_fs": context.deck.dynamics.timestep / FS,
        "deck": context.deck.model_dump(mode="json"),
    }
