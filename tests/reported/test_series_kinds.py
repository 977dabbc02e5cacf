"""Dipole series as people bring them: samples that no motion makes, Berry phases, files of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.cli import main
from hpcir.errors import InputError
from hpcir.spectra.files.series_checks import check_samples, unwrapped
from hpcir.spectra.series import read_series
from hpcir.units import ANGSTROM, DEBYE, FS

COUNT = 3000


def motion(count: int = COUNT, seed: int = 5) -> np.ndarray:
    """(T, 3) dipoles in debye every femtosecond of a turning molecule with three vibrations of changing amplitudes."""
    random = np.random.default_rng(seed)
    times = np.arange(count)
    angle = 2 * np.pi * times / 4000 + 0.3 * np.sin(times / 700)
    size = 1.6 + np.zeros(count)
    for wavenumber, amplitude in ((1050, 0.03), (1700, 0.06), (3000, 0.02)):
        phase = 2 * np.pi * 2.99792458e-5 * wavenumber * times
        wander = np.interp(times, np.arange(0, count + 600, 600), random.normal(1, 0.4, count // 600 + 1))
        size = size + amplitude * wander * np.sin(phase + np.cumsum(random.normal(0, 0.01, count)))
    return np.stack([size * np.cos(angle), size * np.sin(angle), 0.3 * size], axis=1)


def checked(series: np.ndarray) -> None:
    check_samples(series[:, :, None], "series")


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("digits", [8, 4, 3])
def test_a_series_in_time_is_taken(every, digits):
    checked(np.round(motion(4 * COUNT)[::every], digits))


def test_a_gap_in_the_times_is_named_by_its_sample(tmp_path):
    rows = motion(COUNT)[:60]
    times = np.arange(60.0) + 5.0 * (np.arange(60) >= 40)
    lines = [f"{t:g}," + ",".join(f"{x:.6f}" for x in row) for t, row in zip(times, rows, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["time_fs,dipole_x_D,dipole_y_D,dipole_z_D", *lines, ""]))
    with pytest.raises(InputError, match=r"not evenly spaced after sample 40 \(found: '6 fs'\)"):
        read_series(tmp_path / "a.csv")


def test_jumps_are_named_by_sample():
    series = motion()
    series[1200:] += [12.0, 0, 0]
    series[2100:] -= [12.0, 0, 0]
    with pytest.raises(InputError, match=r"jumps at samples 1201 and 2101.*--cell"):
        checked(series)


def test_a_small_jump_is_named_too():
    series = motion()
    series[700:] += [0, 0, 0.4]
    with pytest.raises(InputError, match="jumps at sample 701"):
        checked(series)


def test_spikes_are_named_by_sample():
    series = motion()
    series[900] += [0.8, -0.5, 0]
    with pytest.raises(InputError, match="spikes at sample 901"):
        checked(series)


def test_gaps_are_named_by_sample():
    with pytest.raises(InputError, match=r"(jumps|course of its motion) at samples? 2(0[0-9][0-9])"):
        checked(np.delete(motion(), slice(2000, 2040), axis=0))


def test_repeated_samples_are_named():
    with pytest.raises(InputError, match="sample before at sample 502"):
        checked(np.insert(motion(), 501, motion()[500], axis=0))


def test_a_restart_that_wrote_its_end_again_is_named():
    series = motion()
    with pytest.raises(InputError, match="samples 1501 to 1530 are exactly samples 1471 to 1500"):
        checked(np.concatenate([series[:1500], series[1470:]]))


def test_shuffled_samples_are_told():
    with pytest.raises(InputError, match="uncorrelated with those beside it"):
        checked(np.random.default_rng(1).permutation(motion()))


def test_berry_phases_are_put_on_one_branch():
    """Each component is known up to e times the box's edge; undone, the series is the one without the box."""
    series, edges = motion() * DEBYE, np.array([9.0, 10.0, 11.0]) * ANGSTROM
    wrapped = series + edges * np.random.default_rng(2).integers(-1, 2, (COUNT, 3)).cumsum(axis=0)
    found, changes = unwrapped(wrapped[:, :, None], np.diag(edges))
    np.testing.assert_allclose(np.diff(found[:, :, 0], axis=0), np.diff(series, axis=0), atol=1e-12)
    assert changes > COUNT


def series_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(series: np.ndarray, *before: np.ndarray) -> str:
    return "\n".join(" ".join(f"{x:.10g}" for x in row) for row in np.column_stack([*before, series])) + "\n"


def test_i_pi_names_its_columns_and_units(tmp_path):
    series = motion()
    head = (
        "# column   1     --> step : The current simulation time step.\n"
        "# column   2     --> time{picosecond} : The elapsed simulation time.\n"
        "# cols.    3-5   --> dipole{debye} : The electric dipole moment of the system.\n"
    )
    times = np.arange(COUNT) * 1e-3
    found = read_series(series_file(tmp_path / "simulation.out", head + lines(series, times * 1e3, times)))
    np.testing.assert_allclose(found.dipoles[:, :, 0] / DEBYE, series, atol=1e-8)
    assert found.time_between == pytest.approx(FS, rel=1e-6)


def test_i_pi_is_in_atomic_units_where_it_names_none(tmp_path):
    head = "# column   1     --> time : time\n# cols.    2-4   --> dipole : dipole\n"
    times = np.arange(COUNT) * 2.0
    found = read_series(series_file(tmp_path / "x.out", head + lines(motion(), times)))
    np.testing.assert_allclose(found.dipoles[:, :, 0], motion(), atol=1e-8)
    assert found.time_between == pytest.approx(2.0, rel=1e-6)


def test_cp2k_s_moments_and_their_quantum(tmp_path):
    series, edge = motion(), 47.0
    wrapped = series + edge * (np.arange(COUNT)[:, None] > 1000) * np.array([1, 0, 0])
    block = (
        "  Dipole vectors are based on the periodic (Berry phase) operator.\n"
        "  They are defined modulo integer multiples of the cell matrix [Debye].\n"
        "  [X] [   47.00000000     0.00000000     0.00000000 ] [i]\n"
        "  [Y]=[    0.00000000    47.00000000     0.00000000 ]*[j]\n"
        "  [Z] [    0.00000000     0.00000000    47.00000000 ] [k]\n"
        "  Dipole moment [Debye]\n"
        "    X={:14.8f} Y={:14.8f} Z={:14.8f}     Total=    1.0\n"
    )
    path = series_file(tmp_path / "moments.dat", "".join(block.format(*row) for row in wrapped))
    found = read_series(path, time_between=FS)
    np.testing.assert_allclose(found.dipoles[:, :, 0] / DEBYE, series, atol=1e-7)
    assert any("1 changes" in note for note in found.notes)


def test_lammps_and_gpumd_count_steps_and_do_not_say_units(tmp_path):
    steps = np.arange(COUNT) * 10
    head = "# Time-averaged data for fix dip\n# TimeStep c_mu[1] c_mu[2] c_mu[3] c_mu[4]\n"
    lammps = series_file(tmp_path / "mu.dat", head + lines(np.column_stack([motion(), steps]), steps))
    gpumd = series_file(tmp_path / "dipole.out", lines(motion(), steps))
    for path in (lammps, gpumd):
        with pytest.raises(InputError, match="unit of the dipoles is not declared"):
            read_series(path, time_between=FS)
        found = read_series(path, "e*A", FS)
        np.testing.assert_allclose(found.dipoles[:, :, 0] / ANGSTROM, motion(), atol=1e-8)
    uneven = series_file(
        tmp_path / "cut.dat", head + lines(np.column_stack([motion(), steps]), np.r_[steps[:9], steps[9:] + 10])
    )
    with pytest.raises(InputError, match="steps are not evenly spaced at sample 10"):
        read_series(uneven, "e*A", FS)


def test_outputs_of_orca_and_gaussian(tmp_path):
    orca = "O   R   C   A\n" + "".join(
        "Total Dipole Moment    :  {:12.8f} {:12.8f} {:12.8f}\n".format(*row) for row in motion()
    )
    found = read_series(series_file(tmp_path / "md.out", orca), time_between=FS)
    np.testing.assert_allclose(found.dipoles[:, :, 0], motion(), atol=1e-7)
    step = " Dipole moment (field-independent basis, Debye):\n    X= {:12.6f}    Y= {:12.6f}    Z= {:12.6f}  Tot= 1\n"
    gaussian = "Entering Gaussian System\n" + "".join(step.format(*row) for row in motion())
    found = read_series(series_file(tmp_path / "bomd.log", gaussian), time_between=FS)
    np.testing.assert_allclose(found.dipoles[:, :, 0] / DEBYE, motion(), atol=1e-5)
    turning = gaussian.replace("\n", "\n                         Standard orientation:\n", 1)
    with pytest.raises(InputError, match="NoSymm"):
        read_series(series_file(tmp_path / "bomd.log", turning), time_between=FS)


def test_a_byte_order_mark_and_line_ends_of_others(tmp_path):
    text = "time_fs,dipole_x_D,dipole_y_D,dipole_z_D\r\n" + lines(motion(), np.arange(COUNT)).replace(" ", ",")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").replace("\r\r", "\r").encode())
    np.testing.assert_allclose(read_series(tmp_path / "a.csv").dipoles[:, :, 0] / DEBYE, motion(), atol=1e-8)


TRICLINIC = np.array([[47.0, 0.0, 0.0], [-20.0, 40.0, 0.0], [5.0, 8.0, 45.0]])


def wrapped_in(cell: np.ndarray) -> np.ndarray:
    """The motion in debye with a change of branch along each vector of the box, one a row."""
    steps = np.arange(COUNT)[:, None]
    return motion() + (steps > 700) * cell[0] - (steps > 1100) * cell[1] + (steps > 1500) * cell[2]


def test_branches_of_a_box_with_oblique_vectors(tmp_path):
    """CP2K prints the matrix whose columns are the vectors of the box; --cell takes the vectors."""
    matrix = [" ".join(f"{x:14.8f}" for x in row) for row in TRICLINIC.T]
    block = (
        "  Dipole vectors are based on the periodic (Berry phase) operator.\n"
        f"  [X] [{matrix[0]} ] [i]\n  [Y]=[{matrix[1]} ]*[j]\n  [Z] [{matrix[2]} ] [k]\n"
        "  Dipole moment [Debye]\n    X={:14.8f} Y={:14.8f} Z={:14.8f}     Total=    1.0\n"
    )
    series = wrapped_in(TRICLINIC)
    path = series_file(tmp_path / "moments.dat", "".join(block.format(*row) for row in series))
    np.testing.assert_allclose(read_series(path, time_between=FS).dipoles[:, :, 0] / DEBYE, motion(), atol=1e-7)
    head = "dipole_x_D,dipole_y_D,dipole_z_D\n"
    plain = series_file(tmp_path / "a.csv", head + lines(series).replace(" ", ","))
    found = read_series(plain, time_between=FS, cell=TRICLINIC * DEBYE)
    np.testing.assert_allclose(found.dipoles[:, :, 0] / DEBYE, motion(), atol=1e-7)
    with pytest.raises(InputError, match="no volume"):
        read_series(plain, time_between=FS, cell=TRICLINIC[[0, 1, 1]] * DEBYE)


@pytest.mark.parametrize("known", [True, False])
def test_branches_of_cp2k_s_moments_of_one_line_a_step(tmp_path, known):
    """The matrix of the box is at the end of the line, or given."""
    tail = "".join(f" {x:14.8f}" for x in TRICLINIC.T.ravel()) if known else ""
    text = "".join(
        f" MOMENTS| {step:10d} {x:16.8f} {y:16.8f} {z:16.8f} 1.0{tail}\n"
        for step, (x, y, z) in enumerate(wrapped_in(TRICLINIC))
    )
    path = series_file(tmp_path / "moments.dat", text)
    if not known:
        with pytest.raises(InputError, match=r"jumps at samples 702, 1102 and 1502.*--cell"):
            read_series(path, time_between=FS)
    found = read_series(path, time_between=FS, cell=None if known else TRICLINIC * DEBYE)
    np.testing.assert_allclose(found.dipoles[:, :, 0] / DEBYE, motion(), atol=1e-7)
    assert any("3 changes" in note for note in found.notes)


@pytest.mark.parametrize(
    "head",
    [
        "  Dipole moment [Debye]\n    X={:14.8f} Y={:14.8f} Z={:14.8f}     Total=    1.0\n",
        " TB_DIPOLE| Moment [Debye] {:20.8f}{:17.8f}{:17.8f}\n",
        " MM_DIPOLE| Moment [Debye] {:20.8f}{:17.8f}{:17.8f}\n",
        " MM DIPOLE [BERRY PHASE](Debye)| {:16.8f}{:16.8f}{:16.8f}\n",
        " MOMENTS| 7 {:16.8f} {:16.8f} {:16.8f} 1.0\n",
        "O   R   C   A\nTotal Dipole Moment    :  {:12.8f} {:12.8f} {:12.8f}\n",
        "Gaussian, Inc\n Dipole moment (field-independent basis, Debye):\n  X= {:12.8f}  Y= {:12.8f}  Z= {:12.8f}\n",
    ],
)
@pytest.mark.parametrize("bad", ["NaN", "*" * 14, ""])
def test_a_dipole_that_is_no_number_is_named(tmp_path, head, bad):
    """A program prints stars where a number does not fit, and is killed while it writes."""
    parts = [head.replace("| 7 ", f"| {n} ").format(*row) for n, row in enumerate(motion()[:60])]
    good = read_series(series_file(tmp_path / "md.out", "".join(parts)), time_between=FS)
    assert good.dipoles.shape == (60, 3, 1)
    value = f"{motion()[40, 1]:.8f}"
    assert value in parts[40]
    parts[40] = parts[40].replace(value, bad)
    with pytest.raises(InputError, match=r"sample 41 is not of three numbers|is not finite at sample 41"):
        read_series(series_file(tmp_path / "md.out", "".join(parts)), time_between=FS)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", ";").replace(".", ","),
        lambda text: "".join(f'"{line}"\n'.replace(",", '","') for line in text.splitlines()),
        lambda text: text.replace("e-", "D-"),
        lambda text: "\ufeff" + text,
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_csv_files_as_tables_are_saved(tmp_path, change, encoding):
    """Semicolons, decimal commas between them, quotes, Fortran's exponents, encodings of other systems."""
    table = lines(motion() * 1e-3, np.arange(COUNT)).replace(" ", ",")
    path = tmp_path / "a.csv"
    path.write_bytes(change("time_fs,dipole_x_D,dipole_y_D,dipole_z_D\n" + table).encode(encoding))
    np.testing.assert_allclose(read_series(path).dipoles[:, :, 0] / DEBYE, motion() * 1e-3, atol=1e-10)


def test_the_same_trajectory_twice_is_refused(tmp_path, capsys):
    """Copies have no scatter, and would be taken for convergence."""
    head = "time_fs,dipole_x_D,dipole_y_D,dipole_z_D\n"
    path = series_file(tmp_path / "a.csv", head + lines(motion(), np.arange(COUNT)).replace(" ", ","))
    np.savez(tmp_path / "a.npz", dipoles=np.stack([motion(), motion()], axis=2), dipole_unit="D", time_between_fs=1.0)
    for files in ([path, path], [tmp_path / "a.npz"]):
        command = ["spectrum", *map(str, files), "--temperature", "300 K", "-o", str(tmp_path / "out")]
        assert main(command) == 2
        assert "the same trajectory is given twice" in capsys.readouterr().err


def test_oblique_boxes_on_the_command_line(tmp_path, capsys):
    head = "dipole_x_D,dipole_y_D,dipole_z_D\n"
    path = series_file(tmp_path / "a.csv", head + lines(wrapped_in(TRICLINIC)).replace(" ", ","))
    command = ["spectrum", str(path), "--temperature", "300 K", "--step", "1 fs", "-o", str(tmp_path / "out")]
    cell = [f"{x:.9f} A" for x in (TRICLINIC * DEBYE / ANGSTROM).ravel()]
    assert main([*command, "--cell", *cell]) == 0
    assert "3 changes of the Berry phase's branch undone" in capsys.readouterr().out
    assert main([*command, "--cell", "0 A", "9 A", "9 A"]) == 2
    assert "must be more than 0" in capsys.readouterr().err
    assert main([*command, "--cell", "9 A", "9 A"]) == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"dipoles": np.zeros((9, 3)) + 1j}, "must have the shape"),
        ({"dipoles": np.ones((9, 3)), "time_between_fs": "soon"}, "time_between_fs is not a number"),
        ({"dipoles": np.eye(9, 3), "time_between_fs": np.ones(2)}, "time_between_fs is not a number"),
        (None, "no file of named arrays"),
    ],
)
def test_arrays_that_are_no_series(tmp_path, arrays, words):
    if arrays is None:
        with (tmp_path / "a.npz").open("wb") as file:
            np.save(file, np.ones((9, 3)))
    else:
        np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_series(tmp_path / "a.npz", "D", FS)
