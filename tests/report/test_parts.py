"""Contributions as the report reads them."""

import json

import numpy as np

from hpcir.report.parts import contributions, summed
from hpcir.runtime.progress import figure_text, number_text
from hpcir.storage.hdf5 import write_h5


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


def test_curves_of_one_name_are_one_and_small_ones_go_together():
    curves = np.array([[1.0, 2.0], [0.1, -0.1], [3.0, 0.0], [0.0, 0.2], [5.0, 5.0]])
    names = ("a", "b", "a", "c", "d")
    found = summed(names, curves, 3)
    assert list(found) == ["a", "d", "the rest"]
    np.testing.assert_allclose(found["a"], [4, 2])
    np.testing.assert_allclose(sum(found.values()), curves.sum(0))
    assert list(summed(names, curves, 4)) == ["a", "b", "c", "d"]


def test_a_run_without_parts_has_none(tmp_path):
    assert contributions(tmp_path) is None
    (tmp_path / "spectrum.h5").write_bytes(b"not HDF5")
    assert contributions(tmp_path) is None


def test_figures_are_written_as_people_write_them():
    assert figure_text("microseconds_per_step", 2651.4) == "time 2.65 ms/step"
    assert figure_text("label_microseconds_per_step", 2651.4) == "label 2.65 ms/step"
    assert figure_text("md_microseconds_per_step", 12.34) == "md 12.3 µs/step"
    assert figure_text("force_rmse_kcal_per_mol_angstrom", 0.3123) == "force RMSE 0.312 kcal/mol/Å"
    assert figure_text("seconds", 41.26) == "time 41.3 s"
    assert number_text(999.7) == "1000"
    assert number_text(1234567.8) == "1 234 568"
    assert number_text(2e-5) == "2e-05"
    assert number_text(float("nan")) == "nan"
    assert number_text(True) == "True"
