"""The process that runs a label engine for a rank: `python -m hpcir.labels.worker IN OUT PARENT`.

IN and OUT are inherited pipe ends that carry frames; what the engine prints goes to the standard error stream.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label, LabelEngine, create_engine
from hpcir.labels.checks import finished_label
from hpcir.labels.frames import FrameReader, pack
from hpcir.molecules.structures import Structure

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Answer requests until the pipe closes."""
    source, target, parent = (int(text) for text in arguments)
    _die_with(parent)
    # The rank decides what a signal means; a batch system sends it to every process of the job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)  # what an engine prints, in C or Fortran too, never reaches the frames or the user's output
    engine: LabelEngine | None = None
    molecule: Structure | None = None
    reader = FrameReader()
    while data := os.read(source, 1 << 16):
        reader.feed(data)
        while (frame := reader.next()) is not None:
            header, values = frame
            try:
                if header["request"] == "start":
                    sys.path.extend(entry for entry in header["path"] if entry not in sys.path)
                    engine = _start(header, values)
                    reply = pack({"answer": "ready"})
                else:
                    if "structure" in header:
                        molecule = unpack_structure(header["structure"], values)
                    if engine is None or molecule is None:
                        raise ValueError("a label was requested before engine and molecule were named")
                    reply = _answer(engine, header, molecule.moved(values.reshape(-1, 3)))
            except Exception as error:  # an engine may raise anything; the rank gets the words
                reply = pack(_describe(error))
            _write(target, reply)


def _start(header: dict[str, Any], values: np.ndarray) -> LabelEngine:
    reference = unpack_structure(header["reference"], values) if header["reference"] else None
    return create_engine(LabelSettings.model_validate(header["settings"]), reference)


def _answer(engine: LabelEngine, header: dict[str, Any], structure: Structure) -> bytes:
    if header["request"] == "check":
        engine.check(structure)
        return pack({"answer": "checked"})
    # Without a need of polar tensors an engine need not know of them.
    label = engine.label(structure, True) if header["polar"] else engine.label(structure)
    return pack({"answer": "label", "method": label.method}, pack_label(label))


def pack_label(label: Label) -> np.ndarray:
    """A label's numbers in a row."""
    tensors = np.zeros(0) if label.polar_tensors is None else label.polar_tensors.ravel()
    return np.concatenate([[label.energy, label.seconds], label.dipole, label.forces.ravel(), tensors])


def unpack_label(structure: Structure, values: np.ndarray, method: str, dipoles: bool = True) -> Label:
    """The inverse of `pack_label`. LabelFailed when the numbers are not as many as they should be, or not finite."""
    size = structure.positions.size
    if len(values) not in (5 + size, 5 + 4 * size):
        raise LabelFailed(f"{structure.name}: the worker sent {len(values)} numbers")
    forces, tensors = values[5 : 5 + size].reshape(-1, 3), None
    if len(values) > 5 + size:
        tensors = values[5 + size :].reshape(-1, 3, 3)
    return finished_label(structure, values[0], forces, values[2:5], float(values[1]), method, tensors, dipoles)


def pack_structure(structure: Structure) -> dict[str, Any]:
    """All of a structure but its positions, as JSON."""
    return {
        "numbers": structure.numbers.tolist(),
        "charge": structure.charge,
        "multiplicity": structure.multiplicity,
        "name": structure.name,
        "source": structure.source,
    }


def unpack_structure(header: dict[str, Any], values: np.ndarray) -> Structure:
    """The inverse of `pack_structure`, with the positions (3N,) that came as the frame's values."""
    fields = {**header, "numbers": np.array(header["numbers"], np.int64)}
    return Structure(positions=values.reshape(-1, 3), **fields)


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, InputError):
        value = error.value if isinstance(error.value, (str, int, float, type(None))) else repr(error.value)
        return {
            "answer": "input",
            "what": error.what,
            "where": error.where,
            "value": value,
            "hint": error.hint,
        }
    if isinstance(error, LabelFailed):
        return {"answer": "failed", "reason": str(error)}
    return {"answer": "failed", "reason": f"{type(error).__name__}: {error}"}


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _die_with(parent: int) -> None:
    """End when the rank ends, however it ends: the kernel's death signal on Linux, a watching thread anywhere."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
