"""`hpcir init`: a commented deck that runs, from a structure, a SMILES string or a name alone."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hpcir.commands.init_size import SizeSettings, settings_for
from hpcir.deck.sections import LabelSettings
from hpcir.deck.study import heavy_atoms
from hpcir.errors import InputError
from hpcir.labels import create_engine
from hpcir.molecules.files.outputs import is_output
from hpcir.molecules.pieces import formula, structure_notes
from hpcir.molecules.structures import Structure, check_spin, check_vibrates, read_frames, read_structure, xyz_text

_ENGINES = {
    "pyscf": """\
  engine: pyscf
{level}  density_fitting: true
  dispersion: none            # or d3bj, d4: needs `pip install 'hpcir[dispersion]'`
""",
    "tblite": """\
  engine: tblite              # a label takes milliseconds; less accurate than density functional theory
  method: GFN2-xTB            # or GFN1-xTB
""",
}

# Levels by the size of a molecule, from what they miss of experiment and cost (docs/levels-of-theory.md).
_SMALL_LEVEL = """\
  functional: b3lyp           # any that PySCF knows; bp86/def2-svp is several times as fast and rough
  basis: def2-tzvpd           # diffuse functions: intensities want them
"""
_LARGE_LEVEL = """\
  functional: bp86            # b3lyp is better and costs several times as much: see `levels`, a chain of levels
  basis: def2-svp             # def2-tzvpd is better and costs several times as much
"""
# Most atoms other than hydrogen of a small molecule.
_SMALL = 6

# Labels by the hundred where they cost milliseconds.
_SAMPLING = {
    "pyscf": """\
  max_labels: 250             # the most that may be spent
""",
    "tblite": """\
  max_labels: 1000            # the most that may be spent
  initial_labels: 300
  round_labels: 150
  rounds: 4
""",
}

_DECK = """\
# {title}
#
#   hpcir check {deck}             plan, cost and memory, before anything is spent
#   mpirun -n 4 hpcir run {deck}   continues where it stopped, as often as needed
#
# Every key that is not here has a default; the run directory's deck.resolved.yaml shows them all.

system:
  structure: {structure}
  charge: {charge}
  multiplicity: {multiplicity}             # 2S+1{spin_note}

labels:                       # the electronic structure that everything is learnt from
{engine}
{model}sampling:                     # the committee looks for its own training points
{sampling}{size}  temperatures: [300 K, 500 K, 700 K]

test:
  count: 100                  # independent labels that measure the errors; 0 leaves the test out

dynamics:
  temperature: 300 K
  timestep: 0.5 fs
  trajectories: 64            # at most, fewer where `accuracy` is met; the error bars are over them
  duration: 5 ps
  rotation: remove            # keep: the gas phase's rotational contours
  # nuclei: pigs              # quantum nuclei: X-H stretches 50 to 150 cm-1 lower, as measured; some more labels
{dynamics}
spectrum:
  depth: 1.5 ps               # longer: sharper bands with larger error bars
  last: 4500 cm-1

seed: 1
"""

# Neutral molecules with an even number of electrons whose ground state is a triplet (Huber and Herzberg, "Constants of
# Diatomic Molecules", 1979; methylene: Herzberg, Proc. R. Soc. A 262, 291, 1961), by their formulas in Hill's order.
TRIPLETS = frozenset(("O2", "OS", "S2", "OSe", "Se2", "STe", "Te2", "B2", "HN", "HP", "FN", "ClN", "BrN", "CH2"))

# Bytes of the largest file whose geometries are counted.
LARGEST_COUNTED = 20_000_000

# The same file as jobs/requeue.slurm.
_SLURM = Path(__file__).parent / "templates" / "requeue.slurm"


def write_start(
    path: Path | None,
    *,
    smiles: str | None = None,
    name: str | None = None,
    charge: int | None = None,
    multiplicity: int | None = None,
    engine: str = "pyscf",
    output: Path | None = None,
    slurm: bool = False,
    force: bool = False,
) -> list[Path]:
    """Write a deck for a structure file, a SMILES string or a name, and a job script when `slurm`; prints and returns
    what was written. Of a string the structure and a drawing of what was understood are written beside the deck.

    Without a charge it is the file's or the string's, else 0. Without a multiplicity it is the lowest that the
    electrons allow, and 3 for `TRIPLETS`. Raises InputError when the structure is wrong, the engine cannot label it,
    or a file is there already and not `force`.
    """
    if sum(source is not None for source in (path, smiles, name)) != 1:
        raise InputError(
            "one of a structure file, --smiles and --name is wanted", hint="such as hpcir init molecule.xyz"
        )
    files: dict[Path, str] = {}
    notes: list[str] = []
    if path is None:
        path, structure, files, notes = _of_string(smiles, name, charge, multiplicity, output)
    else:
        structure = _of_file(path, charge, multiplicity)
        notes += _frames_note(path)
    check_vibrates(structure)
    level = _level(structure, engine)
    deck = output or Path(f"{path.stem}.yaml")
    folder = deck.parent / f"{deck.stem}-seeds"
    size = settings_for(structure, engine, folder.name)
    files[deck] = _deck_text(structure, path, deck, _ENGINES[engine].format(level=level), _SAMPLING[engine], size)
    files |= {
        folder / f"{name}.xyz": xyz_text(replace(seed, name=formula(seed.symbols))) for name, seed in size.seeds.items()
    }
    if slurm:
        script = deck.with_suffix(".slurm")
        files[script] = _slurm_text(deck, script)
    for file in files:
        if file.exists() and not force:
            raise InputError("the file exists already", where=str(file), hint="give -o another name, or --force")
    for file, text in files.items():
        _write(file, text)
        print(f"wrote {file}")
    print(f"charge {structure.charge}, multiplicity {structure.multiplicity}{_spin_note(structure)}")
    for note in [*notes, *size.reasons]:
        print(f"note: {note}")
    for note in structure_notes(structure):
        print(f"warning: {note}")
    print(f"next: hpcir check {shlex.quote(str(deck))}")
    return list(files)


def _of_file(path: Path, charge: int | None, multiplicity: int | None) -> Structure:
    if multiplicity is not None:
        return read_structure(path, charge, multiplicity)
    try:
        stated = read_structure(path, charge)
    except InputError as error:
        if "multiplicity" not in error.what:
            raise
    else:
        if stated.multiplicity != 1:
            return stated
    return read_structure(path, charge, _usual_multiplicity(path, charge))


def _frames_note(path: Path) -> list[str]:
    """A note on the geometry taken from a file of several; [] of one, or of a file too large to count."""
    count = len(read_frames(path)) if path.stat().st_size < LARGEST_COUNTED else 1
    return [f"the {'last' if is_output(path) else 'first'} of {count} geometries in {path.name}"] if count > 1 else []


def _of_string(
    smiles: str | None, name: str | None, charge: int | None, multiplicity: int | None, output: Path | None
) -> tuple[Path, Structure, dict[Path, str], list[str]]:
    """The structure file of a string, its structure, the files to write and notes to print."""
    from hpcir.molecules.strings import from_smiles, smiles_of_name

    notes = []
    if smiles is None:
        assert name is not None
        smiles = smiles_of_name(name)
        notes.append(f"{name} is {smiles}")
    found = from_smiles(smiles, name or "")
    structure = found.structure
    if charge is not None and charge != structure.charge:
        raise InputError(
            f"the string is of the total charge {structure.charge:+d}",
            where="--charge",
            value=charge,
            hint="leave it out",
        )
    if multiplicity is not None or (structure.charge == 0 and formula(structure.symbols) in TRIPLETS):
        structure = replace(structure, multiplicity=multiplicity or 3)
        check_spin(structure, "--multiplicity")
    stem = re.sub(r"[^\w.+-]+", "-", name or formula(structure.symbols)).strip("-.") or "molecule"
    path = output.with_suffix(".xyz") if output is not None else Path(f"{stem}.xyz")
    files = {path: xyz_text(replace(structure, name=found.smiles)), path.with_suffix(".svg"): found.drawing}
    return path, structure, files, [*notes, f"understood as {found.smiles}, drawn in the .svg", *found.notes]


def _usual_multiplicity(path: Path, charge: int | None) -> int:
    """3 for the small molecules of `TRIPLETS`; else 1 or 2, by the parity of the electrons."""
    for multiplicity in (1, 2):
        try:
            structure = read_structure(path, charge, multiplicity)
        except InputError as error:
            if "multiplicity" not in error.what:
                raise
        else:
            triplet = structure.charge == 0 and formula(structure.symbols) in TRIPLETS
            return 3 if triplet and _may_be(path, charge, 3) else multiplicity
    # The file states a multiplicity, which cannot be: the reader says why.
    return read_structure(path, charge).multiplicity


def _may_be(path: Path, charge: int | None, multiplicity: int) -> bool:
    """False where the file states another multiplicity."""
    try:
        read_structure(path, charge, multiplicity)
    except InputError:
        return False
    return True


def _spin_note(structure: Structure) -> str:
    if structure.multiplicity == 2:
        return " (an odd number of electrons: at least 2)"
    if structure.multiplicity == 3 and formula(structure.symbols) in TRIPLETS:
        return f": the ground state of {formula(structure.symbols)} is a triplet; 1 for the singlet"
    return "; 3 for a triplet" if structure.multiplicity == 1 else ""


def _level(structure: Structure, engine: str) -> str:
    """The lines of the level of theory of a molecule's deck, '' for tblite. Raises InputError where the engine cannot
    label it."""
    if engine == "tblite":
        create_engine(LabelSettings(engine="tblite"), structure).check(structure)
        return ""
    if heavy_atoms(structure) <= _SMALL:
        better = LabelSettings(engine="pyscf", functional="b3lyp", basis="def2-tzvpd")
        with suppress(InputError):  # a basis set without one of the elements
            create_engine(better, structure).check(structure)
            return _SMALL_LEVEL
    create_engine(LabelSettings(engine="pyscf"), structure).check(structure)
    return _LARGE_LEVEL


def _deck_text(structure: Structure, path: Path, deck: Path, engine: str, sampling: str, size: SizeSettings) -> str:
    import yaml

    relative = os.path.relpath(path.resolve(), deck.absolute().parent.resolve())
    return _DECK.format(
        title=f"Infrared spectrum of {formula(structure.symbols)}.",
        deck=" ".join(shlex.quote(str(deck)).split()),
        structure=yaml.safe_dump(relative, allow_unicode=True, width=10**6).splitlines()[0],
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        spin_note=_spin_note(structure),
        engine=engine,
        sampling=sampling,
        model="model:\n" + "\n".join(size.model) + "\n\n" if size.model else "",
        size="".join(f"{line}\n" for line in size.sampling),
        dynamics="".join(f"{line}\n" for line in size.dynamics),
    )


def _slurm_text(deck: Path, script: Path) -> str:
    """The self-requeueing job script for a deck; both are named as seen from the folder of `hpcir init`."""
    job = re.sub(r"[^A-Za-z0-9._-]", "_", deck.stem)
    text = _SLURM.read_text(encoding="utf-8")
    for placeholder, value in (
        ("sbatch requeue.slurm", f"sbatch {' '.join(shlex.quote(str(script)).split())}"),
        ("--job-name=hpcir", f"--job-name={job}"),
        ("deck=molecule.yaml", f"deck={shlex.quote(str(deck))}"),
    ):
        text = text.replace(placeholder, value, 1)
    return text


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(path), hint="give -o another name") from None
