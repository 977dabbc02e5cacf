"""The spectrum as a value: curve, error, bands and their metadata; CSV and flat-dictionary forms."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.spectra.bands import Band
from hpcir.storage.files import decoded, write_atomic
from hpcir.storage.provenance import origin_text
from hpcir.units import KELVIN

CSV_COLUMNS = ("wavenumber_per_cm", "absorption_km_per_mol_cm", "stderr")


@dataclass(frozen=True, repr=False)
class Spectrum:
    """An infrared absorption spectrum in absolute units.

    wavenumbers (F,) in cm-1, uniform; absorption (F,) in km/mol per cm-1 (napierian; the integral over wavenumbers
    is the band intensity in km/mol); stderr (F,) its total standard error (nan: unknown); bands; temperature kT in
    hartree (0: unknown). terms (R, F): the trajectories' contributions whose mean is `absorption`, where there are any;
    plain (F,): the plain mean beside it; weights (R, F): the curve is the sum over trajectories of weight times their
    own spectrum, and so is the contribution of every part of these (`assignment`). metadata: named facts that JSON
    can hold (settings, verdict, gains).
    """

    wavenumbers: FloatArray
    absorption: FloatArray
    stderr: FloatArray
    bands: tuple[Band, ...] = ()
    temperature: float = 0.0
    terms: FloatArray | None = None
    plain: FloatArray | None = None
    weights: FloatArray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def integral(self, lower: float, upper: float) -> float:
        """Integrated intensity in km/mol between two wavenumbers in cm-1 (the curve's linear interpolation)."""
        inside = (self.wavenumbers > lower) & (self.wavenumbers < upper)
        x = np.r_[lower, self.wavenumbers[inside], upper]
        return float(np.trapezoid(np.interp(x, self.wavenumbers, self.absorption), x))

    def plot(self, axes: Any = None, label: str = "", **style: Any) -> Any:
        """Draw curve and error band (one standard error) on matplotlib axes, and return them.

        Without axes a new figure of pyplot is made, which a notebook shows.
        """
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
        (line,) = axes.plot(self.wavenumbers, self.absorption, label=label or None, **style)
        error = np.nan_to_num(self.stderr)
        axes.fill_between(
            self.wavenumbers,
            self.absorption - error,
            self.absorption + error,
            color=line.get_color(),
            alpha=0.3,
            linewidth=0,
        )
        axes.set_xlabel("wavenumber / cm$^{-1}$")
        axes.set_ylabel("absorption / (km mol$^{-1}$ cm)")
        axes.set_xlim(self.wavenumbers[-1], self.wavenumbers[0])
        return axes

    def __repr__(self) -> str:
        low, high = self.wavenumbers[0], self.wavenumbers[-1]
        head = f"infrared spectrum, {low:.0f} to {high:.0f} cm-1, {self.integral(low, high):.1f} km/mol in all"
        if self.temperature:
            head += f", {self.temperature / KELVIN:.4g} K"
        verdict = [str(self.metadata["verdict"])] if self.metadata.get("verdict") else []
        return "\n  ".join([head, *(band.describe() for band in self.bands), *verdict])

    def _repr_html_(self) -> str:
        """The figure and the band table, for notebooks."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.5), layout="constrained")
        self.plot(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
        rows = "".join(
            f"<tr><td>{band.position_per_cm:.1f} &plusmn; {band.stderr_per_cm:.1f}</td>"
            f"<td>{band.intensity_km_per_mol:.2f} &plusmn; {band.stderr_km_per_mol:.2f}</td>"
            f"<td>{html.escape(band.assignment)}</td></tr>"
            for band in self.bands
        )
        verdict = html.escape(str(self.metadata.get("verdict", "")))
        svg = buffer.getvalue()
        return (
            f"{svg[svg.index('<svg') :]}<table><tr><th>position / cm<sup>-1</sup></th>"
            f"<th>intensity / (km/mol)</th><th>assignment</th></tr>{rows}</table><p>{verdict}</p>"
        )

    def to_csv(self, path: str | Path) -> None:
        """Write `CSV_COLUMNS` under a comment header with units and origin (the file is replaced in one step)."""
        header = [
            "# infrared absorption spectrum, hpcir",
            "# wavenumber_per_cm: cm-1",
            "# absorption_km_per_mol_cm: napierian molar absorption in km/mol per cm-1 "
            "(integrates over cm-1 to km/mol)",
            "# stderr: its standard error, km/mol per cm-1",
            f"# origin: {origin_text()}",
        ]
        if self.temperature:
            header.append(f"# temperature: {self.temperature / KELVIN:.6g} K")
        columns = zip(self.wavenumbers, self.absorption, self.stderr, strict=True)
        rows = [",".join(CSV_COLUMNS), *(",".join(f"{value:.10g}" for value in row) for row in columns)]
        write_atomic(Path(path), "\n".join([*header, *rows, ""]))

    @classmethod
    def from_csv(cls, path: str | Path) -> Spectrum:
        """Read what `to_csv` wrote (bands and terms are not in it). Raises InputError with file and line."""
        path = Path(path)
        try:
            lines = decoded(path.read_bytes()).split("\n")
        except OSError as error:
            raise InputError(f"the spectrum cannot be read: {error}", where=str(path)) from error
        numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
        if not numbered or tuple(numbered[0][1].strip().split(",")) != CSV_COLUMNS:
            raise InputError(
                "not a spectrum file of hpcir",
                where=str(path),
                value=numbered[0][1] if numbered else "no line",
                hint="the first line after the comments must be " + ",".join(CSV_COLUMNS),
            )
        rows = [_numbers(line, f"{path}:{number}") for number, line in numbered[1:]]
        if len(rows) < 2:
            raise InputError("the spectrum has fewer than two points", where=str(path), value=len(rows))
        columns = np.array(rows).T
        bad = np.flatnonzero(np.diff(columns[0]) <= 0)
        if len(bad):
            number, line = numbered[2 + int(bad[0])]
            raise InputError("the wavenumbers do not ascend", where=f"{path}:{number}", value=line)
        temperature = 0.0
        for line in lines:
            if line.startswith("# temperature:"):
                temperature = _temperature(line, str(path)) * KELVIN
        return cls(columns[0], columns[1], columns[2], temperature=temperature, metadata={"source": str(path)})


def _temperature(line: str, where: str) -> float:
    words = line.split(":", 1)[1].split()
    try:
        found = float(words[0])
    except (ValueError, IndexError):
        found = np.nan
    if not 0 <= found < np.inf:
        raise InputError("the temperature is not a number of kelvin", where=where, value=line.strip())
    return found


def _numbers(line: str, where: str) -> list[float]:
    fields = line.split(",")
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) != len(CSV_COLUMNS) or not np.all(np.isfinite(numbers[:2])):
        raise InputError("expected three numbers", where=where, value=line)
    return numbers
