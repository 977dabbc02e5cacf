"""The page on a dark screen, on a phone and on paper, in a browser."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import SPECTRUM, opened, wait_for


def test_dark_theme(browser: Any, runs: Path) -> None:
    opened(browser, runs / "good/report.html")
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(ground)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(ground) != before


@pytest.mark.parametrize("name", ["good", "hostile", "half", "series"])
def test_a_phone_scrolls_down_only(browser: Any, runs: Path, name: str) -> None:
    """390 px wide, everything unfolded: nothing stands out at the right but what scrolls by itself."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(browser, runs / name / "report.html")
        browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        widths = browser.execute_script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert widths == [390, 390, 390]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_plots_follow_a_phone_that_is_turned(browser: Any, runs: Path) -> None:
    """From landscape to portrait: plots take the new width, and until they have it the page is not wider than they."""
    turned = "Emulation.setDeviceMetricsOverride"
    try:
        browser.execute_cdp_cmd(turned, {"width": 844, "height": 390, "deviceScaleFactor": 2, "mobile": True})
        opened(browser, runs / "good/report.html")
        drawn = f"{SPECTRUM}.querySelector('.main-svg').getBoundingClientRect().width"
        assert browser.execute_script(f"return {drawn}") > 700
        # What plotly drew wide keeps its width for the moment, or for good where its script does not notice.
        browser.execute_script(f"for (const s of {SPECTRUM}.querySelectorAll('svg')) s.style.minWidth = '780px'")
        browser.execute_cdp_cmd(turned, {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
        wait_for(browser, "return document.documentElement.clientWidth === 390")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        browser.execute_script(f"for (const s of {SPECTRUM}.querySelectorAll('svg')) s.style.minWidth = ''")
        wait_for(browser, f"return {drawn} < 390")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_prints_on_paper(browser: Any, runs: Path, tmp_path: Path) -> None:
    opened(browser, runs / "good/report.html")
    browser.find_element("id", "theme").click()
    paper = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    path = tmp_path / "report.pdf"
    path.write_bytes(base64.b64decode(paper["data"]))
    pages = path.read_bytes().count(b"/Type /Page\n") or path.read_bytes().count(b"/Type /Page ")
    assert 2 <= pages <= 8


def test_plots_have_the_size_of_the_sheet(browser: Any, runs: Path) -> None:
    """While it prints every drawing is as large as its place on the sheet; afterwards as on the screen again."""
    opened(browser, runs / "good/report.html")
    sizes = """return [...document.querySelectorAll('.js-plotly-plot')].map(p => {
        const drawn = p.querySelector('.main-svg').getBoundingClientRect(), place = p.getBoundingClientRect();
        return [drawn.width - place.width, drawn.height - place.height, place.right]; })"""
    before = browser.execute_script(f"return {SPECTRUM}.clientWidth")
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    for width, height, right in browser.execute_script(sizes):
        assert abs(width) < 1.5
        assert abs(height) < 1.5
        assert right <= 0.5 * (1100 + 700)
    assert browser.execute_script(f"return {SPECTRUM}.clientWidth") < 700
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    wait_for(browser, f"return {SPECTRUM}.querySelector('.main-svg').getBoundingClientRect().width > {before} - 2")
