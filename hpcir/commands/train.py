"""Command train: a committee from an outside data set, audited first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.deck.loader import LoadedDeck
from hpcir.deck.sections import Deck, LabelSettings, Pretrain
from hpcir.descriptors.definition import functions_of
from hpcir.errors import InputError
from hpcir.exchange.audit import audit, describe, exact_copies
from hpcir.exchange.datasets import Dataset, to_groups
from hpcir.exchange.findings import some
from hpcir.exchange.reading import read_dataset
from hpcir.models.model import MODEL_FILE, Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.storage import layout
from hpcir.storage.checksums import data_digest, digest
from hpcir.storage.json_result import write_json
from hpcir.study.context import Context
from hpcir.study.learning.below import Below
from hpcir.study.learning.committee import CommitteeTrainer, require_device
from hpcir.study.learning.pretrain import cheap_settings, pretrain_around
from hpcir.study.memory import label_memory, physical_memory
from hpcir.study.session import check_folder, default_deck, session
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

FIGURES_FILE = layout.TRAINING_FIGURES
# Least number of geometries: fewer leave nothing to hold out.
MIN_GEOMETRIES = 10
# Largest fraction of the machine's memory for a training set.
MEMORY_SHARE = 0.8
# Consequences for a model of a quantity that the data lack.
CONSEQUENCES = {
    "energy": "no energies: energies of different molecules and conformers are known up to a constant each",
    "forces": "no forces: they come from energies alone, which takes many more geometries",
    "dipole": "no dipoles: the model has no charges and no dipole, and gives no spectrum",
}


@dataclass(frozen=True)
class OutsideData:
    """An audited data set: its labels, what it lacks in words, and where it came from."""

    dataset: Dataset
    notes: tuple[str, ...]
    provenance: dict[str, object]


@collective
def train(
    data: Path,
    deck: LoadedDeck | None,
    units: Mapping[str, str] | str,
    keys: Mapping[str, str],
    output: Path,
    force: bool,
    comm: Communicator,
    charge: int | None = None,
    dipole_origin: str | None = None,
    missing: str = "error",
    walltime: float | None = None,
    pretrain: str = "none",
) -> None:
    """Train a committee on a data set and write MODEL_DIR/model.h5 and training.json (collective).

    deck: model, training and seed (None: defaults); the other options as in `datasets.read_dataset`. pretrain: 'auto'
    for a start from a cheap level's labels around the data, as the deck's labels.pretrain says, the number of one of
    the deck's levels (from 1) for that level's, or a model that is the start. Raises InputError for what the data do
    not say and for findings of the audit that forbid training, unless `force`.
    """
    if deck is not None:
        require_device(comm, deck.deck.training)
    options = {"units": units or None, "keys": keys or None, "charge": charge, "dipole_origin": dipole_origin}
    settings = deck.deck if deck is not None else default_deck(data)
    outside = on_root(comm, lambda: _read(data, {**options, "missing": missing}, output, force, settings))
    structure = _usual_molecule(outside.dataset)
    learning = settings.model_dump(mode="json", include={"model", "training", "seed"})
    beginning = on_root(comm, lambda: _beginning(pretrain, deck))
    if beginning is not None:
        learning["pretrain"] = beginning.key()
    key = f"train-{digest(learning, outside.provenance)}"
    with session(output, comm, settings, structure, key, force=force, walltime=walltime) as context:
        trainer, model = _train(context, outside, beginning)
        if context.root:
            model.save(output / MODEL_FILE)
            trainer.forget()
            _write_figures(output / FIGURES_FILE, model, outside)
    if comm.rank == 0:
        _print(output, model, outside)


def _read(path: Path, options: dict[str, Any], output: Path, force: bool, settings: Deck) -> OutsideData:
    check_folder(output, (MODEL_FILE,), force)
    dataset = read_dataset(path, **options)
    for line in what_is_learnt(dataset, options["units"]):
        print(line)
    findings = audit(dataset)
    print(describe(findings))
    severe = [finding for finding in findings if finding.severity == "error"]
    if severe and not force:
        raise InputError(
            f"the audit found errors in this data set: {severe[0].text}"
            + (f" (and {len(severe) - 1} more)" if len(severe) > 1 else ""),
            where=str(path),
            hint=f"{severe[0].advice}; --force trains all the same",
        )
    unusable = sorted({n for finding in findings if finding.check == "finite" for n in finding.frames})
    dataset = dataset.without(unusable)
    # A copy would be on both sides of the split into what is learnt and what is held out.
    copies = exact_copies(dataset)
    dataset = dataset.without(copies)
    if len(dataset) < MIN_GEOMETRIES:
        raise InputError(
            "too few geometries to train on and hold some out",
            where=str(path),
            value=len(dataset),
            hint=f"{MIN_GEOMETRIES} or more are needed",
        )
    require_memory(dataset, settings)
    notes = [str(finding) for finding in findings if finding.severity != "note" and finding.check != "finite"]
    notes += [f"left out: {some(unusable)}, with NaN or infinity"] if unusable else []
    notes += (
        [f"left out: {some(copies)}, {'a copy of another one' if len(copies) == 1 else 'copies of others'}"]
        if copies
        else []
    )
    for quantity, text in CONSEQUENCES.items():
        having = len(dataset.having(quantity))
        if having == 0:
            others = ", ".join(dataset.unread)
            notes.append(text + (f" (the file also holds {others}: see --keys)" if others else ""))
        elif having < len(dataset):
            notes.append(f"geometries without {quantity}: {len(dataset) - having} of {len(dataset)}")
    if not dataset.having("energy") and not dataset.having("forces"):
        notes.append("neither energies nor forces: the potential learns nothing, dipoles alone mean something")
    provenance = {
        "data": str(path),
        "data_digest": data_digest(path),
        "geometries": len(dataset),
        "charges": sorted({frame.charge for frame in dataset.frames}),
    }
    return OutsideData(dataset, tuple(notes), provenance)


def require_memory(dataset: Dataset, settings: Deck) -> None:
    """Refuse a data set whose descriptors exceed this machine's memory, rather than be killed half-way."""
    elements = tuple(sorted({int(z) for frame in dataset.frames for z in frame.numbers}))
    sizes = Counter(len(frame) for frame in dataset.frames)
    wanted = sum(count * label_memory(settings, atoms, elements) for atoms, count in sizes.items())
    there = physical_memory()
    if wanted > MEMORY_SHARE * there:
        part = math.ceil(wanted / (MEMORY_SHARE * there))
        raise InputError(
            f"the descriptors of {len(dataset)} geometries take about {wanted / 2**30:.1f} GiB in training, and there "
            f"are {there / 2**30:.1f} GiB of memory",
            where=dataset.source,
            hint=f"give one geometry in {part}: neighbouring frames of a trajectory teach little",
        )


def what_is_learnt(dataset: Dataset, units: Mapping[str, str] | str | None) -> list[str]:
    """Report the contents of a data set and the part that is learnt, before training: omissions are never silent."""
    lines = [repr(dataset)]
    if dataset.having("charges"):
        lines.append("charges: not learnt, dipoles are; the audit holds the two against each other")
    if dataset.unread:
        lines.append(f"not read: {', '.join(dataset.unread)} (see --keys)")
    declared = units if isinstance(units, Mapping) else {}
    lines += [
        f"{name}: none in the file, though their unit is declared (see --keys)"
        for name in declared
        if name in CONSEQUENCES and not dataset.having(name)
    ]
    return lines


def _usual_molecule(dataset: Dataset) -> Structure:
    """The first geometry, with the total charge that most geometries have (the model's own, when none is given)."""
    first = dataset.frames[0]
    charge = Counter(frame.charge for frame in dataset.frames).most_common(1)[0][0]
    return Structure(first.numbers, first.positions, charge, name=Path(dataset.source).stem)


def _train(context: Context, outside: OutsideData, beginning: Beginning | None) -> tuple[CommitteeTrainer, Model]:
    elements = {int(z) for frame in outside.dataset.frames for z in frame.numbers}
    functions = functions_of(context.deck.model, elements)
    groups = to_groups(outside.dataset) if context.root else None
    level = next((frame.level for frame in outside.dataset.frames if frame.level), "")
    trainer = CommitteeTrainer(context, functions)
    below, cheap = beginning.start(context, outside.dataset, trainer) if beginning is not None else (None, "")
    start = None if below is None else below.model
    training = context.deck.training
    steps = training.steps if start is None else training.final_steps
    model = trainer.train_groups(groups, level=level, start=start, steps=steps, purpose="outside data", below=below)
    provenance = {**outside.provenance, "notes": list(outside.notes)} | ({"pretrained_on": cheap} if cheap else {})
    return trainer, replace(model, provenance=provenance)


@dataclass(frozen=True)
class Beginning:
    """A start for a training: a model, or a level of theory of which so many labels around the data are learnt first,
    by its settings or the one that the deck's labels.pretrain leaves open."""

    model: Model | None = None
    settings: LabelSettings | None = None
    labels: int = 0
    left_open: Pretrain | None = None

    def key(self) -> object:
        """All that the start depends on, as JSON."""
        if self.model is not None:
            return self.model.digest
        if self.left_open is not None:
            return self.left_open.model_dump(mode="json")
        return [None if self.settings is None else self.settings.content(), self.labels]

    @collective
    def start(self, context: Context, dataset: Dataset, trainer: CommitteeTrainer) -> tuple[Below, str]:
        """The level to start from, and its name (collective). Raises InputError where there is none that fits."""
        if self.model is None:
            return _cheap_start(context, dataset, trainer, self.settings, self.labels)
        _require_alike(self.model, trainer, context.deck)
        return Below(self.model), self.model.level


def _beginning(pretrain: str, deck: LoadedDeck | None) -> Beginning | None:
    """The start that --pretrain names: none, auto, the number of a level of the deck, or a model. Raises InputError."""
    if pretrain == "none":
        return None
    levels = deck.deck.levels if deck is not None else []
    if pretrain == "auto" and not levels:
        cheap = deck.deck.labels.pretrain if deck is not None else Pretrain()
        return Beginning(labels=cheap.labels, left_open=cheap)
    pretrain = "1" if pretrain == "auto" else pretrain
    if pretrain.isdecimal():
        number = int(pretrain)
        if not 1 <= number <= len(levels) or levels[number - 1].is_data:
            raise InputError(
                "the deck has no such level with an engine",
                where="--pretrain",
                value=pretrain,
                hint=f"it has {len(levels)} levels, counted from 1; or give auto, or a model",
            )
        level = levels[number - 1]
        return Beginning(settings=level.settings, labels=level.budget)
    if not Path(pretrain).exists():
        raise InputError(
            "neither auto, nor the number of a level of the deck, nor a model",
            where="--pretrain",
            value=pretrain,
            hint="such as auto, 1, or run/models/model.h5",
        )
    return Beginning(model=Model.load(Path(pretrain)))


def _require_alike(start: Model, trainer: CommitteeTrainer, deck: Deck) -> None:
    """Raise InputError where a training cannot continue from a model: other symmetry functions or networks."""
    wanted, widths = trainer.functions, tuple(deck.model.hidden)
    if start.functions != wanted:
        problem, value = "has other symmetry functions or elements than the deck's model section gives", start.elements
    elif (own := tuple(next(iter(start.energy.values())).hidden)) != widths:
        problem, value = "has networks of other widths than the deck's model section gives", own
    else:
        return
    raise InputError(
        f"the model to start from {problem}",
        where="--pretrain",
        value=", ".join(map(str, value)),
        hint=f"right would be elements {', '.join(map(str, wanted.elements))} with the model section of its own deck, "
        "deck.resolved.yaml beside it",
    )


@collective
def _cheap_start(
    context: Context, dataset: Dataset, trainer: CommitteeTrainer, settings: LabelSettings | None, count: int
) -> tuple[Below, str]:
    """A cheap level, learnt from labels of geometries around the data's, and its name (collective).

    settings: the level's (None: the cheap one that is to be had). Raises InputError where there is none, or where the
    data are of several molecules.
    """
    compositions = {(tuple(frame.numbers.tolist()), frame.charge) for frame in dataset.frames}
    if len(compositions) > 1:
        raise InputError(
            "the data are of several molecules, and cheap labels are made of one",
            where="--pretrain",
            value=len(compositions),
            hint="train on one molecule at a time, or leave --pretrain out",
        )
    settings = settings or cheap_settings(context)
    if settings is None:
        raise InputError(
            "there is no cheap level for this molecule: tblite is not installed, or cannot label it",
            where="--pretrain",
            hint="pip install tblite, or leave --pretrain out",
        )
    structures = [context.structure.moved(frame.positions) for frame in dataset.frames]
    return pretrain_around(context, settings, count, structures, trainer)


def figures(model: Model) -> dict[str, Any]:
    """Held-out errors in user units (None: not in the data), and the calibration of the committee's spread."""
    error = model.error
    return {
        "held_out": int(error.get("held_out", 0)),
        "energy_rmse_kcal_per_mol": error.get("energy_rmse", np.nan) / KCAL_PER_MOL,
        "force_rmse_kcal_per_mol_angstrom": error.get("force_rmse", np.nan) / KCAL_PER_MOL_ANGSTROM,
        "dipole_rmse_debye": error.get("dipole_rmse", np.nan) / DEBYE,
        "force_calibration": error.get("force_calibration", np.nan),
    }


def _write_figures(path: Path, model: Model, outside: OutsideData) -> None:
    content = {
        "members": model.members,
        "level": model.level,
        "elements": model.elements,
        "test": figures(model),
        "notes": outside.notes,
        "provenance": {name: value for name, value in model.provenance.items() if name != "notes"},
    }
    write_json(path, content)


def _print(output: Path, model: Model, outside: OutsideData) -> None:
    for note in outside.notes:
        print(note if note.startswith(("warning: ", "error: ")) else f"note: {note}")
    found = figures(model)
    names = {
        "energy_rmse_kcal_per_mol": "energy {:.4g} kcal/mol",
        "force_rmse_kcal_per_mol_angstrom": "force {:.4g} kcal/mol/A",
        "dipole_rmse_debye": "dipole {:.4g} D",
    }
    known = ", ".join(text.format(found[name]) for name, text in names.items() if np.isfinite(found[name]))
    count = found["held_out"]
    errors = f"errors on {count} held-out geometries: {known}" if known else "no geometry was held out by all members"
    print(f"{output / MODEL_FILE}: {model.members} members from {len(outside.dataset)} geometries; {errors}")
