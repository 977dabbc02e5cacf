"""What every stage is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hpcir.deck import Deck
from hpcir.mpi import Communicator, deal
from hpcir.progress import Progress
from hpcir.stopping import StopRequest
from hpcir.store import RunDirectory
from hpcir.structures import Structure

Result = TypeVar("Result")


@dataclass(frozen=True)
class Context:
    """Deck, starting structure, run directory, ranks, display and stop flag of one run."""

    deck: Deck
    structure: Structure
    directory: RunDirectory
    comm: Communicator
    progress: Progress
    stop: StopRequest

    @property
    def root(self) -> bool:
        return self.comm.rank == 0

    def deal(
        self, what: str, todo: Sequence[int], work: Callable[[int], Result], unit: str, total: int | None = None
    ) -> dict[int, Result] | None:
        """`mpi.deal` as a stage of the display, `what`, and with a look at the stop flag before each piece of work
        (collective). total: pieces in all, where some were done before and are not in `todo`."""
        before = 0 if total is None else total - len(todo)

        def one(index: int) -> Result:
            self.stop.check()
            return work(index)

        with self.progress.stage(what, total=before + len(todo), unit=unit, done=before) as stage:
            return deal(self.comm, todo, one, lambda handed_out: stage.advance_to(before + handed_out))

    def random(self, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
        """The stream of one item of one purpose: the same on any rank and after any resumption."""
        return stream(self.deck.seed, purpose, item, chunk)


def stream(seed: int, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
    """A Philox stream keyed by (seed, purpose) with the counter at (item, chunk)."""
    import zlib

    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    counter = np.array([0, 0, chunk, item], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
