"""Training a committee over ranks: members distributed over ranks (or ranks over members), joined in order on all."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcir.arrays import BoolArray
from hpcir.deck.sections import Deck, TrainingSettings
from hpcir.descriptors.definition import SymmetryFunctionSet, functions_of
from hpcir.errors import InputError
from hpcir.labels import Label
from hpcir.labels.base import stacked_polar_tensors
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import Communicator, SerialCommunicator, collective, on_root
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context
from hpcir.study.learning.below import Below, level_below
from hpcir.study.learning.checkpoint import TrainingCheckpoint
from hpcir.training.dataset import LabelledGroup, TrainingData
from hpcir.training.devices import device_problem, torch_device
from hpcir.training.evaluation import Sums, error_figures, held_out_sums
from hpcir.training.reduction import Reduction
from hpcir.training.split import held_out
from hpcir.training.team import Team, batch_parts, form_team
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM
from hpcir.version import __version__

if TYPE_CHECKING:
    from hpcir.training.regression.teacher import LevelBelow

# Held-out errors that a stage's line shows: unit in the figure's name, and its size in atomic units.
LOG_ERRORS = {
    "energy_rmse": ("kcal_per_mol", KCAL_PER_MOL),
    "force_rmse": ("kcal_per_mol_angstrom", KCAL_PER_MOL_ANGSTROM),
    "dipole_rmse": ("debye", DEBYE),
}


def symmetry_functions(context: Context, elements: Sequence[int]) -> SymmetryFunctionSet:
    """The deck's symmetry functions for these elements."""
    return functions_of(context.deck.model, elements)


@dataclass(frozen=True)
class LearntLabel:
    """A label to train on. forces (N,): the atoms whose forces are learnt (None: all); always: never held out."""

    structure: Structure
    label: Label
    forces: BoolArray | None = None
    always: bool = False


def groups_of(labelled: Sequence[LearntLabel]) -> list[LabelledGroup]:
    """Labels as training groups, one for each molecule (same atoms in the same order, same charge)."""
    return [_group(members) for members in _by_molecule(labelled)]


def _by_molecule(labelled: Sequence[LearntLabel]) -> list[list[LearntLabel]]:
    gathered: dict[tuple[int, ...], list[LearntLabel]] = {}
    for item in labelled:
        gathered.setdefault((item.structure.charge, *item.structure.numbers.tolist()), []).append(item)
    return list(gathered.values())


def held_out_labels(labelled: Sequence[LearntLabel], deck: Deck) -> list[LearntLabel]:
    """The labels that no member of a committee trained on `labelled` has learnt."""
    items = list(itertools.chain.from_iterable(_by_molecule(labelled)))
    keys = list(itertools.chain.from_iterable(group.keys() for group in groups_of(labelled)))
    always = np.array([item.always for item in items])
    common, _ = held_out(keys, range(deck.model.members), deck.seed, deck.training.validation, always)
    return [item for item, out in zip(items, common, strict=True) if out]


def _group(members: list[LearntLabel]) -> LabelledGroup:
    first = members[0].structure
    everything = np.ones(len(first), bool)
    masked = any(item.forces is not None for item in members)
    labels = [item.label for item in members]
    return LabelledGroup(
        numbers=first.numbers,
        positions=np.array([item.structure.positions for item in members]),
        energies=np.array([label.energy for label in labels]),
        forces=np.array([label.forces for label in labels]),
        dipoles=np.array([label.dipole for label in labels]) if np.isfinite(labels[0].dipole).all() else None,
        charge=first.charge,
        multiplicity=first.multiplicity,
        force_mask=np.array([everything if m.forces is None else m.forces for m in members]) if masked else None,
        always_learnt=np.array([item.always for item in members]),
        polar_tensors=stacked_polar_tensors([label.polar_tensors for label in labels], len(first)),
    )


# Where trainings in progress are, in the run directory.
CHECKPOINTS = layout.TRAININGS
# The charge networks' largest learning rate in a retraining.
RETRAIN_DIPOLE_RATE = 5e-4


@collective
def require_device(comm: Communicator, settings: TrainingSettings) -> None:
    """Raise InputError on every rank when a node cannot train on the deck's device (collective)."""
    if settings.device == "cpu":
        return
    gathered = comm.gather(device_problem(settings.device) if comm.node_rank == 0 else "")

    def raise_problem() -> None:
        problem = next(filter(None, gathered or []), "")
        if problem:
            raise InputError(
                problem,
                where="training.device",
                value=settings.device,
                hint="start it where there is a GPU, with a torch that was built for it, or give device: cpu",
            )

    on_root(comm, raise_problem)


class CommitteeTrainer:
    """Trains the committee again and again on a growing set."""

    def __init__(self, context: Context, functions: SymmetryFunctionSet) -> None:
        self.context = context
        self.functions = functions
        self.data: TrainingData | None = None
        # Fixed beforehand where the first labels do not represent the later ones; else fitted to them.
        self.reductions: dict[int, Reduction] | None = None
        # Errors of the last training's model on the labels that it held out (rank 0).
        self.held_out: dict[str, Sums] = {}
        # Teams by the parts of a batch: communicators are few, and trainings many.
        self._teams: dict[int, Team | None] = {}
        # The members' training sets of the last training: a longer one follows where a short one was not enough.
        self._taught: tuple[str, dict[int, TrainingData]] | None = None

    @collective
    def train(
        self,
        labelled: Sequence[LearntLabel] | None,
        *,
        level: str,
        start: Model | None,
        steps: int,
        purpose: str,
        below: Below | None = None,
        errors: dict[str, float] | None = None,
    ) -> Model:
        """Train all members on rank 0's labels (collective); the same model on every rank.

        below: the level to which the Gaussian process of the labels is the difference. errors: of an earlier model on
        what it held out; with them all labels are learnt, and the model carries these.
        """
        groups = self.context.at_root(lambda: groups_of(labelled or []))
        return self.train_groups(
            groups, level=level, start=start, steps=steps, purpose=purpose, below=below, errors=errors
        )

    @collective
    def train_groups(
        self,
        groups: list[LabelledGroup] | None,
        *,
        level: str,
        start: Model | None,
        steps: int,
        purpose: str,
        below: Below | None = None,
        errors: dict[str, float] | None = None,
    ) -> Model:
        """Train on rank 0's groups, in which energies, forces or dipoles may be missing; see `train` (collective)."""
        context, comm = self.context, self.context.comm
        require_device(comm, context.deck.training)
        groups = comm.bcast(groups) or []
        parts = batch_parts(groups, self.functions.n_features, context.deck.training)
        members, team = self._share(parts)
        models: list[tuple[int, Model]] = []
        beneath = level_below(context, below, groups)
        if team is not None:
            key = self._key(groups, start, below, errors is None)
            sets = self._sets(key, groups, start, beneath, members, team.comm, errors is None)
            models = self._train_members(sets, team, digest(key, steps), start, steps, purpose, errors is None)
        gathered = comm.gather(models if team is not None and team.leads else [])
        model = self._join(gathered, level, errors) if gathered is not None else None
        joined: Model = comm.bcast(model)
        return joined

    def forget(self) -> None:
        """Remove the trainings in progress, once their results are saved (rank 0), and the last training sets."""
        self._taught = None
        if self.context.root:
            shutil.rmtree(self.context.directory / CHECKPOINTS, ignore_errors=True)

    def _share(self, parts: int) -> tuple[list[int], Team | None]:
        """This rank's members, and the ranks that train them with it (None: not needed). Members are spread over ranks;
        where there are more ranks than members, neighbouring ranks share one."""
        comm, count = self.context.comm, self.context.deck.model.members
        if comm.size <= count:
            return list(range(count))[comm.rank :: comm.size], Team(SerialCommunicator(), parts)
        teams = np.arange(comm.size) * count // comm.size
        member = int(teams[comm.rank])
        if parts not in self._teams:
            self._teams[parts] = form_team(comm, np.flatnonzero(teams == member).tolist(), parts)
        return [member], self._teams[parts]

    def _sets(
        self,
        key: str,
        groups: list[LabelledGroup],
        start: Model | None,
        below: LevelBelow | None,
        members: list[int],
        comm: Communicator,
        hold_out: bool,
    ) -> dict[int, TrainingData]:
        """The training set of each member; those of the last training where it was of the same `key`."""
        from hpcir.training.regression.teacher import taught_sets  # with torch, which takes seconds to import

        if self._taught is None or self._taught[0] != key:
            self._taught = None  # makes room
            self.data, deck = self._data(groups, start, comm), self.context.deck
            sets = taught_sets(
                self.data, deck.model, deck.training, members=members, seed=deck.seed, below=below, hold_out=hold_out
            )
            self._taught = key, sets
        return self._taught[1]

    def _key(self, groups: list[LabelledGroup], start: Model | None, below: Below | None, hold_out: bool) -> str:
        """A digest of all that a training in progress depends on, except the member and the number of steps."""
        settings = self.context.deck.model_dump(mode="json", include={"model", "training", "seed"})
        labels = list(itertools.chain.from_iterable(group.keys() for group in groups))
        masks = [m for group in groups for m in (group.force_mask, group.always_learnt) if m is not None]
        values = [v for group in groups for v in (group.energies, group.forces, group.dipoles) if v is not None]
        models = ["" if start is None else start.digest, "" if below is None else below.key()]
        return digest(__version__, settings, hold_out, labels, *masks, *values, *models)

    def _data(self, groups: list[LabelledGroup], start: Model | None, comm: Communicator) -> TrainingData:
        """The training set, with the start's reduction of the symmetry functions where there is a start.

        Computed anew each time: a resumed run has no earlier set to extend, and must come to the same bits.
        """
        if start is None and self.reductions is not None:
            empty = TrainingData(self.functions, self.reductions, (), self.context.deck.training.precision)
            return empty.extended(groups, comm)
        deck = self.context.deck
        reduction = None if start is None else start.energy
        return TrainingData.build(
            groups, self.functions, deck.training.precision, start=reduction, max_inputs=deck.model.inputs, comm=comm
        )

    def _train_members(
        self,
        sets: dict[int, TrainingData],
        team: Team,
        key: str,
        start: Model | None,
        steps: int,
        purpose: str,
        hold_out: bool,
    ) -> list[tuple[int, Model]]:
        """This rank's members on a training set each, one after the other, each from where a stopped run left it.

        Stacked they would take 0.7 of the time, but the last bits of a product depend on how many are stacked, and so
        the models on the number of ranks.
        """
        from hpcir.training.train import STATE_FORMAT, train_members  # with torch, which takes seconds to import

        context, training = self.context, self.context.deck.training
        models: list[tuple[int, Model]] = []
        with context.progress.stage(f"train {purpose}", total=steps * len(sets), unit="steps") as stage:

            def report(figures: dict[str, Any]) -> None:
                done = len(models) * steps + int(figures.pop("step", 0))
                shown = {
                    f"{name}_{unit}": figures[name] / size
                    for name, (unit, size) in LOG_ERRORS.items()
                    if name in figures
                }
                stage.advance_to(done, **shown)

            for member, data in sets.items():
                path = context.directory / layout.training_file(member)
                checkpoint = TrainingCheckpoint(path, digest(key, member, STATE_FORMAT), team.comm, context.stop)
                before = checkpoint.load()
                if before is not None and team.leads:
                    context.progress.log(f"member {member} resumes at step {int(before['step'])} of {steps}")
                model, state = train_members(
                    data.of_member(member),
                    context.deck.model,
                    training,
                    members=[member],
                    seed=context.deck.seed,
                    start=start,
                    steps=steps,
                    on_progress=report,
                    on_checkpoint=checkpoint.keep,
                    state=before,
                    device=torch_device(training.device, member),
                    energy_rate=None if start is None else training.retrain_rate,
                    dipole_rate=RETRAIN_DIPOLE_RATE if start is not None and start.has_dipole else None,
                    hold_out=hold_out,
                    team=team,
                )
                checkpoint.save(state)
                models.append((member, model))
        return models

    def _join(self, gathered: list[list[tuple[int, Model]]], level: str, error: dict[str, float] | None) -> Model:
        """One committee of all ranks' members; error: its held-out errors, measured here when None."""
        from hpcir.training.train import join_members

        trained = dict(pair for part in gathered for pair in part)
        joined = join_members([trained[member] for member in sorted(trained)])
        assert self.data is not None  # rank 0 trains member 0, so it has the data
        if error is None:
            seed, validation = self.context.deck.seed, self.context.deck.training.validation
            self.held_out, count = held_out_sums(joined, self.data, seed, validation)
            error = {"held_out": float(count), **error_figures(self.held_out)}
        return replace(joined, level=level, error=error, total_charge=self.context.structure.charge)
