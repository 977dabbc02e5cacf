"""`hpcir status`: the progress of a run, from any other shell or host that sees its directory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from hpcir.errors import InputError
from hpcir.runtime.progress import PROGRESS_FILE, duration_text, figure_text, rate_text
from hpcir.storage import layout
from hpcir.storage.lock import lock_alive, read_lock
from hpcir.storage.run_directory import RunDirectory

# A run writes progress.json every ten seconds at least; older than this, nobody writes it.
STALE_SECONDS = 60.0


def run_status(run_dir: str | Path) -> dict[str, Any]:
    """The state of a run: progress.json, with `state` as it is now, `alive`, and the finished stages.

    state is 'running', 'done', 'interrupted', 'failed', 'killed' (it says running, and nobody runs) or 'not
    started'. Raises InputError when the folder is not a run directory.
    """
    folder = Path(run_dir)
    directory = RunDirectory(folder)
    if not (folder / RunDirectory.MANIFEST).is_file():
        raise InputError("this is not a run directory of hpcir", where=str(folder), hint="give what `hpcir run` wrote")
    manifest = directory.manifest()
    progress = _progress(folder / PROGRESS_FILE)
    lock = folder / RunDirectory.LOCK
    holder = read_lock(lock)
    alive = holder is not None and lock_alive(lock, holder, RunDirectory.HEARTBEAT)
    state = progress.get("state", "not started")
    if state == "running" and not alive:
        state = "killed"
    elif alive and state != "running":
        state = "starting"
    return {
        **progress,
        "state": state,
        "alive": alive,
        "process": {"host": holder["host"], "pid": holder["pid"]} if alive and holder else None,
        "silent_seconds": max(0.0, time.time() - progress["updated"]) if "updated" in progress else None,
        "finished_stages": list(manifest.get("stages", {})),
        "summary": (folder / layout.SUMMARY).is_file(),
    }


def print_status(run_dir: str | Path, *, as_json: bool = False) -> None:
    """Print `run_status` for people, or as JSON for programs."""
    status = run_status(run_dir)
    if as_json:
        print(json.dumps(status, indent=1))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in status_lines(run_dir, status):
        console.print(line)


def status_lines(run_dir: str | Path, status: dict[str, Any]) -> list[str]:
    """A run's state in a few lines."""
    lines = [f"{run_dir}: {_headline(status)}"]
    if status.get("stage"):
        total = f" of {status['total']}" if status.get("total") is not None else ""
        parts = [f"{status.get('done', 0)}{total} {status.get('unit') or ''}".rstrip()]
        if status.get("rate_per_second"):
            parts.append(rate_text(status["rate_per_second"]))
        if status["alive"] and status.get("seconds_left") is not None:
            parts.append(f"{duration_text(status['seconds_left'])} left in this stage")
        lines.append(f"stage    {status['stage']}: {', '.join(parts)}")
    if status.get("stages"):
        lines.append("done     " + ", ".join(f"{name} {duration_text(s)}" for name, s in status["stages"].items()))
    if status.get("figures"):
        lines.append("errors   " + ", ".join(figure_text(name, value) for name, value in status["figures"].items()))
    if status["alive"] and (status["silent_seconds"] or 0) > STALE_SECONDS:
        lines.append(f"silent   for {duration_text(status['silent_seconds'])}: a long step, or it hangs")
    return lines


def _headline(status: dict[str, Any]) -> str:
    if status["alive"]:
        process = status["process"]
        ranks = status.get("ranks", 1)
        since = duration_text(time.time() - status["started"]) if "started" in status else "a moment"
        crew = f"{ranks} rank{'s'[: ranks > 1]}"
        return f"{status['state']} for {since} on {process['host']}, process {process['pid']}, {crew}"
    ending = {
        "done": "done" if status["summary"] else "stopped by --until; the same command without it continues",
        "interrupted": "stopped on request with everything saved; the same command continues the run",
        "failed": "stopped by an error, see log.txt; the same command continues the run",
        "killed": "was killed; the same command continues the run",
    }
    return ending.get(status["state"], "not started")


def _progress(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
