"""The model of one level of theory: energy and dipole from the same symmetry functions, saved as one HDF5 file.

Energy (Behler and Parrinello, Phys. Rev. Lett. 98, 146401, 2007): E = sum_i [NN_Z(i)(G_i)_0 + offset_Z(i)].
Dipole (Gastegger, Behler, Marquetand, Chem. Sci. 8, 6924, 2017): mu = sum_i q_i (r_i - R0) with
q_i = NN'_Z(i)(G_i)_0 + (Q - sum_j NN'_Z(j)(G_j)_0) / N; optionally plus atomic dipoles
mu_i = sum_(e,s) NN'_Z(i)(G_i)_(1 + e S + s) V_i^(e,s), V_i^(e,s) = sum_{j in e} g_s(r_ij) (r_j - r_i) / r_ij,
where e runs over the neighbour elements and s over the S angular shells. R0 is the centre of nuclear charge.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.contractions import Contraction
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.errors import InputError, RunStopped
from hpcir.models.evaluation import Evaluation, html_table
from hpcir.models.networks import NetworkCommittee
from hpcir.storage import checksums, layout
from hpcir.storage.hdf5 import H5_DAMAGE, sealed, write_sealed
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM
from hpcir.version import __version__

if TYPE_CHECKING:
    from hpcir.models.evaluator import Evaluator

# Format 2 has contractions of moments; models without them are written, and stay, in format 1.
MODEL_FORMAT = 2
ERROR_UNITS = (
    ("energy", KCAL_PER_MOL, "kcal/mol"),
    ("force", KCAL_PER_MOL_ANGSTROM, "kcal/mol/A"),
    ("dipole", DEBYE, "D"),
)
MODEL_FILE = layout.MODEL_FILE


@dataclass(frozen=True)
class Model:
    """A committee of potentials and charge models on one set of symmetry functions.

    energy and charge: element number -> NetworkCommittee. offsets: element number -> hartree. level: the level
    of theory of the labels it learnt from. error: held-out errors and calibration, as the trainer measured them.
    """

    functions: SymmetryFunctionSet
    energy: dict[int, NetworkCommittee]
    charge: dict[int, NetworkCommittee]
    offsets: dict[int, float]
    total_charge: int = 0
    level: str = ""
    error: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> int:
        return next(iter(self.energy.values())).members

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(sorted(self.energy))

    def facts(self) -> list[tuple[str, str]]:
        """Facts about this model, as pairs of a name and a text, for printing."""
        from hpcir.molecules.structures import symbols

        names = symbols(np.array(self.elements))
        layers = "; ".join(
            f"{name} " + "-".join(map(str, (len(c.active), *c.hidden, c.n_outputs)))
            for name, c in zip(names, (self.energy[z] for z in self.elements), strict=True)
        )
        f = self.functions
        facts = [
            ("elements", ", ".join(names)),
            ("committee", f"{self.members} members"),
            ("dipole", "charge networks" if self.charge else "none: it has no dipole"),
            ("level of theory", self.level or "not recorded"),
            ("total charge", f"{self.total_charge:+d}" if self.total_charge else "0"),
            ("symmetry functions", f"{f.n_features} a centre, {f.cutoff_function} cutoff at {f.cutoff:.2f} bohr"),
            ("energy networks", layers),
        ]
        return [*facts, *self._errors(), ("digest", self.digest)]

    def _errors(self) -> list[tuple[str, str]]:
        """Errors on held-out labels, and how far the committee's spread is from them, in the units of people."""
        errors = [
            f"{what} {self.error[f'{what}_rmse'] / size:.3g} {unit}"
            for what, size, unit in ERROR_UNITS
            if f"{what}_rmse" in self.error
        ]
        times = [
            f"{what} {self.error[f'{what}_calibration']:.2f}"
            for what, *_ in ERROR_UNITS
            if f"{what}_calibration" in self.error
        ]
        count = self.error.get("held_out")
        on = f" ({count:.0f} geometries)" if count else ""
        facts = [(f"held-out errors{on}", ", ".join(errors)), ("true error over spread", ", ".join(times))]
        return [fact for fact in facts if fact[1]]

    def __repr__(self) -> str:
        return "hpcir model\n" + "\n".join(f"  {name}: {text}" for name, text in self.facts())

    def _repr_html_(self) -> str:
        return html_table("hpcir model", self.facts())

    @property
    def has_dipole(self) -> bool:
        """True when it has charge networks."""
        return bool(self.charge)

    @cached_property
    def digest(self) -> str:
        """A digest of all that its answers and the calibration of its spread depend on."""
        networks = [
            part
            for committees in (self.energy, self.charge)
            for element, committee in sorted(committees.items())
            for part in (
                element,
                committee.active,
                committee.shift,
                committee.scale,
                *committee.weights,
                *committee.biases,
            )
        ]
        offsets = sorted(self.offsets.items())
        return checksums.digest("model", asdict(self.functions), offsets, self.total_charge, self.error, *networks)

    def member(self, index: int) -> Model:
        """The model of one member of the committee."""
        return replace(
            self,
            energy={element: committee.member(index) for element, committee in self.energy.items()},
            charge={element: committee.member(index) for element, committee in self.charge.items()},
        )

    def evaluate(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> Evaluation:
        """Energy, forces, charges and dipole of one geometry: numbers (N,), positions (N, 3) in bohr.

        Raises InputError for an element that the model does not know.
        """
        from hpcir.models.evaluator import evaluate

        return evaluate(self, np.asarray(numbers), np.asarray(positions, float), charge)

    def replicas(
        self, numbers: IntArray, count: int, charge: int | None = None, masses: FloatArray | None = None
    ) -> Evaluator:
        """The model on `count` replicas of one molecule; dipoles are about the centre of mass with masses (N,)."""
        from hpcir.models.evaluator import Evaluator

        origin = "charge" if masses is None else "mass"
        return Evaluator(self, numbers, count, charge, origin=origin, masses=masses)

    def spread_threshold(self, error: float, quantity: str = "force") -> float:
        """The spread of an atom's force, or of the dipole, at which `error` (atomic units) is to be expected."""
        return error / max(self.error.get(f"{quantity}_calibration", 1.0), 1e-3)

    def polar_tensors(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> FloatArray | None:
        """dmu_x / dr_jy at [j, y, x] in e, (N, 3, 3), about an origin at rest; None without charge networks."""
        from hpcir.models.polar import polar_tensors

        return polar_tensors(self, numbers, positions, charge) if self.charge else None

    def require(self, numbers: IntArray) -> None:
        """Raise InputError when a structure has an element that this model never saw."""
        missing = sorted(set(np.asarray(numbers).tolist()) - set(self.elements))
        if missing:
            from ase.data import chemical_symbols

            raise InputError(
                f"the model has no network for {', '.join(chemical_symbols[z] for z in missing)}",
                hint="it knows " + ", ".join(chemical_symbols[z] for z in self.elements),
            )

    def require_charges(self, numbers: IntArray) -> None:
        """Raise InputError when a structure has an element without charge networks."""
        if not all(int(z) in self.charge for z in numbers):
            raise InputError(
                "this model has no charge networks for the molecule's elements, so it has no dipole",
                hint="train it on labels with dipoles",
            )

    def save(self, path: str | Path) -> Path:
        """Write the model to `path` (a directory gets model.h5), by a temporary name and rename."""
        path = Path(path)
        if path.suffix != ".h5":
            path.mkdir(parents=True, exist_ok=True)
            path = path / MODEL_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        if not_finite(self):
            raise RunStopped(
                f"{path}: the model is not written, {not_finite(self)} is not finite: the training diverged. Lower "
                "training.learning_rate and training.retrain_rate, and look at the labels"
            )
        write_sealed(path, lambda file: _write(file, self))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read a model file, a model directory, or the model of a run directory. Raises InputError."""
        import h5py

        path = find_model_file(Path(path))
        try:
            with h5py.File(path, "r") as file:
                model = _read(file)
                intact = sealed(file)
        except H5_DAMAGE as error:
            raise InputError(f"the model file cannot be read: {error}", where=str(path)) from error
        if not intact:
            raise InputError("the model file is damaged: its contents do not match their checksum", where=str(path))
        if not_finite(model):
            raise InputError(f"{not_finite(model)} is not finite", where=str(path), hint="train the model again")
        return model


def not_finite(model: Model) -> str:
    """The first number of a model that is NaN or infinite, in words; '' when all are finite."""
    from hpcir.molecules.structures import symbols

    for kind, committees in (("energy", model.energy), ("charge", model.charge)):
        for element, committee in committees.items():
            layers = [(f"weights of layer {n}", array) for n, array in enumerate(committee.weights, 1)]
            layers += [(f"biases of layer {n}", array) for n, array in enumerate(committee.biases, 1)]
            layers += [("shift of the inputs", committee.shift), ("scale of the inputs", committee.scale)]
            if committee.projection is not None:
                layers.append(("projection of the inputs", committee.projection))
            for name, array in layers:
                bad = np.argwhere(~np.isfinite(array))
                if len(bad):
                    symbol = symbols(np.array([element]))[0]
                    return f"the {name} at {bad[0].tolist()} of the {kind} networks of {symbol}"
    wrong = [z for z, offset in model.offsets.items() if not np.isfinite(offset)]
    return f"the energy of the atom {symbols(np.array(wrong))[0]}" if wrong else ""


def find_model_file(path: Path) -> Path:
    """The model file that a path stands for: itself, PATH/model.h5 or PATH/models/model.h5."""
    for candidate in (path, path / MODEL_FILE, path / layout.MODEL):
        if candidate.is_file():
            return candidate
    raise InputError(
        "no model here", where=str(path), hint=f"a model directory holds {MODEL_FILE}; `hpcir train` makes one"
    )


def _write(file: Any, model: Model) -> None:
    file.attrs.update(
        format="hpcir model",
        format_version=MODEL_FORMAT if model.functions.contractions else 1,
        program_version=__version__,
        level=model.level,
        total_charge=model.total_charge,
        error=json.dumps(model.error),
        provenance=json.dumps(model.provenance),
    )
    functions = file.create_group("symmetry_functions")
    functions.attrs["cutoff_function"] = model.functions.cutoff_function
    for name, value, units in (
        ("elements", model.functions.elements, "atomic number"),
        ("cutoff", model.functions.cutoff, "bohr"),
        ("radial", model.functions.radial, "eta bohr^-2, shift bohr"),
        ("shells", model.functions.shells, "eta bohr^-2, shift bohr"),
        ("angles", model.functions.angles, "zeta, lambda"),
    ):
        functions.create_dataset(name, data=np.asarray(value)).attrs["units"] = units
    if model.functions.contractions:
        _write_contractions(functions, model.functions)
    for kind, committees in (("energy", model.energy), ("charge", model.charge)):
        for element, committee in committees.items():
            group = file.create_group(f"{kind}/{element}")
            for name in ("active", "shift", "scale"):
                group[name] = getattr(committee, name)
            if committee.projection is not None:
                group["projection"] = committee.projection
            for layer, (weight, bias) in enumerate(zip(committee.weights, committee.biases, strict=True)):
                group[f"weight_{layer}"] = weight
                group[f"bias_{layer}"] = bias
            group.attrs["layers"] = len(committee.weights)
            if kind == "energy":
                group.attrs["offset_hartree"] = model.offsets[element]


def _write_contractions(group: Any, functions: SymmetryFunctionSet) -> None:
    """channels (C, E, S); for each contraction its channels and the indices that they share, -1 where there are
    fewer."""
    group.create_dataset("channels", data=np.asarray(functions.channels))
    for name in ("channels", "shared"):
        rows = [getattr(contraction, name) for contraction in functions.contractions]
        width = max(len(row) for row in rows)
        filled = np.array([(*row, *(-1,) * (width - len(row))) for row in rows], np.int64)
        group.create_dataset(f"contraction_{name}", data=filled)


def _read_contractions(group: Any) -> tuple[tuple[tuple[tuple[float, ...], ...], ...], tuple[Contraction, ...]]:
    """Channels and contractions; none in a file of format 1."""
    if "channels" not in group:
        return (), ()
    channels = tuple(tuple(tuple(float(w) for w in row) for row in channel) for channel in group["channels"][()])
    rows = [
        [tuple(int(value) for value in row if value >= 0) for row in group[f"contraction_{name}"][()]]
        for name in ("channels", "shared")
    ]
    return channels, tuple(Contraction(*pair) for pair in zip(*rows, strict=True))


def _read(file: Any) -> Model:
    if file.attrs.get("format") != "hpcir model" or file.attrs["format_version"] > MODEL_FORMAT:
        raise InputError("not a model file of this version of hpcir", where=file.filename)
    stored = file["symmetry_functions"]
    channels, contractions = _read_contractions(stored)
    functions = SymmetryFunctionSet(
        elements=tuple(int(z) for z in stored["elements"]),
        cutoff=float(stored["cutoff"][()]),
        radial=tuple((float(a), float(b)) for a, b in stored["radial"]),
        shells=tuple((float(a), float(b)) for a, b in stored["shells"]),
        angles=tuple((int(a), int(b)) for a, b in stored["angles"]),
        cutoff_function=str(stored.attrs["cutoff_function"]),
        channels=channels,
        contractions=contractions,
    )
    committees: dict[str, dict[int, NetworkCommittee]] = {"energy": {}, "charge": {}}
    for kind, target in committees.items():
        for element, group in file.get(kind, {}).items():
            layers = range(int(group.attrs["layers"]))
            target[int(element)] = NetworkCommittee(
                active=group["active"][()].astype(np.int64),
                shift=group["shift"][()],
                scale=group["scale"][()],
                weights=tuple(group[f"weight_{n}"][()] for n in layers),
                biases=tuple(group[f"bias_{n}"][()] for n in layers),
                projection=group["projection"][()] if "projection" in group else None,
            )
    return Model(
        functions=functions,
        energy=committees["energy"],
        charge=committees["charge"],
        offsets={int(z): float(group.attrs["offset_hartree"]) for z, group in file["energy"].items()},
        total_charge=int(file.attrs["total_charge"]),
        level=str(file.attrs["level"]),
        error=json.loads(file.attrs["error"]),
        provenance=json.loads(file.attrs["provenance"]),
    )
