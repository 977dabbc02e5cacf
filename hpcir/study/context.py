"""What every stage is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hpcir.deck.sections import Deck
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import Communicator, deal
from hpcir.runtime.progress import Progress
from hpcir.runtime.stopping import StopRequest
from hpcir.storage.journal import Record
from hpcir.storage.run_directory import RunDirectory

Result = TypeVar("Result")
# What a journal keeps of a piece of work: arrays and JSON-able attributes.
Kept = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]


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

    def deal_once(
        self, what: str, folder: str, keys: Sequence[str], work: Callable[[int], Kept], unit: str
    ) -> list[Record] | None:
        """`deal` the pieces of work that the journals of `folder` do not have, and journal them: the records of all
        keys in order on rank 0, None elsewhere (collective).

        keys: a digest of all that a piece's result depends on, for each piece, the same on all ranks.
        """
        known: dict[str, Record] = {}
        if self.root:
            wanted = set(keys)
            known = {record.key: record for record in self.directory.records(folder) if record.key in wanted}
        todo = self.comm.bcast([index for index, key in enumerate(keys) if key not in known])
        journal = self.directory.journal(folder, self.comm.node)

        def journalled(index: int) -> Record:
            arrays, attributes = work(index)
            journal.append(keys[index], dict(arrays), attributes)
            return Record(keys[index], dict(attributes), dict(arrays))

        found = self.deal(what, todo, journalled, unit, len(keys))
        journal.close()
        if found is None:
            return None
        known |= {record.key: record for record in found.values()}
        return [known[key] for key in keys]

    def random(self, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
        """The stream of one item of one purpose: the same on any rank and after any resumption."""
        return stream(self.deck.seed, purpose, item, chunk)


def stream(seed: int, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
    """A Philox stream keyed by (seed, purpose) with the counter at (item, chunk)."""
    import zlib

    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    counter = np.array([0, 0, chunk, item], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
