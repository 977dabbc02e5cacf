"""Watchman that names the ranks of this host that died without a message; MPICH's launcher names a process at best.

One small process on each host, started by the host's first rank in a session of its own, so that it outlives the
launcher's cleaning up. It sleeps until a rank takes its leave (then it goes) or a rank's process ends without that.
Run as a plain script, it imports next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys

# Most ranks named in one message; more die together only when the whole job is killed.
MAX_NAMED_RANKS = 8


class Watchman:
    """A rank's connection to its watchman: `leave` before any orderly end."""

    def __init__(self, address: str) -> None:
        self._address = address

    def leave(self) -> None:
        """Tell this host's watchman that the end of this rank is orderly."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
            messenger.sendto(b"leave", self._address)


def post(rank: int, places: list[tuple[str, int]]) -> Watchman | None:
    """Start the watchman of this host, if this is the host's first rank; None where the system cannot have one.

    It hears the host's other ranks once the first one has returned. places: host and process number of every rank.
    """
    if not (sys.platform.startswith("linux") and hasattr(os, "pidfd_open")):
        return None
    host = places[rank][0]
    here = [(other, pid) for other, (name, pid) in enumerate(places) if name == host]
    address = f"\0hpcir-{here[0][1]}"
    if here[0][0] == rank:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            # Bound here, so that it hears ranks that leave before the process has started.
            ear.bind(address)
            watched = [f"{other}:{pid}" for other, pid in here]
            command = [sys.executable, "-I", "-S", __file__, str(ear.fileno()), host, *watched]
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[ear.fileno()],
            )
    return Watchman(address)


def main(ear_descriptor: str, host: str, *watched: str) -> None:
    """Wait for a rank that leaves or dies; report the dead ranks."""
    ear = socket.socket(fileno=int(ear_descriptor))
    poll = select.poll()
    poll.register(ear, select.POLLIN)
    ranks: dict[int, tuple[int, int]] = {}
    for text in watched:
        rank, pid = (int(part) for part in text.split(":"))
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            continue
        ranks[descriptor] = (rank, pid)
        poll.register(descriptor, select.POLLIN)
    ended = [descriptor for descriptor, _ in poll.poll()]
    if ear.fileno() in ended or not ended:
        return
    dead = [ranks[descriptor] for descriptor in ended]
    named = ", ".join(f"rank {rank} (process {pid} on {host})" for rank, pid in sorted(dead)[:MAX_NAMED_RANKS])
    more = f" and {len(dead) - MAX_NAMED_RANKS} more" if len(dead) > MAX_NAMED_RANKS else ""
    text = f"hpcir: {named}{more} died without an error message, perhaps killed for lack of memory. "
    os.write(2, f"{text}Everything finished is saved; the same command continues the run\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
