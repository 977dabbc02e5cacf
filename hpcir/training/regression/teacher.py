"""Values of a Gaussian process of the labels at geometries around them, as further labels for the networks.

A few hundred labels leave a network much freedom between them; the process interpolates them with a third to a half of
the network's error (docs/benchmarks-published.md). So networks learn its values at displaced geometries beside the
labels, and dynamics has the networks' speed. Every committee member learns another draw of the process's posterior, by
turns above and below the mean: the members' spread is the process's own uncertainty, and their mean close to its mean.
A member's process does not know what the member holds out. Where a training starts from a model of a cheaper level of
theory, the process is that of the difference to this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.deck.sections import ModelSettings, TrainingSettings
from hpcir.descriptors.definition import functions_of
from hpcir.models.model import Model
from hpcir.training.batches import fit_offsets
from hpcir.training.dataset import (
    GroupTensors,
    LabelledGroup,
    TrainingData,
    dipole_operator,
    estimated_bytes,
    fit_sample,
)
from hpcir.training.evaluation import predict
from hpcir.training.regression.description import Description
from hpcir.training.regression.dipoles import Charged, DipoleProcess
from hpcir.training.regression.process import AtomicProcess, Fit, Targets
from hpcir.training.split import held_out, stream
from hpcir.units import ANGSTROM

# Displaced geometries: some for each label, within these bounds; normally distributed steps of every coordinate.
PLACES_PER_LABEL, MIN_PLACES, MAX_PLACES = 4, 1000, 2000
DISPLACEMENT = 0.03 * ANGSTROM
# Bytes of their derivatives, at most: of large molecules there are fewer.
MAX_PLACES_BYTES = 2**30
# Root mean square of what a process may miss of its labels, over theirs: of few inputs, as two atoms have, the kernel's
# polynomials are too few for a bond's whole range.
MAX_MISFIT = 1e-3
# Channels of the process's symmetry functions, at least.
CHANNELS = 16


def rows_of(groups: Sequence[LabelledGroup]) -> int:
    """Rows of the process of some labels: their energies and force components."""
    return sum(len(g) * ((g.energies is not None) + 3 * len(g.numbers)) for g in groups)


def taught_sets(
    data: TrainingData,
    model: ModelSettings,
    training: TrainingSettings,
    *,
    members: Sequence[int],
    seed: int,
    base: Model | None = None,
    hold_out: bool = True,
) -> dict[int, TrainingData]:
    """The training set of each member: its labels, and what the member's process knows around them.

    The labels alone where the deck asks for no process or they are too many for one (`training.process`), or where
    they have no forces. base: see `Teacher`.
    """
    groups = [tensors.group for tensors in data.groups]
    if not all(group.forces is not None for group in groups) or rows_of(groups) > training.process:
        return dict.fromkeys(members, data)
    return Teacher(data, model, base, seed).taught(members, hold_out, training.validation)


@dataclass(frozen=True)
class _Base:
    """Values of one group below a member's process: energies (S,), forces (S, N, 3), dipoles (S, 3)."""

    energies: FloatArray
    forces: FloatArray
    dipoles: FloatArray


class Teacher:
    """The processes of a training set, for all members.

    data: its labels. base: the model that the process is the difference to (None: to constant atomic energies); its
    member m that of member m (m modulo its members). seed: of the deck.
    """

    def __init__(self, data: TrainingData, model: ModelSettings, base: Model | None, seed: int) -> None:
        self.base, self.seed = base, seed
        data = data if base is None else data.reduced_like(base.energy)
        self.data = data
        groups = [t.group for t in data.groups]
        functions = functions_of(
            model.model_copy(update={"channels": max(CHANNELS, 2 * model.channels)}), data.elements
        )
        self.description = Description.fitted(functions, fit_sample(groups))
        displaced = _displaced(groups, seed, data.n_inputs)
        self.extended = data.extended([*groups, *displaced])
        self.places = self.extended.groups[len(groups) :]
        described = [self.description.describe(g.numbers, g.positions) for g in groups]
        self.process = AtomicProcess(described)
        self.dipoles: DipoleProcess | None = None
        self.with_vectors = model.dipole == "charges+dipoles"
        if all(group.dipoles is not None for group in groups):
            at_labels = [self._charged(t, d.inputs) for t, d in zip(data.groups, described, strict=True)]
            at_places = [
                self._charged(t, self.description.inputs(t.group.numbers, t.group.positions)) for t in self.places
            ]
            self.dipoles = DipoleProcess(at_labels, at_places)

    def taught(self, members: Sequence[int], hold_out: bool, validation: float) -> dict[int, TrainingData]:
        """For each member the labels, and the values of its draw at the displaced geometries as groups after them; the
        labels alone where the process does not come through them."""
        _, mine = held_out(self.data.keys, members, self.seed, validation, self.data.always_learnt)
        learnt = ~mine if hold_out else np.ones_like(mine)
        firsts = np.cumsum([0, *(len(t.group) for t in self.data.groups)])
        parts = [np.split(row, firsts[1:-1]) for row in learnt]
        return {member: self._taught(member, part) for member, part in zip(members, parts, strict=True)}

    def _taught(self, member: int, learnt: list[BoolArray]) -> TrainingData:
        """The training set of one member that learns those labels. With a base the process is of the difference to it,
        if that is the smoother: models of few labels may be rougher than what they are to help with."""
        bases = [None] if self.base is None else [self.base, None]
        fits = [(base, self._fit(member, learnt, base)) for base in bases]
        base, fit = min(fits, key=lambda pair: pair[1].size)
        if fit.misfit > MAX_MISFIT:
            return self.data
        polynomial = fit.mean.plus(fit.drawn, _sign(member))
        dipoles = self._dipoles(member, learnt, base)
        found = list(self.extended.groups[: len(self.data.groups)])
        for number, place in enumerate(self.places):
            group, below = place.group, self._below(place, member, base)
            energies, forces = self.description.evaluate([polynomial], group.numbers, group.positions)
            values = replace(
                group,
                energies=energies[0] + below.energies,
                forces=forces[0] + below.forces,
                dipoles=None if self.dipoles is None else dipoles[number] + below.dipoles,
            )
            found.append(replace(place, group=values))
        return replace(self.extended, groups=tuple(found))

    def _below(self, tensors: GroupTensors, member: int, base: Model | None) -> _Base:
        """Values of a group below its process: of a base, with what the labels' mean energies are beyond its
        own, or constant atomic energies and the constant part of `dipole_operator`."""
        group = tensors.group
        constant = dipole_operator(tensors, self.with_vectors)[1]
        offsets = fit_offsets(self.data, base)
        if base is None:
            level = np.full(len(group), sum(offsets[int(z)] for z in group.numbers))
            return _Base(level, np.zeros(group.positions.shape), constant)
        found = predict(base, self.extended, tensors)
        row = member % base.members
        assert found.forces is not None
        level = found.energies[row] + sum(offsets[int(z)] - base.offsets[int(z)] for z in group.numbers)
        return _Base(level, found.forces[row], constant if found.dipoles is None else found.dipoles[row])

    def _fit(self, member: int, learnt: list[BoolArray], base: Model | None) -> Fit:
        """The process of one member from what it learns."""
        targets = []
        for tensors, used in zip(self.data.groups, learnt, strict=True):
            group, below = tensors.group, self._below(tensors, member, base)
            count = len(group)
            assert group.forces is not None
            energies = np.zeros(count) if group.energies is None else group.energies - below.energies
            mask = np.ones(group.forces.shape[:2], bool) if group.force_mask is None else group.force_mask
            targets.append(
                Targets(
                    energies,
                    (below.forces - group.forces).reshape(count, -1),
                    used & (group.energies is not None),
                    np.repeat(mask & used[:, None], 3, axis=1),
                )
            )
        return self.process.fitted(targets, self.seed, member // 2)

    def _dipoles(self, member: int, learnt: list[BoolArray], base: Model | None) -> list[FloatArray]:
        """Dipoles (S, 3) at the displaced geometries of one member's draw, without the base's; none without labels."""
        if self.dipoles is None:
            return []
        values = [
            t.group.dipoles - self._below(t, member, base).dipoles
            for t in self.data.groups
            if t.group.dipoles is not None
        ]
        pairs = self.dipoles.fitted(values, learnt, self.seed, member // 2)
        return [mean + _sign(member) * drawn for mean, drawn in pairs]

    def _charged(self, tensors: GroupTensors, inputs: FloatArray) -> Charged:
        operator = dipole_operator(tensors, self.with_vectors)[0]
        group, elements = tensors.group, self.data.elements
        ranges = np.array([np.searchsorted(group.numbers, [z, z + 1]) for z in elements], np.int64)
        return Charged(inputs, operator.reshape(len(group), 3, len(group.numbers), -1).astype(float), ranges)


def _sign(member: int) -> float:
    """Two members lie on both sides of the mean."""
    return 1.0 if member % 2 == 0 else -1.0


def _displaced(groups: Sequence[LabelledGroup], seed: int, n_inputs: int) -> list[LabelledGroup]:
    """Geometries around those of the labels, in proportion; nothing of them is ever held out."""
    total = sum(map(len, groups))
    largest = max(len(group.numbers) for group in groups)
    wanted = min(max(PLACES_PER_LABEL * total, MIN_PLACES), MAX_PLACES)
    wanted = min(wanted, MAX_PLACES_BYTES // estimated_bytes(1, largest, largest, n_inputs))
    found = []
    for number, group in enumerate(groups):
        random = stream(seed, "displaced geometries", number)
        rows = np.arange(-(-wanted * len(group) // total)) % len(group)
        positions = group.positions[rows] + DISPLACEMENT * random.standard_normal(
            (len(rows), *group.positions.shape[1:])
        )
        found.append(
            LabelledGroup(
                group.numbers,
                positions,
                charge=group.charge,
                force_mask=None if group.force_mask is None else group.force_mask[rows],
                always_learnt=np.ones(len(rows), bool),
                taught=True,
            )
        )
    return found
