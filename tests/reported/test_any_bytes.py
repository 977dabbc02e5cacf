"""Whatever a file holds, its reader gives a result or a message: files of every kind, damaged at random.

`tools/fuzz_readers` does the same by coverage, for as long as one likes; what it found is among the examples here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.errors import HpcirError, InputError
from hpcir.exchange.n2p2 import import_n2p2
from hpcir.exchange.reading import read_dataset
from hpcir.molecules.structures import read_frames, read_structure
from hpcir.spectra.files.jcamp import read_jcamp
from hpcir.spectra.series import read_series
from hpcir.spectra.spectrum import CSV_COLUMNS, Spectrum

WATER = "3\nwater charge=0\nO 0 0 0.1173\nH 0 0.7572 -0.4692\nD 0 -0.7572 -4.692D-01\n"
LABELLED = (
    '3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 dipole="0 0 1" total_charge=1\n'
    "O 0 0 0.1 0 0 0\n8 0 0.7 -0.4 0 0 1D-2\nH 0 -0.7 -0.4 0 0 0\n"
)
JCAMP = (
    "##TITLE=x\n##JCAMP-DX=4.24\n##DATA TYPE=INFRARED SPECTRUM\n##PATH LENGTH=10 CM\n##PARTIAL_PRESSURE=50 mmHg\n"
    "##XUNITS=1/CM\n##YUNITS=TRANSMITTANCE\n##XFACTOR=1.0\n##YFACTOR=0.001\n##FIRSTX=600\n##LASTX=610\n##NPOINTS=6\n"
    "##XYDATA=(X++(Y..Y))\n600A000%T1j2\n606I988K1 ?\n610A000\n##END=\n"
)
SERIES = "time_fs,dipole_x_D,dipole_y_D,dipole_z_D\n" + "".join(f"{n},0.{n},1.{n % 7},0\n" for n in range(30))
DECK = "system:\n  structure: water.xyz\nlabels:\n  engine: tblite\ndynamics: {temperature: 300 K, duration: 5 ps}\n"
MOL = (
    "\n\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n    0.0 0.0 0.1 O   0  0\n"
    "    0.0 0.7 0.4 H   0  0\n  1  2  1  0\nM  END\n"
)
MOL2 = (
    "@<TRIPOS>MOLECULE\nwater\n2 1 1 0 0\nSMALL\nUSER_CHARGES\n@<TRIPOS>ATOM\n1 O 0.0 0.0 0.1173 O.3 1 W -0.4\n"
    "2 H 0.0 0.7572 -0.4692 H 1 W 0.4\n@<TRIPOS>BOND\n1 1 2 1\n"
)
PDB = "HETATM    1  O   HOH A   1       0.000   0.000   0.117  1.00  0.00           O\nEND\n"
ORCA = "! HF\n* xyz 0 1\nO 0 0 0.1\nH 0 0.7 -0.4\nH 0 -0.7 -0.4\n*\n"
GJF = "#p hf\n\ntitle\n\n0 1\nO 0.0 0.0 0.1\nH(Iso=2) 0.0 0.7 -0.4\n\n"
CIF = (
    "data_x\n_cell_length_a 8\n_cell_length_b 8\n_cell_length_c 8\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    "_cell_angle_gamma 90\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    "O1 0.1 0.1 0.1\nH1 0.2 0.1 0.1\n"
)


def _deck(path: Path) -> object:
    (path.parent / "water.xyz").write_text("3\n\nO 0 0 0.1\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\n")
    return check_deck(load_deck(path))


READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "xyz": (".xyz", WATER, read_frames),
    "structure": (".xyz", WATER, read_structure),
    "extxyz": (".extxyz", LABELLED, lambda path: read_dataset(path, units="ase")),
    "jcamp": (".jdx", JCAMP, read_jcamp),
    "series": (".csv", SERIES, read_series),
    "deck": (".yaml", DECK, _deck),
    "mol": (".mol", MOL, read_frames),
    "pdb": (".pdb", PDB, read_frames),
    "orca": (".inp", ORCA, read_frames),
    "gaussian": (".gjf", GJF, read_frames),
    "cif": (".cif", CIF, read_frames),
}
PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [b"nan", b"-1e999", b"99999999999", b"\xff\xfe", b"\0", b"=", b"##", b"$$", b"?", b"\r", b"  ", b"%T9"]
    ),
)


NN = (
    "elements H O\ncutoff_type 1 0.0\nglobal_hidden_layers_short 1\nglobal_nodes_short 1\nglobal_activation_short t l\n"
    "symfunction_short H 2 O 0.1 0.0 8.0\nsymfunction_short O 2 H 0.1 0.0 8.0\n"
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("layers_short 1", "layers_short one"), "needs whole numbers"),
        (("nodes_short 1", "nodes_short 99999999999"), "from 1 to 10000"),
        (("nodes_short 1", "nodes_short"), "nothing after 'global_nodes_short'"),
        (("cutoff_type 1 0.0", "cutoff_type x"), "unknown cutoff_type"),
        (("cutoff_type 1 0.0", "cutoff_type"), "nothing after 'cutoff_type'"),
        (("elements H O\n", "elements H O\natom_energy O\n"), "needs an element and a number"),
        (("elements H O\n", "elements H O\nconv_energy 0\n"), "must be positive"),
        (("0.0 8.0\nsym", "0.0 -8.0\nsym"), "cutoff radius must be positive"),
    ],
)
def test_damaged_settings_of_n2p2_are_named(tmp_path, change, words):
    """Found by coverage: each was a traceback, the second one gigabytes."""
    assert change[0] in NN
    (tmp_path / "input.nn").write_text(NN.replace(*change))
    with pytest.raises(InputError, match=words):
        import_n2p2(tmp_path)


def test_other_faults_that_were_found_by_coverage(tmp_path):
    """A dipole or a time of a series that is no number, a partial charge, a temperature, atoms and charges of none."""
    plain = '2\ntime_fs=1 dipole="0 0 1"\nO 0 0 0.1\nH 0 0.7 -0.4\n'
    for old, new, words in (
        ('"0 0 1"', '"0 0 q"', "no dipole of three finite numbers"),
        ("fs=1", "fs=1!", "time_fs is not a number"),
        ("fs=1", "fs=nan", "must be positive and finite"),
    ):
        frames = [plain.replace(old, new), plain.replace(old, new).replace("0 0 1", "0 0 2"), plain.replace(old, new)]
        (tmp_path / "a.xyz").write_text("".join(frames))
        with pytest.raises(InputError, match=words):
            read_series(tmp_path / "a.xyz", "D")
    pytest.importorskip("rdkit")
    (tmp_path / "a.mol2").write_text(MOL2.replace("W -0.4", "W 0(4"))
    with pytest.raises(InputError, match=r"a\.mol2, atom 1: a partial charge is not a finite number"):
        read_frames(tmp_path / "a.mol2")
    (tmp_path / "a.csv").write_text("# temperature: numbe\n" + ",".join(CSV_COLUMNS) + "\n1,1,1\n2,1,1\n")
    with pytest.raises(InputError, match="not a number of kelvin"):
        Spectrum.from_csv(tmp_path / "a.csv")
    (tmp_path / "d" / "set.000").mkdir(parents=True)
    for name, text in (
        ("type.raw", ""),
        ("type_map.raw", "H"),
        ("set.000/coord.raw", "0 0 0"),
        ("set.000/energy.raw", "1"),
    ):
        (tmp_path / "d" / name).write_text(text)
    with pytest.raises(InputError):
        read_dataset(tmp_path / "d", units="ase")
    held = {"numbers": [1, 1], "positions": np.arange(6.0).reshape(1, 2, 3), "energy": [1.0], "charge": np.zeros(0)}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in held.items():
            file[f"m/{name}"] = value
    with pytest.raises(InputError):
        read_dataset(tmp_path / "a.h5", units="ase")


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files(tmp_path_factory, kind):
    """A few places of a good file cut out, doubled or written over."""
    suffix, good, read = READERS[kind]
    if kind == "mol":
        pytest.importorskip("rdkit")
    path = tmp_path_factory.mktemp(kind) / f"input{suffix}"
    size = len(good.encode())
    edits = st.lists(st.tuples(st.integers(0, size), st.integers(0, 12), PIECES), min_size=1, max_size=4)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(edits)
    @example([(0, size, b"")])
    @example([(0, 0, b"\xef\xbb\xbf")])
    def damaged(changes):
        data = good.encode()
        for place, cut, piece in changes:
            data = data[:place] + piece + data[place + cut :]
        path.write_bytes(data)
        with suppress(HpcirError):
            read(path)

    damaged()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "3\nProperties=speesci:S:1:po0\n\n\n\n\n" + 20 * "8" + "\n\n\n",
            r"line 7 promises 8+ atoms, and 2 lines follow",
        ),
        ("9999999\nProperties=species:S:1:pos:R:3\nH 0 0 0\n", "line 1 promises 9999999 atoms, and 2 lines follow"),
        ("1\nProperties=species:S:1:pos:R:3:x:R:" + 50 * "6" + "\nH 0 0 0\n", "no property has so many columns"),
    ],
)
def test_numbers_of_atoms_and_columns_without_end(tmp_path, text, words):
    """ASE never ended, or took all memory. Found by coverage."""
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(InputError, match=words):
        read_frames(tmp_path / "a.xyz")


def test_atomic_numbers_of_no_element(tmp_path):
    """An IndexError for an atom of number 333. Found by coverage."""
    row = "{:7d}{:11d}{:12d}        0.0    {:.1f}    0.1\n"
    output = (
        " Entering Gaussian System, Link 0=g16\n IAtWgt=  16  2\n                          Input orientation:\n ----\n"
        " Center     Atomic      Atomic             Coordinates (Angstroms)\n Number     Number       Type\n"
        f" ----\n{row.format(1, 8, 0, 0.0)}{row.format(2, 333, 1, 0.8)} ----\n"
    )
    (tmp_path / "a.log").write_text(output)
    (tmp_path / "a.xyz").write_text("2\nProperties=Z:I:1:pos:R:3\n8 0 0 0\n333 0 0 1\n")
    for name in ("a.log", "a.xyz"):
        with pytest.raises(InputError, match=rf"{name}, atom 2: an atom is of no element \(found: 333\)"):
            read_frames(tmp_path / name)


def test_isotopes_of_a_frame_without_positions(tmp_path):
    """An IndexError: the columns have no positions, and a line names an isotope. Found by coverage."""
    text = '36\nProperties=\xae\xae\xae\xae\x85\x90Properties=species:S:1:p pbc="F\xd4F F"3\n' + 36 * "D\n"
    (tmp_path / "a.xyz").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="a frame has lines of atoms without positions"):
        read_frames(tmp_path / "a.xyz")
