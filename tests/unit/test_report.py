"""The report: what it reads, what it draws, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcir
from hpcir.deck.resolved import resolved_text
from hpcir.deck.sections import Deck
from hpcir.errors import InputError
from hpcir.molecules.structures import read_structure
from hpcir.report import write_report
from hpcir.report.data import load_report_data
from hpcir.report.evidence import HarmonicRow
from hpcir.report.figures import binned_medians
from hpcir.report.tables import mode_table
from hpcir.report.verdict import findings
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage.hdf5 import write_h5
from hpcir.units import DEBYE, FS, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

INPUTS = Path(__file__).parents[2] / "inputs"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script> $\\frac{"
LINES = np.array([295.0, 1030.0, 1060.0, 1340.0, 1450.0, 1477.0, 2850.0, 2960.0, 3000.0, 3681.0])
STRENGTHS = np.array([110.0, 95.0, 8.0, 25.0, 4.0, 3.0, 60.0, 45.0, 28.0, 25.0])
FORCE_ERROR = 0.31


def lorentzians_apart(x: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(STRENGTHS[:, None] * width / np.pi / ((x - 0.96 * LINES[:, None]) ** 2 + width**2))


def lorentzians(x: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(lorentzians_apart(x, width).sum(0))


def example_run(folder: Path, name: str = "methanol", spectrum: bool = True, test: bool = True) -> Path:
    """A run directory with the files of the contract and invented but plausible numbers."""
    random = np.random.Generator(np.random.Philox(5))
    folder.mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "manifest.json").write_text("{}")
    deck = Deck.model_validate({"system": {"structure": "methanol.xyz", "name": name}})
    (folder / "deck.resolved.yaml").write_text(resolved_text(deck), encoding="utf-8")
    curve = [
        {"round": i, "labels": n, "force_rmse_kcal_per_mol_angstrom": 30 / n, "energy_rmse_kcal_per_mol": 2 / n,
         "dipole_rmse_debye": 0.8 / n}
        for i, n in enumerate((40, 80, 120, 160, 200))
    ]  # fmt: skip
    (folder / "models/learning_curve.json").write_text(json.dumps({"rounds": curve, "reason": "explored 12.0 ps"}))
    harmonic = {
        "harmonic_wavenumbers_per_cm": (LINES, "cm-1", "mode"),
        "harmonic_intensities_km_per_mol": (STRENGTHS, "km/mol", "mode"),
    }
    methanol = read_structure(INPUTS / "methanol.xyz")
    harmonic |= {"numbers": (methanol.numbers, "", "atom"), "positions": (methanol.positions, "bohr", "atom,xyz")}
    write_h5(folder / "prepare.h5", harmonic, {})
    summary: dict[str, Any] = {
        "labels": {"level": "BP86/def2-SVP (PySCF)", "count": 240, "failed": 1, "seconds": 410.0}
    }
    summary["stages"] = {"prepare": 71.3, "sample": 305.0, "trajectories": 92.0, "test": 84.1, "spectrum": 3.2}
    summary["provenance"] = {"program": "hpcir", "ranks": 2, "seed": 1, "temperature_kelvin": 300.0}
    summary["md"] = {"trajectories": 64, "steps": 640000, "microseconds_per_step": 8.1}
    if spectrum:
        x = np.arange(0.0, 4500.0, 2.0)
        absorption = lorentzians(x, 9.0)
        stderr = 0.02 * absorption + 0.004
        Spectrum(x, absorption + 0.5 * stderr * random.normal(size=len(x)), stderr).to_csv(folder / "spectrum.csv")
        terms = absorption * (1 + 0.2 * random.normal(size=(16, 1)))
        curves = {"wavenumbers": x, "absorption": absorption, "stderr": stderr, "trajectories": terms}
        curves |= {
            "mode_contributions": lorentzians_apart(x, 9.0),
            "group_contributions": np.outer([0.7, 0.3], absorption),
        }
        parts = {"modes": [*(f"mode {i % 9}" for i in range(len(LINES)))], "groups": ["CH3", "OH <b>"]}
        attributes = {"format": "hpcir spectrum", "parts": json.dumps(parts)}
        write_h5(folder / "spectrum.h5", {k: (v, "", "") for k, v in curves.items()}, attributes)
        write_example_trajectories(folder, random)
        summary["bands"] = [
            {"position_per_cm": 0.96 * w, "stderr_per_cm": 0.8, "intensity_km_per_mol": s,
             "stderr_km_per_mol": 0.03 * s, "lower_per_cm": 0.96 * w - 40, "upper_per_cm": 0.96 * w + 40,
             "sampling_stderr_km_per_mol": 0.02 * s, "committee_stderr_km_per_mol": 0.02 * s,
             "assignment": f"{name} stretch" if w > 2000 else "bend"}
            for w, s in zip(LINES, STRENGTHS, strict=True) if s > 20
        ]  # fmt: skip
    if test:
        write_h5(folder / "test.h5", example_test(random), {})
        summary["test"] = {"n": 100, "force_rmse_kcal_per_mol_angstrom": FORCE_ERROR, "energy_rmse_kcal_per_mol": 0.018,
                           "dipole_rmse_debye": 0.009, "harmonic_mae_per_cm": 2.1}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def example_series(folder: Path) -> Path:
    """A run of two molecules: the folder of the first holds the test and the trajectories."""
    first = example_run(folder)
    for name in ("test.h5", "trajectories", "prepare.h5"):
        (folder / "targets/methanol").mkdir(parents=True, exist_ok=True)
        (folder / name).rename(folder / "targets/methanol" / name)
    summary = json.loads((folder / "summary.json").read_text())
    one = {"atoms": 6, **{key: summary[key] for key in ("test", "md", "bands")}}
    two = {
        **one,
        "atoms": 9,
        "test": {**one["test"], "force_rmse_kcal_per_mol_angstrom": 0.5},
        "bands": one["bands"][:3],
    }
    summary["harmonic"] = {"model_wavenumbers_per_cm": list(LINES), "model_intensities_km_per_mol": list(STRENGTHS)}
    summary["targets"] = {"methanol": one, "<b>ethanol": two}
    summary["families"] = [{"name": "folded <i>", "weight": 0.9, "conformers": 2, "free_energies_kcal_per_mol": [0.0],
                            "trajectories": 8}]  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    for name in ("methanol", "<b>ethanol"):
        (folder / "targets" / name).mkdir(exist_ok=True)
        (folder / "targets" / name / "report.html").write_text("")
    shutil.copy(INPUTS / "methanol.xyz", folder / "targets/methanol/start.xyz")
    shutil.copy(folder / "spectrum.csv", folder / "spectrum-ethanol.csv")
    return first


def write_example_trajectories(folder: Path, random: np.random.Generator) -> None:
    (folder / "trajectories").mkdir()
    energy = -115.0 + KCAL_PER_MOL * (random.normal(size=8) + 0.02 * random.normal(size=(20, 8)))
    alive = np.arange(8) != 3
    energy[:, 3] = np.nan
    arrays = {
        "total_energy": (energy, "hartree", ""),
        "alive": (alive, "", ""),
        "dipoles": (np.zeros((100, 3, 8)), "", ""),
    }
    attributes = {"time_between_dipoles": 2.0 * FS}
    write_h5(folder / "trajectories/main-00000.h5", arrays, attributes)


def example_test(random: np.random.Generator) -> dict[str, Any]:
    energy = -115.5 + random.gamma(9, 0.6, 100) * KCAL_PER_MOL
    forces = random.normal(size=(100, 6, 3)) * 15 * KCAL_PER_MOL_ANGSTROM
    spread = FORCE_ERROR * KCAL_PER_MOL_ANGSTROM * random.lognormal(0, 0.5, (100, 6, 1)) * np.ones(3) / 1.3
    dipole = random.normal(size=(100, 3)) * 1.2 * DEBYE
    arrays = {
        "energy_reference": energy,
        "energy_model": energy + 0.018 * KCAL_PER_MOL * random.normal(size=100),
        "forces_reference": forces,
        "forces_model": forces + spread * random.normal(size=forces.shape),
        "forces_spread": spread,
        "dipole_reference": dipole,
        "dipole_model": dipole + 0.009 * DEBYE * random.normal(size=dipole.shape),
    }
    return {key: (value, "atomic units", "") for key, value in arrays.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    example_run(folder / "good")
    example_run(folder / "hostile", HOSTILE)
    example_run(folder / "half", spectrum=False, test=False)
    example_series(folder / "series")
    for path in sorted(folder.iterdir()):
        write_report(path)
    return folder


def test_reads_every_file_of_the_contract(runs: Path) -> None:
    data = load_report_data(runs / "good")
    assert data.missing == ()
    assert data.name == "methanol"
    assert data.spectrum is not None
    assert data.spectrum.wavenumbers[-1] == pytest.approx(4498)
    np.testing.assert_allclose(data.sticks[0].intensities, STRENGTHS)
    assert [parity.quantity for parity in data.parity] == ["energy", "forces", "dipole"]
    assert [entry["labels"] for entry in data.learning_curve] == [40, 80, 120, 160, 200]
    assert data.sampling_reason == "explored 12.0 ps"


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
    assert data.conservation.energy.shape == (7, 20)  # the one that left physics is not among them
    assert data.conservation.time[-1] == pytest.approx(0.2)
    assert [settled.percent[-1] for settled in data.settling] == [0.0] * len(data.settling)
    assert len(data.settling) == 5


def write_example_trust(folder: Path) -> None:
    """A trust.json in which atom n (from 0) is n + 1 usual distances away, and the sentences of the summary."""
    atoms = [
        {"atom": n, "name": f"X{n + 1}", "largest_distance": 1.0 + n, "mean_distance": 0.5, "largest_spread": 6.0 - n,
         "mean_spread": 0.1, "outside": 0.25 * (n == 5), "excess": 0.07 * (n == 5),
         "description": "G2 to H, eta 2.0 A^-2" if n == 5 else ""}
        for n in range(6)
    ]  # fmt: skip
    (folder / "trust.json").write_text(json.dumps({"frames": 10, "atoms": atoms[::-1]}))
    summary = json.loads((folder / "summary.json").read_text())
    summary["trust"] = {"verdict": "the surroundings farthest from the training data are those of <X6>"}
    summary["ensemble"] = {"verdict": "one minimum does not represent the ensemble: 12 % of the frames"}
    (folder / "summary.json").write_text(json.dumps(summary))


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
    assert data.atoms.values[1].told[5] == "G2 to H, eta 2.0 A^-2: 7 % outside its range"
    assert [row.name for row in data.trust] == ["X6", "X5", "X4", "X3", "X2", "X1"]
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "The surroundings farthest from the training data are those of &lt;X6&gt;." in page
    assert page.count("One minimum does not represent the ensemble: 12 % of the frames.") == 2  # verdicts, and plot
    assert "G2 to H, eta 2.0 A^-2 (by 7 %)" in page
    # Of a molecule too large to be labelled whole this is all that is known.
    (folder / "test.h5").unlink()
    found = load_report_data(folder).atoms
    assert found is not None
    assert found.values[0].what == "distance from the training data"


def test_a_run_is_an_object_that_prints_and_draws(runs: Path) -> None:
    run = hpcir.open_run(runs / "hostile")
    assert run.name == HOSTILE
    assert run.summary["labels"]["count"] == 240
    assert run.spectrum.bands
    text = repr(run)
    assert "Forces are off by 0.31" in text
    page = run._repr_html_()
    assert "<svg" in page
    assert "<img" not in page
    assert "<script" not in page
    half = hpcir.open_run(runs / "half")
    assert "not here: the spectrum" in repr(half)
    assert "<svg" not in half._repr_html_()
    with pytest.raises(InputError, match="no spectrum"):
        half.plot()


def test_modes_are_where_the_trajectories_have_them() -> None:
    rows = [HarmonicRow(1050.0, 1049.96, 10.0, 11.0), HarmonicRow(3000.0, 3004.0, 20.0, 21.0)]
    modes = [{"name": "C-O <stretch>", "anharmonic_per_cm": 1031.26, "stderr_per_cm": 0.84}, {"name": "C-H stretch"}]
    table = mode_table(rows, modes)
    assert '<th scope="row">C-O &lt;stretch&gt;</th>' in table
    assert '1031.3 <span class="error">± 0.8</span>' in table
    assert "+0.0" in mode_table([HarmonicRow(1050.0, 1049.96, None, None)])  # never -0.0
    assert "in motion" not in mode_table(rows)


def test_a_damaged_trust_map_is_no_reason_to_fail(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(runs / "good", folder)
    for content in ("{", '{"atoms": [{"name": "C1"}]}', '{"atoms": 3}', '{"atoms": [{"atom": 0, "excess": "x"}]}'):
        (folder / "trust.json").write_text(content)
        data = load_report_data(folder)
        assert data.atoms is not None
        assert len(data.atoms.values) == 1


def test_half_a_run_gives_a_report_that_says_so(runs: Path) -> None:
    data = load_report_data(runs / "half")
    assert any("spectrum.csv" in what for what in data.missing)
    assert any("test.h5" in what for what in data.missing)
    page = (runs / "half/report.html").read_text(encoding="utf-8")
    assert "Not here:" in page
    assert not (runs / "half/figures/spectrum.png").exists()
    assert (runs / "half/figures/learning_curve.png").stat().st_size > 5000


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


@pytest.mark.filterwarnings("error:constrained_layout not applied")
def test_a_long_name_leaves_room_for_the_curve(tmp_path: Path) -> None:
    """Matplotlib warns where a legend leaves nothing for the axes."""
    folder = example_run(tmp_path / "long", "x" * 300)
    assert (folder / "figures/spectrum.png") in write_report(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run directory"):
        write_report(tmp_path)


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


def test_no_network_and_no_markup_from_users(runs: Path) -> None:
    page = (runs / "hostile/report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "<script>document.title" not in page
    assert "default-src 'none'" in page  # the browser itself refuses any request
    assert 'src="http' not in page
    assert "<link" not in page


# -- in a browser -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium", reason="no selenium: pip install selenium")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                 "--disable-dev-shm-usage", "--window-size=1100,1400"):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


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


def visible_range(browser: Any) -> list[float]:
    return [float(x) for x in browser.execute_script(f"return {SPECTRUM}._fullLayout.xaxis.range")]


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
