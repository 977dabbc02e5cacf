"""Command evaluate: predictions of a model for a file of geometries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.n2p2.training_range import extrapolations
from hpcir.exchange.potentials import load_potential, tell_model, training_ranges
from hpcir.models.evaluation import Evaluation
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import Communicator, collective, map_over_ranks, on_root
from hpcir.study.session import check_new, read_structures, require_charge
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM

# Most geometries outside the training range that are listed one by one.
MAX_WARNINGS = 5


@collective
def evaluate(
    model: Path, structures: Path, output: Path, force: bool, comm: Communicator, charge: int | None = None
) -> None:
    """Evaluate every geometry over the ranks and write extxyz in eV, eV/A, e*A and e (collective).

    The comment lines hold energy, dipole, charge and level, the atoms' columns forces and charges; *_spread are the
    standard deviations over the committee. charge: the total charge where the file does not say it (default: the
    model's). Quantities that the model lacks (a dipole without charge networks) are left out, never zero.
    """
    learnt, geometries = on_root(comm, lambda: _read(model, structures, output, force, charge))
    parts = [(structure.numbers, structure.positions, structure.charge) for structure in geometries]
    found = map_over_ranks(comm, range(len(geometries)), lambda index: learnt.evaluate(*parts[index]))
    if found is None:
        return
    _write(output, [(structure, found[n]) for n, structure in enumerate(geometries)], learnt)
    _warn(model, geometries)


def _read(
    path: Path, structures: Path, output: Path, force: bool, charge: int | None
) -> tuple[Potential, list[Structure]]:
    check_new(output, force)
    model = load_potential(path)
    tell_model(path, model)
    geometries = read_structures(structures, model.total_charge if charge is None else charge, spin=False)
    for structure in geometries:
        try:
            model.require(structure.numbers)
            require_charge(model, path, structure.charge, structure.source)
        except InputError as error:
            raise InputError(error.what, where=structure.source, value=error.value, hint=error.hint) from None
    return model, geometries


def _write(output: Path, pairs: list[tuple[Structure, Evaluation]], model: Potential) -> None:
    frames = tuple(_frame(structure, found, model) for structure, found in pairs)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    write_extxyz(Dataset(frames), temporary, extras=[_spreads(found) for _, found in pairs])
    os.replace(temporary, output)
    largest = max(float(np.sqrt((found.forces_spread**2).sum(1)).max()) for _, found in pairs)
    text = f"; the largest spread of a force over {model.members} members is {largest / EV_PER_ANGSTROM:.3g} eV/A"
    print(f"{output}: {len(pairs)} geometries{text if model.members > 1 else ''}")
    if any(not np.all(np.isfinite(found.dipole)) for _, found in pairs):
        print("note: the model has no charge networks for these elements: no charges and no dipole are written")


def _warn(path: Path, geometries: list[Structure]) -> None:
    """Warn of atoms and symmetry functions outside the training range of a potential from n2p2."""
    potential = training_ranges(path)
    if potential is None:
        return
    outside = [(g, extrapolations(potential, g.numbers, g.positions)) for g in geometries]
    outside = [(geometry, found) for geometry, found in outside if found]
    if not outside:
        return
    count = sum(len(found) for _, found in outside)
    print(f"warning: {len(outside)} of {len(geometries)} geometries leave the training range, {count} times in all:")
    worst = sorted(outside, key=lambda pair: -pair[1][0].excess)
    for geometry, found in worst[:MAX_WARNINGS]:
        print(f"  {geometry.source}, {found[0]}")
    if len(worst) > MAX_WARNINGS:
        print(f"  and {len(worst) - MAX_WARNINGS} geometries that leave it less far")


def _frame(structure: Structure, found: Evaluation, model: Potential) -> Frame:
    known = bool(np.all(np.isfinite(found.dipole)))
    return Frame(
        structure.numbers,
        structure.positions,
        found.energy,
        found.forces,
        found.dipole if known else None,
        found.charges if known else None,
        structure.charge,
        model.level,
        structure.source,
    )


def _spreads(found: Evaluation) -> dict[str, Any]:
    """Standard deviations over the committee in ASE's units; those of what the model does not know left out."""
    spreads = {
        "energy_spread": found.energy_spread / EV,
        "forces_spread": found.forces_spread / EV_PER_ANGSTROM,
    }
    if np.all(np.isfinite(found.dipole)):
        spreads |= {"dipole_spread": found.dipole_spread / ANGSTROM, "charges_spread": found.charges_spread}
    return spreads
