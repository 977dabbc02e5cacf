"""Values of options: numbers, quantities with units, NAME=VALUE pairs."""

from __future__ import annotations

import argparse
from typing import Any


class Pairs(argparse.Action):
    """NAME=VALUE pairs into a dict; may be given several times."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        for text in values:
            name, equals, value = str(text).partition("=")
            if not (name and equals and value):
                parser.error(f"{option} wants NAME=VALUE (found: {text!r})")
            setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: value})


class Units(Pairs):
    """NAME=UNIT pairs, or the word of a whole set of units."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        if len(values) == 1 and values[0] in ("ase", "atomic"):
            setattr(namespace, self.dest, values[0])
        else:
            super().__call__(parser, namespace, values, option)


def positive_count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 (found: {text!r})")
    return int(text)


def _quantity(text: str, dimension: str, positive: bool = True) -> float:
    from hpcir.units import UNITS, parse_quantity

    try:
        value = parse_quantity(text, dimension)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (found: {text!r})") from None
    if positive and not value > 0:
        raise argparse.ArgumentTypeError(f"must be more than 0 (found: {text!r})")
    return value if dimension == "wall_time" else value / next(iter(UNITS[dimension].values()))


def seconds(text: str) -> float:
    """A time on the clock in seconds, such as '110 min'."""
    return _quantity(text, "wall_time")


def femtoseconds(text: str) -> float:
    """A time in fs."""
    return _quantity(text, "time")


def coordinate(text: str) -> float:
    """A coordinate in angstrom, of any sign."""
    return _quantity(text, "length", positive=False)


def kelvin(text: str) -> float:
    """A temperature in K."""
    return _quantity(text, "temperature")
