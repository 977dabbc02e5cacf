"""Messages between a rank and its label worker: a JSON header and one array of doubles, no pickle."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray

# Every frame begins with this and the lengths of its two parts, so that junk on the pipe is noticed.
_START = struct.Struct("<4sIQ")
_MAGIC = b"hpc1"
# No label is larger: 100,000 atoms are 5 MB. A corrupt length must not make the reader wait for ever.
_LARGEST = 1 << 28


def pack(header: dict[str, Any], values: FloatArray | None = None) -> bytes:
    """One frame: header must be JSON, values any number of doubles (flattened)."""
    text = json.dumps(header).encode()
    blob = b"" if values is None else np.ascontiguousarray(values, "<f8").tobytes()
    return _START.pack(_MAGIC, len(text), len(blob)) + text + blob


class FrameReader:
    """Puts frames together from whatever pieces a pipe hands over."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes read from the pipe."""
        self._buffer += data

    def next(self) -> tuple[dict[str, Any], FloatArray] | None:
        """The next whole frame (header, values (n,)), or None until more bytes come; ValueError when it is no frame."""
        if len(self._buffer) < _START.size:
            return None
        magic, text_length, blob_length = _START.unpack_from(self._buffer)
        if magic != _MAGIC or text_length + blob_length > _LARGEST:
            raise ValueError("the message is not a frame of a label worker")
        middle = _START.size + text_length
        end = middle + blob_length
        if len(self._buffer) < end:
            return None
        header = json.loads(bytes(self._buffer[_START.size : middle]))
        values = np.frombuffer(bytes(self._buffer[middle:end]), "<f8").astype(float)
        del self._buffer[:end]
        return header, values
