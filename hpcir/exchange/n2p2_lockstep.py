"""Potentials read from n2p2 on many replicas of one molecule at once: compiled symmetry functions, batched networks.

Replicas stand as one list of R N atoms whose neighbours are in the same replica, so that one call of each kernel and
one matrix product of each layer serve them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hpcir.descriptors.kernel_cache import prepare_kernel_cache
from hpcir.errors import InputError
from hpcir.exchange.n2p2_kernel import FunctionTables, Neighbours, all_features, all_gradients

prepare_kernel_cache()

from numba import njit  # noqa: E402 - after the cache directory is chosen

if TYPE_CHECKING:
    from hpcir.exchange.n2p2_potential import N2p2Potential, NetworkSet

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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

    numbers (N,) atomic numbers; charge: total charge in e (default: the potential's); origin and masses as in
    hpcir.models.evaluator.Evaluator. Raises InputError for an element that the potential does not know.
    """

    def __init__(
        self,
        potential: N2p2Potential,
        numbers: IntArray,
        replicas: int,
        charge: int | None = None,
        *,
        origin: str = "charge",
        masses: FloatArray | None = None,
    ) -> None:
        from hpcir.models.evaluator import origin_weights

        numbers = np.asarray(numbers, np.int64)
        potential.require(numbers)
        self.potential, self.numbers, self.replicas = potential, numbers, replicas
        self.total_charge = float(potential.total_charge if charge is None else charge)
        self.origin = origin_weights(origin, numbers, masses)
        tiled = np.tile(numbers, replicas)
        self.species = np.searchsorted(potential.elements, tiled).astype(np.int64)
        self.rows = {int(z): np.flatnonzero(tiled == z) for z in np.unique(numbers)}
        self.groups = _groups(potential)

    def __call__(self, positions: FloatArray) -> tuple[FloatArray, ...]:
        """Energies (R,), forces (N, 3, R) and, with charge networks, dipoles (3, R) at positions (N, 3, R)."""
        count = len(self.numbers)
        if positions.shape != (count, 3, self.replicas):
            raise InputError("positions of the wrong shape", value=positions.shape)
        frames = np.ascontiguousarray(positions.transpose(2, 0, 1))
        neighbours = Neighbours(*replica_neighbours(frames, self.potential.cutoff))
        energies = np.zeros(self.replicas * count)
        charges, forces = np.zeros_like(energies), np.zeros((self.replicas * count, 3))
        for group in self.groups:
            gradient = np.zeros_like(neighbours.vectors)
            self._add_group(group, neighbours, energies, charges, gradient)
            gather_forces(neighbours.start, neighbours.atoms, gradient, forces)
        shape = (self.replicas, count)
        answer = (energies.reshape(shape).sum(1), np.ascontiguousarray(forces.reshape(*shape, 3).transpose(1, 2, 0)))
        if not self.potential.charge:
            return answer
        shared = charges.reshape(shape)
        shared = shared + (self.total_charge - shared.sum(1, keepdims=True)) / count
        centred = frames - np.einsum("n,rnx->rx", self.origin, frames)[:, None]
        return (*answer, np.einsum("rn,rnx->xr", shared, centred))

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (R,) and forces (N, 3, R), as hpcir.models.evaluator.Evaluator gives them."""
        energies, forces, *_ = self(positions)
        return energies, forces

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
                energies[rows] += values / self.potential.members
                slopes[rows, : own.shape[1]] += slope / self.potential.members
            for networks in group.charge:
                charges[rows] += networks.elements[z].evaluate(own)[0] / len(self.potential.charge)
        if group.energy:
            all_gradients(self.species, neighbours, group.tables, slopes, gradient)


def _groups(potential: N2p2Potential) -> list[FunctionGroup]:
    groups: list[FunctionGroup] = []
    for networks, is_charge in [(n, False) for n in potential.energy] + [(n, True) for n in potential.charge]:
        group = next((g for g in groups if g.first.same_functions(networks)), None)
        if group is None:
            group = FunctionGroup(networks.tables, networks)
            groups.append(group)
        (group.charge if is_charge else group.energy).append(networks)
    return groups
