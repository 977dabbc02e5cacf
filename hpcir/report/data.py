"""Data of a report, read from the files of a finished or half-finished run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import HpcirError, InputError
from hpcir.molecules.structures import Structure, read_structure
from hpcir.report.evidence import (
    AtomMap,
    Conservation,
    Settling,
    atom_map,
    conservation,
    settling,
    trust_rows,
)
from hpcir.report.parts import Parts, contributions
from hpcir.sampling.trust import AtomTrust
from hpcir.spectra.bands import Band
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5
from hpcir.study.learning.curve import LearningCurve, read_curve
from hpcir.study.results.compared import Compared
from hpcir.study.results.records import (
    BandRow,
    HarmonicFigures,
    LevelFigures,
    Summary,
    TargetSummary,
    read_summary,
)
from hpcir.study.results.side_by_side import Experiment, read_experiment, side_by_side
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

Found = TypeVar("Found")

# Most molecules of a run that its title names.
MAX_NAMES = 6


@dataclass(frozen=True)
class Curve:
    """A spectrum: wavenumbers (F,) cm-1; absorption (F,) and its standard error (F,) in km/mol per cm-1."""

    name: str
    wavenumbers: FloatArray
    absorption: FloatArray
    stderr: FloatArray


@dataclass(frozen=True)
class Sticks:
    """Harmonic lines, or levels: wavenumbers (M,) in cm-1, intensities (M,) in km/mol; stderr (M,) in cm-1: of the
    wavenumbers (nan where it is not known)."""

    name: str
    wavenumbers: FloatArray
    intensities: FloatArray
    stderr: FloatArray | None = None


@dataclass(frozen=True)
class Parity:
    """A quantity of the independent test: reference (n,) and model (n,) in `unit`, and the root mean square error."""

    quantity: str
    unit: str
    reference: FloatArray
    model: FloatArray

    @property
    def rmse(self) -> float:
        return float(np.sqrt(np.mean((self.model - self.reference) ** 2)))


@dataclass(frozen=True)
class Calibration:
    """Committee spread (n,) and true error (n,) of each atom's force, vector norms in kcal/mol/angstrom."""

    spread: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class ReportData:
    """Data of the figures and the page. Parts that a run has not reached are empty or None, and in `missing`.

    summary: summary.json, about the first target but for its table of all. parts: curves of the summary's modes and
    groups of atoms. start: the structure that the run began with. learning: rounds of sampling, and why there were no
    more. pages: targets that have a page of their own. side_by_side: each band by every method, with those of the
    `experiment` (a file's name) that `hpcir compare` held the run against, if it left its result in the run directory.
    """

    name: str
    summary: Summary = field(default_factory=Summary)
    spectrum: Curve | None = None
    others: tuple[Curve, ...] = ()
    sticks: tuple[Sticks, ...] = ()
    parts: Parts | None = None
    learning: LearningCurve = field(default_factory=LearningCurve)
    parity: tuple[Parity, ...] = ()
    calibration: Calibration | None = None
    atoms: AtomMap | None = None
    trust: tuple[AtomTrust, ...] = ()
    settling: tuple[Settling, ...] = ()
    conservation: Conservation | None = None
    start: Structure | None = None
    deck_text: str = ""
    missing: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    side_by_side: tuple[BandRow, ...] = ()
    experiment: str = ""

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands of the first target."""
        return self.summary.bands

    @property
    def targets(self) -> dict[str, TargetSummary]:
        """The summary of each target, by name."""
        return self.summary.targets or {}

    @property
    def title(self) -> str:
        """The molecule, or the molecules, that the run is about."""
        if len(self.targets) < 2:
            return self.name
        named = list(self.targets)[:MAX_NAMES]
        rest = len(self.targets) - len(named)
        return ", ".join(named) + (f" and {rest} more" if rest else "")


def load_report_data(run_dir: str | Path) -> ReportData:
    """Read a run directory. A part that is not there yet, or cannot be read, is named in `missing`.

    Raises InputError when the folder is not a run directory.
    """
    folder = Path(run_dir)
    if not (folder / layout.MANIFEST).is_file() and not (folder / layout.DECK).is_file():
        raise InputError(
            "this is not a run directory of hpcir", where=str(folder), hint="give the directory that `hpcir run` wrote"
        )
    missing: list[str] = []
    deck_text = _text(folder / layout.DECK, missing)
    summary = _read(read_summary, folder / layout.SUMMARY, "the summary", missing) or Summary()
    curve = _read(
        read_curve, folder / layout.LEARNING_CURVE, "the learning curve", [] if _shares_a_model(folder) else missing
    )
    evidence = _evidence_folder(folder, summary)
    compared = _read(Compared.read, evidence / layout.TEST, "the independent test", missing)
    engine = _engine_sticks(folder / layout.REFERENCE, missing if _labelled_whole(summary.harmonic) else [])
    experiment = _experiment(folder / f"{layout.COMPARISON}.json", missing)
    return ReportData(
        name=_name(deck_text, folder),
        summary=summary,
        spectrum=_spectrum(folder / layout.spectrum_csv(), "", missing),
        others=tuple(
            other
            for path in sorted(folder.glob(layout.spectrum_csv("*")))
            if (other := _spectrum(path, path.stem.removeprefix(layout.spectrum_name("*")[:-1]), missing)) is not None
        ),
        sticks=(*engine, *_model_sticks(summary.harmonic), *_level_sticks(summary.levels)),
        parts=contributions(folder),
        learning=curve or _curve_of(summary),
        parity=_parity(compared) if compared is not None else (),
        calibration=_calibration(compared) if compared is not None else None,
        atoms=atom_map(evidence),
        trust=trust_rows(evidence),
        settling=settling(folder, summary.bands),
        conservation=conservation(evidence),
        start=_start(folder),
        deck_text=deck_text,
        missing=tuple(missing),
        side_by_side=side_by_side(summary, experiment.positions),
        experiment=experiment.name,
        pages=tuple(name for name in summary.targets or {} if _has_page(folder, name)),
    )


def _experiment(path: Path, missing: list[str]) -> Experiment:
    """The experiment of a comparison that stands beside the run; an empty one without it."""
    if not path.is_file():
        return Experiment()
    return _read(read_experiment, path, "the comparison with an experiment", missing) or Experiment()


def _has_page(folder: Path, name: str) -> bool:
    """True for a target that has its own page; a name that leads out of the folder has none."""
    return Path(name).name == name and (folder / layout.target_folder(name) / layout.REPORT).is_file()


def _evidence_folder(folder: Path, summary: Summary) -> Path:
    """The folder of test, trust map and trajectories: the run directory itself, or, in runs of the first versions, the
    folder of the first target."""
    for name in list(summary.targets or {})[:1]:
        own = folder / layout.target_folder(name)
        if Path(name).name == name and own.is_dir():
            return own
    return folder


def _shares_a_model(folder: Path) -> bool:
    """True for the folder of a further target, whose model and learning curve are the run's."""
    return folder.resolve().parent.name == layout.TARGETS


def _curve_of(summary: Summary) -> LearningCurve:
    """The reason why sampling stopped, from the summary of a target or of a run without a learning curve."""
    known = summary.sampling
    return LearningCurve() if known is None else LearningCurve(reason=known.stopped_because, stopped=known.stopped)


def _labelled_whole(harmonic: HarmonicFigures | None) -> bool:
    """True where the first target has, or will have, the label engine's harmonic analysis."""
    return harmonic is None or harmonic.engine_wavenumbers_per_cm is not None


def _text(path: Path, missing: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        missing.append("the resolved deck")
        return ""


def _read(reader: Callable[[Path], Found], path: Path, what: str, missing: list[str]) -> Found | None:
    """The contents of a file by its reader; None where there is no file, or it cannot be read."""
    if not path.is_file():
        missing.append(f"{what} ({path.name}: not written yet)")
        return None
    try:
        return reader(path)
    except HpcirError as error:
        missing.append(f"{what} ({path.name} cannot be read: {error})")
        return None


def _name(deck_text: str, folder: Path) -> str:
    """The molecule's name: the deck's, else its structure file's, else the folder's."""
    import yaml

    try:
        system = (yaml.safe_load(deck_text) or {}).get("system") or {}
        return str(system.get("name") or Path(str(system["structure"])).stem)
    except (yaml.YAMLError, AttributeError, KeyError):
        return folder.resolve().name


def _start(folder: Path) -> Structure | None:
    """The structure that the run began with; None where it cannot be read."""
    try:
        return read_structure(folder / layout.START)
    except HpcirError:
        return None


def _spectrum(path: Path, name: str, missing: list[str]) -> Curve | None:
    spectrum = _read(Spectrum.from_csv, path, "the spectrum", missing)
    return None if spectrum is None else Curve(name, spectrum.wavenumbers, spectrum.absorption, spectrum.stderr)


def _engine_sticks(path: Path, missing: list[str]) -> tuple[Sticks, ...]:
    """Harmonic lines of the label engine at its minimum."""
    found = _read(read_h5, path, "the harmonic spectrum", missing)
    arrays = {} if found is None else found[0]
    if not {"harmonic_wavenumbers_per_cm", "harmonic_intensities_km_per_mol"} <= arrays.keys():
        return ()
    return (Sticks("engine", arrays["harmonic_wavenumbers_per_cm"], arrays["harmonic_intensities_km_per_mol"]),)


def _level_sticks(levels: LevelFigures | None) -> tuple[Sticks, ...]:
    """Quantum fundamentals of the model at its minimum, those with an intensity."""
    rows = [row for row in levels.fundamentals if row.intensity_km_per_mol > 0] if levels is not None else []
    if not rows:
        return ()
    return (
        Sticks(
            "levels",
            np.array([row.wavenumber_per_cm for row in rows]),
            np.array([row.intensity_km_per_mol for row in rows]),
            np.array([row.stderr_per_cm for row in rows]),
        ),
    )


def _model_sticks(harmonic: HarmonicFigures | None) -> tuple[Sticks, ...]:
    """Harmonic lines of the model at its minimum, where the summary has them."""
    if harmonic is None or not harmonic.model_wavenumbers_per_cm or not harmonic.model_intensities_km_per_mol:
        return ()
    columns = (np.array(harmonic.model_wavenumbers_per_cm), np.array(harmonic.model_intensities_km_per_mol))
    return (Sticks("model", *columns),)


def _parity(test: Compared) -> tuple[Parity, ...]:
    if not len(test.energy_reference):
        return ()
    quantities = (
        ("energy", "kcal/mol", KCAL_PER_MOL, test.energy_reference, test.energy_model),
        ("forces", "kcal/mol/Å", KCAL_PER_MOL_ANGSTROM, test.forces_reference, test.forces_model),
        ("dipole", "D", DEBYE, test.dipole_reference, test.dipole_model),
    )
    found = []
    for name, unit, size, reference, model in quantities:
        # Total energies are large numbers: both are relative to the lowest of the reference.
        zero = np.min(reference) if name == "energy" else 0.0
        found.append(Parity(name, unit, (np.ravel(reference) - zero) / size, (np.ravel(model) - zero) / size))
    return tuple(found)


def _calibration(test: Compared) -> Calibration | None:
    if not np.any(test.forces_spread):  # not in the file, or of a committee of one
        return None
    error = np.linalg.norm(test.forces_model - test.forces_reference, axis=-1).ravel()
    spread = np.linalg.norm(test.forces_spread, axis=-1).ravel()
    return Calibration(spread / KCAL_PER_MOL_ANGSTROM, error / KCAL_PER_MOL_ANGSTROM)
