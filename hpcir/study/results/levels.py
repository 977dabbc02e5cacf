"""Quantum vibrational levels of a finished model, each isotopologue by itself, with the committee's error bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hpcir.errors import HpcirError, InputError, RunStopped
from hpcir.models.model import Model
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.json_result import write_json
from hpcir.study.context import Context
from hpcir.study.results.records import LevelFigures, LevelRow
from hpcir.vibrations.levels.result import METHODS, Levels
from hpcir.vibrations.levels.solve import MemberStates, SolvedSurface, levels_of, member_states, solve_surface
from hpcir.vibrations.levels.surface import member_surfaces, surface_of
from hpcir.vibrations.normal_modes import isotope_masses

FILE = layout.LEVELS
# Atoms of the largest molecule whose levels a run solves unasked: ten seconds of one core, the ranks sharing them.
MAX_ATOMS = 9
MAIN = ""
"""The name of the molecule with the masses of the elements, among isotopologues."""

Isotopes = Mapping[str, Mapping[str, float]]
Result = TypeVar("Result")


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


class Ranks(Protocol):
    """Work on rank 0 and over the ranks, as `Context` has it."""

    def on_root(self, work: Callable[[], Result]) -> Result:
        """work() on rank 0 alone: its result, or the error that it raised, on every rank (collective)."""

    def map_over_ranks(
        self, what: str, todo: Sequence[int], work: Callable[[int], Result], unit: str
    ) -> dict[int, Result] | None:
        """work(index) of every index, on the rank that asks next; results on rank 0, None elsewhere (collective)."""


@collective
def model_levels(
    ranks: Ranks,
    model: Potential,
    structure: Structure,
    isotopes: Isotopes | None = None,
    quick: bool = False,
) -> LevelSet:
    """Levels on the surface of a model, or of a label engine, near a structure, on all ranks (collective).

    isotopes: patterns of masses by name, as a deck has them. quick: by perturbation theory alone. Isotopologues, and
    then the members of the committee of each, are spread over the ranks.
    Raises InputError at a saddle point and where the expansion diverges, RunStopped where there is no minimum.
    """
    masses = _masses(structure, isotopes)
    names = list(masses)

    def solved(index: int) -> SolvedSurface:
        own = masses[names[index]]
        surface, members = surface_of(model, structure, own), member_surfaces(model, structure, own)
        return solve_surface(surface, structure, own, members, quick=quick)

    surfaces = _spread(ranks, "levels", len(names), solved, "isotopologues")
    count = model.members if model.members > 1 else 0

    def member(piece: int) -> MemberStates:
        index, number = divmod(piece, count)
        own = masses[names[index]]
        return member_states(member_surfaces(model, structure, own)[number], surfaces[index], own)

    others = _spread(ranks, "levels of the committee", len(names) * count, member, "members") if count else []
    found = {
        name: levels_of(surfaces[index], others[index * count : (index + 1) * count])
        for index, name in enumerate(names)
    }
    return LevelSet(model.level, found)


@collective
def _spread(ranks: Ranks, what: str, count: int, work: Callable[[int], Result], unit: str) -> list[Result]:
    """The results of `count` pieces of work, on all ranks. Raises the error of the first that failed, on all ranks."""

    def one(index: int) -> Result | HpcirError:
        try:
            return work(index)
        except HpcirError as error:  # the other ranks wait for this one
            return error

    found = ranks.map_over_ranks(what, range(count), one, unit)
    return ranks.on_root(lambda: _whole(found or {}, count))


def _whole(found: Mapping[int, Result | HpcirError], count: int) -> list[Result]:
    results = []
    for index in range(count):
        result = found[index]
        if isinstance(result, HpcirError):
            raise result
        results.append(result)
    return results


def write_levels(path: Path, levels: LevelSet) -> None:
    """Write levels.json."""
    write_json(path, levels.content())


@collective
def target_levels(context: Context, model: Model, minimum: Structure) -> LevelFigures | None:
    """Fundamentals of a target by perturbation theory, for the summary; levels.json beside it (collective).

    None where the deck does not want them, or where the expansion says nothing; then the log has the reason.
    """
    wanted = context.deck.spectrum.levels
    if wanted == "no" or (wanted == "auto" and len(minimum) > MAX_ATOMS) or not model.charge:
        return None
    try:
        found = model_levels(context, model, minimum, context.deck.system.isotopes, quick=True)
    except (InputError, RunStopped) as error:
        if context.root:
            context.progress.log(f"no vibrational levels: {error}", warning=True)
        return None
    context.on_root(lambda: write_levels(context.directory / FILE, found))
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
