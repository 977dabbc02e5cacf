"""A user's template of another program's input: its places, its checks, and what it becomes for a geometry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from hpcir.errors import InputError
from hpcir.labels.checks import nuclear_charge_centre
from hpcir.labels.external.formats import OutputFormat
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM

WHERE = "labels.files.template"
# name of a place -> what comes there; all but the name must be in a template.
PLACES = {
    "coordinates": "a line 'symbol x y z' (angstrom) for each atom",
    "charge": "the total charge",
    "multiplicity": "2S+1",
    "name": "the name of the input, for titles and file names",
}
_REQUIRED = ("coordinates", "charge", "multiplicity")
_PLACE = re.compile(r"\{(\w+)\}")


def check_template(template: str, form: OutputFormat) -> None:
    """Raise InputError for a template without a place that it must have, or without a word that the program needs to
    print what is read."""
    if not template.strip():
        raise InputError(
            f"the engine 'files' needs the text of an input of {form.name}", where=WHERE, hint="write 'template: |'"
        )
    there = _PLACE.findall(template)
    for place in _REQUIRED:
        if place not in there:
            near = get_close_matches(place, [word for word in there if word not in PLACES], 1, 0.5)
            raise InputError(
                f"the template has no place for the {place}",
                where=WHERE,
                value=f"{{{near[0]}}}" if near else None,
                hint=f"write {{{place}}} where {PLACES[place]} is to come",
            )
    for word, reason in form.needs.items():
        if word not in template.lower():
            raise InputError(f"the template lacks '{word}', which {reason}", where=WHERE, hint="add it")


def coordinate_lines(structure: Structure) -> list[str]:
    """'symbol x y z' in angstrom about the centre of nuclear charge, for each atom."""
    places = (structure.positions - nuclear_charge_centre(structure)) / ANGSTROM
    return [f"{s:<2} {x:16.10f} {y:16.10f} {z:16.10f}" for s, (x, y, z) in zip(structure.symbols, places, strict=True)]


def filled(template: str, structure: Structure, name: str) -> str:
    """The input for a geometry; other words in braces stay as they are."""
    values = {"charge": str(structure.charge), "multiplicity": str(structure.multiplicity), "name": name}
    lines: list[str] = []
    for line in template.splitlines():
        if "{coordinates}" in line:
            indent = line[: len(line) - len(line.lstrip())]
            before, after = line.strip().split("{coordinates}", 1)
            rows = coordinate_lines(structure)
            lines += [indent + (before if n == 0 else "") + row for n, row in enumerate(rows)]
            lines[-1] += after
        else:
            lines.append(_PLACE.sub(lambda match: values.get(match.group(1), match.group(0)), line))
    # Gaussian wants an empty line at the end.
    return "\n".join(lines) + "\n\n"


def level_lines(template: str, form: OutputFormat) -> Sequence[str]:
    """The lines of a template that every output must repeat, as they say the level of theory: those without a place,
    and not about memory and cores; of Gaussian the route."""
    lines = [line.strip() for line in template.splitlines()]
    if form.wrapped_route:
        start = next((n for n, line in enumerate(lines) if line.startswith("#")), len(lines))
        end = next((n for n in range(start, len(lines)) if not lines[n]), len(lines))
        return lines[start:end]
    return [
        line
        for line in lines
        if line and not _PLACE.search(line) and not form.resources.match(line.lower()) and line != "*"
    ]
