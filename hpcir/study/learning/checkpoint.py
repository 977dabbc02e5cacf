"""A training in progress on the disk: one file a member, replaced every few seconds, so that a stop costs seconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcir.runtime.mpi import Communicator, collective
from hpcir.runtime.stopping import StopRequest
from hpcir.storage.files import replace_file
from hpcir.storage.journal import encode_record, read_record

if TYPE_CHECKING:
    from hpcir.training.train import State

# Seconds between two states on the disk.
SAVE_INTERVAL = 3.0


class TrainingCheckpoint:
    """The state of one member's training (weights, averages, best, optimiser), shared by the ranks of its team.

    key: of all that the training depends on; the state of another training counts as none. The file is one journal
    record, so that a damaged one is noticed and the training begins anew.
    """

    def __init__(self, path: Path, key: str, comm: Communicator, stop: StopRequest) -> None:
        self.path, self.key, self.comm, self.stop = path, key, comm, stop
        self._saved = time.monotonic()

    @collective
    def load(self) -> State | None:
        """The state to continue from, the same on every rank of the team (collective); None when there is none."""
        record = read_record(self.path) if self.comm.rank == 0 else None
        state = record.arrays if record is not None and record.key == self.key else None
        shared: State | None = self.comm.bcast(state)
        return shared

    @collective
    def keep(self, state: State) -> None:
        """Save the state when it is time (collective on the team). Raises Interrupted when a rank of the team is to
        stop, the state saved; RunStopped when the disk is full."""
        stopping = bool(self.comm.sum_arrays(np.array([self.stop.requested()], np.int64))[0])
        if stopping or time.monotonic() - self._saved > SAVE_INTERVAL:
            self.save(state)
        if stopping:
            self.stop.request("a signal to another rank")
            self.stop.check()

    def save(self, state: State) -> None:
        """Put a state on the disk now."""
        if self.comm.rank == 0:
            attributes: dict[str, Any] = {"format": "hpcir training"}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, encode_record(self.key, state, attributes))
        self._saved = time.monotonic()
