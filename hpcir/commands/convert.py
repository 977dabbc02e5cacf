"""Command import: a potential of n2p2 or RuNNer as a model directory of hpcir."""

from __future__ import annotations

from pathlib import Path

from hpcir.errors import InputError
from hpcir.exchange.n2p2 import CHARGES_FOLDER, import_n2p2
from hpcir.exchange.n2p2.conversion import as_model
from hpcir.exchange.n2p2.files import unknown_keywords
from hpcir.exchange.n2p2.potential import N2P2_FILE
from hpcir.exchange.potentials import n2p2_folders
from hpcir.models.model import MODEL_FILE
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.study.session import check_folder


@collective
def import_model(
    folders: list[Path],
    format: str,
    energy_unit: str,
    length_unit: str,
    charges: list[Path],
    charge: int | None,
    level: str,
    output: Path,
    force: bool,
    comm: Communicator,
) -> None:
    """Read a potential of another program and write MODEL_DIR (rank 0 works).

    n2p2: folders with input.nn, scaling.data and weights.*.data, one a committee member, or one folder of such
    folders. n2p2.h5 holds the potential as it was; where hpcir's vector kernels can run the same functions and
    networks, model.h5 holds it for them. Raises InputError for what cannot be read, naming file and line.
    """
    options: dict[str, object] = {
        "energy_unit": energy_unit,
        "length_unit": length_unit,
        "total_charge": charge,
        "level": level,
    }
    on_root(comm, lambda: _import(folders, charges, options, output, force))


def _import(folders: list[Path], charges: list[Path], options: dict[str, object], output: Path, force: bool) -> None:
    found = n2p2_folders(folders)
    charge_folders = n2p2_folders(charges) if charges else None
    check_folder(output, (MODEL_FILE, N2P2_FILE), force)
    if output.resolve() in {folder.resolve() for folder in found}:
        raise InputError("the model directory is the folder that is read", where=str(output), hint="give -o another")
    found = [folder for folder in found if folder.name != CHARGES_FOLDER or folder in folders]
    potential = import_n2p2(found, charges=charge_folders, **options)  # type: ignore[arg-type]
    model, reasons = as_model(potential)
    written = potential.save(output)
    (output / MODEL_FILE).unlink(missing_ok=True)
    if model is not None:
        model.save(output)
    print(repr(potential))
    print(f"{written}: written" + (f", and {output / MODEL_FILE}" if model is not None else ""))
    if model is not None:
        print("runs in the vector kernels, as hpcir's own models do")
    else:
        print(f"runs in compiled kernels of its own, not in the vector kernels, for it has {'; '.join(reasons)}")
    with_charges = charge_folders if charge_folders is not None else [folder / CHARGES_FOLDER for folder in found]
    for path in dict.fromkeys(folder / "input.nn" for folder in [*found, *with_charges]):
        for word, line in unknown_keywords(path) if path.is_file() else []:
            print(f"note: {path}:{line}: keyword '{word}' is not known here and was not read")
    if not potential.has_dipole:
        print("note: it has no charge networks, so it gives no dipole and no spectrum (--charges names them)")
