"""Errors that a user meets, and the exit status each one ends the program with.

Exit status: 0 done; 2 the user's input is wrong; 3 the run stopped itself for a reason that it names; 75 stopped
on a signal with everything saved, the same command continues from there.
"""

from __future__ import annotations

import time

EXIT_DONE = 0
EXIT_INPUT = 2
EXIT_STOPPED = 3
EXIT_INTERRUPTED = 75


class HpcirError(Exception):
    """Base of every error that hpcir raises on purpose; `status` is the exit status of the program."""

    status = EXIT_STOPPED


class InputError(HpcirError):
    """Something the user wrote is wrong: what, where, the value found, and what would be right."""

    status = EXIT_INPUT

    def __init__(self, what: str, *, where: str = "", value: object = None, hint: str = "") -> None:
        self.what, self.where, self.value, self.hint = what, where, value, hint
        text = f"{where}: {what}" if where else what
        if value is not None:
            text += f" (found: {value!r})"
        if hint:
            text += f". {hint[0].upper()}{hint[1:]}"
        super().__init__(text)


class RunStopped(HpcirError):
    """The run cannot continue: no label converged, no space on the disk, a damaged file that cannot be redone."""

    status = EXIT_STOPPED


class Interrupted(HpcirError):
    """A signal or the clock asked the run to stop; everything finished is on disk.

    asked: when it did, on the monotonic clock (None: now).
    """

    status = EXIT_INTERRUPTED

    def __init__(self, message: str, *, asked: float | None = None) -> None:
        super().__init__(message)
        self.asked = time.monotonic() if asked is None else asked


class LabelFailed(HpcirError):
    """A label engine could not label one geometry (SCF unconverged, crash, NaN). Recorded, never fatal alone."""
