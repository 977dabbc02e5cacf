"""Outputs of Gaussian, ORCA and Turbomole as structures, in the layouts that the programs print: the last geometry,
charge, multiplicity and isotopes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.cli import main
from hpcir.errors import InputError
from hpcir.molecules.structures import read_frames, read_structure
from hpcir.study.session import read_structures
from hpcir.units import AMU, ANGSTROM

PLACES = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
START = PLACES * 1.05
BOHR = 0.529177210544
RULE = " " + "-" * 69 + "\n"


def gaussian(state: str = "0 1", isotopes: str = "16           1           1") -> str:
    charge, multiplicity = state.split()
    text = (
        " Entering Gaussian System, Link 0=g16\n Cite this work as: Gaussian 16, Gaussian, Inc., Wallingford CT.\n"
        f" Symbolic Z-matrix:\n Charge ={charge:>3s} Multiplicity = {multiplicity}\n"
        "  Atom         1           2           3\n"
        f" IAtWgt=          {isotopes}\n AtmWgt=  15.9949146   1.0078250   1.0078250\n"
    )
    for places in (START, PLACES):
        text += "                         Standard orientation:                         \n" + RULE
        text += " Center     Atomic      Atomic             Coordinates (Angstroms)\n"
        text += " Number     Number       Type             X           Y           Z\n" + RULE
        for atom, (z, row) in enumerate(zip((8, 1, 1), places, strict=True), 1):
            text += f"{atom:7d}{z:11d}{0:12d}    " + "".join(f"{x:12.6f}" for x in row) + "\n"
        text += RULE + " SCF Done:  E(RB3LYP) =  -76.4080000000     A.U. after    9 cycles\n"
    return text + " Normal termination of Gaussian 16.\n"


def orca(state: str = "0 1", hydrogen: str = "1.008", last: str = "H") -> str:
    charge, multiplicity = state.split()
    text = (
        "                                 *****************\n                                 * O   R   C   A *\n"
        "                                 *****************\n"
    )
    for places in (START, PLACES):
        text += "---------------------------------\nCARTESIAN COORDINATES (ANGSTROEM)\n" + "-" * 33 + "\n"
        for symbol, row in zip(("O", "H", last), places, strict=True):
            text += f"  {symbol:4s}" + "".join(f"{x:12.6f}" for x in row) + "\n"
        text += "\n----------------------------\nCARTESIAN COORDINATES (A.U.)\n----------------------------\n"
        text += "  NO LB      ZA    FRAG     MASS         X           Y           Z\n"
        for atom, (symbol, row) in enumerate(zip(("O", "H", last), places, strict=True)):
            mass = "15.999" if atom == 0 else hydrogen
            text += f"{atom:4d} {symbol} {8.0 if atom == 0 else 1.0:10.4f}    0 {mass:>9s}"
            text += "".join(f"{x / BOHR:12.6f}" for x in row) + "\n"
        text += (
            "\nNumber of atoms                             ...      3\n"
            f" Total Charge           Charge          ....{charge:>5s}\n"
            f" Multiplicity           Mult            ....{multiplicity:>5s}\n\n"
            "FINAL SINGLE POINT ENERGY       -76.36\n"
        )
        if places is START:
            text += "\nORCA SCF GRADIENT CALCULATION\n" + " " * 28 + "ORCA GEOMETRY RELAXATION STEP\n\n"
    return text + "                             ****ORCA TERMINATED NORMALLY****\n"


def turbomole(total: int = 0, isotope: int = 0) -> str:
    text = " ridft (node) : TURBOMOLE rev. V7.4.1 compiled 4 Nov 2019\n Copyright (C) 2019 TURBOMOLE GmbH\n"
    for places in (START, PLACES):
        text += "              | Atomic coordinate, charge and isotop information |\n\n"
        text += "                    atomic coordinates            atom    charge  isotop\n"
        for z, symbol, row in zip((8, 1, 1), "ohh", places, strict=True):
            number = isotope if symbol == "h" else 0
            text += "".join(f"{x / BOHR:14.8f}" for x in row) + f"    {symbol}     {z:6.3f}     {number}\n"
        text += "\n       center of nuclear mass  :    0.0    0.0    0.1\n"
    rule = " " + "-" * 78 + "\n"
    text += f"              nuc           elec       ->  total\n{rule}                          charge\n{rule}"
    return text + f"          10.000000     -{10 - total}.000000       {total}.000000\n"


FORMS = {"gaussian": gaussian, "orca": orca, "turbomole": turbomole}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".out", ".log"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_last_geometry_of_an_optimisation_is_the_structure(tmp_path, form, suffix, end):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(FORMS[form]().replace("\n", end).encode())
    structure = read_structure(path)
    np.testing.assert_array_equal(structure.numbers, [8, 1, 1])
    np.testing.assert_allclose(structure.positions / ANGSTROM, PLACES, atol=1e-5)
    assert (structure.charge, structure.multiplicity, structure.nuclear_masses) == (0, 1, None)
    every = read_structures(path)
    np.testing.assert_allclose([one.positions / ANGSTROM for one in every], [START, PLACES], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "charge", "multiplicity"),
    [(gaussian("2 3"), 2, 3), (orca("-2 3"), -2, 3), (turbomole(2), 2, 1)],
)
def test_charge_and_multiplicity_of_outputs(tmp_path, text, charge, multiplicity):
    (tmp_path / "a.out").write_text(text)
    structure = read_structure(tmp_path / "a.out")
    assert (structure.charge, structure.multiplicity) == (charge, multiplicity)
    with pytest.raises(InputError, match="states the total charge"):
        read_structure(tmp_path / "a.out", 0)


@pytest.mark.parametrize(
    "text", [gaussian(isotopes="16           2           2"), orca(hydrogen="2.014"), turbomole(isotope=2)]
)
def test_heavy_water_of_an_output_stays_heavy(tmp_path, text):
    (tmp_path / "a.out").write_text(text)
    np.testing.assert_allclose(read_structure(tmp_path / "a.out").masses / AMU, [15.999, 2.0141018, 2.0141018], 1e-5)


def test_the_isotopes_that_gaussian_takes_unasked_are_none(tmp_path):
    """It takes the abundant isotope's mass of each element, and 35Cl is not what is meant by Cl."""
    text = gaussian(isotopes="35           1           1").replace("      8    ", "     17    ")
    (tmp_path / "a.log").write_text(text)
    assert read_frames(tmp_path / "a.log")[-1].symbols[0] == "Cl"
    assert not read_frames(tmp_path / "a.log")[-1].has("masses")


@pytest.mark.parametrize("odd", ["\x0c", "\x0b", "\x1c", "\x85", "\u2028", " \u00b2"])
def test_form_feeds_and_other_odd_characters_end_no_line(tmp_path, odd):
    """Only a line feed ends a line of a table; a superscript two is no mass number. Found by fuzzing."""
    (tmp_path / "a.out").write_text(turbomole().replace("     0\n", f"     0{odd}\n"), encoding="utf-8")
    np.testing.assert_allclose(read_structure(tmp_path / "a.out").positions / ANGSTROM, PLACES, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (orca(last="-"), "cannot be read"),
        (orca(last="DA"), "cannot be read"),
        (turbomole().replace("    h  ", "    q  "), "no element"),
        (turbomole(isotope=7), "mass of this isotope"),
        (turbomole().replace("    o  ", "\n    o  "), "prints no geometry"),
        ("TURBOMOLE\nnothing", r"prints no geometry.*file coord"),
        ("O   R   C   A\nstopped", "cannot be read"),
        ("Entering Gaussian System\nstopped", "no frame"),
    ],
)
def test_dummies_and_outputs_without_a_geometry_are_refused(tmp_path, text, words):
    (tmp_path / "a.out").write_text(text)
    with pytest.raises(InputError, match=words):
        read_structure(tmp_path / "a.out")


def test_init_and_label_read_an_output(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tblite")
    monkeypatch.chdir(tmp_path)
    Path("water.out").write_text(orca())
    assert main(["init", "water.out"]) == 0
    assert "the last of 2 geometries" in capsys.readouterr().out
    assert main(["check", "water.yaml"]) == 0
    Path("label.yaml").write_text(
        "system: {structure: water.out}\nlabels: {engine: tblite, pretrain: {engine: none}}\n"
    )
    assert main(["label", "water.out", "--deck", "label.yaml", "-o", "labelled.xyz"]) == 0
    np.testing.assert_allclose([atoms.positions for atoms in read_frames("labelled.xyz")], [START, PLACES], atol=1e-5)
