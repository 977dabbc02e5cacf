"""The run directory: lock, manifest of finished stages, and the append-only journals of work in progress.

Finished results are HDF5 files, written under a temporary name and renamed, their SHA-256 in `manifest.json`.
Work in progress goes to journals: one append-only file a rank, each record with its own checksums, so that a
process killed in the middle of a write costs that record and nothing else. (An HDF5 file that is open for
writing when its process is killed may be lost as a whole, which is why journals are not HDF5.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcir import __version__
from hpcir.errors import InputError, RunStopped

Arrays = Mapping[str, Any]

_MAGIC = b"HPCIRJ1\n"
# magic, header length, payload length, CRC of header, CRC of payload, CRC of these numbers themselves
_PREFIX = struct.Struct("<8sIQIII")
_CORE = struct.Struct("<8sIQII")
MAX_HEADER = 1 << 24
# The attribute of an HDF5 file that holds its checksum, and what reading a damaged one may raise.
SEAL = "content_digest"
H5_DAMAGE = (OSError, RuntimeError, LookupError, AttributeError, ValueError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True)
class Record:
    """One journal entry: a unique key, JSON-able attributes, and arrays."""

    key: str
    attributes: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Journal:
    """Append-only records of one rank; readable by any process at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab")  # noqa: SIM115 - lives as long as the journal
        self._synced = time.monotonic()

    def append(self, key: str, arrays: Arrays, attributes: Mapping[str, Any] | None = None) -> None:
        """Write one record and hand it to the operating system; on the disk within a second.

        Raises RunStopped when the disk is full or the quota is spent; what is there stays readable.
        """
        data = encode_record(key, arrays, attributes or {})
        try:
            self._file.write(data)
            self._file.flush()
            if time.monotonic() - self._synced > 1.0:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise RunStopped(
                f"{self.path}: cannot write: {error.strerror}. Everything finished so far is kept; free some space and "
                "run the same command again"
            ) from error

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


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
    """Every intact record of a journal, and how many stretches of damaged bytes were passed over."""
    data = path.read_bytes()
    records: list[Record] = []
    damaged = position = 0
    while position < len(data):
        record, following = _decode(data, position)
        if record is not None:
            records.append(record)
            position = following
            continue
        damaged += 1
        position = data.find(_MAGIC, position + 1)
        if position < 0:
            break
    return records, damaged


def _decode(data: bytes, position: int) -> tuple[Record | None, int]:
    start = position + _PREFIX.size
    if start > len(data):
        return None, position
    magic, header_length, payload_length, header_crc, payload_crc, own_crc = _PREFIX.unpack_from(data, position)
    core = data[position : position + _CORE.size]
    end = start + header_length + payload_length
    if magic != _MAGIC or zlib.crc32(core) != own_crc or header_length > MAX_HEADER or end > len(data):
        return None, position
    header, payload = data[start : start + header_length], data[start + header_length : end]
    if zlib.crc32(header) != header_crc or zlib.crc32(payload) != payload_crc:
        return None, position
    content = json.loads(header)
    arrays, offset = {}, 0
    for name, dtype, shape in content["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(payload, np.dtype(dtype), count, offset).reshape(shape)
        arrays[name] = array.copy()
        offset += array.nbytes
    return Record(content["key"], content["attributes"], arrays), end


def digest(*parts: Any) -> str:
    """A short stable digest of text, numbers, arrays and JSON-able values."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(str((part.dtype.str, part.shape)).encode() + np.ascontiguousarray(part).tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True, default=str).encode())
        state.update(b"\0")
    return state.hexdigest()[:24]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Replace a small text file in one step: readers see the old or the new, never a part."""
    replace_file(path, text.encode())


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file in one step, its bytes on the disk before its name is. Raises RunStopped when that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunStopped(
            f"{path}: cannot write: {error.strerror}. Everything finished so far is kept; free some space and run the "
            "same command again"
        ) from error


def write_h5(path: Path, arrays: Mapping[str, tuple[Any, str, str]], attributes: Mapping[str, Any]) -> None:
    """One HDF5 file of named datasets, each (data, units, comma-separated axes), by temporary name and rename."""

    def fill(file: Any) -> None:
        file.attrs.update(program_version=__version__, format_version=1, **attributes)
        for name, (data, units, axes) in arrays.items():
            dataset = file.create_dataset(name, data=data)
            dataset.attrs["units"] = units
            dataset.attrs["axes"] = axes

    write_sealed(path, fill)


def write_sealed(path: Path, fill: Callable[[Any], None]) -> None:
    """An HDF5 file that `fill` fills, with its checksum, by temporary name and rename.

    It is built in memory: HDF5 itself does not come back in good order from a full disk.
    """
    import h5py

    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        fill(file)
        seal(file)
        file.flush()
        image = file.id.get_file_image()
    replace_file(path, image)


def read_h5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All datasets and attributes of a file that `write_h5` wrote.

    Raises RunStopped when it cannot be read or its contents are not what was written.
    """
    import h5py

    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: arrays.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
            )
            attributes = dict(file.attrs)
            intact = sealed(file)
    except H5_DAMAGE as error:
        raise RunStopped(f"{path}: cannot be read: {error}") from error
    if not intact:
        raise RunStopped(f"{path}: damaged: its contents do not match their checksum")
    return arrays, attributes


def seal(file: Any) -> None:
    """Give an open HDF5 file the checksum of all that it holds: datasets, and the attributes of everything."""
    file.attrs[SEAL] = tree_digest(file)


def sealed(file: Any) -> bool:
    """Whether an open HDF5 file holds what it held when it was sealed."""
    return bool(file.attrs.get(SEAL) == tree_digest(file))


def tree_digest(file: Any) -> str:
    """A digest of an open HDF5 file: every name, dataset and attribute but the checksum itself."""
    import h5py

    parts: list[Any] = []

    def collect(name: str, item: Any) -> None:
        attributes = {key: plain(value) for key, value in item.attrs.items() if key != SEAL}
        parts.extend((name, attributes))
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item[()])
            parts.append(plain(value) if value.dtype.hasobject else value)

    collect("", file)
    file.visititems(collect)
    return digest(*parts)


def plain(value: Any) -> Any:
    """An attribute as JSON knows it, whichever of numpy's types HDF5 gives it back in."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return [plain(item) for item in value] if isinstance(value, list) else value


def read_intact(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """`read_h5`, or None where there is no file; a damaged one is renamed to NAME.damaged and counts as none."""
    if not path.is_file():
        return None
    try:
        return read_h5(path)
    except RunStopped:
        os.replace(path, path.with_name(path.name + ".damaged"))
        return None


class RunDirectory:
    """A run's folder. Rank 0 alone writes the manifest; every rank may read and keeps its own journals."""

    MANIFEST = "manifest.json"
    LOCK = "lock.json"
    HEARTBEAT = 300.0

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # -- opening ------------------------------------------------------------------------------------------------

    def open(self, deck_digest: str, deck_text: str, *, fresh: bool = False, force: bool = False) -> None:
        """Create or reopen the directory for a deck, and lock it. Raises InputError as a user would expect:
        another deck's directory, a directory that is not a run's, one that is not writable, one in use."""
        manifest = self.path / self.MANIFEST
        if self.path.exists() and not self.path.is_dir():
            raise InputError("the run directory is a file", where=str(self.path), hint="give --out another name")
        occupied = self.path.is_dir() and any(not self._beginning(item.name) for item in self.path.iterdir())
        if occupied and not manifest.exists() and not force:
            raise InputError(
                "the directory is not empty and not a run of hpcir",
                where=str(self.path),
                hint="give --out another name",
            )
        if occupied and fresh and not force:
            raise InputError(
                "--fresh wants an empty directory",
                where=str(self.path),
                hint="remove it, give --out another name, or add --force to start over in it",
            )
        if manifest.exists() and not fresh:
            self._require_same_deck(deck_digest)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
        except (PermissionError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"the run directory cannot be written: {error.strerror}",
                where=str(self.path),
                hint="give --out another name",
            ) from error
        if fresh:
            self._clear()
        if not manifest.exists():
            write_atomic(self.path / "deck.resolved.yaml", deck_text)
            self._save({"program": "hpcir", "version": __version__, "deck": deck_digest, "stages": {}})

    def _beginning(self, name: str) -> bool:
        """Whether a run that was killed before its manifest was there may have left this file."""
        return name in (self.LOCK, "deck.resolved.yaml") or name.startswith(
            (f".{self.LOCK}.", ".deck.resolved.yaml.", f".{self.MANIFEST}.")
        )

    def _require_same_deck(self, deck_digest: str) -> None:
        if self.manifest().get("deck") != deck_digest:
            raise InputError(
                "the run directory belongs to another deck",
                where=str(self.path),
                hint=f"compare with {self.path / 'deck.resolved.yaml'}; give --out another name, or --fresh --force "
                "to start over",
            )

    def _clear(self) -> None:
        import shutil

        for item in self.path.iterdir():
            if item.name == self.LOCK:
                continue
            shutil.rmtree(item) if item.is_dir() else item.unlink()

    # -- lock ---------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        lock = self.path / self.LOCK
        own = json.dumps(lock_identity())
        for _ in range(3):
            try:
                create_whole(lock, own)
            except FileExistsError:
                holder = read_lock(lock)
                if holder is not None and lock_alive(lock, holder, self.HEARTBEAT):
                    raise InputError(
                        "another run works in this directory",
                        where=str(self.path),
                        value=f"process {holder['pid']} on {holder['host']}",
                        hint="wait for it, or stop it; `hpcir status` shows where it stands",
                    ) from None
                remove_stale(lock, holder)
                continue
            return
        raise InputError("the run directory's lock changes hands too fast", where=str(lock))

    def beat(self) -> None:
        """Tell other hosts that this run is alive (they go by the lock's modification time)."""
        try:
            os.utime(self.path / self.LOCK)
        except OSError:
            return

    def unlock(self) -> None:
        """Give the directory back, if it is ours."""
        lock = self.path / self.LOCK
        if read_lock(lock) == lock_identity():
            lock.unlink(missing_ok=True)

    # -- manifest -----------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        """What is finished: stage -> inputs digest, files with their SHA-256, seconds. Empty before the first."""
        try:
            content: dict[str, Any] = json.loads((self.path / self.MANIFEST).read_text(encoding="utf-8"))
            return content
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunStopped(
                f"{self.path / self.MANIFEST}: cannot be read: {error}. Remove it and run again with --force: "
                "labels and trajectories in the journals are used again"
            ) from error

    def _save(self, manifest: dict[str, Any]) -> None:
        write_atomic(self.path / self.MANIFEST, json.dumps(manifest, indent=1))

    def finish(self, stage: str, inputs: str, files: list[str], seconds: float, notes: dict[str, Any]) -> None:
        """Record a finished stage: digest of what it read, the files it wrote, the wall time of all its sessions."""
        manifest = self.manifest()
        manifest["stages"][stage] = {
            "inputs": inputs,
            "files": {name: file_digest(self.path / name) for name in files},
            "seconds": seconds + manifest.get("spent", {}).pop(stage, 0.0),
            "notes": notes,
        }
        self._save(manifest)

    def spend(self, stage: str, seconds: float) -> None:
        """Add the time of a session that ended before the stage did."""
        manifest = self.manifest()
        spent = manifest.setdefault("spent", {})
        spent[stage] = spent.get(stage, 0.0) + seconds
        self._save(manifest)

    def finished(self, stage: str, inputs: str) -> dict[str, Any] | None:
        """The manifest entry of a stage done with these inputs, all its files intact; else None.

        A file that no longer has its checksum is renamed to NAME.damaged, and the stage is to be done again.
        """
        entry: dict[str, Any] | None = self.manifest().get("stages", {}).get(stage)
        if entry is None or entry["inputs"] != inputs:
            return None
        intact = True
        for name, expected in entry["files"].items():
            path = self.path / name
            if not path.is_file():
                intact = False
            elif file_digest(path) != expected:
                os.replace(path, path.with_name(path.name + ".damaged"))
                intact = False
        return entry if intact else None

    # -- journals -----------------------------------------------------------------------------------------------

    def journal(self, folder: str, rank: int) -> Journal:
        """This rank's journal in a folder of the run."""
        return Journal(self.path / folder / f"rank-{rank:05d}.journal")

    def records(self, folder: str) -> Iterator[Record]:
        """Every intact record of every rank's journal in a folder, the first of each key."""
        seen: set[str] = set()
        for path in sorted((self.path / folder).glob("*.journal")):
            records, damaged = read_journal(path)
            if damaged:
                with contextlib.suppress(OSError):  # a full disk is no reason not to read
                    note = path.with_suffix(".damaged")
                    note.write_text(f"{damaged} damaged stretches were passed over; their work is done again\n")
            for record in records:
                if record.key not in seen:
                    seen.add(record.key)
                    yield record


def lock_identity() -> dict[str, Any]:
    """Host, process and the process's start time (a process number alone may be used again)."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> str:
    """A process's start time in kernel ticks, '' where /proc does not tell or no such process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def create_whole(path: Path, text: str) -> None:
    """Create a file with its text in one step, so that nobody finds it empty. Raises FileExistsError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with open(path, "x") as file:
            file.write(text)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(lock: Path, holder: dict[str, Any] | None) -> None:
    """Remove the lock of a dead holder, unless another run has taken it over since: of two that try, one renames."""
    aside = lock.with_name(f".{lock.name}.stale.{os.getpid()}")
    try:
        os.rename(lock, aside)
    except FileNotFoundError:
        return
    if read_lock(aside) != holder:  # a living run's, taken over between our look and our rename: give it back
        with contextlib.suppress(OSError):
            os.link(aside, lock)
    aside.unlink(missing_ok=True)


def read_lock(lock: Path) -> dict[str, Any] | None:
    """Who holds a lock; None when there is none or it cannot be read."""
    try:
        holder = json.loads(lock.read_text())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"host", "pid", "started"} <= holder.keys() else None


def lock_alive(lock: Path, holder: dict[str, Any], heartbeat: float) -> bool:
    """Whether the holder lives: on this host by its process, on others by the lock's age."""
    if holder["host"] == socket.gethostname():
        return process_start(holder["pid"]) == holder["started"] != ""
    try:
        return abs(time.time() - lock.stat().st_mtime) < heartbeat
    except OSError:
        return False
