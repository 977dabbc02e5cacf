"""Potentials to and from n2p2 (Singraber, Behler, Dellago, J. Chem. Theory Comput. 15, 1827, 2019).

n2p2's files are also those of RuNNer, of CP2K's NNP and of LAMMPS's ML-HDNNP. Their energies are
E = sum_i [NN_Z(i)(G_i) / conv_energy + mean_energy + atom_energy_Z(i)]; conv_length cancels out of E.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.exchange.n2p2.files import (
    FunctionLine,
    Settings,
    format_function,
    format_weights,
    read_scaling,
    read_settings,
    read_weights,
)
from hpcir.exchange.n2p2.networks import ElementNetwork, NetworkSet
from hpcir.exchange.n2p2.potential import N2p2Potential
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee
from hpcir.molecules.structures import symbols
from hpcir.storage.provenance import origin_line
from hpcir.units import ANGSTROM, UNITS
from hpcir.version import __version__

CHARGES_FOLDER = "charges"
# Charges that are only a part of a dipole: under a name that no import takes by itself.
PART_FOLDER = "charges-without-atomic-dipoles"
LEVEL_COMMENT, NO_LEVEL = "# level of theory: ", "not recorded"
# hpcir's cutoff functions in n2p2's numbers.
CUTOFF_TYPES = {"cosine": 1, "tanh3": 2, "polynomial": 6}


@dataclass(frozen=True)
class Exported:
    """Results of an export: the files, and notes on what the receiving program does not know."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def import_n2p2(
    directory: str | Path | Sequence[str | Path],
    *,
    energy_unit: str = "hartree",
    length_unit: str = "bohr",
    charges: str | Path | Sequence[str | Path] | None = None,
    total_charge: int | None = None,
    level: str = "",
) -> N2p2Potential:
    """Read one n2p2 or RuNNer potential (a folder), or a committee (several folders).

    The files do not say their units: RuNNer's are hartree and bohr, others must be declared. Symmetry functions of
    types 2, 3 and 9; all cutoff functions and activation functions of n2p2; scaling and normalisation. As in n2p2,
    atom_energy is always added (RuNNer and CP2K add it only with remove_atom_energies). charges: folders of
    networks whose outputs are atomic charges in e, as `export_n2p2` writes them (default: the folder 'charges'
    in each directory, where there is one). total_charge: None for what networks say that hpcir wrote, else 0. Raises
    InputError naming file and line, and for another charge than theirs.
    """
    folders = _folders(directory)
    if charges is None:
        charge_folders = [f / CHARGES_FOLDER for f in folders if (f / CHARGES_FOLDER / "input.nn").is_file()]
    else:
        charge_folders = _folders(charges)
    energy, length = _unit("energy", energy_unit), _unit("length", length_unit)
    potential = N2p2Potential(
        energy=tuple(_read_set(folder, energy, length) for folder in folders),
        charge=tuple(_read_set(folder, 1.0, length) for folder in charge_folders),
        total_charge=_charge_of([folder / "input.nn" for folder in (*folders, *charge_folders)], total_charge),
        level=level or _written_level(folders[0] / "input.nn"),
        provenance={"files": [str(f) for f in folders], "units": f"{energy_unit}, {length_unit}"},
    )
    for networks in (*potential.energy, *potential.charge):
        if set(networks.elements) != set(potential.elements):
            raise InputError("the members of the committee are not of the same elements", where=str(directory))
    return potential


def _charge_of(files: Sequence[Path], declared: int | None) -> int:
    """The total charge that is declared, or that `export_n2p2` wrote into the first line of the networks, else 0.
    Raises InputError where they differ."""
    total = declared
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as text:
            written = re.search(r"^# written by hpcir.* the total charge (-?\d+)", text.readline())
        if written is None:
            continue
        if total is not None and total != int(written.group(1)):
            raise InputError(
                f"the networks were learnt for the total charge {written.group(1)}, and {total} is declared",
                where=str(file),
                value=total,
                hint=f"give --charge {written.group(1)}, or leave it out",
            )
        total = int(written.group(1))
    return total or 0


def _written_level(path: Path) -> str:
    """The level of theory that `export_n2p2` wrote; empty where another program wrote the file."""
    first = path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    found = "".join(first[-1:]).partition(LEVEL_COMMENT)[2].strip()
    return "" if found == NO_LEVEL or not first or not first[0].startswith("# written by hpcir") else found


def _folders(directory: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(directory)] if isinstance(directory, (str, Path)) else [Path(d) for d in directory]


def _unit(dimension: str, name: str) -> float:
    if name not in UNITS[dimension]:
        raise InputError(f"no such unit of {dimension}", value=name, hint="valid: " + ", ".join(UNITS[dimension]))
    return UNITS[dimension][name]


def _read_set(folder: Path, energy: float, length: float) -> NetworkSet:
    settings = read_settings(folder / "input.nn")
    scaling = {z: np.full((len(lines), 4), np.nan) for z, lines in settings.functions.items()}
    if settings.scaling != "none":
        scaling = read_scaling(folder / "scaling.data", settings)
    elements = {z: _element_network(folder, settings, z, scaling[z], energy, length) for z in settings.elements}
    return NetworkSet(elements, settings.cutoff_type, settings.alpha)


def _element_network(
    folder: Path, settings: Settings, z: int, scaling: FloatArray, energy: float, length: float
) -> ElementNetwork:
    if settings.activations[-1] != "l":
        raise InputError("the output layer must be linear", where=str(folder / "input.nn"), value=settings.activations)
    lines = settings.functions[z]
    sizes = [len(lines), *settings.hidden[z], 1]
    weights, biases = read_weights(folder / f"weights.{z:03d}.data", sizes)
    if settings.normalise_nodes:
        biases = tuple(bias / weight.shape[1] for weight, bias in zip(weights, biases, strict=True))
        weights = tuple(weight / weight.shape[1] for weight in weights)
    factor = energy / settings.conv_energy
    shift, scale = _affine(settings, scaling, folder)
    return ElementNetwork(
        kind=np.array([line.kind for line in lines], np.int64),
        neighbours=np.array([(line.first, line.second) for line in lines], np.int64),
        parameters=np.array(
            [(line.eta / length**2, line.shift * length, line.cutoff * length, line.zeta, line.lam) for line in lines]
        ),
        shift=shift,
        scale=scale,
        minimum=scaling[:, 0],
        maximum=scaling[:, 1],
        weights=(*weights[:-1], weights[-1] * factor),
        biases=(*biases[:-1], biases[-1] * factor),
        activations=settings.activations,
        offset=energy * (settings.mean_energy + settings.atom_energy.get(z, 0.0)),
    )


def _affine(settings: Settings, scaling: FloatArray, folder: Path) -> tuple[FloatArray, FloatArray]:
    """Shift and scale of x = (G - shift) * scale for n2p2's x = S_min + factor (G - reference)."""
    count = len(scaling)
    if settings.scaling == "none":
        return np.zeros(count), np.ones(count)
    minimum, maximum, mean, sigma = scaling.T
    if settings.scaling == "center":
        return mean, np.ones(count)
    width = sigma if settings.scaling == "sigma" else maximum - minimum
    if not np.all(width > 0):
        function = int(np.argmax(~(width > 0))) + 1
        raise InputError(
            f"symmetry function {function} has no spread in the training set, or the file does not give it",
            where=str(folder / "scaling.data"),
            value=float(width[function - 1]),
        )
    if settings.scale_max <= settings.scale_min:
        raise InputError(
            "scale_max_short must be larger than scale_min_short",
            where=str(folder / "input.nn"),
            value=(settings.scale_min, settings.scale_max),
        )
    scale = (settings.scale_max - settings.scale_min) / width
    reference = minimum if settings.scaling == "scale" else mean
    return reference - settings.scale_min / scale, scale


def export_n2p2(model: Model, directory: str | Path, member: int = 0) -> Exported:
    """Write one committee member as input.nn, scaling.data and weights.ZZZ.data, in hartree and bohr.

    The charge networks go to the folder 'charges' inside, a potential whose atomic "energies" are the charges
    before they are shifted evenly to the total charge. Where the model has atomic dipoles as well, which the format
    cannot hold, the folder is 'charges-without-atomic-dipoles', and an import does not take these charges for the
    dipole. Raises InputError for a member or a network that the format cannot hold.
    """
    if not 0 <= member < model.members:
        raise InputError("no such committee member", value=member, hint=f"0 to {model.members - 1}")
    _refuse_contractions(model)
    directory = Path(directory)
    what = f"energies in hartree for the total charge {model.total_charge}"
    files = _write_set(directory, model, model.energy, member, model.offsets, what)
    notes = [
        "lengths are in bohr, energies in hartree: in LAMMPS (units metal) give pair_style hdnnp "
        f"{model.functions.cutoff / ANGSTROM + 0.01:.2f} cflength 1.8897261258369282 cfenergy 0.036749322175655",
        f"one member of {model.members}; the mean of the committee is the mean over their exports",
    ]
    if model.charge:
        whole = all(c.n_outputs == 1 for c in model.charge.values())
        if not whole:
            notes.append(
                "the model also has atomic dipoles, which the format cannot hold: the charges in "
                f"'{PART_FOLDER}' give a part of the dipole alone, and hpcir import does not take them; a model "
                "trained with model.dipole: charges goes over whole"
            )
        what = f"charges in e before the even shift to the total charge {model.total_charge}"
        files += _write_set(
            directory / (CHARGES_FOLDER if whole else PART_FOLDER), model, model.charge, member, {}, what
        )
    return Exported(tuple(files), tuple(notes))


def _refuse_contractions(model: Model) -> None:
    """Raise InputError when a network reads functions that n2p2 does not have."""
    first = model.functions.n_behler
    read = {int(n) for kind in (model.energy, model.charge) for c in kind.values() for n in c.active}
    unknown = [model.functions.describe(n) for n in sorted(read) if n >= first]
    if unknown:
        raise InputError(
            f"n2p2 has no functions for {len(unknown)} of the model's: {'; '.join(unknown[:3])}"
            + (" and others" if len(unknown) > 3 else ""),
            hint="train a model with model.channels: 0, Behler's functions alone",
        )


def _write_set(
    directory: Path,
    model: Model,
    committees: dict[int, NetworkCommittee],
    member: int,
    offsets: dict[int, float],
    what: str,
) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    hidden = _common_hidden(committees)
    lines = {z: _lines_of(model, committees[z]) for z in sorted(committees)}
    files = [directory / "input.nn", directory / "scaling.data"]
    files[0].write_text(_settings_text(model, lines, hidden, offsets, what), encoding="utf-8")
    rows = ["# element, function, minimum, maximum, mean, sigma (hpcir keeps no extremes: never an extrapolation)"]
    for index, (z, functions) in enumerate(lines.items(), 1):
        committee = committees[z]
        for n, (_, place) in enumerate(functions, 1):
            mean, sigma = committee.shift[place], 1.0 / committee.scale[place]
            rows.append(f"{index:5d} {n:5d} {-1e30:24.16E} {1e30:24.16E} {mean:24.16E} {sigma:24.16E}")
        weights, biases = _padded(committee, member, hidden, [place for _, place in functions])
        files.append(directory / f"weights.{z:03d}.data")
        files[-1].write_text(format_weights(weights, biases), encoding="utf-8")
    files[1].write_text("\n".join(rows) + "\n", encoding="utf-8")
    return files


def _settings_text(
    model: Model,
    lines: dict[int, list[tuple[FunctionLine, int]]],
    hidden: tuple[int, ...],
    offsets: dict[int, float],
    what: str,
) -> str:
    names = dict(zip(lines, symbols(np.array(list(lines))), strict=True))
    level = " ".join(model.level.split())
    text = [
        f"# written by hpcir {__version__}: {what}, lengths in bohr",
        f"{LEVEL_COMMENT}{level or NO_LEVEL}",
        f"# origin: {origin_line()}",
        f"number_of_elements {len(lines)}",
        "elements " + " ".join(names.values()),
        # RuNNer and CP2K add the atoms' energies only with this keyword, n2p2 always.
        "remove_atom_energies",
        *(f"atom_energy {names[z]} {energy:.17g}" for z, energy in sorted(offsets.items())),
        f"global_hidden_layers_short {len(hidden)}",
        "global_nodes_short " + " ".join(map(str, hidden)),
        "global_activation_short " + "t " * len(hidden) + "l",
        f"cutoff_type {CUTOFF_TYPES[model.functions.cutoff_function]}",
        "scale_symmetry_functions_sigma",
        "scale_min_short 0.0",
        "scale_max_short 1.0",
    ]
    for z, functions in lines.items():
        text += [format_function(names[z], line, names) for line, _ in functions]
    return "\n".join(text) + "\n"


def _common_hidden(committees: dict[int, NetworkCommittee]) -> tuple[int, ...]:
    """The widest hidden layers over the elements: narrower networks are filled up with neurons of zero weight."""
    depths = {len(c.hidden) for c in committees.values()}
    if len(depths) > 1:
        raise InputError("the networks of the elements differ in depth, which n2p2 cannot hold", value=sorted(depths))
    return tuple(max(layer) for layer in zip(*(c.hidden for c in committees.values()), strict=True))


def _lines_of(model: Model, committee: NetworkCommittee) -> list[tuple[FunctionLine, int]]:
    """The active functions of a centre in n2p2's order, each with its place among the committee's inputs."""
    grid = _grid(model)
    lines = [(grid[int(feature)], place) for place, feature in enumerate(committee.active)]
    if any(line.shift < 0 for line, _ in lines):
        raise InputError("n2p2 ignores a negative shift of an angular function", value="shift < 0")
    return sorted(lines)


def _grid(model: Model) -> list[FunctionLine]:
    """Every feature of the model's symmetry function set as a line of input.nn, in feature order."""
    functions = model.functions
    grid = [
        FunctionLine(2, functions.cutoff, eta, shift, 1.0, 1.0, z, 0)
        for z in functions.elements
        for eta, shift in functions.radial
    ]
    grid += [
        FunctionLine(
            9,
            functions.cutoff,
            eta,
            shift,
            float(zeta),
            float(lam),
            functions.elements[a],
            functions.elements[b],
        )
        for a, b in functions.pairs
        for eta, shift in functions.shells
        for zeta, lam in functions.angles
    ]
    return grid


def _padded(
    committee: NetworkCommittee, member: int, hidden: tuple[int, ...], order: list[int]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """A member's first output: inputs in the order given, hidden layers widened to `hidden` with zeros."""
    sizes = [len(order), *hidden, 1]
    weights: list[Any] = [w[member] for w in committee.weights]
    biases: list[Any] = [b[member] for b in committee.biases]
    weights[0] = weights[0][:, order]
    weights[-1], biases[-1] = weights[-1][:1], biases[-1][:1]
    filled, shifted = [], []
    for n_in, n_out, weight, bias in zip(sizes[:-1], sizes[1:], weights, biases, strict=True):
        full = np.zeros((n_out, n_in))
        full[: weight.shape[0], : weight.shape[1]] = weight
        filled.append(full)
        shifted.append(np.concatenate([bias, np.zeros(n_out - len(bias))]))
    return filled, shifted
