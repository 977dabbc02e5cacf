"""Predictions of a model for the labels of a training set, and its errors on those that it never learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import FloatArray
from hpcir.models.model import Model
from hpcir.training.dataset import GroupTensors, TrainingData, dipole_operator


@dataclass(frozen=True)
class Prediction:
    """Every member's answers for one group (atoms sorted by element as in GroupTensors.group), atomic units.

    energies (members, S); forces (members, S, N, 3); dipoles (members, S, 3) about the centre of nuclear charge;
    forces and dipoles None where not requested or not modelled.
    """

    energies: FloatArray
    forces: FloatArray | None
    dipoles: FloatArray | None


def predict(model: Model, data: TrainingData, tensors: GroupTensors, with_forces: bool = True) -> Prediction:
    """Predictions for one group of `data` from its stored inputs; the model must have the data's reduction."""
    group = tensors.group
    count, atoms = len(group), len(group.numbers)
    energies = np.zeros((model.members, count))
    slopes = np.zeros((model.members, count, atoms, data.n_inputs)) if with_forces else None
    charges: list[FloatArray] = []
    for element in np.unique(group.numbers):
        here = group.numbers == element
        reduction = data.reductions[int(element)]
        x = tensors.inputs[:, here].reshape(-1, data.n_inputs).astype(float)
        inverse = np.linalg.pinv(reduction.projection).T
        shape = (model.members, count, int(here.sum()), -1)
        y, gradient = _evaluate(model.energy[int(element)], inverse, x)
        energies += y[..., 0].reshape(shape[:3]).sum(2) + model.offsets[int(element)] * shape[2]
        if slopes is not None:
            slopes[:, :, here] = gradient.reshape(shape)
        if model.charge:
            charges.append(_evaluate(model.charge[int(element)], inverse, x)[0].reshape(shape))
    forces = None if slopes is None else _forces(tensors, slopes)
    dipoles = None
    if charges:
        outputs = np.concatenate(charges, 2)
        operator, constant = dipole_operator(tensors, outputs.shape[3] > 1)
        dipoles = np.einsum("sxk,msk->msx", operator, outputs.reshape(model.members, count, -1)) + constant
    return Prediction(energies, forces, dipoles)


def _evaluate(committee, inverse: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:  # type: ignore[no-untyped-def]
    """Outputs and gradient of output 0 by the reduced inputs."""
    weights = [committee.weights[0] @ inverse, *committee.weights[1:]]
    activations = [np.broadcast_to(x, (committee.members, *x.shape))]
    for weight, bias in zip(weights[:-1], committee.biases[:-1], strict=True):
        activations.append(np.tanh(activations[-1] @ weight.transpose(0, 2, 1) + bias[:, None]))
    output = activations[-1] @ weights[-1].transpose(0, 2, 1) + committee.biases[-1][:, None]
    gradient = np.broadcast_to(weights[-1][:, :1], (committee.members, len(x), weights[-1].shape[2]))
    for weight, activation in zip(weights[-2::-1], activations[:0:-1], strict=True):
        gradient = (gradient * (1 - activation**2)) @ weight
    return output, gradient


def _forces(tensors: GroupTensors, slopes: FloatArray) -> FloatArray:
    members, count, atoms = slopes.shape[:3]
    forces = np.empty((members, count, atoms, 3))
    for s in range(count):
        if tensors.centres is None:
            columns = slopes[:, s].reshape(members, 1, -1)
            matrix = tensors.jacobian[s].reshape(1, atoms * 3, -1).astype(float)
            forces[:, s] = (columns @ matrix.transpose(0, 2, 1)).reshape(members, atoms, 3)
        else:
            forces[:, s] = np.einsum("axck,mack->max", tensors.jacobian[s], slopes[:, s][:, tensors.centres[s]])
    return forces


# Of one quantity over some labels, by component: squared errors of the committee mean, squared errors of the members
# (mean over them), squared spreads (variance over members), and the number of components.
Sums = FloatArray


def error_sums(model: Model, data: TrainingData, tensors: GroupTensors) -> dict[str, Sums]:
    """Sums (4,) of 'energy', 'force' and 'dipole' over one group's labels; what is missing has no entry."""
    prediction, group = predict(model, data, tensors), tensors.group
    sums = {}
    for name, values, truth, mask in (
        ("energy", prediction.energies, group.energies, None),
        ("force", prediction.forces, group.forces, group.force_mask),
        ("dipole", prediction.dipoles, group.dipoles, None),
    ):
        if values is None or truth is None:
            continue
        keep = np.ones(truth.shape, bool) if mask is None else np.broadcast_to(mask[:, :, None], truth.shape)
        spread = np.sum(values.var(0, ddof=1)[keep]) if model.members > 1 else 0.0
        sums[name] = np.array(
            [
                np.sum((values.mean(0) - truth)[keep] ** 2),
                np.sum(((values - truth) ** 2)[:, keep]) / model.members,
                spread,
                float(keep.sum()),
            ]
        )
    return sums


def added(parts: Sequence[dict[str, Sums]]) -> dict[str, Sums]:
    """The sums of several sets of labels together."""
    names = {name: None for part in parts for name in part}
    return {name: sum((part[name] for part in parts if name in part), np.zeros(4)) for name in names}


def error_figures(sums: dict[str, Sums]) -> dict[str, float]:
    """energy_rmse (hartree), force_rmse (hartree/bohr), dipole_rmse (e bohr): of the committee mean, by component;
    member_force_rmse, ...: of single members; force_calibration, ...: true root mean square error of the mean over the
    root mean square spread (standard deviation over members), 1 with a single member."""
    result = {}
    for name, (mean_square, member_square, spread, count) in sums.items():
        if count > 0:
            result[f"{name}_rmse"] = float(np.sqrt(mean_square / count))
            result[f"member_{name}_rmse"] = float(np.sqrt(member_square / count))
            result[f"{name}_calibration"] = float(np.sqrt(mean_square / spread)) if spread > 0 else 1.0
    return result


def held_out_sums(model: Model, data: TrainingData, seed: int, validation: float) -> tuple[dict[str, Sums], int]:
    """The sums over the labels that every member held out (see `split`), and how many there are."""
    from hpcir.training.split import held_out

    common, _ = held_out(data.keys, range(model.members), seed, validation, data.always_learnt)
    data = data.reduced_like(model.energy)
    parts, first = [], 0
    for tensors in data.groups:
        rows = np.flatnonzero(common[first : first + len(tensors.group)])
        first += len(tensors.group)
        if len(rows):
            parts.append(error_sums(model, data, _rows(tensors, rows)))
    return added(parts), int(common.sum())


def held_out_errors(model: Model, data: TrainingData, seed: int, validation: float) -> dict[str, float]:
    """`error_figures` on the labels that every member held out; held_out: their number."""
    sums, count = held_out_sums(model, data, seed, validation)
    return {"held_out": float(count), **error_figures(sums)}


def _rows(tensors: GroupTensors, rows: NDArray) -> GroupTensors:
    from dataclasses import replace

    group = tensors.group
    pick = lambda value: None if value is None else value[rows]  # noqa: E731
    return GroupTensors(
        replace(
            group,
            positions=group.positions[rows],
            energies=pick(group.energies),
            forces=pick(group.forces),
            dipoles=pick(group.dipoles),
            force_mask=pick(group.force_mask),
            always_learnt=pick(group.always_learnt),
            polar_tensors=pick(group.polar_tensors),
        ),
        tuple(tensors.keys[r] for r in rows),
        tuple(tensors.geometry_keys[r] for r in rows),
        tensors.inputs[rows],
        tensors.jacobian[rows],
        pick(tensors.centres),
        pick(tensors.vectors),
    )
