"""Progress of a run: a live display on a terminal, dated lines elsewhere, `log.txt`, and `progress.json` for
`hpcir status`. Only rank 0 shows and counts; every rank may log. A display never stops a run: what cannot be
written here is left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from hpcir.errors import Interrupted
from hpcir.storage import layout

LOG_FILE = layout.LOG
PROGRESS_FILE = layout.PROGRESS
PROGRESS_FORMAT = 1

# Seconds between writes of progress.json, between lines of a stage where there is no terminal, and of rate memory.
JSON_INTERVAL = 1.0
HEARTBEAT_INTERVAL = 10.0
LINE_INTERVAL = 15.0
RATE_WINDOW = 60.0

# Endings of a figure's name -> the unit as displayed; longer ones first.
UNIT_ENDINGS = {
    "_kcal_per_mol_per_100_ps": "kcal/mol per 100 ps",
    "_kcal_per_mol_angstrom": "kcal/mol/Å",
    "_kcal_per_mol": "kcal/mol",
    "_km_per_mol": "km/mol",
    "_microseconds_per_step": "µs/step",
    "_per_second": "/s",
    "_per_cm": "cm⁻¹",
    "_debye": "D",
    "_seconds": "s",
    "_kelvin": "K",
    "_ps": "ps",
    "_fs": "fs",
}


def number_text(value: Any) -> str:
    """A number to three figures without an exponent: 0.0312, 2.65, 2 650, not 2.65e+03."""
    if isinstance(value, float) and math.isfinite(value):
        if abs(value) < 999.5:
            return f"{value:.3g}"
        value = round(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}".replace(",", " ") if whole and abs(value) >= 10_000 else str(value)


def figure_parts(name: str, value: Any) -> tuple[str, str]:
    """A named figure as words and value with unit; times of a step in microseconds to seconds, by size."""
    unit = ""
    for ending, written in UNIT_ENDINGS.items():
        if f"_{name}".endswith(ending):
            name, unit = f"_{name}".removesuffix(ending).lstrip("_") or "time", f" {written}"
            break
    if unit == " µs/step" and abs(value) >= 1000:
        value, unit = value / 1000, " ms/step"
    words = name.replace("_", " ").replace("rmse", "RMSE").replace("mae", "MAE")
    return words, f"{number_text(value)}{unit}"


def figure_text(name: str, value: Any) -> str:
    """A named figure for display: ('force_rmse_kcal_per_mol_angstrom', 0.31) -> 'force RMSE 0.31 kcal/mol/Å'."""
    return " ".join(figure_parts(name, value))


def on_terminal() -> bool:
    """True where standard output is a terminal that shows live bars. Open MPI gives rank 0 a terminal of its own even
    where its launcher writes to a file, so under it the answer is False: a batch log has no live bars."""
    return sys.stdout.isatty() and "OMPI_COMM_WORLD_RANK" not in os.environ


def duration_text(seconds: float | None) -> str:
    """Seconds as '42 s', '3 min 05 s' or '2 h 07 min'; 'unknown' for None."""
    if seconds is None:
        return "unknown"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Stage:
    """One stage's count. Use as a context; `advance` or `advance_to` as work is done, `note` for a sentence."""

    def __init__(self, progress: Progress, name: str, total: int | None, unit: str, done: int) -> None:
        self.progress, self.name, self.total, self.unit = progress, name, total, unit
        self.done = done
        self.figures: dict[str, Any] = {}
        self.started = time.monotonic()
        self.task: Any = None
        self._history: deque[tuple[float, int]] = deque([(self.started, done)])
        self._spoken = self.started

    def __enter__(self) -> Stage:
        self.progress._enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress._leave(self, error)

    def advance(self, count: int = 1, **figures: Any) -> None:
        """Count `count` more units as done. Figures are shown, such as force_rmse_kcal_per_mol_angstrom=0.3."""
        self.advance_to(self.done + count, **figures)

    def advance_to(self, done: int, total: int | None = None, **figures: Any) -> None:
        """Set the units done so far (and `total`, where that changed)."""
        self.done = done
        self.total = total if total is not None else self.total
        now = time.monotonic()
        self._history.append((now, done))
        while len(self._history) > 2 and now - self._history[0][0] > RATE_WINDOW:
            self._history.popleft()
        self.figures.update(figures)
        self.progress._moved(self, figures)

    def note(self, text: str) -> None:
        """Log and display a sentence."""
        self.progress.log(text)

    @property
    def seconds(self) -> float:
        """Wall time since the stage began, in this session."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float | None:
        """Units a second over the last minute; None before the first."""
        (first, before), (last, after) = self._history[0], self._history[-1]
        return (after - before) / (last - first) if after > before and last > first else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated wall time to the end; None where there is no total or no rate yet."""
        if self.total is None or self.rate is None:
            return None
        return max(0, self.total - self.done) / self.rate

    def line(self) -> str:
        """The count, rate, time left and figures in one line."""
        parts = [f"{self.done}{f' of {self.total}' if self.total is not None else ''} {self.unit}".rstrip()]
        if self.rate is not None:
            parts.append(rate_text(self.rate))
        if self.seconds_left:
            parts.append(f"{duration_text(self.seconds_left)} left")
        parts += [figure_text(name, value) for name, value in self.figures.items()]
        return ", ".join(parts)

    def result(self) -> str:
        """': 40 labels, force RMSE 0.3 kcal/mol/Å' for the line that ends the stage; empty when nothing was counted."""
        parts = [
            f"{self.done}{f' of {self.total}' if self.total not in (None, self.done) else ''} {self.unit}".rstrip()
        ]
        parts = parts if self.done else []
        parts += [figure_text(name, value) for name, value in self.figures.items()]
        return ": " + ", ".join(parts) if parts else ""


def rate_text(rate: float) -> str:
    """A rate in the unit that reads well: '12.3/s' or '4.2/min'."""
    return f"{rate:.3g}/s" if rate >= 0.5 else f"{60 * rate:.3g}/min"


class Progress:
    """The display and the log of one process. Rank 0 shows; a serial program needs no argument at all."""

    def __init__(
        self,
        rank: int = 0,
        directory: Path | None = None,
        *,
        size: int = 1,
        heartbeat: Callable[[], None] | None = None,
        quiet: bool = False,
    ) -> None:
        """`directory`: the run's, for log.txt and progress.json (None: neither). `heartbeat` is called every
        ten seconds on rank 0 from another thread (it keeps a lock alive). `quiet` shows nothing."""
        self.rank, self.size, self.directory = rank, size, directory
        self.quiet = quiet or rank != 0
        self.stages: dict[str, float] = {}
        self.figures: dict[str, Any] = {}
        self._beat, self._state = heartbeat, "running"
        self._open: list[Stage] = []  # a stage may open another inside it; the innermost is shown
        self._started, self._written = time.time(), 0.0
        self._live: Any = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Progress:
        if self.rank == 0:
            if not self.quiet and on_terminal():
                self._live = _live_display()
                self._live.start()
            self._thread = threading.Thread(target=self._heartbeat, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """End the display; the last state is 'done', 'interrupted' or 'failed' by the error."""
        interrupted = isinstance(error, (Interrupted, KeyboardInterrupt))
        self._state = "done" if error is None else "interrupted" if interrupted else "failed"
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._write(force=True)

    def _heartbeat(self) -> None:
        while not self._over.wait(HEARTBEAT_INTERVAL):
            self._write(force=True)
            if self._beat is not None:
                self._beat()

    # -- called by stages -----------------------------------------------------------------------------------------

    def stage(self, name: str, total: int | None = None, unit: str = "", done: int = 0) -> Stage:
        """A context that counts one stage; `done` is what an earlier session did already."""
        return Stage(self, name, total, unit, done)

    @property
    def _current(self) -> Stage | None:
        return self._open[-1] if self._open else None

    def log(self, text: str, warning: bool = False) -> None:
        """Log a sentence with date, rank and stage; rank 0 displays it too, and every rank a warning."""
        if warning:
            return self.warn(text)
        self._append(text)
        if not self.quiet:
            self._show(text)

    def warn(self, text: str) -> None:
        """Log a warning; every rank displays it."""
        self._append(f"warning: {text}")
        if self.quiet:
            print(f"hpcir: rank {self.rank}: warning: {text}", file=sys.stderr, flush=True)
        else:
            self._show(f"warning: {text}")

    # -- internals ------------------------------------------------------------------------------------------------

    def _enter(self, stage: Stage) -> None:
        self._open.append(stage)
        if self.rank:
            return
        if self._live is not None:
            stage.task = self._live.add_task(stage.name, total=stage.total, completed=stage.done, line="")
        self.log(f"starts{f', {stage.done} of {stage.total} done before' if stage.done else ''}")
        self._write(force=True)

    def _leave(self, stage: Stage, error: BaseException | None) -> None:
        ending = "done" if error is None else f"stopped ({type(error).__name__})"
        if self.rank == 0:
            self.stages[stage.name] = self.stages.get(stage.name, 0.0) + stage.seconds
            self.log(f"{ending} after {duration_text(stage.seconds)}{stage.result()}")
        if self._live is not None:
            self._live.remove_task(stage.task)
        self._open.remove(stage)
        self._write(force=True)

    def _moved(self, stage: Stage, figures: dict[str, Any]) -> None:
        if self.rank:
            return
        self.figures.update(figures)
        now = time.monotonic()
        if self._live is not None:
            self._live.update(stage.task, completed=stage.done, total=stage.total, line=stage.line())
        elif not self.quiet and now - stage._spoken > LINE_INTERVAL:
            stage._spoken = now
            self._show(stage.line())
        self._write()

    def _prefix(self) -> str:
        name = self._current.name if self._current is not None else "-"
        return f"{time.strftime('%Y-%m-%d %H:%M:%S')} rank {self.rank} {name}"

    def _show(self, text: str) -> None:
        if self._live is not None:
            name = f"{self._current.name}: " if self._current is not None else ""
            self._live.console.print(f"{name}{text}", markup=False, highlight=False)
        else:
            with contextlib.suppress(OSError):
                print(f"{self._prefix()}: {text}", flush=True)

    def _append(self, text: str) -> None:
        """Append one line in one write: lines of several ranks may come in any order, but are never mixed."""
        if self.directory is None:
            return
        line = f"{self._prefix()}: {' '.join(text.splitlines())}\n"
        with contextlib.suppress(OSError):
            descriptor = os.open(self.directory / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)

    def state(self) -> dict[str, Any]:
        """The content of progress.json; every time in seconds, `updated` and `started` since 1970."""
        stage = self._current
        content: dict[str, Any] = {
            "format": PROGRESS_FORMAT,
            "state": self._state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "ranks": self.size,
            "started": self._started,
            "updated": time.time(),
            "stages": dict(self.stages),
            "figures": dict(self.figures),
            "stage": stage.name if stage else None,
        }
        if stage is not None:
            content |= {
                "done": stage.done,
                "total": stage.total,
                "unit": stage.unit,
                "rate_per_second": stage.rate,
                "seconds_left": stage.seconds_left,
                "stage_seconds": stage.seconds,
            }
        return content

    def _write(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.rank or self.directory is None or (not force and now - self._written < JSON_INTERVAL):
            return
        with self._lock, contextlib.suppress(OSError, ValueError, TypeError):
            self._written = now
            temporary = self.directory / f".{PROGRESS_FILE}.{os.getpid()}"
            temporary.write_text(json.dumps(self.state(), default=float), encoding="utf-8")
            os.replace(temporary, self.directory / PROGRESS_FILE)


def _live_display() -> Any:
    """A rich display of one bar: name, bar, `Stage.line`."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[line]}", markup=False),
        TimeElapsedColumn(),
        refresh_per_second=4,
    )
