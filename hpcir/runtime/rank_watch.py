"""Says which rank of this host died without a word; MPICH's launcher names a process number at best.

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

# Named in one message at most; more than these die together only when the whole job is killed.
MOST_NAMED = 8


class Watchman:
    """A rank's end of it: `leave` before an orderly end, whatever its reason."""

    def __init__(self, address: str) -> None:
        self._address = address

    def leave(self) -> None:
        """Tell this host's watchman that what comes now is no accident."""
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
    """Wait for a leave or a death; name the dead."""
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
    named = ", ".join(f"rank {rank} (process {pid} on {host})" for rank, pid in sorted(dead)[:MOST_NAMED])
    more = f" and {len(dead) - MOST_NAMED} more" if len(dead) > MOST_NAMED else ""
    text = f"hpcir: {named}{more} died without a word, perhaps killed for want of memory. "
    os.write(2, f"{text}Everything finished is saved; the same command goes on\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
