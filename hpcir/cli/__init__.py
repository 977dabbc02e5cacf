"""The command line. Nothing is computed here.

Exit status: 0 done; 2 wrong input; 3 stopped for a reason that is named; 75 stopped on request, run again to continue.
Under mpirun every rank reads the same arguments, rank 0 alone prints, and all end with one status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hpcir.cli.arguments import parser
from hpcir.errors import EXIT_DONE, EXIT_INPUT, EXIT_INTERRUPTED, HpcirError
from hpcir.runtime.launcher import local_rank
from hpcir.runtime.mpi import abort_on_exception, world

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without the letter Å is no reason to stop
    options = parser().parse_args(arguments)
    if not hasattr(options, "answer"):
        parser().print_help()
        return EXIT_INPUT
    from hpcir.runtime.threads import set_threads

    options.threads = set_threads(getattr(options, "deck", None))
    if options.command == "run":
        from hpcir.runtime.stopping import stop_at_once

        stop_at_once()  # a batch system may end a job while it still starts
    try:
        return _answer(options)
    except BrokenPipeError:  # the reader of our output went away: `hpcir status DIR | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _answer(options: argparse.Namespace) -> int:
    rank = local_rank()
    try:
        comm = world()
        rank = comm.rank
        from hpcir.storage.provenance import forget_facts, record_facts

        forget_facts()
        record_facts(hosts=comm.nodes)
        with abort_on_exception(comm):
            options.answer(options, comm)
    except HpcirError as error:
        if rank == 0:
            print(f"hpcir: {error}", file=sys.stderr, flush=True)
        return error.status
    except KeyboardInterrupt:
        if rank == 0:
            print("hpcir: interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    return EXIT_DONE
