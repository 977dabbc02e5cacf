"""summary.json of a run with several molecules, and of each target; trust map and ensemble beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpcir.deck.study import heavy_atoms
from hpcir.models.model import Model
from hpcir.storage.files import write_atomic
from hpcir.storage.json_result import finite
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelStore
from hpcir.study.learning.loop import Sampling
from hpcir.study.production.families import describe
from hpcir.study.production.targets import Target
from hpcir.study.results import summary, trust_map
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.study.results.trust_map import Trust


@dataclass(frozen=True)
class Known:
    """What all targets share: labels, model, how it came about, what it was trained on."""

    store: LabelStore
    level: str
    model: Model
    sampling: Sampling
    trust: Trust


class Finished(NamedTuple):
    """A target with the figures of its test, and its spectra by name."""

    target: Target
    test: dict[str, Any]
    spectra: dict[str, SpectrumResult]


def write_target(known: Known, finished: Finished) -> dict[str, Any]:
    """summary.json and trust.json of one target's folder; returns the summary."""
    target, test, spectra = finished
    context, modes, model, sampling = target.context, target.main.modes, known.model, known.sampling
    frames = trust_map.snapshots(context, target.structure, target.main.blocks)
    content: dict[str, Any] = {
        "labels": summary.label_figures(known.store, known.level),
        "sampling": {"rounds": len(sampling.rounds), "stopped_because": sampling.reason},
        "model": {"members": model.members, "level": model.level, "held_out": model.error},
        "harmonic": {
            "mae_per_cm": None,
            "model_wavenumbers_per_cm": modes.wavenumbers,
            "model_intensities_km_per_mol": modes.intensities,
        },
        "trust": trust_map.write_trust(context, target.structure, model, known.trust, frames),
        "ensemble": trust_map.ensemble(target.structure, modes.positions, frames),
    }
    if target.ensemble is not None:
        content["families"] = describe(context, target.ensemble, list(target.started))
    main = {"spectrum": spectra["spectrum"]}
    found = summary.write(context, content, test, main)
    for number, chosen in target.families:
        if chosen.name in spectra:
            found["families"][number]["bands"] = finite(spectra[chosen.name].bands)
    write_atomic(context.directory / summary.FILE, json.dumps(found, indent=1))
    return found


def write(
    context: Context, store: LabelStore, kept: list[Finished], summaries: list[dict[str, Any]], lost: list[Target]
) -> dict[str, Any]:
    """summary.json of the run: that of the first target, the times of the whole run, and all targets by name; last
    those that lost all their trajectories, with nothing but their number."""
    keys = ("test", "md", "spectrum", "bands", "trust", "ensemble", "families")
    content = {
        **summaries[0],
        "stages": summary.stage_seconds(context),
        "provenance": summary.provenance(context),
        "largest_labelled_heavy_atoms": max(
            (heavy_atoms(e.structure) for e in store.asked if not e.purpose.startswith("test")), default=0
        ),
        "targets": {
            one.target.name: {
                "atoms": len(one.target.structure),
                **{key: found[key] for key in keys if key in found},
            }
            for one, found in zip(kept, summaries, strict=True)
        },
    }
    for target in lost:
        count = target.main.trajectories
        content["targets"][target.name] = {
            "atoms": len(target.structure),
            "md": {"trajectories": count, "left_out": count},
        }
    content = finite(content)
    write_atomic(context.directory / summary.FILE, json.dumps(content, indent=1))
    return content


def lines(content: dict[str, Any]) -> list[str]:
    """The summary in words, for the end of the log."""
    labels = content["labels"]
    said = [
        f"labels: {labels['count']} of {labels['level']} ({labels['failed']} failed), molecules and fragments of up to "
        f"{content['largest_labelled_heavy_atoms']} heavy atoms, {labels['test_count']} more for the test; "
        f"{content['sampling']['stopped_because']}"
    ]
    for name, target in content["targets"].items():
        said += _target_lines(name, target)
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in content["stages"].items())
    said.append(f"time: {sum(content['stages'].values()):.0f} s ({times})")
    return said


def _target_lines(name: str, target: dict[str, Any]) -> list[str]:
    """What the log says of one target; of a lost one no more than that."""
    md, test = target["md"], target.get("test")
    text = f"{name}: {md['trajectories']} trajectories, {md['left_out']} left out"
    if test is None:
        return [text]
    if test["n"]:
        text += (
            f"; test on {test['n']} geometries: force {test['force_rmse_kcal_per_mol_angstrom']:.3f} kcal/mol/A, "
            f"dipole {test['dipole_rmse_debye']:.4f} D"
        )
    said = [text, *(f"{name}: {line}" for line in summary.local_line(test)), f"{name}: {target['trust']['verdict']}"]
    if target["ensemble"]["verdict"]:
        said.append(f"{name}: {target['ensemble']['verdict']}")
    for number, family in enumerate(target.get("families", []), 1):
        said.append(
            f"{name}: family {number}, {100 * family['weight']:.1f} %: {family['name']} "
            f"({family['conformers']} conformers, {family['trajectories']} trajectories)"
        )
    return said
