"""Command label: energy, forces and dipole of a file of geometries, over all ranks, resumable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hpcir.deck.loader import LoadedDeck
from hpcir.errors import InputError, RunStopped
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.labels import Label, create_engine
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.storage.checksums import digest
from hpcir.storage.files import write_atomic
from hpcir.study.context import Context
from hpcir.study.label_farm import FOLDER, LabelFarm, LabelStore, candidates
from hpcir.study.session import check_new, read_structures, session
from hpcir.units import ANGSTROM


@dataclass(frozen=True)
class Labelled:
    """The outcome of each geometry: its label, or the reason why it has none."""

    structures: list[Structure]
    labels: list[Label | None]
    reasons: list[str]
    level: str


@collective
def label(
    structures: Path,
    deck: LoadedDeck,
    output: Path,
    force: bool,
    comm: Communicator,
    walltime: float | None = None,
) -> None:
    """Label every geometry of a file with the deck's engine and write them as extxyz (eV, eV/A, e*A); collective.

    Finished labels are kept beside the output, in NAME.labels.run, so that a stopped command continues. Geometries that
    failed are named with the reason and written to NAME.failed.xyz. Raises RunStopped when every one failed.
    """
    geometries = on_root(comm, lambda: _geometries(structures, deck, output, force))
    folder = output.with_name(f"{output.stem}.labels.run")
    settings = {
        name: value
        for name, value in deck.deck.labels.content().items()
        if name not in ("threads", "time_limit", "pretrain")
    }
    key = f"label-{digest(settings)}"
    with session(folder, comm, deck.deck, geometries[0], key, force=force, walltime=walltime) as context:
        labelled = _label_all(context, geometries)
    on_root(comm, lambda: _write(labelled, output))


def _geometries(path: Path, loaded: LoadedDeck, output: Path, force: bool) -> list[Structure]:
    check_new(output, force)
    system = loaded.deck.system
    found = read_structures(path, system.charge, system.multiplicity)
    kinds = {(s.charge, s.multiplicity, *sorted(s.numbers.tolist())): s for s in reversed(found)}
    for structure in kinds.values():
        try:
            create_engine(loaded.deck.labels).check(structure)
        except InputError as error:
            place = loaded.located(error)
            where = f"{place.where} ({structure.source})" if place.where else structure.source
            raise InputError(error.what, where=where, value=error.value, hint=error.hint) from None
    return found


def _label_all(context: Context, structures: list[Structure]) -> Labelled:
    store = LabelStore()
    if context.root:
        store.load(list(context.directory.records(FOLDER)))
    farm = LabelFarm(context, context.deck.labels, None, store)
    try:
        labels = farm.label(candidates(structures, "command"))
    except RunStopped as error:
        if not str(error).startswith("none of"):
            raise
        # None could be labelled: the store has the reasons, and each is reported.
        labels = [None] * len(structures)
    finally:
        farm.close()
    entries = [store.entries.get(farm.key(structure)) for structure in structures]
    reasons = [entry.reason if entry else "" for entry in entries]
    return Labelled(structures, labels, reasons, farm.level)


def _write(labelled: Labelled, output: Path) -> None:
    pairs = list(zip(labelled.structures, labelled.labels, strict=True))
    frames = [_frame(structure, found, labelled.level) for structure, found in pairs if found is not None]
    failed = [(s, reason) for (s, found), reason in zip(pairs, labelled.reasons, strict=True) if found is None]
    for structure, reason in failed:
        print(f"{structure.source}: not labelled: {reason}")
    _write_failed(failed, output.with_name(f"{output.stem}.failed.xyz"))
    if not frames:
        raise RunStopped(f"none of {len(pairs)} geometries could be labelled: {labelled.reasons[0]}")
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    write_extxyz(Dataset(tuple(frames)), temporary)
    os.replace(temporary, output)
    rest = f", {len(failed)} failed (see above)" if failed else ""
    print(f"{output}: {len(frames)} of {len(pairs)} geometries labelled with {labelled.level}{rest}")


def _frame(structure: Structure, found: Label, level: str) -> Frame:
    return Frame(
        structure.numbers,
        structure.positions,
        found.energy,
        found.forces,
        found.dipole,
        polar_tensors=found.polar_tensors,
        charge=structure.charge,
        level=level,
        place=structure.source,
    )


def _write_failed(failed: list[tuple[Structure, str]], path: Path) -> None:
    """The geometries without a label as plain xyz, the reason in the comment line; no file when there is none."""
    if not failed:
        path.unlink(missing_ok=True)
        return
    lines = []
    for structure, reason in failed:
        lines += [str(len(structure)), " ".join(f"{structure.source}: {reason}".split())]
        rows = zip(structure.symbols, structure.positions / ANGSTROM, strict=True)
        lines += [f"{symbol:<2} " + " ".join(f"{x:18.10f}" for x in row) for symbol, row in rows]
    write_atomic(path, "\n".join([*lines, ""]))
