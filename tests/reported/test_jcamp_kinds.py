"""JCAMP-DX files as people bring them: units that a file gets wrong, rare forms, damage. The right value, or words."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hpcir.cli import main
from hpcir.errors import InputError
from hpcir.spectra.files.jcamp import read_jcamp

FIRST, STEP, COUNT = 600.0, 2.0, 901
GRID = FIRST + STEP * np.arange(COUNT)
# Integrated absorption of the one band, km/mol.
AREA = 50.0
# napierian molar absorption in km/mol per cm-1, and the ordinates that a cell of 10 cm and 50 mmHg at 296.15 K gives.
SHAPE = AREA * np.exp(-0.5 * ((GRID - 1400) / 20) ** 2) / (20 * np.sqrt(2 * np.pi))
TORR, GAS = 133.32236842105263, 8.314462618
ABSORBANCE = SHAPE * 10 * 0.1 * 50 * TORR / (GAS * 296.15) / np.log(10)
INTEGERS = np.round(1e5 * 10.0**-ABSORBANCE).astype(int)


def rows(values: np.ndarray, a_line: int = 10) -> str:
    return "\n".join(
        " ".join([f"{FIRST + STEP * n:g}", *map(str, values[n : n + a_line])]) for n in range(0, COUNT, a_line)
    )


def file(path: Path, table: str = "", head: dict[str, str] | None = None) -> Path:
    """A file whose records may be changed; '' leaves one out."""
    records = {
        "TITLE": "made for a test",
        "JCAMP-DX": "4.24",
        "DATA TYPE": "INFRARED SPECTRUM",
        "PATH LENGTH": "10 CM",
        "PARTIAL_PRESSURE": "50 mmHg",
        "TEMPERATURE": "296.15 K",
        "XUNITS": "1/CM",
        "YUNITS": "TRANSMITTANCE",
        "XFACTOR": "1.0",
        "YFACTOR": "0.00001",
        "FIRSTX": f"{FIRST:g}",
        "LASTX": f"{GRID[-1]:g}",
        "NPOINTS": str(COUNT),
        "XYDATA": "(X++(Y..Y))",
    } | (head or {})
    records["XYDATA"] = records.pop("XYDATA")
    lines = [f"##{name}={text}" for name, text in records.items() if text]
    path.write_text("\n".join([*lines, table or rows(INTEGERS), "##END=", ""]), encoding="utf-8")
    return path


def area(path: Path) -> float:
    spectrum = read_jcamp(path)
    assert spectrum.metadata["absolute"]
    return float(np.nansum(spectrum.absorption) * STEP)


def test_the_plain_file_is_right(tmp_path):
    assert area(file(tmp_path / "a.jdx")) == pytest.approx(AREA, rel=1e-3)


@pytest.mark.parametrize(
    "head",
    [
        {"PARTIAL_PRESSURE": "65789.47 ppm", "PRESSURE": "760 mmHg"},
        {"PARTIAL_PRESSURE": "6.578947 %", "PRESSURE": "101.325 kPa"},
        {"PARTIAL_PRESSURE": "6.66612 kPa"},
        {"PARTIAL_PRESSURE": "", "STATE": "gas (total pressure of 600 mmHg with nitrogen, sample 50 mmHg)"},
        {"PARTIAL_PRESSURE": "", "STATE": "gas (50 mmHg, N2 added, total pressure 600 mmHg)"},
        {"PARTIAL_PRESSURE": "", "PRESSURE": "50 Torr"},
        {"PATH LENGTH": "0.1 m"},
        {"PATH LENGTH": "100 mm"},
        {"PATH LENGTH": "10"},
        {"TEMPERATURE": "23 C"},
        {"TEMPERATURE": "296.15"},
    ],
    ids=lambda head: ", ".join(f"{k}={v}" for k, v in head.items()),
)
def test_pressure_path_and_temperature_in_other_units(tmp_path, head):
    assert area(file(tmp_path / "a.jdx", head=head)) == pytest.approx(AREA, rel=1e-3)


@pytest.mark.parametrize(
    ("pressure", "says"),
    [("101.325 kPa", "101.3 kPa"), ("101.325 Pa", "101.325 kPa taken"), ("760 Torr", "101.3 kPa"), ("", "1 atm")],
)
def test_quantitative_spectra_are_of_the_air_s_pressure_whatever_their_unit(tmp_path, pressure, says):
    """Absorbance per part in a million and metre at 296.15 K and 1 atm."""
    per_ppm = SHAPE * 10 * 1e-6 * 101325 / (GAS * 296.15) / np.log(10)
    table = rows(np.round(per_ppm * 1e10).astype(int))
    head = {"YUNITS": "(micromol/mol)-1m-1 (base 10)", "YFACTOR": "1e-10", "PRESSURE": pressure}
    path = file(tmp_path / "a.jdx", table, head | {"PARTIAL_PRESSURE": "", "PATH LENGTH": ""})
    assert area(path) == pytest.approx(AREA, rel=1e-3)
    assert says in " ".join(read_jcamp(path).metadata["notes"])


def test_a_pressure_that_no_mixture_has_is_refused(tmp_path):
    head = {"YUNITS": "(micromol/mol)-1m-1 (base 10)", "PRESSURE": "3 mbar"}
    with pytest.raises(InputError, match="no pressure that a mixture in a cell has"):
        read_jcamp(file(tmp_path / "a.jdx", head=head))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"PARTIAL_PRESSURE": "0.05 mmHg"}, "more than any molecule absorbs"),
        ({"PATH LENGTH": "1000 km"}, "no path that a gas cell has"),
        ({"PARTIAL_PRESSURE": "50 MPa"}, "no pressure that a gas cell has"),
        ({"TEMPERATURE": "9000 K"}, "no temperature of a gas"),
    ],
)
def test_scales_that_cannot_be_are_refused(tmp_path, head, words):
    with pytest.raises(InputError, match=words):
        read_jcamp(file(tmp_path / "a.jdx", head=head))


def test_comments_after_values(tmp_path):
    text = file(tmp_path / "a.jdx").read_text()
    text = re.sub(r"^(##(?:FIRSTX|NPOINTS|XYDATA)=.*)$", r"\1 $$ a comment", text, flags=re.MULTILINE)
    (tmp_path / "a.jdx").write_text(text.replace("\n1000 ", "\n$$ half of it\n1000 "))
    assert area(tmp_path / "a.jdx") == pytest.approx(AREA, rel=1e-3)


def test_missing_ordinates_are_masked_and_said(tmp_path):
    values = INTEGERS.astype(str)
    values[3:23] = "?"
    spectrum = read_jcamp(file(tmp_path / "a.jdx", rows(values)))
    assert np.isnan(spectrum.absorption[3:23]).all()
    assert np.isfinite(spectrum.absorption[23:]).all()
    assert any("20 of 901 points are missing" in note for note in spectrum.metadata["notes"])


SQZ = dict(zip("0123456789", "@ABCDEFGHI", strict=True))
NEGATIVE = dict(zip("123456789", "abcdefghi", strict=True))
DIF = dict(zip("0123456789", "%JKLMNOPQR", strict=True))
MINUS = dict(zip("123456789", "jklmnopqr", strict=True))
DUP = dict(zip("123456789", "STUVWXYZs", strict=True))


def squeezed(value: int) -> str:
    digits = str(abs(value))
    return (NEGATIVE if value < 0 else SQZ)[digits[0]] + digits[1:]


def difference(value: int) -> str:
    digits = str(abs(value))
    return (MINUS if value < 0 else DIF)[digits[0]] + digits[1:]


def packed(values: np.ndarray, a_line: int, duplicates: bool) -> str:
    """A table in difference form, each line ending with the ordinate that the next begins with."""
    lines = []
    for start in range(0, COUNT, a_line):
        part = [int(v) for v in values[start : start + a_line + 1]]
        words = [difference(b - a) for a, b in pairwise(part)]
        text, n = "", 0
        while n < len(words):
            times = 1
            while duplicates and n + times < len(words) and words[n + times] == words[n]:
                times += 1
            text += words[n] + (DUP[str(times)[0]] + str(times)[1:] if times > 1 else "")
            n += times
        lines.append(f"{FIRST + STEP * start:g}{squeezed(part[0])}{text}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "table",
    [
        packed(INTEGERS, 40, False),
        packed(INTEGERS, 40, True),
        packed(INTEGERS, 300, True),
        "\n".join(f"{FIRST + STEP * n:g}" + "".join(map(squeezed, INTEGERS[n : n + 20])) for n in range(0, COUNT, 20)),
        "\n".join(f"{FIRST + STEP * n:g}" + "".join(f"+{v}" for v in INTEGERS[n : n + 8]) for n in range(0, COUNT, 8)),
        rows(INTEGERS).replace(" ", ","),
        rows(INTEGERS).replace("\n", "\r\n"),
    ],
    ids=["DIF", "DIFDUP", "DIFDUP with counts of hundreds", "SQZ", "PAC", "commas between", "CRLF"],
)
def test_every_form_of_the_table_is_the_same_spectrum(tmp_path, table):
    plain = read_jcamp(file(tmp_path / "plain.jdx"))
    other = read_jcamp(file(tmp_path / "other.jdx", table))
    np.testing.assert_allclose(other.absorption, plain.absorption, atol=1e-12)


def test_negative_ordinates_in_squeezed_form(tmp_path):
    values = np.arange(COUNT) - 450
    table = "\n".join(f"{FIRST + STEP * n:g}" + "".join(map(squeezed, values[n : n + 20])) for n in range(0, COUNT, 20))
    head = {"YUNITS": "ABSORBANCE", "PARTIAL_PRESSURE": "", "YFACTOR": "0.001"}
    spectrum = read_jcamp(file(tmp_path / "a.jdx", table, head), saturation=0.0)
    np.testing.assert_allclose(spectrum.absorption, 0.001 * values * np.log(10), atol=1e-12)


def test_decimal_commas(tmp_path):
    table = rows(INTEGERS).replace("600 ", "600,0 ")
    head = {"FIRSTX": "600,0", "LASTX": "2400,0", "YFACTOR": "0,00001"}
    assert area(file(tmp_path / "a.jdx", table, head)) == pytest.approx(AREA, rel=1e-3)


def test_pairs_and_compound_files_and_byte_order_marks(tmp_path):
    pairs = "\n".join(f"{x:g}, {y}; " for x, y in zip(GRID, INTEGERS, strict=True))
    path = file(tmp_path / "a.jdx", pairs, {"XYDATA": "(XY..XY)"})
    assert area(path) == pytest.approx(AREA, rel=1e-3)
    inner = path.read_text()
    nmr = inner.replace("INFRARED SPECTRUM", "NMR SPECTRUM")
    link = f"##TITLE=all\n##JCAMP-DX=4.24\n##DATA TYPE=LINK\n##BLOCKS=3\n{nmr}{inner}##END=\n"
    (tmp_path / "b.jdx").write_bytes(b"\xef\xbb\xbf" + link.encode())
    assert area(tmp_path / "b.jdx") == pytest.approx(AREA, rel=1e-3)


def test_percent_without_the_word_is_read_and_said(tmp_path):
    path = file(tmp_path / "a.jdx", head={"YFACTOR": "0.001"})
    assert area(path) == pytest.approx(AREA, rel=1e-3)
    assert any("percent" in note for note in read_jcamp(path).metadata["notes"])


@pytest.mark.parametrize(
    ("head", "table", "words"),
    [
        ({"NTUPLES": "IR", "XYDATA": ""}, "", "NTUPLES"),
        ({"PEAK TABLE": "(XY..XY)", "XYDATA": ""}, "", "table of peaks"),
        ({"DATA TYPE": "INFRARED INTERFEROGRAM"}, "", "not an infrared spectrum"),
        ({}, re.sub("\n1400.", "\n1400C", packed(INTEGERS, 40, False)), "damaged"),
        ({}, "\n".join(rows(INTEGERS).split("\n")[:40] + rows(INTEGERS).split("\n")[41:]), "no complete spectrum"),
        ({}, rows(INTEGERS).replace("100000", "1e99999", 1), "not be|saturated|exceeds|no form|no complete"),
    ],
)
def test_what_is_refused_in_words(tmp_path, head, table, words):
    with pytest.raises(InputError, match=words):
        read_jcamp(file(tmp_path / "a.jdx", table, head))


@pytest.mark.parametrize("kind", ["ftir", "FT-IR", "IR", "IR SPECTRUM", "Infrared spectrum"])
def test_names_of_infrared_spectra(tmp_path, kind):
    assert area(file(tmp_path / "a.jdx", head={"DATA TYPE": kind})) == pytest.approx(AREA, rel=1e-3)
    for other in ("RAMAN SPECTRUM", "INFRARED INTERFEROGRAM", "CIRCULAR DICHROISM"):
        with pytest.raises(InputError, match="not an infrared spectrum"):
            read_jcamp(file(tmp_path / "a.jdx", head={"DATA TYPE": other}))


@pytest.mark.parametrize("state", ["LIQUID (NEAT)", "SOLUTION (10% CCl4)", "SOLID (KBr disk)", "liquid film"])
@pytest.mark.parametrize("pressure", ["", "760 mmHg"])
def test_a_liquid_has_no_pressure_and_a_path_of_micrometres(tmp_path, state, pressure):
    head = {"STATE": state, "PATH LENGTH": "0.0024 CM", "PARTIAL_PRESSURE": "", "PRESSURE": pressure}
    spectrum = read_jcamp(file(tmp_path / "a.jdx", head=head))
    assert not spectrum.metadata["absolute"]
    assert any(state in note for note in spectrum.metadata["notes"])
    np.testing.assert_allclose(spectrum.absorption, ABSORBANCE * np.log(10), atol=1e-4)
    with pytest.raises(InputError, match="no path that a gas cell has"):
        read_jcamp(file(tmp_path / "a.jdx", head=head | {"STATE": "gas", "PRESSURE": "50 mmHg"}))


def test_arbitrary_units_are_relative_absorption_where_bands_point_up(tmp_path):
    up = np.round(1e5 * SHAPE / SHAPE.max()).astype(int)
    spectrum = read_jcamp(file(tmp_path / "a.jdx", rows(up), {"YUNITS": "ARBITRARY UNITS"}))
    assert not spectrum.metadata["absolute"]
    assert "not absolute" in spectrum.metadata["notes"][-1]
    np.testing.assert_allclose(spectrum.absorption, SHAPE / SHAPE.max(), atol=1e-5)
    with pytest.raises(InputError, match="bands point down"):
        read_jcamp(file(tmp_path / "a.jdx", head={"YUNITS": "ARBITRARY UNITS"}))


def test_a_wrong_last_abscissa_beside_a_right_spacing(tmp_path):
    """As in files that were cut by hand: lines follow from ##FIRSTX and ##DELTAX."""
    head = {"LASTX": f"{GRID[-1] + 300:g}", "DELTAX": f"{STEP:g}"}
    spectrum = read_jcamp(file(tmp_path / "a.jdx", head=head))
    np.testing.assert_allclose(spectrum.wavenumbers, GRID)
    assert any("##LASTX=2700 is wrong" in note for note in spectrum.metadata["notes"])
    for change in ({"DELTAX": ""}, {"DELTAX": "2.5"}):
        with pytest.raises(InputError, match="not where the lines before put it"):
            read_jcamp(file(tmp_path / "a.jdx", head=head | change))


def test_two_points_are_no_spectrum(tmp_path):
    head = {"LASTX": f"{FIRST + STEP:g}", "NPOINTS": "2"}
    with pytest.raises(InputError, match="of which there must be three"):
        read_jcamp(file(tmp_path / "a.jdx", f"{FIRST:g} 90000 91000", head))


NAPIERIAN = {"YUNITS": "ABSORBANCE (base e)", "YFACTOR": "1e-6"}


def test_an_absorbance_to_base_e(tmp_path):
    path = file(tmp_path / "a.jdx", rows(np.round(1e6 * np.log(10) * ABSORBANCE).astype(int)), NAPIERIAN)
    assert area(path) == pytest.approx(AREA, rel=1e-3)
    assert any("base e" in note for note in read_jcamp(path).metadata["notes"])


@pytest.mark.parametrize("total", ["", "760 Torr", "101.325 kPa"])
def test_a_fraction_times_the_path(tmp_path, total):
    """6579 ppm-m of one atmosphere are 50 mmHg along 10 cm."""
    head = {"CONCENTRATION": "6578.947 ppm-m", "PARTIAL_PRESSURE": "", "PATH LENGTH": "", "PRESSURE": total}
    path = file(tmp_path / "a.jdx", head=head)
    assert area(path) == pytest.approx(AREA, rel=1e-3)
    assert any("ppm-m of 760 mmHg" in note for note in read_jcamp(path).metadata["notes"])


@pytest.mark.parametrize(
    "head",
    [
        {"PARTIAL_PRESSURE": "", "CONCENTRATION": "20 mg/m3", "PRESSURE": "760 mmHg"},
        {"PARTIAL_PRESSURE": "", "CONCENTRATION": "0.01 mol/L", "PRESSURE": "760 mmHg"},
        {"PARTIAL_PRESSURE": "50", "PRESSURE": "760 mmHg"},
    ],
)
def test_an_amount_in_an_unknown_unit_is_not_the_whole_pressure(tmp_path, head):
    metadata = read_jcamp(file(tmp_path / "a.jdx", head=head)).metadata
    assert not metadata["absolute"]
    assert any("is in no unit known here" in note for note in metadata["notes"])


TRANSMITTANCE = INTEGERS / 1e5


@pytest.mark.parametrize(
    ("units", "ordinates", "words"),
    [
        ("ABSORBANCE", TRANSMITTANCE, "an absorbance whose bands point down"),
        ("ABSORBANCE", 100 * TRANSMITTANCE, "an absorbance whose bands point down"),
        ("TRANSMITTANCE", ABSORBANCE, "a transmittance whose bands point up"),
        ("% TRANSMITTANCE", TRANSMITTANCE, "saturated or missing"),
    ],
)
def test_ordinates_of_other_units_than_the_file_says(tmp_path, units, ordinates, words):
    table = rows(np.round(1e6 * ordinates).astype(int))
    with pytest.raises(InputError, match=words):
        read_jcamp(file(tmp_path / "a.jdx", table, {"YUNITS": units, "YFACTOR": "1e-6"}))


@pytest.mark.parametrize(
    ("units", "abscissas", "words"),
    [
        ("1/CM", 1e4 / GRID, "look like MICROMETERS"),
        ("1/CM", 1e7 / GRID, "look like NANOMETERS"),
        ("MICROMETERS", GRID, "look like 1/CM"),
        ("1/CM", GRID / 1000, "Mend ##XUNITS"),
    ],
)
def test_abscissas_of_other_units_than_the_file_says(tmp_path, units, abscissas, words):
    pairs = "\n".join(f"{x:.6f}, {y:.6f}" for x, y in zip(abscissas, TRANSMITTANCE, strict=True))
    head = {"XUNITS": units, "YFACTOR": "1", "FIRSTX": f"{abscissas[0]:.6f}", "LASTX": f"{abscissas[-1]:.6f}"}
    path = file(tmp_path / "a.jdx", pairs, head)
    path.write_text(path.read_text().replace("##XYDATA=(X++(Y..Y))", "##XYPOINTS=(XY..XY)"))
    with pytest.raises(InputError, match=words):
        read_jcamp(path)


@pytest.mark.parametrize(("path_length", "size"), [("0.1 CM", "more"), ("1000 CM", "less")])
def test_a_scale_that_few_molecules_have_is_said(tmp_path, path_length, size):
    notes = read_jcamp(file(tmp_path / "a.jdx", head={"PATH LENGTH": path_length})).metadata["notes"]
    assert any(f"{size} than nearly every molecule" in note for note in notes)


@pytest.mark.parametrize(("name", "value"), [("YFACTOR", "0"), ("YFACTOR", "nan"), ("XFACTOR", "0.0")])
def test_a_factor_that_is_none(tmp_path, name, value):
    with pytest.raises(InputError, match=f"##{name} is no factor"):
        read_jcamp(file(tmp_path / "a.jdx", head={name: value}))


def test_two_scales_that_differ_are_said_by_compare(tmp_path, capsys):
    first, second = file(tmp_path / "a.jdx"), file(tmp_path / "b.jdx", head={"PATH LENGTH": "1 CM"})
    assert main(["compare", str(first), str(second)]) == 0
    assert "the areas differ 10 times: check pressure, path and units" in capsys.readouterr().out
    assert main(["compare", str(first), str(file(tmp_path / "b.jdx", head={"PATH LENGTH": ""}))]) == 0
    assert "no absolute scale" in capsys.readouterr().out


def test_pairs_without_an_abscissa_are_left_out_and_said(tmp_path):
    pairs = [f"{x:g}, {y}; " for x, y in zip(GRID, INTEGERS, strict=True)]
    pairs[700] = f"?, {INTEGERS[700]}; "
    path = file(tmp_path / "a.jdx", "\n".join(pairs), {"XYDATA": "(XY..XY)"})
    assert area(path) == pytest.approx(AREA, rel=2e-3)
    assert any("1 of 901 points are missing" in note for note in read_jcamp(path).metadata["notes"])
    nowhere = "\n".join(f"?, {y}; " for y in INTEGERS)
    with pytest.raises(InputError, match="fewer than two points of the spectrum have a wavenumber"):
        read_jcamp(file(tmp_path / "b.jdx", nowhere, {"XYDATA": "(XY..XY)"}))


def test_a_factor_that_disagrees_with_the_largest_ordinate_is_said(tmp_path):
    """Absorbances ten times as large as the file says itself: no unit tells that."""
    table, most = rows(np.round(1e5 * ABSORBANCE).astype(int)), f"{ABSORBANCE.max():.6f}"
    head = {"YUNITS": "ABSORBANCE", "MAXY": most}
    assert area(file(tmp_path / "a.jdx", table, head)) == pytest.approx(AREA, rel=1e-3)
    assert not [note for note in read_jcamp(tmp_path / "a.jdx").metadata["notes"] if "MAXY" in note]
    notes = read_jcamp(file(tmp_path / "b.jdx", table, {**head, "YFACTOR": "0.0001"})).metadata["notes"]
    assert [note for note in notes if f"##MAXY says {ABSORBANCE.max():.6g}, and the largest ordinate" in note]
    unscaled = {**head, "MAXY": f"{1e5 * ABSORBANCE.max():.0f}"}
    assert not [n for n in read_jcamp(file(tmp_path / "c.jdx", table, unscaled)).metadata["notes"] if "MAXY" in n]
