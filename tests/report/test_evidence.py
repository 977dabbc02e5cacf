"""What the report reads from the files of a run, and the verdicts that it draws from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcir.report.data import load_report_data
from hpcir.report.figures import binned_medians
from hpcir.report.page import plot_data
from hpcir.report.verdict import findings
from hpcir.report.writing import write_report
from hpcir.storage.hdf5 import write_h5
from hpcir.study.learning.curve import StopReason
from hpcir.study.results.records import Summary
from hpcir.vibrations.levels.result import METHODS
from hpcir.vibrations.method_errors import MEASURED
from tests.report.conftest import (
    STRENGTHS,
    write_example_trust,
)


def test_reads_every_file_of_the_contract(runs: Path) -> None:
    data = load_report_data(runs / "good")
    assert data.missing == ()
    assert data.name == "methanol"
    assert data.spectrum is not None
    assert data.spectrum.wavenumbers[-1] == pytest.approx(4498)
    np.testing.assert_allclose(data.sticks[0].intensities, STRENGTHS)
    assert [parity.quantity for parity in data.parity] == ["energy", "forces", "dipole"]
    assert [entry.labels for entry in data.learning.rounds] == [40, 80, 120, 160, 200]
    assert (data.learning.reason, data.learning.stopped) == ("explored 12.0 ps", StopReason.GOAL)


def test_parity_is_in_user_units(runs: Path) -> None:
    energy, forces, dipole = load_report_data(runs / "good").parity
    assert energy.rmse == pytest.approx(0.018, rel=0.3)
    assert dipole.rmse == pytest.approx(0.009, rel=0.2)
    assert energy.reference.min() == 0  # from the lowest of the reference: the model may lie below
    assert forces.reference.shape == (1800,)


def test_calibration_is_the_norm_of_each_atoms_force(runs: Path) -> None:
    calibration = load_report_data(runs / "good").calibration
    assert calibration is not None
    assert calibration.spread.shape == (600,)
    # Errors were drawn from the spread: three components of it, on average.
    assert np.mean(calibration.error**2) == pytest.approx(np.mean(calibration.spread**2), rel=0.15)


def test_one_member_has_no_spread_to_calibrate(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    shutil.copytree(runs / "good", folder)
    with h5py.File(folder / "test.h5") as file:
        arrays = {name: (item[()], "atomic units", "") for name, item in file.items()}
    arrays["forces_spread"] = (np.zeros((100, 6, 3)), "atomic units", "")
    write_h5(folder / "test.h5", arrays, {})
    assert load_report_data(folder).calibration is None
    written = {path.name for path in write_report(folder)}
    assert "report.html" in written
    assert "committee.png" not in written


def test_evidence_is_read_from_the_files_of_the_run(runs: Path) -> None:
    data = load_report_data(runs / "good")
    assert data.atoms is not None
    assert sorted(data.atoms.symbols) == ["C", "H", "H", "H", "H", "O"]
    assert len(data.atoms.bonds) == 5
    error = next(parity for parity in data.parity if parity.quantity == "forces")
    # Each atom's error is that of a vector: over all atoms three times the mean square of a component.
    assert np.mean(data.atoms.values[0].value ** 2) == pytest.approx(3 * error.rmse**2)
    # Two atoms never stand on one place.
    x, y = data.atoms.x, data.atoms.y
    apart = np.hypot(x[:, None] - x, y[:, None] - y)[np.triu_indices(6, 1)]
    assert apart.min() > 0.1
    assert data.conservation is not None
    assert data.conservation.energy.shape == (7, 20)  # the unphysical one is not among them
    assert data.conservation.time[-1] == pytest.approx(0.2)
    assert [settled.percent[-1] for settled in data.settling] == [0.0] * len(data.settling)
    assert len(data.settling) == 5


def test_trust_map_tells_what_trajectories_met(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    shutil.copytree(runs / "good", folder)
    write_example_trust(folder)
    data = load_report_data(folder)
    assert data.atoms is not None
    assert [item.what for item in data.atoms.values] == [
        "force error in the test", "distance from the training data", "committee spread",
    ]  # fmt: skip
    np.testing.assert_allclose(data.atoms.values[1].value, np.arange(1.0, 7.0))
    np.testing.assert_allclose(data.atoms.values[2].value, np.arange(6.0, 0.0, -1))
    assert data.atoms.values[1].details[5] == "G2 to H, eta 2.0 A^-2: 7 % outside its range"
    assert [row.name for row in data.trust] == ["X6", "X5", "X4", "X3", "X2", "X1"]
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "The environment farthest from the training data is that of &lt;X6&gt;." in page
    assert page.count("One minimum does not represent the ensemble: 12 % of the frames.") == 2  # verdicts, and plot
    assert "G2 to H, eta 2.0 A^-2 (by 7 %)" in page
    # Of a molecule too large to be labelled whole this is all that is known.
    (folder / "test.h5").unlink()
    found = load_report_data(folder).atoms
    assert found is not None
    assert found.values[0].what == "distance from the training data"


def test_a_damaged_trust_map_is_no_reason_to_fail(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(runs / "good", folder)
    for content in ("{", '{"atoms": [{"name": "C1"}]}', '{"atoms": 3}', '{"atoms": [{"atom": 0, "excess": "x"}]}'):
        (folder / "trust.json").write_text(content)
        data = load_report_data(folder)
        assert data.atoms is not None
        assert len(data.atoms.values) == 1


def test_a_damaged_file_is_named_and_the_rest_shown(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(runs / "good", folder)
    (folder / "test.h5").write_bytes(b"\x89HDF" + bytes(100))
    (folder / "models/learning_curve.json").write_text('{"rounds": [')
    data = load_report_data(folder)
    assert any("test.h5" in what for what in data.missing)
    assert any("learning_curve.json" in what for what in data.missing)
    assert data.spectrum is not None
    assert len(write_report(folder)) == 2


def test_verdicts_go_by_their_figures(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "poor"
    shutil.copytree(runs / "good", folder)
    summary = json.loads((folder / "summary.json").read_text())
    summary["test"]["force_rmse_kcal_per_mol_angstrom"] = 4.0
    summary["bands"][0]["stderr_km_per_mol"] = 50.0
    (folder / "summary.json").write_text(json.dumps(summary))
    good = {item.what: item.good for item in findings(load_report_data(runs / "good"))}
    poor = {item.what: item.good for item in findings(load_report_data(folder))}
    assert all(good.values())
    assert {what for what, verdict in poor.items() if not verdict} == {"Potential", "Error bars"}


def test_binned_medians_of_a_line() -> None:
    x = np.linspace(1, 9, 90)
    centres, medians = binned_medians(x[::-1], 2 * x[::-1])
    np.testing.assert_allclose(medians, 2 * centres)
    assert np.all(np.diff(centres) > 0)


def test_a_damaged_summary_is_named_with_the_place(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "summary"
    shutil.copytree(runs / "good", folder)
    summary = json.loads((folder / "summary.json").read_text())
    summary["bands"][1]["stderr_per_cm"] = "wide"
    (folder / "summary.json").write_text(json.dumps(summary))
    data = load_report_data(folder)
    (said,) = data.missing
    assert "summary.json: bands[1]: stderr_per_cm: expected a number (found: 'wide')" in said
    assert data.summary == Summary()
    assert write_report(folder)


def test_a_limit_that_ended_sampling_is_no_good_verdict(runs: Path, tmp_path: Path) -> None:
    """By the reason that is named, never by its words; of a version that named none nothing is said."""
    folder = tmp_path / "limited"
    shutil.copytree(runs / "good", folder)
    path = folder / "models/learning_curve.json"
    content = json.loads(path.read_text())
    for stopped, good in (("label_budget", False), ("rounds", False), ("goal", True), ("nothing_new", True)):
        path.write_text(json.dumps({**content, "stopped": stopped, "reason": "no label budget in these words"}))
        verdicts = {item.what: item.good for item in findings(load_report_data(folder))}
        assert verdicts["Sampling"] is good
    path.write_text(json.dumps({"rounds": content["rounds"], "reason": "the label budget of 10 is spent"}))
    verdicts = {item.what: item.good for item in findings(load_report_data(folder))}
    assert verdicts["Sampling"] is None


def test_methods_stand_side_by_side_with_the_experiment(runs: Path, tmp_path: Path) -> None:
    """Levels with error bars, in the plot and in the table; the experiment of a comparison beside the run."""
    folder = tmp_path / "beside"
    shutil.copytree(runs / "hostile", folder)
    summary = json.loads((folder / "summary.json").read_text())
    place = 0.96 * 2850.0
    mode = {"name": "CH3 <i> stretch", "harmonic_per_cm": 2850.0, "contribution_km_per_mol": 60.0}
    summary["modes"] = [{**mode, "anharmonic_per_cm": place}]
    summary["harmonic"] = {"engine_wavenumbers_per_cm": [2860.0], "model_wavenumbers_per_cm": [2850.0]}
    level = {"name": "v1", "motion": "", "wavenumber_per_cm": 2701.0, "stderr_per_cm": 4.2, "harmonic_per_cm": 2850.0}
    level |= {"intensity_km_per_mol": 55.0, "stderr_km_per_mol": 1.0}
    summary["levels"] = {"method": METHODS["perturbation"], "zero_point_per_cm": 9000.0, "fundamentals": [level]}
    (folder / "summary.json").write_text(json.dumps(summary))
    data = load_report_data(folder)
    assert data.sticks[-1].stderr is not None
    np.testing.assert_allclose(data.sticks[-1].stderr, [4.2])
    assert plot_data(data)["sticks"][-1]["error"] == [4.2]  # type: ignore[index]
    page = write_report(folder)[-1].read_text(encoding="utf-8")
    assert "Methods side by side" in page
    assert '2701.0 <span class="error">± 4.2</span>' in page
    assert "level of theory" in page
    row = {"trajectories": {"wavenumber_per_cm": place}, "experiment_per_cm": 2844.0}
    comparison = {"experiment": "reference", "reference": "nist<b>.jdx", "spectrum": "x", "side_by_side": [row]}
    (folder / "comparison.json").write_text(json.dumps(comparison))
    page = write_report(folder)[-1].read_text(encoding="utf-8")
    assert "Methods side by side, with nist&lt;b&gt;.jdx" in page
    rest = 2701.0 - MEASURED["perturbation"]["stretch with hydrogen"].mean_per_cm - 2844.0
    assert f"<td>2844.0</td><td>{rest:+.1f} <span" in page
    (folder / "comparison.json").write_text("{")
    assert any("comparison" in what for what in load_report_data(folder).missing)
