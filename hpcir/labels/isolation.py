"""A label engine in a process of its own, so that a crash, a hang or printed junk never takes the rank down."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, LabelFailed, RunStopped
from hpcir.labels.base import Label, create_engine
from hpcir.labels.frames import FrameReader, pack
from hpcir.labels.worker import pack_structure, unpack_label
from hpcir.molecules.structures import Structure

# A thousand ranks that import at once from a slow file system need minutes.
START_LIMIT = 600.0
# Seconds of a check of the engine by one process, before the job's work.
CHECK_LIMIT = 300.0
# Seconds between a waiting rank's checks for a stop.
POLL_SECONDS = 0.1
_LAUNCHER_PREFIXES = (
    "PMI_",
    "PMI2_",
    "PMIX_",
    "OMPI_",
    "ORTE_",
    "PRTE_",
    "I_MPI_",
    "HYDRA_",
    "HYDI_",
    "MPI_",
    "SLURM_",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def ask_engine(settings: LabelSettings, structure: Structure, section: str = "labels") -> None:
    """Ask a deck's engine whether it can label a molecule; computes nothing.

    Code that the deck names (ASE) is imported in a child process, as it may crash, hang or end the process. section:
    the deck's, whose keys errors name. Raises InputError when the engine cannot, RunStopped when it gives no answer.
    """
    try:
        if settings.engine != "ase":
            create_engine(settings, structure).check(structure)
            return
        with IsolatedEngine(settings, structure) as engine:
            engine.check(structure)
    except InputError as error:
        where = error.where.replace("labels.", f"{section}.", 1)
        raise InputError(error.what, where=where, value=error.value, hint=error.hint) from None


class _WorkerDied(Exception):
    """The worker ended or wrote something that is no frame."""


class _WorkerKilled(Exception):
    """The worker was killed from outside (SIGKILL): for lack of memory, or by a batch system that ends the job."""


class IsolatedEngine:
    """Runs the deck's engine in a child process, started at the first request and again after every death.

    settings, reference: as for `create_engine`; time_limit: seconds a label may take (default: the deck's; the
    first label of a worker gets twice as long, as it labels the reference too); check_stop: called
    several times a second while a label is waited for; what it raises (Interrupted) ends the label. Use it as a
    context, or call `close`.
    """

    def __init__(
        self,
        settings: LabelSettings,
        reference: Structure | None = None,
        time_limit: float | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._reference = settings, reference
        self._time_limit = settings.time_limit if time_limit is None else time_limit
        self._check_stop = check_stop
        self._worker: _Worker | None = None
        self.level = create_engine(settings, reference).level
        """The level of theory, as the engine itself names it."""
        self.starts = 0
        """How many workers were started; more than one means that some died."""

    def check(self, structure: Structure) -> None:
        """Raise InputError when the engine cannot label this molecule, RunStopped when it gives no answer; asks the
        engine, computes nothing."""
        try:
            answer, _ = self._ask("check", structure, CHECK_LIMIT)
        except LabelFailed as error:
            answer = {"answer": "failed", "reason": str(error)}
        if answer["answer"] == "failed":
            raise RunStopped(f"the label engine {self._settings.engine} cannot check the molecule: {answer['reason']}")

    def label(self, structure: Structure, polar: bool = False) -> Label:
        """Label one geometry, with polar tensors when asked. LabelFailed when the engine fails, crashes, hangs or
        returns NaN; Interrupted."""
        fresh = self._worker is None and self._reference is not None
        answer, values = self._ask("label", structure, self._time_limit * (2 if fresh else 1), polar)
        if answer["answer"] == "failed":
            raise LabelFailed(answer["reason"])
        return unpack_label(structure, values, answer["method"], self._settings.dipoles)

    def close(self) -> None:
        """End the worker; a later request starts another."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def __enter__(self) -> IsolatedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, request: str, structure: Structure, limit: float, polar: bool = False
    ) -> tuple[dict[str, Any], FloatArray]:
        header = {"request": request, "polar": polar}
        try:
            return self._ask_once(header, structure, limit)
        except _WorkerKilled:
            # Nothing is wrong with the geometry; and where the whole job is being killed, this rank is the next.
            pass
        try:
            return self._ask_once(header, structure, limit)
        except _WorkerKilled as error:
            raise LabelFailed(f"the label engine was killed twice, perhaps for lack of memory: {error}") from None

    def _ask_once(
        self, request: dict[str, Any], structure: Structure, limit: float
    ) -> tuple[dict[str, Any], FloatArray]:
        worker, header = self._running(), dict(request)
        if worker.molecule is None or not _same_molecule(worker.molecule, structure):
            # Only positions travel as long as the molecule is the one before: half of a fast label's overhead.
            header["structure"] = pack_structure(structure)
            worker.molecule = structure
        try:
            answer, values = worker.exchange(header, structure.positions, limit, self._check_stop)
        except TimeoutError:
            self.close()
            if request["request"] == "check":
                raise LabelFailed(f"no answer within {limit:g} s") from None
            raise LabelFailed(f"the label took longer than the limit of {limit:g} s (labels.time_limit)") from None
        except _WorkerDied as error:
            self.close()
            raise LabelFailed(f"the label engine crashed: {error}") from None
        except BaseException:  # interrupted, or Ctrl-C: a worker in the middle of a label is of no use
            self.close()
            raise
        _raise_input_error(answer)
        return answer, values

    def _running(self) -> _Worker:
        if self._worker is None:
            self._worker = _Worker(self._settings)
            self.starts += 1
            try:
                self._start(self._worker)
            except BaseException:
                self.close()
                raise
        return self._worker

    def _start(self, worker: _Worker) -> None:
        reference = self._reference
        header = {
            "request": "start",
            "settings": self._settings.model_dump(),
            "reference": None if reference is None else pack_structure(reference),
            # The worker's folder is another one: a relative entry would point elsewhere there.
            "path": [str(Path(entry).resolve()) for entry in sys.path],
        }
        positions = None if reference is None else reference.positions
        try:
            answer, _ = worker.exchange(header, positions, START_LIMIT, self._check_stop)
        except (_WorkerDied, _WorkerKilled, TimeoutError) as error:
            reason = str(error) or f"no answer within {START_LIMIT:g} s"
            raise RunStopped(
                f"the process of the label engine {self._settings.engine} cannot start: {reason}"
            ) from None
        _raise_input_error(answer)
        if answer["answer"] == "failed":
            raise RunStopped(f"the label engine {self._settings.engine} cannot start: {answer['reason']}")


def _same_molecule(one: Structure, other: Structure) -> bool:
    return (
        (one.numbers is other.numbers or np.array_equal(one.numbers, other.numbers))
        and (one.charge, one.multiplicity) == (other.charge, other.multiplicity)
        and (one.name, one.source) == (other.name, other.source)
    )


def _raise_input_error(answer: dict[str, Any]) -> None:
    if answer["answer"] == "input":
        raise InputError(answer["what"], where=answer["where"], value=answer["value"], hint=answer["hint"])


class _Worker:
    """One child process with its two frame pipes and the stream of what the engine prints."""

    def __init__(self, settings: LabelSettings) -> None:
        # Engines that write files (most ASE calculators) would overwrite those of other ranks in a common folder.
        self._folder = tempfile.TemporaryDirectory(prefix="hpcir-label-") if settings.engine == "ase" else None
        to_child, self._requests = os.pipe()
        self._answers, from_child = os.pipe()
        command = [
            sys.executable,
            "-m",
            "hpcir.labels.worker",
            str(to_child),
            str(from_child),
            str(os.getpid()),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(to_child, from_child),
                cwd=None if self._folder is None else self._folder.name,
                env=_environment(settings.threads),
                start_new_session=True,
            )
        finally:
            os.close(to_child)
            os.close(from_child)
        assert self._process.stdout is not None
        self._printed = self._process.stdout.fileno()
        self._words = b""
        self.molecule: Structure | None = None
        """The molecule that was last sent to the worker."""
        self._reader = FrameReader()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        self._selector.register(self._printed, selectors.EVENT_READ)

    def exchange(
        self, header: dict[str, Any], values: FloatArray | None, limit: float, check_stop: Callable[[], None]
    ) -> tuple[dict[str, Any], FloatArray]:
        """Send a request and wait for its answer. TimeoutError, _WorkerDied or what check_stop raises otherwise."""
        deadline = time.monotonic() + limit
        self._send(pack(header, values))
        while True:
            for key, _ in self._selector.select(min(POLL_SECONDS, max(deadline - time.monotonic(), 0.0))):
                data = os.read(key.fd, 1 << 16)
                if key.fd == self._answers:
                    answer = self._received(data)
                    if answer is not None:
                        return answer
                elif data:
                    self._words = (self._words + data)[-2000:]
                else:
                    self._selector.unregister(self._printed)
            check_stop()
            if time.monotonic() >= deadline:
                raise TimeoutError

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._requests, view) :]
        except BrokenPipeError:
            raise self._death() from None

    def _received(self, data: bytes) -> tuple[dict[str, Any], FloatArray] | None:
        if not data:
            raise self._death()
        self._reader.feed(data)
        try:
            return self._reader.next()
        except ValueError as error:
            raise _WorkerDied(str(error)) from None

    def _death(self) -> Exception:
        words = self._last_words()
        return (_WorkerKilled if self._process.poll() == -signal.SIGKILL else _WorkerDied)(words)

    def _last_words(self) -> str:
        """A description of the process's end, with the last line that it printed."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its process closed the pipe"
        try:
            while data := os.read(self._printed, 1 << 16):
                self._words = (self._words + data)[-2000:]
        except OSError:
            pass
        lines = self._words.decode(errors="replace").strip().splitlines()
        try:
            end = f"its process ended with status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        except ValueError:
            end = f"signal {-code}"
        return f"{end}, saying: {lines[-1]}" if lines else end

    def end(self) -> None:
        """Kill the process and close everything."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        os.close(self._requests)
        os.close(self._answers)
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()


def _environment(threads: int) -> dict[str, str]:
    """This process's environment without the launcher's variables, which would make the child an MPI rank."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHER_PREFIXES)}
    return kept | dict.fromkeys(_THREAD_VARIABLES, str(threads))
