"""Command evaluate: what a model says of a file of geometries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.exchange.datasets import ASE_UNITS
from hpcir.models.model import Evaluation, Model
from hpcir.mpi import Communicator, on_root
from hpcir.stages.session import check_new, read_structures
from hpcir.structures import Structure
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM


def evaluate(
    model: Path, structures: Path, output: Path, force: bool, comm: Communicator, charge: int | None = None
) -> None:
    """Evaluate every geometry over the ranks and write extxyz in eV, eV/A, e*A and e (collective).

    The comment lines hold energy, dipole, charge and level, the atoms' columns forces and charges; *_spread are the
    standard deviations over the committee. charge: the total charge where the file does not say it (default: the
    model's). What the model does not know (a dipole without charge networks) is left out, never zero.
    """
    learnt, geometries = on_root(comm, lambda: _read(model, structures, output, force, charge))
    mine = []
    for item in comm.counter(len(geometries)):
        structure = geometries[item]
        mine.append((item, learnt.evaluate(structure.numbers, structure.positions, structure.charge)))
    gathered = comm.gather(mine)
    if gathered is None:
        return
    found = dict(pair for part in gathered for pair in part)
    _write(output, [(structure, found[n]) for n, structure in enumerate(geometries)], learnt)


def _read(
    path: Path, structures: Path, output: Path, force: bool, charge: int | None
) -> tuple[Model, list[Structure]]:
    check_new(output, force)
    model = Model.load(path)
    geometries = read_structures(structures, model.total_charge if charge is None else charge, spin=False)
    for structure in geometries:
        try:
            model.require(structure.numbers)
        except InputError as error:
            raise InputError(error.what, where=structure.source, hint=error.hint) from None
    return model, geometries


def _write(output: Path, pairs: list[tuple[Structure, Evaluation]], model: Model) -> None:
    from ase.io import write

    atoms = [_atoms(structure, found, model) for structure, found in pairs]
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    write(str(temporary), atoms, format="extxyz")
    os.replace(temporary, output)
    spread = (
        max(float(np.sqrt((found.forces_spread**2).sum(1)).max()) for _, found in pairs) / EV_PER_ANGSTROM
    )
    text = f"; the largest spread of a force over the {model.members} members is {spread:.3g} eV/A"
    print(f"{output}: {len(pairs)} geometries{text if model.members > 1 else ''}")
    if not np.all(np.isfinite(pairs[0][1].dipole)):
        print("note: this model has no charge networks, so no charges and no dipole are written")


def _atoms(structure: Structure, found: Evaluation, model: Model) -> Any:
    """The geometry with all that is known of it, in ASE's units, as ASE's extxyz writer takes it."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(numbers=structure.numbers, positions=structure.positions / ANGSTROM)
    values: dict[str, Any] = {"energy": found.energy / EV, "forces": found.forces / EV_PER_ANGSTROM}
    info: dict[str, Any] = {"energy_spread": found.energy_spread / EV}
    arrays = {"forces_spread": found.forces_spread / EV_PER_ANGSTROM}
    if np.all(np.isfinite(found.dipole)):
        values |= {"dipole": found.dipole / ANGSTROM, "charges": found.charges}
        info["dipole_spread"] = found.dipole_spread / ANGSTROM
        arrays["charges_spread"] = found.charges_spread
    atoms.calc = SinglePointCalculator(atoms, **values)
    atoms.info |= info | {
        "charge": structure.charge,
        **({"level": model.level} if model.level else {}),
        "units": " ".join(f"{quantity}:{unit}" for quantity, unit in ASE_UNITS.items()),
    }
    for name, array in arrays.items():
        atoms.set_array(name, array)
    return atoms
