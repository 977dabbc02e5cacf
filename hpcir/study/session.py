"""A folder for one command's work: opened, locked, resumed; its display, stop flag and input files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcir.deck.loader import load_deck
from hpcir.deck.resolved import deck_digest, resolved_text
from hpcir.deck.sections import Deck, System
from hpcir.errors import EXIT_INTERRUPTED, InputError
from hpcir.molecules.structures import (
    CHARGE_WORDS,
    SPIN_WORDS,
    Structure,
    check_spin,
    read_frames,
    stated,
    structure_of,
)
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.runtime.progress import Progress
from hpcir.runtime.stopping import StopRequest
from hpcir.storage import layout
from hpcir.storage.provenance import record_facts
from hpcir.storage.run_directory import RunDirectory
from hpcir.study.context import Context

if TYPE_CHECKING:
    from hpcir.models.potential import Potential


@contextmanager
def session(
    folder: Path,
    comm: Communicator,
    deck: Deck,
    structure: Structure,
    key: str,
    *,
    force: bool = False,
    walltime: float | None = None,
) -> Iterator[Context]:
    """A command's folder and display on all ranks (collective).

    key: 'COMMAND-DIGEST' of what the command works on. The same key continues the folder; with another one it is
    refused, or cleared with `force` when it is the same command's. Raises InputError as `RunDirectory.open`.
    """
    directory = RunDirectory(folder)

    @collective
    def opened() -> None:
        on_root(comm, lambda: _open(directory, key, resolved_text(deck), force))

    with at_work(directory, comm, deck, structure, opened, walltime) as context:
        yield context


@contextmanager
def at_work(
    directory: RunDirectory,
    comm: Communicator,
    deck: Deck,
    structure: Structure,
    opened: Callable[[], None],
    walltime: float | None = None,
) -> Iterator[Context]:
    """The context of every command that computes, on all ranks (collective): signals caught, the directory locked,
    the origin of its files recorded, its display. opened: opens the directory (collective)."""
    stop = StopRequest(walltime, overdue=lambda message: comm.abort(EXIT_INTERRUPTED, message)).install()
    try:
        opened()
        record_facts(deck.model_dump(mode="json"), deck=deck_digest(deck), seed=deck.seed, hosts=comm.nodes)
        with Progress(comm.rank, directory.path, size=comm.size, heartbeat=directory.beat) as progress:
            yield Context(deck, structure, directory, comm, progress, stop)
    finally:
        stop.close()
        if comm.rank == 0:
            directory.unlock()


def _open(directory: RunDirectory, key: str, text: str, force: bool) -> None:
    before = str(directory.manifest().get("deck", ""))
    # Only files of the same command are cleared: --force must not delete the labels of a run.
    fresh = force and before != key and before.split("-")[0] == key.split("-")[0]
    directory.open(key, text, fresh=fresh, force=fresh)


def default_deck(structure: Path, charge: int = 0, multiplicity: int = 1) -> Deck:
    """A deck of defaults for a structure file."""
    return Deck(system=System(structure=str(structure), charge=charge, multiplicity=multiplicity))


def deck_of(model_dir: Path) -> Deck | None:
    """The resolved deck that lies in a model or run directory; None when there is none."""
    path = model_dir / layout.DECK
    return load_deck(path).deck if path.is_file() else None


def require_charge(model: Potential, model_dir: Path, charge: int, where: str) -> None:
    """Raise InputError when a molecule has a total charge that the model did not learn: charge is no input of its
    networks. Models of several molecules are those of their deck."""
    known = getattr(model, "provenance", {}).get("charges")
    deck = deck_of(model_dir) if model_dir.is_dir() else None
    if known is None and deck is not None and (deck.system.targets or not deck.explores_one_minimum):
        return
    learnt = known if isinstance(known, list) else [model.total_charge]
    if charge not in learnt:
        raise InputError(
            f"the model learnt molecules of total charge {', '.join(f'{one:+d}' if one else '0' for one in learnt)}",
            where=where,
            value=f"charge {charge:+d}",
            hint="train on data whose charge is declared (train --charge, or --keys charge=NAME), or mend --charge",
        )


def check_new(path: Path, force: bool) -> None:
    """Raise InputError when a file would be overwritten without --force, or its folder does not exist."""
    if path.is_dir():
        raise InputError("this is a folder, and a file is to be written", where=str(path), hint="give -o another name")
    if path.exists() and not force:
        raise InputError("the file exists already", where=str(path), hint="give -o another name, or --force")
    if not path.absolute().parent.is_dir():
        raise InputError("the folder does not exist", where=str(path.parent), hint="make it, or give -o another name")


def check_folder(folder: Path, names: tuple[str, ...], force: bool) -> None:
    """Raise InputError when one of the files would be overwritten in a folder, or the folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file, and a folder is wanted", where=str(folder), hint="give -o another name")
    for name in names:
        if (folder / name).exists() and not force:
            raise InputError(
                "the file exists already", where=str(folder / name), hint="give -o another name, or --force"
            )


def make_folder(folder: Path) -> None:
    """Make a folder (and those above it). Raises InputError when that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder cannot be made: {error.strerror}", where=str(folder)) from error


def read_structures(path: Path, charge: int = 0, multiplicity: int = 1, spin: bool = True) -> list[Structure]:
    """Every geometry of a file, checked; `charge` and `multiplicity` where the file does not say them itself.

    spin: check the multiplicity against the electrons too. Raises InputError that names the geometry.
    """
    structures = []
    for number, atoms in enumerate(read_frames(path), 1):
        where = f"{path}, geometry {number}"
        if np.any(atoms.pbc):
            raise InputError("the geometry is a periodic cell; hpcir works on molecules", where=where)
        said, unpaired = (stated(atoms.info, words, where) for words in (CHARGE_WORDS, SPIN_WORDS))
        total, own_spin = charge if said is None else said, multiplicity if unpaired is None else unpaired
        structure = structure_of(atoms, total, own_spin, f"{path.stem} {number}", where)
        if spin:
            check_spin(structure)
        structures.append(structure)
    return structures
