"""Names of vibrational states: which product of modes an eigenstate is, and what else is in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hpcir.arrays import IntArray
from hpcir.units import PER_CM
from hpcir.vibrations.levels.oscillator_states import Quanta
from hpcir.vibrations.levels.vpt2 import VibrationalStates

# Another product is named as a partner of a state when its share is at least this.
PARTNER_SHARE = 0.1


def assigned(states: VibrationalStates, most_quanta: int) -> list[tuple[int, int]]:
    """Pairs (state, product) of the products with one to `most_quanta` quanta and the eigenstates that they lead, one
    to one, by the largest sum of shares; products that lead none with a twentieth at least are left out."""
    totals = states.quanta.astype(int).sum(1)
    wanted = np.flatnonzero((totals > 0) & (totals <= most_quanta))
    shares = states.vectors[wanted] ** 2
    rows, columns = linear_sum_assignment(-shares)
    pairs = [(int(c), int(wanted[r])) for r, c in zip(rows, columns, strict=True) if shares[r, c] > 0.05 and c > 0]
    return sorted(pairs)


def product_name(quanta: Quanta, numbers: Sequence[int]) -> str:
    """'v3', '2 v1', 'v2 + v5', with the modes' numbers (n,); '0' for the ground state."""
    words = [
        f"v{number}" if count == 1 else f"{count} v{number}"
        for number, count in zip(numbers, quanta, strict=True)
        if count
    ]
    return " + ".join(words) or "0"


def kind_of(quanta: Quanta) -> str:
    """'fundamental', 'overtone' or 'combination'."""
    excited = np.flatnonzero(quanta)
    if len(excited) > 1:
        return "combination"
    return "fundamental" if quanta[excited[0]] == 1 else "overtone"


def partners(states: VibrationalStates, state: int, product: int, numbers: Sequence[int]) -> tuple[str, ...]:
    """Other products with a share of a tenth at least, as '2 v3 (31 %)', the largest first."""
    shares = states.vectors[:, state] ** 2
    order = [int(b) for b in np.argsort(-shares) if shares[b] >= PARTNER_SHARE and b != product]
    return tuple(f"{product_name(states.quanta[b], numbers)} ({100 * shares[b]:.0f} %)" for b in order)


def matched(reference: VibrationalStates, other: VibrationalStates) -> IntArray:
    """The state of `other` that each state of `reference` (S,) is, by overlap of products and nearness of energy; -1
    where there is none.

    Degenerate states are distinguished by energy alone. Both are measured from their ground states.
    """
    common = {tuple(row): index for index, row in enumerate(other.quanta.tolist())}
    pairs = [(i, common[tuple(row)]) for i, row in enumerate(reference.quanta.tolist()) if tuple(row) in common]
    left, right = (np.array(column) for column in zip(*pairs, strict=True))
    overlap = np.abs(reference.vectors[left]).T @ np.abs(other.vectors[right])
    gaps = np.subtract.outer(reference.energies - reference.energies[0], other.energies - other.energies[0]) / PER_CM
    rows, columns = linear_sum_assignment(np.abs(gaps) / 50.0 - overlap)
    result = np.full(len(reference.energies), -1, np.int64)
    result[rows] = columns
    return result
