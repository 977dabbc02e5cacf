"""Training the members of a committee side by side: energies and forces, and dipoles, in one loop of batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcir.deck.sections import ModelSettings, TrainingSettings
from hpcir.errors import InputError
from hpcir.models.model import Model
from hpcir.runtime.mpi import collective
from hpcir.training.batches import BatchCounts, DeviceData
from hpcir.training.compiled.step import CompiledStep
from hpcir.training.dataset import TrainingData
from hpcir.training.dipoles import (
    DipoleLoss,
    dipoles_from,
    outputs_of,
    polar_squares,
    polar_tensors_from,
)
from hpcir.training.kalman import KalmanCommittee
from hpcir.training.losses import Loss, gradients
from hpcir.training.network import BatchGroup, EnergyLoss, Layout, Parameters, energies_and_forces
from hpcir.training.optimizers import (
    Adam,
    EnergyOptimizer,
    GradientOptimizer,
    Soap,
    cosine_rate,
    create_optimizer,
)
from hpcir.training.packing import fresh_parameters, packed, unpacked
from hpcir.training.split import epoch_order, held_out
from hpcir.training.team import SINGLE_RANK, Pace, Team

Tensor = torch.Tensor
State = dict[str, NDArray]

# The averaged weights that are kept forget with this many steps, as a fraction of all steps.
AVERAGE_FRACTION = 0.02
CHECKS = 20
# Version of the state's contents: a program continues from states of its own version alone.
STATE_FORMAT = 3


def train_members(
    data: TrainingData,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    *,
    members: Sequence[int],
    seed: int,
    start: Model | None = None,
    steps: int | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    on_checkpoint: Callable[[State], None] | None = None,
    state: State | None = None,
    device: str = "cpu",
    energy_rate: float | None = None,
    dipole_rate: float | None = None,
    hold_out: bool = True,
    team: Team = SINGLE_RANK,
) -> tuple[Model, State]:
    """Train committee members, all at once, and return them as a Model with its members in the order given.

    A member depends on (data, settings, seed, its number) alone. start: a model to continue from, whose member m is
    the start of member m (m modulo its members); its reduction of the symmetry functions is kept. steps: optimiser
    steps (default settings.steps, or retrain_steps with a start). on_progress gets {step, steps, seconds,
    energy_rmse, force_rmse, dipole_rmse} of held-out labels (atomic units, mean over members) about 20 times;
    Learning rates default to settings.learning_rate (retrain_rate with a start) for energies, and DIPOLE_RATE.
    hold_out: with False every label is learnt by every member, to the end of the schedule; nothing is left to measure
    errors on. on_checkpoint gets the whole state about every second, as plain arrays, and `state` continues from one
    bit for bit. team: the ranks that share every batch; all of them call this with the same arguments.
    """
    torch.set_num_threads(1)
    if steps is None:
        steps = settings.steps if start is None else settings.retrain_steps
    with torch.no_grad():
        run = _Run.create(data, model_settings, settings, list(members), seed, start, steps, device, hold_out, team)
        default = settings.learning_rate if start is None else settings.retrain_rate
        run.rates = (energy_rate or default, dipole_rate or DIPOLE_RATE)
        if state is not None:
            run.load(state)
        began = time.perf_counter()
        pace = Pace(team)
        while run.step < steps:
            check = max(run.step + 1, (run.step * CHECKS // steps + 1) * steps // CHECKS)
            steps_before = run.step
            run.advance(min(check, run.step + pace.steps))
            pace.done(run.step - steps_before)
            if run.step == check:
                run.agree()
                figures = run.check()
                if on_progress is not None:
                    on_progress({"step": run.step, "steps": steps, "seconds": time.perf_counter() - began, **figures})
            if on_checkpoint is not None:
                on_checkpoint(run.state())
        return run.model(), run.state()


# The charge networks have a gradient optimiser of their own: dipoles have no filter. They need a good one all the more:
# a label says three numbers about them, and what Adam has not yet learnt of these is most of the error.
CHARGE_OPTIMIZERS: dict[str, Callable[[Tensor, Layout], GradientOptimizer]] = {
    "adam": Adam,
    "soap": Soap,
    "kalman": Adam,
}
DIPOLE_RATE = 3e-3
# Of the mean square of a polar tensor's component in the loss of dipoles, bohr^2.
POLAR_WEIGHT = 10.0


@dataclass
class _Run:
    """Everything of a training in progress."""

    data: TrainingData
    device_data: DeviceData
    settings: TrainingSettings
    members: list[int]
    seed: int
    steps: int
    unit: float
    offsets: dict[int, float]
    layouts: dict[str, Layout]
    parameters: dict[str, Tensor]
    averages: dict[str, Tensor]
    best: dict[str, Tensor]
    best_loss: dict[str, Tensor]
    energy_optimizer: EnergyOptimizer
    charge_optimizer: GradientOptimizer
    common: NDArray
    mine: NDArray
    team: Team
    step: int = 0
    rates: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def create(
        cls,
        data: TrainingData,
        model_settings: ModelSettings,
        settings: TrainingSettings,
        members: list[int],
        seed: int,
        start: Model | None,
        steps: int,
        device: str,
        hold_out: bool,
        team: Team,
    ) -> _Run:
        if start is not None:
            data = data.reduced_like(start.energy)
        common, mine = held_out(data.keys, members, seed, settings.validation, data.always_learnt)
        if not hold_out:
            common, mine = np.zeros_like(common), np.zeros_like(mine)
        device_data = DeviceData.create(data, model_settings, start, mine, device, settings.weighting)
        outputs = 1
        if model_settings.dipole == "charges+dipoles":
            outputs += len(data.functions.elements) * len(data.functions.shells)
        layouts = {
            "energy": Layout(data.elements, data.n_inputs, tuple(model_settings.hidden)),
            "charge": Layout(data.elements, data.n_inputs, tuple(model_settings.charge_widths), outputs),
        }
        parameters = {}
        for kind, layout in layouts.items():
            if start is not None and (start.energy if kind == "energy" else start.charge):
                flat = packed(start, kind, layout, data, members, device_data.unit)
            else:
                flat = fresh_parameters(layout, members, seed, kind, device_data.constant_charges)
            parameters[kind] = torch.as_tensor(flat, dtype=device_data.kind, device=device)
        infinite = torch.full((len(members),), torch.inf, dtype=torch.float64, device=device)
        return cls(
            data,
            device_data,
            settings,
            members,
            seed,
            steps,
            device_data.unit,
            device_data.offsets,
            layouts,
            parameters,
            {kind: flat.clone() for kind, flat in parameters.items()},
            {kind: flat.clone() for kind, flat in parameters.items()},
            {kind: infinite.clone() for kind in parameters},
            create_optimizer(settings.optimizer, parameters["energy"], layouts["energy"]),
            CHARGE_OPTIMIZERS[settings.optimizer](parameters["charge"], layouts["charge"]),
            common,
            mine,
            team,
        )

    @property
    def polar_weight(self) -> float:
        return POLAR_WEIGHT if self.device_data.has_polar else 0.0

    @cached_property
    def compiled(self) -> CompiledStep | None:
        """Compiled gradients where they do; torch has the others."""
        plain = self.device_data.device == "cpu" and self.polar_weight == 0.0
        if not plain or not isinstance(self.energy_optimizer, GradientOptimizer):
            return None
        return CompiledStep.of(self.device_data, self.layouts["energy"].elements, self.settings.force_weight)

    def advance(self, until: int) -> None:
        """Optimiser steps up to number `until`."""
        available = np.flatnonzero(~self.common)
        batch = min(self.settings.batch, len(available))
        per_epoch = len(available) // batch
        epoch = -1
        has_dipoles = self.device_data.has_dipoles
        keep = 1.0 / max(1.0, AVERAGE_FRACTION * self.steps)
        energy, charge = (Parameters.of(self.layouts[kind], self.parameters[kind]) for kind in ("energy", "charge"))
        while self.step < until:
            if self.step // per_epoch != epoch:
                epoch = self.step // per_epoch
                order = epoch_order(available, self.seed, epoch)
            first = (self.step % per_epoch) * batch
            rates = [cosine_rate(self.step, self.steps, rate) for rate in self.rates]
            indices = order[first : first + batch]
            if self.team.parts > 1:
                self._gradient_in_parts(energy, charge, indices)
            else:
                if isinstance(self.energy_optimizer, KalmanCommittee):
                    groups = self.device_data.batch(indices)
                    self.energy_optimizer.learn(energy, groups, self.settings.force_weight)
                self._write_gradients(energy, charge, indices, indices)
            if isinstance(self.energy_optimizer, GradientOptimizer):
                self.energy_optimizer.step(energy.flat, energy.gradient, rates[0])
            if has_dipoles:
                self.charge_optimizer.step(charge.flat, charge.gradient, rates[1])
            self.averages["energy"].lerp_(energy.flat, keep)
            if has_dipoles:
                self.averages["charge"].lerp_(charge.flat, keep)
            self.step += 1

    def _write_gradients(self, energy: Parameters, charge: Parameters, indices: NDArray, batch: NDArray) -> None:
        """The gradients of the labels `indices`, all or a part of a batch."""
        if self.compiled is not None:
            self.compiled.write_gradients(energy, charge, indices, batch)
            return
        groups = self.device_data.batch(indices)
        counts = self.device_data.counts(batch) if len(indices) < len(batch) else None
        gradients(self._losses(energy, charge, groups, counts), groups)

    def _losses(
        self, energy: Parameters, charge: Parameters, groups: list[BatchGroup], counts: BatchCounts | None
    ) -> list[Loss]:
        """The losses that a step minimises; counts: of the whole batch, where the groups are a part of it."""
        losses: list[Loss] = []
        labels, dipoles, polar = (counts.labels, counts.dipoles, counts.polar) if counts else (None, None, None)
        if isinstance(self.energy_optimizer, GradientOptimizer):
            losses.append(EnergyLoss(energy, groups, self.settings.force_weight, labels))
        if self.device_data.has_dipoles:
            losses.append(DipoleLoss(charge, groups, dipoles, self.polar_weight, polar))
        return losses

    def _gradient_in_parts(self, energy: Parameters, charge: Parameters, indices: NDArray) -> None:
        """The summed gradients of the batch's parts, over the ranks of the team."""

        def of_part(part: NDArray) -> Tensor:
            if len(part) == 0:
                return energy.flat.new_zeros(energy.flat.numel() + charge.flat.numel())
            self._write_gradients(energy, charge, part, indices)
            return torch.cat([energy.gradient.flatten(), charge.gradient.flatten()])

        first, second = self.team.gradient(indices, of_part).split([energy.flat.numel(), charge.flat.numel()])
        energy.gradient.copy_(first.view_as(energy.flat))
        charge.gradient.copy_(second.view_as(charge.flat))

    @collective
    def agree(self) -> None:
        """Give every rank of the team its first rank's state: on unlike processors the last bits drift apart."""
        if self.team.comm.size > 1:
            self.load(self.team.comm.bcast(self.state()))

    def check(self) -> dict[str, float]:
        """Held-out errors of the averaged weights; the best weights so far of each member are kept."""
        indices = np.flatnonzero(self.mine.any(0))
        if len(indices) == 0:
            for kind, flat in self.averages.items():
                self.best[kind].copy_(flat)
            return {}
        sums = self._held_out_squares(indices)
        energy, force, dipole, polar = (torch.nan_to_num(square) for square in sums)
        losses = {
            "energy": energy + self.settings.force_weight * force,
            "charge": dipole + self.polar_weight * polar,
        }
        for kind, loss in losses.items():
            better = loss <= self.best_loss[kind]
            self.best[kind][better] = self.averages[kind][better]
            self.best_loss[kind] = torch.where(better, loss, self.best_loss[kind])
        return self._root_mean(sums)

    def _root_mean(self, squares: tuple[Tensor, ...]) -> dict[str, float]:
        """Held-out errors over the members in atomic units; of a quantity that the labels lack there is none."""
        units = {"energy_rmse": self.unit, "force_rmse": self.unit, "dipole_rmse": 1.0, "polar_rmse": 1.0}
        means = {name: torch.sqrt(square.nanmean()) for name, square in zip(units, squares, strict=True)}
        return {name: float(mean) * units[name] for name, mean in means.items() if not torch.isnan(mean)}

    def _held_out_squares(self, indices: NDArray) -> tuple[Tensor, ...]:
        """Mean squares (members,) of energies and of components of forces, dipoles and polar tensors over each member's
        own; nan where it has none."""
        sums = torch.zeros(8, len(self.members), dtype=torch.float64, device=self.device_data.device)
        energy_model, charge_model = (Parameters.of(self.layouts[k], self.averages[k]) for k in ("energy", "charge"))
        for first in range(0, len(indices), 64):
            groups = self.device_data.batch(indices[first : first + 64], held_out=True)
            energies, forces, _ = energies_and_forces(energy_model, groups)
            outputs, passes = outputs_of(charge_model, groups)
            if self.polar_weight > 0:
                for group, tensor in zip(groups, polar_tensors_from(outputs, passes, groups), strict=True):
                    _add(sums[6:8], *polar_squares(tensor, group))
            for group, energy, force, output in zip(groups, energies, forces, outputs, strict=True):
                dipole = dipoles_from(output, group)
                _add(sums[0:2], (energy - group.energies) ** 2, group.weights * group.energy_weights)
                weights = group.weights[:, :, None] * group.force_weights
                _add(sums[2:4], ((force - group.forces) ** 2).flatten(1), weights.flatten(1))
                weights = (group.weights * group.dipole_weights)[:, :, None].expand_as(dipole)
                _add(sums[4:6], ((dipole - group.dipoles) ** 2).flatten(1), weights.flatten(1))
        means = sums[0::2] / sums[1::2]
        return tuple(means)

    def model(self) -> Model:
        """The best weights of each member as a Model, held-out errors with it."""
        start = self.averages
        self.averages = self.best
        indices = np.flatnonzero(self.mine.any(0))
        error = self._root_mean(self._held_out_squares(indices)) if len(indices) else {}
        self.averages = start
        return unpacked(
            self.data,
            self.layouts,
            {kind: flat.cpu().numpy().astype(float) for kind, flat in self.best.items()},
            self.unit,
            self.offsets,
            error,
            with_charges=self.device_data.has_dipoles,
        )

    def state(self) -> State:
        """Everything that changes, as arrays (copies)."""
        state: dict[str, Any] = {"step": np.array(self.step), "members": np.array(self.members)}
        for kind in self.parameters:
            for name, tensor in self._tensors(kind).items():
                state[f"{kind}/{name}"] = tensor.cpu().numpy().copy()
        return state

    def load(self, state: State) -> None:
        """Go on from `state`; raises InputError when it is of another training."""
        if state["members"].tolist() != self.members:
            raise InputError("the state of a training is of other members", value=state["members"].tolist())
        for kind in self.parameters:
            for name, tensor in self._tensors(kind).items():
                value = torch.as_tensor(np.asarray(state[f"{kind}/{name}"]))
                if value.shape != tensor.shape:
                    raise InputError("the state of a training is of other networks", value=tuple(value.shape))
                tensor.copy_(value)
        self.step = int(state["step"])

    def _tensors(self, kind: str) -> dict[str, Tensor]:
        return {
            "parameters": self.parameters[kind],
            "averages": self.averages[kind],
            "best": self.best[kind],
            "best_loss": self.best_loss[kind],
            **(self.energy_optimizer if kind == "energy" else self.charge_optimizer).state(),
        }


def _add(sums: Tensor, squares: Tensor, weights: Tensor) -> None:
    sums[0] += (squares.double() * weights).sum(1)
    sums[1] += weights.double().sum(1)


def join_members(models: Sequence[Model]) -> Model:
    """One committee of the members of all models, in their order; held-out errors are averaged.

    Raises InputError when the models do not share symmetry functions and scaling.
    """
    first, rest = models[0], list(models[1:])
    joined: dict[str, Any] = {}
    for kind in ("energy", "charge"):
        networks = getattr(first, kind)
        others = [getattr(model, kind) for model in rest]
        for other in others:
            for element, committee in networks.items():
                same = np.array_equal(committee.active, other[element].active)
                if not (same and np.allclose(committee.shift, other[element].shift)):
                    raise InputError("committee members with different symmetry functions cannot be joined")
        joined[kind] = {
            element: committee.stacked_with([other[element] for other in others])
            for element, committee in networks.items()
        }
    counts = np.array([model.members for model in models], float)
    error = {
        name: float(np.average([model.error[name] for model in models], weights=counts))
        for name in first.error
        if all(name in model.error for model in models)
    }
    offsets = {
        element: float(np.average([model.offsets[element] for model in models], weights=counts))
        for element in first.offsets
    }
    return replace(first, **joined, error=error, offsets=offsets)
