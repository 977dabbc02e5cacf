"""Stage sample: label, train, explore, and again, until the committee runs quietly or the budget is spent."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.labels import Label
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.sampling.exploration import ExplorationPlan, Findings, explore_block
from hpcir.sampling.selection import farthest_points
from hpcir.storage.checksums import digest
from hpcir.storage.files import write_atomic
from hpcir.storage.journal import Record
from hpcir.storage.provenance import origin
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.committee import CommitteeTrainer
from hpcir.study.learning.reference import PURPOSE, Reference
from hpcir.training.dataset import TrainingData
from hpcir.training.evaluation import added, error_figures, error_sums
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM, PS
from hpcir.vibrations.normal_modes import sample as sample_modes
from hpcir.vibrations.optimise import USUAL_LABELS

FOLDER = "models"
EXPLORED = "exploration"
STATE = "learning_curve.json"
# Purposes of the labels around the minimum.
NEIGHBOURHOOD = ("optimisation", PURPOSE)
# Replicas that explore together, in small molecules and in large ones, whose kernels are as quick with fewer: more
# blocks are work for more ranks. Fixed, so that the result does not depend on the rank count.
BLOCK, LARGE_BLOCK, LARGE_MOLECULE = 8, 4, 30
FloatArray = NDArray[np.float64]


@dataclass
class Sampling:
    """The rounds so far; the file models/learning_curve.json."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    final: str = ""

    def save(self, folder: Path) -> None:
        content = asdict(self)
        write_atomic(folder / STATE, json.dumps({**content, "digest": digest(content), "origin": origin()}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Sampling:
        """What a session before this one saved; nothing when the file is not there or damaged."""
        try:
            content = json.loads((folder / STATE).read_text())
            expected = content.pop("digest")
            content.pop("origin", None)
            return cls(**content) if digest(content) == expected else cls()
        except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError):
            return cls()


def round_purpose(number: int) -> str:
    """The purpose of a round's labels in the label store."""
    return f"round {number}"


def pool_order(context: Context, count: int) -> NDArray[np.int64]:
    """The order in which the first labels are picked from a pool of so many geometries.

    At random: thermal geometries teach more than the farthest ones (docs/learning-curves.md).
    """
    return context.random("initial geometries").permutation(count)


def first_geometries(context: Context, pool: Sequence[Structure]) -> list[Structure]:
    """Those of a pool that the first round will surely label, in the order of picking: as many as the budget leaves
    room for after an optimisation of the usual length and the normal modes."""
    settings = context.deck.sampling
    spoken_for = USUAL_LABELS + 6 * len(context.structure) + 1
    count = max(0, min(settings.initial_labels, settings.max_labels - spoken_for))
    return [pool[index] for index in pool_order(context, len(pool))[:count]]


class Sampler:
    """The loop of one run."""

    def __init__(
        self,
        context: Context,
        farm: LabelFarm,
        reference: Reference,
        trainer: CommitteeTrainer,
        pretrained: Model | None,
        pool: Sequence[Structure],
    ) -> None:
        self.context, self.farm, self.reference = context, farm, reference
        self.trainer, self.pretrained, self.pool = trainer, pretrained, pool
        self.folder = context.directory / FOLDER
        self.block = LARGE_BLOCK if len(context.structure) >= LARGE_MOLECULE else BLOCK

    def run(self) -> tuple[Model, Sampling]:
        """All rounds (collective); the final model and how it came about."""
        context, settings = self.context, self.context.deck.sampling
        if context.root:
            self.folder.mkdir(exist_ok=True)
        state = context.comm.bcast(Sampling.load(self.folder) if context.root else None)
        geometries = self._initial() if context.root else None
        model: Model | None = None
        for number in range(settings.rounds + 1):
            self.farm.label(geometries, round_purpose(number))
            model = self._round_model(number, model, state)
            if context.root:
                context.progress.log(round_line(number, state.rounds[number]))
            stop = context.comm.bcast(self._stop_before_exploring(number) if context.root else None)
            if not stop:
                geometries, figures = self._explore(number, model)
                stop = context.comm.bcast(self._stop_after_exploring(geometries, figures) if context.root else None)
                state.rounds[number] |= figures
            if stop:
                state.reason = stop
                break
        if context.root:
            state.save(self.folder)
            context.progress.log(f"sampling done: {state.reason}")
        assert model is not None  # the loop runs at least once
        return self._final_model(model, state), state

    def labels_used(self) -> int:
        """Labels of this level asked for so far (rank 0)."""
        entries = self.farm.store.asked
        return sum(entry.level == self.farm.level and not entry.purpose.startswith("test") for entry in entries)

    # -- geometries ---------------------------------------------------------------------------------------------

    def _initial(self) -> list[Structure]:
        """The first geometries: from the cheap level's pool, else from thermally sampled normal modes."""
        settings = self.context.deck.sampling
        room = max(0, settings.max_labels - self.labels_used())
        count = min(settings.initial_labels, room)
        if self.pool:
            picked = pool_order(self.context, len(self.pool))[:count]
            return [self.pool[index] for index in sorted(picked.tolist())]
        share = np.array_split(np.arange(count), len(settings.temperatures))
        geometries: list[Structure] = []
        for index, (temperature, part) in enumerate(zip(settings.temperatures, share, strict=True)):
            random = self.context.random("initial geometries", index)
            sampled = sample_modes(self.reference.modes, temperature, len(part), random)
            geometries += [self.reference.structure.moved(positions) for positions in sampled]
        return geometries

    def _spread_out(self, candidates: list[Structure], count: int, existing: list[Structure]) -> list[Structure]:
        """Thin candidates to `count` by farthest points in descriptor space."""
        if not candidates:
            return []
        points = self._fingerprints(candidates + existing)
        picked = farthest_points(points[: len(candidates)], count, points[len(candidates) :])
        return [candidates[index] for index in picked]

    def _fingerprints(self, structures: list[Structure]) -> FloatArray:
        from hpcir.descriptors.derivatives import features_only

        numbers = structures[0].numbers
        values = features_only(self.trainer.functions, numbers, np.array([s.positions for s in structures]))
        flat = values.reshape(len(structures), -1)
        spread = flat.std(0)
        return np.asarray((flat - flat.mean(0))[:, spread > 1e-10] / spread[spread > 1e-10])

    # -- training -----------------------------------------------------------------------------------------------

    def _round_model(self, number: int, before: Model | None, state: Sampling) -> Model:
        """The model of a round: from its file when a stopped run had trained it on the same labels, else trained."""
        context = self.context
        labelled, always = self._training_labels() if context.root else ([], [])
        key = digest(*(structure.positions for structure, _ in labelled)) if context.root else ""
        path = round_file(self.folder, number)
        done = context.root and number < len(state.rounds) and state.rounds[number]["data"] == key
        stored: Model | None = context.comm.bcast(intact_model(path) if done else None)
        if stored is not None:
            return stored
        training = context.deck.training
        start = self._start(before)
        steps = training.steps if start is None else training.retrain_steps
        model = self.trainer.train(
            labelled,
            level=self.farm.level,
            start=start,
            steps=steps,
            purpose=f"round {number}",
            always_learnt=always,
        )
        model = context.comm.bcast(self._calibrated(model, before, number) if context.root else None)
        if context.root:
            model.save(path)
            state.rounds = [*state.rounds[:number], curve_entry(number, len(labelled), key, model)]
            state.save(self.folder)
        state.rounds = context.comm.bcast(state.rounds)
        return model

    def _final_model(self, model: Model, state: Sampling) -> Model:
        """The last committee, trained for longer now that no label will come any more, and on all labels: what
        the rounds held out to judge themselves is a tenth of what was paid for. Its errors are the test's to say."""
        context = self.context
        labelled, _ = self._training_labels() if context.root else ([], [])
        key = digest(*(structure.positions for structure, _ in labelled)) if context.root else ""
        path = self.folder / "final.h5"
        stored: Model | None = context.comm.bcast(intact_model(path) if context.root and state.final == key else None)
        if stored is not None:
            return stored
        training, start = context.deck.training, self._start(model)
        model = self.trainer.train(
            labelled,
            level=self.farm.level,
            start=start,
            steps=training.final_steps if start is not None else max(training.steps, training.final_steps),
            purpose="final model",
            errors=model.error,
        )
        if context.root:
            model.save(path)
            state.final = key
            state.save(self.folder)
        return model

    def _start(self, before: Model | None) -> Model | None:
        """What a training goes on from: the model before, where the committee was pretrained; else nothing. A committee
        that has only seen the first labels carries their few directions along, and a new one soon does better."""
        return before or self.pretrained if self.pretrained is not None else None

    def _training_labels(self) -> tuple[list[tuple[Structure, Label]], list[bool]]:
        """The good labels of this level but the test's, and whether each is one of the minimum's neighbourhood, which
        makes the frequencies and is never held out (rank 0)."""
        pairs, always = [], []
        for entry in self.farm.store.asked:
            if entry.level == self.farm.level and entry.label is not None and not entry.purpose.startswith("test"):
                pairs.append((entry.structure, entry.label))
                always.append(entry.purpose in NEIGHBOURHOOD)
        return pairs, always

    def _calibrated(self, model: Model, before: Model | None, number: int) -> Model:
        """The model with its spreads calibrated on the held-out labels and, as far as there are any, on what the last
        exploration took: there the model before was put to the test where the committee disagreed (rank 0)."""
        fresh = self.farm.store.select(self.farm.level, [round_purpose(number)]) if before is not None else []
        if before is None or not fresh:
            return model
        parts = [self.trainer.held_out]
        for group in self.trainer.groups(fresh):
            data = TrainingData.build([group], before.functions, "float64", start=before.energy)
            parts.append(error_sums(before, data, data.groups[0]))
        pooled = error_figures(added(parts))
        taken = error_figures(added(parts[1:]))
        calibration = {name: value for name, value in pooled.items() if name.endswith("_calibration")}
        errors = {f"taken_{name}": value for name, value in taken.items() if name.endswith("_rmse")}
        return replace(model, error={**model.error, **calibration, **errors})

    # -- exploration --------------------------------------------------------------------------------------------

    def _explore(self, number: int, model: Model) -> tuple[list[Structure], dict[str, Any]]:
        """Explore with the committee on all ranks; the next geometries (rank 0) and the round's figures."""
        context, settings = self.context, self.context.deck.sampling
        findings = self._findings(number, model)
        if findings is None:
            return [], context.comm.bcast(None)
        figures: dict[str, Any] = context.comm.bcast(exploration_figures(findings))
        candidates = [self.reference.structure.moved(g) for item in findings for g in item.geometries]
        room = max(0, settings.max_labels - self.labels_used())
        existing = [structure for structure, _ in self.farm.store.select(self.farm.level)]
        return self._spread_out(candidates, min(settings.round_labels, room), existing), figures

    def _findings(self, number: int, model: Model) -> list[Findings] | None:
        """What each block of a round finds, in order on rank 0 (None elsewhere); known ones from their journals."""
        context = self.context
        blocks = -(-context.deck.sampling.trajectories // self.block)
        inputs = context.comm.bcast(self._exploration_key(number, model) if context.root else None)
        evaluator = Evaluator(model, self.reference.structure.numbers, self.block, charge=context.structure.charge)
        records = context.deal_once(
            f"explore round {number}",
            EXPLORED,
            [digest(inputs, index) for index in range(blocks)],
            lambda index: to_record(self._explore_block(evaluator, model, number, index)),
            "blocks",
        )
        return None if records is None else [from_record(record) for record in records]

    def _exploration_key(self, number: int, model: Model) -> str:
        """What the findings of a round depend on."""
        settings = self.context.deck.model_dump(mode="json")
        weights = [c.weights[0] for group in (model.energy, model.charge) for c in group.values()]
        return digest(number, settings["sampling"], settings["dynamics"], settings["seed"], model.error, *weights)

    def _explore_block(self, evaluator: Evaluator, model: Model, number: int, index: int) -> Findings:
        context, settings = self.context, self.context.deck.sampling
        temperature = settings.temperatures[index % len(settings.temperatures)]
        purpose = f"explore {number}"
        starts = sample_modes(self.reference.modes, temperature, self.block, context.random(purpose, index))
        plan = ExplorationPlan(
            temperature=temperature,
            force_spread=spread_threshold(model, settings.force_error),
            dipole_spread=spread_threshold(model, settings.dipole_error, "dipole"),
            duration=settings.duration,
            timestep=context.deck.dynamics.timestep,
            time_constant=context.deck.dynamics.time_constant,
        )
        ids = np.arange(index * self.block, (index + 1) * self.block)
        seed = int(digest(context.deck.seed, purpose)[:12], 16)
        return explore_block(evaluator, self.reference.structure, starts, ids, seed, plan, context.stop.check)

    # -- stopping -----------------------------------------------------------------------------------------------

    def _stop_before_exploring(self, number: int) -> str:
        settings = self.context.deck.sampling
        if self.labels_used() >= settings.max_labels:
            return f"the label budget of {settings.max_labels} is spent"
        if number == settings.rounds:
            return f"all {settings.rounds} rounds of exploration are done"
        return ""

    def _stop_after_exploring(self, geometries: list[Structure], figures: dict[str, Any]) -> str:
        goal = self.context.deck.sampling.goal / PS
        between = figures["picoseconds_between_takes"]  # without a take: all that was explored, which shows no more
        if between >= goal:
            return f"explored {between:.1f} ps between takes at a goal of {goal:g} ps"
        if not geometries:
            return "exploration found nothing that is not labelled yet"
        return ""


def round_file(folder: Path, number: int) -> Path:
    """Where the model of a round is."""
    return folder / f"round-{number:02d}.h5"


def spread_threshold(model: Model, error: float, quantity: str = "force") -> float:
    """The spread of an atom's force, or of the dipole, at which `error` (atomic units) is to be expected."""
    return error / max(model.error.get(f"{quantity}_calibration", 1.0), 1e-3)


def intact_model(path: Path) -> Model | None:
    """A model file's model, or None where there is none; a damaged one becomes NAME.damaged and counts as none."""
    if not path.is_file():
        return None
    try:
        return Model.load(path)
    except InputError:
        os.replace(path, path.with_name(path.name + ".damaged"))
        return None


def to_record(findings: Findings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and attributes of a journal record of one explored block."""
    arrays = {"geometries": findings.geometries, "excess": findings.excess}
    return arrays, {"time": findings.time, "takes": findings.takes, "insane": findings.insane}


def from_record(record: Record) -> Findings:
    """The inverse of `to_record`, without the quiet ends: this loop does not go on from them."""
    attributes = record.attributes
    arrays = record.arrays
    return Findings(
        arrays["geometries"],
        arrays["excess"],
        arrays["geometries"][:0],
        attributes["time"],
        attributes["takes"],
        attributes["insane"],
    )


def exploration_figures(findings: Sequence[Findings]) -> dict[str, Any]:
    """Explored time, takes, and time between takes of a round; picoseconds."""
    time = sum(item.time for item in findings) / PS
    takes = sum(item.takes for item in findings)
    return {
        "explored_picoseconds": time,
        "takes": takes,
        "insane": sum(item.insane for item in findings),
        "picoseconds_between_takes": time / max(takes, 1),
    }


def curve_entry(number: int, labels: int, key: str, model: Model) -> dict[str, Any]:
    """One point of the learning curve in user units: labels, held-out errors, the error of the round before on what
    exploration took for this one, and what spreads are multiplied by to be errors."""
    error = model.error
    return {
        "round": number,
        "labels": labels,
        "data": key,
        "energy_rmse_kcal_per_mol": error.get("energy_rmse", np.nan) / KCAL_PER_MOL,
        "force_rmse_kcal_per_mol_angstrom": error.get("force_rmse", np.nan) / KCAL_PER_MOL_ANGSTROM,
        "dipole_rmse_debye": error.get("dipole_rmse", np.nan) / DEBYE,
        "taken_force_rmse_kcal_per_mol_angstrom": error.get("taken_force_rmse", np.nan) / KCAL_PER_MOL_ANGSTROM,
        "force_calibration": error.get("force_calibration", np.nan),
        "dipole_calibration": error.get("dipole_calibration", np.nan),
    }


def round_line(number: int, entry: dict[str, Any]) -> str:
    """A round in one line of the log."""
    return (
        f"round {number}: {entry['labels']} labels, held-out errors: force "
        f"{entry['force_rmse_kcal_per_mol_angstrom']:.3f} kcal/mol/A, energy {entry['energy_rmse_kcal_per_mol']:.4f} "
        f"kcal/mol, dipole {entry['dipole_rmse_debye']:.4f} D"
    )
