"""summary.json of a run with several molecules, and of each target; trust map and ensemble beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.deck_series import heavy_atoms
from hpcir.models.model import Model
from hpcir.sampling.bonding import bond_graph
from hpcir.sampling.conformers import torsion
from hpcir.sampling.rotamers import pivots
from hpcir.sampling.trust import ElementReference, trust_table
from hpcir.stages import summary
from hpcir.stages.context import Context
from hpcir.stages.families import describe
from hpcir.stages.farm import LabelStore
from hpcir.stages.sample import Sampling
from hpcir.stages.spectrum import SpectrumResult
from hpcir.stages.targets import Target
from hpcir.store import read_h5, write_atomic
from hpcir.units import KCAL_PER_MOL_ANGSTROM

FloatArray = NDArray[np.float64]

TRUST = "trust.json"
# Frames of a target's trajectories that the trust map looks at.
TRUST_FRAMES = 100
# One minimum stands for the ensemble where so many of the frames share its torsions.
ONE_BASIN = 0.9
Trust = dict[int, ElementReference]


@dataclass(frozen=True)
class Known:
    """What all targets share: labels, model, how it came about, what it was trained on."""

    store: LabelStore
    level: str
    model: Model
    sampling: Sampling
    trust: Trust


def write_target(
    known: Known, target: Target, test: dict[str, Any], spectra: dict[str, SpectrumResult]
) -> dict[str, Any]:
    """summary.json and trust.json of one target's folder; returns the summary."""
    context, modes, model, sampling = target.context, target.main.modes, known.model, known.sampling
    frames = snapshots(target)
    content: dict[str, Any] = {
        "labels": summary.label_figures(known.store, known.level),
        "sampling": {"rounds": len(sampling.rounds), "stopped_because": sampling.reason},
        "model": {"members": model.members, "level": model.level, "held_out": model.error},
        "harmonic": {
            "mae_per_cm": None,
            "model_wavenumbers_per_cm": modes.wavenumbers,
            "model_intensities_km_per_mol": modes.intensities,
        },
        "trust": write_trust(target, model, known.trust, frames),
        "ensemble": ensemble(target, frames),
    }
    if target.ensemble is not None:
        content["families"] = describe(context, target.ensemble, list(target.started))
    main = {"spectrum": spectra["spectrum"]}
    found = summary.write(context, content, test, main)
    for number, chosen in target.families:
        found["families"][number]["bands"] = summary.finite(spectra[chosen.name].bands)
    write_atomic(context.directory / summary.FILE, json.dumps(found, indent=1))
    return found


def write(context: Context, store: LabelStore, found: list[Target], summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """summary.json of the run: that of the first target, the times of the whole run, and all targets by name."""
    keys = ("test", "md", "spectrum", "bands", "trust", "ensemble", "families")
    content = {
        **summaries[0],
        "stages": summary.stage_seconds(context),
        "provenance": summary.provenance(context),
        "largest_labelled_heavy_atoms": max(
            (heavy_atoms(e.structure) for e in store.asked if not e.purpose.startswith("test")), default=0
        ),
        "targets": {
            target.name: {"atoms": len(target.structure), **{key: found_[key] for key in keys if key in found_}}
            for target, found_ in zip(found, summaries, strict=True)
        },
    }
    content = summary.finite(content)
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
        test, md = target["test"], target["md"]
        text = f"{name}: {md['trajectories']} trajectories, {md['left_out']} left out"
        if test["n"]:
            text += (
                f"; test on {test['n']} geometries: force {test['force_rmse_kcal_per_mol_angstrom']:.3f} kcal/mol/A, "
                f"dipole {test['dipole_rmse_debye']:.4f} D"
            )
        said += [text, f"{name}: {target['trust']['verdict']}"]
        if target["ensemble"]["verdict"]:
            said.append(f"{name}: {target['ensemble']['verdict']}")
        for number, family in enumerate(target.get("families", []), 1):
            said.append(
                f"{name}: family {number}, {100 * family['weight']:.1f} %: {family['name']} "
                f"({family['conformers']} conformers, {family['trajectories']} trajectories)"
            )
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in content["stages"].items())
    said.append(f"time: {sum(content['stages'].values()):.0f} s ({times})")
    return said


# -- over the trajectories -----------------------------------------------------------------------------------------


def snapshots(target: Target) -> FloatArray:
    """Geometries (T, N, 3) of a target's sane trajectories, evenly over them all."""
    frames = []
    for name in target.main.blocks:
        arrays, _ = read_h5(target.context.directory / name)
        kept = arrays["snapshots"][..., arrays["sane"].astype(bool)].transpose(0, 3, 1, 2)
        frames.append(kept.reshape(-1, len(target.structure), 3))
    every = np.concatenate(frames)
    picked = np.unique(np.linspace(0, max(len(every) - 1, 0), TRUST_FRAMES).round().astype(int))[: len(every)]
    return np.asarray(every[picked])


def write_trust(target: Target, model: Model, known: Trust, frames: FloatArray) -> dict[str, Any]:
    """trust.json: every atom's distance from the training data over the trajectories; figures for the summary."""
    from hpcir.descriptors.derivatives import features_only
    from hpcir.models.evaluator import Evaluator

    structure = target.structure
    features = features_only(model.functions, structure.numbers, frames)
    evaluator = Evaluator(model, structure.numbers, 1, charge=structure.charge)
    spreads = np.array([evaluator.force_spread(frame[:, :, None])[:, 0] for frame in frames]) / KCAL_PER_MOL_ANGSTROM
    table = trust_table(known, model.functions, structure.numbers, features, spreads)
    content = {"unit_of_spread": "kcal/mol/A", "frames": len(frames), "atoms": [asdict(row) for row in table]}
    write_atomic(target.context.directory / TRUST, json.dumps(summary.finite(content), indent=1))
    worst, widest = table[0], max(table, key=lambda row: row.largest_spread)
    text = (
        f"the surroundings farthest from the training data are those of {worst.name}, {worst.largest_distance:.1f} "
        f"times the usual distance between training environments ({worst.mean_distance:.1f} on average)"
    )
    outside = max(table, key=lambda row: row.excess)
    if outside.function >= 0:
        text += (
            f"; {outside.name} leaves the range of a symmetry function by {100 * outside.excess:.0f} % "
            f"({outside.description})"
        )
    text += f"; the committee disagrees most about {widest.name}, {widest.largest_spread:.2f} kcal/mol/A"
    return {
        "atom": worst.name,
        "largest_distance": worst.largest_distance,
        "mean_distance": float(np.mean([row.mean_distance for row in table])),
        "outside": float(np.mean([row.outside for row in table])),
        "largest_spread_kcal_per_mol_angstrom": widest.largest_spread,
        "verdict": text,
    }


def ensemble(target: Target, frames: FloatArray) -> dict[str, Any]:
    """How the trajectories are spread over conformers: whether the minimum of the harmonic lines stands for them."""
    structure, graph = target.structure, bond_graph(target.structure)
    torsions = [pivot.atoms for pivot in pivots(graph)]
    if not torsions:
        return {"rotatable": 0, "in_minimum": 1.0, "conformers": 1, "verdict": ""}
    states = np.array([[_state(torsion(frame, item)) for item in torsions] for frame in frames])
    minimum = np.array([_state(torsion(target.main.modes.positions, item)) for item in torsions])
    same = float((states == minimum).all(1).mean())
    distinct = len({tuple(row) for row in states.tolist()})
    trans = float((states == 0).mean())
    text = ""
    if same < ONE_BASIN:
        text = (
            f"one minimum does not represent the ensemble: {100 * same:.0f} % of the frames have the torsions of the "
            f"minimum of {structure.name} that the harmonic lines belong to, and {len(frames)} frames show {distinct} "
            f"conformers ({100 * trans:.0f} % of the torsions are trans)"
        )
    return {
        "rotatable": len(torsions),
        "in_minimum": same,
        "conformers": distinct,
        "trans_fraction": trans,
        "verdict": text,
    }


def _state(angle: float) -> int:
    """0 trans, 1 gauche plus, -1 gauche minus."""
    return 0 if abs(angle) > 120 else int(np.sign(angle)) or 1
