"""Labelled geometries from any file that can be read, recognised by its suffix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcir.errors import InputError
from hpcir.exchange.arrays import read_arrays
from hpcir.exchange.collections.deepmd import read_deepmd
from hpcir.exchange.datasets import Dataset, ReadOptions, check_origin
from hpcir.exchange.extxyz import read_ase_db, read_extxyz


def read_dataset(
    path: str | Path,
    *,
    units: Mapping[str, str] | str | None = None,
    keys: Mapping[str, str] | None = None,
    charge: int | None = None,
    level: str = "",
    dipole_origin: str | None = None,
    missing: str = "error",
) -> Dataset:
    """Read labelled geometries: extxyz (.xyz, .extxyz), NumPy (.npz), an ASE database (.db), HDF5 (.h5, .hdf5), of
    arrays or of one group a molecule (SPICE, ANI-1x, QM7-X), a folder of DeePMD-kit.

    units: quantity -> unit, or 'ase', or 'atomic'; a format that fixes its units (ASE's .db, hpcir's labels.h5)
    needs none. keys: quantity -> name in the file (`QUANTITIES`, 'charge', 'level', and
    for arrays also 'numbers' and 'positions'); without it the names are the quantities' own. Every name given must
    be there; missing='allow' lets single geometries go without, and takes what is NaN as missing. charge: total charge
    of every geometry where the file does not say (0). dipole_origin: see `shifted_dipole`. Raises InputError.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("the data set does not exist", where=str(path), hint="check the path")
    if missing not in ("error", "allow"):
        raise InputError("unknown value of missing", value=missing, hint="'error' or 'allow'")
    check_origin(dipole_origin)
    options = ReadOptions(units, keys, charge, level, dipole_origin, missing)
    if path.is_dir():
        return read_deepmd(path, options)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".h5", ".hdf5"):
        return read_arrays(path, options)
    if suffix == ".db":
        return read_ase_db(path, options)
    if suffix in (".xyz", ".extxyz"):
        return read_extxyz(path, options)
    raise InputError(
        "not a data set that can be read",
        where=str(path),
        value=suffix,
        hint="valid: .xyz, .extxyz, .npz, .db (ASE), .h5, .hdf5",
    )
