"""More cases of public trackers, with inputs made after them: spins, names of quantities, fragments, isotopes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcir.descriptors.definition import automatic_set
from hpcir.errors import InputError
from hpcir.exchange.n2p2 import export_n2p2, import_n2p2
from hpcir.exchange.n2p2.transfer import CHARGES_FOLDER
from hpcir.exchange.reading import read_dataset
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import Structure, read_structure
from hpcir.spectra.files.program_series import detected
from hpcir.spectra.series import read_series
from hpcir.units import AMU, ANGSTROM, DEBYE, FS

PLACES = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
ROWS = [f"{symbol} " + " ".join(map(str, row)) for symbol, row in zip("OHH", PLACES, strict=True)]


def structure(path: Path, text: str, *declared: int) -> Structure:
    path.write_text(text)
    return read_structure(path, *declared)


def water(found: Structure) -> None:
    np.testing.assert_array_equal(found.numbers, [8, 1, 1])
    np.testing.assert_allclose(found.positions / ANGSTROM, PLACES, atol=1e-3)


@pytest.mark.parametrize("word", ["multiplicity=3", "mult=3", "spin_multiplicity=3"])
@pytest.mark.parametrize("extended", ["", 'Properties=species:S:1:pos:R:3 pbc="F F F" '])
def test_a_multiplicity_of_the_file_is_taken_and_held_to(tmp_path, word, extended):
    """A triplet must not become a singlet without a word."""
    text = "\n".join(["3", f"{extended}charge=0 {word}", *ROWS, ""])
    assert structure(tmp_path / "a.xyz", text).multiplicity == 3
    assert structure(tmp_path / "a.xyz", text, 0, 3).multiplicity == 3
    with pytest.raises(InputError, match="states the multiplicity 3, and 1 is declared"):
        structure(tmp_path / "a.xyz", text, 0, 1)


def test_a_spin_of_several_meanings_stops_where_none_fits(tmp_path):
    def read(word: str, *declared: int) -> int:
        return structure(tmp_path / "a.xyz", "\n".join(["3", word, *ROWS, ""]), *declared).multiplicity

    assert [read("spin=0"), read("spin=1"), read("total_spin=1"), read("uhf=0")] == [1, 1, 1, 1]
    for word in ("uhf=2", "spin=2", "total_spin=3"):
        with pytest.raises(InputError, match="fits no multiplicity of 1"):
            read(word)
        assert read(word, 0, 3) == 3
    assert read("uhf=2 multiplicity=3") == 3


def test_orca_s_inputs_that_end_with_end_and_have_fragments(tmp_path):
    rows = "\n".join(ROWS).replace("O ", "O(1) ").replace("H ", "H(2) ")
    water(structure(tmp_path / "a.inp", f"! HF\n*xyz 0 1\n{rows}\nend\n%pal\n nprocs 1\nend\n"))
    with pytest.raises(InputError, match=r"a\.inp:6"):
        structure(tmp_path / "a.inp", f"! HF\n*xyz 0 1\n{rows}\nCa> 2.0 0 0 5\n*\n")


@pytest.mark.parametrize("state", ["1,1 0,1 1,1", "1 1 0 1 1 1"])
def test_gaussian_s_fragments_have_the_charge_of_the_whole_first(tmp_path, state):
    rows = "\n".join([*ROWS, "H 0.0 0.0 1.1"]).replace("O ", "O(Fragment=1) ").replace("H ", "H(Fragment=2) ")
    found = structure(tmp_path / "a.gjf", f"#p hf counterpoise=2\n\nt\n\n{state}\n{rows}\n\n")
    assert (found.charge, found.multiplicity, len(found)) == (1, 1, 4)


def test_gaussian_s_freeze_codes(tmp_path):
    rows = "\n".join(ROWS).replace("O ", "O -1 ").replace("H ", "H 0 ")
    water(structure(tmp_path / "a.gjf", f"#p hf opt\n\nt\n\n0 1\n{rows}\n\n"))


def test_deuterium_of_pdb_files_is_no_dubnium(tmp_path):
    lines = [
        f"HETATM{n:5d} {name} HOH A   1    " + "".join(f"{x:8.3f}" for x in row) + f"  1.00  0.00{element:>12s}"
        for n, (name, element, row) in enumerate(zip([" O  ", " D1 ", "DB2 "], "ODD", PLACES, strict=True), 1)
    ]
    found = structure(tmp_path / "a.pdb", "\n".join([*lines, "END", ""]))
    water(found)
    np.testing.assert_allclose(found.masses / AMU, [15.999, 2.0141018, 2.0141018], rtol=1e-5)
    with pytest.raises(InputError, match=r"fits none.*columns 77 and 78"):
        structure(tmp_path / "b.pdb", "\n".join([*(line[:66] for line in lines), "END", ""]))


def dataset(path: Path, columns: str, words: str, count: int = 3) -> Path:
    random, text = np.random.default_rng(1), ""
    for _ in range(12):
        text += f"3\nProperties=species:S:1:pos:R:3:{columns} {words.format(random.normal())}\n"
        for symbol, row in zip("OHH", PLACES + 0.05 * random.normal(size=(3, 3)), strict=True):
            text += symbol + "".join(f" {x:.6f}" for x in [*row, *random.normal(size=count)]) + "\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("columns", "words", "says"),
    [
        ("REF_forces:R:3", 'energy={:.5f} dipole="0 0 1"', r"forces under 'REF_forces'.* forces=REF_forces"),
        ("dft_force:R:3", "energy={:.5f}", "forces under 'dft_force'"),
        ("gradient:R:3", 'energy={:.5f} dipole="0 0 1"', "Forces are minus the gradient"),
        ("forces:R:3", 'REF_energy={:.5f} dipole="0 0 1"', r"energy under 'REF_energy'.*energy=REF_energy"),
    ],
)
def test_quantities_under_other_names_beside_standard_ones_stop(tmp_path, columns, words, says):
    """Else the model would learn without them."""
    path = dataset(tmp_path / "a.xyz", columns, words)
    with pytest.raises(InputError, match=says):
        read_dataset(path, units="ase")


def test_dipoles_of_atoms_are_no_dipole(tmp_path):
    path = dataset(tmp_path / "a.xyz", "forces:R:3:dipoles:R:3", "energy={:.5f} free_energy=-3.0", 6)
    with pytest.raises(InputError, match=r"under 'dipoles'.*three numbers, not a vector of each atom"):
        read_dataset(path, units="ase")
    keys = {"energy": "energy", "forces": "forces"}
    assert len(read_dataset(path, units="ase", keys=keys).having("forces")) == 12


def moments(steps: list[int], cell: bool = True) -> str:
    """CP2K's MOMENTS with FORMAT TRAJECTORY; a second reference point does not count."""
    tail = "   47.0 0.0 0.0 0.0 47.0 0.0 0.0 0.0 47.0" if cell else ""
    return "".join(
        f" MOMENTS| {step:10d} {np.sin(step / 7):20.10f} {np.cos(step / 9):20.10f} 1.0E-01 1.5{tail}\n"
        f" MOMENTS_REF2| {step:10d} 9.0 9.0 9.0 15.6{tail}\n"
        for step in steps
    )


@pytest.mark.parametrize("cell", [True, False])
def test_cp2k_s_moments_of_one_line_a_step(tmp_path, cell):
    path = tmp_path / "moments.dat"
    path.write_text(moments(list(range(1, 41)), cell))
    assert detected(path) == "cp2k"
    found = read_series(path, time_between=FS).dipoles[:, :, 0] / DEBYE
    np.testing.assert_allclose(found[:, 0], np.sin(np.arange(1, 41) / 7), atol=1e-9)
    np.testing.assert_allclose(found[:, 2], 0.1)
    path.write_text(moments([*range(1, 21), *range(16, 41)], cell))
    with pytest.raises(InputError, match="not evenly spaced at sample 21"):
        read_series(path, time_between=FS)


@pytest.mark.parametrize("charges", [True, False])
def test_the_charge_goes_through_an_export_and_an_import(tmp_path, charges):
    """The networks that hpcir writes say for which total charge they are, those of the energy alone too."""
    model = replace(random_model(automatic_set((1, 8), 8.0, 3, 1, (1,)), 1), total_charge=1)
    export_n2p2(model, tmp_path / "out")
    if not charges:
        shutil.rmtree(tmp_path / "out" / CHARGES_FOLDER)
    assert import_n2p2(tmp_path / "out").total_charge == 1
    assert import_n2p2(tmp_path / "out", total_charge=1).total_charge == 1
    with pytest.raises(InputError, match="learnt for the total charge 1, and 0 is declared"):
        import_n2p2(tmp_path / "out", total_charge=0)


def test_names_that_need_no_pyscf_are_served_by_it():
    """`check` does not import PySCF for them, so they are held against it here."""
    pytest.importorskip("pyscf")
    from hpcir.labels import pyscf_checks

    for functional in pyscf_checks.COMMON_FUNCTIONALS:
        pyscf_checks._check_functional(functional)
    every = Structure(np.arange(1, pyscf_checks.LAST_COMMON_ELEMENT + 1), np.zeros((36, 3)))
    for basis in pyscf_checks.COMPLETE_BASES:
        pyscf_checks._check_basis(basis, every)
