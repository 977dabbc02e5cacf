"""Replica exchange in temperature: canonical samples of a molecule with several minima.

Swendsen, Wang, Phys. Rev. Lett. 57, 2607, 1986; Sugita, Okamoto, Chem. Phys. Lett. 314, 141, 1999.

Chains, each with a rung at every temperature of a ladder, are the lanes of one lockstep block. A cycle of all is

    Langevin dynamics at the temperature of the rung;
    turns about rotatable bonds, each taken with the probability min(1, exp(-dE / kT));
    an exchange of like atoms, with a reflection where motion makes it: the energy is the same, it is always taken;
    swaps of neighbouring rungs of a chain, taken with min(1, exp((1/kT_i - 1/kT_j)(E_i - E_j))).

All of these keep the canonical distribution of every rung. A lane that leaves the region where the potential is known
goes back to where it was before the dynamics, with reversed velocities, as a rejected move does (the distribution is
then the canonical one within that region), and is counted; turns that lead out of it are not taken.

The ladder is geometric. For n classical degrees of freedom the heat capacity of the potential energy is n/2, and
neighbours swap with the probability erfc(sqrt(n/8) ln(T_j / T_i)) (Kofke, J. Chem. Phys. 117, 6911, 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.models.potential import ReplicaPotential
from hpcir.molecules.isotopomers import Relabelling
from hpcir.molecules.rotamers import Pivot, torsion_moves
from hpcir.spectra.estimators import skewness_factor, small_sample_factor

# Part of the swaps of neighbouring rungs that the ladder is made for, and most rungs.
ACCEPTANCE, MAX_RUNGS = 0.3, 12


def ladder(lowest: float, highest: float, degrees: int) -> FloatArray:
    """Temperatures (L,) from the lowest to the highest (any unit) with the same ratio, close enough for ACCEPTANCE with
    so many degrees of freedom: at least two where the highest is above the lowest, at most MAX_RUNGS."""
    from scipy.special import erfcinv

    if highest <= lowest:
        return np.array([lowest])
    width = erfcinv(ACCEPTANCE) / np.sqrt(degrees / 8)
    count = int(np.ceil(np.log(highest / lowest) / width)) + 1
    return np.asarray(np.geomspace(lowest, highest, min(max(2, count), MAX_RUNGS)))


@dataclass(frozen=True)
class Tally:
    """Counts of cycles: swaps (L - 1,) tried and taken of each pair of neighbouring rungs; turns (L,) tried and taken;
    lost (L,): lanes that left the region where the potential is known and went back."""

    swaps_tried: IntArray
    swaps_taken: IntArray
    turns_tried: IntArray
    turns_taken: IntArray
    lost: IntArray

    @classmethod
    def none(cls, rungs: int) -> Tally:
        """Nothing counted."""
        pairs, each = np.zeros(max(0, rungs - 1), np.int64), np.zeros(rungs, np.int64)
        return cls(pairs, pairs, each, each, each)

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(*(one + two for one, two in zip(self.arrays().values(), other.arrays().values(), strict=True)))

    def arrays(self) -> dict[str, IntArray]:
        """The counts by name."""
        return {
            "swaps_tried": self.swaps_tried,
            "swaps_taken": self.swaps_taken,
            "turns_tried": self.turns_tried,
            "turns_taken": self.turns_taken,
            "lost": self.lost,
        }

    @property
    def acceptance(self) -> FloatArray:
        """(L - 1,) part of the swaps of each pair of neighbours that was taken."""
        return np.asarray(self.swaps_taken / np.maximum(self.swaps_tried, 1))


@dataclass(frozen=True)
class Chains:
    """The state of C chains of L rungs: a block whose lane l C + c is rung l of chain c; cycles done."""

    block: ReplicaBlock
    cycles: int = 0


@dataclass(frozen=True)
class Tempering:
    """Replica exchange of a molecule.

    potential of L C replicas; masses (N,); temperatures (L,) hartree, ascending; moving: bonds that are turned;
    relabellings: operations that motion makes; is_known: positions (N, 3, R) -> (R,), where the potential is known;
    is_physical: positions (R, N, 3) -> (R,), asked before an energy is; energies_of: positions (R, N, 3) -> (R,)
    hartree; steps of dynamics of a cycle, of `timestep` with a friction of 1 / time_constant; turns: of a cycle; seed
    of the thermostat's noise.
    """

    potential: ReplicaPotential
    masses: FloatArray
    temperatures: FloatArray
    moving: list[Pivot]
    relabellings: Sequence[Relabelling]
    is_known: Callable[[FloatArray], BoolArray]
    is_physical: Callable[[FloatArray], BoolArray]
    energies_of: Callable[[FloatArray], FloatArray]
    steps: int
    timestep: float
    time_constant: float
    turns: int
    seed: int

    @property
    def rungs(self) -> int:
        """L."""
        return len(self.temperatures)

    def begin(self, positions: FloatArray, chains: IntArray) -> Chains:
        """Chains with these ids (C,) whose rungs all start at positions (N, 3, C)."""
        count = len(chains)
        lanes = (np.arange(self.rungs)[:, None] + self.rungs * chains).ravel()
        frames = np.tile(positions, (1, 1, self.rungs))
        velocities = thermal_velocities(
            frames, self.masses, np.repeat(self.temperatures, count), self.seed, lanes, purpose="tempering"
        )
        return Chains(ReplicaBlock.start(frames, velocities, lanes))

    def cycle(self, state: Chains, random: np.random.Generator) -> tuple[Chains, Tally]:
        """One cycle of all chains; random: of this block of chains and this cycle alone."""
        block = state.block
        chains = block.replicas // self.rungs
        temperatures = np.repeat(self.temperatures, chains)
        thermostat = Thermostat("langevin", temperatures, self.time_constant, self.seed)
        moved = run_chunk(
            self.potential, block, self.masses, self.steps, self.timestep, thermostat=thermostat, record=()
        ).block
        # Before the turns: one that began outside the region would be taken whatever its energy is.
        kept, lost = self._unless_lost(block, moved)
        turned = torsion_moves(
            self.energies_of,
            self.is_physical,
            self.moving,
            kept.positions.transpose(2, 0, 1),
            temperatures,
            self.turns,
            random,
        )
        kept = replace(kept, positions=_lanes(turned.positions))
        block, tried, taken = self._swapped(self._relabelled(kept, random), random, state.cycles % 2)
        each = np.full(self.rungs, self.turns * chains if self.moving else 0)
        tally = Tally(tried, taken, each, self._by_rung(turned.accepted), self._by_rung(lost))
        return Chains(block, state.cycles + 1), tally

    def _by_rung(self, counts: NDArray[np.generic]) -> IntArray:
        return np.asarray(counts.astype(np.int64).reshape(self.rungs, -1).sum(axis=1))

    def _unless_lost(self, before: ReplicaBlock, after: ReplicaBlock) -> tuple[ReplicaBlock, BoolArray]:
        """The block after dynamics, lanes that left the known region as they were before; and which these are. A lane
        that began outside it continues."""
        inside = self.is_physical(after.positions.transpose(2, 0, 1)) & after.alive
        lost = ~(inside & self.is_known(np.where(inside, after.positions, before.positions)))
        back = lost & (self.is_known(before.positions) | ~inside) if lost.any() else lost
        return (
            replace(
                after,
                positions=np.ascontiguousarray(np.where(back, before.positions, after.positions)),
                velocities=np.ascontiguousarray(np.where(back, -before.velocities, after.velocities)),
                alive=np.where(back, before.alive, after.alive),
            ),
            lost,
        )

    def _relabelled(self, block: ReplicaBlock, random: np.random.Generator) -> ReplicaBlock:
        """Every lane with one of the relabellings done to it, or none."""
        if not self.relabellings:
            return block
        positions, velocities = block.positions.copy(), block.velocities.copy()
        for lane, pick in enumerate(random.integers(len(self.relabellings) + 1, size=block.replicas).tolist()):
            if pick:
                one = self.relabellings[pick - 1]
                positions[..., lane] = one.of(positions[..., lane])
                velocities[..., lane] = one.of(velocities[..., lane])
        return replace(block, positions=positions, velocities=velocities)

    def _swapped(
        self, block: ReplicaBlock, random: np.random.Generator, parity: int
    ) -> tuple[ReplicaBlock, IntArray, IntArray]:
        """Swaps of the rungs (parity, parity + 1), (parity + 2, ...) of each chain; swaps tried and taken (L - 1,)."""
        chains = block.replicas // self.rungs
        tried, taken = np.zeros(max(0, self.rungs - 1), np.int64), np.zeros(max(0, self.rungs - 1), np.int64)
        if self.rungs < 2:
            return block, tried, taken
        energies = self.energies_of(block.positions.transpose(2, 0, 1)).reshape(self.rungs, chains)
        order = np.arange(block.replicas).reshape(self.rungs, chains)
        for low in range(parity, self.rungs - 1, 2):
            slope = 1 / self.temperatures[low] - 1 / self.temperatures[low + 1]
            chance = np.exp(np.minimum(0.0, slope * (energies[low] - energies[low + 1])))
            swap = random.random(chains) < chance
            order[low, swap], order[low + 1, swap] = order[low + 1, swap], order[low, swap]
            tried[low], taken[low] = chains, int(swap.sum())
        places = order.ravel()
        old = np.repeat(self.temperatures, chains)
        scale = np.sqrt(old / old[places])
        swapped = replace(
            block,
            positions=np.ascontiguousarray(block.positions[..., places]),
            velocities=np.ascontiguousarray(block.velocities[..., places] * scale),
            alive=block.alive[places],
        )
        return swapped, tried, taken

    def lowest(self, state: Chains) -> FloatArray:
        """Positions (C, N, 3) of the lowest rung of every chain."""
        chains = state.block.replicas // self.rungs
        return np.ascontiguousarray(state.block.positions[..., :chains].transpose(2, 0, 1))


def _lanes(frames: FloatArray) -> FloatArray:
    return np.ascontiguousarray(frames.transpose(1, 2, 0))


# -- populations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Basins:
    """Populations of named basins from C independent chains.

    names, the most populated first; shares and errors (B,): the mean over chains with its standard error; passes: how
    often a chain's lowest rung had another basin than the cycle before; unconnected: sets of basins between which no
    chain passed, the largest left out; covariance (B, B) of the shares.
    """

    names: tuple[str, ...]
    shares: FloatArray
    errors: FloatArray
    covariance: FloatArray
    passes: int
    unconnected: tuple[tuple[str, ...], ...]

    @property
    def table(self) -> dict[str, tuple[float, float]]:
        """Share and error by name."""
        return dict(zip(self.names, zip(self.shares.tolist(), self.errors.tolist(), strict=True), strict=True))

    @property
    def largest_error(self) -> float:
        """The largest of the errors."""
        return float(self.errors.max(initial=0.0))


def basins_of(names: Sequence[Sequence[str]]) -> Basins:
    """Basins from the name of every chain's (C) frame at every cycle (S): C sequences of S names.

    The error is such that two of it hold the share in 95 % of the cases: the standard error over chains, with 1 / (C S)
    at least for what so many frames do not show, times Student's factor; of errors alone, that of skewed
    quantities too: a rare basin that was met too rarely has too small a scatter.
    """
    known = sorted({name for row in names for name in row})
    inside = np.array([[[name == one for one in row] for name in known] for row in names], float)
    by_chain = inside.mean(axis=2)
    shares, count = by_chain.mean(axis=0), len(names)
    floor = 1 / inside[:, 0].size
    covariance = (
        np.cov(by_chain.T, ddof=1).reshape(len(known), -1) / count if count > 1 else np.full(2 * (len(known),), np.nan)
    )
    covariance = small_sample_factor(count) ** 2 * covariance + floor**2 * np.eye(len(known))
    errors = np.sqrt(np.diag(covariance))
    # The number of visits has half the skewness of a gamma distribution of the same relative width.
    errors = errors * skewness_factor(errors / 2, np.minimum(shares, 1 - shares))
    order = sorted(range(len(known)), key=lambda place: (-shares[place], known[place]))
    passes = sum(one != two for row in names for one, two in pairwise(row))
    return Basins(
        tuple(known[place] for place in order),
        shares[order],
        errors[order],
        covariance[np.ix_(order, order)],
        passes,
        _unconnected(names),
    )  # fmt: skip


def _unconnected(names: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Sets of names between which no sequence has both, the one with most frames left out."""
    sets: list[set[str]] = []
    for row in names:
        own = set(row)
        for other in [item for item in sets if item & own]:
            own |= other
            sets.remove(other)
        sets.append(own)
    weight = {name: 0 for own in sets for name in own}
    for row in names:
        for name in row:
            weight[name] += 1
    sets.sort(key=lambda own: -sum(weight[name] for name in own))
    return tuple(tuple(sorted(own)) for own in sets[1:])
