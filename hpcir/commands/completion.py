"""`hpcir completion SHELL`: the script by which a shell completes commands, options and file names (made by shtab)."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpcir.errors import InputError

SHELLS = ("bash", "zsh", "tcsh")
# Metavars of paths that are folders.
FOLDER_METAVARS = ("DIR", "MODEL_DIR", "FOLDER")


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one of `SHELLS`. Raises InputError when shtab is not installed."""
    try:
        import shtab
    except ModuleNotFoundError:
        raise InputError(
            "the Python package 'shtab' is not installed", hint="pip install 'shtab>=1.7', or 'hpcir[completion]'"
        ) from None
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar in FOLDER_METAVARS else shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The actions of a parser and of its commands."""
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for command in action.choices.values() for inner in _actions(command)]
    return found
