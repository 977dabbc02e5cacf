"""Rules of a chain of levels of theory: what each level may have, and what the levels must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpcir.deck.loader import LoadedDeck
from hpcir.deck.sections import EngineSettings, Level
from hpcir.errors import InputError

# Names under which calculators take the total charge.
_CHARGE_ARGUMENTS = ("charge", "total_charge", "totalcharge")
# Keys of a level that are not its engine's.
_COUNTS = ("labels", "initial_labels", "round_labels", "minimum", "data")


def chain_keys(loaded: LoadedDeck) -> Iterator[InputError]:
    """Rules between the levels of a deck's chain; none where it has no chain."""
    deck, lines = loaded.deck, loaded.file.lines
    if not deck.levels:
        return
    if ("labels",) in lines:
        where = loaded.file.where(("labels",))
        yield InputError("a deck has labels or levels", where=where, hint="the last of the levels has its settings")
    for key in ("max_labels", "initial_labels", "round_labels"):
        if ("sampling", key) in lines and getattr(deck.sampling, key) != loaded.file.value["sampling"][key]:
            own = "labels" if key == "max_labels" else key
            yield InputError(
                "the levels have counts of their own",
                where=loaded.where(f"sampling.{key}"),
                value=loaded.file.value["sampling"][key],
                hint=f"remove it, and give {own} in the levels",
            )
    for number, level in enumerate(deck.levels):
        yield from _level_keys(loaded, number, level)
    yield from _twice(loaded)


def _level_keys(loaded: LoadedDeck, number: int, level: Level) -> Iterator[InputError]:
    section, last = f"levels.{number}", len(loaded.deck.levels) - 1
    if level.is_data:
        yield from _data_keys(loaded, number, level)
    counts = level.sampling
    for key in ("initial_labels", "round_labels"):
        if counts[key] > counts["max_labels"]:
            yield InputError(
                f"must not be more than the level's labels, {counts['max_labels']}",
                where=loaded.where(f"{section}.{key}"),
                value=counts[key],
            )
    if level.minimum == "model" and number == 0:
        yield InputError(
            "the first level has no model below it",
            where=loaded.where(f"{section}.minimum"),
            value="model",
            hint="give labels, or leave it out",
        )
    first_of_several = number == 0 < last and loaded.deck.explores_one_minimum
    if not level.dipoles and not (level.engine == "ase" and first_of_several):
        yield InputError(
            "dipoles are needed here: of the spectrum's level, and of every level that is explored with its model",
            where=loaded.where(f"{section}.dipoles"),
            value=False,
            hint="right would be a calculator with dipoles; the first of several levels, of engine ase, may lack them",
        )
    yield from _charge_argument(loaded, section, level)


def _data_keys(loaded: LoadedDeck, number: int, level: Level) -> Iterator[InputError]:
    section = f"levels.{number}"
    if number == len(loaded.deck.levels) - 1:
        yield InputError(
            "the last level is the spectrum's, and needs an engine: exploration labels what no data set has",
            where=loaded.where(f"{section}.data.file"),
            value=level.data.file,
            hint="give a level with an engine after it, or `hpcir train` for a model of the data alone",
        )
    for key in sorted(level.model_fields_set - set(_COUNTS)):
        if ("levels", number, key) in loaded.file.lines and getattr(level, key) != getattr(Level(), key):
            yield InputError(
                "a level is a data set or has an engine",
                where=loaded.where(f"{section}.{key}"),
                value=getattr(level, key),
                hint="remove it, or data",
            )
    if not Path(level.data.file).exists():
        yield InputError(
            "the data set does not exist",
            where=loaded.where(f"{section}.data.file"),
            value=loaded.file.value["levels"][number]["data"]["file"],
            hint=f"the path is taken from the deck's folder: {level.data.file}",
        )


def _charge_argument(loaded: LoadedDeck, section: str, level: Level) -> Iterator[InputError]:
    """A calculator's own charge must be the deck's; others ask their dipoles, which every calculator may not have."""
    charge = loaded.deck.system.charge
    for name, value in level.arguments.items():
        if name.lower() in _CHARGE_ARGUMENTS and isinstance(value, (int, float)) and value != charge:
            yield InputError(
                "the levels of a chain disagree in the charge",
                where=loaded.where(f"{section}.arguments.{name}"),
                value=value,
                hint=f"right would be {charge}, the deck's system.charge",
            )


def _twice(loaded: LoadedDeck) -> Iterator[InputError]:
    """Labels are kept by their level of theory: two levels must differ in it."""
    seen: list[dict[str, object]] = []
    for number, level in enumerate(loaded.deck.levels):
        own = dict.fromkeys(EngineSettings.model_fields) | {
            name: value for name, value in level.content().items() if name in EngineSettings.model_fields
        }
        for name in ("threads", "time_limit", "max_cycles", "polar_tensors"):
            own.pop(name)
        if not level.is_data and own in seen:
            yield InputError(
                "two levels are the same level of theory",
                where=loaded.where(f"levels.{number}"),
                value=number + 1,
                hint="give the one of them more labels, and remove the other",
            )
        seen.append({} if level.is_data else own)
