"""The functions behind the commands: each reads its options and imports what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcir.runtime.mpi import Communicator, on_root

if TYPE_CHECKING:
    from hpcir.deck.loader import LoadedDeck
    from hpcir.deck.study import Study

Answer = Callable[[argparse.Namespace, Communicator], None]


def _warn_when_oversubscribed(options: argparse.Namespace, comm: Communicator) -> None:
    from hpcir.runtime.threads import host_cores, oversubscription

    places = comm.gather(host_cores())
    warning = oversubscription(places, options.threads) if places is not None else ""
    if warning:
        print(f"hpcir: warning: {warning}", file=sys.stderr, flush=True)


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


def run(options: argparse.Namespace, comm: Communicator) -> None:
    """Run a deck, or continue it, and draw its report."""
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


def check(options: argparse.Namespace, comm: Communicator) -> None:
    """Check a deck, and print plan, cost and memory."""
    study = _load(options, comm)

    def check() -> None:
        from hpcir.commands.check import check_run

        check_run(study, _run_directory(options, study), ranks=comm.size, label=options.label)

    on_root(comm, check)


def init(options: argparse.Namespace, comm: Communicator) -> None:
    """Write a deck for a structure."""

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


def stage_command(name: str) -> Answer:
    """A command whose keywords are its options: hpcir.commands.dispatch.NAME(..., comm=comm)."""

    def answer(options: argparse.Namespace, comm: Communicator) -> None:
        keywords = {key: value for key, value in vars(options).items() if key not in ("answer", "command", "threads")}
        if "deck" in keywords:
            keywords["deck"] = _settings(options, comm) if options.deck is not None else None
        _warn_when_oversubscribed(options, comm)
        from importlib import import_module

        getattr(import_module("hpcir.commands.dispatch"), name)(**keywords, comm=comm)

    return answer


def report(options: argparse.Namespace, comm: Communicator) -> None:
    """Draw the figures and the page of a run again."""

    def report() -> None:
        from hpcir.report.writing import write_report

        for path in write_report(options.directory):
            print(path)

    on_root(comm, report)


def status(options: argparse.Namespace, comm: Communicator) -> None:
    """Print where a run stands."""

    def status() -> None:
        from hpcir.commands.status import print_status

        print_status(options.directory, as_json=options.json)

    on_root(comm, status)


def schema(options: argparse.Namespace, comm: Communicator) -> None:
    """Print the JSON schema of decks."""
    import json

    def schema() -> None:
        from hpcir.deck.resolved import json_schema

        print(json.dumps(json_schema(), indent=2))

    on_root(comm, schema)
