"""A deck's file read and validated, with the place of every key for messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from hpcir.deck.messages import join, translate
from hpcir.deck.sections import Deck
from hpcir.errors import InputError
from hpcir.storage.yaml_lines import KeyPath, YamlFile, read_yaml


@dataclass(frozen=True)
class LoadedDeck:
    """A deck and the file that it came from, for messages that name file, line and key."""

    deck: Deck
    file: YamlFile

    @property
    def path(self) -> Path:
        """The deck's file as the user gave it."""
        return self.file.path

    @property
    def structure_path(self) -> Path:
        """The structure file: `system.structure`, relative to the deck's folder."""
        return self.path.parent / self.deck.system.structure

    @property
    def name(self) -> str:
        """The molecule's name for reports."""
        return self.deck.system.name or Path(self.deck.system.structure).stem

    def with_threads(self, threads: int) -> LoadedDeck:
        """The same deck with `labels.threads` from the environment, unless the deck sets it."""
        if self.key_path("labels.threads") in self.file.lines or threads == self.deck.labels.threads:
            return self
        labels = self.deck.labels.model_copy(update={"threads": threads})
        return LoadedDeck(self.deck.model_copy(update={"labels": labels}), self.file)

    def located(self, error: InputError) -> InputError:
        """The same error, with file and line where it names one of the deck's keys."""
        top = error.where.split(".")[0]
        if top not in Deck.model_fields:
            return error
        return InputError(error.what, where=self.where(error.where), value=error.value, hint=error.hint)

    def where(self, key: str = "") -> str:
        """The place of a dotted key for a message: 'FILE:LINE: key.path'."""
        return self.file.where(self.key_path(key))

    def key_path(self, key: str) -> KeyPath:
        """The keys of a dotted key; the labels of a deck with a chain are those of its last level, and items of lists
        are numbers from 0."""
        path: list[str | int] = [int(part) if part.isdecimal() else part for part in key.split(".")] if key else []
        if self.deck.levels and path[:1] == ["labels"]:
            path[:1] = ["levels", len(self.deck.levels) - 1]
        return tuple(path)


def load_deck(path: str | Path) -> LoadedDeck:
    """Read and validate a deck, by itself; its molecules are read and checked by `deck.checks.check_deck`.

    Raises InputError with one line 'FILE:LINE: key.path: message' for everything that is wrong.
    """
    file = read_yaml(path)
    errors = list(file.problems)
    try:
        deck = Deck.model_validate(file.value)
    except ValidationError as error:
        known = {problem.where for problem in errors}
        errors += [found for found in translate(error, file, Deck) if found.where not in known]
    if errors:
        raise join(sorted(errors, key=file.line_of))
    return LoadedDeck(deck.with_last_level(file.path.parent), file)
