"""Data sets of DeePMD-kit: folders with type.raw, type_map.raw and set.*/NAME.npy.

Zeng et al., J. Chem. Phys. 159, 054801, 2023: coordinates in angstrom, energies in eV, forces in eV/angstrom.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.exchange.collections.parts import Reading, part_frames
from hpcir.exchange.datasets import OWN_UNITS, Dataset, Frame, ReadOptions

# Quantity -> the names of its array; the first that is there counts.
NAMES = {
    "positions": ("coord",),
    "energy": ("energy",),
    "forces": ("force", "forces"),
    "dipole": ("dipole",),
    "charge": ("charge", "total_charge"),
}
UNITS = {"positions": "A", "energy": "eV", "forces": "eV/A", **OWN_UNITS}


def read_deepmd(path: Path, options: ReadOptions) -> Dataset:
    """Every geometry of a folder of DeePMD-kit, or of all such folders in it; see `datasets.read_dataset`.

    keys: quantity -> the name of its array, without .npy. Raises InputError for a folder that is none of these, a
    periodic cell, and elements that type_map.raw does not name.
    """
    systems = sorted(found.parent for found in path.rglob("type.raw"))
    if not systems:
        held = sorted(item.name for item in path.iterdir())
        raise InputError(
            "this is a folder, and none of DeePMD-kit's (with type.raw, type_map.raw and set.000)",
            where=str(path),
            value=", ".join(held[:10]) + (f", ... ({len(held)} in all)" if len(held) > 10 else ""),
            hint="give a file of labelled geometries: .xyz, .extxyz, .npz, .db (ASE), .h5, .hdf5",
        )
    reading = Reading.of(options, UNITS)
    names = {quantity: (key,) for quantity, key in (options.keys or {}).items()}
    frames: list[Frame] = []
    unread: set[str] = set()
    charged = options.charge is not None
    for system in systems:
        own, rest, said = _system(system, names, reading)
        frames += own
        unread |= rest
        charged |= said
    keys_read = {quantity: name[0] for quantity, name in (NAMES | names).items()}
    return Dataset(tuple(frames), str(path), dict(reading.units), keys_read, tuple(sorted(unread)), charged)


def _system(system: Path, names: Mapping[str, tuple[str, ...]], reading: Reading) -> tuple[list[Frame], set[str], bool]:
    elements = _elements(system)
    types = np.atleast_1d(_text(system / "type.raw", int))
    frames: list[Frame] = []
    unread: set[str] = set()
    charged = False
    folders = sorted(folder for folder in system.glob("set.*") if folder.is_dir()) or [system]
    for folder in folders:
        held = {file.stem: file for file in sorted(folder.glob("*.npy")) or sorted(folder.glob("*.raw"))}
        if not (system / "nopbc").exists() and "box" in held and np.any(_array(held["box"])):
            raise InputError(
                "the geometry is a periodic cell; hpcir's models are of molecules",
                where=str(folder),
                hint="where the cell is only a box around a molecule, make an empty file 'nopbc' beside type.raw",
            )
        chosen = {}
        for quantity, candidates in (NAMES | dict(names)).items():
            name = next((name for name in candidates if name in held), None)
            if name is not None:
                chosen[quantity] = name
            elif quantity in names or quantity == "positions":
                raise InputError(f"no array '{candidates[0]}' for {quantity}", where=str(folder), value=sorted(held))
        arrays = {quantity: _array(held[name]) for quantity, name in chosen.items()}
        species = _array(held["real_atom_types"]) if "real_atom_types" in held else types
        frames += part_frames(_numbers(species, elements, system), arrays, reading, str(folder))
        unread |= set(held) - set(chosen.values()) - {"box", "real_atom_types", "type", "type_map"}
        charged |= "charge" in chosen
    return frames, unread, charged


def _elements(system: Path) -> list[int]:
    from ase.data import atomic_numbers

    path = system / "type_map.raw"
    if not path.is_file():
        raise InputError("the elements of the types are not said", where=str(path), hint="write them, one a line: O H")
    words = path.read_text(encoding="utf-8-sig", errors="replace").split()
    unknown = [word for word in words if word not in atomic_numbers or word == "X"]
    if unknown:
        raise InputError("there is no such element", where=str(path), value=unknown[0])
    return [atomic_numbers[word] for word in words]


def _numbers(types: Any, elements: list[int], system: Path) -> Any:
    """Atomic numbers of types; 0 where a type is -1, which fills up smaller molecules."""
    types = np.asarray(types, np.int64)
    if types.max(initial=-1) >= len(elements):
        raise InputError("a type has no element in type_map.raw", where=str(system), value=int(types.max()))
    return np.where(types < 0, 0, np.array(elements, np.int64)[np.maximum(types, 0)])


def _array(path: Path) -> Any:
    if path.suffix == ".raw":
        return _text(path, float)
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises many kinds on a damaged file
        raise InputError(f"the array cannot be read: {type(error).__name__}: {error}", where=str(path)) from error


def _text(path: Path, kind: type) -> Any:
    try:
        return np.loadtxt(path, dtype=kind)
    except (OSError, ValueError) as error:
        raise InputError(f"the numbers cannot be read: {error}", where=str(path)) from error
