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

import torch

from hpcir.training.network import BatchGroup, Parameters, energies_and_forces, energy_backward

Tensor = torch.Tensor


class KalmanFilter:
    """The filter of one member; its state is `covariances` (elements, n, n) and the forgetting factor."""

    def __init__(self, parameters: Parameters, start: float = 1.0, forgetting: float = 0.99, rate: float = 0.9995):
        count, size = len(parameters.layout.elements), parameters.layout.element_size
        eye = torch.eye(size, dtype=parameters.flat.dtype, device=parameters.flat.device)
        self.covariances = start * eye.expand(count, size, size).clone()
        self.forgetting = torch.tensor(forgetting, dtype=torch.float64)
        self.rate = rate

    def step(self, parameters: Parameters, group: BatchGroup, force_weight: float, noise: float) -> float:
        """One measurement: group has one geometry, parameters one member. noise: variance of a measured energy in
        the loss's units. Returns the weighted square of what the prediction missed."""
        residual, derivatives = measurement(parameters, group, force_weight)
        if len(residual) == 0:
            return 0.0
        elements = self.covariances.shape[0]
        h = derivatives.unflatten(1, (elements, -1)).permute(1, 2, 0)
        ph = torch.bmm(self.covariances, h)
        lam = float(self.forgetting)
        a = torch.einsum("enr,ens->rs", h, ph)
        a.diagonal().add_(lam * noise)
        factor = torch.linalg.cholesky(a)
        update = torch.einsum("enr,r->en", ph, torch.cholesky_solve(residual[:, None], factor)[:, 0])
        parameters.flat.view(elements, -1).add_(update)
        half = torch.linalg.solve_triangular(factor, ph.transpose(1, 2), upper=False)
        self.covariances.baddbmm_(half.transpose(1, 2), half, alpha=-1.0).div_(lam)
        self.forgetting.copy_(lam * self.rate + 1.0 - self.rate)
        return float(residual @ residual)

    def state(self) -> dict[str, Tensor]:
        return {"covariances": self.covariances, "forgetting": self.forgetting}


def measurement(parameters: Parameters, group: BatchGroup, force_weight: float) -> tuple[Tensor, Tensor]:
    """Weighted (measured - predicted) (rows,) of one geometry's energy and learnt force components, and the
    derivatives of the weighted predictions by the parameters, (rows, size)."""
    energies, forces, _ = energies_and_forces(parameters, [group])
    scales = torch.cat([group.energy_weights[0][None], force_weight * group.force_weights[0]]).sqrt()
    missed = torch.cat([group.energies - energies[0][0], (group.forces - forces[0][0])[0]])
    rows = torch.nonzero(scales > 0).flatten()
    copies = Parameters.of(parameters.layout, parameters.flat.expand(len(rows), -1).contiguous())
    _, _, passes = energies_and_forces(copies, [group])
    bars = torch.diag(scales)[rows]
    energy_backward(copies, [group], passes, [bars[:, :1]], [bars[:, None, 1:]])
    return (missed * scales)[rows], copies.gradient
