"""Labels that a committee member holds out, and the order in which batches take the others.

Every label has a number u in [0, 1) drawn from its own contents, so that it keeps its part when labels are added.
With v the fraction held out: u < v/2 is held out by all members (the committee's honest test: neither the error
of the mean nor the spread has seen it), and member m also holds out the m-th stretch of length v/2 after that. Small
sets hold out the MIN_HELD_OUT with the smallest u: an old label never comes to be held out because new ones are added.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from hpcir.arrays import BoolArray, IntArray

# Least number of labels held out by all members, where there are three times as many.
MIN_HELD_OUT = 4


def stream(seed: int, purpose: str, item: int = 0) -> np.random.Generator:
    """The random stream of one item of one purpose: Philox keyed by (seed, purpose), counter at the item."""
    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, item], np.uint64)))


def held_out(
    keys: Sequence[str],
    members: Sequence[int],
    seed: int,
    validation: float,
    always_learnt: BoolArray | None = None,
) -> tuple[BoolArray, BoolArray]:
    """Held out by all members (S,), and by each member (members, S), the common ones included.

    At least MIN_HELD_OUT labels (or a third of them) are held out by all, none of those `always_learnt` (S,), and at
    least one is always left to learn.
    """
    label_numbers = np.array([int(key[:13], 16) for key in keys], np.uint64)
    turn = stream(seed, "validation").random()
    u = (label_numbers.astype(float) / 16.0**13 + turn) % 1.0
    if always_learnt is not None:
        u[always_learnt] = 2.0
    half = validation / 2
    common = u < half
    candidates = np.count_nonzero(u < 1)
    common[np.argsort(u, kind="stable")[: min(MIN_HELD_OUT, candidates // 3)]] = True
    blocks = max(1, int((1 - half) / half + 1e-9))
    own = np.stack([(u >= half * (1 + m % blocks)) & (u < half * (2 + m % blocks)) for m in members])
    mine = own | common
    mine[mine.all(1)] = False
    if common.all():
        common = np.zeros_like(common)
    return common, mine


def epoch_order(available: IntArray, seed: int, epoch: int) -> IntArray:
    """The labels of one epoch in the order that batches take them; the same for all members."""
    return stream(seed, "batches", epoch).permutation(available)
