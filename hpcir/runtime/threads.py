"""Threads of one process, set before any library reads them (numpy, torch, numba and PySCF read them on import)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpcir.errors import InputError

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def set_threads(deck: str | Path | None = None) -> int:
    """Decide the threads of this process and export them: `labels.threads` where the deck writes it, else the
    user's OMP_NUM_THREADS, else SLURM_CPUS_PER_TASK, else 1 (two ranks of one thread do twice the work of one rank
    of two on small molecules). Returns the number."""
    threads = _from_deck(deck) if deck is not None else None
    if threads is None:
        threads = _from_environment("OMP_NUM_THREADS") or _from_environment("SLURM_CPUS_PER_TASK") or 1
    for name in VARIABLES:
        os.environ[name] = str(threads)
    return threads


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name, "").split(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10_000 else None


def _from_deck(path: str | Path) -> int | None:
    """`labels.threads` from a first read of the deck; `load_deck` reports what is wrong with it."""
    from hpcir.storage.yaml_lines import read_yaml

    try:
        labels = read_yaml(path).value.get("labels")
    except InputError:
        return None
    value = labels.get("threads") if isinstance(labels, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10_000 else None


def host_cores() -> tuple[str, tuple[int, ...]]:
    """The host's name and the cores that this process may run on."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return socket.gethostname(), tuple(cores)


def oversubscription(places: Iterable[tuple[str, tuple[int, ...]]], threads: int) -> str:
    """A warning when the ranks of a host, at so many threads each, need more cores than they may use; else ''.

    `places`: `host_cores` of every rank.
    """
    hosts: dict[str, list[Any]] = {}
    for host, cores in places:
        entry = hosts.setdefault(host, [0, set()])
        entry[0] += 1
        entry[1] |= set(cores)
    for host, (ranks, available) in hosts.items():
        if ranks * threads > len(available):
            return (
                f"{ranks} ranks x {threads} threads on {host} need {ranks * threads} cores, and these processes may "
                f"use {len(available)}; start fewer ranks or give fewer labels.threads"
            )
    return ""
