"""A run directory as one object for notebooks and scripts, which prints and draws the results."""

from __future__ import annotations

from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcir.exchange.datasets import Dataset
from hpcir.exchange.potentials import StoredPotential, load_potential
from hpcir.exchange.reading import read_dataset
from hpcir.report.data import ReportData, load_report_data
from hpcir.report.tables import SIGNS
from hpcir.report.verdict import findings
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.study.results.records import Summary
from hpcir.study.results.spectrum_files import read_spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Run:
    """The results of `hpcir run` in a directory, read on demand. Raises InputError when it is not a run directory,
    and for a part that does not exist yet.

    `spectrum`, `model` and `labels` are the objects of the other packages; `summary` is summary.json.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._data: ReportData = load_report_data(self.directory)

    @property
    def name(self) -> str:
        """The molecule's name."""
        return self._data.name

    @property
    def summary(self) -> Summary:
        """The content of summary.json, such as `run.summary.labels.count`; empty before the run has ended."""
        return self._data.summary

    @cached_property
    def spectrum(self) -> Spectrum:
        """The spectrum with bands, errors and the trajectories' terms."""
        return read_spectrum(self.directory).spectrum

    @cached_property
    def model(self) -> StoredPotential:
        """The trained model."""
        return load_potential(self.directory)

    @cached_property
    def labels(self) -> Dataset:
        """Every label, in atomic units."""
        return read_dataset(self.directory / layout.LABELS)

    def plot(self, axes: Axes | None = None, **style: Any) -> Axes:
        """Draw the spectrum, see `Spectrum.plot`."""
        drawn: Axes = self.spectrum.plot(axes, **{"label": self.name, **style})
        return drawn

    def verdicts(self) -> list[tuple[str, str]]:
        """The verdicts on the spectrum: a sign (✓ good, ! needs attention, · note) and a sentence each."""
        return [(SIGNS[item.good][1], f"{item.what}. {item.text}") for item in findings(self._data)]

    def __repr__(self) -> str:
        lines = [f"hpcir run of {self._data.title} in {self.directory}"]
        lines += [f"  {sign} {text}" for sign, text in self.verdicts()]
        lines += [f"  not available: {what}" for what in self._data.missing]
        if self._data.spectrum is not None:
            lines += [f"  {band.describe()}" for band in self.spectrum.bands]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The verdicts, and the spectrum with its bands."""
        items = [f"<li>{sign} {escape(text)}</li>" for sign, text in self.verdicts()]
        items += [f"<li>not available: {escape(what)}</li>" for what in self._data.missing]
        curve = self.spectrum._repr_html_() if self._data.spectrum is not None else ""
        return f"<h3>{escape(self._data.title)}</h3><ul style='list-style:none'>{''.join(items)}</ul>{curve}"
