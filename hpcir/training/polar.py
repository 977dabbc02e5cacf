"""Atomic polar tensors of labels as training targets, and the part of them that follows from outputs alone.

The polar tensor of atom j is P_j = dmu / dr_j (also called the Born effective charge). Of mu = sum_i q_i r_i +
sum_i sum_es y_i^es V_i^es, with q_i = y_i0 + (Q - sum_j y_j0) / N and V_i^es = sum_(j in e) g_s(r_ij) u_ij,
    P_j = q_j 1 + sum_i (M_ij - M_ji) + sum_i sum_k c_ik (x) dy_ik / dr_j,
    M_ij = sum_s y_i^(e(j), s) [g_s / r (1 - u u^T) + g_s' u u^T],
where c_ik is the column of the dipole operator (see `batches.dipole_operator`). The last sum, over the slopes of the
networks, is in `dipoles`; here are the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class VectorSlopes:
    """Factors of the derivatives of B labels' atomic dipole vectors (see `derivatives.atomic_dipole_slopes`).

    across (B, N, N, S): g_s / r of atom i's neighbour j, along (B, N, N, S): g_s' - g_s / r, both 0 beyond the cutoff;
    units (B, N, N, 3): u_ij; elements (N,): which of the E elements each atom is of.
    """

    across: Tensor
    along: Tensor
    units: Tensor
    elements: Tensor

    def rows(self, rows: Tensor) -> VectorSlopes:
        """Those of some labels."""
        across, along, units = (part.index_select(0, rows) for part in (self.across, self.along, self.units))
        return VectorSlopes(across, along, units, self.elements)

    def tensors(self, factors: Tensor) -> Tensor:
        """sum_i (M_ij - M_ji), (members, B, N, 3, 3), of factors y_i^es (members, B, N, E S)."""
        towards = factors.unflatten(3, (-1, self.across.shape[3])).index_select(3, self.elements)
        across, along = ((towards * part).sum(-1) for part in (self.across, self.along))
        across, along = across.transpose(2, 3) - across, along.transpose(2, 3) - along
        # [b, j, i]: u u^T is the same for ij and ji.
        stretched = torch.einsum("mbji,bjix,bjiy->mbjxy", along, self.units, self.units)
        return stretched + across.sum(3)[..., None, None] * torch.eye(3).to(across)

    def add_factors(self, bar: Tensor, factors_bar: Tensor) -> None:
        """The transpose of `tensors`: add dL/dfactors of bar = dL/dtensors to factors_bar."""
        straight = bar.diagonal(dim1=3, dim2=4).sum(3)
        across = straight[:, :, None, :] - straight[:, :, :, None]
        along = torch.einsum("mbjxy,bjix,bjiy->mbji", bar, self.units, self.units)
        along = along.transpose(2, 3) - along
        pairs = across[..., None] * self.across + along[..., None] * self.along
        factors_bar.unflatten(3, (-1, self.across.shape[3])).index_add_(3, self.elements, pairs)


@dataclass(frozen=True)
class PolarTargets:
    """Of B labels with N atoms: targets (B, N, 3, 3), dmu_x / dr_jy at [j, y, x], less Q / N 1; weights (B,): 0 where
    the label has none; vectors: None where the model has no atomic dipoles."""

    targets: Tensor
    weights: Tensor
    vectors: VectorSlopes | None = None

    def rows(self, rows: Tensor) -> PolarTargets:
        """Those of some labels."""
        vectors = None if self.vectors is None else self.vectors.rows(rows)
        return PolarTargets(self.targets.index_select(0, rows), self.weights.index_select(0, rows), vectors)

    def from_outputs(self, outputs: Tensor) -> Tensor:
        """The part of the polar tensors from outputs (members, B, N, n) without slopes: (members, B, N, 3, 3)."""
        charges = outputs[..., 0] - outputs[..., 0].mean(2, keepdim=True)
        tensors = charges[..., None, None] * torch.eye(3).to(outputs)
        return tensors if self.vectors is None else tensors + self.vectors.tensors(outputs[..., 1:])

    def to_outputs(self, bar: Tensor, n_outputs: int) -> Tensor:
        """The transpose of `from_outputs`: dL/doutputs (members, B, N, n) of dL/dtensors (members, B, N, 3, 3)."""
        result = bar.new_zeros(*bar.shape[:3], n_outputs)
        straight = bar.diagonal(dim1=3, dim2=4).sum(3)
        result[..., 0] = straight - straight.mean(2, keepdim=True)
        if self.vectors is not None:
            self.vectors.add_factors(bar, result[..., 1:])
        return result
