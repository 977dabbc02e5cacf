"""Results as JSON files: what JSON does not know becomes null, and each says where it comes from."""

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
    """JSON knows no NaN: such numbers become null, arrays lists."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
