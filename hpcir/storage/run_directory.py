"""The run directory: lock, manifest of finished stages, journals of work in progress, and its HDF5 files.

Finished results are HDF5 files, written under a temporary name and renamed, with a checksum of what they hold.
Work in progress goes to journals (see journal.py), one file a node.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcir.errors import InputError, RunStopped
from hpcir.storage import layout
from hpcir.storage.checksums import digest, file_digest
from hpcir.storage.files import keep_text, text_of, write_atomic
from hpcir.storage.journal import Heading, Journal, Place, Record, Walk, read_record
from hpcir.storage.lock import (
    LOCK_TIMEOUT,
    create_whole,
    holder_lives,
    is_local,
    lock_identity,
    read_lock,
    remove_stale,
)
from hpcir.version import __version__

# The deck with every key and its value, in a run directory.
RESOLVED = layout.DECK


class RunDirectory:
    """A run's folder. Rank 0 alone writes the manifest; every rank may read, and appends to its node's journals."""

    MANIFEST = layout.MANIFEST
    LOCK = layout.LOCK
    HEARTBEAT = 300.0
    LOCK_TIMEOUT = LOCK_TIMEOUT

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
        occupied = self.path.is_dir() and any(not self._is_leftover(item.name) for item in self.path.iterdir())
        if occupied and not manifest.exists() and not force:
            raise InputError(
                "the directory is not empty and not a run of hpcir",
                where=str(self.path),
                hint="give --out another name",
            )
        if occupied and fresh and not force:
            raise InputError(
                "--fresh needs an empty directory",
                where=str(self.path),
                hint="remove it, give --out another name, or add --force to start over in it",
            )
        damaged = manifest.exists() and not fresh and not self._same_deck(deck_digest, deck_text)
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
        if damaged:
            os.replace(manifest, manifest.with_name(manifest.name + layout.DAMAGED))
        keep_text(self.path / RESOLVED, deck_text)
        if not manifest.exists():
            self._save({"program": "hpcir", "version": __version__, "deck": deck_digest, "stages": {}})

    def _is_leftover(self, name: str) -> bool:
        """True for files that a run killed before it wrote its manifest may have left."""
        return name in (self.LOCK, RESOLVED) or name.startswith(
            (f".{self.LOCK}.", f".{RESOLVED}.", f".{self.MANIFEST}.")
        )

    def _same_deck(self, deck_digest: str, deck_text: str) -> bool:
        """True where the manifest is of this deck; False when it is damaged and the resolved deck is the same. Raises
        InputError for another deck's directory, RunStopped when neither can be read."""
        try:
            same = self.manifest().get("deck") == deck_digest
        except RunStopped:
            if text_of(self.path / RESOLVED) == deck_text:
                return False
            raise
        if same:
            return True
        raise InputError(
            "the run directory belongs to another deck",
            where=str(self.path),
            hint=f"compare with {self.path / RESOLVED}; give --out another name, or --fresh --force to start over",
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
                if holder is not None and self._lives(lock, holder):
                    raise InputError(
                        "another run works in this directory",
                        where=str(self.path),
                        value=f"process {holder['pid']} on {holder['host']}",
                        hint="wait for it, or stop it; `hpcir status` shows its progress",
                    ) from None
                remove_stale(lock, holder)
                continue
            return
        raise InputError("the lock of the run directory changes its holder too often", where=str(lock))

    def _lives(self, lock: Path, holder: dict[str, Any]) -> bool:
        if not is_local(holder):
            print(
                f"hpcir: {self.path} has the lock of process {holder['pid']} on {holder['host']}; watching it for "
                f"{self.LOCK_TIMEOUT:.0f} s to see whether that process is alive",
                file=sys.stderr,
                flush=True,
            )
        return holder_lives(lock, holder, self.LOCK_TIMEOUT)

    def beat(self) -> None:
        """Touch the lock, by whose modification time other hosts know that this run is alive."""
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
        """The finished stages: stage -> inputs digest, files with their SHA-256, seconds. Empty before the first."""
        try:
            content: dict[str, Any] = json.loads((self.path / self.MANIFEST).read_text(encoding="utf-8"))
            expected = content.pop("checksum", None)
            if expected is not None and expected != digest(content):
                raise ValueError("its contents do not match their checksum")
            return content
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise RunStopped(
                f"{self.path / self.MANIFEST}: cannot be read: {error}. Remove it and run again with --force: "
                "labels and trajectories in the journals are used again"
            ) from error

    def _save(self, manifest: dict[str, Any]) -> None:
        write_atomic(self.path / self.MANIFEST, json.dumps({**manifest, "checksum": digest(manifest)}, indent=1))

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
                os.replace(path, path.with_name(path.name + layout.DAMAGED))
                intact = False
        return entry if intact else None

    # -- journals -----------------------------------------------------------------------------------------------

    def journal(self, folder: str, node: int) -> Journal:
        """The journal of this rank's node in a folder of the run; node: the first rank of the node."""
        return Journal(self.path / folder / f"node-{node:05d}.journal")

    def records(self, folder: str) -> Iterator[Record]:
        """Every intact record of every journal in a folder, the first of each key, one in memory at a time."""
        seen: set[str] = set()
        for item in self._walk(folder, arrays=True):
            assert isinstance(item, Record)  # what a walk with arrays gives
            if item.key not in seen:
                seen.add(item.key)
                yield item

    def index(self, folder: str) -> Iterator[Heading]:
        """Every record of every journal in a folder without its arrays, which `record_at` may find damaged later: a
        key may come again, where damaged work was done anew."""
        for item in self._walk(folder, arrays=False):
            assert isinstance(item, Heading)
            yield item

    def record_at(self, folder: str, place: Place) -> Record | None:
        """The record of an index; None when it is damaged."""
        return read_record(self.path / folder / place.file, place.position)

    def _walk(self, folder: str, arrays: bool) -> Iterator[Record | Heading]:
        for path in sorted((self.path / folder).glob("*.journal")):
            walk = Walk(path, arrays)
            yield from walk
            if walk.damaged:
                with contextlib.suppress(OSError):  # a full disk is no reason not to read
                    note = path.with_suffix(layout.DAMAGED)
                    note.write_text(f"{walk.damaged} damaged stretches were skipped; their work is done again\n")
