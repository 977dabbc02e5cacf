"""Where a file comes from: program, git commit, and what the command told of its deck, seed and hosts.

One process does one command, so this is kept for the process; every HDF5 file and CSV of a result carries it. The
number of ranks is not in it (summary.json has it), so that files of runs on one rank and on two can be compared whole.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hpcir import __version__

_told: dict[str, Any] = {}


def tell(**facts: Any) -> None:
    """Facts for all files from here on, such as seed, deck (a digest) and hosts; JSON-able."""
    _told.update(facts)


def origin() -> dict[str, Any]:
    """Program, version, commit, and what was told."""
    return {"program": "hpcir", "version": __version__, "git_commit": git_commit(), **_told}


def origin_text() -> str:
    """The same as JSON in one line."""
    return json.dumps(origin(), sort_keys=True)


@cache
def git_commit() -> str:
    """The commit of the checkout that the program runs from, or that it was installed from; '' where none is known."""
    root = Path(__file__).resolve().parent.parent
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
    """What pip wrote down when it installed from a repository."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution("hpcir").read_text("direct_url.json")
        return str(json.loads(text or "{}").get("vcs_info", {}).get("commit_id", ""))
    except (PackageNotFoundError, ValueError):
        return ""
