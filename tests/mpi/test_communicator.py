"""The work counter and the end of a job, on real ranks."""

import json
import time

import pytest

pytestmark = pytest.mark.mpi

COUNTER = """
import json, time
from hpcir.mpi import world
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


FAILS = """
from hpcir.errors import RunStopped
from hpcir.mpi import abort_on_exception, world
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


INTERRUPTED = """
import os, signal, sys, time
from hpcir.errors import Interrupted
from hpcir.mpi import abort_on_exception, world
from hpcir.stopping import StopRequest
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
