"""High-dimensional neural network potentials with a list of symmetry functions per element, as n2p2 and RuNNer keep.

E = sum_i [NN_Z(i)(G_i) + offset_Z(i)]; where a second set of networks gives charges, mu = sum_i q_i (r_i - R0) with
q_i = NN'_Z(i)(G'_i) + (Q - sum_j NN'_Z(j)(G'_j)) / N and R0 the centre of nuclear charge, as in hpcir's own models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.exchange.n2p2_kernel import FunctionTables, Neighbours, all_features, all_gradients
from hpcir.models.model import Evaluation, html_table
from hpcir.molecules.structures import centre, symbols
from hpcir.version import __version__

if TYPE_CHECKING:
    from hpcir.exchange.n2p2_lockstep import LockstepPotential

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N2P2_FORMAT = 1
N2P2_FILE = "n2p2.h5"


@dataclass(frozen=True)
class ElementNetwork:
    """The symmetry functions and the network of one centre element, in atomic units.

    kind (F,): 2, 3 or 9; neighbours (F, 2): atomic numbers, the second 0 for kind 2; parameters (F, 5): eta bohr^-2,
    shift bohr, cutoff bohr, zeta, lambda; inputs x = (G - shift) * scale, (F,) each; minimum, maximum (F,): of G in
    the training set, NaN where unknown; weights[l] (n_out, n_in), biases[l] (n_out,); activations: a letter of
    `ACTIVATIONS` a layer; offset: hartree (or e, for charges) added to each atom's output.
    """

    kind: IntArray
    neighbours: IntArray
    parameters: FloatArray
    shift: FloatArray
    scale: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    activations: str
    offset: float = 0.0

    def evaluate(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Output (n,) and its gradient by the features (n, F), for features (n, F)."""
        value = (features - self.shift) * self.scale
        slopes = []
        for weight, bias, letter in zip(self.weights, self.biases, self.activations, strict=True):
            value, slope = ACTIVATIONS[letter](value @ weight.T + bias)
            slopes.append(slope)
        gradient = np.ones((len(features), 1))
        for weight, slope in zip(self.weights[::-1], slopes[::-1], strict=True):
            gradient = (gradient * slope) @ weight
        return value[:, 0] + self.offset, gradient * self.scale


def _tanh(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = np.tanh(x)
    return value, 1.0 - value**2


def _logistic(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = 0.5 * (1.0 + np.tanh(0.5 * x))
    return value, value * (1.0 - value)


def _gaussian(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = np.exp(-0.5 * x * x)
    return value, -x * value


# n2p2's letters of the activation functions: value and derivative.
ACTIVATIONS: dict[str, Any] = {
    "l": lambda x: (x, np.ones_like(x)),
    "t": _tanh,
    "s": _logistic,
    "p": lambda x: (np.logaddexp(0.0, x), _logistic(x)[0]),
    "g": _gaussian,
    "c": lambda x: (np.cos(x), -np.sin(x)),
    "e": lambda x: (np.exp(-x), -np.exp(-x)),
    "h": lambda x: (x * x, 2.0 * x),
    "r": lambda x: (np.maximum(x, 0.0), (x > 0.0).astype(float)),
}


@dataclass(frozen=True)
class NetworkSet:
    """The networks of all elements on one cutoff function (n2p2's number) with inner cutoff fraction alpha."""

    elements: dict[int, ElementNetwork]
    cutoff_type: int
    alpha: float = 0.0

    @cached_property
    def cutoff(self) -> float:
        """The longest cutoff, bohr."""
        return max(float(e.parameters[:, 2].max(initial=0.0)) for e in self.elements.values())

    def same_functions(self, other: NetworkSet) -> bool:
        """Whether both have the same symmetry functions in the same order."""
        if (self.cutoff_type, self.alpha) != (other.cutoff_type, other.alpha) or set(self.elements) != set(
            other.elements
        ):
            return False
        return all(
            np.array_equal(getattr(self.elements[z], name), getattr(other.elements[z], name))
            for z in self.elements
            for name in ("kind", "neighbours", "parameters")
        )

    @cached_property
    def tables(self) -> FunctionTables:
        """The functions as the kernels want them."""
        numbers = sorted(self.elements)
        place, count = {z: n for n, z in enumerate(numbers)}, len(numbers)
        members = [self.elements[z] for z in numbers]
        parameters = np.concatenate([e.parameters for e in members])
        shells, shell = np.unique(parameters[:, :3], axis=0, return_inverse=True)
        angles, angle = np.unique(parameters[:, 3:], axis=0, return_inverse=True)
        radial: list[list[int]] = [[] for _ in range(count**2)]
        angular: list[list[int]] = [[] for _ in range(count**3)]
        for c, element in enumerate(members):
            for f, (kind, (a, b)) in enumerate(zip(element.kind, element.neighbours, strict=True)):
                if kind == 2:
                    radial[c * count + place[int(a)]].append(f)
                else:
                    low, high = sorted((place[int(a)], place[int(b)]))
                    angular[(c * count + low) * count + high].append(f)
        return FunctionTables(
            shells=shells,
            angles=angles,
            kind=np.concatenate([e.kind for e in members]),
            shell=shell.reshape(-1).astype(np.int64),
            angle=angle.reshape(-1).astype(np.int64),
            radial_start=_starts(radial),
            radial=np.array([f for row in radial for f in row], np.int64),
            angular_start=_starts(angular),
            angular=np.array([f for row in angular for f in row], np.int64),
            first=np.concatenate([[0], np.cumsum([len(e.kind) for e in members])[:-1]]).astype(np.int64),
            cutoff_type=self.cutoff_type,
            alpha=float(self.alpha),
        )

    def features(self, numbers: IntArray, neighbours: Neighbours) -> FloatArray:
        """(N, F) symmetry functions; F is the longest list, the rest of a shorter one stays zero."""
        species = np.searchsorted(sorted(self.elements), numbers).astype(np.int64)
        features = np.zeros((len(numbers), max(len(e.kind) for e in self.elements.values())))
        all_features(species, neighbours, self.tables, features)
        return features

    def atomic(self, numbers: IntArray, neighbours: Neighbours) -> tuple[FloatArray, FloatArray]:
        """Outputs (N,) and their gradient by the features (N, F)."""
        features = self.features(numbers, neighbours)
        values, gradient = np.empty(len(numbers)), np.zeros_like(features)
        for z, element in self.elements.items():
            rows = np.flatnonzero(numbers == z)
            if len(rows):
                count = len(element.kind)
                values[rows], gradient[rows, :count] = element.evaluate(features[rows, :count])
        return values, gradient

    def energy_and_forces(self, numbers: IntArray, neighbours: Neighbours) -> tuple[float, FloatArray]:
        """The sum of the outputs, and minus its gradient by the positions (N, 3)."""
        values, weights = self.atomic(numbers, neighbours)
        species = np.searchsorted(sorted(self.elements), numbers).astype(np.int64)
        gradient = np.zeros_like(neighbours.vectors)
        all_gradients(species, neighbours, self.tables, weights, gradient)
        origin = np.repeat(np.arange(len(numbers)), np.diff(neighbours.start))
        forces = np.empty((len(numbers), 3))
        for axis in range(3):
            pull = np.bincount(origin, gradient[:, axis], len(numbers))
            forces[:, axis] = pull - np.bincount(neighbours.atoms, gradient[:, axis], len(numbers))
        return float(values.sum()), forces


def _starts(rows: list[list[int]]) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


@dataclass(frozen=True)
class N2p2Potential:
    """A potential read from n2p2 files, one NetworkSet a committee member; charges may be missing (empty).

    It answers `evaluate` as hpcir's own Model does. level and provenance: what is known of where it came from.
    """

    energy: tuple[NetworkSet, ...]
    charge: tuple[NetworkSet, ...] = ()
    total_charge: int = 0
    level: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> int:
        return len(self.energy)

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(sorted(self.energy[0].elements))

    @property
    def cutoff(self) -> float:
        """The longest cutoff, bohr."""
        return max(networks.cutoff for networks in (*self.energy, *self.charge))

    def facts(self) -> list[tuple[str, str]]:
        """What this potential is, as pairs of a name and a text, for printing."""
        networks = self.energy[0]
        counts = "; ".join(f"{symbols(np.array([z]))[0]} {len(networks.elements[z].kind)}" for z in self.elements)
        return [
            ("elements", ", ".join(symbols(np.array(self.elements)))),
            ("committee", f"{self.members} members"),
            ("dipole", "charge networks" if self.charge else "none: it knows no dipole"),
            ("level of theory", self.level or "not recorded"),
            (
                "symmetry functions",
                f"{counts}, n2p2 cutoff type {networks.cutoff_type}, to {self.cutoff:.2f} bohr",
            ),
            *((name, str(value)) for name, value in self.provenance.items()),
        ]

    def __repr__(self) -> str:
        return "n2p2 potential\n" + "\n".join(f"  {name}: {text}" for name, text in self.facts())

    def _repr_html_(self) -> str:
        return html_table("n2p2 potential", self.facts())

    def require(self, numbers: IntArray) -> None:
        """Raise InputError when a structure has an element that the potential has no network for."""
        missing = sorted(set(np.asarray(numbers).tolist()) - set(self.elements))
        if missing:
            raise InputError(
                f"the potential knows no element {', '.join(symbols(np.array(missing)))}",
                hint="it knows " + ", ".join(symbols(np.array(self.elements))),
            )

    def evaluate(
        self,
        numbers: IntArray,
        positions: FloatArray,
        charge: int | None = None,
        cell: FloatArray | None = None,
    ) -> Evaluation:
        """Energy, forces, charges and dipole of one geometry: numbers (N,), positions (N, 3) in bohr.

        cell (3, 3) in bohr makes it periodic in three directions. Without charge networks the charges and the
        dipole, and with a cell the dipole, are NaN, never zero. Raises InputError for an unknown element.
        """
        numbers, positions = np.asarray(numbers, np.int64), np.asarray(positions, float)
        self.require(numbers)
        neighbours = find_neighbours(positions, self.cutoff, cell)
        found = [networks.energy_and_forces(numbers, neighbours) for networks in self.energy]
        energies, forces = np.array([e for e, _ in found]), np.array([f for _, f in found])
        charges = np.full((1, len(numbers)), np.nan)
        if self.charge:
            raw = np.array([networks.atomic(numbers, neighbours)[0] for networks in self.charge])
            total = self.total_charge if charge is None else charge
            charges = raw + (total - raw.sum(1, keepdims=True)) / len(numbers)
        dipoles = charges @ (positions - centre(positions, numbers.astype(float)))
        if cell is not None:
            dipoles = np.full_like(dipoles, np.nan)
        return Evaluation(
            energy=float(energies.mean()),
            forces=forces.mean(0),
            charges=charges.mean(0),
            dipole=dipoles.mean(0),
            energy_spread=float(energies.std()),
            forces_spread=forces.std(0),
            charges_spread=charges.std(0),
            dipole_spread=dipoles.std(0),
        )

    def lockstep(
        self, numbers: IntArray, replicas: int, charge: int | None = None, *, masses: FloatArray | None = None
    ) -> LockstepPotential:
        """The potential on `replicas` replicas at once, for dynamics; dipoles about the centre of mass with masses."""
        from hpcir.exchange.n2p2_lockstep import LockstepPotential

        origin = "charge" if masses is None else "mass"
        return LockstepPotential(self, numbers, replicas, charge, origin=origin, masses=masses)

    def save(self, path: str | Path) -> Path:
        """Write the potential to `path` (a directory gets n2p2.h5), by a temporary name and rename."""
        import h5py

        path = Path(path)
        if path.suffix != ".h5":
            path.mkdir(parents=True, exist_ok=True)
            path = path / N2P2_FILE
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with h5py.File(temporary, "w") as file:
            file.attrs.update(
                format="hpcir n2p2 potential",
                format_version=N2P2_FORMAT,
                program_version=__version__,
                total_charge=self.total_charge,
                level=self.level,
            )
            for kind, sets in (("energy", self.energy), ("charge", self.charge)):
                for member, networks in enumerate(sets):
                    _write_set(file.create_group(f"{kind}/{member}"), networks)
        os.replace(temporary, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> N2p2Potential:
        """Read what `save` wrote: the file or its directory. Raises InputError."""
        import h5py

        path = Path(path)
        path = path / N2P2_FILE if path.is_dir() else path
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != "hpcir n2p2 potential" or file.attrs["format_version"] > N2P2_FORMAT:
                    raise InputError("not an n2p2 potential of this version of hpcir", where=str(path))
                sets = [
                    tuple(_read_set(file[kind][member]) for member in sorted(file.get(kind, {}), key=int))
                    for kind in ("energy", "charge")
                ]
                return cls(
                    sets[0],
                    sets[1],
                    int(file.attrs["total_charge"]),
                    str(file.attrs["level"]),
                    {"file": str(path)},
                )
        except (OSError, KeyError) as error:
            raise InputError(f"the potential cannot be read: {error}", where=str(path)) from error


_ARRAYS = {
    "kind": "n2p2 symmetry function type",
    "neighbours": "atomic number",
    "parameters": "eta bohr^-2, shift bohr, cutoff bohr, zeta, lambda",
    "shift": "1",
    "scale": "1",
    "minimum": "1",
    "maximum": "1",
}


def _write_set(group: Any, networks: NetworkSet) -> None:
    group.attrs.update(cutoff_type=networks.cutoff_type, alpha=networks.alpha)
    for z, element in networks.elements.items():
        target = group.create_group(str(z))
        target.attrs.update(activations=element.activations, offset=element.offset)
        for name, units in _ARRAYS.items():
            target.create_dataset(name, data=getattr(element, name)).attrs["units"] = units
        for layer, (weight, bias) in enumerate(zip(element.weights, element.biases, strict=True)):
            target[f"weight_{layer}"] = weight
            target[f"bias_{layer}"] = bias


def _read_set(group: Any) -> NetworkSet:
    elements = {}
    for z, stored in group.items():
        activations = str(stored.attrs["activations"])
        elements[int(z)] = ElementNetwork(
            **{name: stored[name][()] for name in _ARRAYS},
            weights=tuple(stored[f"weight_{n}"][()] for n in range(len(activations))),
            biases=tuple(stored[f"bias_{n}"][()] for n in range(len(activations))),
            activations=activations,
            offset=float(stored.attrs["offset"]),
        )
    return NetworkSet(elements, int(group.attrs["cutoff_type"]), float(group.attrs["alpha"]))


def find_neighbours(positions: FloatArray, cutoff: float, cell: FloatArray | None = None) -> Neighbours:
    """All neighbours nearer than `cutoff` (bohr), with every periodic image when a cell (3, 3) is given."""
    if cell is None:
        from scipy.spatial import cKDTree

        pairs = cKDTree(positions).query_pairs(cutoff, output_type="ndarray")
        i, j = np.concatenate([pairs, pairs[:, ::-1]]).T if len(pairs) else np.empty((2, 0), int)
        vectors = positions[j] - positions[i]
    else:
        from ase.neighborlist import primitive_neighbor_list

        search: Any = primitive_neighbor_list
        i, j, vectors = search("ijD", [True] * 3, np.asarray(cell), positions, cutoff)
    order = np.lexsort((j, i))
    start = np.searchsorted(i[order], np.arange(len(positions) + 1))
    return Neighbours(start.astype(np.int64), j[order].astype(np.int64), np.ascontiguousarray(vectors[order], float))
