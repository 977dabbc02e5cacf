"""Results as JSON files: numbers that JSON lacks become null, and each file states its origin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hpcir.storage.files import write_atomic
from hpcir.storage.provenance import origin


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a result with its `origin`, in one step. Raises RunStopped when that fails."""
    write_atomic(path, json.dumps(finite({**content, "origin": origin()}), indent=1))


def finite(value: object) -> object:
    """Replace numbers that are not finite by null, which JSON has, and arrays by lists."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
