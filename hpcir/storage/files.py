"""Text files that are written completely or not at all, and the text of other programs' files."""

from __future__ import annotations

import codecs
import contextlib
import os
from pathlib import Path

from hpcir.errors import RunStopped


def write_atomic(path: Path, text: str) -> None:
    """Replace a small text file in one step: readers see the old or the new, never a part."""
    replace_file(path, text.encode())


def keep_text(path: Path, text: str) -> None:
    """Write a small text file unless it holds that text: a damaged one is replaced, an intact one not touched."""
    if text_of(path) != text:
        write_atomic(path, text)


def text_of(path: Path) -> str | None:
    """The contents of a text file; None where no file can be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


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


def decoded(raw: bytes) -> str:
    """The text of a file in UTF-8, in UTF-16 with a byte order mark, or else in Latin-1; line ends as line feeds."""
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        text = raw.decode("utf-16", "replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
