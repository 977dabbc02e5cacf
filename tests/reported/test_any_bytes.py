"""Whatever a file holds, its reader gives a result or a message: files of every kind, damaged at random.

`tools/fuzz_readers` does the same by coverage, for as long as one likes; what it found is among the examples here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.errors import HpcirError
from hpcir.exchange.reading import read_dataset
from hpcir.molecules.structures import read_frames, read_structure
from hpcir.spectra.files.jcamp import read_jcamp
from hpcir.spectra.series import read_series

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
