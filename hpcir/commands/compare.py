"""Command compare: two spectra side by side, and the significance of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hpcir.commands.tables import with_error
from hpcir.errors import InputError
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.spectra.compare import SIGMAS, BandMatch, Comparison
from hpcir.spectra.compare import compare as compare_spectra
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.storage.json_result import write_json
from hpcir.storage.provenance import png_texts
from hpcir.storage.records import to_json
from hpcir.study.results.contours import gas_phase
from hpcir.study.results.records import BandEstimate, BandRow, read_summary
from hpcir.study.results.side_by_side import WORDS, side_by_side
from hpcir.study.results.spectrum_files import StoredSpectrum, paired, read_spectrum
from hpcir.study.session import check_folder, make_folder

NAME = layout.COMPARISON
# Least width of the table of bands by every method, characters.
WIDTH = 140
# Areas that differ by more are hardly two spectra of one molecule.
SUSPECT_RATIO = 5.0


@collective
def compare(spectrum: Path, reference: Path, output: Path | None, force: bool, comm: Communicator) -> None:
    """Compare two spectra (run directories, spectrum.h5, spectrum.csv, JCAMP-DX) and print the result (rank 0).

    Trajectories that began with the same positions and velocities are compared one by one. A reference without an
    absolute scale is scaled to equal area, with a note. A run without rotation gets the rotational contours of its
    molecule before it is compared with a gas-phase experiment, with a note too. With `output`: comparison.png and
    comparison.json there.
    """
    on_root(comm, lambda: _compare(spectrum, reference, output, force))


def _compare(spectrum: Path, reference: Path, output: Path | None, force: bool) -> None:
    if output is not None:
        check_folder(output, (f"{NAME}.png", f"{NAME}.json"), force)
    first, second = read_spectrum(spectrum), read_spectrum(reference)
    first, second = gas_phase(first, second, spectrum), gas_phase(second, first, reference)
    found = compared(first, second)
    _print(found, first, second)
    rows = _side_by_side(found, first, second, spectrum, reference)
    if rows:
        print_side_by_side(rows)
    if output is None:
        return
    make_folder(output)
    _draw(first, second, output / f"{NAME}.png")
    write_json(output / f"{NAME}.json", content(found, first, second) | {"side_by_side": to_json(rows)})
    print(f"written: {output / f'{NAME}.png'}, {output / f'{NAME}.json'}")


def compared(first: StoredSpectrum, second: StoredSpectrum) -> Comparison:
    """The comparison, trajectory by trajectory where both share their starts."""
    pair = paired(first, second)
    if pair is not None:
        return compare_spectra(*pair, paired=True)
    absolute = _absolute(first.spectrum) and _absolute(second.spectrum)
    return compare_spectra(first.spectrum, second.spectrum, intensity_scale=1.0 if absolute else None)


def _experiment(first: StoredSpectrum, second: StoredSpectrum) -> str | None:
    """'reference' or 'spectrum', whichever of the two was measured; None where neither was, or both."""
    measured = ["state" in stored.spectrum.metadata for stored in (first, second)]
    return None if measured[0] == measured[1] else ("spectrum" if measured[0] else "reference")


def _side_by_side(
    found: Comparison, first: StoredSpectrum, second: StoredSpectrum, spectrum: Path, reference: Path
) -> tuple[BandRow, ...]:
    """The run's bands by every method beside an experiment; none where one of the two is no run, or no experiment."""
    measured = _experiment(first, second)
    run = {"reference": spectrum, "spectrum": reference}.get(measured or "")
    if run is None:
        return ()
    try:
        summary = read_summary((run if run.is_dir() else run.parent) / layout.SUMMARY)
    except (FileNotFoundError, InputError):
        return ()
    pairs = [(match.first, match.second)[:: 1 if measured == "reference" else -1] for match in found.matches]
    bands = (first if measured == "reference" else second).spectrum.bands
    # Contours move bands a little, in their order: the measured positions are given without that.
    known = {moved.position_per_cm: band.position_per_cm for moved, band in zip(bands, summary.bands, strict=False)}
    places = {
        known[own.position_per_cm]: other.position_per_cm - own.position_per_cm + known[own.position_per_cm]
        for own, other in pairs
        if own.position_per_cm in known
    }
    return side_by_side(summary, places)


def print_side_by_side(rows: Sequence[BandRow]) -> None:
    """Each band by every method, and whose the difference from the experiment is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="band by band, cm-1", title_justify="left")
    levels = next((WORDS[row.levels.method] for row in rows if row.levels is not None), "")
    names = ["harmonic", WORDS[rows[0].trajectories.method], "its error"]
    names += ["levels", "their error"] if levels else []
    table.add_column("band", min_width=31)
    for name in (*names, "measured", "level of theory"):
        table.add_column(name, justify="right", no_wrap=name != "level of theory")
    for row in rows:
        if not row.modes and row.experiment_per_cm is None:
            continue
        cells = [_figure(row.harmonic_per_cm), *_estimate(row.trajectories)]
        cells += _estimate(row.levels) if levels else []
        rest = _rest(row.level_of_theory_per_cm, row.level_of_theory_stderr_per_cm)
        table.add_row(row.assignment.split(",")[0], *cells, _figure(row.experiment_per_cm), rest)
    Console(width=max(Console().width, WIDTH)).print(table, markup=False)
    print(
        "+- behind a position: sampling and committee; error of a method: what it added to exact levels of small "
        "molecules for this kind of motion, mean +- scatter; level of theory: computed less measured, the mean error "
        "of the better known method taken off" + (f"; levels: {levels}" if levels else "")
    )


def _figure(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.1f}"


def _rest(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{value:+.0f} +- {0.0 if error is None else error:.0f}"


def _estimate(one: BandEstimate | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    place = with_error(one.wavenumber_per_cm, one.stderr_per_cm, 1)
    return place, _rest(one.method_error_per_cm, one.method_scatter_per_cm)


def verdict(found: Comparison) -> str:
    """The significance of the differences between bands, in words."""
    if not found.matches:
        return "No band of one has a partner in the other: there are no shifts to compare."
    sentences = []
    for what, flags in (
        ("position", [match.position_differs for match in found.matches]),
        ("intensity", [match.intensity_differs for match in found.matches]),
    ):
        known = [flag for flag in flags if flag is not None]
        if not known:
            sentences.append(f"Differences of the bands in {what} cannot be judged: errors are unknown.")
            continue
        # One band in twenty passes two standard errors by chance.
        chance = 0.05 * len(known)
        differing = [m.second.position_per_cm for m, flag in zip(found.matches, flags, strict=True) if flag]
        places = f" (at {', '.join(f'{place:.0f}' for place in differing)} cm-1)" if differing else ""
        sentences.append(
            f"{len(differing)} of {len(known)} bands differ in {what} by more than {SIGMAS:g} standard errors{places}; "
            f"chance alone gives {chance:.1f}."
        )
    apart = len(found.only_first) + len(found.only_second)
    if apart:
        sentences.append(f"{apart} bands have no partner.")
    return " ".join(sentences)


def content(found: Comparison, first: StoredSpectrum, second: StoredSpectrum) -> dict[str, object]:
    """The comparison in the form of comparison.json."""
    return {
        "spectrum": first.source,
        "reference": second.source,
        "experiment": _experiment(first, second),
        "lower_per_cm": found.lower,
        "upper_per_cm": found.upper,
        "pearson": found.pearson,
        "cosine": found.cosine,
        "spectral_information_similarity": found.information,
        "area_km_per_mol": found.area_first,
        "reference_area_km_per_mol": found.area_second,
        "plain_means": None
        if found.shared_noise is None
        else dict(zip(("pearson", "cosine", "spectral_information_similarity"), found.shared_noise, strict=True)),
        "mean_absolute_shift_per_cm": found.mean_absolute_shift,
        "paired": found.paired,
        "verdict": verdict(found),
        "notes": [*_assumptions(first, second), *found.notes],
        "bands": [_match(match) for match in found.matches],
        "only_in_spectrum": [asdict(band) for band in found.only_first],
        "only_in_reference": [asdict(band) for band in found.only_second],
    }


def _assumptions(first: StoredSpectrum, second: StoredSpectrum) -> list[str]:
    """Notes of what was assumed, masked and converted when the files were read."""
    pairs = (("spectrum", first), ("reference", second))
    return [f"{name}: {note}" for name, stored in pairs for note in stored.spectrum.metadata.get("notes", [])]


def _match(match: BandMatch) -> dict[str, object]:
    return {
        "position_per_cm": match.first.position_per_cm,
        "reference_position_per_cm": match.second.position_per_cm,
        "shift_per_cm": match.shift_per_cm,
        "shift_stderr_per_cm": match.shift_stderr,
        "intensity_km_per_mol": match.first.intensity_km_per_mol,
        "reference_intensity_km_per_mol": match.second.intensity_km_per_mol,
        "intensity_ratio": match.intensity_ratio,
        "intensity_difference_km_per_mol": match.intensity_difference,
        "intensity_stderr_km_per_mol": match.intensity_stderr,
        "position_differs": match.position_differs,
        "intensity_differs": match.intensity_differs,
        "assignment": match.first.assignment or match.second.assignment,
    }


def _print(found: Comparison, first: StoredSpectrum, second: StoredSpectrum) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"spectrum:  {first.source}\nreference: {second.source}")
    table = Table()
    scaled = not (_absolute(first.spectrum) and _absolute(second.spectrum))
    unit = "no absolute scale" if scaled else "km/mol"
    for name in ("reference, cm-1", "shift, cm-1", f"intensities, {unit}", "difference", "ratio", "differ"):
        table.add_column(name, justify="right")
    for match in found.matches:
        table.add_row(
            f"{match.second.position_per_cm:.1f}",
            with_error(match.shift_per_cm, match.shift_stderr, 1),
            f"{match.first.intensity_km_per_mol:.1f}, {match.second.intensity_km_per_mol:.1f}",
            with_error(match.intensity_difference, match.intensity_stderr, 2),
            f"{match.intensity_ratio:.3f}",
            _differing(match),
        )
    if found.matches:
        Console(width=max(Console().width, 96)).print(table)
    for name, bands in (("spectrum", found.only_first), ("reference", found.only_second)):
        for band in bands:
            print(f"only in the {name}: {band.describe()}")
    print(
        f"{found.lower:.0f} to {found.upper:.0f} cm-1: Pearson {found.pearson:.4f}, cosine {found.cosine:.4f}, "
        f"spectral information similarity {found.information:.4f}; areas {found.area_first:.1f} and "
        f"{found.area_second:.1f} {'km/mol' if not scaled else '(no absolute scale)'}"
    )
    ratio = found.area_first / found.area_second if found.area_first > 0 < found.area_second else 1.0
    if not scaled and not 1 / SUSPECT_RATIO < ratio < SUSPECT_RATIO:
        print(f"warning: the areas differ {max(ratio, 1 / ratio):.3g} times: check pressure, path and units of both")
    if found.shared_noise is not None:
        pearson, cosine, information = found.shared_noise
        print(
            f"plain means, whose scatter of starts both share: Pearson {pearson:.4f}, cosine {cosine:.4f}, spectral "
            f"information similarity {information:.4f}"
        )
    if np.isfinite(found.mean_absolute_shift):
        print(f"mean absolute shift: {found.mean_absolute_shift:.1f} cm-1")
    how = "trajectory by trajectory, from the same starts" if found.paired else "as independent of each other"
    for line in (*_assumptions(first, second), *found.notes, f"compared {how}", verdict(found)):
        print(line)


def _differing(match: BandMatch) -> str:
    flags = {"position": match.position_differs, "intensity": match.intensity_differs}
    if all(flag is None for flag in flags.values()):
        return "unknown"
    return ", ".join(name for name, flag in flags.items() if flag) or "no"


def _draw(first: StoredSpectrum, second: StoredSpectrum, path: Path) -> None:
    """Both curves, the reference on an axis of its own where it has no absolute scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    first.spectrum.plot(axes, "spectrum")
    other = axes if _absolute(first.spectrum) == _absolute(second.spectrum) else axes.twinx()
    second.spectrum.plot(other, "reference", color="tab:orange")
    if other is not axes:
        other.set_ylabel("napierian absorbance")
    lower = max(first.spectrum.wavenumbers[0], second.spectrum.wavenumbers[0])
    upper = min(first.spectrum.wavenumbers[-1], second.spectrum.wavenumbers[-1])
    axes.set_xlim(upper, lower)
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=150, metadata=png_texts())


def _absolute(spectrum: Spectrum) -> bool:
    return bool(spectrum.metadata.get("absolute", True))
