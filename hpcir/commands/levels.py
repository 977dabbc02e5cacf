"""Command levels: quantum vibrational levels from a model's surface, or from the label engine's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hpcir.commands.tables import MIN_WIDTH, with_error
from hpcir.deck.sections import Deck, LabelSettings
from hpcir.errors import InputError
from hpcir.exchange.potentials import load_potential, tell_model
from hpcir.labels import create_engine
from hpcir.labels.potential import EnginePotential
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure, check_vibrates, read_structure
from hpcir.runtime.mpi import Communicator, collective, map_over_ranks, on_root
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5
from hpcir.study.results.levels import FILE, MAIN, Isotopes, LevelSet, model_levels, write_levels
from hpcir.study.session import check_new, deck_of
from hpcir.vibrations.levels.result import METHODS, Level, Levels

Result = TypeVar("Result")

# Overtones and combinations weaker than this (km/mol) are in the file but not in the table.
MIN_LISTED = 0.5


@dataclass(frozen=True)
class _Asked:
    """The request: a potential, or the settings of a label engine, of a molecule; the file to write."""

    potential: Potential | None
    engine: LabelSettings | None
    molecule: Structure
    isotopes: Isotopes
    output: Path


@dataclass(frozen=True)
class _TellingRanks:
    """The ranks of the command, which tells of each part of the work."""

    comm: Communicator

    @collective
    def on_root(self, work: Callable[[], Result]) -> Result:
        return on_root(self.comm, work)

    @collective
    def map_over_ranks(
        self, what: str, todo: Sequence[int], work: Callable[[int], Result], unit: str
    ) -> dict[int, Result] | None:
        def tell(handed_out: int) -> None:
            print(f"{what}: {handed_out} of {len(todo)}", file=sys.stderr, flush=True)

        if self.comm.rank == 0:
            print(f"{what} ...", file=sys.stderr, flush=True)
        return map_over_ranks(self.comm, todo, work, tell)


@collective
def levels(
    model: Path,
    structure: Path | None,
    output: Path | None,
    force: bool,
    comm: Communicator,
    potential: str = "model",
    masses: dict[str, str] | None = None,
    charge: int | None = None,
) -> None:
    """Fundamentals, overtones and combinations with intensities, zero-point energy and rotational constants.

    model: a run, whose minimum and isotopes are taken, or a model with a structure file. potential: 'labels' asks the
    run's label engine instead of the model. masses: other masses in amu by element or atom, such as {'H': '2.014'}, in
    place of the deck's isotopes. Prints a table and writes levels.json. Isotopologues and members of the committee are
    spread over the ranks (collective). Raises InputError.
    """
    asked = on_root(comm, lambda: _asked(model, structure, output, force, potential, masses or {}, charge))
    own: Potential | None = asked.potential
    if own is None:
        assert asked.engine is not None
        own = _engine_potential(asked.engine, asked.molecule)
    found = model_levels(_TellingRanks(comm), own, asked.molecule, asked.isotopes)
    on_root(comm, lambda: _tell(found, asked.output))


def _asked(
    path: Path,
    structure_file: Path | None,
    output: Path | None,
    force: bool,
    potential: str,
    masses: dict[str, str],
    charge: int | None,
) -> _Asked:
    deck = deck_of(path) if path.is_dir() else None
    out = output or (path if path.is_dir() else path.parent) / FILE
    # A run's own levels.json may be written again; what a user names is not overwritten unasked.
    check_new(out, force or output is None)
    own = None if potential == "labels" else load_potential(path)
    known = own.total_charge if own else deck.system.charge if deck else 0
    molecule = _molecule(path, structure_file, deck, known if charge is None else charge)
    isotopes: Isotopes = dict(deck.system.isotopes) if deck else {}
    if masses:
        isotopes = {"isotopologue": mass_numbers(masses)}
    if own is not None:
        tell_model(path, own)
        own.require(molecule.numbers)
        return _Asked(own, None, molecule, isotopes, out)
    if deck is None:
        raise InputError("the label engine is named in a deck, and there is none here", where=str(path))
    _engine_potential(deck.labels, molecule)
    return _Asked(None, deck.labels, molecule, isotopes, out)


def _tell(found: LevelSet, output: Path) -> None:
    print_levels(found)
    write_levels(output, found)
    print(f"written: {output}")


def _engine_potential(settings: LabelSettings, molecule: Structure) -> EnginePotential:
    engine = create_engine(settings, molecule)
    engine.check(molecule)
    return EnginePotential(engine, molecule)


def _molecule(path: Path, structure_file: Path | None, deck: Deck | None, charge: int) -> Structure:
    multiplicity = deck.system.multiplicity if deck else 1
    if structure_file is not None:
        molecule = read_structure(structure_file, charge, multiplicity)
    elif (path / layout.REFERENCE).is_file():
        arrays, _ = read_h5(path / layout.REFERENCE)
        numbers, positions = arrays["numbers"], arrays["positions"]
        molecule = Structure(numbers, positions, charge, multiplicity, path.stem, str(path / layout.REFERENCE))
    else:
        raise InputError(
            "no minimum is known here",
            where=str(path),
            hint="give a structure file after the model: hpcir levels MODEL_DIR molecule.xyz",
        )
    check_vibrates(molecule)
    return molecule


def mass_numbers(masses: dict[str, str]) -> dict[str, float]:
    """The values of `--masses` in amu. Raises InputError."""
    found = {}
    for name, text in masses.items():
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not value > 0:
            raise InputError("a mass must be a positive number of amu", where=f"--masses {name}", value=text)
        found[name] = value
    return found


def print_levels(found: LevelSet) -> None:
    """Tables of the molecule's levels and of its isotopologues'."""
    for name, one in found.of.items():
        _print(one, f"{name}: " if name != MAIN else "")


def _print(found: Levels, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}{METHODS[found.method]}, at 0 K", title_justify="left")
    for name in ("level", "cm-1", "km/mol", "harmonic", "perturbation"):
        table.add_column(name, justify="left" if name == "level" else "right", no_wrap=True)
    table.add_column("motion, and what else is in it")
    shown = [one for one in found.levels if one.kind == "fundamental" or one.intensity_km_per_mol > MIN_LISTED]
    for one in shown:
        table.add_row(
            one.name,
            with_error(one.wavenumber_per_cm, one.stderr_per_cm, 1),
            with_error(one.intensity_km_per_mol, one.stderr_km_per_mol, 2),
            f"{one.harmonic_per_cm:.1f}",
            f"{one.perturbation_per_cm:.1f}" if np.isfinite(one.perturbation_per_cm) else "",
            _words(one),
        )
    console = Console()
    console = console if console.is_terminal else Console(width=MIN_WIDTH)
    console.print(table, markup=False)
    zero = with_error(found.zero_point_per_cm, found.zero_point_stderr_per_cm, 1)
    print(f"zero-point energy {zero} cm-1")
    constants = ", ".join(f"{value:.4f}" for value in found.rotational_per_cm)
    rigid = ", ".join(f"{value:.4f}" for value in found.rotational_equilibrium_per_cm)
    print(f"rotational constants {constants} cm-1 (of the minimum {rigid})")
    for line in found.resonances:
        print(f"resonance: {line}")
    for line in found.remarks:
        print(f"note: {line}")
    if found.members:
        print(f"error bars: standard deviations over the {found.members} members of the committee")


def _words(one: Level) -> str:
    parts = [one.motion, *(f"with {', '.join(one.partners)}" for _ in one.partners[:1])]
    return "; ".join([*parts, *([one.remark] if one.remark else [])])
