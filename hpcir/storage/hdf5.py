"""HDF5 files with units, axes, provenance and a checksum of what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import RunStopped
from hpcir.storage import layout, provenance
from hpcir.storage.checksums import digest
from hpcir.storage.files import replace_file
from hpcir.version import __version__

# The attribute of an HDF5 file that holds its checksum, and what reading a damaged one may raise.
SEAL = "content_digest"
H5_DAMAGE = (OSError, RuntimeError, LookupError, AttributeError, ValueError, TypeError, OverflowError, MemoryError)


def write_h5(path: Path, arrays: Mapping[str, tuple[Any, str, str]], attributes: Mapping[str, Any]) -> None:
    """One HDF5 file of named datasets, each (data, units, comma-separated axes), by temporary name and rename."""

    def fill(file: Any) -> None:
        file.attrs.update(program_version=__version__, format_version=1, **attributes)
        for name, (data, units, axes) in arrays.items():
            dataset = file.create_dataset(name, data=data)
            dataset.attrs["units"] = units
            dataset.attrs["axes"] = axes

    write_sealed(path, fill)


def write_sealed(path: Path, fill: Callable[[Any], None]) -> None:
    """An HDF5 file that `fill` fills, with its origin, deck and checksum, by temporary name and rename.

    It is built in memory: HDF5 itself does not recover from a full disk.
    """
    import h5py

    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.attrs["origin"] = provenance.origin_text()
        if settings := provenance.settings_text():
            file.attrs["deck"] = settings
        seal(file)
        file.flush()
        image = file.id.get_file_image()
    replace_file(path, image)


def read_h5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All datasets and attributes of a file that `write_h5` wrote.

    Raises RunStopped when it cannot be read or its contents are not what was written.
    """
    import h5py

    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: arrays.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
            )
            attributes = dict(file.attrs)
            intact = sealed(file)
    except H5_DAMAGE as error:
        raise RunStopped(f"{path}: cannot be read: {error}") from error
    if not intact:
        raise RunStopped(f"{path}: damaged: its contents do not match their checksum")
    return arrays, attributes


def origin_of(path: Path) -> dict[str, Any]:
    """The origin that an HDF5 file of hpcir states; empty where it states none."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = json.loads(file.attrs.get("origin", "{}"))
    except H5_DAMAGE:
        return {}
    return found if isinstance(found, dict) else {}


def seal(file: Any) -> None:
    """Give an open HDF5 file the checksum of all that it holds: datasets, and the attributes of everything."""
    file.attrs[SEAL] = tree_digest(file)


def sealed(file: Any) -> bool:
    """True where the contents of an open HDF5 file match its checksum."""
    return bool(file.attrs.get(SEAL) == tree_digest(file))


def tree_digest(file: Any) -> str:
    """A digest of an open HDF5 file: every name, dataset and attribute but the checksum itself."""
    import h5py

    parts: list[Any] = []

    def collect(name: str, item: Any) -> None:
        attributes = {key: plain(value) for key, value in item.attrs.items() if key != SEAL}
        parts.extend((name, attributes))
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item[()])
            parts.append(plain(value) if value.dtype.hasobject else value)

    collect("", file)
    file.visititems(collect)
    return digest(*parts)


def plain(value: Any) -> Any:
    """An attribute as a JSON value, from whichever numpy type HDF5 returns."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return [plain(item) for item in value] if isinstance(value, list) else value


def read_intact(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """`read_h5`, or None where there is no file; a damaged one is renamed to NAME.damaged and treated as missing."""
    if not path.is_file():
        return None
    try:
        return read_h5(path)
    except RunStopped:
        os.replace(path, path.with_name(path.name + layout.DAMAGED))
        return None
