"""The context that every step of a study works in: deck, molecule, run directory, ranks, display, stop flag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from hpcir.deck.sections import Deck, LabelSettings
from hpcir.labels.base import LabelEngine
from hpcir.labels.external.engine import ExternalEngine
from hpcir.labels.isolation import IsolatedEngine
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import Communicator, collective, map_over_ranks, on_root
from hpcir.runtime.progress import Progress
from hpcir.runtime.stopping import StopRequest
from hpcir.storage import layout
from hpcir.storage.journal import Record
from hpcir.storage.run_directory import RunDirectory

Result = TypeVar("Result")
# A journal's record of a piece of work: arrays and JSON-able attributes.
JournalEntry = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]


class RunningEngine(LabelEngine, Protocol):
    """A label engine that holds something open, such as a process."""

    def close(self) -> None:
        """Release it; a later request opens it again."""


# Opens a label engine: settings, reference minimum (or None), and a check that ends a label by raising.
OpenEngine = Callable[[LabelSettings, "Structure | None", Callable[[], None]], RunningEngine]


def isolated_engine(
    settings: LabelSettings, reference: Structure | None, check_stop: Callable[[], None]
) -> RunningEngine:
    """The deck's engine in a child process."""
    return IsolatedEngine(settings, reference, settings.time_limit, check_stop=check_stop)


@dataclass(frozen=True)
class Context:
    """Deck, starting structure, run directory, ranks, display, stop flag and the opening of label engines of a run."""

    deck: Deck
    structure: Structure
    directory: RunDirectory
    comm: Communicator
    progress: Progress
    stop: StopRequest
    open_engine: OpenEngine = isolated_engine

    def engine(self, settings: LabelSettings, reference: Structure | None) -> RunningEngine:
        """A label engine, open, that heeds the stop flag."""
        if settings.engine == "files":
            return ExternalEngine(settings, self.directory / layout.EXTERNAL)
        return self.open_engine(settings, reference, self.stop.check)

    @property
    def root(self) -> bool:
        return self.comm.rank == 0

    @collective
    def on_root(self, work: Callable[[], Result]) -> Result:
        """work() on rank 0 alone: its result, or the error that it raised, on every rank (collective)."""
        return on_root(self.comm, work)

    def at_root(self, work: Callable[[], Result]) -> Result | None:
        """work() on rank 0 alone, and its result there; None elsewhere. Not collective."""
        return work() if self.root else None

    @collective
    def map_over_ranks(
        self, what: str, todo: Sequence[int], work: Callable[[int], Result], unit: str, total: int | None = None
    ) -> dict[int, Result] | None:
        """`mpi.map_over_ranks` as a stage of the display, `what`, with a check of the stop flag before each piece of
        work (collective). total: pieces in all, where some were done before and are not in `todo`."""
        before = 0 if total is None else total - len(todo)

        def one(index: int) -> Result:
            self.stop.check()
            return work(index)

        with self.progress.stage(what, total=before + len(todo), unit=unit, done=before) as stage:
            return map_over_ranks(self.comm, todo, one, lambda handed_out: stage.advance_to(before + handed_out))

    @collective
    def map_journalled(
        self, what: str, folder: str, keys: Sequence[str], work: Callable[[int], JournalEntry], unit: str
    ) -> list[Record] | None:
        """`map_over_ranks` of the pieces of work that the journals of `folder` do not have, each journalled: the
        records of all keys in order on rank 0, None elsewhere (collective).

        keys: a digest of all that a piece's result depends on, for each piece, the same on all ranks.
        """
        known = self.at_root(lambda: self._journalled(folder, set(keys))) or {}
        todo = self.on_root(lambda: [index for index, key in enumerate(keys) if key not in known])
        journal = self.directory.journal(folder, self.comm.node)

        def journalled(index: int) -> Record:
            arrays, attributes = work(index)
            journal.append(keys[index], dict(arrays), attributes)
            return Record(keys[index], dict(attributes), dict(arrays))

        found = self.map_over_ranks(what, todo, journalled, unit, len(keys))
        journal.close()
        if found is None:
            return None
        known |= {record.key: record for record in found.values()}
        return [known[key] for key in keys]

    def _journalled(self, folder: str, keys: set[str]) -> dict[str, Record]:
        return {record.key: record for record in self.directory.records(folder) if record.key in keys}

    def random(self, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
        """The stream of one item of one purpose: the same on any rank and after any resumption."""
        return stream(self.deck.seed, purpose, item, chunk)


def stream(seed: int, purpose: str, item: int = 0, chunk: int = 0) -> np.random.Generator:
    """A Philox stream keyed by (seed, purpose) with the counter at (item, chunk)."""
    import zlib

    key = np.array([seed, zlib.crc32(purpose.encode())], np.uint64)
    counter = np.array([0, 0, chunk, item], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
