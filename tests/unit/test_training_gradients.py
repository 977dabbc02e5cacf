"""Gradients of the losses against finite differences, for one molecule and for fragments of two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpcir.deck.sections import ModelSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.training.batches import DeviceData
from hpcir.training.dataset import LabelledGroup, TrainingData
from hpcir.training.dipoles import DipoleLoss, dipoles_from, outputs_of, polar_tensors_from
from hpcir.training.losses import Loss, gradients
from hpcir.training.network import EnergyLoss, Layout, Parameters, energies_and_forces


def random_group(numbers: list[int], count: int, seed: int, spread: float = 0.1) -> LabelledGroup:
    """Labels without meaning on a distorted grid of atoms 2 bohr apart."""
    random = np.random.default_rng(seed)
    atoms = len(numbers)
    grid = 2.0 * np.stack(np.unravel_index(np.arange(atoms), (2, 2, 9)), 1)
    return LabelledGroup(
        numbers=np.array(numbers),
        positions=grid + random.normal(0, spread, (count, atoms, 3)),
        energies=random.normal(-3.0, 0.1, count),
        forces=random.normal(0, 0.05, (count, atoms, 3)),
        dipoles=random.normal(0, 0.3, (count, 3)),
        charge=1,
        force_mask=random.random((count, atoms)) > 0.2,
        polar_tensors=random.normal(0, 0.3, (count, atoms, 3, 3)),
    )


def device_data(groups: list[LabelledGroup], cutoff: float, dipole: str = "charges") -> tuple[TrainingData, DeviceData]:
    functions = automatic_set((1, 6, 8), cutoff, 4, 2, (1, 2))
    data = TrainingData.build(groups, functions, "float64")
    mine = np.zeros((2, data.n_labels), bool)
    mine[1, 1] = True
    return data, DeviceData.create(data, ModelSettings(dipole=dipole), None, mine, "cpu")


GROUPS = {
    "one molecule": ([random_group([6, 1, 8, 1], 3, 1)], 6.0),
    "two fragments": ([random_group([6, 1, 8, 1], 2, 1), random_group([1, 6, 6, 1, 1], 2, 2)], 6.0),
    "sparse": ([random_group([6, 1, 8, 1, 1, 6, 1, 1, 8, 1, 1, 1], 3, 3)], 2.9),
}


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("polar_weight", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["energy", "charges", "charges+dipoles"])
def test_loss_gradient_is_the_finite_difference(case: str, kind: str, polar_weight: float) -> None:
    groups, cutoff = GROUPS[case]
    data, device = device_data(groups, cutoff, kind if kind != "energy" else "charges")
    assert (data.groups[0].centres is not None) == (case == "sparse")
    outputs = 1 + (3 * 2 if kind == "charges+dipoles" else 0)
    layout = Layout(data.elements, data.n_inputs, (5, 4), outputs)
    flat = torch.from_numpy(np.random.default_rng(4).normal(0, 0.3, (2, layout.size)))
    batch = device.batch(np.arange(data.n_labels))

    def loss_and_gradient(parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        trained = Parameters.of(layout, parameters)
        if kind == "energy":
            energy, force = gradients([EnergyLoss(trained, batch, 3.0)], batch)[0]
            return energy + 3.0 * force, trained.gradient
        dipole, polar = gradients([DipoleLoss(trained, batch, polar_weight=polar_weight)], batch)[0]
        return dipole + polar_weight * polar, trained.gradient

    _, gradient = loss_and_gradient(flat)
    direction = torch.from_numpy(np.random.default_rng(5).normal(size=flat.shape))
    step = 1e-5
    up, down = (loss_and_gradient(flat + sign * step * direction)[0] for sign in (1, -1))
    numeric = (up - down) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(1), numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", GROUPS)
def test_losses_that_share_a_product_have_the_gradients_that_each_has_alone(case: str) -> None:
    groups, cutoff = GROUPS[case]
    data, device = device_data(groups, cutoff, "charges+dipoles")
    batch = device.batch(np.arange(data.n_labels))
    random = np.random.default_rng(4)
    trained = []
    for hidden, outputs in (((5, 4), 1), ((6, 3), 1 + 3 * 2)):
        layout = Layout(data.elements, data.n_inputs, hidden, outputs)
        trained.append(Parameters.of(layout, torch.from_numpy(random.normal(0, 0.3, (2, layout.size)))))

    def losses() -> list[Loss]:
        return [EnergyLoss(trained[0], batch, 3.0), DipoleLoss(trained[1], batch, polar_weight=0.7)]

    alone = []
    for loss, parameters in zip(losses(), trained, strict=True):
        alone.append((*gradients([loss], batch)[0], parameters.gradient.clone()))
        parameters.gradient.zero_()
    for squares, parameters, expected in zip(gradients(losses(), batch), trained, alone, strict=True):
        torch.testing.assert_close((*squares, parameters.gradient), expected)
    # Without weight on forces only the dipoles need the product.
    energy, force = gradients([EnergyLoss(trained[0], batch, 0.0), losses()[1]], batch)[0]
    assert force.abs().max() == 0.0
    torch.testing.assert_close(energy, alone[0][0])


@pytest.mark.parametrize("case", GROUPS)
def test_forces_are_minus_the_gradient_of_the_energy(case: str) -> None:
    groups, cutoff = GROUPS[case]
    data, device = device_data(groups, cutoff)
    layout = Layout(data.elements, data.n_inputs, (5, 4))
    flat = torch.from_numpy(np.random.default_rng(4).normal(0, 0.3, (2, layout.size)))
    direction = np.random.default_rng(6).normal(size=groups[0].positions.shape)
    step = 2e-5

    def shifted(sign: int) -> torch.Tensor:
        ordered = data.groups[0].group
        moved = LabelledGroup(ordered.numbers, ordered.positions + sign * step * direction, ordered.energies)
        other = data.extended([moved])
        batch = DeviceData.create(other, ModelSettings(), None, np.zeros((2, len(moved)), bool), "cpu")
        return energies_and_forces(Parameters.of(layout, flat), batch.batch(np.arange(len(moved))))[0][0]

    _, forces, _ = energies_and_forces(Parameters.of(layout, flat), device.batch(np.arange(data.n_labels)))
    work = (forces[0].unflatten(2, (-1, 3)) * torch.from_numpy(direction)).sum((2, 3))
    torch.testing.assert_close(work, -(shifted(1) - shifted(-1)) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("kind", ["charges", "charges+dipoles"])
def test_polar_tensors_are_the_gradient_of_the_dipole(case: str, kind: str) -> None:
    """About an origin at rest: the label's dipole and its origin, which moves with the nuclei, are put back."""
    groups, cutoff = GROUPS[case]
    data, device = device_data(groups, cutoff, kind)
    layout = Layout(data.elements, data.n_inputs, (5, 4), 1 + (3 * 2 if kind == "charges+dipoles" else 0))
    flat = torch.from_numpy(np.random.default_rng(4).normal(0, 0.3, (2, layout.size)))
    parameters = Parameters.of(layout, flat)
    ordered = data.groups[0].group
    direction = np.random.default_rng(6).normal(size=ordered.positions.shape)
    step = 2e-6

    def at_rest(sign: int) -> torch.Tensor:
        moved = LabelledGroup(
            ordered.numbers, ordered.positions + sign * step * direction, dipoles=ordered.dipoles, charge=1
        )
        other = DeviceData.create(
            data.extended([moved]), ModelSettings(dipole=kind), None, np.zeros((2, len(moved)), bool), "cpu"
        )
        batch = other.batch(np.arange(len(moved)))
        middle = torch.from_numpy(moved.positions.mean(1))
        return dipoles_from(outputs_of(parameters, batch)[0][0], batch[0]) + moved.charge * middle

    batch = device.batch(np.arange(data.n_labels))
    tensors = polar_tensors_from(*outputs_of(parameters, batch), batch)[0]
    tensors = tensors + ordered.charge / len(ordered.numbers) * torch.eye(3, dtype=torch.float64)
    change = torch.einsum("mbjyx,bjy->mbx", tensors, torch.from_numpy(direction))
    torch.testing.assert_close(change, (at_rest(1) - at_rest(-1)) / (2 * step), rtol=1e-5, atol=1e-7)
    total = tensors.sum(2)
    torch.testing.assert_close(total, ordered.charge * torch.eye(3).to(total).expand_as(total), rtol=0, atol=1e-10)
