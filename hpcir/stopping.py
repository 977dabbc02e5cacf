"""Stopping on request: signals and the wall clock set a flag, long work looks at it between units.

SIGTERM, SIGINT and SIGUSR1 (what SLURM sends before its time limit) all mean: finish the unit in hand if that
takes no time, leave everything on disk, end with status 75.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from hpcir.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def stop_at_once() -> None:
    """From here until a `StopRequest` is installed, a signal raises Interrupted: nothing is in hand yet."""

    def received(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by signal {signal.Signals(number).name} before the work began; run it again")

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, received)


class StopRequest:
    """Whether this process was asked to stop, and why."""

    def __init__(self, walltime: float | None = None) -> None:
        self._reason = ""
        # The monotonic clock: a jump of the system's clock neither stops a run nor keeps it going.
        self._deadline = None if walltime is None else time.monotonic() + walltime

    def install(self) -> StopRequest:
        """Catch the signals from here on; must be called from the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._received)
        return self

    def _received(self, number: int, _frame: FrameType | None) -> None:
        self._reason = f"signal {signal.Signals(number).name}"

    def request(self, reason: str) -> None:
        """Ask for a stop from inside the program; the first reason stays."""
        self._reason = self._reason or reason

    def requested(self) -> bool:
        """Whether to stop now."""
        if not self._reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self._reason = "the time limit given with --walltime"
        return bool(self._reason)

    def check(self) -> None:
        """Raise Interrupted when a stop was requested; called between units of work."""
        if self.requested():
            raise Interrupted(f"stopped by {self._reason}; everything finished is saved, the same command goes on")
