"""The PNG figures of a run, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import RunStopped
from hpcir.report.data import Parity, ReportData
from hpcir.storage.provenance import png_texts
from hpcir.study.learning.curve import Errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can distinguish: the model's curve, the harmonic reference.
CURVE, REFERENCE = "#0072B2", "#D55E00"
GREY = "#666666"
RESOLUTION = 200
# Most characters of a name in a legend.
MAX_NAME_LENGTH = 40
# Units of the fields of `Errors`.
UNITS = ("kcal/mol/Å", "kcal/mol", "D")


def write_figures(data: ReportData, folder: Path) -> list[Path]:
    """Draw every figure that the data allow into a folder; returns the files written.

    spectrum.png, learning_curve.png, parity.png, committee.png. Raises RunStopped when the disk refuses.
    """
    drawings: dict[str, tuple[bool, Callable[[ReportData], Figure]]] = {
        "spectrum.png": (data.spectrum is not None, spectrum_figure),
        "learning_curve.png": (bool(data.learning.rounds), learning_curve_figure),
        "parity.png": (bool(data.parity), parity_figure),
        "committee.png": (data.calibration is not None, committee_figure),
    }
    written = []
    for name, (there, draw) in drawings.items():
        if not there:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draw(data).savefig(folder / name, dpi=RESOLUTION, metadata=png_texts(data.summary.provenance))
        except OSError as error:
            raise RunStopped(f"{folder / name}: cannot write: {error.strerror}") from error
        written.append(folder / name)
    return written


def plain(text: str) -> str:
    """Text for matplotlib: a dollar sign starts no formula, and a long name leaves room for the curve."""
    shown = text if len(text) <= MAX_NAME_LENGTH else text[: MAX_NAME_LENGTH - 1] + "…"
    return shown.replace("$", r"\$")


def _figure(
    width: float, height: float, columns: int = 1, heights: tuple[int, ...] = (1,)
) -> tuple[Figure, list[list[Axes]]]:
    """A figure and its axes in rows, whose heights are to one another as `heights`, sharing x in a column."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights, sharex="col")
    for one in grid.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=9)
    return figure, [list(row) for row in grid]


def spectrum_figure(data: ReportData) -> Figure:
    """The curve with its error band (one standard error), the harmonic lines below, the strongest bands named."""
    figure, ((axes,),) = _figure(9, 4.2)
    curve = data.spectrum
    assert curve is not None
    axes.plot(
        curve.wavenumbers, curve.absorption, color=CURVE, linewidth=1.3, label=plain(f"{data.name}, MD"), zorder=3
    )
    error = np.nan_to_num(curve.stderr)
    axes.fill_between(
        curve.wavenumbers,
        curve.absorption - error,
        curve.absorption + error,
        color=CURVE,
        alpha=0.3,
        linewidth=0,
        label="± one standard error",
    )
    top = float(np.nanmax(curve.absorption)) or 1.0
    axes.set_ylim(-0.02 * top, 1.25 * top)
    _draw_sticks(axes, data, top)
    _name_bands(axes, data, top)
    axes.set_xlim(float(curve.wavenumbers[-1]), float(curve.wavenumbers[0]))
    axes.set_xlabel("wavenumber / cm$^{-1}$")
    axes.set_ylabel("absorption / (km mol$^{-1}$ cm)")
    axes.legend(frameon=False, fontsize=9, loc="upper center", ncols=3)
    return figure


def _draw_sticks(axes: Axes, data: ReportData, top: float) -> None:
    """The engine's harmonic lines (else the model's), scaled so that the strongest is half as high as the curve."""
    if not data.sticks:
        return
    sticks = data.sticks[0]
    shown = sticks.wavenumbers > 0
    strongest = float(np.max(sticks.intensities[shown], initial=0.0)) or 1.0
    height = 0.5 * top * sticks.intensities[shown] / strongest
    axes.vlines(
        sticks.wavenumbers[shown],
        0,
        height,
        color=REFERENCE,
        linewidth=1.5,
        alpha=0.8,
        zorder=2,
        label=f"harmonic, {sticks.name} ({strongest:.0f} km/mol is the highest)",
    )


def _name_bands(axes: Axes, data: ReportData, top: float) -> None:
    """Positions of the bands above their maxima, the strongest first, none over another."""
    curve = data.spectrum
    assert curve is not None
    width = abs(float(curve.wavenumbers[-1] - curve.wavenumbers[0]))
    taken: list[float] = []
    for band in sorted(data.bands, key=lambda band: -np.nan_to_num(band.intensity_km_per_mol)):
        position = band.position_per_cm
        if (
            not np.isfinite(position)
            or any(abs(position - other) < 0.035 * width for other in taken)
            or len(taken) >= 12
        ):
            continue
        taken.append(position)
        near = np.abs(curve.wavenumbers - position) < 0.01 * width
        height = float(np.max(curve.absorption[near], initial=0.0))
        axes.annotate(
            f"{position:.0f}",
            (position, min(height, top)),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=GREY,
        )


def learning_curve_figure(data: ReportData) -> Figure:
    """Errors of the rounds' models against the number of labels, one panel a quantity, logarithmic: on the independent
    test where there is one, else on what the rounds held out."""
    rounds, test = data.learning.rounds, data.summary.test
    kinds = [kind for kind in range(len(UNITS)) if any(_positive(entry.held_out[kind]) for entry in rounds)]
    tested = any(_positive(entry.tested[kind]) for kind in kinds for entry in rounds)
    figure, axes = _figure(3.2 * max(len(kinds), 1), 3, columns=max(len(kinds), 1))
    for one, kind in zip(axes[0], kinds, strict=False):
        errors = [(entry.labels, (entry.tested if tested else entry.held_out)[kind]) for entry in rounds]
        points = [(labels, error) for labels, error in errors if error is not None and _positive(error)]
        if points:
            one.plot(*zip(*points, strict=True), "o-", color=CURVE, markersize=4, linewidth=1.3, label="rounds")
        final = None if test is None else test.errors[kind]
        if final is not None and _positive(final):
            one.axhline(final, color=REFERENCE, linewidth=1.2, linestyle="--", label=f"final model: {final:.3g}")
            one.legend(frameon=False, fontsize=9)
        one.set_yscale("log")
        one.set_title(Errors._fields[kind], fontsize=10)
        what, unit = "test RMSE" if tested else "held-out RMSE", UNITS[kind]
        one.set_ylabel(f"{what} / ({unit})" if "/" in unit else f"{what} / {unit}", fontsize=9)
        one.set_xlabel("labels", fontsize=9)
        _plain_log_ticks(one)
    return figure


def _positive(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value)) and value > 0


def _plain_log_ticks(axes: Axes) -> None:
    """Numbers such as 0.3 on a logarithmic axis, also where it spans less than a decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def parity_figure(data: ReportData) -> Figure:
    """The model against the label engine on the independent test, one panel a quantity, the errors below."""
    count = len(data.parity)
    figure, axes = _figure(3.4 * count, 4.6, columns=count, heights=(3, 1))
    for column, parity in enumerate(data.parity):
        _draw_parity(axes[0][column], axes[1][column], parity)
    return figure


def _draw_parity(above: Axes, below: Axes, parity: Parity) -> None:
    every = np.concatenate([parity.reference, parity.model])
    limits = (float(every.min()), float(every.max()))
    unit = f"({parity.unit})" if "/" in parity.unit else parity.unit
    above.plot(limits, limits, color=GREY, linewidth=0.8, zorder=1)
    above.plot(parity.reference, parity.model, ".", color=CURVE, markersize=3, alpha=0.5, rasterized=True)
    above.set_title(f"{parity.quantity}: RMSE {parity.rmse:.3g} {parity.unit}", fontsize=10)
    above.set_ylabel(f"model / {unit}", fontsize=9)
    below.axhline(0, color=GREY, linewidth=0.8)
    below.plot(
        parity.reference, parity.model - parity.reference, ".", color=CURVE, markersize=3, alpha=0.5, rasterized=True
    )
    below.set_ylabel("error", fontsize=9)
    below.set_xlabel(f"label engine / {unit}", fontsize=9)


def committee_figure(data: ReportData) -> Figure:
    """Committee spread of each atom's force against its true error, with the median error at a spread."""
    figure, ((axes,),) = _figure(4.6, 4.2)
    assert data.calibration is not None
    spread, error = data.calibration.spread, data.calibration.error
    good = (spread > 0) & (error > 0)
    axes.plot(spread[good], error[good], ".", color=CURVE, markersize=3, alpha=0.35, rasterized=True, label="an atom")
    centres, medians = binned_medians(spread[good], error[good])
    axes.plot(centres, medians, "o-", color=REFERENCE, markersize=5, linewidth=1.3, label="median error")
    if good.any():
        limits = (min(spread[good].min(), error[good].min()), max(spread[good].max(), error[good].max()))
        axes.plot(limits, limits, color=GREY, linewidth=0.8, label="error = spread")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("committee spread of the force / (kcal/mol/Å)", fontsize=9)
    axes.set_ylabel("true error of the force / (kcal/mol/Å)", fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    return figure


def binned_medians(x: FloatArray, y: FloatArray, bins: int = 8) -> tuple[FloatArray, FloatArray]:
    """Medians of x and y in groups of equal count along x: (bins,), (bins,); fewer where there are few points."""
    order = np.argsort(x)
    groups = [group for group in np.array_split(order, bins) if len(group) >= 3]
    return np.array([np.median(x[g]) for g in groups]), np.array([np.median(y[g]) for g in groups])
