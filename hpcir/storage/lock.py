"""The lock of a run directory: a file with host and process; a dead holder's lock goes to one of the new processes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

# Seconds without a change of the lock after which its holder counts as dead; a living run touches it every ten.
LOCK_TIMEOUT = 45.0


def lock_identity() -> dict[str, Any]:
    """Host, process and the process's start time (a process number alone may be used again).

    place: the boot and the process numbering that the number belongs to, as containers of one name share neither.
    """
    pid = os.getpid()
    return {"host": socket.gethostname(), "place": _place(), "pid": pid, "started": process_start(pid)}


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """A process's start time in kernel ticks; '' without /proc or such a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def create_whole(path: Path, text: str) -> None:
    """Create a file with its text in one step, so that nobody finds it empty. Raises FileExistsError."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    temporary.write_text(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with open(path, "x") as file:
            file.write(text)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(lock: Path, holder: dict[str, Any] | None) -> None:
    """Remove the lock of a dead holder, unless another run has taken it over since: of two that try, one renames."""
    aside = lock.with_name(f".{lock.name}.stale.{os.getpid()}")
    try:
        os.rename(lock, aside)
    except FileNotFoundError:
        return
    if read_lock(aside) != holder:  # a living run's, taken over between our check and our rename: give it back
        with contextlib.suppress(OSError):
            os.link(aside, lock)
    aside.unlink(missing_ok=True)


def read_lock(lock: Path) -> dict[str, Any] | None:
    """The holder of a lock; None when there is none or it cannot be read."""
    try:
        holder = json.loads(lock.read_text())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"host", "pid", "started"} <= holder.keys() else None


def is_local(holder: dict[str, Any]) -> bool:
    """True where the holder's process, if alive, is visible to this process."""
    place = holder.get("place", "")
    return bool(holder["host"] == socket.gethostname() and (place == _place() or place == ""))


def holder_lives(lock: Path, holder: dict[str, Any], watch: float = LOCK_TIMEOUT) -> bool:
    """Test whether the holder lives: on this host by its process, elsewhere by its touching the lock meanwhile.

    The lock's age is no evidence: clocks of hosts and file servers differ and jump.
    """
    if is_local(holder):
        return _process_lives(holder)
    before, end = _touched(lock), time.monotonic() + watch
    while time.monotonic() < end:
        if _touched(lock) != before:
            return read_lock(lock) == holder
        time.sleep(min(1.0, watch / 20))
    return False


def _touched(lock: Path) -> int:
    try:
        return lock.stat().st_mtime_ns
    except OSError:
        return 0


def _process_lives(holder: dict[str, Any]) -> bool:
    return bool(process_start(holder["pid"]) == holder["started"] != "")


def lock_alive(lock: Path, holder: dict[str, Any], heartbeat: float) -> bool:
    """A quick guess whether the holder lives: on this host by its process, elsewhere by the lock's age."""
    if is_local(holder):
        return _process_lives(holder)
    try:
        return abs(time.time() - lock.stat().st_mtime) < heartbeat
    except OSError:
        return False
