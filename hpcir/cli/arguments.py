"""The parser of the command line: commands and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hpcir.cli.answers as answers
from hpcir.cli.answers import Answer, stage_command
from hpcir.cli.values import Pairs, Units, coordinate, femtoseconds, kelvin, positive_count, seconds
from hpcir.errors import EXIT_DONE, EXIT_INPUT
from hpcir.runtime.launcher import local_rank
from hpcir.runtime.mpi import Communicator, on_root

DESCRIPTION = "Infrared spectra of molecules from machine-learned molecular dynamics."
EPILOG = """\
three commands from a structure to a spectrum:
  hpcir init molecule.xyz                 writes molecule.yaml
  hpcir check molecule.yaml               plan, cost and memory, before anything is spent
  mpirun -n 4 hpcir run molecule.yaml     continues where it stopped, as often as needed

exit status: 0 done, 2 wrong input, 3 stopped for a reason that it names, 75 stopped on request with all saved
"""


class Parser(argparse.ArgumentParser):
    """argparse where rank 0 alone prints."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if local_rank() == 0:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_INPUT, f"hpcir: {message}. `{self.prog} --help` lists what can be given\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = Parser(
        prog="hpcir", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action=_Version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_run_commands(commands)
    _add_model_commands(commands)
    _add_spectrum_commands(commands)
    _add_result_commands(commands)
    return top


class _Version(argparse.Action):
    """`--version`; the version is looked up only when needed."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from hpcir.version import __version__

        parser._print_message(f"hpcir {__version__}\n", sys.stdout)
        parser.exit(EXIT_DONE)


def _command(commands: Any, name: str, help: str, answer: Answer) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    made.set_defaults(answer=answer)
    return made


def _add_run_commands(commands: Any) -> None:
    run = _command(commands, "run", "run a deck, or continue it where it stopped", answers.run)
    run.add_argument("deck", metavar="DECK", type=Path, help="the YAML deck")
    run.add_argument("-o", "--out", metavar="DIR", type=Path, help="run directory (default: the deck's name with .run)")
    run.add_argument("--until", metavar="STAGE", help="stop after this stage, such as prepare, sample or spectrum")
    run.add_argument(
        "--fresh", action="store_true", help="start over; refused unless the directory is empty or --force"
    )
    run.add_argument("--force", action="store_true", help="allow --fresh to clear a run directory")
    run.add_argument("--walltime", metavar="TIME", type=seconds, help="stop in time with all saved, such as '110 min'")

    init = _command(commands, "init", "write a commented deck that runs", answers.init)
    init.add_argument(
        "structure", metavar="STRUCTURE", type=Path, nargs="?", help="structure file (xyz, mol, pdb, ... as ASE reads)"
    )
    init.add_argument("--smiles", metavar="TEXT", help="SMILES string in place of a file, such as CCO")
    init.add_argument("--name", metavar="TEXT", help="name in place of a file, such as ethanol")
    init.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the file's, else 0)")
    init.add_argument(
        "--multiplicity", metavar="M", type=positive_count, help="2S+1 (default: the ground state's usual one)"
    )
    init.add_argument("--engine", choices=("pyscf", "tblite"), default="pyscf", help="label engine (default: pyscf)")
    _output(init, "DECK", "the deck to write (default: the structure's name with .yaml)", required=False)
    init.add_argument("--slurm", action="store_true", help="write a SLURM job script beside it")

    check = _command(
        commands, "check", "validate a deck; plan, cost and memory before anything is spent", answers.check
    )
    check.add_argument("deck", metavar="DECK", type=Path, help="the YAML deck")
    check.add_argument(
        "-o", "--out", metavar="DIR", type=Path, help="run directory (default: the deck's name with .run)"
    )
    check.add_argument(
        "--label",
        action=argparse.BooleanOptionalAction,
        help="make one label of the structure, whatever it costs, or none (default: where it takes a second or less)",
    )
    check.add_argument("--quick", dest="label", action="store_false", default=None, help=argparse.SUPPRESS)


def _add_model_commands(commands: Any) -> None:
    label = _command(commands, "label", "energy, forces and dipole of a set of geometries", stage_command("label"))
    label.add_argument("structures", metavar="STRUCTURES", type=Path, help="geometries (xyz, extxyz)")
    label.add_argument("--deck", metavar="DECK", type=Path, required=True, help="deck whose labels section is used")
    _output(label, "OUT.xyz", "extxyz file to write")
    _walltime(label)

    _add_train(commands)

    evaluate = _command(commands, "evaluate", "a model's energy, forces, dipole, charges", stage_command("evaluate"))
    evaluate.add_argument("model", metavar="MODEL_DIR", type=Path, help="model or run directory")
    evaluate.add_argument("structures", metavar="STRUCTURES", type=Path, help="geometries (xyz, extxyz)")
    evaluate.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the file's, the model's)")
    _output(evaluate, "OUT.xyz", "extxyz file to write")

    md = _command(commands, "md", "trajectories alone", stage_command("md"))
    md.add_argument("model", metavar="MODEL_DIR", type=Path, help="model or run directory")
    md.add_argument("structure", metavar="STRUCTURE", type=Path, help="starting structure (xyz, extxyz)")
    md.add_argument(
        "--deck", metavar="DECK", type=Path, help="deck for dynamics, labels, spectrum and seed (default: the run's)"
    )
    md.add_argument(
        "--potential", choices=("model", "labels"), default="model", help="labels: forces from the label engine itself"
    )
    md.add_argument(
        "--trajectories", metavar="N", type=positive_count, help="number of trajectories (default: the deck's)"
    )
    md.add_argument("--duration", metavar="TIME", type=femtoseconds, help="length of each, such as '5 ps'")
    _masses(md, "the structure file's isotopes, else standard atomic weights")
    md.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the deck's, the model's)")
    _output(md, "DIR", "folder to write")
    _walltime(md)

    _add_levels(commands)

    export = _command(commands, "export", "write a model for another program", stage_command("export"))
    export.add_argument("model", metavar="MODEL_DIR", type=Path, help="model or run directory")
    export.add_argument("--format", choices=("n2p2",), required=True, help="format to write")
    _output(export, "DIR", "folder to write", required=False)
    _add_import(commands)


def _masses(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--masses",
        metavar="ATOM=AMU",
        action=Pairs,
        nargs="+",
        default={},
        help=f"other masses, such as H=2.014 or H6=2.014 (default: {default})",
    )


def _add_levels(commands: Any) -> None:
    levels = _command(commands, "levels", "quantum vibrational levels from the surface", stage_command("levels"))
    levels.add_argument("model", metavar="RUN", type=Path, help="run directory, or a model and STRUCTURE")
    levels.add_argument(
        "structure", metavar="STRUCTURE", type=Path, nargs="?", help="structure near the minimum (default: the run's)"
    )
    levels.add_argument(
        "--potential", choices=("model", "labels"), default="model", help="labels: of the label engine's own surface"
    )
    _masses(levels, "the deck's isotopes")
    levels.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the model's)")
    _output(levels, "FILE.json", "file to write (default: levels.json in RUN)", required=False)


def _add_train(commands: Any) -> None:
    train = _command(commands, "train", "train a committee on an outside data set", stage_command("train"))
    train.add_argument(
        "--data", metavar="DATA", type=Path, required=True, help="labelled geometries (extxyz, npz, ASE db, h5)"
    )
    train.add_argument(
        "--deck", metavar="DECK", type=Path, help="deck for model, training and seed (default: defaults)"
    )
    train.add_argument(
        "--units",
        metavar="NAME=UNIT",
        action=Units,
        nargs="+",
        default={},
        help="units of the data, such as energy=eV forces=eV/A dipole=D; or one word: ase, atomic",
    )
    train.add_argument(
        "--keys",
        metavar="NAME=KEY",
        action=Pairs,
        nargs="+",
        default={},
        help="names in the data, such as energy=REF_energy forces=REF_forces",
    )
    train.add_argument("--charge", metavar="Q", type=int, help="total charge where the data do not say it (default: 0)")
    train.add_argument("--dipole-origin", choices=("charge", "mass", "geometry", "zero"), help="of the dipoles of ions")
    train.add_argument(
        "--missing",
        choices=("error", "allow"),
        default="error",
        help="allow: take geometries that lack a quantity which others have",
    )
    train.add_argument(
        "--pretrain",
        metavar="auto|LEVEL|MODEL",
        default="none",
        help="auto: learn cheap labels of geometries around the data's first (the deck's labels.pretrain); a number: "
        "those of that level of the deck's; a model: begin from it",
    )
    _output(train, "MODEL_DIR", "model directory to write", force="overwrite; train in spite of the audit")
    _walltime(train)


def _add_import(commands: Any) -> None:
    made = _command(commands, "import", "a potential of another program as a model", stage_command("import_model"))
    made.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="n2p2 or RuNNer files, one a member")
    made.add_argument("--format", choices=("n2p2",), default="n2p2", help="format to read (default: n2p2)")
    made.add_argument(
        "--energy-unit", metavar="UNIT", default="hartree", help="of the files: hartree (default), eV, kcal/mol, ..."
    )
    made.add_argument("--length-unit", metavar="UNIT", default="bohr", help="of the files: bohr (default) or A")
    made.add_argument(
        "--charges",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        default=[],
        help="networks of atomic charges, for the dipole (default: the folder 'charges' in each FOLDER)",
    )
    made.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the files', else 0)")
    made.add_argument("--level", metavar="TEXT", default="", help="level of theory that it learnt from")
    _output(made, "MODEL_DIR", "model directory to write")


def _add_spectrum_commands(commands: Any) -> None:
    spectrum = _command(commands, "spectrum", "spectrum from any dipole series", stage_command("spectrum"))
    spectrum.add_argument("series", metavar="SERIES", type=Path, nargs="+", help="dipole series (h5, csv, npz, extxyz)")
    spectrum.add_argument(
        "--deck", metavar="DECK", type=Path, help="deck for dynamics and spectrum (default: defaults)"
    )
    spectrum.add_argument("--step", metavar="TIME", type=femtoseconds, help="time between dipoles, such as '2 fs'")
    spectrum.add_argument(
        "--timestep", metavar="TIME", type=femtoseconds, help="velocity Verlet's, to undo its frequency error"
    )
    spectrum.add_argument("--temperature", metavar="T", type=kelvin, help="temperature, such as '300 K'")
    spectrum.add_argument("--unit", metavar="UNIT", help="unit of the dipoles: D, e*A or e*bohr")
    spectrum.add_argument(
        "--program",
        choices=("i-pi", "cp2k", "lammps", "gpumd", "orca", "gaussian"),
        help="program that wrote the series (default: by the file's contents)",
    )
    spectrum.add_argument(
        "--cell",
        metavar="LENGTH",
        type=coordinate,
        nargs="+",
        help="edges of the box of a Berry-phase dipole, such as '12.4 A', or its three vectors (nine numbers), to undo "
        "changes of branch",
    )
    _output(spectrum, "DIR", "folder to write")

    compare = _command(commands, "compare", "band shifts and overlap with another spectrum", stage_command("compare"))
    compare.add_argument("spectrum", metavar="SPECTRUM", type=Path, help="spectrum.csv, spectrum.h5 or a run directory")
    compare.add_argument("reference", metavar="REFERENCE", type=Path, help="the same, or a JCAMP-DX file")
    _output(compare, "DIR", "folder for figures and figures' data", required=False)


def _add_result_commands(commands: Any) -> None:
    report = _command(commands, "report", "draw figures and the HTML page of a run again", answers.report)
    report.add_argument("directory", metavar="DIR", type=Path, help="run directory")
    status = _command(commands, "status", "where a run stands", answers.status)
    status.add_argument("directory", metavar="DIR", type=Path, help="run directory")
    status.add_argument("--json", action="store_true", help="for programs")
    _command(commands, "schema", "print the JSON schema of decks, for editors", answers.schema)
    completion = _command(commands, "completion", "print a script that completes commands in a shell", _completion)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def _output(
    command: argparse.ArgumentParser, metavar: str, help: str, required: bool = True, force: str = "overwrite"
) -> None:
    command.add_argument("-o", "--output", metavar=metavar, type=Path, required=required, help=help)
    command.add_argument("--force", action="store_true", help=force)


def _walltime(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--walltime", metavar="TIME", type=seconds, help="stop in time with all saved, such as '110 min'"
    )


def _completion(options: argparse.Namespace, comm: Communicator) -> None:
    def completion() -> None:
        from hpcir.commands.completion import completion_script

        print(completion_script(parser(), options.shell))

    on_root(comm, completion)
