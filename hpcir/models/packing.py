"""Committees as the kernels read them: symmetry functions, scaling and selection folded into the first layer.

With features G = C s of the raw sums s, and x = (G[active] - shift) * scale, the first layer W x + b becomes
    W' = (W * scale) C[active],   b' = b - (W * scale) shift,
so that an inference never forms G or x. Rows are padded with zeros to multiples of BLOCK (tanh(0) = 0 adds nothing),
and output weights are divided by the number of members, so that outputs and gradients are committee means.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.descriptors.environment import CentrePlan
from hpcir.models.network_kernel import (
    BACKWARD,
    BIAS,
    BLOCK,
    FIRST_LAYER,
    FORWARD,
    INPUTS,
    LAYER_COLUMNS,
    LAYERS,
    MEMBERS,
    OUT_BIAS,
    OUT_WEIGHT,
    OUTPUTS,
    PLACE,
    ROWS,
)
from hpcir.models.networks import NetworkCommittee
from hpcir.models.potential_kernel import PackedNetworks


def padded(count: int) -> int:
    """The next multiple of BLOCK."""
    return -(-count // BLOCK) * BLOCK


def _block(matrix: FloatArray) -> FloatArray:
    """A matrix (rows, inner), rows a multiple of BLOCK, in the order that `product` reads."""
    rows, inner = matrix.shape
    return matrix.reshape(rows // BLOCK, BLOCK, inner).transpose(0, 2, 1).ravel()


def product_matrix(matrix: FloatArray) -> FloatArray:
    """A matrix (rows, inner), flat, as `network_kernel.product` reads it; its rows padded with zeros to `padded`."""
    return _block(_pad(matrix, padded(len(matrix)), matrix.shape[1]))


def _pad(matrix: FloatArray, rows: int, columns: int) -> FloatArray:
    result = np.zeros((rows, columns))
    result[: matrix.shape[0], : matrix.shape[1]] = matrix
    return result


class _Packer:
    """Collects arrays into one and remembers where each begins."""

    def __init__(self) -> None:
        self.parts: list[FloatArray] = []
        self.size = 0

    def add(self, values: FloatArray) -> int:
        place = self.size
        self.parts.append(np.ascontiguousarray(values, float).ravel())
        self.size += self.parts[-1].size
        return place


def fold_first_layer(committee: NetworkCommittee, plan: CentrePlan) -> tuple[FloatArray, FloatArray]:
    """W' (members, n_out, raw sums) and b' (members, n_out) of the first layer on raw sums."""
    scaled = committee.weights[0] * committee.scale
    return scaled @ plan.combination[committee.active], committee.biases[0] - scaled @ committee.shift


def _pack_hidden(packer: _Packer, committee: NetworkCommittee, plan: CentrePlan) -> tuple[list[int], int]:
    """Pack the hidden layers; returns the row of the table and the padded height of the last layer."""
    members = committee.members
    weight, bias = fold_first_layer(committee, plan)
    layers = [(weight, bias), *zip(committee.weights[1:-1], committee.biases[1:-1], strict=True)]
    row = [0] * (FIRST_LAYER + LAYER_COLUMNS * len(layers))
    row[LAYERS], row[MEMBERS] = len(layers), members
    place, inner = 0, plan.rows
    for number, (weight, bias) in enumerate(layers):
        height = padded(weight.shape[1])
        full = [_pad(w, height, inner) for w in weight]
        column = FIRST_LAYER + number * LAYER_COLUMNS
        row[column + ROWS], row[column + INPUTS], row[column + PLACE] = height, inner, place
        row[column + FORWARD] = packer.add(np.concatenate([_block(w) for w in full]))
        if number:
            row[column + BACKWARD] = packer.add(np.concatenate([_block(w.T) for w in full]))
        else:
            stacked = np.concatenate(full)
            row[column + BACKWARD] = packer.add(_block(_pad(stacked.T, padded(inner), len(stacked))))
        row[column + BIAS] = packer.add(_pad(bias, members, height))
        place, inner = place + members * height, height
    return row, inner


def pack_networks(
    committees: dict[int, NetworkCommittee], plans: list[CentrePlan], offsets: dict[int, float] | None
) -> PackedNetworks:
    """Pack the committees of the centre elements of `plans`.

    offsets: hartree per element for potentials (only output 0 is kept, its weights in one plain row); None for charge
    models (all outputs, packed for `product`).
    """
    packer, rows = _Packer(), []
    for plan in plans:
        committee = committees[plan.element]
        row, height = _pack_hidden(packer, committee, plan)
        keep = committee.n_outputs if offsets is None else 1
        final = committee.weights[-1][:, :keep] / committee.members
        final = np.concatenate([_pad(w, keep, height) for w in final], axis=1)
        row[OUTPUTS] = keep
        row[OUT_WEIGHT] = packer.add(
            final if offsets is not None else _block(_pad(final, padded(keep), final.shape[1]))
        )
        bias = committee.biases[-1][:, :keep].mean(0)
        row[OUT_BIAS] = packer.add(bias if offsets is None else bias + offsets[plan.element])
        rows.append(row)
    table = np.zeros((len(rows), max((len(row) for row in rows), default=1)), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    weights = np.concatenate(packer.parts) if packer.parts else np.zeros(1)
    return PackedNetworks(weights, table.ravel(), table.shape[1])


def activation_rows(networks: PackedNetworks) -> tuple[int, int]:
    """Rows of workspace that the committees need: activations of all layers, and results of one product."""
    activations = results = BLOCK
    for row in networks.table.reshape(-1, networks.columns):
        total = 0
        for layer in range(row[LAYERS]):
            column = FIRST_LAYER + layer * LAYER_COLUMNS
            total += row[MEMBERS] * row[column + ROWS]
            results = max(results, row[MEMBERS] * row[column + ROWS])
        activations = max(activations, total)
        results = max(results, padded(int(row[OUTPUTS])))
    return int(activations), int(results)
