"""The label farm: geometries in, labels out, over all ranks, each on disk at once and none computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed, RunStopped
from hpcir.labels import Label
from hpcir.labels.base import stacked_polar_tensors
from hpcir.labels.isolation import IsolatedEngine
from hpcir.molecules.structures import Structure
from hpcir.storage.checksums import digest
from hpcir.storage.hdf5 import write_h5
from hpcir.storage.journal import Record
from hpcir.study.context import Context

Result = TypeVar("Result")

FOLDER = "labels"
FILE = "labels.h5"


@dataclass(frozen=True)
class Entry:
    """One line of the label store: a geometry, what it was labelled for, and its label (None: quarantined)."""

    structure: Structure
    level: str
    purpose: str
    label: Label | None
    reason: str = ""


class LabelStore:
    """All labels of a run, of any number of levels of theory; lives on rank 0.

    entries: everything on the disk. What is asked of the store is answered from those that this session has asked for
    so far, in that order: an earlier session may have been further on, and its later labels must not be seen before
    their time, or a resumed run would train and choose differently.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._asked: dict[str, None] = {}

    def ask(self, key: str) -> Entry:
        """A known entry; from here on it counts as asked for."""
        self._asked[key] = None
        return self.entries[key]

    @property
    def asked(self) -> list[Entry]:
        """The entries that this session asked for, in that order."""
        return [self.entries[key] for key in self._asked]

    @staticmethod
    def key(structure: Structure, level: str, polar: bool = False) -> str:
        """A geometry at a level of theory, with polar tensors or without; the same is never labelled twice."""
        return digest(
            structure.numbers.astype(np.int64),
            np.asarray(structure.positions, np.float64),
            structure.charge,
            structure.multiplicity,
            level,
            *(["polar tensors"] if polar else []),
        )

    def load(self, records: Sequence[Record]) -> None:
        for record in records:
            self.entries[record.key] = from_record(record)

    def select(self, level: str, purposes: Sequence[str] | None = None) -> list[tuple[Structure, Label]]:
        """The good labels of one level in the order they were asked for, of all or some purposes."""
        return [
            (entry.structure, entry.label)
            for entry in self.asked
            if entry.level == level and entry.label is not None and (purposes is None or entry.purpose in purposes)
        ]

    def failed(self, level: str) -> list[Entry]:
        return [entry for entry in self.asked if entry.level == level and entry.label is None]


def to_record(entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and attributes of a journal record."""
    arrays: dict[str, Any] = {"numbers": entry.structure.numbers, "positions": entry.structure.positions}
    attributes: dict[str, Any] = {
        "level": entry.level,
        "purpose": entry.purpose,
        "charge": entry.structure.charge,
        "multiplicity": entry.structure.multiplicity,
        "name": entry.structure.name,
        "reason": entry.reason,
    }
    if entry.label is not None:
        label = entry.label
        arrays |= {"energy": np.float64(label.energy), "forces": label.forces, "dipole": label.dipole}
        if label.polar_tensors is not None:
            arrays["polar_tensors"] = label.polar_tensors
        attributes |= {"seconds": label.seconds, "method": label.method}
    return arrays, attributes


def from_record(record: Record) -> Entry:
    """The inverse of `to_record`."""
    arrays, attributes = record.arrays, record.attributes
    structure = Structure(
        arrays["numbers"],
        arrays["positions"],
        attributes["charge"],
        attributes["multiplicity"],
        attributes.get("name", "molecule"),
    )
    label = None
    if "energy" in arrays:
        label = Label(
            float(arrays["energy"]),
            arrays["forces"],
            arrays["dipole"],
            attributes["seconds"],
            attributes["method"],
            arrays.get("polar_tensors"),
        )
    return Entry(structure, attributes["level"], attributes["purpose"], label, attributes["reason"])


class LabelFarm:
    """Labels lists of geometries over all ranks at one level of theory."""

    def __init__(
        self, context: Context, settings: LabelSettings, reference: Structure | None, store: LabelStore
    ) -> None:
        self.context = context
        self.store = store
        self.settings = settings
        self.engine = IsolatedEngine(settings, reference, settings.time_limit, check_stop=context.stop.check)
        self.journal = context.directory.journal(FOLDER, context.comm.node)
        self.seconds = 0.0

    @property
    def level(self) -> str:
        return self.engine.level

    def key(self, structure: Structure) -> str:
        """The store's key of what `label` labels."""
        return LabelStore.key(structure, self.level, self.settings.polar_tensors)

    def close(self) -> None:
        self.engine.close()
        self.journal.close()

    def label(self, structures: Sequence[Structure] | None, purpose: str) -> list[Label | None]:
        """Label geometries (rank 0's list counts; collective). Returns them in order on every rank, None for
        those that failed and were set aside. Raises RunStopped when every one of three or more failed."""
        context = self.context
        structures, todo = context.comm.bcast(self._todo(structures) if context.root else None)
        started = time.monotonic()
        done: list[tuple[int, Entry]] = []
        with context.progress.stage(f"label {purpose}", total=len(todo), unit="labels") as stage:
            for item in context.comm.counter(len(todo)):
                done.append((todo[item], self._one(structures[todo[item]], purpose)))
                stage.advance_to(item + 1)
            stage.advance_to(len(todo))
        self.seconds += time.monotonic() - started
        gathered = context.comm.gather(done)
        labels = self._collect(structures, gathered) if gathered is not None else None
        result: list[Label | None] = context.comm.bcast(labels)
        if len(todo) >= 3 and all(result[index] is None for index in todo):
            raise RunStopped(
                f"none of {len(todo)} geometries could be labelled ({purpose}): {self._first_reason()}; "
                f"the geometries are kept in {context.directory / FOLDER}"
            )
        return result

    def label_beside(self, structures: Sequence[Structure] | None, purpose: str, work: Callable[[], Result]) -> Result:
        """work() on rank 0, its result on every rank; until it is done, the other ranks label geometries that will be
        asked for later, as far as they come (rank 0's list counts; collective).

        The labels are on the disk and in the store, and nobody has asked for them yet: the result of a run does not
        depend on how many they were.
        """
        context = self.context
        structures, todo = context.comm.bcast(self._todo(structures) if context.root else None)
        items = context.comm.counter(len(todo))
        result: Result | None = None
        if context.root:
            result = work()
            items.stop()
        gathered = context.comm.gather([(todo[item], self._one(structures[todo[item]], purpose)) for item in items])
        if gathered is not None:
            self._remember(structures, gathered)
        found: Result = context.comm.bcast(result)
        return found

    def one(self, structure: Structure, purpose: str) -> Label:
        """One label on the calling rank alone, without polar tensors (geometry optimisation). Raises LabelFailed."""
        key = LabelStore.key(structure, self.level)
        if key not in self.store.entries:
            self.store.entries[key] = self._one(structure, purpose, polar=False)
        entry = self.store.ask(key)
        if entry.label is None:
            raise LabelFailed(entry.reason)
        return entry.label

    def _todo(self, structures: Sequence[Structure] | None) -> tuple[list[Structure], list[int]]:
        wanted = list(structures or [])
        keys = [self.key(structure) for structure in wanted]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        return wanted, sorted(index for key, index in first.items() if key not in self.store.entries)

    def _one(self, structure: Structure, purpose: str, polar: bool | None = None) -> Entry:
        self.context.stop.check()
        polar = self.settings.polar_tensors if polar is None else polar
        try:
            entry = Entry(structure, self.level, purpose, self.engine.label(structure, polar))
        except LabelFailed as error:
            entry = Entry(structure, self.level, purpose, None, str(error))
            self.context.progress.log(f"a label failed and was set aside: {error}", warning=True)
        arrays, attributes = to_record(entry)
        self.journal.append(LabelStore.key(structure, self.level, polar), arrays, attributes)
        return entry

    def _collect(self, structures: Sequence[Structure], gathered: list[list[tuple[int, Entry]]]) -> list[Label | None]:
        self._remember(structures, gathered)
        found = [self.store.ask(self.key(structure)) for structure in structures]
        return [entry.label for entry in found]

    def _remember(self, structures: Sequence[Structure], gathered: list[list[tuple[int, Entry]]]) -> None:
        """Put all ranks' new labels into the store, in the order of the geometries."""
        new = sorted(((index, entry) for part in gathered for index, entry in part), key=lambda pair: pair[0])
        for index, entry in new:
            self.store.entries[self.key(structures[index])] = entry

    def _first_reason(self) -> str:
        failed = self.store.failed(self.level)
        return failed[0].reason if failed else "see log.txt"


def export(context: Context, store: LabelStore) -> None:
    """Write labels.h5: a group for each level of theory and composition, arrays over geometries."""
    groups: dict[tuple[str, tuple[int, ...], int, int], list[Entry]] = {}
    for entry in store.asked:
        structure = entry.structure
        key = (entry.level, tuple(structure.numbers.tolist()), structure.charge, structure.multiplicity)
        groups.setdefault(key, []).append(entry)
    arrays: dict[str, tuple[Any, str, str]] = {}
    attributes: dict[str, Any] = {"format": "hpcir labels", "count": len(store.asked)}
    for number, ((level, numbers, charge, multiplicity), entries) in enumerate(groups.items()):
        prefix = f"group_{number:04d}"
        attributes |= {
            f"{prefix}.level": level,
            f"{prefix}.charge": charge,
            f"{prefix}.multiplicity": multiplicity,
        }
        labelled = [entry for entry in entries if entry.label is not None]
        arrays |= _group_arrays(prefix, np.array(numbers), labelled)
        failed = [entry for entry in entries if entry.label is None]
        if failed:
            positions = np.array([entry.structure.positions for entry in failed])
            arrays[f"{prefix}/quarantine_positions"] = (positions, "bohr", "geometry,atom,xyz")
    write_h5(context.directory / FILE, arrays, attributes)


def _group_arrays(prefix: str, numbers: Any, entries: list[Entry]) -> dict[str, tuple[Any, str, str]]:
    labels = [entry.label for entry in entries if entry.label is not None]
    shape = (len(labels), len(numbers), 3)
    forces = np.array([label.forces for label in labels]).reshape(shape)
    positions = np.array([entry.structure.positions for entry in entries]).reshape(shape)
    arrays = {
        f"{prefix}/numbers": (numbers, "atomic number", "atom"),
        f"{prefix}/positions": (positions, "bohr", "geometry,atom,xyz"),
        f"{prefix}/energy": (np.array([label.energy for label in labels]), "hartree", "geometry"),
        f"{prefix}/forces": (forces, "hartree/bohr", "geometry,atom,xyz"),
        f"{prefix}/dipole": (np.array([label.dipole for label in labels]).reshape(-1, 3), "e bohr", "geometry,xyz"),
        f"{prefix}/purpose": (np.array([entry.purpose for entry in entries], dtype="S32"), "text", "geometry"),
        f"{prefix}/seconds": (np.array([label.seconds for label in labels]), "s", "geometry"),
    }
    tensors = stacked_polar_tensors([label.polar_tensors for label in labels], len(numbers))
    if tensors is not None:
        arrays[f"{prefix}/polar_tensors"] = (tensors, "e", "geometry,atom,xyz of the atom,xyz of the dipole")
    return arrays
