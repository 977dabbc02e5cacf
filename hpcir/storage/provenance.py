"""Origin of a file: program, git commit, libraries, and the facts that the command recorded: deck, seed, hosts.

One process does one command, so this is kept for the process; every file of a result carries it, in the form that its
format has room for. The number of ranks is not in it (summary.json has it), so that files of runs on one rank and on
two can be compared whole.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hpcir.version import __version__

# Libraries whose versions are recorded, where they are installed.
LIBRARIES = ("numpy", "scipy", "torch", "numba", "h5py", "pyscf", "tblite", "ase", "mpi4py", "mpich", "openmpi")
# Characters of a digest in a short line.
DIGEST_LENGTH = 12

_facts: dict[str, Any] = {}
_settings: dict[str, Any] = {}


def record_facts(settings: Mapping[str, Any] | None = None, **facts: Any) -> None:
    """Record facts for all files written from here on, such as seed, deck (a digest) and hosts; JSON-able.

    settings: the whole deck, for files that have room for it.
    """
    _facts.update(facts)
    if settings is not None:
        _settings.clear()
        _settings.update(settings)


def forget_facts() -> None:
    """Begin anew, as a command does: what another one recorded in this process is not of its files."""
    _facts.clear()
    _settings.clear()


def origin() -> dict[str, Any]:
    """Program, version, commit, libraries, and the recorded facts."""
    return {
        "program": "hpcir",
        "version": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "libraries": dict(library_versions()),
        **_facts,
    }


def origin_text() -> str:
    """The same as JSON in one line."""
    return json.dumps(origin(), sort_keys=True)


def origin_line() -> str:
    """The same in some 80 ASCII letters, without the libraries: for formats with little room."""
    parts = [f"hpcir {__version__}"]
    for name, value in (("commit", git_commit()), *_facts.items()):
        if value not in ("", None):
            parts.append(f"{name} {value[:DIGEST_LENGTH] if isinstance(value, str) else value}")
    return " ".join(parts).encode("ascii", "replace").decode()


def settings_text() -> str:
    """The whole deck as JSON in one line; '' where none was recorded."""
    return json.dumps(_settings, sort_keys=True) if _settings else ""


def png_texts(known: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The texts of a PNG file, for matplotlib's `metadata`: `origin`, or what is known of the origin of its data."""
    return {"Software": f"hpcir {__version__}", "Source": json.dumps(known or origin(), sort_keys=True)}


@cache
def library_versions() -> tuple[tuple[str, str], ...]:
    """Name and version of every one of LIBRARIES that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


@cache
def git_commit() -> str:
    """The commit of the checkout that the program runs from, or that it was installed from; '' where none is known."""
    root = Path(__file__).resolve().parents[2]
    try:
        return _head(_git_folder(root)) or _installed_commit()
    except OSError:
        return _installed_commit()


def _git_folder(root: Path) -> Path:
    """The git folder of a checkout: .git itself, or what that file names."""
    place = root / ".git"
    if place.is_file():
        return root / place.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
    return place


def _head(folder: Path) -> str:
    head = (folder / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head
    name = head.removeprefix("ref:").strip()
    shared = folder / "commondir"
    common = folder / shared.read_text(encoding="utf-8").strip() if shared.is_file() else folder
    if (common / name).is_file():
        return (common / name).read_text(encoding="utf-8").strip()
    packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")


def _installed_commit() -> str:
    """The commit that pip recorded when it installed from a repository."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution("hpcir").read_text("direct_url.json")
        return str(json.loads(text or "{}").get("vcs_info", {}).get("commit_id", ""))
    except (PackageNotFoundError, ValueError):
        return ""
