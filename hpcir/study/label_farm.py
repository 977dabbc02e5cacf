"""The label farm: geometries in, labels out, over all ranks, each on disk at once and none computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from hpcir.arrays import BoolArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed, RunStopped
from hpcir.labels import Label
from hpcir.labels.base import stacked_polar_tensors
from hpcir.labels.external.engine import Answers, ExternalEngine
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.hdf5 import write_h5
from hpcir.storage.journal import Record
from hpcir.study.context import Context

Result = TypeVar("Result")

FOLDER = layout.LABEL_JOURNALS
FILE = layout.LABELS
# Purposes that begin so are of labels that no model learns.
TEST = "test"


@dataclass(frozen=True)
class Candidate:
    """A geometry to be labelled, and for which purpose; learnt (N,): the atoms whose forces count (None: all)."""

    structure: Structure
    purpose: str
    learnt: BoolArray | None = None


def candidates(structures: Iterable[Structure], purpose: str) -> list[Candidate]:
    """Geometries to be labelled for one purpose, all of their forces learnt."""
    return [Candidate(structure, purpose) for structure in structures]


@dataclass(frozen=True)
class Entry:
    """One line of the label store: a geometry, its purpose, and its label (None: quarantined).

    learnt (N,): the atoms whose forces are learnt (None: all); given with the request, not kept on the disk.
    """

    structure: Structure
    level: str
    purpose: str
    label: Label | None
    reason: str = ""
    learnt: BoolArray | None = None


class LabelStore:
    """All labels of a run, of any number of levels of theory; lives on rank 0.

    entries: everything on the disk. Queries see only the entries that this session has requested so far, in that order:
    an earlier session may have been further on, and its later labels must not be used before they are requested again,
    or a resumed run would train and choose differently.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._requested: dict[str, None] = {}

    def request(self, key: str, learnt: BoolArray | None = None) -> Entry:
        """A known entry, which counts as requested from now on, with the forces that are `learnt` of it."""
        self._requested[key] = None
        if learnt is not None:
            self.entries[key] = replace(self.entries[key], learnt=learnt)
        return self.entries[key]

    @property
    def requested(self) -> list[Entry]:
        """The entries that this session requested, in that order."""
        return [self.entries[key] for key in self._requested]

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
        """The good labels of one level in the order of the requests, of all or some purposes."""
        return [
            (entry.structure, entry.label)
            for entry in self.requested
            if entry.level == level and entry.label is not None and (purposes is None or entry.purpose in purposes)
        ]

    def failed(self, level: str) -> list[Entry]:
        return [entry for entry in self.requested if entry.level == level and entry.label is None]


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
        self.engine = context.engine(settings, reference)
        self.journal = context.directory.journal(FOLDER, context.comm.node)
        self.seconds = 0.0

    @property
    def level(self) -> str:
        return self.engine.level

    def key(self, structure: Structure) -> str:
        """The store's key of a geometry with the labels of `label`."""
        return LabelStore.key(structure, self.level, self.settings.polar_tensors)

    def close(self) -> None:
        self.engine.close()
        self.journal.close()

    @collective
    def label(self, wanted: Sequence[Candidate] | None) -> list[Label | None]:
        """Label geometries (rank 0's list counts; collective). Returns them in order on every rank, None for
        those that failed and were set aside. Raises RunStopped when every one of three or more failed."""
        context = self.context
        engine = self.engine
        if isinstance(engine, ExternalEngine):
            return context.on_root(lambda: self._from_files(engine, wanted))
        wanted, todo = context.on_root(lambda: self._todo(wanted))
        purpose = wanted[0].purpose if wanted else "nothing"
        started = time.monotonic()
        done: list[tuple[int, Entry]] = []
        with context.progress.stage(f"label {purpose}", total=len(todo), unit="labels") as stage:
            for item in context.comm.counter(len(todo)):
                done.append((todo[item], self._one(wanted[todo[item]])))
                stage.advance_to(item + 1)
            stage.advance_to(len(todo))
        self.seconds += time.monotonic() - started
        gathered = context.comm.gather(done)
        labels = self._collect(wanted, gathered) if gathered is not None else None
        result: list[Label | None] = context.comm.bcast(labels)
        if len(todo) >= 3 and all(result[index] is None for index in todo):
            raise RunStopped(
                f"none of {len(todo)} geometries could be labelled ({purpose}): {self._first_reason()}; "
                f"the geometries are kept in {context.directory / FOLDER}"
            )
        return result

    @collective
    def label_beside(self, wanted: Sequence[Candidate] | None, work: Callable[[], Result]) -> Result:
        """work() on rank 0, its result on every rank; until it is done, the other ranks label geometries that will be
        requested later, as many as time allows (rank 0's list counts; collective).

        The labels are on the disk and in the store, but not requested yet: the result of a run does not
        depend on how many they were.
        """
        context = self.context
        engine = self.engine
        if isinstance(engine, ExternalEngine):
            context.at_root(lambda: self._read(engine, wanted))  # the inputs of all are written at once
            return context.on_root(work)
        wanted, todo = context.on_root(lambda: self._todo(wanted))
        items = context.comm.counter(len(todo))
        result: Result | None = None
        if context.root:
            result = work()
            items.stop()
        gathered = context.comm.gather([(todo[item], self._one(wanted[todo[item]])) for item in items])
        if gathered is not None:
            self._remember(wanted, gathered)
        found: Result = context.comm.bcast(result)
        return found

    def one(self, structure: Structure, purpose: str) -> Label:
        """One label on the calling rank alone, without polar tensors (geometry optimisation). Raises LabelFailed."""
        key = LabelStore.key(structure, self.level)
        if key not in self.store.entries:
            self.store.entries[key] = self._one(Candidate(structure, purpose), polar=False)
        entry = self.store.request(key)
        if entry.label is None:
            raise LabelFailed(entry.reason)
        return entry.label

    def _from_files(self, engine: ExternalEngine, wanted: Sequence[Candidate] | None) -> list[Label | None]:
        """The labels of geometries from another program's outputs (rank 0). Those that are there are journalled even
        where others are missing or refused: LabelsMissing or InputError then."""
        self._read(engine, wanted).require_all()
        return self._collect(list(wanted or []), [])

    def _read(self, engine: ExternalEngine, wanted: Sequence[Candidate] | None) -> Answers:
        wanted, todo = self._todo(wanted)
        answers = engine.answers([wanted[item].structure for item in todo])
        for item, found in zip(todo, answers.labels, strict=True):
            candidate = wanted[item]
            if found is not None:
                label, reason = (found, "") if isinstance(found, Label) else (None, str(found))
                entry = Entry(candidate.structure, self.level, candidate.purpose, label, reason)
                self._keep(self.key(candidate.structure), entry)
                self.store.entries[self.key(candidate.structure)] = entry
        return answers

    def _todo(self, wanted: Sequence[Candidate] | None) -> tuple[list[Candidate], list[int]]:
        wanted = list(wanted or [])
        keys = [self.key(item.structure) for item in wanted]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        return wanted, sorted(index for key, index in first.items() if key not in self.store.entries)

    def _one(self, wanted: Candidate, polar: bool | None = None) -> Entry:
        self.context.stop.check()
        structure, purpose = wanted.structure, wanted.purpose
        polar = self.settings.polar_tensors if polar is None else polar
        try:
            entry = Entry(structure, self.level, purpose, self.engine.label(structure, polar))
        except LabelFailed as error:
            entry = Entry(structure, self.level, purpose, None, str(error))
            self.context.progress.log(f"a label failed and was set aside: {error}", warning=True)
        self._keep(LabelStore.key(structure, self.level, polar), entry)
        return entry

    def _keep(self, key: str, entry: Entry) -> None:
        arrays, attributes = to_record(entry)
        self.journal.append(key, arrays, attributes)

    def _collect(self, wanted: Sequence[Candidate], gathered: list[list[tuple[int, Entry]]]) -> list[Label | None]:
        self._remember(wanted, gathered)
        found = [self.store.request(self.key(item.structure), item.learnt) for item in wanted]
        return [entry.label for entry in found]

    def _remember(self, wanted: Sequence[Candidate], gathered: list[list[tuple[int, Entry]]]) -> None:
        """Put all ranks' new labels into the store, in the order of the geometries."""
        new = sorted(((index, entry) for part in gathered for index, entry in part), key=lambda pair: pair[0])
        for index, entry in new:
            self.store.entries[self.key(wanted[index].structure)] = entry

    def _first_reason(self) -> str:
        failed = self.store.failed(self.level)
        return failed[0].reason if failed else "see log.txt"


@dataclass(frozen=True)
class LabelBudget:
    """The label budget of one level: the farm that spends it, and the most labels, the test's apart (rank 0)."""

    farm: LabelFarm
    most: int

    def used(self) -> int:
        """Labels of this level requested so far."""
        entries = self.farm.store.requested
        return sum(entry.level == self.farm.level and not entry.purpose.startswith(TEST) for entry in entries)

    def room(self, wanted: int) -> int:
        """The number of labels, out of `wanted`, that the budget still allows."""
        return max(0, min(wanted, self.most - self.used()))


def export(context: Context, store: LabelStore) -> None:
    """Write labels.h5: a group for each level of theory and composition, arrays over geometries."""
    groups: dict[tuple[str, tuple[int, ...], int, int], list[Entry]] = {}
    for entry in store.requested:
        structure = entry.structure
        key = (entry.level, tuple(structure.numbers.tolist()), structure.charge, structure.multiplicity)
        groups.setdefault(key, []).append(entry)
    arrays: dict[str, tuple[Any, str, str]] = {}
    attributes: dict[str, Any] = {"format": "hpcir labels", "count": len(store.requested)}
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
