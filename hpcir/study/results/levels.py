"""Quantum vibrational levels of a finished model, each isotopologue by itself, with the committee's error bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.storage.json_result import write_json
from hpcir.vibrations.levels.result import METHODS, Levels
from hpcir.vibrations.levels.solve import vibrational_levels
from hpcir.vibrations.levels.surface import member_surfaces, surface_of
from hpcir.vibrations.normal_modes import isotope_masses

FILE = "levels.json"
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
        """As levels.json holds it."""
        named = {name: levels.content() for name, levels in self.of.items()}
        main = named.pop(MAIN)
        return {"level": self.level, **main, "method_in_words": METHODS[self.of[MAIN].method], "isotopologues": named}


def model_levels(
    model: Potential, structure: Structure, isotopes: Isotopes | None = None, tick: Tick = lambda word: None
) -> LevelSet:
    """Levels on the surface of a model, or of a label engine, near a structure.

    isotopes: patterns of masses by name, as a deck has them.

    Raises InputError at a saddle point and where the expansion diverges.
    """
    found = {}
    for name, masses in _masses(structure, isotopes).items():
        surface = surface_of(model, structure, masses)
        members = member_surfaces(model, structure, masses)
        found[name] = vibrational_levels(surface, structure, masses, members, _prefixed(tick, name))
    return LevelSet(model.level, found)


def write_levels(path: Path, levels: LevelSet) -> None:
    """Write levels.json."""
    write_json(path, levels.content())


def _masses(structure: Structure, isotopes: Isotopes | None) -> dict[str, Any]:
    return {MAIN: structure.masses} | {
        name: isotope_masses(structure, pattern) for name, pattern in (isotopes or {}).items()
    }


def _prefixed(tick: Tick, name: str) -> Tick:
    return (lambda word: tick(f"{name}: {word}")) if name else tick
