"""Committees of feed-forward networks, one per element, and their plain numpy evaluation.

A network maps the features G of one atom to `n_outputs` numbers:
    x = (G[active] - shift) * scale;  a_1 = tanh(W_1 x + b_1);  ...;  y = W_L a_(L-1) + b_L   (linear output).
All members of a committee share the features, their selection (`active`) and their scaling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet


@dataclass(frozen=True)
class NetworkCommittee:
    """The committee of one element.

    active (n_in,) indices into the features; shift, scale (n_in,); weights[l] (members, n_out_l, n_in_l);
    biases[l] (members, n_out_l). The last layer is linear, the others tanh. projection (n_in, K): the linear
    combinations of features that the first layer was trained on (weights[0] lies in its span), kept so that a
    warm training continues with the same ones; nothing else reads it.
    """

    active: IntArray
    shift: FloatArray
    scale: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    projection: FloatArray | None = None

    @property
    def members(self) -> int:
        return int(self.weights[0].shape[0])

    @property
    def n_outputs(self) -> int:
        return int(self.weights[-1].shape[1])

    @property
    def hidden(self) -> tuple[int, ...]:
        return tuple(int(w.shape[1]) for w in self.weights[:-1])

    def evaluate(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Outputs (members, atoms, n_outputs) and the gradient of output 0 with respect to all features
        (members, atoms, n_features), for features (atoms, n_features). The plain twin of the kernels."""
        outputs, slopes = self.outputs_and_slopes(features, np.eye(1, self.n_outputs)[None])
        return outputs, slopes[:, :, 0]

    def outputs_and_slopes(self, features: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Outputs (members, atoms, n_outputs), and the gradients (members, atoms, C, n_features) of C combinations of
        each atom's outputs: features (atoms, n_features), factors (atoms or 1, C, n_outputs)."""
        x = (features[:, self.active] - self.shift) * self.scale
        activations = [np.broadcast_to(x, (self.members, *x.shape))]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            activations.append(np.tanh(activations[-1] @ weight.transpose(0, 2, 1) + bias[:, None]))
        outputs = activations[-1] @ self.weights[-1].transpose(0, 2, 1) + self.biases[-1][:, None]
        slopes = np.broadcast_to(factors, (len(features), *factors.shape[1:])) @ self.weights[-1][:, None]
        for weight, activation in zip(self.weights[-2::-1], activations[:0:-1], strict=True):
            slopes = (slopes * (1 - activation**2)[:, :, None]) @ weight[:, None]
        full = np.zeros((*slopes.shape[:3], features.shape[1]))
        full[..., self.active] = slopes * self.scale
        return outputs, full

    def member(self, index: int) -> NetworkCommittee:
        """A committee of the one member `index`."""
        pick = slice(index, index + 1)
        return NetworkCommittee(
            self.active,
            self.shift,
            self.scale,
            tuple(w[pick] for w in self.weights),
            tuple(b[pick] for b in self.biases),
            self.projection,
        )

    def stacked_with(self, others: list[NetworkCommittee]) -> NetworkCommittee:
        """One committee of this one's members and all the others'; features and scaling must be the same."""
        all_ = [self, *others]
        return NetworkCommittee(
            self.active,
            self.shift,
            self.scale,
            tuple(np.concatenate(layer) for layer in zip(*(c.weights for c in all_), strict=True)),
            tuple(np.concatenate(layer) for layer in zip(*(c.biases for c in all_), strict=True)),
            self.projection,
        )


class ModelNetworks(Protocol):
    """The parts of a model that inference reads: see hpcir.models.model.Model."""

    @property
    def functions(self) -> SymmetryFunctionSet: ...

    @property
    def energy(self) -> dict[int, NetworkCommittee]: ...

    @property
    def charge(self) -> dict[int, NetworkCommittee]: ...

    @property
    def offsets(self) -> dict[int, float]: ...

    @property
    def total_charge(self) -> int: ...

    @property
    def members(self) -> int: ...

    def require(self, numbers: IntArray) -> None:
        """Raise InputError when a structure has an element that this model never saw."""

    def require_charges(self, numbers: IntArray) -> None:
        """Raise InputError when a structure has an element without charge networks."""
