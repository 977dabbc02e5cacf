"""The report's page in a browser: curves, tables, contributions, hostile names, several molecules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcir.report.data import load_report_data
from hpcir.report.writing import write_report
from tests.report.browser import SPECTRUM, opened, visible_range, wait_for
from tests.report.conftest import (
    HOSTILE,
    write_example_trust,
)


def test_page_draws_every_plot_without_a_request(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    drawn = browser.execute_script("return [...document.querySelectorAll('.js-plotly-plot')].map(p => p.data.length)")
    assert len(drawn) == 9  # spectrum, three parities, atoms, committee, learning curve, bands, energy
    points = browser.execute_script(f"return {SPECTRUM}.data.find(t => t.name === 'methanol').x.length")
    assert points == 2250
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith(("file:", "data:", "blob:"))} == set()


def test_axis_runs_from_high_to_low_and_zoom_works(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    first, last = browser.execute_script(f"return {SPECTRUM}._fullLayout.xaxis.range")
    assert first > last
    from selenium.webdriver import ActionChains

    area = browser.find_element("css selector", "#plot-spectrum .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser).move_to_element_with_offset(area, -100, 0).click_and_hold().move_by_offset(
        200, 10
    ).release().perform()
    wait_for(browser, f"const r = {SPECTRUM}._fullLayout.xaxis.range; return Math.abs(r[0] - r[1]) < 2500")
    zoomed = browser.execute_script(f"return {SPECTRUM}._fullLayout.xaxis.range")
    browser.execute_script("document.getElementById('show-error').click()")
    kept = browser.execute_script(f"return {SPECTRUM}._fullLayout.xaxis.range")
    np.testing.assert_allclose(kept, zoomed)  # another choice of curves keeps the zoom


def test_a_band_of_the_table_is_shown_and_the_whole_again(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    full = visible_range(browser)
    row = browser.find_element("css selector", "#bands tbody tr[data-low]")
    low = float(row.get_attribute("data-low"))
    browser.execute_script("arguments[0].click()", row)
    high, first = visible_range(browser)
    assert first < low < high
    assert high - first == pytest.approx(160)
    assert browser.execute_script(f"return {SPECTRUM}.layout.annotations.length") >= 1
    browser.execute_script("document.querySelector('.ranges button').click()")
    assert visible_range(browser) == full


def test_wavenumber_factor_and_decadic_coefficient(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    script = f"const t = {SPECTRUM}.data.find(t => t.name === 'methanol'); return [t.x.at(-1), Math.max(...t.y)]"
    last, top = browser.execute_script(script)
    change = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(change, "factor", "0.96")
    browser.execute_script(change, "unit", "epsilon")
    scaled, coefficient = browser.execute_script(script)
    assert scaled == pytest.approx(0.96 * last)
    # 1 km/mol per cm-1 is 1e5 cm2/mol, 100 L/(mol cm) napierian, and decadic by 1/ln 10.
    assert coefficient == pytest.approx(100 / np.log(10) * top, rel=1e-6)


def test_band_table_sorts(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    column = "return [...document.querySelectorAll('#bands tbody tr')].map(r => Number(r.cells[1].dataset.value))"
    button = browser.find_element("css selector", "#bands th:nth-child(2) button")
    button.click()
    values = browser.execute_script(column)
    assert values == sorted(values)
    button.click()
    assert browser.execute_script(column) == sorted(values, reverse=True)


def test_atoms_are_coloured_by_what_is_chosen(browser: Any, runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trusted"
    shutil.copytree(runs / "good", folder)
    write_example_trust(folder)
    write_report(folder)
    opened(browser, folder / "report.html")
    colours = "return document.getElementById('plot-atoms').data[1].marker.color"
    first = browser.execute_script(colours)
    browser.execute_script(
        "const s = document.getElementById('atoms-value'); s.value = '1'; s.dispatchEvent(new Event('change'));"
    )
    assert browser.execute_script(colours) == pytest.approx([1, 2, 3, 4, 5, 6])
    assert first != pytest.approx([1, 2, 3, 4, 5, 6])
    assert "usual distances" in browser.find_element("id", "atoms-word").text


def test_a_hostile_name_stays_text(browser: Any, runs: Path) -> None:
    opened(browser, runs / "hostile/report.html")
    assert browser.title == f"{' '.join(HOSTILE.split())}: infrared spectrum"
    assert browser.execute_script("return document.images.length") == 0
    assert browser.find_element("tag name", "h1").text == HOSTILE


def test_half_a_run_hides_empty_plots(browser: Any, runs: Path) -> None:
    opened(browser, runs / "half/report.html")
    assert browser.execute_script("return document.getElementById('plot-parity').closest('.card').hidden")
    assert browser.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == 2
    assert browser.execute_script("return document.getElementById('plot-atoms').closest('.card').hidden")


def test_contributions_are_drawn_and_add_up(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    assert browser.execute_script("return document.getElementById('parts').options.length") == 3
    before = browser.execute_script(f"return {SPECTRUM}.data.length")
    browser.execute_script(
        "const s = document.getElementById('parts'); s.value = 'groups'; s.dispatchEvent(new Event('change'));"
    )
    drawn = f"return {SPECTRUM}.data.filter(t => ['CH3', 'OH &lt;b&gt;'].includes(t.name))"
    traces = browser.execute_script(f"{drawn}.map(t => ({{y: t.y}}))")
    assert browser.execute_script(f"return {SPECTRUM}.data.length") == before + 2
    curve = load_report_data(runs / "good").parts
    assert curve is not None
    np.testing.assert_allclose(np.sum([t["y"] for t in traces], axis=0), curve.groups.sum(0), rtol=1e-3)
    opened(browser, runs / "half/report.html")  # without parts there is nothing to choose
    assert browser.execute_script("return getComputedStyle(document.getElementById('parts-label')).display") == "none"


def test_page_of_several_molecules(browser: Any, runs: Path) -> None:
    opened(browser, runs / "series/report.html")
    assert browser.find_element("tag name", "h1").text == "methanol, <b>ethanol"
    rows = browser.find_elements("css selector", "#molecules tbody tr")
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#molecules .columns tbody tr')].map(r => r.innerText)"
    )
    assert len(rows) >= 2
    assert "0.31" in shown[0]
    assert "0.5" in shown[1]
    links = browser.execute_script("return [...document.querySelectorAll('#molecules a')].map(a => a.href)")
    assert [link.rsplit("/targets/", 1)[1] for link in links] == ["methanol/report.html", "%3Cb%3Eethanol/report.html"]
    # The first molecule's own evidence, and nothing missing.
    assert browser.execute_script("return document.querySelectorAll('#plot-parity .js-plotly-plot').length") == 3
    assert browser.execute_script("return document.querySelectorAll('aside.note').length") == 0
    # Bands of the others are there; their rows do not zoom a curve that they are not of.
    assert browser.execute_script("return document.querySelectorAll('#molecules details tr[data-low]').length") == 0
    assert browser.execute_script("return document.querySelectorAll('#molecules details tbody tr').length") == 3
