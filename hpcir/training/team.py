"""The ranks that train one committee member together: each takes some parts of every batch, the gradients are summed.

A batch is cut into as many parts as its size is worth, whatever the number of ranks, and the parts' gradients are
added in one order. So the rounding, and with it the model, is the same on one rank and on as many as there are parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hpcir.deck.sections import TrainingSettings
from hpcir.runtime.mpi import Communicator, SerialCommunicator, collective
from hpcir.training.dataset import LabelledGroup

if TYPE_CHECKING:
    from torch import Tensor

# A part of a batch is worth an exchange of gradients from this many elements of the labels' derivatives (a
# millisecond of products) on; and no part has fewer labels than this, nor are there more parts: in smaller ones what
# torch does around the products costs more than these.
PART_ELEMENTS = 1_500_000
PART_LABELS, MAX_PARTS = 4, 8
# Seconds of training between two states for the disk.
CHECKPOINT_SECONDS = 1.0


def batch_parts(groups: Sequence[LabelledGroup], n_features: int, settings: TrainingSettings) -> int:
    """Parts of a batch, a power of two, by the size of the largest molecule's derivatives (3 N x N x features)."""
    # The filter takes one measurement after the other; a GPU has no use for parts.
    if settings.optimizer == "kalman" or settings.device != "cpu":
        return 1
    atoms = max((len(group.numbers) for group in groups), default=1)
    elements = settings.batch * 3 * atoms * atoms * n_features
    parts = 1
    while 2 * parts <= min(MAX_PARTS, settings.batch // PART_LABELS) and elements >= 2 * parts * PART_ELEMENTS:
        parts *= 2
    return parts


@dataclass(frozen=True)
class Team:
    """The ranks of one member; `parts` is a multiple of their number."""

    comm: Communicator
    parts: int = 1

    @property
    def leads(self) -> bool:
        return self.comm.rank == 0

    def gradient(self, indices: NDArray, of_part: Callable[[NDArray], Tensor]) -> Tensor:
        """Sum over the parts of a batch; of_part(labels of a part) gives that part's gradient, a flat tensor.

        Collective. The parts are the labels in their order, cut into equal stretches.
        """
        import torch

        stretches = np.array_split(np.sort(indices), self.parts)
        share = self.parts // self.comm.size
        first = self.comm.rank * share
        mine = torch.stack([of_part(stretch) for stretch in stretches[first : first + share]])
        if self.comm.size > 1:
            every = self.comm.gather_arrays(mine.cpu().numpy())
            mine = torch.as_tensor(every.reshape(self.parts, -1)).to(mine)
        total = mine[0]
        for part in mine[1:]:
            total += part
        return total


SINGLE_RANK = Team(SerialCommunicator())


@collective
def form_team(comm: Communicator, member_ranks: Sequence[int], parts: int) -> Team | None:
    """A team of the ranks `member_ranks` of comm, as many as divide `parts`; None on a rank that is not needed.

    Collective on comm: every rank calls it, with the ranks of its own member.
    """
    size = 1
    while 2 * size <= min(len(member_ranks), parts):
        size *= 2
    chosen = member_ranks[:size]
    inside = comm.rank in chosen
    part = comm.split(chosen[0] if inside else comm.size)
    return Team(part, parts) if inside else None


class Pace:
    """The number of optimiser steps in about CHECKPOINT_SECONDS, the same on every rank of a team."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.steps = 1
        self._began = time.perf_counter()

    @collective
    def done(self, steps: int) -> None:
        """So many steps were just done, since the last call or the beginning (collective on the team)."""
        now = time.perf_counter()
        wanted = int(steps * CHECKPOINT_SECONDS / max(now - self._began, 1e-6))
        self.steps = int(self.team.comm.bcast(max(1, min(wanted, 4 * self.steps))))
        self._began = now
