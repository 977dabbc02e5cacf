"""Products of a batch with the derivatives of its inputs by the positions: compiled, or on a GPU in torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hpcir.training.compiled import jacobian as compiled

Tensor = torch.Tensor

# Columns of one product in torch: members go in blocks of this many, filled with zeros, because the rounding of a
# product may depend on its shape, and must not depend on how many members are trained together.
MEMBER_BLOCK = 4


@dataclass(frozen=True)
class Jacobian:
    """Derivatives - dx/dr of all labels of one molecule, and which of them are in a batch.

    values (labels, N, 3, C, K) by moved atom and by slot of centre; centres (labels, N, C): the centre in each slot, or
    None where slot c is centre c; rows (B,): the labels of the batch.
    """

    values: Tensor
    centres: Tensor | None
    rows: Tensor

    def select(self, rows: Tensor) -> Jacobian:
        """The labels `rows` of the batch."""
        return Jacobian(self.values, self.centres, self.rows.index_select(0, rows))

    def __getitem__(self, rows: slice) -> Jacobian:
        return Jacobian(self.values, self.centres, self.rows[rows])

    def forces(self, slopes: Tensor) -> Tensor:
        """Forces (members, B, 3N) from slopes (members, B, N, K)."""
        if self.values.device.type == "cpu":
            members, batch, atoms, _ = slopes.shape
            result = slopes.new_empty(members, batch, atoms, 3)
            compiled.forwards(*self._arrays(), slopes.contiguous().numpy(), result.numpy())
            return result.flatten(2)
        return self.torch_forces(slopes)

    def slope_bars(self, forces_bar: Tensor) -> Tensor:
        """The transpose of `forces`: dL/dslopes (members, B, N, K) from dL/dforces (members, B, 3N)."""
        if self.values.device.type == "cpu":
            members, batch, _ = forces_bar.shape
            atoms, width = self.values.shape[1], self.values.shape[4]
            result = forces_bar.new_empty(members, batch, atoms, width)
            compiled.backwards(*self._arrays(), forces_bar.contiguous().unflatten(2, (-1, 3)).numpy(), result.numpy())
            return result
        return self.torch_slope_bars(forces_bar)

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        centres = np.zeros((0, 0, 0), np.int64) if self.centres is None else self.centres.numpy()
        return self.values.numpy(), self.rows.numpy(), centres

    def _centre_rows(self) -> Tensor:
        """Rows (B N C,) of the centres near every atom, in atoms of all labels one after the other."""
        assert self.centres is not None
        first = torch.arange(len(self.rows), device=self.centres.device) * self.values.shape[1]
        return (self.centres.index_select(0, self.rows) + first[:, None, None]).flatten()

    def torch_forces(self, slopes: Tensor) -> Tensor:
        """`forces` without compiled loops."""
        members, batch, atoms, width = slopes.shape
        values = self.values.index_select(0, self.rows)
        result = slopes.new_empty(members, batch, 3 * atoms)
        for first in range(0, members, MEMBER_BLOCK):
            part = slopes[first : first + MEMBER_BLOCK]
            block = slopes.new_zeros(MEMBER_BLOCK, batch, atoms, width)
            block[: len(part)] = part
            if self.centres is None:
                columns = block.permute(1, 2, 3, 0).reshape(batch, atoms * width, MEMBER_BLOCK)
                product = torch.bmm(values.reshape(batch, 3 * atoms, -1), columns)
            else:
                by_atom = block.permute(1, 2, 3, 0).reshape(batch * atoms, -1)
                columns = by_atom.index_select(0, self._centre_rows()).view(batch * atoms, -1, MEMBER_BLOCK)
                product = torch.bmm(values.flatten(3).flatten(0, 1), columns)
            result[first : first + MEMBER_BLOCK] = product.reshape(batch, 3 * atoms, -1).permute(2, 0, 1)[: len(part)]
        return result

    def torch_slope_bars(self, forces_bar: Tensor) -> Tensor:
        """`slope_bars` without compiled loops."""
        members, batch, components = forces_bar.shape
        atoms, slots, width = self.values.shape[1], self.values.shape[3], self.values.shape[4]
        values = self.values.index_select(0, self.rows)
        result = forces_bar.new_empty(members, batch, atoms, width)
        for first in range(0, members, MEMBER_BLOCK):
            part = forces_bar[first : first + MEMBER_BLOCK]
            block = forces_bar.new_zeros(MEMBER_BLOCK, batch, components)
            block[: len(part)] = part
            rows = block.permute(1, 0, 2)
            if self.centres is None:
                product = torch.bmm(rows, values.reshape(batch, components, -1)).unflatten(2, (atoms, width))
            else:
                by_atom = rows.unflatten(2, (atoms, 3)).transpose(1, 2).flatten(0, 1)
                product = torch.bmm(by_atom, values.flatten(3).flatten(0, 1))
                by_centre = product.unflatten(2, (slots, width)).transpose(1, 2).reshape(-1, MEMBER_BLOCK * width)
                product = by_centre.new_zeros(batch * atoms, MEMBER_BLOCK * width)
                product.index_add_(0, self._centre_rows(), by_centre)
                product = product.view(batch, atoms, MEMBER_BLOCK, width).transpose(1, 2)
            result[first : first + MEMBER_BLOCK] = product.transpose(0, 1)[: len(part)]
        return result
