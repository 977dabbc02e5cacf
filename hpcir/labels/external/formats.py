"""Output formats of other programs as tables of patterns: the places of energy, gradient, dipole, geometry, charge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern

from hpcir.units import ANGSTROM, DEBYE

_NUMBER = r"([-+]?\d+\.\d*(?:[DEde][-+]?\d+)?)"
_THREE = rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}"


def _pattern(text: str) -> Pattern[str]:
    return re.compile(text)


@dataclass(frozen=True)
class Block:
    """Rows of numbers below a heading: those from the first that fits to the last that fits without a gap.

    heading: of the block; row: pattern with the atom's number or symbol as its first group where `named`, and then
    three numbers; unit: in atomic units; sign: -1 for forces that are to be a gradient.
    """

    heading: Pattern[str]
    row: Pattern[str]
    unit: float = 1.0
    sign: float = 1.0
    named: bool = False


@dataclass(frozen=True)
class OutputFormat:
    """Everything that is read from the output of one program; of what is printed several times, the last counts.

    finished: printed at a proper end; broken: printed when the program gives up; transposed: the gradient comes as
    three rows of up to six atoms; dipole: three numbers on a line, or one on each of three lines; nuclear: likewise the
    nuclei's part, which tells about which origin the dipole is (None: that of the coordinates); state_after: the line
    before that of charge and multiplicity, where their patterns alone would fit elsewhere; echo: what stands before a
    line of the echoed input; wrapped_route: only the route is echoed, broken at any letter; resources: input lines that
    may be changed without changing the level; needs: words that a template must have, with the reason.
    """

    name: str
    input_suffix: str
    output_suffixes: tuple[str, ...]
    finished: Pattern[str]
    broken: Pattern[str]
    energy: Pattern[str]
    geometry: Block
    gradient: Block
    dipole: Pattern[str]
    charge: Pattern[str]
    multiplicity: Pattern[str]
    dipole_unit: float = 1.0
    nuclear: Pattern[str] | None = None
    transposed: bool = False
    state_after: Pattern[str] | None = None
    echo: Pattern[str] | None = None
    wrapped_route: bool = False
    resources: Pattern[str] = field(default=re.compile(r"(?!)"))
    needs: Mapping[str, str] = field(default_factory=dict)


ORCA = OutputFormat(
    name="ORCA",
    input_suffix=".inp",
    output_suffixes=(".out", ".log"),
    finished=_pattern(r"ORCA TERMINATED NORMALLY"),
    broken=_pattern(r"ORCA finished by error termination|ABORTING THE RUN|aborting the run"),
    energy=_pattern(rf"^FINAL SINGLE POINT ENERGY(?: \(.*\))?\s+{_NUMBER}"),
    geometry=Block(
        _pattern(r"^CARTESIAN COORDINATES \(ANGSTROEM\)"),
        _pattern(rf"^\s*([A-Z][a-z]?)\s+{_THREE}\s*$"),
        ANGSTROM,
        named=True,
    ),
    gradient=Block(
        _pattern(r"^(?:CARTESIAN GRADIENT|The final \S+ gradient)"),
        _pattern(rf"^\s*\d+\s*(?:[A-Z][a-z]?\s*)?:\s*{_THREE}"),
    ),
    dipole=_pattern(rf"^\s*Total Dipole Moment\s*:\s*{_THREE}"),
    nuclear=_pattern(rf"^\s*Nuclear contribution\s*:\s*{_THREE}"),
    charge=_pattern(r"^\s*Total Charge\s+Charge\s+\.+\s+(-?\d+)"),
    multiplicity=_pattern(r"^\s*Multiplicity\s+Mult\s+\.+\s+(\d+)"),
    echo=_pattern(r"^\|\s*\d+> ?(.*)$"),
    resources=_pattern(r"^(%pal|nprocs|%maxcore|end$|%base)"),
    needs={"engrad": "asks for the gradient"},
)

GAUSSIAN = OutputFormat(
    name="Gaussian",
    input_suffix=".gjf",
    output_suffixes=(".log", ".out"),
    finished=_pattern(r"^ Normal termination of Gaussian"),
    broken=_pattern(r"^ Error termination"),
    energy=_pattern(
        rf"^ SCF Done:.*?=\s+{_NUMBER}|EUMP2 =\s+{_NUMBER}|E\(CORR\)=\s+{_NUMBER}|^ CCSD\(T\)=\s*{_NUMBER}"
        rf"|^ E2\(.*\) = .* E\(.*\) =\s+{_NUMBER}"
    ),
    geometry=Block(
        _pattern(r"^\s+(?:Input|Standard|Z-Matrix) orientation:"),
        _pattern(rf"^\s*\d+\s+(\d+)\s+\d+\s+{_THREE}\s*$"),
        ANGSTROM,
        named=True,
    ),
    gradient=Block(
        _pattern(r"^ Center\s+Atomic\s+Forces \(Hartrees/Bohr\)"), _pattern(rf"^\s*\d+\s+\d+\s+{_THREE}\s*$"), sign=-1.0
    ),
    dipole=_pattern(rf"^\s+X=\s*{_NUMBER}\s+Y=\s*{_NUMBER}\s+Z=\s*{_NUMBER}\s+Tot="),
    dipole_unit=DEBYE,
    charge=_pattern(r"^ Charge =\s*(-?\d+) Multiplicity"),
    multiplicity=_pattern(r"^ Charge =.* Multiplicity =\s*(\d+)"),
    wrapped_route=True,
    needs={
        "force": "asks for the gradient",
        "nosym": "keeps the orientation of the geometry, in which the dipole is then printed",
    },
)

PSI4 = OutputFormat(
    name="Psi4",
    input_suffix=".in",
    output_suffixes=(".out", ".log"),
    finished=_pattern(r"Psi4 exiting successfully"),
    broken=_pattern(r"Psi4 encountered an error|PSIO Error|Traceback \(most recent"),
    energy=_pattern(rf"^\s+(?:\* CCSD(?:\(T\))? total energy|Total Energy)\s+=\s+{_NUMBER}"),
    geometry=Block(
        _pattern(r"^\s+Geometry \(in Angstrom\), charge ="),
        _pattern(rf"^\s*([A-Z][A-Za-z]?)\s+{_THREE}(?:\s+{_NUMBER})?\s*$"),
        ANGSTROM,
        named=True,
    ),
    gradient=Block(_pattern(r"^\s+[-#]*\s?Total Gradient"), _pattern(rf"^\s*\d+\s+{_THREE}\s*$")),
    dipole=_pattern(rf"^\s*Dipole [XYZ]\s+:\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}"),
    charge=_pattern(r"^\s+Geometry \(in Angstrom\), charge =\s*(-?\d+)"),
    multiplicity=_pattern(r"^\s+Geometry \(in Angstrom\), charge =.* multiplicity =\s*(\d+)"),
    echo=_pattern(r"^(.*)$"),
    resources=_pattern(r"^(memory|set_num_threads)"),
    needs={
        "gradient(": "asks for the gradient",
        "no_reorient": "keeps the orientation of the geometry",
        "no_com": "keeps the place of the geometry",
    },
)

QCHEM = OutputFormat(
    name="Q-Chem",
    input_suffix=".in",
    output_suffixes=(".out", ".log"),
    finished=_pattern(r"Thank you very much for using Q-Chem"),
    broken=_pattern(r"Q-Chem fatal error"),
    energy=_pattern(
        rf"^ (?:Total energy in the final basis set|Total energy|\s*MP2\s+total energy|\s*CCSD(?:\(T\))? total energy)"
        rf"\s*=\s+{_NUMBER}"
    ),
    geometry=Block(
        _pattern(r"^\s+Standard Nuclear Orientation \(Angstroms\)"),
        _pattern(rf"^\s*\d+\s+([A-Z][a-z]?)\s+{_THREE}\s*$"),
        ANGSTROM,
        named=True,
    ),
    gradient=Block(
        _pattern(r"^ (?:Gradient of (?:SCF|MP2|the \S+) Energy|Full Analytical Gradient)"),
        _pattern(r"^\s+[123]((?:\s+[-+]?\d+\.\d+)+)\s*$"),
    ),
    transposed=True,
    dipole=_pattern(rf"^\s+X\s+{_NUMBER}\s+Y\s+{_NUMBER}\s+Z\s+{_NUMBER}\s*$"),
    dipole_unit=DEBYE,
    charge=_pattern(r"^\s*([-+]?\d+)\s+\d+\s*$"),
    multiplicity=_pattern(r"^\s*[-+]?\d+\s+(\d+)\s*$"),
    state_after=_pattern(r"^\s*\$molecule\s*$"),
    echo=_pattern(r"^(.*)$"),
    resources=_pattern(r"^(mem_total|mem_static|threads)"),
    needs={"force": "asks for the gradient", "sym_ignore": "keeps orientation and place of the geometry"},
)

FORMATS: dict[str, OutputFormat] = {"orca": ORCA, "gaussian": GAUSSIAN, "psi4": PSI4, "qchem": QCHEM}
