"""What every stage is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.deck import Deck
from hpcir.mpi import Communicator
from hpcir.progress import Progress
from hpcir.stopping import StopRequest
from hpcir.store import RunDirectory
from hpcir.structures import Structure


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

    def random(self, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
        """The stream of one item of one purpose: the same on any rank and after any resumption."""
        return stream(self.deck.seed, purpose, item, chunk)


def stream(seed: int, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
    """A Philox stream keyed by (seed, purpose) with the counter at (item, chunk)."""
    import zlib

    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    counter = np.array([0, 0, chunk, item], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
