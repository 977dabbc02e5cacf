"""Spectra in files: NAME.csv and NAME.h5 of hpcir, JCAMP-DX of others; the trajectories that their terms belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError, RunStopped
from hpcir.spectra.bands import Band, curve_bands
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5, write_h5

# A dataset of an HDF5 file with its unit and axes.
Dataset = tuple[FloatArray | IntArray, str, str]

FORMAT = "hpcir spectrum"
NAME = layout.SPECTRUM
# Maxima of a curve without stored bands closer than this (cm-1) form one band.
CURVE_RESOLUTION = 20.0


@dataclass(frozen=True)
class StoredSpectrum:
    """A spectrum from a file. trajectories (R,): ids of the rows of its terms (None: unknown); starts: a key of the
    positions and velocities that they began with ('': unknown)."""

    spectrum: Spectrum
    source: str
    trajectories: IntArray | None = None
    starts: str = ""


def write_spectrum(
    folder: Path,
    name: str,
    spectrum: Spectrum,
    trajectories: Sequence[int] | IntArray | None = None,
    starts: str = "",
    assigned: Mapping[str, Dataset] | None = None,
    labels: dict[str, list[str]] | None = None,
) -> tuple[Path, Path]:
    """Write NAME.csv and NAME.h5 (which has bands, metadata and the trajectories' terms, too).

    assigned: further datasets, those of the assignment; labels: names of its parts.
    """
    csv, h5 = folder / f"{name}.csv", folder / f"{name}.h5"
    spectrum.to_csv(csv)
    arrays: dict[str, Dataset] = {
        "wavenumbers": (spectrum.wavenumbers, "cm-1", "wavenumber"),
        "absorption": (spectrum.absorption, "km/mol cm", "wavenumber"),
        "stderr": (spectrum.stderr, "km/mol cm", "wavenumber"),
    }
    if spectrum.plain is not None:
        arrays["plain"] = (spectrum.plain, "km/mol cm", "wavenumber")
    if spectrum.terms is not None:
        arrays["trajectories"] = (spectrum.terms, "km/mol cm", "trajectory,wavenumber")
    if trajectories is not None:
        arrays["trajectory"] = (np.asarray(trajectories, np.int64), "number", "trajectory")
    arrays.update(assigned or {})
    attributes = {
        "format": FORMAT,
        "temperature": spectrum.temperature,
        "bands": json.dumps([asdict(band) for band in spectrum.bands]),
        "metadata": json.dumps(spectrum.metadata),
        "starts": starts,
        "parts": json.dumps(labels or {}),
    }
    write_h5(h5, arrays, attributes)
    return csv, h5


def read_spectrum(path: Path) -> StoredSpectrum:
    """A spectrum from spectrum.h5, spectrum.csv, a JCAMP-DX file, or a directory with one of the first two.

    Raises InputError for what is none of these or cannot be read.
    """
    if path.is_dir():
        found = [path / f"{NAME}{suffix}" for suffix in (".h5", ".csv") if (path / f"{NAME}{suffix}").is_file()]
        if not found:
            raise InputError(
                "no spectrum in this directory",
                where=str(path),
                hint=f"a finished run holds {NAME}.h5; `hpcir status` shows the progress of a run",
            )
        path = found[0]
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint="check the path")
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return _read_h5(path)
    if suffix == ".csv":
        return StoredSpectrum(with_bands(Spectrum.from_csv(path)), str(path))
    if suffix in (".jdx", ".dx", ".jcm", ".jcamp"):
        from hpcir.spectra.files.jcamp import read_jcamp

        return StoredSpectrum(read_jcamp(path), str(path))
    raise InputError(
        "not a spectrum that can be read",
        where=str(path),
        value=path.suffix,
        hint="valid: a run directory, .h5 and .csv of hpcir, .jdx and .dx (JCAMP-DX)",
    )


def _read_h5(path: Path) -> StoredSpectrum:
    try:
        arrays, attributes = read_h5(path)
    except RunStopped as error:
        raise InputError(str(error), hint="is it a spectrum.h5 of hpcir?") from error
    if attributes.get("format") != FORMAT:
        raise InputError("not a spectrum file of hpcir", where=str(path), value=attributes.get("format"))
    if missing := {"wavenumbers", "absorption", "stderr"} - arrays.keys():
        raise InputError("the spectrum file is not complete", where=str(path), value=f"no {', '.join(sorted(missing))}")
    spectrum = Spectrum(
        wavenumbers=arrays["wavenumbers"],
        absorption=arrays["absorption"],
        stderr=arrays["stderr"],
        bands=tuple(Band(**band) for band in json.loads(attributes.get("bands", "[]"))),
        temperature=float(attributes.get("temperature", 0.0)),
        terms=arrays.get("trajectories"),
        plain=arrays.get("plain"),
        metadata={**json.loads(attributes.get("metadata", "{}")), "source": str(path)},
    )
    if "bands" not in attributes:
        spectrum = with_bands(spectrum)
    return StoredSpectrum(spectrum, str(path), arrays.get("trajectory"), str(attributes.get("starts", "")))


def with_bands(spectrum: Spectrum) -> Spectrum:
    """The spectrum with the bands of its bare curve (their errors unknown)."""
    return replace(spectrum, bands=curve_bands(spectrum.wavenumbers, spectrum.absorption, CURVE_RESOLUTION))


def paired(first: StoredSpectrum, second: StoredSpectrum) -> tuple[Spectrum, Spectrum] | None:
    """Both spectra with the terms of the trajectories that both have, in one order; None when they do not share their
    starts, their wavenumbers, or at least two trajectories."""
    one, two = first.spectrum, second.spectrum
    if not first.starts or first.starts != second.starts:
        return None
    if one.terms is None or two.terms is None or first.trajectories is None or second.trajectories is None:
        return None
    if not np.array_equal(one.wavenumbers, two.wavenumbers):
        return None
    common, rows, others = np.intersect1d(first.trajectories, second.trajectories, return_indices=True)
    if len(common) < 2:
        return None
    return replace(one, terms=one.terms[rows]), replace(two, terms=two.terms[others])
