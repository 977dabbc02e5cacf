"""The report as it is written: page, figures, tables, and a run as an object of Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hpcir
from hpcir.errors import InputError
from hpcir.molecules.strings import from_smiles
from hpcir.molecules.structures import Structure
from hpcir.report.data import ReportData, load_report_data
from hpcir.report.evidence import HarmonicRow
from hpcir.report.molecules import understood
from hpcir.report.page import render
from hpcir.report.tables import mode_table
from hpcir.report.writing import write_report
from hpcir.study.results.records import ModeRow
from tests.report.conftest import (
    HOSTILE,
    example_run,
)

WATER = np.array([[0.0, 0.0, 0.22], [0.0, 1.43, -0.89], [0.0, -1.43, -0.89]])


def test_a_run_is_an_object_that_prints_and_draws(runs: Path) -> None:
    run = hpcir.open_run(runs / "hostile")
    assert run.name == HOSTILE
    assert run.summary.labels is not None
    assert run.summary.labels.count == 240
    assert run.spectrum.bands
    text = repr(run)
    assert "Forces are off by 0.31" in text
    page = run._repr_html_()
    assert "<svg" in page
    assert "<img" not in page
    assert "<script" not in page
    half = hpcir.open_run(runs / "half")
    assert "not available: the spectrum" in repr(half)
    assert "<svg" not in half._repr_html_()
    with pytest.raises(InputError, match="no spectrum"):
        half.plot()


def test_modes_are_where_the_trajectories_have_them() -> None:
    rows = [HarmonicRow(1050.0, 1049.96, 10.0, 11.0), HarmonicRow(3000.0, 3004.0, 20.0, 21.0)]
    modes = [ModeRow("C-O <stretch>", anharmonic_per_cm=1031.26, stderr_per_cm=0.84), ModeRow("C-H stretch")]
    table = mode_table(rows, modes)
    assert '<th scope="row">C-O &lt;stretch&gt;</th>' in table
    assert '1031.3 <span class="error">± 0.8</span>' in table
    assert "+0.0" in mode_table([HarmonicRow(1050.0, 1049.96, None, None)])  # never -0.0
    assert "in motion" not in mode_table(rows)


def test_the_page_shows_the_structure_as_understood() -> None:
    pytest.importorskip("rdkit")
    ion = from_smiles("[2H]OCC(=O)[O-]", "glycolate").structure
    page = render(ReportData(name="glycolate", start=ion))
    assert "<h2>Structure of glycolate, as understood</h2>" in page
    assert 'alt="[2H]OCC(=O)[O-]"' in page
    assert "are D (2.01" in page
    cluster = replace(ion, positions=ion.positions + 100.0)
    pair = Structure(np.r_[ion.numbers, [8, 1, 1]], np.concatenate([cluster.positions, WATER]), charge=-1)
    assert "C2H3O3, H2O" in understood(ReportData(name="pair", start=pair))
    assert understood(ReportData(name="nothing")) == ""


def test_half_a_run_gives_a_report_that_says_so(runs: Path) -> None:
    data = load_report_data(runs / "half")
    assert any("spectrum.csv" in what for what in data.missing)
    assert any("test.h5" in what for what in data.missing)
    page = (runs / "half/report.html").read_text(encoding="utf-8")
    assert "Not available:" in page
    assert not (runs / "half/figures/spectrum.png").exists()
    assert (runs / "half/figures/learning_curve.png").stat().st_size > 5000


@pytest.mark.filterwarnings("error:constrained_layout not applied")
def test_a_long_name_leaves_room_for_the_curve(tmp_path: Path) -> None:
    """Matplotlib warns where a legend leaves nothing for the axes."""
    folder = example_run(tmp_path / "long", "x" * 300)
    assert (folder / "figures/spectrum.png") in write_report(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        write_report(tmp_path)


def test_no_network_and_no_markup_from_users(runs: Path) -> None:
    page = (runs / "hostile/report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "<script>document.title" not in page
    assert "default-src 'none'" in page  # the browser itself refuses any request
    assert 'src="http' not in page
    assert "<link" not in page
