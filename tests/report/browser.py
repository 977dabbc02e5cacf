"""A page of the report in Chromium."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def opened(browser: Any, path: Path) -> Any:
    """The page, once its script has drawn everything, and with nothing in the console."""
    browser.get_log("performance")
    browser.get(path.as_uri())
    wait_for(browser, "return document.documentElement.dataset.ready === 'yes'")
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    return browser


def wait_for(browser: Any, script: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < end, f"never true: {script}"
        time.sleep(0.1)


SPECTRUM = "document.getElementById('plot-spectrum')"


def visible_range(browser: Any) -> list[float]:
    return [float(x) for x in browser.execute_script(f"return {SPECTRUM}._fullLayout.xaxis.range")]
