"""Message passing: the only module that imports mpi4py. Stages receive a `Communicator`.

MPI starts only under a launcher (mpirun, srun), so plain `hpcir` runs where no MPI library is installed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar, cast

from hpcir.errors import EXIT_STOPPED, HpcirError, InputError, Interrupted
from hpcir.runtime.launcher import (
    follow_launcher,
    require_no_others,
    require_pmix,
    require_step_of_one,
    speaks_pmix_alone,
    under_launcher,
)
from hpcir.runtime.rank_watch import Watchman, post
from hpcir.runtime.stopping import STOP_DEADLINE

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])
# A numpy array; the parser imports this module, and is not to wait for numpy.
Array = Any

# Most bytes of one message, and of all that reach the root in one round of a gather: MPI counts in 32 bits, and
# there is no memory for a second copy of everything.
MESSAGE_BYTES = 1 << 26

# Seconds that a waiting rank asks for a message without a break (MPI libraries never stop asking); after that it sleeps
# a part of the time that it has waited, MAX_NAP at most, and leaves its processor to ranks and programs that work.
EAGER_WAIT, NAP_PART, MAX_NAP = 5e-4, 0.05, 5e-3

# Least seconds that a stopping rank waits for the others to reach a safe point; they have STOP_DEADLINE, as it had.
MIN_WIND_UP = 0.5
# Seconds that a rank with an error waits to see whether every rank has it, before it ends the job by force.
AGREEMENT_TIME = 2.0

# Seconds that MPI has to end a job by force; and those that the launcher has before it to pass on a last message: Hydra
# drops what it has not read when the job is aborted.
ABORT_LIMIT, LAST_WORDS = 2.0, 0.5


class Communicator(Protocol):
    """The part of MPI that stages use; objects travel pickled between ranks of one job, never to disk."""

    rank: int
    size: int
    node_rank: int
    """Rank among the ranks that share this one's memory: the first ones compile kernels for their node."""
    node_size: int
    """How many ranks share this one's memory."""
    node: int
    """The first rank of this one's node: the node's number in file names."""
    nodes: int
    """How many nodes (groups of ranks that share memory) there are."""
    watchman: Watchman | None
    """The watchman of this rank's host, until an orderly end begins."""

    def bcast(self, value: Any, root: int = 0) -> Any: ...
    def gather(self, value: Any, root: int = 0) -> list[Any] | None: ...
    def allgather(self, value: Any) -> list[Any]: ...
    def sum_arrays(self, array: Array) -> Array: ...
    def gather_arrays(self, array: Array) -> Array: ...
    def split(self, color: int) -> Communicator: ...
    def barrier(self) -> None: ...
    def barrier_within(self, seconds: float) -> bool: ...
    def abort(self, status: int, message: str) -> NoReturn: ...
    def counter(self, total: int) -> Items: ...


def collective(function: Function) -> Function:
    """Mark a function that every rank must call: it communicates (a test holds the marks against the calls)."""
    function.collective = True  # type: ignore[attr-defined]
    return function


@collective
def map_over_ranks(
    comm: Communicator,
    todo: Sequence[int],
    work: Callable[[int], Result],
    on_progress: Callable[[int], None] = lambda handed_out: None,
) -> dict[int, Result] | None:
    """work(index) of every index of `todo`, each on the rank that asks next; the results by index on rank 0, None
    elsewhere (collective). on_progress(handed_out) follows each piece of work: the pieces handed out so far."""
    mine = {}
    for item in comm.counter(len(todo)):
        mine[todo[item]] = work(todo[item])
        on_progress(item + 1)
    gathered = comm.gather(mine)
    return None if gathered is None else {index: result for part in gathered for index, result in part.items()}


class Items:
    """Iterate over 0 .. total-1 until they are exhausted or `stop` is called; any thread may take one."""

    def __init__(self, total: int) -> None:
        self._next, self._total = 0, total
        self._lock = threading.Lock()

    def take(self) -> int:
        """The next item; total or more when there is none."""
        with self._lock:
            item = self._next
            self._next = item + 1
        return item

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._next = max(self._next, self._total)

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> int:
        item = self.take()
        if item >= self._total:
            raise StopIteration
        return item


class SerialCommunicator:
    """One rank, without MPI."""

    rank = 0
    size = 1
    node_rank = 0
    node_size = 1
    node = 0
    nodes = 1
    watchman: Watchman | None = None

    def bcast(self, value: Any, root: int = 0) -> Any:
        return value

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        return [value]

    def allgather(self, value: Any) -> list[Any]:
        return [value]

    def sum_arrays(self, array: Array) -> Array:
        return array

    def gather_arrays(self, array: Array) -> Array:
        return array[None]

    def split(self, color: int) -> Communicator:
        return self

    def barrier(self) -> None:
        return None

    def barrier_within(self, seconds: float) -> bool:
        return True

    def abort(self, status: int, message: str) -> NoReturn:
        print(f"hpcir: {message}", file=sys.stderr, flush=True)
        os._exit(status)

    def counter(self, total: int) -> Items:
        return Items(total)


class MpiCommunicator:
    """COMM_WORLD (or a part of it) through mpi4py."""

    # Each counter has its own pair of tags: a rank may already ask the next one while another ends this one.
    _FIRST_TAG, _COUNTERS = 1000, 8000

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._comm = comm
        self.watchman: Watchman | None = None
        # Packs objects as mpi4py's own messages do, which alone cannot be cut into pieces.
        self._pack, self._unpack, self._byte = MPI.pickle.dumps, MPI.pickle.loads, MPI.BYTE
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        # The counter's messages must never meet the stages' own: they travel on a duplicate.
        self._counter_comm: Any = comm.Dup() if self.size > 1 else None
        self._counters = 0
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.node_rank: int = node.Get_rank()
        self.node_size: int = node.Get_size()
        self.node: int = node.bcast(self.rank)
        node.Free()
        self.nodes: int = comm.allreduce(int(self.node_rank == 0))

    def bcast(self, value: Any, root: int = 0) -> Any:
        """The root's value on every rank, in messages of MESSAGE_BYTES at most."""
        data = bytearray(self._pack(value)) if self.rank == root else bytearray()
        size = bytearray(len(data).to_bytes(8, "little"))
        _wait(self._comm.Ibcast([size, 8, self._byte], root=root))
        data = data or bytearray(int.from_bytes(size, "little"))
        for piece in _pieces(data):
            self._comm.Bcast([piece, len(piece), self._byte], root=root)
        return self._unpack(data)

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """Every rank's value on the root in the order of ranks (None elsewhere), in rounds of MESSAGE_BYTES in all."""
        import numpy as np

        data = self._pack(value)
        sizes = np.zeros(self.size, np.int64)
        own = np.array([len(data)], np.int64)
        _wait(self._comm.Iallgather(own, sizes))
        parts = [bytearray(size) for size in sizes.tolist()] if self.rank == root else []
        share = max(1, MESSAGE_BYTES // self.size)
        for first in range(0, int(sizes.max()), share):
            counts = np.clip(sizes - first, 0, share)
            places = np.concatenate([[0], np.cumsum(counts)])
            buffer = bytearray(int(places[-1])) if self.rank == root else None
            receive = None if buffer is None else [buffer, (counts, places[:-1]), self._byte]
            self._comm.Gatherv([data[first : first + share], self._byte], receive, root=root)
            for part, count, place in zip(parts, counts.tolist(), places.tolist(), strict=False):
                part[first : first + count] = buffer[place : place + count] if buffer is not None else b""
        return [self._unpack(part) for part in parts] if self.rank == root else None

    def allgather(self, value: Any) -> list[Any]:
        """Every rank's value on every rank, in the order of ranks."""
        return list(self.bcast(self.gather(value)))

    def sum_arrays(self, array: Array) -> Array:
        """The sum of every rank's array of numbers, on every rank."""
        import numpy as np

        total = np.empty_like(array)
        self._comm.Allreduce(np.ascontiguousarray(array), total)
        return total

    def gather_arrays(self, array: Array) -> Array:
        """Every rank's array of the same shape and type, stacked in the order of ranks, on every rank."""
        import numpy as np

        stacked = np.empty((self.size, *array.shape), array.dtype)
        self._comm.Allgather(np.ascontiguousarray(array), stacked)
        return stacked

    def split(self, color: int) -> Communicator:
        """The ranks of one colour among themselves, in the order of their ranks (collective)."""
        part = self._comm.Split(color)
        return SerialCommunicator() if part.Get_size() == 1 else MpiCommunicator(part)

    def barrier(self) -> None:
        _wait(self._comm.Ibarrier())

    def barrier_within(self, seconds: float) -> bool:
        """True when all ranks arrived within so many seconds; used at the end of a job, never again after False."""
        # On the duplicate: a rank that is still in a blocking collective of the stages must not meet this one.
        request = self._counter_comm.Ibarrier()
        end = time.monotonic() + seconds
        while not request.Test():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def abort(self, status: int, message: str) -> NoReturn:
        """End the job on all ranks by force, from any thread, with one message."""
        if self.watchman is not None:
            self.watchman.leave()
        print(f"hpcir: rank {self.rank}: {message}", file=sys.stderr, flush=True)
        time.sleep(LAST_WORDS)
        from mpi4py import MPI

        # Where the library does not come back, because another thread is in it, the kernel ends this process.
        signal.setitimer(signal.ITIMER_REAL, ABORT_LIMIT)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)  # Abort may return before the launcher has ended the job

    def counter(self, total: int) -> Items:
        """Hand out 0 .. total-1, each to one rank, to whichever asks next; every rank iterates its share.

        Rank 0 works too: a thread of its answers the others. (A one-sided fetch-and-add would need rank 0 to
        enter MPI for progress on many networks, which it does not do while it computes.) Rank 0 may stop it before
        the last item. Collective: every rank must call it and exhaust the iterator.
        """
        if self.size == 1:
            return Items(total)
        tag = self._FIRST_TAG + 2 * (self._counters % self._COUNTERS)
        self._counters += 1
        kind = _ServedItems if self.rank == 0 else _AskedItems
        return kind(total, self._counter_comm, tag)


class _AskedItems(Items):
    """The items of a rank that asks rank 0 for each."""

    def __init__(self, total: int, comm: Any, tag: int) -> None:
        super().__init__(total)
        self._comm, self._tag = comm, tag
        self._ended = False

    def take(self) -> int:
        if self._ended:
            return self._total
        self._comm.send(None, dest=0, tag=self._tag)
        item: int = self._comm.recv(source=0, tag=self._tag + 1)
        self._ended = item >= self._total
        return item

    def stop(self) -> None:
        raise RuntimeError("rank 0 alone stops the others")


class _ServedItems(Items):
    """The items of rank 0, with the thread that answers the other ranks."""

    def __init__(self, total: int, comm: Any, tag: int) -> None:
        super().__init__(total)
        self._server = threading.Thread(target=self._answer, args=(comm, tag), daemon=True)
        self._server.start()

    def __next__(self) -> int:
        item = self.take()
        if item >= self._total:
            self._server.join()
            raise StopIteration
        return item

    def _answer(self, comm: Any, tag: int) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        waiting = comm.Get_size() - 1
        pause = 1e-4
        while waiting:
            if not comm.iprobe(source=MPI.ANY_SOURCE, tag=tag, status=status):
                time.sleep(pause)
                pause = min(2 * pause, 5e-3)
                continue
            pause = 1e-4
            source = status.Get_source()
            comm.recv(source=source, tag=tag)
            item = self.take()
            comm.send(item, dest=source, tag=tag + 1)
            waiting -= item >= self._total


def _wait(request: Any) -> None:
    """Wait for a message."""
    started = time.monotonic()
    while not request.Test():
        waited = time.monotonic() - started
        if waited > EAGER_WAIT:
            time.sleep(min(NAP_PART * waited, MAX_NAP))


def _pieces(data: bytearray) -> Iterator[memoryview]:
    whole = memoryview(data)
    return (whole[first : first + MESSAGE_BYTES] for first in range(0, len(data), MESSAGE_BYTES))


def world() -> Communicator:
    """All ranks of this job; one rank without MPI when no launcher started it."""
    if not under_launcher():
        require_step_of_one()
        return SerialCommunicator()
    follow_launcher()
    try:
        import mpi4py

        if speaks_pmix_alone():
            mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI

        if not MPI.Is_initialized():
            require_pmix(MPI.Get_library_version())
            MPI.Init_thread()
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"started by an MPI launcher, and no MPI library can be loaded: {str(error).splitlines()[0]}",
            hint="load your cluster's MPI module, or install one: pip install 'hpcir[mpi]'",
        ) from error
    if MPI.COMM_WORLD.Get_size() == 1:
        require_no_others()
        return SerialCommunicator()
    return MpiCommunicator(MPI.COMM_WORLD)


@collective
def on_root(comm: Communicator, work: Callable[[], Result]) -> Result:
    """work() on rank 0 alone: its result, or the HpcirError that it raised, on every rank (collective)."""
    outcome: tuple[Result | None, HpcirError | None] = (None, None)
    if comm.rank == 0:
        try:
            outcome = (work(), None)
        except HpcirError as error:
            outcome = (None, error)
    outcome = comm.bcast(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return cast(Result, outcome[0])


class abort_on_exception:
    """Context: an exception on one rank ends the job on all, with one message from the rank that failed."""

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm

    def __enter__(self) -> Communicator:
        if self.comm.size > 1:
            places = self.comm.allgather((socket.gethostname(), os.getpid()))
            self.comm.watchman = post(self.comm.rank, places)
            self.comm.barrier()  # a rank that leaves at once must be heard
        return self.comm

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.comm.watchman is not None:
            self.comm.watchman.leave()
        if error is None or self.comm.size == 1 or isinstance(error, SystemExit):
            return
        # What stops every rank (a wrong deck, a signal) needs no force: all of them leave with the same status.
        if isinstance(error, HpcirError) and self.comm.barrier_within(_patience(error)):
            return
        if isinstance(error, HpcirError):
            self.comm.abort(error.status, str(error))
        from mpi4py import MPI

        if isinstance(error, MPI.Exception):  # the library reports a dead rank, or a failed network
            last = traceback.extract_tb(trace)[-1]
            self.comm.abort(
                EXIT_STOPPED,
                f"message passing failed, perhaps because another rank died: {str(error).splitlines()[0]} "
                f"({last.filename}, line {last.lineno}). Everything finished is saved; the same "
                "command continues the run",
            )
        self.comm.abort(1, "failed\n" + "".join(traceback.format_exception(error)))


def _patience(error: HpcirError) -> float:
    """Seconds to wait for the other ranks to come to the same end."""
    if not isinstance(error, Interrupted):
        return AGREEMENT_TIME
    return max(MIN_WIND_UP, error.asked + STOP_DEADLINE - time.monotonic())
