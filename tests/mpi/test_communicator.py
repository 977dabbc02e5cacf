"""The work counter and the end of a job, on real ranks."""

import json
import time

import pytest

pytestmark = pytest.mark.mpi

COUNTER = """
import json, time
from hpcir.runtime.mpi import world
comm = world()
mine = []
for item in comm.counter(23):
    time.sleep(0.03 if comm.rank == 0 else 0.01)
    mine.append(item)
again = list(comm.counter(5))
parts = comm.gather((mine, again))
if comm.rank == 0:
    print(json.dumps({"size": comm.size, "parts": parts}))
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_counter_hands_out_every_item_once(mpirun, ranks):
    done = mpirun(ranks, ["-c", COUNTER])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["size"] == ranks
    assert sorted(item for mine, _ in result["parts"] for item in mine) == list(range(23))
    assert sorted(item for _, again in result["parts"] for item in again) == list(range(5))
    # Nobody idles: rank 0 works too, and the quicker ranks do more.
    assert all(mine for mine, _ in result["parts"])


DEALT = """
import json
from hpcir.runtime.mpi import map_over_ranks, world
comm = world()
handed = []
found = map_over_ranks(comm, [7, 3, 11, 5], lambda index: (index ** 2, comm.rank), handed.append)
parts = comm.gather((found is None, handed))
if comm.rank == 0:
    print(json.dumps([sorted((index, *result) for index, result in found.items()), parts]))
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_dealt_work_comes_back_to_rank_0(mpirun, ranks):
    done = mpirun(ranks, ["-c", DEALT])
    assert done.returncode == 0, done.stderr
    found, parts = json.loads(done.stdout)
    assert [(index, square) for index, square, _ in found] == [(3, 9), (5, 25), (7, 49), (11, 121)]
    assert [nothing for nothing, _ in parts] == [rank > 0 for rank in range(ranks)]
    assert sorted(told for _, handed in parts for told in handed) == [1, 2, 3, 4]
    for rank, (_, handed) in enumerate(parts):
        assert len(handed) == sum(at == rank for _, _, at in found)


STOPPED = """
import json, time
from hpcir.runtime.mpi import world
comm = world()
items = comm.counter(1000)
if comm.rank == 0:
    time.sleep(0.3)
    items.stop()
mine = [item for item in items if time.sleep(0.02) is None]
again = list(comm.counter(5))
parts = comm.gather((mine, again))
if comm.rank == 0:
    print(json.dumps(parts))
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_rank_0_stops_handing_out(mpirun, ranks):
    done = mpirun(ranks, ["-c", STOPPED])
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout)
    taken = sorted(item for mine, _ in parts for item in mine)
    assert parts[0][0] == []
    assert taken == list(range(len(taken)))
    assert len(taken) < 1000
    assert ranks == 1 or len(taken) > 0
    assert sorted(item for _, again in parts for item in again) == list(range(5))


WAITS = """
import json, time
from hpcir.runtime.mpi import on_root, world
comm = world()
comm.barrier()
before = time.process_time()
found = on_root(comm, lambda: time.sleep(2.0) or comm.size)
spent = comm.gather(time.process_time() - before)
if comm.rank == 0:
    print(json.dumps([found, spent]))
"""


def test_ranks_that_wait_leave_their_processors_to_others(mpirun):
    done = mpirun(3, ["-c", WAITS])
    assert done.returncode == 0, done.stderr
    found, spent = json.loads(done.stdout)
    assert found == 3
    assert max(spent) < 0.4


FAILS = """
from hpcir.errors import RunStopped
from hpcir.runtime.mpi import abort_on_exception, world
with abort_on_exception(world()) as comm:
    if comm.rank == comm.size - 1:
        raise RunStopped("the disk is full")
    comm.barrier()
    import time
    time.sleep(60)
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_an_exception_on_one_rank_ends_the_job_with_its_word(mpirun, ranks):
    started = time.monotonic()
    done = mpirun(ranks, ["-c", FAILS])
    assert time.monotonic() - started < 15
    assert done.returncode == 3
    assert done.stderr.count("the disk is full") == 1
    assert f"rank {ranks - 1}" in done.stderr
    assert "Traceback" not in done.stderr


FAILS_IN_MPI = """
from hpcir.runtime.mpi import abort_on_exception, world
with abort_on_exception(world()) as comm:
    if comm.rank == 1:
        comm._comm.send(None, dest=99)
    comm.barrier()
"""


def test_an_error_of_the_library_is_told_in_one_line(mpirun):
    done = mpirun(2, ["-c", FAILS_IN_MPI])
    assert done.returncode == 3, done.stderr
    assert "hpcir: rank 1: message passing failed" in done.stderr
    assert "Traceback" not in done.stderr


LEAVES = """
from hpcir.errors import Interrupted
from hpcir.runtime.mpi import abort_on_exception, world
with abort_on_exception(world()):
    raise Interrupted("stopped at once")
"""


def test_who_leaves_at_once_is_not_taken_for_dead(mpirun):
    for _ in range(5):
        done = mpirun(3, ["-c", LEAVES])
        assert "died" not in done.stderr, done.stderr


INTERRUPTED = """
import os, signal, sys, time
from hpcir.errors import Interrupted
from hpcir.runtime.mpi import abort_on_exception, world
from hpcir.runtime.stopping import StopRequest
stop = StopRequest().install()
try:
    with abort_on_exception(world()) as comm:
        if comm.rank == comm.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(3000):
            time.sleep(0.01)
            stop.check()
except Interrupted as error:
    sys.exit(error.status)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_signal_on_one_rank_ends_the_job_with_status_75(mpirun, ranks):
    started = time.monotonic()
    done = mpirun(ranks, ["-c", INTERRUPTED])
    assert done.returncode == 75, done.stderr
    assert time.monotonic() - started < 15


AT_NO_SAFE_POINT = """
import os, signal, threading, time
from hpcir.runtime.mpi import abort_on_exception, world
from hpcir.runtime.stopping import StopRequest
with abort_on_exception(world()) as comm:
    stop = StopRequest(overdue=lambda message: comm.abort(75, message)).install()
    if comm.rank == comm.size - 1:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        for _ in range(comm.size - 1):
            comm.barrier()
    time.sleep(60)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_that_waits_for_another_or_only_works_is_stopped_too(mpirun, ranks):
    """The signalled rank is inside the MPI library, where none of Python's handlers runs, and the other in no hurry."""
    started = time.monotonic()
    done = mpirun(ranks, ["-c", AT_NO_SAFE_POINT])
    assert done.returncode == 75, done.stderr
    assert time.monotonic() - started < 15
    assert "stopped by signal SIGUSR1; everything finished is saved" in done.stderr
    assert "died" not in done.stderr


MESSAGES = """
import json
import numpy as np
import hpcir.runtime.mpi
hpcir.runtime.mpi.MESSAGE_BYTES = 1000
comm = hpcir.runtime.mpi.world()
own = {"rank": comm.rank, "array": np.arange(700 * comm.rank)}
gathered = comm.gather(own, root=comm.size - 1)
everywhere = comm.allgather(own)
told = comm.bcast(own, root=comm.size - 1)
half = comm.split(comm.rank % 2)
ok = [
    (gathered is not None) == (comm.rank == comm.size - 1),
    all([len(o["array"]) == 700 * o["rank"] for o in everywhere + (gathered or [])]),
    [o["rank"] for o in everywhere] == list(range(comm.size)),
    told["rank"] == comm.size - 1 and np.array_equal(told["array"], np.arange(700 * (comm.size - 1))),
    comm.sum_arrays(np.array([comm.rank, 1])).tolist() == [comm.size * (comm.size - 1) // 2, comm.size],
    np.array_equal(comm.gather_arrays(np.full(3, comm.rank)), np.arange(comm.size)[:, None] + np.zeros((1, 3))),
    half.allgather(comm.rank) == list(range(comm.rank % 2, comm.size, 2)),
    (comm.node, comm.nodes, comm.node_rank, comm.node_size) == (0, 1, comm.rank, comm.size),
]
every = comm.gather(ok)
if comm.rank == 0:
    print(json.dumps(every))
"""


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_values_of_any_size_travel_in_bounded_messages(mpirun, ranks):
    done = mpirun(ranks, ["-c", MESSAGES])
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == ranks
    assert all(map(all, answers)), answers
