"""The figures of a run that are recorded: few enough to keep beside the code, and together fixed by all of its results.

Words and counts are kept as they are. Of every list of numbers and of every array two numbers are kept: its norm, and
its scalar product with a fixed vector of cosines, which tells arrays apart whose elements have changed places.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.frozen.comparison import values_of

Figures = dict[str, Any]

# What is recorded, of the names that `values_of` gives.
RECORDED = re.compile(
    r"""
    ^summary\.json:(labels|sampling|model/held_out)/
    | summary\.json:(harmonic|test|md|spectrum|ensemble)/
    | summary\.json:(bands|isotopologues)/.*(position|stderr|intensity)_
    | summary\.json:modes/\d+/(anharmonic|contribution)_
    | families\.json:families/
    | learning_curve\.json:rounds/
    | (labels|model|pretrained)\.h5:
    | (test|spectrum[^/]*)\.h5:(.*_model|forces_spread|absorption|stderr)$
    | trajectories/[^/]*-00000\.h5:(start_positions|dipoles)$
    """,
    re.VERBOSE,
)
# Prose; arrays whose signs are free; what other figures tell already.
LEFT_OUT = re.compile(
    r"""
    verdict|stopped_because|assignment|local_frequencies|variance_gain|member|/name$|length$|@|symmetry_functions
    | ^targets/.*/models/
    """,
    re.VERBOSE,
)
# Arrays that are recorded together.
TOGETHER = (re.compile(r"(\.h5:(energy|charge))/\d+/.*"), r"\1")
DIGITS = 12


def figures(run: Path) -> Figures:
    """The recorded figures of a run directory by name: counts, words, and (norm, product) of numbers."""
    found: Figures = {}
    numbers: dict[str, list[float]] = {}
    for name, value in values_of(run).items():
        if value is None or not RECORDED.search(name) or LEFT_OUT.search(name):
            continue
        if isinstance(value, np.ndarray):
            numbers.setdefault(re.sub(*TOGETHER, name), []).extend(value.ravel().astype(float).tolist())
        elif isinstance(value, float) or (re.search(r"/\d+(/|$)", name) and not isinstance(value, str)):
            numbers.setdefault(re.sub(r"/\d+(?=/|$)", "/*", name), []).append(value)
        else:
            found[name] = value
    return found | {name: _norm_and_product(values) for name, values in numbers.items()}


def deviations(recorded: Figures, found: Figures) -> Iterator[tuple[str, float]]:
    """By how much each recorded figure differs now, relative to its norm; infinite where a count or word differs or a
    figure is missing. Figures that are not recorded are passed over: results may be added to."""
    for name, old in recorded.items():
        new = found.get(name)
        if not isinstance(old, list) or not isinstance(new, list):
            yield name, 0.0 if old == new else math.inf
        elif old[0] == new[0] == 0.0:
            yield name, 0.0
        elif old[2] != new[2]:
            yield name, math.inf
        else:
            yield name, max(abs(a - b) for a, b in zip(old[:2], new[:2], strict=True)) / abs(old[0] or new[0])


def _norm_and_product(values: list[float]) -> list[float]:
    """[norm, product with cosines, number of values]; what is not a number counts in the last alone."""
    array = np.asarray(values, float)
    finite = np.isfinite(array)
    array = np.where(finite, array, 0.0)
    product = float(array @ np.cos(np.arange(len(array))))
    return [*(float(f"{value:.{DIGITS}g}") for value in (np.linalg.norm(array), product)), int(finite.sum())]
