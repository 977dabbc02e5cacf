"""The functions behind `hpcir label, train, evaluate, md, levels, spectrum, compare, export, import`.

Each takes the command's options by their names on the command line and a communicator, and is collective.
"""

from __future__ import annotations

from pathlib import Path

from hpcir.commands.compare import compare
from hpcir.commands.convert import import_model
from hpcir.commands.evaluate import evaluate
from hpcir.commands.label import label
from hpcir.commands.levels import levels
from hpcir.commands.md import md
from hpcir.commands.spectrum import spectrum
from hpcir.commands.train import train
from hpcir.runtime.mpi import Communicator, collective, on_root

__all__ = ["compare", "evaluate", "export", "import_model", "label", "levels", "md", "spectrum", "train"]

COPY = "give the files it was imported from to the other program"


@collective
def export(model: Path, format: str, output: Path | None, force: bool, comm: Communicator) -> None:
    """Write every committee member of a model in another program's format (rank 0 works).

    n2p2: one folder a member, 'member-00' and so on, with input.nn, scaling.data and weights.*.data; a single member
    goes to the folder itself.
    """
    folder = output if output is not None else Path(f"{model.resolve().name}.{format}")
    on_root(comm, lambda: _export(model, folder, force))


def _export(path: Path, output: Path, force: bool) -> None:
    from hpcir.exchange.n2p2 import export_n2p2
    from hpcir.exchange.potentials import load_own_model, tell_model
    from hpcir.study.session import check_folder

    model = load_own_model(path, COPY)
    tell_model(path, model)
    folders = [output]
    if model.members > 1:
        folders = [output / f"member-{member:02d}" for member in range(model.members)]
    for folder in folders:
        check_folder(folder, ("input.nn",), force)
    notes: tuple[str, ...] = ()
    for member, folder in enumerate(folders):
        written = export_n2p2(model, folder, member)
        notes = written.notes
        print(f"{folder}: {', '.join(str(file.relative_to(folder)) for file in written.files)}")
    for note in notes:
        print(f"note: {note}")
