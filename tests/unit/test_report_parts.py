"""Contributions as the report reads them."""

import json

import numpy as np

from hpcir.report.parts import contributions
from hpcir.store import write_h5


def test_contributions_come_back_with_their_names(tmp_path):
    grid = np.linspace(0, 100, 11)
    parts = np.arange(22.0).reshape(2, 11)
    arrays = {
        "wavenumbers": (grid, "cm-1", "wavenumber"),
        "mode_contributions": (parts, "km/mol cm", "part,wavenumber"),
    }
    write_h5(tmp_path / "spectrum.h5", arrays, {"parts": json.dumps({"modes": ["O-H stretch", "rest"]})})
    found = contributions(tmp_path)
    assert found is not None
    assert found.mode_names == ("O-H stretch", "rest")
    assert np.array_equal(found.modes, parts)
    assert found.groups.shape == (0, 11)


def test_a_run_without_parts_has_none(tmp_path):
    assert contributions(tmp_path) is None
    (tmp_path / "spectrum.h5").write_bytes(b"not HDF5")
    assert contributions(tmp_path) is None
