"""Stopping on request: signals and the wall clock set a flag, long work looks at it between units.

SIGTERM, SIGINT and SIGUSR1 (what SLURM sends before its time limit) all mean: finish the unit in hand if that
takes no time, leave everything on disk, end with status 75. A process that reaches no safe point in time is ended where
it stands: what is finished is on the disk, and the unit in hand would cost more than it is worth.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from hpcir.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Most seconds from a request to a safe point: batch systems may kill the process after ten.
STOP_DEADLINE = 6.0
# Seconds between two checks of the time.
POLL_INTERVAL = 0.5


def stop_at_once() -> None:
    """Make signals raise Interrupted until a `StopRequest` is installed: no work has begun yet."""

    def received(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by signal {signal.Signals(number).name} before the work began; run it again")

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, received)


class StopRequest:
    """A request to stop this process, with its reason, once it was made.

    walltime: seconds from now after which to stop by the clock. overdue: called from another thread with a message when
    the process is still at work `STOP_DEADLINE` seconds after the request; it must end the process.
    """

    def __init__(self, walltime: float | None = None, overdue: Callable[[str], object] | None = None) -> None:
        self._reason = ""
        self._asked = 0.0
        # The monotonic clock: a jump of the system's clock neither stops a run nor keeps it going.
        self._deadline = None if walltime is None else time.monotonic() + walltime
        self._overdue = overdue
        self._closed = False
        self._mouth = self._previous = -1

    def install(self) -> StopRequest:
        """Begin to catch the signals; must be called from the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._received)
        if self._overdue is not None:
            # Python's handlers wait for the main thread, which may be waiting for another rank; this pipe does not.
            ear, mouth = os.pipe()
            os.set_blocking(mouth, False)
            self._previous = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
            self._mouth = mouth
            threading.Thread(target=self._watch, args=(ear, self._overdue), daemon=True).start()
        return self

    def close(self) -> None:
        """End the request when the work is done or left in order: `overdue` is not called any more."""
        self._closed = True
        if self._mouth >= 0:
            signal.set_wakeup_fd(self._previous)
            os.close(self._mouth)
            self._mouth = -1

    def _received(self, number: int, _frame: FrameType | None) -> None:
        self.request(f"signal {signal.Signals(number).name}")

    def request(self, reason: str) -> None:
        """Request a stop from inside the program; the first reason is kept."""
        if not self._reason:
            self._asked = time.monotonic()
            self._reason = reason

    def requested(self) -> bool:
        """True when the process must stop now."""
        if not self._reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self.request("the time limit given with --walltime")
        return bool(self._reason)

    def check(self) -> None:
        """Raise Interrupted when a stop was requested; called between units of work."""
        if self.requested():
            raise Interrupted(self._message(), asked=self._asked)

    def _message(self) -> str:
        return f"stopped by {self._reason}; everything finished is saved, the same command continues the run"

    def _watch(self, ear: int, overdue: Callable[[str], object]) -> None:
        """Watch for signals and the time limit until the request is closed or the process is overdue."""
        while not self._closed:
            if select.select([ear], [], [], POLL_INTERVAL)[0]:
                for number in os.read(ear, 64):
                    if number in SIGNALS:
                        self.request(f"signal {signal.Signals(number).name}")
            if self.requested() and time.monotonic() - self._asked > STOP_DEADLINE and not self._closed:
                overdue(self._message())
        os.close(ear)
