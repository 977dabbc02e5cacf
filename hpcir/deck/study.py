"""The molecules of a deck: targets and seeds, read from their files, and the rules that hold among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcir.deck.loader import LoadedDeck
from hpcir.deck.sections import Deck
from hpcir.errors import InputError
from hpcir.molecules.pieces import isotope_words
from hpcir.molecules.structures import Structure, check_structure, read_frames, read_structure
from hpcir.storage.yaml_lines import KeyPath

# Names become folders.
_NAME = re.compile(r"^[\w.+-]+$")


@dataclass(frozen=True)
class Study:
    """A deck with its molecules, read and checked.

    targets: the molecules whose spectra are wanted, `system.structure` first, by name; seeds: the molecules that
    sampling starts from where it does not explore around one minimum.
    """

    loaded: LoadedDeck
    targets: tuple[Structure, ...]
    seeds: tuple[Structure, ...]

    @property
    def deck(self) -> Deck:
        return self.loaded.deck

    @property
    def structure(self) -> Structure:
        """The first target, `system.structure`."""
        return self.targets[0]

    @property
    def one_minimum(self) -> bool:
        """True where sampling explores around the minimum of one molecule, not from seeds, fragments or conformers."""
        return self.deck.explores_one_minimum

    @property
    def elements(self) -> tuple[int, ...]:
        """All elements of all molecules, ascending."""
        return tuple(sorted({z for item in (*self.targets, *self.seeds) for z in item.numbers.tolist()}))

    def labelled_whole(self, target: Structure) -> bool:
        """True for a target that is labelled as it is, and not in fragments."""
        return self.one_minimum or heavy_atoms(target) <= self.deck.sampling.largest_fragment


def structure_file(loaded: LoadedDeck, key: KeyPath, name: str) -> Path:
    """The structure file that a key names, relative to the deck's folder. Raises InputError when there is none."""
    where, path = loaded.file.where(key), loaded.path.parent / name
    if not name.strip() or "\0" in name:
        raise InputError("this is not a file name", where=where, value=name)
    try:
        there = path.is_file()
    except OSError as error:
        raise InputError(f"the structure file cannot be read: {error.strerror}", where=where, value=name) from None
    if not there:
        raise InputError(
            "the structure file does not exist",
            where=where,
            value=name,
            hint=f"the path is taken from the deck's folder: {path.resolve()}",
        )
    return path


def heavy_atoms(structure: Structure) -> int:
    """Atoms other than hydrogen."""
    return int((structure.numbers != 1).sum())


def read_molecule(loaded: LoadedDeck, key: KeyPath, name: str) -> Structure:
    path = structure_file(loaded, key, name)
    info = read_frames(path)[0].info
    charge, multiplicity = (_whole(info.get(word, default), word, path) for word, default in _SPIN)
    structure = read_structure(path, charge, multiplicity, spin_where=loaded.file.where(key))
    check_structure(structure)
    return structure


_SPIN = (("charge", 0), ("multiplicity", 1))


def _whole(value: object, word: str, path: Path) -> int:
    if value is True:  # a word of the comment line without a value
        return dict(_SPIN)[word]
    number = float(str(value)) if re.match(r"^[+-]?\d+(\.0*)?$", str(value)) else 0.5
    if number != round(number):
        raise InputError(f"the {word} is not a whole number", where=str(path), value=value)
    return round(number)


def read_molecules(loaded: LoadedDeck, main: Structure) -> tuple[Study | None, list[InputError]]:
    """The molecules of a deck whose first structure is read, and the problems among them, apart from their bonds.

    Without seeds, the targets that are small enough to be labelled whole are the seeds.
    """
    deck = loaded.deck
    lists: dict[KeyPath, list[Structure]] = {("system", "targets"): [], ("sampling", "seeds"): []}
    for key, names in zip(lists, (deck.system.targets, deck.sampling.seeds), strict=True):
        for index, name in enumerate(names):
            try:
                lists[key].append(read_molecule(loaded, (*key, index), name))
            except InputError as error:
                return None, [error]
    targets, seeds = [main, *lists["system", "targets"]], lists["sampling", "seeds"]
    small = [item for item in targets if heavy_atoms(item) <= deck.sampling.largest_fragment]
    study = Study(loaded, tuple(targets), tuple(seeds or small))
    if study.one_minimum:
        return study, []
    problems = [*_names(loaded, targets, seeds), *_sizes(loaded, targets, seeds), *_elements(loaded, targets, seeds)]
    return study, [*problems, *_isotopes(loaded, targets)]


def _isotopes(loaded: LoadedDeck, targets: list[Structure]) -> Iterator[InputError]:
    """Fragments and families are of the elements' usual masses."""
    for index, target in enumerate(targets):
        if target.nuclear_masses is not None:
            yield InputError(
                "a structure of isotopes is for a deck without seeds and families",
                where=_target_where(loaded, index),
                value=isotope_words(target),
                hint="leave out sampling.seeds and sampling.families, or give the masses as system.isotopes",
            )


def _names(loaded: LoadedDeck, targets: list[Structure], seeds: list[Structure]) -> Iterator[InputError]:
    seen: dict[str, int] = {}
    for index, target in enumerate(targets):
        where = _target_where(loaded, index)
        if not _NAME.match(target.name):
            yield InputError(
                "a target's name becomes a folder: letters, digits and . _ + - only", where=where, value=target.name
            )
        elif target.name in seen:
            yield InputError("two targets have the same name", where=where, value=target.name)
        seen[target.name] = index
    names = [seed.name for seed in seeds]
    for index, name in enumerate(names):
        if name in names[:index]:
            where = loaded.file.where(("sampling", "seeds", index))
            yield InputError("two seeds have the same name", where=where, value=name)


def _target_where(loaded: LoadedDeck, index: int) -> str:
    return loaded.file.where(("system", "targets", index - 1) if index else ("system", "structure"))


def _sizes(loaded: LoadedDeck, targets: list[Structure], seeds: list[Structure]) -> Iterator[InputError]:
    largest = loaded.deck.sampling.largest_fragment
    for index, seed in enumerate(seeds):
        if heavy_atoms(seed) > largest:
            yield InputError(
                f"a seed is labelled whole and has {heavy_atoms(seed)} heavy atoms, more than "
                f"sampling.largest_fragment, {largest}",
                where=loaded.file.where(("sampling", "seeds", index)),
                value=seed.name,
                hint="give smaller molecules as seeds, or allow larger fragments",
            )
    if not seeds and all(heavy_atoms(target) > largest for target in targets):
        yield InputError(
            f"no target is small enough to be labelled whole (sampling.largest_fragment: {largest} heavy atoms), and "
            "there are no seeds to start from",
            where=loaded.where("sampling.seeds"),
            hint="name small relatives in sampling.seeds, or allow larger fragments",
        )


def _elements(loaded: LoadedDeck, targets: list[Structure], seeds: list[Structure]) -> Iterator[InputError]:
    """Every element of every target must be in a molecule that is labelled at the start."""
    largest = loaded.deck.sampling.largest_fragment
    first = seeds or [target for target in targets if heavy_atoms(target) <= largest]
    known = {z for item in first for z in item.numbers.tolist()}
    if not known:
        return
    for index, target in enumerate(targets):
        missing = np.flatnonzero(~np.isin(target.numbers, sorted(known)))
        if len(missing):
            atom = int(missing[0])
            yield InputError(
                f"atom {atom + 1} of {target.name} is of an element that no seed has",
                where=_target_where(loaded, index),
                value=target.symbols[atom],
                hint="add a molecule with it to sampling.seeds",
            )
