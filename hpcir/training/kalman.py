"""The element-decoupled global extended Kalman filter for energies and forces.

Gastegger and Marquetand, J. Chem. Theory Comput. 11, 2187 (2015). Every geometry is one measurement of the vector
(energy, forces), weighted as in the loss; each element keeps an error covariance P_e of its own weights:
    A = (lambda R + sum_e H_e^T P_e H_e)^-1,  K_e = P_e H_e A,
    w_e <- w_e + K_e (measured - predicted),  P_e <- (P_e - K_e H_e^T P_e) / lambda,
    lambda <- lambda lambda_0 + 1 - lambda_0,
H_e (weights of element e, measurements) the derivatives of the predictions. A step costs the square of an
element's weights, so the filter is for small networks (tens of inputs, 15 to 20 hidden units).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch

from hpcir.training.network import (
    BatchGroup,
    Layout,
    Parameters,
    energies_and_forces,
    energy_backward,
)

Tensor = torch.Tensor


# Variance of a measured energy, in the loss's units: labels are exact, this is what the networks cannot follow.
NOISE = 1e-3


class KalmanCommittee:
    """One filter for each member; covariances (members, elements, n, n) and forgetting factors (members,)."""

    def __init__(self, parameters: Tensor, layout: Layout, start: float = 1.0) -> None:
        members, elements, size = len(parameters), len(layout.elements), layout.element_size
        # In single precision the covariances lose their positive definiteness within some hundred measurements.
        eye = torch.eye(size, dtype=torch.float64, device=parameters.device)
        self.covariances = start * eye.expand(members, elements, size, size).clone()
        self.forgetting = torch.full((members,), 0.99, dtype=torch.float64)
        self.forgetting_rate = 0.9995

    def learn(self, parameters: Parameters, groups: Sequence[BatchGroup], force_weight: float) -> None:
        """All geometries of a batch, one after another, for every member that learns them."""
        for group in groups:
            for label in range(group.count):
                for member in torch.nonzero(group.weights[:, label] > 0).flatten().tolist():
                    self._measure(parameters, one_label(group, label), member, force_weight)

    def _measure(self, parameters: Parameters, group: BatchGroup, member: int, force_weight: float) -> None:
        own = parameters.flat[member]
        residual, derivatives = measurement(parameters.layout, own, group, force_weight)
        if len(residual) == 0:
            return
        covariance = self.covariances[member]
        residual, derivatives = residual.double(), derivatives.double()
        h = derivatives.unflatten(1, (covariance.shape[0], -1)).permute(1, 2, 0)
        ph = torch.bmm(covariance, h)
        forgetting = float(self.forgetting[member])
        a = torch.einsum("enr,ens->rs", h, ph)
        a.diagonal().add_(forgetting * NOISE)
        factor = torch.linalg.cholesky(a)
        update = torch.einsum("enr,r->en", ph, torch.cholesky_solve(residual[:, None], factor)[:, 0])
        own.view(covariance.shape[0], -1).add_(update.to(own))
        half = torch.linalg.solve_triangular(factor, ph.transpose(1, 2), upper=False)
        covariance.baddbmm_(half.transpose(1, 2), half, alpha=-1.0).div_(forgetting)
        self.forgetting[member] = forgetting * self.forgetting_rate + 1.0 - self.forgetting_rate

    def state(self) -> dict[str, Tensor]:
        """Covariances and forgetting factors."""
        return {"covariances": self.covariances, "forgetting": self.forgetting}


def one_label(group: BatchGroup, label: int) -> BatchGroup:
    """The batch of the one label."""
    row = slice(label, label + 1)
    changed = {
        item.name: getattr(group, item.name)[row]
        for item in fields(group)
        if item.name not in ("slices", "weights") and getattr(group, item.name) is not None
    }
    return replace(group, weights=group.weights[:, row], **changed)


def measurement(layout: Layout, flat: Tensor, group: BatchGroup, force_weight: float) -> tuple[Tensor, Tensor]:
    """Weighted (measured - predicted) (rows,) of one geometry's energy and learnt force components, and the
    derivatives of the weighted predictions by the parameters flat (size,), as (rows, size)."""
    scales = torch.cat([group.energy_weights, force_weight * group.force_weights[0]]).sqrt()
    rows = torch.nonzero(scales > 0).flatten()
    copies = Parameters.of(layout, flat.expand(len(rows), -1).contiguous())
    if len(rows) == 0:
        return scales[rows], copies.flat
    energies, forces, passes = energies_and_forces(copies, [group])
    missed = torch.cat([group.energies - energies[0][0], (group.forces - forces[0][0])[0]])
    bars = torch.diag(scales)[rows]
    energy_backward(copies, passes, [bars[:, :1]], [group.jacobian.slope_bars(bars[:, None, 1:])])
    return (missed * scales)[rows], copies.gradient
