"""Compiled loops of an optimiser step against the same in torch, on one molecule and on several, dense and sparse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hpcir.training.compiled import soap, torch_soap
from hpcir.training.compiled.step import CompiledStep
from hpcir.training.dipoles import DipoleLoss
from hpcir.training.jacobian import Jacobian
from hpcir.training.losses import gradients
from hpcir.training.network import EnergyLoss, Layout, Parameters
from hpcir.training.optimizers import Soap
from tests.unit.test_training_gradients import GROUPS, device_data

LAYOUT = Layout((1, 6), 11, (5, 4), 3)


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("dipole", ["charges", "charges+dipoles"])
def test_compiled_gradients_are_those_of_torch(case: str, dipole: str) -> None:
    groups, cutoff = GROUPS[case]
    data, device = device_data([replace(group, polar_tensors=None) for group in groups], cutoff, dipole)
    energy, charge = (
        Parameters.of(layout, random_tensor(seed, 2, layout.size))
        for seed, layout in (
            (1, Layout(data.elements, data.n_inputs, (5, 4))),
            (2, Layout(data.elements, data.n_inputs, (6, 3), 1 + (6 if dipole == "charges+dipoles" else 0))),
        )
    )
    indices = np.array([2, 0, 1])
    batch = device.batch(indices)
    gradients([EnergyLoss(energy, batch, 3.0), DipoleLoss(charge, batch)], batch)
    expected = energy.gradient.clone(), charge.gradient.clone()
    step = CompiledStep.of(device, data.elements, 3.0)
    step.write_gradients(energy, charge, indices, indices)
    torch.testing.assert_close((energy.gradient, charge.gradient), expected, rtol=1e-11, atol=1e-12)
    # Parts of a batch add up to it.
    total = [torch.zeros_like(part) for part in expected]
    for part in (indices[:1], indices[1:]):
        step.write_gradients(energy, charge, part, indices)
        total[0] += energy.gradient
        total[1] += charge.gradient
    torch.testing.assert_close(tuple(total), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_compiled_products_with_the_jacobian_are_those_of_torch(columns: int, sparse: bool) -> None:
    labels, atoms, slots, width = 6, 4, 3 if sparse else 4, 9
    centres = torch.from_numpy(np.random.default_rng(1).integers(0, atoms, (labels, atoms, slots))) if sparse else None
    rows = torch.tensor([4, 0, 3])
    jacobian = Jacobian(random_tensor(2, labels, atoms, 3, slots, width), centres, rows)
    slopes, bars = random_tensor(3, columns, 3, atoms, width), random_tensor(4, columns, 3, 3 * atoms)
    forces, slope_bars = jacobian.forces(slopes), jacobian.slope_bars(bars)
    torch.testing.assert_close(forces, jacobian.torch_forces(slopes), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope_bars, jacobian.torch_slope_bars(bars), rtol=1e-12, atol=1e-12)
    # The one is the transpose of the other.
    torch.testing.assert_close((forces * bars).sum(), (slopes * slope_bars).sum(), rtol=1e-12, atol=0.0)


def test_products_with_the_jacobian_do_not_depend_on_the_columns_beside() -> None:
    jacobian = Jacobian(random_tensor(2, 3, 4, 3, 4, 37).float(), None, torch.tensor([1, 2]))
    slopes, bars = random_tensor(3, 4, 2, 4, 37).float(), random_tensor(4, 4, 2, 12).float()
    for first, last in ((0, 1), (1, 3), (2, 3), (1, 4)):
        assert torch.equal(jacobian.forces(slopes)[first:last], jacobian.forces(slopes[first:last]))
        assert torch.equal(jacobian.slope_bars(bars)[first:last], jacobian.slope_bars(bars[first:last]))


def test_compiled_steps_of_soap_are_those_of_torch() -> None:
    start = random_tensor(1, 2, LAYOUT.size)
    found = []
    for compiled in (True, False):
        parameters = start.clone()
        optimizer = Soap(parameters, LAYOUT, refresh=3, gram_every=2, widest=4)
        optimizer.compiled = False  # the first bases of one gradient alone are not unique
        for step in range(8):
            optimizer.step(parameters, random_tensor(10 + step, *start.shape), 1e-2)
            optimizer.compiled = compiled
        found.append((parameters, *optimizer.state().values()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_bases_diagonalise_what_the_gradients_have_in_common() -> None:
    """Gradients u v^T of fixed u and v and random size: rotated, all of it is in one place of a block."""
    u, v = random_tensor(1, 5), random_tensor(2, 11)
    parameters = random_tensor(3, 1, LAYOUT.size)
    optimizer = Soap(parameters, LAYOUT, refresh=1, gram_every=1, widest=20)
    gradient = torch.zeros_like(parameters)
    for step in range(40):
        gradient[0, :55] = torch.outer(u, v).flatten() * (1.5 + np.sin(step))
        optimizer.step(parameters, gradient, 0.0)
    rotated = torch.empty_like(gradient)
    by_element = [tensor.unflatten(1, (2, -1)) for tensor in (gradient, rotated)]
    torch_soap.rotate(*by_element, optimizer.bases, optimizer.table, True)
    block = rotated[0, :55].abs()
    assert float(block.max()) == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert optimizer.table[0, soap.COLUMNS] == 11
