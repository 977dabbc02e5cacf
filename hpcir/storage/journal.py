"""Append-only journals of work in progress, each record with its own checksums.

A process killed in the middle of a write costs that record and nothing else. (An HDF5 file that is open for writing
when its process is killed may be lost as a whole, which is why journals are not HDF5.) All ranks of a node append to
one file: a record goes to its end whole, under a lock that the operating system takes back from the dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hpcir.errors import RunStopped

Arrays = Mapping[str, Any]

_MAGIC = b"HPCIRJ1\n"
# magic, header length, payload length, CRC of header, CRC of payload, CRC of these numbers themselves
_PREFIX = struct.Struct("<8sIQIII")
_CORE = struct.Struct("<8sIQII")
MAX_HEADER = 1 << 24
# Bytes read at a time in the search for the next record after a damaged one.
_SEARCH_BYTES = 1 << 20
# Seconds between two flushes of a process's records to the disk.
SYNC_INTERVAL = 1.0


@dataclass(frozen=True)
class Record:
    """One journal entry: a unique key, JSON-able attributes, and arrays."""

    key: str
    attributes: dict[str, Any]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Place:
    """The place of a record: file name in its folder, and the position of its first byte."""

    file: str
    position: int


@dataclass(frozen=True)
class Heading:
    """A record without its arrays, which were not read and may prove damaged, and where it is."""

    key: str
    attributes: dict[str, Any]
    place: Place


class Journal:
    """Append-only records; any number of processes of a node may append, any process may read at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._synced = time.monotonic()

    def append(self, key: str, arrays: Arrays, attributes: Mapping[str, Any] | None = None) -> None:
        """Write one record and hand it to the operating system; on the disk within a second.

        Raises RunStopped when the disk is full or the quota is spent; what is there stays readable.
        """
        data = memoryview(encode_record(key, arrays, attributes or {}))
        try:
            with _locked(self._descriptor):
                while data:
                    data = data[os.write(self._descriptor, data) :]
            if time.monotonic() - self._synced > SYNC_INTERVAL:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()
        except OSError as error:
            raise RunStopped(
                f"{self.path}: cannot write: {error.strerror}. Everything finished so far is kept; free some space and "
                "run the same command again"
            ) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Hold the file for one record. Some file systems know no locks: there the append alone keeps records whole."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def encode_record(key: str, arrays: Arrays, attributes: Mapping[str, Any]) -> bytes:
    """The bytes of one record: prefix with checksums, JSON header, raw little-endian array data."""
    described, chunks = [], []
    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"array '{name}' of record '{key}' holds Python objects")
        described.append([name, array.dtype.str, list(np.shape(value))])
        chunks.append(array.tobytes())
    header = json.dumps({"key": key, "attributes": dict(attributes), "arrays": described}).encode()
    payload = b"".join(chunks)
    core = _CORE.pack(_MAGIC, len(header), len(payload), zlib.crc32(header), zlib.crc32(payload))
    return core + struct.pack("<I", zlib.crc32(core)) + header + payload


def read_journal(path: Path) -> tuple[list[Record], int]:
    """Every intact record of a journal, and the number of damaged stretches that were skipped."""
    walk = Walk(path)
    return [record for record in walk if isinstance(record, Record)], walk.damaged


def read_record(path: Path, position: int = 0) -> Record | None:
    """The record that begins at a position; None where there is none that is intact."""
    try:
        with open(path, "rb") as file:
            found, _ = _read(file, position, os.fstat(file.fileno()).st_size, arrays=True)
    except OSError:
        return None
    return found if isinstance(found, Record) else None


class Walk:
    """Iterate over a journal, one record in memory at a time; `damaged` counts the stretches that were skipped.

    arrays: read and check them; without, Headings come, whose arrays were not read.
    """

    def __init__(self, path: Path, arrays: bool = True) -> None:
        self.path, self.arrays = path, arrays
        self.damaged = 0

    def __iter__(self) -> Iterator[Record | Heading]:
        with open(self.path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            position = 0
            while position < end:
                found, following = _read(file, position, end, self.arrays)
                if found is not None:
                    yield found
                else:
                    self.damaged += 1
                    following = _next_magic(file, position + 1, end)
                position = following


def _read(file: BinaryIO, position: int, end: int, arrays: bool) -> tuple[Record | Heading | None, int]:
    """The record or heading at a position and where the next one begins; None where it is damaged."""
    file.seek(position)
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None, end
    magic, header_length, payload_length, header_crc, payload_crc, own_crc = _PREFIX.unpack(prefix)
    following = position + _PREFIX.size + header_length + payload_length
    if magic != _MAGIC or zlib.crc32(prefix[: _CORE.size]) != own_crc:
        return None, end
    if header_length > MAX_HEADER or following > end:
        return None, end
    header = file.read(header_length)
    if zlib.crc32(header) != header_crc:
        return None, end
    content = json.loads(header)
    if not arrays:
        return Heading(content["key"], content["attributes"], Place(Path(file.name).name, position)), following
    payload = file.read(payload_length)
    if zlib.crc32(payload) != payload_crc:
        return None, end
    return Record(content["key"], content["attributes"], _arrays(content["arrays"], payload)), following


def _arrays(described: list[Any], payload: bytes) -> dict[str, np.ndarray]:
    arrays, offset = {}, 0
    for name, dtype, shape in described:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(payload, np.dtype(dtype), count, offset).reshape(shape)
        arrays[name] = array.copy()
        offset += array.nbytes
    return arrays


def _next_magic(file: BinaryIO, position: int, end: int) -> int:
    """The position of the next record's marker at or after `position`; the file's end where there is none."""
    while position < end:
        file.seek(position)
        stretch = file.read(_SEARCH_BYTES + len(_MAGIC) - 1)
        found = stretch.find(_MAGIC)
        if found >= 0:
            return position + found
        position += _SEARCH_BYTES
    return end
