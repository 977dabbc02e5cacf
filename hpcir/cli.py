"""The command line: commands, their options and the functions behind them. Nothing is computed here.

Exit status: 0 done; 2 wrong input; 3 stopped for a reason that is named; 75 stopped on request, run again to continue.
Under mpirun every rank reads the same arguments, rank 0 alone prints, and all end with one status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcir.errors import EXIT_DONE, EXIT_INPUT, EXIT_INTERRUPTED, HpcirError
from hpcir.runtime.launcher import local_rank
from hpcir.runtime.mpi import Communicator, abort_on_exception, on_root, world

if TYPE_CHECKING:
    from hpcir.deck.loader import LoadedDeck
    from hpcir.deck.study import Study

Answer = Callable[[argparse.Namespace, Communicator], None]
DESCRIPTION = "Infrared spectra of molecules from machine-learned molecular dynamics."
EPILOG = """\
three commands from a structure to a spectrum:
  hpcir init molecule.xyz                 writes molecule.yaml
  hpcir check molecule.yaml               plan, cost and memory, before anything is spent
  mpirun -n 4 hpcir run molecule.yaml     continues where it stopped, as often as needed

exit status: 0 done, 2 wrong input, 3 stopped for a reason that it names, 75 stopped on request with all saved
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without the letter Å is no reason to stop
    options = parser().parse_args(arguments)
    if not hasattr(options, "answer"):
        parser().print_help()
        return EXIT_INPUT
    from hpcir.runtime.threads import set_threads

    options.threads = set_threads(getattr(options, "deck", None))
    if options.command == "run":
        from hpcir.runtime.stopping import stop_at_once

        stop_at_once()  # a batch system may end a job while it still starts
    try:
        return _answer(options)
    except BrokenPipeError:  # the reader of our output went away: `hpcir status DIR | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _answer(options: argparse.Namespace) -> int:
    rank = local_rank()
    try:
        comm = world()
        rank = comm.rank
        from hpcir.storage.provenance import forget_facts, record_facts

        forget_facts()
        record_facts(hosts=comm.nodes)
        with abort_on_exception(comm):
            options.answer(options, comm)
    except HpcirError as error:
        if rank == 0:
            print(f"hpcir: {error}", file=sys.stderr, flush=True)
        return error.status
    except KeyboardInterrupt:
        if rank == 0:
            print("hpcir: interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    return EXIT_DONE


def _warn_when_oversubscribed(options: argparse.Namespace, comm: Communicator) -> None:
    from hpcir.runtime.threads import host_cores, oversubscription

    places = comm.gather(host_cores())
    warning = oversubscription(places, options.threads) if places is not None else ""
    if warning:
        print(f"hpcir: warning: {warning}", file=sys.stderr, flush=True)


# -- commands ---------------------------------------------------------------------------------------------------


def _load(options: argparse.Namespace, comm: Communicator) -> Study:
    """The deck, its molecules and what the label engine says of them, checked by rank 0 and broadcast."""

    def read() -> Study:
        from hpcir.commands.check import check_engine
        from hpcir.deck.checks import check_deck
        from hpcir.deck.loader import load_deck

        study = check_deck(load_deck(options.deck).with_threads(options.threads))
        check_engine(study)
        return study

    return on_root(comm, read)


def _run_directory(options: argparse.Namespace, study: Study) -> Path:
    return options.out or Path(f"{study.loaded.path.stem}.run")


def _run(options: argparse.Namespace, comm: Communicator) -> None:
    study = _load(options, comm)
    out = _run_directory(options, study)
    from hpcir.commands.check import check_output
    from hpcir.study.road import run

    on_root(comm, lambda: check_output(out))
    _warn_when_oversubscribed(options, comm)

    run(
        study,
        out,
        comm,
        until=options.until,
        fresh=options.fresh,
        force=options.force,
        walltime=options.walltime,
        report=_draw,
    )


def _draw(directory: Path) -> None:
    from hpcir.report.writing import write_report

    write_report(directory)


def _check(options: argparse.Namespace, comm: Communicator) -> None:
    study = _load(options, comm)

    def check() -> None:
        from hpcir.commands.check import check_run

        check_run(study, _run_directory(options, study), ranks=comm.size, time_label=not options.quick)

    on_root(comm, check)


def _init(options: argparse.Namespace, comm: Communicator) -> None:
    def start() -> None:
        from hpcir.commands.init import write_start

        write_start(
            options.structure,
            smiles=options.smiles,
            name=options.name,
            charge=options.charge,
            multiplicity=options.multiplicity,
            engine=options.engine,
            output=options.output,
            slurm=options.slurm,
            force=options.force,
        )

    on_root(comm, start)


def _settings(options: argparse.Namespace, comm: Communicator) -> LoadedDeck:
    """The deck alone, for commands that bring their own molecule: its structure and label engine are not read."""

    def read() -> LoadedDeck:
        from hpcir.deck.loader import load_deck

        return load_deck(options.deck).with_threads(options.threads)

    return on_root(comm, read)


def _stage_command(name: str) -> Answer:
    """A command whose keywords are its options: hpcir.commands.dispatch.NAME(..., comm=comm)."""

    def answer(options: argparse.Namespace, comm: Communicator) -> None:
        keywords = {key: value for key, value in vars(options).items() if key not in ("answer", "command", "threads")}
        if "deck" in keywords:
            keywords["deck"] = _settings(options, comm) if options.deck is not None else None
        _warn_when_oversubscribed(options, comm)
        from importlib import import_module

        getattr(import_module("hpcir.commands.dispatch"), name)(**keywords, comm=comm)

    return answer


def _report(options: argparse.Namespace, comm: Communicator) -> None:
    def report() -> None:
        from hpcir.report.writing import write_report

        for path in write_report(options.directory):
            print(path)

    on_root(comm, report)


def _status(options: argparse.Namespace, comm: Communicator) -> None:
    def status() -> None:
        from hpcir.commands.status import print_status

        print_status(options.directory, as_json=options.json)

    on_root(comm, status)


def _schema(options: argparse.Namespace, comm: Communicator) -> None:
    import json

    def schema() -> None:
        from hpcir.deck.resolved import json_schema

        print(json.dumps(json_schema(), indent=2))

    on_root(comm, schema)


def _completion(options: argparse.Namespace, comm: Communicator) -> None:
    def completion() -> None:
        from hpcir.commands.completion import completion_script

        print(completion_script(parser(), options.shell))

    on_root(comm, completion)


# -- arguments --------------------------------------------------------------------------------------------------


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
    run = _command(commands, "run", "run a deck, or continue it where it stopped", _run)
    run.add_argument("deck", metavar="DECK", type=Path, help="the YAML deck")
    run.add_argument("-o", "--out", metavar="DIR", type=Path, help="run directory (default: the deck's name with .run)")
    run.add_argument("--until", metavar="STAGE", help="stop after this stage, such as prepare, sample or spectrum")
    run.add_argument(
        "--fresh", action="store_true", help="start over; refused unless the directory is empty or --force"
    )
    run.add_argument("--force", action="store_true", help="allow --fresh to clear a run directory")
    run.add_argument("--walltime", metavar="TIME", type=_seconds, help="stop in time with all saved, such as '110 min'")

    init = _command(commands, "init", "write a commented deck that runs", _init)
    init.add_argument(
        "structure", metavar="STRUCTURE", type=Path, nargs="?", help="structure file (xyz, mol, pdb, ... as ASE reads)"
    )
    init.add_argument("--smiles", metavar="TEXT", help="SMILES string in place of a file, such as CCO")
    init.add_argument("--name", metavar="TEXT", help="name in place of a file, such as ethanol")
    init.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the file's, else 0)")
    init.add_argument("--multiplicity", metavar="M", type=_count, help="2S+1 (default: the ground state's usual one)")
    init.add_argument("--engine", choices=("pyscf", "tblite"), default="pyscf", help="label engine (default: pyscf)")
    _output(init, "DECK", "the deck to write (default: the structure's name with .yaml)", required=False)
    init.add_argument("--slurm", action="store_true", help="write a SLURM job script beside it")

    check = _command(commands, "check", "validate a deck; plan, cost and memory before anything is spent", _check)
    check.add_argument("deck", metavar="DECK", type=Path, help="the YAML deck")
    check.add_argument(
        "-o", "--out", metavar="DIR", type=Path, help="run directory (default: the deck's name with .run)"
    )
    check.add_argument("--quick", action="store_true", help="leave out the one timed label")


def _add_model_commands(commands: Any) -> None:
    label = _command(commands, "label", "energy, forces and dipole of a set of geometries", _stage_command("label"))
    label.add_argument("structures", metavar="STRUCTURES", type=Path, help="geometries (xyz, extxyz)")
    label.add_argument("--deck", metavar="DECK", type=Path, required=True, help="deck whose labels section is used")
    _output(label, "OUT.xyz", "extxyz file to write")
    _walltime(label)

    _add_train(commands)

    evaluate = _command(commands, "evaluate", "a model's energy, forces, dipole, charges", _stage_command("evaluate"))
    evaluate.add_argument("model", metavar="MODEL_DIR", type=Path, help="model or run directory")
    evaluate.add_argument("structures", metavar="STRUCTURES", type=Path, help="geometries (xyz, extxyz)")
    evaluate.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the file's, the model's)")
    _output(evaluate, "OUT.xyz", "extxyz file to write")

    md = _command(commands, "md", "trajectories alone", _stage_command("md"))
    md.add_argument("model", metavar="MODEL_DIR", type=Path, help="model or run directory")
    md.add_argument("structure", metavar="STRUCTURE", type=Path, help="starting structure (xyz, extxyz)")
    md.add_argument(
        "--deck", metavar="DECK", type=Path, help="deck for dynamics, labels, spectrum and seed (default: the run's)"
    )
    md.add_argument(
        "--potential", choices=("model", "labels"), default="model", help="labels: forces from the label engine itself"
    )
    md.add_argument("--trajectories", metavar="N", type=_count, help="number of trajectories (default: the deck's)")
    md.add_argument("--duration", metavar="TIME", type=_femtoseconds, help="length of each, such as '5 ps'")
    _masses(md, "the structure file's isotopes, else standard atomic weights")
    md.add_argument("--charge", metavar="Q", type=int, help="total charge (default: the deck's, the model's)")
    _output(md, "DIR", "folder to write")
    _walltime(md)

    _add_levels(commands)

    export = _command(commands, "export", "write a model for another program", _stage_command("export"))
    export.add_argument("model", metavar="MODEL_DIR", type=Path, help="model or run directory")
    export.add_argument("--format", choices=("n2p2",), required=True, help="format to write")
    _output(export, "DIR", "folder to write", required=False)
    _add_import(commands)


def _masses(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--masses",
        metavar="ATOM=AMU",
        action=_Pairs,
        nargs="+",
        default={},
        help=f"other masses, such as H=2.014 or H6=2.014 (default: {default})",
    )


def _add_levels(commands: Any) -> None:
    levels = _command(commands, "levels", "quantum vibrational levels from the surface", _stage_command("levels"))
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
    train = _command(commands, "train", "train a committee on an outside data set", _stage_command("train"))
    train.add_argument(
        "--data", metavar="DATA", type=Path, required=True, help="labelled geometries (extxyz, npz, ASE db, h5)"
    )
    train.add_argument(
        "--deck", metavar="DECK", type=Path, help="deck for model, training and seed (default: defaults)"
    )
    train.add_argument(
        "--units",
        metavar="NAME=UNIT",
        action=_Units,
        nargs="+",
        default={},
        help="units of the data, such as energy=eV forces=eV/A dipole=D; or one word: ase, atomic",
    )
    train.add_argument(
        "--keys",
        metavar="NAME=KEY",
        action=_Pairs,
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
    made = _command(commands, "import", "a potential of another program as a model", _stage_command("import_model"))
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
    made.add_argument("--charge", metavar="Q", type=int, default=0, help="total charge (default: 0)")
    made.add_argument("--level", metavar="TEXT", default="", help="level of theory that it learnt from")
    _output(made, "MODEL_DIR", "model directory to write")


def _add_spectrum_commands(commands: Any) -> None:
    spectrum = _command(commands, "spectrum", "spectrum from any dipole series", _stage_command("spectrum"))
    spectrum.add_argument("series", metavar="SERIES", type=Path, nargs="+", help="dipole series (h5, csv, npz, extxyz)")
    spectrum.add_argument(
        "--deck", metavar="DECK", type=Path, help="deck for dynamics and spectrum (default: defaults)"
    )
    spectrum.add_argument("--step", metavar="TIME", type=_femtoseconds, help="time between dipoles, such as '2 fs'")
    spectrum.add_argument(
        "--timestep", metavar="TIME", type=_femtoseconds, help="velocity Verlet's, to undo its frequency error"
    )
    spectrum.add_argument("--temperature", metavar="T", type=_kelvin, help="temperature, such as '300 K'")
    spectrum.add_argument("--unit", metavar="UNIT", help="unit of the dipoles: D, e*A or e*bohr")
    spectrum.add_argument(
        "--program",
        choices=("i-pi", "cp2k", "lammps", "gpumd", "orca", "gaussian"),
        help="program that wrote the series (default: by the file's contents)",
    )
    spectrum.add_argument(
        "--cell",
        metavar="LENGTH",
        type=_angstrom,
        nargs="+",
        help="edges of the box of a Berry-phase dipole, such as '12.4 A', to undo changes of branch",
    )
    _output(spectrum, "DIR", "folder to write")

    compare = _command(commands, "compare", "band shifts and overlap with another spectrum", _stage_command("compare"))
    compare.add_argument("spectrum", metavar="SPECTRUM", type=Path, help="spectrum.csv, spectrum.h5 or a run directory")
    compare.add_argument("reference", metavar="REFERENCE", type=Path, help="the same, or a JCAMP-DX file")
    _output(compare, "DIR", "folder for figures and figures' data", required=False)


def _add_result_commands(commands: Any) -> None:
    report = _command(commands, "report", "draw figures and the HTML page of a run again", _report)
    report.add_argument("directory", metavar="DIR", type=Path, help="run directory")
    status = _command(commands, "status", "where a run stands", _status)
    status.add_argument("directory", metavar="DIR", type=Path, help="run directory")
    status.add_argument("--json", action="store_true", help="for programs")
    _command(commands, "schema", "print the JSON schema of decks, for editors", _schema)
    completion = _command(commands, "completion", "print a script that completes commands in a shell", _completion)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def _output(
    command: argparse.ArgumentParser, metavar: str, help: str, required: bool = True, force: str = "overwrite"
) -> None:
    command.add_argument("-o", "--output", metavar=metavar, type=Path, required=required, help=help)
    command.add_argument("--force", action="store_true", help=force)


def _walltime(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--walltime", metavar="TIME", type=_seconds, help="stop in time with all saved, such as '110 min'"
    )


class _Pairs(argparse.Action):
    """NAME=VALUE pairs into a dict; may be given several times."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        for text in values:
            name, equals, value = str(text).partition("=")
            if not (name and equals and value):
                parser.error(f"{option} wants NAME=VALUE (found: {text!r})")
            setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: value})


class _Units(_Pairs):
    """NAME=UNIT pairs, or the word of a whole set of units."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        if len(values) == 1 and values[0] in ("ase", "atomic"):
            setattr(namespace, self.dest, values[0])
        else:
            super().__call__(parser, namespace, values, option)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 (found: {text!r})")
    return int(text)


def _quantity(text: str, dimension: str) -> float:
    from hpcir.units import UNITS, parse_quantity

    try:
        value = parse_quantity(text, dimension)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (found: {text!r})") from None
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be more than 0 (found: {text!r})")
    return value if dimension == "wall_time" else value / next(iter(UNITS[dimension].values()))


def _seconds(text: str) -> float:
    return _quantity(text, "wall_time")


def _femtoseconds(text: str) -> float:
    return _quantity(text, "time")


def _angstrom(text: str) -> float:
    return _quantity(text, "length")


def _kelvin(text: str) -> float:
    return _quantity(text, "temperature")
