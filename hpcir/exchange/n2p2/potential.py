"""High-dimensional neural network potentials with a list of symmetry functions per element, as n2p2 and RuNNer keep.

E = sum_i [NN_Z(i)(G_i) + offset_Z(i)]; where a second set of networks gives charges, mu = sum_i q_i (r_i - R0) with
q_i = NN'_Z(i)(G'_i) + (Q - sum_j NN'_Z(j)(G'_j)) / N and R0 the centre of nuclear charge, as in hpcir's own models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.exchange.n2p2.lockstep import LockstepPotential
from hpcir.exchange.n2p2.networks import ElementNetwork, NetworkSet, find_neighbours
from hpcir.models.evaluation import Evaluation, html_table
from hpcir.molecules.structures import centre, symbols
from hpcir.storage import checksums
from hpcir.version import __version__

N2P2_FORMAT = 1
N2P2_FILE = "n2p2.h5"


@dataclass(frozen=True)
class N2p2Potential:
    """A potential read from n2p2 files, one NetworkSet a committee member; charges may be missing (empty).

    It is a hpcir.models.potential.Potential. level and provenance: what is known of where it came from.
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
    def has_dipole(self) -> bool:
        """True when it has charge networks."""
        return bool(self.charge)

    @cached_property
    def digest(self) -> str:
        """A digest of all that its answers depend on."""
        parts: list[Any] = ["n2p2", self.total_charge, len(self.energy)]
        for networks in (*self.energy, *self.charge):
            parts += [networks.cutoff_type, networks.alpha]
            for z, element in sorted(networks.elements.items()):
                parts += [z, element.activations, element.offset, element.kind, element.neighbours, element.parameters]
                parts += [element.shift, element.scale, *element.weights, *element.biases]
        return checksums.digest(*parts)

    def member(self, index: int) -> N2p2Potential:
        """The potential of one member of the committee; it keeps the mean of all the charge networks when these are not
        as many as the energy's."""
        charge = self.charge[index : index + 1] if len(self.charge) == self.members else self.charge
        return replace(self, energy=self.energy[index : index + 1], charge=charge)

    @property
    def cutoff(self) -> float:
        """The longest cutoff, bohr."""
        return max(networks.cutoff for networks in (*self.energy, *self.charge))

    def facts(self) -> list[tuple[str, str]]:
        """Facts about this potential, as pairs of a name and a text, for printing."""
        networks = self.energy[0]
        counts = "; ".join(f"{symbols(np.array([z]))[0]} {len(networks.elements[z].kind)}" for z in self.elements)
        return [
            ("elements", ", ".join(symbols(np.array(self.elements)))),
            ("committee", f"{self.members} members"),
            ("dipole", "charge networks" if self.charge else "none: it has no dipole"),
            ("level of theory", self.level or "not recorded"),
            (
                "symmetry functions",
                f"{counts}, n2p2 cutoff type {networks.cutoff_type}, to {self.cutoff:.2f} bohr",
            ),
            *((name, str(value)) for name, value in self.provenance.items()),
            ("digest", self.digest),
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
                f"the potential has no network for {', '.join(symbols(np.array(missing)))}",
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
        return Evaluation.of_members(energies, forces, charges, dipoles)

    def replicas(
        self, numbers: IntArray, count: int, charge: int | None = None, masses: FloatArray | None = None
    ) -> LockstepPotential:
        """The potential on `count` replicas of one molecule; dipoles are about the centre of mass with masses (N,).

        Raises InputError for an unknown element.
        """
        self.require(numbers)
        origin = "charge" if masses is None else "mass"
        total = self.total_charge if charge is None else charge
        return LockstepPotential(self.energy, self.charge, numbers, count, total, origin=origin, masses=masses)

    def spread_threshold(self, error: float, quantity: str = "force") -> float:
        """Infinite: its spread is not calibrated."""
        return np.inf

    def polar_tensors(self, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> None:
        """None: not known."""
        return None

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
