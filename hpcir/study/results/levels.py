"""Quantum vibrational levels of a finished model, each isotopologue by itself, with the committee's error bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcir.errors import InputError, RunStopped
from hpcir.models.model import Model
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.storage import layout
from hpcir.storage.json_result import write_json
from hpcir.study.context import Context
from hpcir.study.results.records import LevelFigures, LevelRow
from hpcir.vibrations.levels.result import METHODS, Levels
from hpcir.vibrations.levels.solve import vibrational_levels
from hpcir.vibrations.levels.surface import member_surfaces, surface_of
from hpcir.vibrations.normal_modes import isotope_masses

FILE = layout.LEVELS
# Atoms of the largest molecule whose levels a run solves unasked: seconds of one core.
MAX_ATOMS = 6
MAIN = ""
"""The name of the molecule with the masses of the elements, among isotopologues."""

Isotopes = Mapping[str, Mapping[str, float]]
Tick = Callable[[str], None]


@dataclass(frozen=True)
class LevelSet:
    """Levels of the molecule (under MAIN) and of its isotopologues by name; level: of theory."""

    level: str
    of: dict[str, Levels]

    def content(self) -> dict[str, Any]:
        """The content of levels.json."""
        named = {name: levels.content() for name, levels in self.of.items()}
        main = named.pop(MAIN)
        return {"level": self.level, **main, "method_in_words": METHODS[self.of[MAIN].method], "isotopologues": named}


def model_levels(
    model: Potential,
    structure: Structure,
    isotopes: Isotopes | None = None,
    tick: Tick = lambda word: None,
    quick: bool = False,
) -> LevelSet:
    """Levels on the surface of a model, or of a label engine, near a structure.

    isotopes: patterns of masses by name, as a deck has them. quick: by perturbation theory alone.

    Raises InputError at a saddle point and where the expansion diverges.
    """
    found = {}
    for name, masses in _masses(structure, isotopes).items():
        surface = surface_of(model, structure, masses)
        members = member_surfaces(model, structure, masses)
        found[name] = vibrational_levels(surface, structure, masses, members, _prefixed(tick, name), quick)
    return LevelSet(model.level, found)


def write_levels(path: Path, levels: LevelSet) -> None:
    """Write levels.json."""
    write_json(path, levels.content())


def target_levels(context: Context, model: Model, minimum: Structure) -> LevelFigures | None:
    """Fundamentals of a target by perturbation theory, for the summary; levels.json beside it (rank 0).

    None where the deck does not want them, or where the expansion says nothing; then the log has the reason.
    """
    wanted = context.deck.spectrum.levels
    if wanted == "no" or (wanted == "auto" and len(minimum) > MAX_ATOMS) or not model.charge:
        return None
    try:
        found = model_levels(model, minimum, context.deck.system.isotopes, quick=True)
    except (InputError, RunStopped) as error:
        context.progress.log(f"no vibrational levels: {error}", warning=True)
        return None
    write_levels(context.directory / FILE, found)
    return _figures(found.of[MAIN])


def _figures(levels: Levels) -> LevelFigures:
    return LevelFigures(
        method=METHODS[levels.method],
        zero_point_per_cm=levels.zero_point_per_cm,
        zero_point_stderr_per_cm=levels.zero_point_stderr_per_cm,
        fundamentals=tuple(
            LevelRow(
                level.name,
                level.motion,
                level.wavenumber_per_cm,
                level.stderr_per_cm,
                level.intensity_km_per_mol,
                level.stderr_km_per_mol,
                level.harmonic_per_cm,
                level.remark,
            )
            for level in levels.fundamentals
        ),
        remarks=levels.remarks,
    )


def _masses(structure: Structure, isotopes: Isotopes | None) -> dict[str, Any]:
    return {MAIN: structure.masses} | {
        name: isotope_masses(structure, pattern) for name, pattern in (isotopes or {}).items()
    }


def _prefixed(tick: Tick, name: str) -> Tick:
    return (lambda word: tick(f"{name}: {word}")) if name else tick
