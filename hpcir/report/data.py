"""What a report shows, read from the files of a finished or half-finished run directory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import HpcirError, InputError
from hpcir.report.evidence import (
    AtomMap,
    Conservation,
    Settling,
    TrustRow,
    atom_map,
    conservation,
    settling,
    trust_rows,
)
from hpcir.report.parts import Parts, contributions
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

FloatArray = NDArray[np.float64]

SUMMARY = "summary.json"
SPECTRUM = "spectrum.csv"
REFERENCE = "prepare.h5"
LEARNING_CURVE = "models/learning_curve.json"
TEST = "test.h5"
DECK = "deck.resolved.yaml"
TARGETS = "targets"
# Molecules of a series that its title names.
SHOWN_NAMES = 6


@dataclass(frozen=True)
class Curve:
    """A spectrum: wavenumbers (F,) cm-1; absorption (F,) and its standard error (F,) in km/mol per cm-1."""

    name: str
    wavenumbers: FloatArray
    absorption: FloatArray
    stderr: FloatArray


@dataclass(frozen=True)
class Sticks:
    """Harmonic lines: wavenumbers (M,) in cm-1, intensities (M,) in km/mol."""

    name: str
    wavenumbers: FloatArray
    intensities: FloatArray


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
    """Everything the figures and the page need. What a run has not reached is empty or None, and in `missing`.

    summary: summary.json as it is. bands: its bands. modes: its modes (harmonic and anharmonic positions,
    contributions) and groups: its groups of atoms, a dict each; parts: their curves. learning_curve: a dict a round
    (labels and held-out errors). targets: what the summary says of each molecule of a run of several, by name; all
    else is about the first. pages: those that have a page of their own.
    """

    name: str
    summary: dict[str, Any] = field(default_factory=dict)
    spectrum: Curve | None = None
    others: tuple[Curve, ...] = ()
    sticks: tuple[Sticks, ...] = ()
    bands: list[dict[str, Any]] = field(default_factory=list)
    modes: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    parts: Parts | None = None
    learning_curve: list[dict[str, Any]] = field(default_factory=list)
    sampling_reason: str = ""
    parity: tuple[Parity, ...] = ()
    calibration: Calibration | None = None
    atoms: AtomMap | None = None
    trust: tuple[TrustRow, ...] = ()
    settling: tuple[Settling, ...] = ()
    conservation: Conservation | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)
    deck_text: str = ""
    missing: tuple[str, ...] = ()
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    pages: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The molecule, or the molecules, that the run is about."""
        if len(self.targets) < 2:
            return self.name
        named = list(self.targets)[:SHOWN_NAMES]
        rest = len(self.targets) - len(named)
        return ", ".join(named) + (f" and {rest} more" if rest else "")


def load_report_data(run_dir: str | Path) -> ReportData:
    """Read a run directory. A part that is not there yet, or cannot be read, is named in `missing`.

    Raises InputError when the folder is no run directory at all.
    """
    folder = Path(run_dir)
    if not (folder / "manifest.json").is_file() and not (folder / DECK).is_file():
        raise InputError("this is no run directory of hpcir", where=str(folder), hint="give what `hpcir run` wrote")
    missing: list[str] = []
    deck_text = _text(folder / DECK, missing)
    summary = _json(folder / SUMMARY, "the summary", missing)
    summary = summary if isinstance(summary, dict) else {}
    # In a run of several molecules no minimum is labelled, and the learning curve is that of all.
    own = missing if _one_molecule(summary) else []
    curve, reason = _learning_curve(folder / LEARNING_CURVE, own)
    targets = _targets(summary)
    evidence = _evidence_folder(folder, targets)
    parity, calibration = _test(evidence / TEST, missing)
    bands = [band for band in summary.get("bands") or [] if isinstance(band, dict)]
    return ReportData(
        name=_name(deck_text, folder),
        summary=summary,
        spectrum=_spectrum(folder / SPECTRUM, "", missing),
        others=tuple(
            other
            for path in sorted(folder.glob("spectrum-*.csv"))
            if (other := _spectrum(path, path.stem.removeprefix("spectrum-"), missing)) is not None
        ),
        sticks=_sticks(folder / REFERENCE, summary, own),
        bands=bands,
        modes=[mode for mode in summary.get("modes") or [] if isinstance(mode, dict)],
        groups=[group for group in summary.get("groups") or [] if isinstance(group, dict)],
        parts=contributions(folder),
        learning_curve=curve,
        sampling_reason=reason or str((summary.get("sampling") or {}).get("stopped_because", "")),
        parity=parity,
        calibration=calibration,
        atoms=atom_map(evidence),
        trust=trust_rows(evidence),
        settling=settling(folder, bands),
        conservation=conservation(evidence),
        stage_seconds={
            str(name): float(seconds)
            for name, seconds in (summary.get("stages") or {}).items()
            if isinstance(seconds, (int, float))
        },
        deck_text=deck_text,
        missing=tuple(missing),
        targets=targets,
        pages=tuple(name for name in targets if (folder / TARGETS / name / "report.html").is_file()),
    )


def _targets(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the summary says of each molecule of a run of several; nothing of a run of one."""
    targets = summary.get("targets")
    found = targets.items() if isinstance(targets, dict) else ()
    return {name: target for name, target in found if isinstance(target, dict) and Path(name).name == name}


def _evidence_folder(folder: Path, targets: dict[str, dict[str, Any]]) -> Path:
    """Where test, trust map and trajectories are: in a run of several molecules in the folder of the first one."""
    first = folder / TARGETS / next(iter(targets)) if targets else folder
    return first if first.is_dir() else folder


def _one_molecule(summary: dict[str, Any]) -> bool:
    """Whether a run is of one molecule: it has, or will have, the label engine's harmonic analysis."""
    harmonic = summary.get("harmonic")
    return not isinstance(harmonic, dict) or "engine_wavenumbers_per_cm" in harmonic


def _text(path: Path, missing: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        missing.append("the resolved deck")
        return ""


def _json(path: Path, what: str, missing: list[str]) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        missing.append(f"{what} ({path.name}: not written yet)")
    except (OSError, ValueError) as error:
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


def _spectrum(path: Path, name: str, missing: list[str]) -> Curve | None:
    from hpcir.spectra.spectrum import Spectrum

    if not path.is_file():
        missing.append(f"the spectrum ({path.name}: not written yet)")
        return None
    try:
        spectrum = Spectrum.from_csv(path)
    except InputError as error:
        missing.append(f"the spectrum ({error})")
        return None
    return Curve(name, spectrum.wavenumbers, spectrum.absorption, spectrum.stderr)


def _arrays(path: Path, what: str, missing: list[str]) -> dict[str, Any]:
    from hpcir.storage.hdf5 import read_h5

    if not path.is_file():
        missing.append(f"{what} ({path.name}: not written yet)")
        return {}
    try:
        return read_h5(path)[0]
    except HpcirError as error:
        missing.append(f"{what} ({error})")
        return {}


def _sticks(path: Path, summary: dict[str, Any], missing: list[str]) -> tuple[Sticks, ...]:
    """Harmonic lines of the engine (prepare.h5) and, where the summary has them, of the model at its minimum."""
    found = []
    arrays = _arrays(path, "the harmonic spectrum", missing)
    if {"harmonic_wavenumbers_per_cm", "harmonic_intensities_km_per_mol"} <= arrays.keys():
        found.append(Sticks("engine", arrays["harmonic_wavenumbers_per_cm"], arrays["harmonic_intensities_km_per_mol"]))
    harmonic = summary.get("harmonic") or {}
    if harmonic.get("model_wavenumbers_per_cm") and harmonic.get("model_intensities_km_per_mol"):
        found.append(
            Sticks(
                "model",
                np.array(harmonic["model_wavenumbers_per_cm"], float),
                np.array(harmonic["model_intensities_km_per_mol"], float),
            )
        )
    return tuple(found)


def _learning_curve(path: Path, missing: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The rounds of sampling, with the reason why it ended where the file says it."""
    content = _json(path, "the learning curve", missing)
    rounds, reason = content, ""
    if isinstance(content, dict):
        rounds, reason = content.get("rounds"), str(content.get("reason") or "")
    rounds = rounds if isinstance(rounds, list) else []
    return [entry for entry in rounds if isinstance(entry, dict) and "labels" in entry], reason


def _test(path: Path, missing: list[str]) -> tuple[tuple[Parity, ...], Calibration | None]:
    arrays = _arrays(path, "the independent test", missing)
    parity = []
    quantities = (
        ("energy", "kcal/mol", KCAL_PER_MOL),
        ("forces", "kcal/mol/Å", KCAL_PER_MOL_ANGSTROM),
        ("dipole", "D", DEBYE),
    )
    for name, unit, size in quantities:
        reference, model = arrays.get(f"{name}_reference"), arrays.get(f"{name}_model")
        if reference is None or model is None or np.shape(reference) != np.shape(model) or not np.size(reference):
            continue
        # Total energies are large numbers: both from the lowest of the reference.
        zero = np.min(reference) if name == "energy" else 0.0
        parity.append(Parity(name, unit, (np.ravel(reference) - zero) / size, (np.ravel(model) - zero) / size))
    calibration = None
    if {"forces_reference", "forces_model", "forces_spread"} <= arrays.keys() and np.size(arrays["forces_spread"]):
        error = np.linalg.norm(arrays["forces_model"] - arrays["forces_reference"], axis=-1).ravel()
        spread = np.linalg.norm(arrays["forces_spread"], axis=-1).ravel()
        calibration = Calibration(spread / KCAL_PER_MOL_ANGSTROM, error / KCAL_PER_MOL_ANGSTROM)
    return tuple(parity), calibration
