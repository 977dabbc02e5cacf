"""From a molecule and a number of replicas to lanes: replicas side by side, or atoms from a neighbour list.

Small molecules: lanes of an element are its centres times the replicas, every other atom has a fixed slot, and lanes
of a vector are replicas of one centre, side by side in memory; nothing is ever rebuilt. Large molecules: lanes are
centres of one element, replica after replica, slots come from a list with a skin. The choice depends on the molecule
alone, never on the number of replicas: a trajectory is the same in any block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.descriptors.environment import MONOMIALS as MONOMIALS_ENTRY
from hpcir.descriptors.environment import SHELLS as SHELLS_ENTRY
from hpcir.descriptors.environment import CentrePlan, FunctionTables, centre_plan, function_tables
from hpcir.descriptors.lanes import WIDTH
from hpcir.models.neighbour_kernel import fill_slots, find_neighbours, group_widths
from hpcir.models.potential_kernel import LaneTables

# Lanes are filled in steps of two vectors, the columns of the networks' product.
STEP = 2 * WIDTH
# Up to so many atoms all pairs cost less than a list with its gathers (tools/bench/bench_kernel).
ALL_PAIRS_ATOMS = 16
# Lanes of a tile.
TILE_LANES = 32
SKIN = 1.5
# Where absent atoms are: centres and neighbours of empty lanes and slots, far from everything and from each other.
ABSENT_POSITION = 1e6


def round_up(count: int, step: int) -> int:
    return -(-count // step) * step


def _joined(parts: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    """All parts in one array, of one zero where they are empty: pointers need something to point at."""
    joined: NDArray[Any] = np.concatenate(parts).astype(kind)
    return joined if joined.size else np.zeros(1, kind)


class LaneLayout:
    """The tables of one molecule in `replicas` replicas, and their renewal as atoms move."""

    def __init__(
        self,
        functions: SymmetryFunctionSet,
        numbers: IntArray,
        replicas: int,
        *,
        all_pairs: bool | None = None,
        moments: bool | None = None,
    ) -> None:
        self.numbers = np.asarray(numbers, np.int64)
        self.atoms, self.replicas = len(self.numbers), replicas
        self.all_pairs = self.atoms <= ALL_PAIRS_ATOMS if all_pairs is None else all_pairs
        self.stride = round_up(replicas, STEP) if self.all_pairs else replicas
        self.reach = functions.cutoff + SKIN
        self.tables: FunctionTables = function_tables(functions, self.atoms - 1, moments)
        elements = sorted(set(self.numbers.tolist()))
        monomials = int(self.tables.sizes[MONOMIALS_ENTRY])
        self.plans: list[CentrePlan] = [centre_plan(functions, self.numbers, z, monomials) for z in elements]
        self.species = np.array([functions.elements.index(z) for z in self.numbers], np.int64)
        self.group_columns = max(1, *(len(plan.groups) for plan in self.plans)) + 1
        self.reference: FloatArray = np.full((self.atoms + 2) * 3 * self.stride, np.nan)
        self._fixed_tables()
        if self.all_pairs:
            self._fill_all_pairs()
        else:
            self.capacity = min(self.atoms, 64)
            self._heads = np.empty(max(64, 4 * self.atoms), np.int64)
            self._nexts = np.empty(self.atoms, np.int64)
            self.lanes = self._tables(0, np.zeros(1, np.int64), np.zeros(1, np.int64))

    def new_positions(self) -> FloatArray:
        """Positions in the kernels' layout, flat (atoms + 2, 3, stride), the two absent atoms far away."""
        x = np.zeros((self.atoms + 2, 3, self.stride))
        x[self.atoms], x[self.atoms + 1] = ABSENT_POSITION, -ABSENT_POSITION
        return x.ravel()

    def _fixed_tables(self) -> None:
        """Elements, pairs and the centre of every lane."""
        self._lane_centres: list[IntArray] = []
        self._lane_replicas: list[IntArray] = []
        rows, first, contractions, weights = [], 0, 0, 0
        for plan in self.plans:
            centres = np.flatnonzero(self.numbers == plan.element)
            if self.all_pairs:
                centre, replica = (
                    np.repeat(centres, self.stride),
                    np.tile(np.arange(self.stride), len(centres)),
                )
            else:
                centre, replica = (
                    np.tile(centres, self.replicas),
                    np.repeat(np.arange(self.replicas), len(centres)),
                )
            empty = round_up(len(centre), STEP) - len(centre)
            self._lane_centres.append(np.concatenate([centre, np.full(empty, -1)]).astype(np.int64))
            self._lane_replicas.append(np.concatenate([replica, np.full(empty, -1)]).astype(np.int64))
            vectors = (len(centre) + empty) // WIDTH
            rows.append(
                [
                    len(plan.groups), len(plan.pairs), first, vectors, plan.rows,
                    len(plan.contractions), contractions, plan.first_contraction, weights, *plan.channels,
                ]
            )  # fmt: skip
            contractions += len(plan.contractions)
            weights += plan.weights.size
            first += vectors
        self._elements = np.array(rows, np.int64)
        self._contractions = _joined([plan.contractions.ravel() for plan in self.plans], np.int64)
        self._weights = _joined([plan.weights.ravel() for plan in self.plans], np.float64)
        self._pairs = np.zeros((len(rows), max(1, *(len(p.pairs) for p in self.plans)), 3), np.int64)
        self._group_elements = np.zeros((len(rows), self.group_columns), np.int64)
        for n, plan in enumerate(self.plans):
            self._pairs[n, : len(plan.pairs)] = np.reshape(plan.pairs, (-1, 3))
            self._group_elements[n, : len(plan.groups)] = plan.groups
        centre, replica = np.concatenate(self._lane_centres), np.concatenate(self._lane_replicas)
        self._outputs = np.where(centre < 0, (self.atoms + 1) * self.stride, centre * self.stride + replica)
        self._centres = np.where(centre < 0, (self.atoms + 1) * 3 * self.stride, centre * 3 * self.stride + replica)

    def _tables(self, most: int, slots: IntArray, starts: IntArray) -> LaneTables:
        settings = [
            int(self.all_pairs), self.stride, most, self.group_columns, TILE_LANES,
            len(self.plans), self._pairs.shape[1], self._moment_vectors(),
        ]  # fmt: skip
        return LaneTables(
            np.array(settings, np.int64),
            self._elements.ravel(),
            self._pairs.ravel(),
            self._group_elements.ravel(),
            self._centres,
            self._outputs,
            slots,
            starts,
            self.reference,
            self._contractions,
            self._weights,
        )

    def _moment_vectors(self) -> int:
        """Vectors of moments that one vector of lanes needs."""
        shells, count = int(self.tables.sizes[SHELLS_ENTRY]), int(self.tables.sizes[MONOMIALS_ENTRY])
        blocks = (self.group_columns - 1) * shells * (2 * count + 2) + 2 * count
        return max(blocks, *(first + 2 * count * channels for channels, first in (p.channels for p in self.plans)))

    def _fill_all_pairs(self) -> None:
        """One slot for every other atom."""
        most = max(1, self.atoms - 1)
        vectors = len(self._centres) // WIDTH
        slots = np.zeros((vectors, most, WIDTH), np.int64)
        starts = np.zeros((vectors, self.group_columns), np.int64)
        vector = 0
        for plan, centres, replicas in zip(self.plans, self._lane_centres, self._lane_replicas, strict=True):
            for lane in range(0, len(centres), WIDTH):
                slot = 0
                for n, group in enumerate(plan.groups):
                    for atom in np.flatnonzero(self.species == group):
                        if atom != centres[lane]:
                            slots[vector, slot] = atom * 3 * self.stride + replicas[lane : lane + WIDTH]
                            slot += 1
                    starts[vector, n + 1] = slot
                vector += 1
        self.lanes = self._tables(most, slots.ravel(), starts.ravel())

    def rebuild(self, x: FloatArray) -> None:
        """Renew the neighbour list from positions x, which become the reference of the skin."""
        lists, counts = self._lists(x)
        vectors = len(self._centres) // WIDTH
        starts = np.zeros(vectors * self.group_columns, np.int64)
        most = 1
        for plan, centres, replicas, first, number in self._by_element():
            part = starts[first * self.group_columns : (first + number) * self.group_columns]
            groups = np.array(plan.groups, np.int64)
            width = group_widths(replicas, centres, groups, lists, counts, self.species, part, self.group_columns)
            most = max(most, width)
        most = round_up(most, 8)
        slots = np.zeros(vectors * most * WIDTH, np.int64)
        absent = self.atoms * 3 * self.stride
        for plan, centres, replicas, first, number in self._by_element():
            part = starts[first * self.group_columns : (first + number) * self.group_columns]
            groups = np.array(plan.groups, np.int64)
            place = slots[first * most * WIDTH : (first + number) * most * WIDTH]
            fill_slots(
                replicas, centres, groups, lists, counts, self.species, part,
                self.group_columns, place, most, self.stride, absent,
            )  # fmt: skip
        self.lanes = self._tables(most, slots, starts)
        self.reference[:] = x

    def _by_element(self) -> list[tuple[CentrePlan, IntArray, IntArray, int, int]]:
        firsts, numbers = self._elements[:, 2].tolist(), self._elements[:, 3].tolist()
        return list(zip(self.plans, self._lane_centres, self._lane_replicas, firsts, numbers, strict=True))

    def _lists(self, x: FloatArray) -> tuple[IntArray, IntArray]:
        """Neighbours (replicas, atoms, capacity) and their counts (replicas, atoms)."""
        counts = np.zeros((self.replicas, self.atoms), np.int64)
        lists = np.zeros((self.replicas, self.atoms, self.capacity), np.int64)
        for r in range(self.replicas):
            most = find_neighbours(
                x, self.stride, r, self.atoms, self.reach, self._heads, self._nexts, lists[r], counts[r]
            )
            if most > self.capacity:
                self.capacity = round_up(most, 16)
                return self._lists(x)
        return lists, counts

    def scratch_sizes(self) -> tuple[int, int]:
        """Doubles of neighbour records and of moments that one tile needs."""
        vectors = TILE_LANES // WIDTH
        shells = self.tables.sizes[SHELLS_ENTRY]
        records = vectors * int(self.lanes.settings[2]) * (12 + 3 * int(shells)) * WIDTH
        return max(1, records), vectors * self._moment_vectors() * WIDTH
