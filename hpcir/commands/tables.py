"""Band tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcir.spectra.bands import Band

# Least width of a table that is written to a file, characters.
MIN_WIDTH = 110


def print_bands(bands: Sequence[Band], title: str) -> None:
    """The bands with their standard errors, as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("position, cm-1", "intensity, km/mol"):
        table.add_column(name, justify="right")
    table.add_column("limits, cm-1", justify="right")
    assigned = any(band.assignment for band in bands)
    if assigned:
        table.add_column("assignment")
    for band in bands:
        row = [
            with_error(band.position_per_cm, band.stderr_per_cm, 1),
            with_error(band.intensity_km_per_mol, band.stderr_km_per_mol, 2),
            f"{band.lower_per_cm:.0f} to {band.upper_per_cm:.0f}",
        ]
        table.add_row(*row, *([band.assignment] if assigned else []))
    console = Console()
    console = console if console.is_terminal else Console(width=MIN_WIDTH)  # a file has no width of its own
    console.print(table, markup=False)


def with_error(value: float, error: float, digits: int) -> str:
    """'1034.2 +- 0.4', or the value alone where its error is unknown."""
    text = f"{value:.{digits}f}"
    return f"{text} +- {error:.{digits}f}" if np.isfinite(error) else text
