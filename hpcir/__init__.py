"""hpcir: infrared spectra of molecules from machine-learned molecular dynamics."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hpcir.models.model import Model

try:
    __version__ = version("hpcir")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def load(model_dir: str | Path) -> Model:
    """The trained model in a model directory (or a run directory, or a model file)."""
    from hpcir.models.model import Model

    return Model.load(model_dir)


__all__ = ["__version__", "load"]
