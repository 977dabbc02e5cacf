"""Spectra from files laid over the curve of the page, in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcir.report.data import load_report_data
from tests.report.browser import SPECTRUM, opened, wait_for
from tests.report.conftest import (
    lorentzians,
)


def overlay_of(browser: Any, path: Path) -> dict[str, Any]:
    browser.find_element("id", "overlay").send_keys(str(path))
    wait_for(browser, f"return document.getElementById('overlay-word').textContent.startsWith({json.dumps(path.name)})")
    word = browser.execute_script("return document.getElementById('overlay-word').textContent")
    assert "cannot" not in word, word
    script = f"const t = {SPECTRUM}.data.at(-1); return {{x: t.x, y: t.y}}"
    return dict(browser.execute_script(script))


def test_overlay_of_a_csv_file_has_the_area_of_the_curve(browser: Any, runs: Path, tmp_path: Path) -> None:
    x = np.arange(500.0, 4000.0, 5.0)
    path = tmp_path / "experiment.csv"
    path.write_text(
        "wavenumber,absorbance\n"
        + "".join(f"{a:.1f},{0.01 * b:.6f}\n" for a, b in zip(x, lorentzians(x, 12), strict=True))
    )
    opened(browser, runs / "good/report.html")
    drawn = overlay_of(browser, path)
    curve = load_report_data(runs / "good").spectrum
    assert curve is not None
    inside = (curve.wavenumbers >= 500) & (curve.wavenumbers <= 3995)
    own = np.trapezoid(curve.absorption[inside], curve.wavenumbers[inside])
    assert np.trapezoid(drawn["y"], drawn["x"]) == pytest.approx(own, rel=0.01)
    browser.find_element("id", "overlay-remove").click()
    wait_for(browser, f"return {SPECTRUM}.data.every(t => t.name !== 'experiment.csv')")


def test_overlay_of_jcamp_in_transmittance(browser: Any, runs: Path, tmp_path: Path) -> None:
    x = np.arange(4000.0, 600.0, -4.0)
    absorbance = 0.02 * lorentzians(x, 12)
    values = np.round(1e4 * 10**-absorbance).astype(int)
    rows = [f"{x[i]:.0f} " + " ".join(map(str, values[i : i + 10])) for i in range(0, len(x), 10)]
    path = tmp_path / "experiment.jdx"
    path.write_text(
        "##TITLE=methanol $$ gas\n##JCAMP-DX=4.24\n##XUNITS=1/CM\n##YUNITS=TRANSMITTANCE\n"
        "##XFACTOR=1\n##YFACTOR=0.0001\n"
        f"##FIRSTX={x[0]}\n##LASTX={x[-1]}\n##NPOINTS={len(x)}\n##DELTAX=-4\n##XYDATA=(X++(Y..Y))\n"
        + "\n".join(rows)
        + "\n##END=\n"
    )
    opened(browser, runs / "good/report.html")
    drawn = overlay_of(browser, path)
    y = np.array(drawn["y"])
    np.testing.assert_allclose(drawn["x"], x[::-1])
    np.testing.assert_allclose(y / y.max(), absorbance[::-1] / absorbance.max(), atol=2e-3)


def test_a_file_that_is_no_spectrum_is_refused_in_words(browser: Any, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    opened(browser, runs / "good/report.html")
    browser.find_element("id", "overlay").send_keys(str(path))
    wait_for(browser, "return document.getElementById('overlay-word').textContent.includes('cannot be read')")
