"""A training set on the device where it is trained: targets in scaled units, and batches cut from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcir.arrays import FloatArray
from hpcir.deck.sections import ModelSettings
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.descriptors.derivatives import atomic_dipole_slopes, element_indices
from hpcir.models.model import Model
from hpcir.training.dataset import GroupTensors, LabelledGroup, TrainingData, dipole_operator
from hpcir.training.evaluation import predict
from hpcir.training.jacobian import Jacobian
from hpcir.training.network import BatchGroup
from hpcir.training.polar import PolarTargets, VectorSlopes

Tensor = torch.Tensor

# How much a label without any force counts more than one with usual forces: by 1 + 1 / SOFTENING.
SOFTENING = 0.3


@dataclass(frozen=True)
class BatchCounts:
    """For each member (members,): labels of a batch that it learns, the weights of their dipoles and of their polar
    tensors (None where no label has any)."""

    labels: Tensor
    dipoles: Tensor
    polar: Tensor | None


@dataclass(frozen=True)
class DeviceData:
    """All labels as tensors. unit: hartree of one unit of scaled energy (and hartree/bohr of force); offsets:
    element -> hartree; constant_charges: element -> e, the best constant charges."""

    groups: tuple[BatchGroup, ...]
    firsts: NDArray
    unit: float
    offsets: dict[int, float]
    constant_charges: dict[int, float]
    has_dipoles: bool
    mine: Tensor
    kind: torch.dtype
    device: str

    @classmethod
    def create(
        cls,
        data: TrainingData,
        model_settings: ModelSettings,
        start: Model | None,
        mine: NDArray,
        device: str,
        weighting: str = "equal",
    ) -> DeviceData:
        """mine (members, labels): held out by each member; weighting: see `label_weights`."""
        kind = torch.float32 if data.precision == "float32" else torch.float64
        unit = _unit(data)
        offsets = fit_offsets(data, start)
        with_vectors = model_settings.dipole == "charges+dipoles"
        with_polar = any(tensors.group.polar_tensors is not None for tensors in data.groups)
        groups = tuple(
            _whole_group(t, weights, data, unit, offsets, with_vectors, with_polar, kind, device)
            for t, weights in zip(data.groups, label_weights(data, weighting), strict=True)
        )
        sizes = [len(tensors.group) for tensors in data.groups]
        return cls(
            groups,
            np.concatenate([[0], np.cumsum(sizes)]),
            unit,
            offsets,
            _constant_charges(data),
            any(tensors.group.dipoles is not None for tensors in data.groups),
            torch.as_tensor(mine, device=device),
            kind,
            device,
        )

    def counts(self, indices: NDArray) -> BatchCounts:
        """The divisors of the losses of a batch."""
        learnt = (~self.mine[:, torch.as_tensor(indices, device=self.device)]).to(self.kind)
        having = torch.cat([group.dipole_weights for group in self.groups])[indices]
        polar = None
        if self.has_polar:
            polar = (learnt * torch.cat([g.polar.weights for g in self.groups if g.polar is not None])[indices]).sum(1)
        return BatchCounts(learnt.sum(1), (learnt * having).sum(1), polar)

    @property
    def has_polar(self) -> bool:
        """True where there are polar tensors to learn."""
        return all(group.polar is not None for group in self.groups)

    def batch(self, indices: NDArray, held_out: bool = False) -> list[BatchGroup]:
        """The labels `indices` (numbers over all groups), one BatchGroup a molecule; weight 1 for the members
        that learn a label (or, with held_out, for those that hold it out), 0 for the others."""
        parts = []
        ordered = np.sort(indices)
        for group, first, last in zip(self.groups, self.firsts[:-1], self.firsts[1:], strict=True):
            own = ordered[(ordered >= first) & (ordered < last)]
            if len(own):
                rows = torch.as_tensor(own - first, device=self.device)
                mine = self.mine[:, torch.as_tensor(own, device=self.device)]
                parts.append(_rows(group, rows, (mine if held_out else ~mine).to(self.kind)))
        return parts


def _rows(group: BatchGroup, rows: Tensor, weights: Tensor) -> BatchGroup:
    """The labels `rows` of a group. index_select copies whole rows, at five times the rate of an index in brackets."""

    def of(tensor: Tensor) -> Tensor:
        return tensor.index_select(0, rows)

    return BatchGroup(
        group.slices,
        of(group.inputs),
        group.jacobian.select(rows),
        of(group.energies),
        of(group.energy_weights),
        of(group.forces),
        of(group.force_weights),
        of(group.operator),
        of(group.dipoles),
        of(group.dipole_weights),
        weights,
        None if group.polar is None else group.polar.rows(rows),
    )


def label_weights(data: TrainingData, weighting: str) -> list[FloatArray]:
    """Weights (S,) of each group's labels in the losses, 1 on average over all labels.

    'equal': all 1. 'force': 1 / (SOFTENING + <F^2> / median <F^2>), <F^2> the mean square of a label's learnt force
    components. An error grows with the forces that it is an error of, and a plain sum of squares is made by the hottest
    geometries; frequencies and intensities are made by the coldest.
    """
    squares = [_mean_square_force(tensors.group) for tensors in data.groups]
    labels = [s for s, tensors in zip(squares, data.groups, strict=True) if not tensors.group.taught]
    known = np.concatenate([s[np.isfinite(s)] for s in labels])
    typical = float(np.median(known)) if len(known) else 0.0
    if weighting == "equal" or typical == 0.0:
        return [np.ones(len(s)) for s in squares]
    weights = [np.where(np.isfinite(s), 1 / (SOFTENING + s / typical), 1.0) for s in squares]
    mean = np.concatenate(weights).mean()
    return [w / mean for w in weights]


def _mean_square_force(group: LabelledGroup) -> FloatArray:
    """Mean square (S,) of each label's learnt force components; nan where none is learnt."""
    if group.forces is None:
        return np.full(len(group), np.nan)
    mask = np.ones(group.forces.shape[:2], bool) if group.force_mask is None else group.force_mask
    count = 3 * mask.sum(1)
    total = (np.where(mask[:, :, None], group.forces, 0.0) ** 2).sum((1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _whole_group(
    tensors: GroupTensors,
    label_weight: FloatArray,
    data: TrainingData,
    unit: float,
    offsets: dict[int, float],
    with_vectors: bool,
    with_polar: bool,
    kind: torch.dtype,
    device: str,
) -> BatchGroup:
    group = tensors.group
    count, atoms = len(group), len(group.numbers)
    put = lambda array: torch.as_tensor(np.asarray(array), device=device).to(kind)  # noqa: E731
    energies, energy_weights = np.zeros(count), np.zeros(count)
    if group.energies is not None:
        energies = (group.energies - sum(offsets[int(z)] for z in group.numbers)) / unit
        energy_weights += label_weight
    forces, force_weights = np.zeros((count, atoms, 3)), np.zeros((count, atoms, 3))
    if group.forces is not None:
        mask = np.ones((count, atoms), bool) if group.force_mask is None else group.force_mask
        forces = np.where(mask[:, :, None], group.forces, 0.0) / unit
        force_weights += mask[:, :, None] * (label_weight / np.maximum(3 * mask.sum(1), 1))[:, None, None]
    operator, constant = dipole_operator(tensors, with_vectors)
    dipoles = np.zeros((count, 3)) if group.dipoles is None else group.dipoles - constant
    centres = None if tensors.centres is None else torch.as_tensor(tensors.centres, device=device)
    jacobian = torch.as_tensor(tensors.jacobian, device=device).to(kind)
    return BatchGroup(
        slices=_slices(group.numbers),
        inputs=put(tensors.inputs),
        jacobian=Jacobian(jacobian, centres, torch.arange(count, device=device)),
        energies=put(energies),
        energy_weights=put(energy_weights),
        forces=put(forces.reshape(count, -1)),
        force_weights=put(force_weights.reshape(count, -1)),
        operator=put(operator),
        dipoles=put(dipoles),
        dipole_weights=put(label_weight * float(group.dipoles is not None)),
        weights=torch.zeros(0, device=device),
        polar=_polar_targets(tensors, label_weight, data.functions, with_vectors, put) if with_polar else None,
    )


def _polar_targets(
    tensors: GroupTensors,
    label_weight: FloatArray,
    functions: SymmetryFunctionSet,
    with_vectors: bool,
    put: Callable[[NDArray], Tensor],
) -> PolarTargets:
    """The polar tensors of a group, of weight 0 where a label has none."""
    group = tensors.group
    count, atoms = len(group), len(group.numbers)
    given = np.full((count, atoms, 3, 3), np.nan) if group.polar_tensors is None else group.polar_tensors
    known = np.array([not np.isnan(one).any() for one in given])
    targets = np.where(known[:, None, None, None], given - np.eye(3) * group.charge / atoms, 0.0)
    weights = put(label_weight * known)
    if not (with_vectors and functions.shells):
        return PolarTargets(put(targets), weights)
    across, along, units = (put(part) for part in atomic_dipole_slopes(functions, group.positions))
    elements = torch.as_tensor(element_indices(functions, group.numbers), device=weights.device)
    return PolarTargets(put(targets), weights, VectorSlopes(across, along, units, elements))


def _slices(numbers: NDArray) -> dict[int, slice]:
    return {
        int(z): slice(int(np.searchsorted(numbers, z)), int(np.searchsorted(numbers, z, side="right")))
        for z in np.unique(numbers)
    }


def _unit(data: TrainingData) -> float:
    """Root mean square of a learnt force component, or the spread of energies an atom when there are no forces."""
    learnt = [
        t.group.forces.ravel() if t.group.force_mask is None else t.group.forces[t.group.force_mask].ravel()
        for t in data.labelled
        if t.group.forces is not None
    ]
    components = np.concatenate(learnt) if learnt else np.zeros(0)
    if len(components):
        return float(np.sqrt(np.mean(components**2)) or 1.0)
    spreads = [t.group.energies.std() / len(t.group.numbers) for t in data.labelled if t.group.energies is not None]
    return float(max(spreads, default=0.0) or 1.0)


def fit_offsets(data: TrainingData, start: Model | None) -> dict[int, float]:
    """Per-element offsets (hartree) by least squares of the energies on the compositions, least norm where the
    compositions leave them free (one molecule). With a start, what its own predictions leave over is fitted."""
    if start is None:
        return composition_offsets(data, lambda tensors: np.zeros(len(tensors.group)))
    left = composition_offsets(data, lambda tensors: predict(start, data, tensors, with_forces=False).energies.mean(0))
    return {z: start.offsets[z] + value for z, value in left.items()}


def composition_offsets(data: TrainingData, below: Callable[[GroupTensors], FloatArray]) -> dict[int, float]:
    """Per-element offsets (hartree) of the energies beyond those that `below` gives a group (S,), nan where it has
    none; see `fit_offsets`."""
    elements = list(data.elements)
    rows, targets, counts = [], [], []
    for tensors in data.labelled:
        if tensors.group.energies is None:
            continue
        beyond = np.asarray(tensors.group.energies, float) - below(tensors)
        beyond = beyond[np.isfinite(beyond)]
        if len(beyond):
            rows.append(np.array([np.sum(tensors.group.numbers == z) for z in elements], float))
            targets.append(beyond.mean())
            counts.append(len(beyond))
    if not rows:
        return dict.fromkeys(elements, 0.0)
    weight = np.sqrt(counts)
    matrix, target = np.array(rows) * weight[:, None], np.array(targets) * weight
    solution = np.linalg.lstsq(matrix, target, rcond=1e-8)[0]
    return dict(zip(elements, map(float, solution), strict=True))


def _constant_charges(data: TrainingData) -> dict[int, float]:
    """The charges, one for each element, that reproduce the dipoles best."""
    elements = list(data.elements)
    normal, right = np.zeros((len(elements),) * 2), np.zeros(len(elements))
    for tensors in data.labelled:
        if tensors.group.dipoles is None:
            continue
        operator, constant = dipole_operator(tensors, with_vectors=False)
        masks = np.array([tensors.group.numbers == z for z in elements], float)
        design = np.einsum("sxi,ei->sxe", operator, masks).reshape(-1, len(elements))
        normal += design.T @ design
        right += design.T @ (tensors.group.dipoles - constant).ravel()
    ridge = 1e-3 * max(np.trace(normal), 1e-12) * np.eye(len(elements))
    return dict(zip(elements, map(float, np.linalg.solve(normal + ridge, right)), strict=True))
