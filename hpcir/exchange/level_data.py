"""A data set that stands for a level of a deck's chain: read, and held against the deck's molecules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from hpcir.deck.sections import Level
from hpcir.deck.study import Study
from hpcir.errors import InputError
from hpcir.exchange.audit import audit, exact_copies
from hpcir.exchange.datasets import Dataset
from hpcir.exchange.reading import read_dataset
from hpcir.molecules.pieces import formula
from hpcir.molecules.structures import Structure, symbols
from hpcir.storage.checksums import data_digest

# Least number of geometries: fewer leave nothing to hold out.
MIN_GEOMETRIES = 10


def read_level(study: Study, number: int) -> Dataset:
    """The data set of a deck's level, checked against the molecules: atoms, charge, forces or energies.

    Raises InputError with the deck's line and what would be right.
    """
    level = study.deck.levels[number]
    where = study.loaded.where(f"levels.{number}.data.file")
    try:
        dataset = _read(level, study)
    except InputError as error:
        place = f"{where} ({error.where})" if error.where else where
        raise InputError(error.what, where=place, value=error.value, hint=error.hint) from None
    if study.one_minimum:
        _require_molecule(dataset, study.structure, where)
    else:
        _require_elements(dataset, study, where)
    return dataset


def _read(level: Level, study: Study) -> Dataset:
    """The data set as it is, without copies and numbers that are not finite."""
    data = level.data

    def read(charge: int | None) -> Dataset:
        return read_dataset(
            data.file, units=data.units or None, keys=data.keys or None, charge=charge, dipole_origin=data.dipole_origin
        )

    dataset = read(data.charge)
    if not dataset.charge_known and study.one_minimum and study.structure.charge:
        dataset = read(study.structure.charge)
    findings = audit(dataset)
    severe = next((finding for finding in findings if finding.severity == "error"), None)
    if severe is not None:
        raise InputError(f"the audit found errors in this data set: {severe.text}", hint=severe.advice)
    dataset = dataset.without(sorted({n for finding in findings if finding.check == "finite" for n in finding.frames}))
    dataset = dataset.without(exact_copies(dataset))
    if not dataset.having("energy") and not dataset.having("forces"):
        raise InputError("the data set has neither energies nor forces", hint="see keys, or remove the level")
    if len(dataset) < MIN_GEOMETRIES:
        raise InputError(
            "too few geometries to train on and hold some out", value=len(dataset), hint=f"{MIN_GEOMETRIES} or more"
        )
    return dataset


def _require_molecule(dataset: Dataset, structure: Structure, where: str) -> None:
    for number, frame in enumerate(dataset.frames):
        place = f"{where} ({frame.place or f'geometry {number + 1}'})"
        if not np.array_equal(frame.numbers, structure.numbers):
            same = Counter(frame.numbers.tolist()) == Counter(structure.numbers.tolist())
            raise InputError(
                "a geometry of the data set has its atoms in another order than the deck's molecule"
                if same
                else "a geometry of the data set is of another molecule than the deck's",
                where=place,
                value=" ".join(symbols(frame.numbers)),
                hint=f"right would be {' '.join(structure.symbols)}",
            )
        if frame.charge != structure.charge:
            raise InputError(
                "the levels of a chain disagree in the charge",
                where=place,
                value=f"{frame.charge:+d}",
                hint=f"right would be {structure.charge:+d}, the deck's system.charge",
            )


def _require_elements(dataset: Dataset, study: Study, where: str) -> None:
    found = {z for frame in dataset.frames for z in frame.numbers.tolist()}
    wanted = set(study.elements)
    if found != wanted:
        missing, more = sorted(wanted - found), sorted(found - wanted)
        raise InputError(
            f"the data set has no {', '.join(symbols(np.array(missing)))}"
            if missing
            else f"the deck's molecules have no {', '.join(symbols(np.array(more)))}",
            where=where,
            value=", ".join(symbols(np.array(sorted(found)))),
            hint=f"right would be a data set of {', '.join(symbols(np.array(sorted(wanted))))}",
        )
    known = {tuple(sorted(item.numbers.tolist())): item for item in (*study.targets, *study.seeds)}
    for number, frame in enumerate(dataset.frames):
        item = known.get(tuple(sorted(frame.numbers.tolist())))
        if item is not None and item.charge != frame.charge:
            raise InputError(
                "the levels of a chain disagree in the charge",
                where=f"{where} ({frame.place or f'geometry {number + 1}'})",
                value=f"{frame.charge:+d}",
                hint=f"right would be {item.charge:+d}, that of {item.name} ({formula(item.symbols)})",
            )


def level_digests(study: Study) -> list[str]:
    """Digests of the data sets of a deck's levels; none where there are none."""
    return [data_digest(Path(level.data.file)) for level in study.deck.levels if level.is_data]
