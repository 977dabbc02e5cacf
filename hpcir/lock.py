"""The lock of a run directory: a file with host and process; the lock of the dead goes to one of those who ask."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any


def lock_identity() -> dict[str, Any]:
    """Host, process and the process's start time (a process number alone may be used again)."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> str:
    """A process's start time in kernel ticks, '' where /proc does not tell or no such process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def create_whole(path: Path, text: str) -> None:
    """Create a file with its text in one step, so that nobody finds it empty. Raises FileExistsError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
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
    if read_lock(aside) != holder:  # a living run's, taken over between our look and our rename: give it back
        with contextlib.suppress(OSError):
            os.link(aside, lock)
    aside.unlink(missing_ok=True)


def read_lock(lock: Path) -> dict[str, Any] | None:
    """Who holds a lock; None when there is none or it cannot be read."""
    try:
        holder = json.loads(lock.read_text())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"host", "pid", "started"} <= holder.keys() else None


def lock_alive(lock: Path, holder: dict[str, Any], heartbeat: float) -> bool:
    """Whether the holder lives: on this host by its process, on others by the lock's age."""
    if holder["host"] == socket.gethostname():
        return bool(process_start(holder["pid"]) == holder["started"] != "")
    try:
        return abs(time.time() - lock.stat().st_mtime) < heartbeat
    except OSError:
        return False
