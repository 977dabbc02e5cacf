"""hpcir: infrared spectra of molecules from machine-learned molecular dynamics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcir.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from hpcir.exchange.potentials import StoredPotential
    from hpcir.report.run import Run


def load(model_dir: str | Path) -> StoredPotential:
    """The trained model in a model directory, a run directory or a model file, or the potential in n2p2's files."""
    from hpcir.exchange.potentials import load_potential

    return load_potential(model_dir)


def open_run(directory: str | Path) -> Run:
    """A run directory as an object: its spectrum, model, labels and summary; it prints and draws what was found."""
    from hpcir.report.run import Run

    return Run(directory)


__all__ = ["__version__", "load", "open_run"]
