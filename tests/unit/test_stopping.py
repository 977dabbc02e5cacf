"""A request to stop, and what becomes of a process that does not hear it."""

import os
import signal
import time

import pytest

from hpcir.errors import Interrupted
from hpcir.runtime import stopping
from hpcir.runtime.stopping import SIGNALS, StopRequest


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Little patience, and the handlers as they were."""
    monkeypatch.setattr(stopping, "STOP_DEADLINE", 0.3)
    monkeypatch.setattr(stopping, "POLL_INTERVAL", 0.05)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait_for(said: list[str], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not said and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.parametrize("number", SIGNALS)
def test_who_reaches_no_safe_point_is_overdue(number):
    said: list[str] = []
    stop = StopRequest(overdue=said.append).install()
    asked = time.monotonic()
    os.kill(os.getpid(), number)
    wait_for(said)
    stop.close()
    assert (
        said[0] == f"stopped by signal {signal.Signals(number).name}; "
        "everything finished is saved, the same command continues the run"
    )
    assert time.monotonic() - asked > 0.3


def test_the_clock_asks_too_and_the_interruption_says_when():
    said: list[str] = []
    stop = StopRequest(0.1, overdue=said.append).install()
    began = time.monotonic()
    wait_for(said)
    stop.close()
    assert "--walltime" in said[0]
    with pytest.raises(Interrupted, match="--walltime") as caught:
        stop.check()
    assert began < caught.value.asked < began + 0.3


def test_a_request_that_is_closed_ends_nothing():
    said: list[str] = []
    descriptors = len(os.listdir("/proc/self/fd"))
    stop = StopRequest(overdue=said.append).install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()
    stop.close()
    time.sleep(0.6)
    assert said == []
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert signal.set_wakeup_fd(-1) == -1
