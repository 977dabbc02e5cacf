"""The comparison of run directories sees every change of a result, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.frozen.comparison import differences
from tests.frozen.recording import deviations, figures

SUMMARY = {
    "labels": {"level": "HF", "count": 5, "seconds": 1.0, "by_purpose": {"round 0": 5}},
    "harmonic": {"mae_per_cm": None, "model_wavenumbers_per_cm": [100.0, 200.0, 300.0]},
    "spectrum": {"verdict": "good", "total_intensity_km_per_mol": math.nan},
    "provenance": {"git_commit": "a"},
}


def write(run: Path, summary: dict, energy: list[float], seconds: float = 1.0) -> Path:
    run.mkdir()
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "manifest.json").write_text(json.dumps({"seconds": seconds}))
    (run / "spectrum.csv").write_text(f"# origin: {seconds}\n1,2\n")
    with h5py.File(run / "labels.h5", "w") as file:
        file.attrs["group_0000.level"] = "HF"
        group = file.create_group("group_0000")
        group["numbers"] = np.array([8, 1, 1])
        group["energy"] = np.array(energy)
        group["seconds"] = np.full(len(energy), seconds)
        group["purpose"] = np.array(["round 0"] * 5 + ["later"] * (len(energy) - 5), dtype="S32")
    return run


@pytest.fixture
def old(tmp_path):
    return write(tmp_path / "old", SUMMARY, [1.0, 2.0, 3.0, 4.0, 5.0])


def test_times_additions_and_labels_for_a_new_purpose_are_no_difference(old, tmp_path):
    summary = json.loads(json.dumps(SUMMARY))
    summary["labels"] |= {"count": 6, "seconds": 2.0}
    summary["labels"]["by_purpose"]["later"] = 1
    summary["harmonic"] |= {"mae_per_cm": 3.0, "engine_wavenumbers_per_cm": [1.0]}
    summary["provenance"]["git_commit"] = "b"
    new = write(tmp_path / "new", summary, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], seconds=2.0)
    assert differences(old, new) == ([], [])
    assert set(dict(deviations(figures(old), figures(new))).values()) == {0.0}


def test_a_last_bit_a_missing_key_and_a_word_are_differences(old, tmp_path):
    summary = json.loads(json.dumps(SUMMARY))
    summary["spectrum"] = {"verdict": "bad"}
    new = write(tmp_path / "new", summary, [1.0, 2.0, 3.0, 4.0, np.nextafter(5.0, 6.0)])
    numbers, words = differences(old, new)
    assert [line.split(": ")[0] for line in numbers] == [
        "labels.h5:HF/1x2-8x1/round 0/energy",
        "summary.json:spectrum/total_intensity_km_per_mol",
    ]
    assert words == ["summary.json:spectrum/verdict: 'good' became 'bad'"]


def test_deviations_are_relative_and_see_elements_that_changed_places(old, tmp_path):
    summary = json.loads(json.dumps(SUMMARY))
    summary["harmonic"]["model_wavenumbers_per_cm"] = [100.0, 300.0, 200.0]
    new = write(tmp_path / "new", summary, [1.0 + 1e-6, 2.0, 3.0, 4.0, 5.0])
    found = dict(deviations(figures(old), figures(new)))
    assert found["summary.json:harmonic/model_wavenumbers_per_cm/*"] > 0.1
    assert found["labels.h5:HF/1x2-8x1/round 0/energy"] == pytest.approx(1e-6 / np.sqrt(55), rel=1e-3)
    assert found["summary.json:labels/by_purpose/round 0"] == 0.0
