"""Folders of compiled kernels between runs.

numba recompiles a cached function when the file that defines it changes, but not when a function that it calls, in
another file, does; so the directory's name carries a digest of every kernel source. numba itself keys its files by
its version and the CPU, so one home directory may serve unlike nodes.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_KERNEL_FOLDERS = ("descriptors", "models", "dynamics", "training/compiled")


def _digest() -> str:
    """Twelve hexadecimal digits that change with any source file of the kernels' packages."""
    digest = hashlib.sha256()
    for folder in _KERNEL_FOLDERS:
        for source in sorted((_PACKAGE / folder).glob("*.py")):
            text = source.read_bytes()
            if b"numba" in text or b"njit" in text:
                digest.update(source.name.encode() + text)
    return digest.hexdigest()[:12]


def _writable(folder: Path) -> bool:
    """True when files can be made in `folder`, which is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@cache
def prepare_kernel_cache() -> Path:
    """Choose the directory of compiled kernels and tell numba; every module with kernels calls this first.

    NUMBA_CACHE_DIR wins when the user set it; else $XDG_CACHE_HOME/hpcir (~/.cache/hpcir); else, when that cannot be
    written (a read-only home, a full quota), a directory of this user in the system's temporary one. Returns it.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        name = f"kernels-{_digest()}"
        folder = home / "hpcir" / name
        if not _writable(folder):
            folder = Path(tempfile.gettempdir()) / f"hpcir-{os.getuid()}" / name
        if not _writable(folder):
            folder = Path(tempfile.mkdtemp(prefix="hpcir-"))
        chosen = str(folder)
        os.environ["NUMBA_CACHE_DIR"] = chosen
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = chosen
    return Path(chosen)
