"""Files as i-PI and CP2K write them (see programs/README.md): units known, or asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError
from hpcir.molecules.structures import read_frames, read_structure
from hpcir.spectra.series import DipoleSeries, read_series
from hpcir.units import ANGSTROM, DEBYE, FS

FILES = Path(__file__).parent / "programs"
CHARGES = np.array([-0.8, 0.4, 0.4])


def dipoles(name: str, **options: object) -> np.ndarray:
    found: DipoleSeries = read_series(FILES / name, **options)  # type: ignore[arg-type]
    assert found.time_between == pytest.approx(0.5 * FS, rel=1e-6)
    return found.dipoles[:, :, 0]


def test_i_pi_s_properties_know_their_units():
    """The driver's dipole is that of point charges, in e bohr, at the positions that i-PI wrote beside it."""
    plain, debye = dipoles("ipi-properties.out"), dipoles("ipi-debye.out")
    assert len(plain) == 31
    np.testing.assert_allclose(debye, plain, atol=1e-7)
    for frame, dipole in zip(read_frames(FILES / "ipi-positions.xyz"), plain, strict=False):
        np.testing.assert_allclose(CHARGES @ frame.positions * ANGSTROM, dipole, atol=1e-5)


def test_i_pi_s_extras_want_the_driver_s_unit():
    with pytest.raises(InputError, match="unit of the dipoles is not declared"):
        dipoles("ipi-extras.dip_0", time_between=0.5 * FS)
    given = dipoles("ipi-extras.dip_0", dipole_unit="e*bohr", time_between=0.5 * FS)
    np.testing.assert_allclose(given, dipoles("ipi-properties.out"), atol=1e-8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("(dipole)", "(friction)"), "are not dipoles"),
        (("Step:           7 ", "Step:           8 "), "not evenly spaced at sample"),
        ((" -8.66920529e-01", ""), "no dipole of three numbers"),
    ],
)
def test_damaged_extras_are_named(tmp_path, change, words):
    text = (FILES / "ipi-extras.dip_0").read_text()
    assert change[0] in text
    (tmp_path / "a.dip_0").write_text(text.replace(*change))
    with pytest.raises(InputError, match=words):
        read_series(tmp_path / "a.dip_0", "D", 0.5 * FS)


def test_extras_as_json(tmp_path):
    rows = "".join(f'#EXTRAS# Step: {n} Bead: 0\n{{"dipole": [0.{n}, 1.0, -2.5e-1], "x": 3}}\n' for n in range(1, 9))
    (tmp_path / "a.extra_0").write_text(rows)
    found = read_series(tmp_path / "a.extra_0", "D", FS).dipoles[:, :, 0] / DEBYE
    np.testing.assert_allclose(found[:, 0], np.arange(1, 9) / 10)
    np.testing.assert_allclose(found[:, 2], -0.25)


@pytest.mark.parametrize("name", ["ipi-positions.xyz", "ipi-positions-angstrom.xyz"])
def test_i_pi_s_positions_are_in_the_unit_of_their_comment(name):
    """Atomic units are i-PI's default: read as angstrom no atom would be bonded."""
    structure = read_structure(FILES / name)
    np.testing.assert_allclose(
        np.linalg.norm(structure.positions[1] - structure.positions[0]) / ANGSTROM, 0.958, atol=2e-3
    )
    assert len(read_frames(FILES / name)) == 2


def test_what_holds_no_positions_is_refused():
    with pytest.raises(InputError, match="no positions"):
        read_structure(FILES / "ipi-velocities.xyz")
    with pytest.raises(InputError, match="overlap"):
        read_structure(FILES / "cp2k-forces.xyz")


def test_cp2k_s_dipoles_are_in_debye_with_and_without_a_cell():
    """The periodic operator's and the usual one's dipoles of a molecule in a small cell differ by a few percent."""
    periodic, usual = (
        dipoles("cp2k-periodic.dat", time_between=0.5 * FS),
        dipoles("cp2k-open.dat", time_between=0.5 * FS),
    )
    assert periodic.shape == usual.shape == (13, 3)
    np.testing.assert_allclose(periodic / DEBYE, usual / DEBYE, atol=0.15)
    np.testing.assert_allclose(np.linalg.norm(usual[0]) / DEBYE, 2.34997793, atol=1e-7)
    assert len(read_frames(FILES / "cp2k-positions.xyz")) == 2


def test_cp2k_s_branches_are_undone(tmp_path):
    text = (FILES / "cp2k-periodic.dat").read_text()
    head, last = text[: text.rindex("X=")], text[text.rindex("X=") :]
    value = float(last[2:].split()[0])
    (tmp_path / "a.dat").write_text(head + f"X= {value + 28.81922563:.8f}" + last[last.index(" Y=") :])
    found = read_series(tmp_path / "a.dat", time_between=0.5 * FS)
    np.testing.assert_allclose(found.dipoles[:, :, 0], dipoles("cp2k-periodic.dat", time_between=0.5 * FS), atol=1e-7)
    assert any("1 changes" in note for note in found.notes)


def test_cp2k_s_xtb_is_read_and_its_jump_refused(tmp_path):
    """An atom that crosses the middle of the cell changes xTB's periodic dipole by its charge times the edge."""
    text = (FILES / "cp2k-xtb.dat").read_text()
    blocks = text.split("\n TB_DIPOLE| Dipole type")[1:]
    assert len(blocks) == 7
    smooth = dipoles("cp2k-xtb.dat", time_between=0.5 * FS) / DEBYE
    np.testing.assert_allclose(smooth[1], [-8.03842232, -8.03279082, 6.12080735])
    times = np.arange(60)
    series = np.stack([np.sin(times / 7), np.cos(times / 9), np.sin(times / 5)], axis=1)
    series[30:] += smooth[1] - smooth[0]
    line = " TB_DIPOLE| Moment [Debye] {:20.8f}{:17.8f}{:17.8f}\n"
    (tmp_path / "a.dat").write_text("".join(line.format(*row) for row in series))
    with pytest.raises(InputError, match="jumps at sample 31"):
        read_series(tmp_path / "a.dat", time_between=0.5 * FS)
