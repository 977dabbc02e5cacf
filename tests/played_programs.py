"""Other programs played for the tests: inputs that hpcir wrote in, outputs in the programs' own layouts out.

The numbers are those of any function of a structure, such as tblite's; the layouts were compared with outputs of ORCA 5
and 6, Gaussian 16, Psi4 1.7 and Q-Chem 5.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from hpcir.labels import Label
from hpcir.labels.checks import nuclear_charge_centre
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM, DEBYE

TEMPLATES = {
    "orca": """\
! B3LYP def2-TZVP EnGrad TightSCF
%pal nprocs 4 end
* xyz {charge} {multiplicity}
{coordinates}
*
""",
    "gaussian": """\
%nprocshared=4
#p b3lyp/def2tzvp force nosymm integral=ultrafine scf=tight

{name}

{charge} {multiplicity}
{coordinates}
""",
    "psi4": """\
memory 2 GB
molecule {
    {charge} {multiplicity}
    {coordinates}
    no_reorient
    no_com
    symmetry c1
}
set {
    basis def2-tzvp
    d_convergence 8
}
gradient('b3lyp')
""",
    "qchem": """\
$molecule
{charge} {multiplicity}
{coordinates}
$end
$rem
jobtype force
method b3lyp
basis def2-tzvp
sym_ignore true
mem_total 4000
$end
""",
}
SUFFIXES = {"orca": (".inp", ".out"), "gaussian": (".gjf", ".log"), "psi4": (".in", ".out"), "qchem": (".in", ".out")}
_ATOM = re.compile(r"^\s*([A-Z][a-z]?)\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s*$")
_STATE = re.compile(r"^(?:\* xyz)?\s*(-?\d+) (\d+)\s*$")


def structure_of(text: str) -> Structure:
    """The geometry, charge and multiplicity of an input of any of the programs."""
    rows = [match.groups() for line in text.splitlines() if (match := _ATOM.match(line))]
    charge, multiplicity = next(match.groups() for line in text.splitlines() if (match := _STATE.match(line)))
    numbers = np.array([atomic_numbers[row[0]] for row in rows])
    positions = np.array([[float(x) for x in row[1:]] for row in rows]) * ANGSTROM
    return Structure(numbers, positions, int(charge), int(multiplicity))


def play(program: str, folder: Path, label: Callable[[Structure], Label]) -> int:
    """Run a program on all inputs of a folder that have no output; how many they were."""
    input_suffix, output_suffix = SUFFIXES[program]
    done = 0
    for path in sorted(folder.glob(f"*{input_suffix}")):
        output = path.with_suffix(output_suffix)
        if not output.exists():
            structure = structure_of(path.read_text())
            output.write_text(OUTPUTS[program](path.read_text(), structure, label(structure)))
            done += 1
    return done


def _rows(structure: Structure, values: np.ndarray, layout: str) -> str:
    pairs = enumerate(zip(structure.symbols, structure.numbers, values, strict=True), 1)
    return "\n".join(layout.format(n=n, s=s, z=z, x=v[0], y=v[1], w=v[2]) for n, (s, z, v) in pairs)


def orca(text: str, structure: Structure, label: Label) -> str:
    """An output of ORCA, its dipole about the centre of mass."""
    masses = structure.masses
    origin = masses @ structure.positions / masses.sum()
    nuclear = structure.numbers.sum() * (nuclear_charge_centre(structure) - origin)
    dipole = label.dipole + structure.charge * (nuclear_charge_centre(structure) - origin)
    echo = "\n".join(f"|{n:3}> {line}" for n, line in enumerate(text.splitlines(), 1))
    return f"""
                                 *****************
                                 * O   R   C   A *
                                 *****************
NAME = label.inp
{echo}
                         ****END OF INPUT****
---------------------------------
CARTESIAN COORDINATES (ANGSTROEM)
---------------------------------
{_rows(structure, structure.positions / ANGSTROM, "  {s:<2} {x:13.6f} {y:11.6f} {w:11.6f}")}

----------------------------
CARTESIAN COORDINATES (A.U.)
----------------------------
  NO LB      ZA    FRAG     MASS         X           Y           Z
{_rows(structure, structure.positions, "{n:4} {s:<2} {z:8.4f}    0     1.000 {x:11.6f} {y:11.6f} {w:11.6f}")}

 Total Charge           Charge          ....  {structure.charge:3}
 Multiplicity           Mult            ....  {structure.multiplicity:3}

FINAL SINGLE POINT ENERGY     {label.energy:18.12f}

------------------
CARTESIAN GRADIENT
------------------

{_rows(structure, -label.forces, "{n:4}   {s:<2}  : {x:14.9f} {y:14.9f} {w:14.9f}")}

Difference to translation invariance:
           :    0.0000001    0.0000000    0.0000000
-------------
DIPOLE MOMENT
-------------
                                X                 Y                 Z
Electronic contribution:     {" ".join(f"{x:17.9f}" for x in dipole - nuclear)}
Nuclear contribution   :     {" ".join(f"{x:17.9f}" for x in nuclear)}
                        -----------------------------------------
Total Dipole Moment    :     {" ".join(f"{x:17.9f}" for x in dipole)}
                        -----------------------------------------

                             ****ORCA TERMINATED NORMALLY****
"""


def gaussian(text: str, structure: Structure, label: Label) -> str:
    """An output of Gaussian without symmetry; the route is broken after 30 letters."""
    route = next(line for line in text.splitlines() if line.startswith("#"))
    dashes = " " + 69 * "-"
    dipole = label.dipole / DEBYE
    return f"""
 Entering Gaussian System, Link 0=g16
 -------------------------------
 {route[:30]}
 {route[30:]}
 -------------------------------
 Charge = {structure.charge:2} Multiplicity = {structure.multiplicity}
                          Input orientation:
{dashes}
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
{dashes}
{_rows(structure, structure.positions / ANGSTROM, "{n:7} {z:10}           0    {x:12.6f}{y:12.6f}{w:12.6f}")}
{dashes}
 SCF Done:  E(RB3LYP) = {label.energy:16.10f}     A.U. after   10 cycles
 Dipole moment (field-independent basis, Debye):
    X={dipole[0]:20.8f}    Y={dipole[1]:20.8f}    Z={dipole[2]:20.8f}  Tot={np.linalg.norm(dipole):20.8f}
 -------------------------------------------------------------------
 Center     Atomic                   Forces (Hartrees/Bohr)
 Number     Number              X              Y              Z
 -------------------------------------------------------------------
{_rows(structure, label.forces, "{n:7} {z:8}       {x:15.9f}{y:15.9f}{w:15.9f}")}
 -------------------------------------------------------------------
 Cartesian Forces:  Max     0.000082551 RMS     0.000027006
 Normal termination of Gaussian 16 at Mon Jan  6 10:19:28 2025.
"""


def psi4(text: str, structure: Structure, label: Label) -> str:
    """An output of Psi4."""
    rows = "\n".join(
        f" Dipole {a}            :  0.0000000 0.0000000 {x:.9f}" for a, x in zip("XYZ", label.dipole, strict=True)
    )
    geometry = _rows(structure, structure.positions / ANGSTROM, "    {s:<2}   {x:18.12f} {y:18.12f} {w:18.12f}")
    return f"""
          Psi4: An Open-Source Ab Initio Electronic Structure Package
  ==> Input File <==

--------------------------------------------------------------------------
{text.rstrip()}
--------------------------------------------------------------------------
    Geometry (in Angstrom), charge = {structure.charge}, multiplicity = {structure.multiplicity}:

{geometry}

                        Total Energy        Delta E     RMS |[F,P]|
   @DF-RKS iter   1:   -75.0000000000000   -7.5e+01   1.6e-01
    Total Energy =                       {label.energy:22.14f}
 L = 1.  Multiply by 2.5417464519 to convert [e a0] to [Debye]
{rows}
 Magnitude           :                                                    0.0000000

  -Total Gradient:
     Atom            X                  Y                   Z
    ------   -----------------  -----------------  -----------------
{_rows(structure, -label.forces, "{n:8}   {x:18.12f} {y:18.12f} {w:18.12f}")}

*** Psi4 exiting successfully. Buy a developer a beer!
"""


def qchem(text: str, structure: Structure, label: Label) -> str:
    """An output of Q-Chem; its gradient has six atoms a block."""
    blocks = []
    for start in range(0, len(structure), 6):
        part = -label.forces[start : start + 6].T
        head = " ".join(f"{start + n + 1:11}" for n in range(part.shape[1]))
        blocks.append(
            f" {head}\n" + "\n".join(f"{i:5}" + "".join(f"{x:15.9f}" for x in r) for i, r in enumerate(part, 1))
        )
    dipole = label.dipole / DEBYE
    gradient = "\n".join(blocks)
    return f"""
--------------------------------------------------------------
User input:
--------------------------------------------------------------
{text.rstrip()}
--------------------------------------------------------------
             Standard Nuclear Orientation (Angstroms)
    I     Atom           X                Y                Z
 ----------------------------------------------------------------
{_rows(structure, structure.positions / ANGSTROM, "{n:5}      {s:<2} {x:18.10f} {y:16.10f} {w:16.10f}")}
 ----------------------------------------------------------------
 Total energy in the final basis set = {label.energy:19.10f}
    Dipole Moment (Debye)
         X {dipole[0]:14.8f}      Y {dipole[1]:14.8f}      Z {dipole[2]:14.8f}
       Tot {np.linalg.norm(dipole):14.8f}
 Gradient of SCF Energy
{gradient}
 Max gradient component =       1.0E-04
        *  Thank you very much for using Q-Chem.  Have a nice day.  *
"""


OUTPUTS = {"orca": orca, "gaussian": gaussian, "psi4": psi4, "qchem": qchem}
