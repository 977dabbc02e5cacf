"""Any trained potential by its path: hpcir's own models, potentials imported from n2p2, and n2p2's files themselves."""

from __future__ import annotations

from pathlib import Path

from hpcir.errors import InputError
from hpcir.exchange.n2p2 import import_n2p2
from hpcir.exchange.n2p2.potential import N2P2_FILE, N2p2Potential
from hpcir.models.model import MODEL_FILE, Model, find_model_file
from hpcir.models.potential import Potential
from hpcir.storage import layout
from hpcir.storage.hdf5 import origin_of
from hpcir.storage.provenance import record_facts

# The potentials that are files: both have save, load and provenance beyond hpcir.models.potential.Potential.
StoredPotential = Model | N2p2Potential


def load_potential(path: str | Path) -> StoredPotential:
    """The potential in a model or run directory, a file of it, or a folder of n2p2's files (in hartree and bohr).

    A directory that holds both a model and the n2p2 potential it was made from gives the model. Raises InputError.
    """
    path = Path(path)
    if (path / "input.nn").is_file():
        return import_n2p2(path)
    file = potential_file(path)
    return N2p2Potential.load(file) if file.name == N2P2_FILE else Model.load(file)


def as_potential(given: Potential | str | Path) -> Potential:
    """A potential itself, or the one that a path stands for. Raises InputError."""
    return load_potential(given) if isinstance(given, (str, Path)) else given


def load_own_model(path: str | Path, hint: str) -> Model:
    """A model of hpcir's own form. Raises InputError with a hint for a potential imported from n2p2."""
    potential = load_potential(path)
    if not isinstance(potential, Model):
        raise InputError("this potential came from n2p2 and is of its own form", where=str(path), hint=hint)
    return potential


def potential_file(path: str | Path) -> Path:
    """The file of the potential that a path stands for: itself, or in the directory or its folder 'models'.

    For n2p2's own files it is input.nn. Raises InputError when there is none.
    """
    path = Path(path)
    for folder in (path, path / layout.MODELS):
        for name in (MODEL_FILE, N2P2_FILE, "input.nn"):
            if (folder / name).is_file():
                return folder / name
    return find_model_file(path)


def tell_model(path: str | Path, potential: Potential) -> None:
    """Have the files that are written from here on say which potential (that at `path`) they come from, and
    of which deck and seed that is."""
    file = potential_file(path)
    known = origin_of(file) if file.suffix == ".h5" else {}
    record_facts(model=potential.digest, **{name: known[name] for name in ("deck", "seed") if name in known})


def training_ranges(path: str | Path) -> N2p2Potential | None:
    """The n2p2 potential at a path, which knows the ranges of its symmetry functions; None for a model of hpcir."""
    path = Path(path)
    folder = path.parent if path.is_file() else path
    for place in (folder, folder / layout.MODELS):
        if (place / N2P2_FILE).is_file():
            return N2p2Potential.load(place)
    return import_n2p2(folder) if (folder / "input.nn").is_file() else None


def n2p2_folders(paths: list[Path]) -> list[Path]:
    """The folders with input.nn that are meant: those given, or the folders inside one that is given.

    Raises InputError when one has none.
    """
    found = []
    for path in paths:
        inside = [path] if (path / "input.nn").is_file() else sorted(f.parent for f in path.glob("*/input.nn"))
        if not inside:
            raise InputError(
                "no input.nn here", where=str(path), hint="an n2p2 or RuNNer potential is a folder with input.nn"
            )
        found += inside
    return found
