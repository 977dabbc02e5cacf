"""Potentials read from n2p2 on many replicas of one molecule at once: compiled symmetry functions, batched networks.

Replicas stand as one list of R N atoms whose neighbours are in the same replica, so that one call of each kernel and
one matrix product of each layer serve them all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.kernel_cache import prepare_kernel_cache
from hpcir.errors import InputError
from hpcir.exchange.n2p2.kernel import FunctionTables, Neighbours, all_features, all_gradients
from hpcir.exchange.n2p2.networks import NetworkSet
from hpcir.models.evaluation import ReplicaEvaluation, origin_weights

prepare_kernel_cache()

from numba import njit  # noqa: E402 - after the cache directory is chosen


@njit(cache=True, nogil=True)
def replica_neighbours(positions, cutoff):  # type: ignore[no-untyped-def]
    """Neighbours within each replica: start (R N + 1,), atoms (P,), vectors (P, 3) for positions (R, N, 3)."""
    replicas, count = positions.shape[0], positions.shape[1]
    start = np.zeros(replicas * count + 1, np.int64)
    limit = cutoff * cutoff
    for fill in range(2):
        if fill == 1:
            atoms, vectors = np.empty(start[-1], np.int64), np.empty((start[-1], 3))
        place = 0
        for r in range(replicas):
            for i in range(count):
                for j in range(count):
                    x = positions[r, j, 0] - positions[r, i, 0]
                    y = positions[r, j, 1] - positions[r, i, 1]
                    z = positions[r, j, 2] - positions[r, i, 2]
                    if i == j or x * x + y * y + z * z >= limit:
                        continue
                    if fill == 1:
                        atoms[place] = r * count + j
                        vectors[place, 0], vectors[place, 1], vectors[place, 2] = x, y, z
                    place += 1
                start[r * count + i + 1] = place
    return start, atoms, vectors


@njit(cache=True, nogil=True)
def gather_forces(start, atoms, gradient, forces):  # type: ignore[no-untyped-def]
    """Add minus the gradient by the positions to forces (A, 3), from that by the neighbours' vectors (P, 3)."""
    for i in range(len(start) - 1):
        for p in range(start[i], start[i + 1]):
            for axis in range(3):
                forces[i, axis] += gradient[p, axis]
                forces[atoms[p], axis] -= gradient[p, axis]


@dataclass
class FunctionGroup:
    """Members of the committee with the same symmetry functions, which are then computed once."""

    tables: FunctionTables
    first: NetworkSet
    energy: list[NetworkSet] = field(default_factory=list)
    charge: list[NetworkSet] = field(default_factory=list)


class LockstepPotential:
    """An n2p2 potential as the trajectory runner wants one, for `replicas` replicas of one molecule; atomic units.

    energy, charge: the members' networks, charge empty where there are none; numbers (N,) atomic numbers, all of them
    known; total_charge in e; origin and masses as in hpcir.models.evaluator.Evaluator.
    """

    def __init__(
        self,
        energy: Sequence[NetworkSet],
        charge: Sequence[NetworkSet],
        numbers: IntArray,
        replicas: int,
        total_charge: int,
        *,
        origin: str = "charge",
        masses: FloatArray | None = None,
    ) -> None:
        numbers = np.asarray(numbers, np.int64)
        self.numbers, self.replicas, self.total_charge = numbers, replicas, float(total_charge)
        self.sizes = len(energy), len(charge)
        self.cutoff = max(networks.cutoff for networks in (*energy, *charge))
        self.origin = origin_weights(origin, numbers, masses)
        tiled = np.tile(numbers, replicas)
        self.species = np.searchsorted(sorted(energy[0].elements), tiled).astype(np.int64)
        self.rows = {int(z): np.flatnonzero(tiled == z) for z in np.unique(numbers)}
        self.groups = _groups(energy, charge)

    @property
    def kernels(self) -> None:
        """None: the steps are plain."""
        return None

    @property
    def chunk_steps(self) -> int:
        """No limit: its steps are fast."""
        return sys.maxsize

    def evaluate_with_dipoles(self, positions: FloatArray) -> ReplicaEvaluation:
        """Energies (R,), forces (N, 3, R) and, with charge networks, dipoles (3, R) at positions (N, 3, R)."""
        count = len(self.numbers)
        if positions.shape != (count, 3, self.replicas):
            raise InputError("positions of the wrong shape", value=positions.shape)
        frames = np.ascontiguousarray(positions.transpose(2, 0, 1))
        neighbours = Neighbours(*replica_neighbours(frames, self.cutoff))
        energies = np.zeros(self.replicas * count)
        charges, forces = np.zeros_like(energies), np.zeros((self.replicas * count, 3))
        for group in self.groups:
            gradient = np.zeros_like(neighbours.vectors)
            self._add_group(group, neighbours, energies, charges, gradient)
            gather_forces(neighbours.start, neighbours.atoms, gradient, forces)
        shape = (self.replicas, count)
        summed, turned = energies.reshape(shape).sum(1), forces.reshape(*shape, 3).transpose(1, 2, 0)
        answer = ReplicaEvaluation(summed, np.ascontiguousarray(turned))
        if not self.sizes[1]:
            return answer
        shared = charges.reshape(shape)
        shared = shared + (self.total_charge - shared.sum(1, keepdims=True)) / count
        centred = frames - np.einsum("n,rnx->rx", self.origin, frames)[:, None]
        return replace(answer, dipoles=np.einsum("rn,rnx->xr", shared, centred))

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) and forces (N, 3, R), as hpcir.models.evaluator.Evaluator gives them."""
        found = self.evaluate_with_dipoles(positions)
        return found.energies, found.forces

    def _add_group(
        self,
        group: FunctionGroup,
        neighbours: Neighbours,
        energies: FloatArray,
        charges: FloatArray,
        gradient: FloatArray,
    ) -> None:
        """Add the group's part of the committee means: atomic energies, raw charges, dE/d(neighbour vectors)."""
        width = max(len(element.kind) for element in group.first.elements.values())
        features = np.zeros((len(self.species), width))
        all_features(self.species, neighbours, group.tables, features)
        slopes = np.zeros_like(features)
        for z, rows in self.rows.items():
            own = features[rows, : len(group.first.elements[z].kind)]
            for networks in group.energy:
                values, slope = networks.elements[z].evaluate(own)
                energies[rows] += values / self.sizes[0]
                slopes[rows, : own.shape[1]] += slope / self.sizes[0]
            for networks in group.charge:
                charges[rows] += networks.elements[z].evaluate(own)[0] / self.sizes[1]
        if group.energy:
            all_gradients(self.species, neighbours, group.tables, slopes, gradient)


def _groups(energy: Sequence[NetworkSet], charge: Sequence[NetworkSet]) -> list[FunctionGroup]:
    groups: list[FunctionGroup] = []
    for networks, is_charge in [(n, False) for n in energy] + [(n, True) for n in charge]:
        group = next((g for g in groups if g.first.same_functions(networks)), None)
        if group is None:
            group = FunctionGroup(networks.tables, networks)
            groups.append(group)
        (group.charge if is_charge else group.energy).append(networks)
    return groups
