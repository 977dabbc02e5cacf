"""The files of a report: figures and the page."""

from __future__ import annotations

from pathlib import Path

from hpcir.report.data import load_report_data
from hpcir.report.figures import write_figures
from hpcir.report.page import write_page
from hpcir.storage import layout


def write_report(run_dir: str | Path) -> list[Path]:
    """Draw `figures/*.png` and `report.html` into a run directory; returns the files written.

    Parts that the run has not reached are left out, and the page says so. Raises InputError when the folder is not a
    run directory, RunStopped when it cannot be written.
    """
    folder = Path(run_dir)
    data = load_report_data(folder)
    figures = write_figures(data, folder / layout.FIGURES)
    return [*figures, write_page(data, folder / layout.REPORT, figures)]
