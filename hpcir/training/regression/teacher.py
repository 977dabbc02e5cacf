"""Values of a Gaussian process of the labels at geometries around them, as further labels for the networks.

A few hundred labels leave a network much freedom between them; the process interpolates them with a third to a half of
the network's error (docs/benchmarks-published.md). So networks learn its values at displaced geometries beside the
labels, and dynamics has the networks' speed. Every committee member learns another draw of the process's posterior, by
turns above and below the mean: the members' spread is the process's own uncertainty, and their mean close to its mean.
A member's process does not know what the member holds out. Where there is a cheaper level of theory below, the process
is that of the difference to it: to its labels where they cost next to nothing, else to its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import BoolArray, FloatArray
from hpcir.deck.sections import ModelSettings, TrainingSettings
from hpcir.descriptors.definition import functions_of
from hpcir.models.model import Model
from hpcir.training.dataset import (
    GroupTensors,
    LabelledGroup,
    TrainingData,
    dipole_operator,
    estimated_bytes,
    fit_sample,
)
from hpcir.training.regression.baseline import Baseline, Constants, LabelsBelow, ModelBelow, Values
from hpcir.training.regression.covariance import ranges_of
from hpcir.training.regression.description import Description
from hpcir.training.regression.dipoles import Charged, DipoleProcess
from hpcir.training.regression.process import AtomicPolynomial, AtomicProcess, Fit, Targets
from hpcir.training.regression.solvers import MAX_DENSE_ROWS
from hpcir.training.split import held_out, stream
from hpcir.units import ANGSTROM

# Displaced geometries: some for each label, within these bounds; normally distributed steps of every coordinate.
PLACES_PER_LABEL, MIN_PLACES, MAX_PLACES = 4, 1000, 2000
DISPLACEMENT = 0.03 * ANGSTROM
# Bytes of their derivatives, at most: of large molecules there are fewer.
MAX_PLACES_BYTES = 2**30
# Root mean square of what a process may miss of its labels, over theirs, if that is more than the spread of its draws
# between them: of few inputs, as two atoms have, the kernel's polynomials are too few for a bond's whole range.
MAX_MISFIT = 1e-3
# Displaced geometries that the spread is taken at.
SPREAD_PLACES = 100
# Channels of the process's symmetry functions, at least.
CHANNELS = 16


@dataclass(frozen=True)
class LevelBelow:
    """The level of theory below the one that is learnt: its model, and its values at the labels' geometries and at the
    displaced ones, group by group, where they were calculated; elsewhere those of its model count."""

    model: Model
    at_labels: Sequence[Values] | None = None
    at_places: Sequence[Values] | None = None


def rows_of(groups: Sequence[LabelledGroup]) -> int:
    """Rows of the process of some labels: their energies and force components."""
    return sum(len(g) * ((g.energies is not None) + 3 * len(g.numbers)) for g in groups)


def has_process(groups: Sequence[LabelledGroup], training: TrainingSettings) -> bool:
    """False where the deck asks for no process or the labels are too many for one (`training.process`), or where they
    have no forces."""
    return all(group.forces is not None for group in groups) and rows_of(groups) <= training.process


def taught_sets(
    data: TrainingData,
    model: ModelSettings,
    training: TrainingSettings,
    *,
    members: Sequence[int],
    seed: int,
    below: LevelBelow | None = None,
    hold_out: bool = True,
) -> dict[int, TrainingData]:
    """The training set of each member: its labels, and what the member's process knows around them; the labels alone
    where there is no process (`has_process`). below: see `Teacher`."""
    if not has_process([tensors.group for tensors in data.groups], training):
        return dict.fromkeys(members, data)
    return Teacher(data, model, below, seed).taught(members, hold_out, training.validation)


@dataclass(frozen=True)
class _MemberDraw:
    """A member's draw: its polynomial and dipoles beyond the level below."""

    member: int
    baseline: Baseline
    polynomial: AtomicPolynomial
    dipoles: list[FloatArray]


class Teacher:
    """The processes of a training set, for all members.

    data: its labels. below: the level that the process is the difference to (None: to constant atomic energies). seed:
    of the deck.
    """

    def __init__(self, data: TrainingData, model: ModelSettings, below: LevelBelow | None, seed: int) -> None:
        self.seed, self.with_vectors = seed, model.dipole == "charges+dipoles"
        data = data if below is None else data.reduced_like(below.model.energy)
        self.data = data
        groups = [t.group for t in data.groups]
        functions = functions_of(
            model.model_copy(update={"channels": max(CHANNELS, 2 * model.channels)}), data.elements
        )
        self.description = Description.fitted(functions, fit_sample(groups))
        places, values = displaced(groups, seed, model.inputs), None if below is None else below.at_places
        if values is not None:
            places, values = _with_values(places, values)
        self.extended = data.extended([*groups, *places])
        self.places = self.extended.groups[len(groups) :]
        self.baselines: list[Baseline] = [Constants(data, self.with_vectors)]
        if below is not None:
            self.baselines.insert(0, self._baseline(below, values))
        precision = np.float64 if rows_of(groups) <= MAX_DENSE_ROWS else np.float32
        described = [self.description.describe(g.numbers, g.positions, precision) for g in groups]
        self.process = AtomicProcess(described)
        self.dipoles: DipoleProcess | None = None
        if all(group.dipoles is not None for group in groups):
            at_labels = [self._charged(t, d.inputs) for t, d in zip(data.groups, described, strict=True)]
            at_places = [
                self._charged(t, self.description.inputs(t.group.numbers, t.group.positions)) for t in self.places
            ]
            self.dipoles = DipoleProcess(at_labels, at_places)

    def _baseline(self, below: LevelBelow, at_places: Sequence[Values] | None) -> Baseline:
        """The level below: its labels where they were calculated, else its model."""
        model = ModelBelow(below.model, self.extended, self.with_vectors)
        if below.at_labels is None:
            return model
        found = [*below.at_labels, *(at_places or [])]
        return LabelsBelow(self.extended, found, self.with_vectors, model)

    def taught(self, members: Sequence[int], hold_out: bool, validation: float) -> dict[int, TrainingData]:
        """For each member the labels, and the values of its draw at the displaced geometries as groups after them; the
        labels alone where the process does not come through them."""
        _, mine = held_out(self.data.keys, members, self.seed, validation, self.data.always_learnt)
        learnt = ~mine if hold_out else np.ones_like(mine)
        firsts = np.cumsum([0, *(len(t.group) for t in self.data.groups)])
        parts = [np.split(row, firsts[1:-1]) for row in learnt]
        found = [self._draw(member, part) for member, part in zip(members, parts, strict=True)]
        draws = [draw for draw in found if draw is not None]
        sets = dict.fromkeys(members, self.data)
        if not draws:
            return sets
        values = [
            self.description.evaluate([draw.polynomial for draw in draws], t.group.numbers, t.group.positions)
            for t in self.places
        ]
        for row, draw in enumerate(draws):
            sets[draw.member] = self._set(draw, [(energies[row], forces[row]) for energies, forces in values])
        return sets

    def _draw(self, member: int, learnt: list[BoolArray]) -> _MemberDraw | None:
        """The draw of one member that learns those labels, of the difference to the level below if that is the
        smoother: models of few labels may be rougher than what they are to help with."""
        fits = [(baseline, self._fit(member, learnt, baseline)) for baseline in self.baselines]
        baseline, fit = min(fits, key=lambda pair: pair[1].size)
        drawn = self.process.drawn(fit, self.seed, member // 2)
        if fit.misfit > MAX_MISFIT and fit.missed > self._spread(drawn):
            return None
        polynomial = fit.mean.plus(drawn, _sign(member))
        return _MemberDraw(member, baseline, polynomial, self._dipoles(member, learnt, baseline))

    def _spread(self, drawn: AtomicPolynomial) -> float:
        """Root mean square of what a draw adds to the forces at some of the displaced geometries."""
        group = max((tensors.group for tensors in self.places), key=len)
        forces = self.description.evaluate([drawn], group.numbers, group.positions[:SPREAD_PLACES])[1]
        return float(np.sqrt(np.mean(forces**2)))

    def _set(self, draw: _MemberDraw, values: list[tuple[FloatArray, FloatArray]]) -> TrainingData:
        """The training set of one member, from its polynomial's energies and forces at the displaced geometries."""
        found = list(self.extended.groups[: len(self.data.groups)])
        for number, (place, (energies, forces)) in enumerate(zip(self.places, values, strict=True)):
            below = draw.baseline.values(place, draw.member)
            group = replace(
                place.group,
                energies=energies + below.energies,
                forces=forces + below.forces,
                dipoles=None if self.dipoles is None else draw.dipoles[number] + below.dipoles,
            )
            found.append(replace(place, group=group))
        return replace(self.extended, groups=tuple(found))

    def _fit(self, member: int, learnt: list[BoolArray], baseline: Baseline) -> Fit:
        """The process of one member from what it learns."""
        targets = []
        for tensors, used in zip(self.extended.groups, learnt, strict=False):
            group, level = tensors.group, baseline.values(tensors, member)
            count, known = len(group), used & level.known
            assert group.forces is not None
            energies = np.zeros(count) if group.energies is None else group.energies - level.energies
            mask = np.ones(group.forces.shape[:2], bool) if group.force_mask is None else group.force_mask
            targets.append(
                Targets(
                    energies,
                    (level.forces - group.forces).reshape(count, -1),
                    known & (group.energies is not None),
                    np.repeat(mask & known[:, None], 3, axis=1),
                )
            )
        return self.process.fitted(targets)

    def _dipoles(self, member: int, learnt: list[BoolArray], baseline: Baseline) -> list[FloatArray]:
        """Dipoles (S, 3) at the displaced geometries of one member's draw, without those below; none without labels."""
        if self.dipoles is None:
            return []
        values, known = [], []
        for tensors, used in zip(self.extended.groups, learnt, strict=False):
            level = baseline.values(tensors, member)
            assert tensors.group.dipoles is not None  # there is no process of dipoles else
            values.append(tensors.group.dipoles - level.dipoles)
            known.append(used & level.known)
        pairs = self.dipoles.fitted(values, known, self.seed, member // 2)
        return [mean + _sign(member) * drawn for mean, drawn in pairs]

    def _charged(self, tensors: GroupTensors, inputs: FloatArray) -> Charged:
        operator = dipole_operator(tensors, self.with_vectors)[0]
        group, ranges = tensors.group, ranges_of(tensors.group.numbers, self.data.elements)
        return Charged(inputs, operator.reshape(len(group), 3, len(group.numbers), -1).astype(float), ranges)


def _sign(member: int) -> float:
    """Two members lie on both sides of the mean."""
    return 1.0 if member % 2 == 0 else -1.0


def displaced(groups: Sequence[LabelledGroup], seed: int, n_inputs: int) -> list[LabelledGroup]:
    """Geometries around those of the labels, in proportion; nothing of them is ever held out. groups: atoms sorted by
    element, as in a training set; n_inputs: most inputs of an atom."""
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
                multiplicity=group.multiplicity,
                force_mask=None if group.force_mask is None else group.force_mask[rows],
                always_learnt=np.ones(len(rows), bool),
                taught=True,
            )
        )
    return found


def _with_values(places: Sequence[LabelledGroup], values: Sequence[Values]) -> tuple[list[LabelledGroup], list[Values]]:
    """The displaced geometries that have values of the level below, and these."""
    found, kept = [], []
    for place, level in zip(places, values, strict=True):
        rows = np.flatnonzero(level.known)
        if len(rows):
            found.append(place.of(rows))
            kept.append(level.of(rows))
    return found, kept
