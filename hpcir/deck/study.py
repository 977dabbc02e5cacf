"""The molecules of a deck that has several: targets and seeds, read from their files, and what must hold for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcir.deck.loader import LoadedDeck
from hpcir.errors import InputError
from hpcir.molecules.structures import Structure, check_structure, read_frames, read_structure
from hpcir.storage.yaml_lines import KeyPath

# Names become folders.
_NAME = re.compile(r"^[\w.+-]+$")


@dataclass(frozen=True)
class Series:
    """targets: the molecules whose spectra are wanted, system.structure first, by name; seeds: the molecules that
    sampling starts from."""

    targets: tuple[Structure, ...]
    seeds: tuple[Structure, ...]

    @property
    def elements(self) -> tuple[int, ...]:
        """All elements of all molecules, ascending."""
        return tuple(sorted({z for item in (*self.targets, *self.seeds) for z in item.numbers.tolist()}))


def structure_file(loaded: LoadedDeck, key: KeyPath, name: str) -> Path:
    """The structure file that a key names, relative to the deck's folder. Raises InputError when there is none."""
    where, path = loaded.file.where(key), loaded.path.parent / name
    if not name.strip() or "\0" in name:
        raise InputError("this is no file name", where=where, value=name)
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


def read_series(loaded: LoadedDeck) -> Series:
    """The molecules of a deck whose `structure` is checked. Without seeds, the targets that are small enough to be
    labelled whole are the seeds. Raises InputError."""
    deck = loaded.deck
    main = loaded.structure
    targets = [main, *_molecules(loaded, ("system", "targets"), deck.system.targets)]
    seeds = _molecules(loaded, ("sampling", "seeds"), deck.sampling.seeds)
    small = [item for item in targets if heavy_atoms(item) <= deck.sampling.largest_fragment]
    return Series(tuple(targets), tuple(seeds or small))


def heavy_atoms(structure: Structure) -> int:
    """Atoms other than hydrogen."""
    return int((structure.numbers != 1).sum())


def _molecules(loaded: LoadedDeck, key: KeyPath, names: list[str]) -> list[Structure]:
    return [_molecule(loaded, (*key, index), name) for index, name in enumerate(names)]


def _molecule(loaded: LoadedDeck, key: KeyPath, name: str) -> Structure:
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


def series_problems(loaded: LoadedDeck, main: Structure) -> Iterator[InputError]:
    """What is wrong with the molecules of a deck that has several, apart from their bonds."""
    deck = loaded.deck
    lists: dict[KeyPath, list[Structure]] = {}
    for key, names in ((("system", "targets"), deck.system.targets), (("sampling", "seeds"), deck.sampling.seeds)):
        for index, name in enumerate(names):
            try:
                lists.setdefault(key, []).append(_molecule(loaded, (*key, index), name))
            except InputError as error:
                yield error
                return
    targets, seeds = lists.get(("system", "targets"), []), lists.get(("sampling", "seeds"), [])
    yield from _names(loaded, [main, *targets], seeds)
    yield from _sizes(loaded, [main, *targets], seeds)
    yield from _elements(loaded, [main, *targets], seeds)
    if deck.system.isotopes:
        yield InputError(
            "isotopologues are for a deck with one molecule",
            where=loaded.where("system.isotopes"),
            hint="leave out system.targets, sampling.seeds and sampling.families",
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
