"""Training a committee over ranks: members dealt to ranks, joined in order on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpcir.descriptors.definition import SymmetryFunctionSet, automatic_set
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.stages.context import Context
from hpcir.structures import Structure
from hpcir.training.dataset import LabelledGroup, TrainingData
from hpcir.training.evaluation import Sums, error_figures, held_out_sums
from hpcir.training.reduction import Reduction
from hpcir.training.train import join_members, train_members


def symmetry_functions(context: Context, elements: Sequence[int] | None = None) -> SymmetryFunctionSet:
    """The deck's symmetry functions for these elements (default: those of the molecule)."""
    settings = context.deck.model
    return automatic_set(
        tuple(sorted(set(context.structure.numbers.tolist() if elements is None else elements))),
        settings.cutoff,
        settings.radial,
        settings.shells,
        tuple(settings.zetas),
        settings.cutoff_function,
    )


def groups_of(
    labelled: Sequence[tuple[Structure, Label]], always_learnt: Sequence[bool] | None = None
) -> list[LabelledGroup]:
    """Labels as training groups, one for each molecule (same atoms in the same order, same charge).

    always_learnt: for each label, whether it may not be held out (None: all may).
    """
    gathered: dict[tuple[Any, ...], list[tuple[Structure, Label, bool]]] = {}
    for (structure, label), always in zip(labelled, always_learnt or [False] * len(labelled), strict=True):
        gathered.setdefault((structure.charge, *structure.numbers.tolist()), []).append((structure, label, always))
    return [
        LabelledGroup(
            numbers=members[0][0].numbers,
            positions=np.array([structure.positions for structure, _, _ in members]),
            energies=np.array([label.energy for _, label, _ in members]),
            forces=np.array([label.forces for _, label, _ in members]),
            dipoles=np.array([label.dipole for _, label, _ in members]),
            charge=members[0][0].charge,
            always_learnt=np.array([always for _, _, always in members]),
        )
        for members in gathered.values()
    ]


# The charge networks' largest learning rate in a retraining.
RETRAIN_DIPOLE_RATE = 1e-3


class CommitteeTrainer:
    """Trains the committee again and again on a growing set."""

    def __init__(self, context: Context, functions: SymmetryFunctionSet) -> None:
        self.context = context
        self.functions = functions
        self.data: TrainingData | None = None
        # Fixed beforehand where the first labels do not know yet what is to come; else fitted to them.
        self.reductions: dict[int, Reduction] | None = None
        # What the last training's model misses of the labels that it held out (rank 0).
        self.held_out: dict[str, Sums] = {}

    def groups(
        self, labelled: Sequence[tuple[Structure, Label]], always_learnt: Sequence[bool] | None = None
    ) -> list[LabelledGroup]:
        """What is learnt of the labels, one group for each molecule (see `groups_of`)."""
        return groups_of(labelled, always_learnt)

    def train(
        self,
        labelled: Sequence[tuple[Structure, Label]] | None,
        *,
        level: str,
        start: Model | None,
        steps: int,
        purpose: str,
        always_learnt: Sequence[bool] | None = None,
        hold_out: bool = True,
    ) -> Model:
        """Train all members on rank 0's labels (collective); the same model on every rank.

        always_learnt: see `groups_of`. hold_out: with False all labels are learnt, and the model keeps the errors that
        its start had on held-out ones.
        """
        groups = self.groups(labelled or [], always_learnt) if self.context.root else None
        return self.train_groups(groups, level=level, start=start, steps=steps, purpose=purpose, hold_out=hold_out)

    def train_groups(
        self,
        groups: list[LabelledGroup] | None,
        *,
        level: str,
        start: Model | None,
        steps: int,
        purpose: str,
        hold_out: bool = True,
    ) -> Model:
        """The same from rank 0's groups, in which energies, forces or dipoles may be missing (collective)."""
        context = self.context
        groups = context.comm.bcast(groups)
        members = list(range(context.deck.model.members))[context.comm.rank :: context.comm.size]
        part: Model | None = None
        if members:
            self.data = self._data(groups or [], start)
            part = self._train_part(self.data, members, start, steps, purpose, hold_out)
        parts = context.comm.gather(part)
        kept = None if hold_out or start is None else start.error
        model = self._join(parts, level, kept) if parts is not None else None
        joined: Model = context.comm.bcast(model)
        return joined

    def _data(self, groups: list[LabelledGroup], start: Model | None) -> TrainingData:
        """The training set, with the start's reduction of the symmetry functions where there is a start.

        Computed anew each time: a resumed run has no earlier set to extend, and must come to the same bits.
        """
        if start is None and self.reductions is not None:
            empty = TrainingData(self.functions, self.reductions, (), self.context.deck.training.precision)
            return empty.extended(groups)
        reduction = None if start is None else start.energy
        return TrainingData.build(groups, self.functions, self.context.deck.training.precision, start=reduction)

    def _train_part(
        self, data: TrainingData, members: list[int], start: Model | None, steps: int, purpose: str, hold_out: bool
    ) -> Model:
        """This rank's members, one after the other.

        Stacked they would take 0.7 of the time, but the last bits of a product depend on how many are stacked, and so
        the models on the number of ranks.
        """
        context, training = self.context, self.context.deck.training
        models: list[Model] = []
        with context.progress.stage(f"train {purpose}", total=steps * len(members)) as stage:

            def report(figures: dict[str, Any]) -> None:
                context.stop.check()
                done = len(models) * steps + int(figures.pop("step", 0))
                stage.advance_to(done, **{name: value for name, value in figures.items() if name.endswith("_rmse")})

            for member in members:
                model, _ = train_members(
                    data,
                    context.deck.model,
                    training,
                    members=[member],
                    seed=context.deck.seed,
                    start=start,
                    steps=steps,
                    on_progress=report,
                    energy_rate=None if start is None else training.retrain_rate,
                    dipole_rate=None if start is None else RETRAIN_DIPOLE_RATE,
                    hold_out=hold_out,
                )
                models.append(model)
        return join_members(models)

    def _join(self, parts: list[Model | None], level: str, error: dict[str, float] | None) -> Model:
        """One committee of all ranks' parts; error: its held-out errors, measured here when None."""
        size = self.context.comm.size
        total = self.context.deck.model.members
        present = [part for part in parts if part is not None]
        singles = []
        for member in range(total):
            part = present[member % size]
            singles.append(member_of(part, member // size))
        joined = join_members(singles)
        assert self.data is not None  # rank 0 trains member 0, so it has the data
        if error is None:
            seed, validation = self.context.deck.seed, self.context.deck.training.validation
            self.held_out, count = held_out_sums(joined, self.data, seed, validation)
            error = {"held_out": float(count), **error_figures(self.held_out)}
        return replace(joined, level=level, error=error, total_charge=self.context.structure.charge)


def member_of(model: Model, index: int) -> Model:
    """A model of one member of a committee."""
    return replace(
        model,
        energy={element: committee.member(index) for element, committee in model.energy.items()},
        charge={element: committee.member(index) for element, committee in model.charge.items()},
    )
