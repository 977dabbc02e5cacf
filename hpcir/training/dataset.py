"""Labels as training tensors: reduced symmetry functions and their derivatives, computed once for each geometry.

The symmetry functions of one element are strongly correlated, so a training set keeps K linear combinations of
them (see `reduction`), and the derivatives of those by the positions. Forces are then one product a geometry:
    F_a = - sum_c sum_k dx_ck/dr_a dE/dx_ck
over the centres c within the cutoff of atom a (itself among them).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.descriptors.derivatives import atomic_dipole_vectors, features_and_derivatives
from hpcir.errors import InputError
from hpcir.models.networks import NetworkCommittee
from hpcir.runtime.mpi import Communicator
from hpcir.training.reduction import MAX_INPUTS, ONE_RANK, Reduction, fit_reductions, reduction_of

# Geometries whose full derivatives are held at a time are chosen so that these stay below this size.
CHUNK_BYTES = 64 * 2**20
# Geometries that the reduction is fitted on, at most: its statistics need no more.
FIT_GEOMETRIES = 400


@dataclass(frozen=True)
class LabelledGroup:
    """Labels of S geometries of one molecule (the same N atoms in the same order), in atomic units.

    numbers (N,); positions (S, N, 3) bohr; energies (S,) hartree; forces (S, N, 3) hartree/bohr; dipoles (S, 3)
    e bohr about the centre of nuclear charge; charge in e; multiplicity 2S+1; force_mask (S, N): True where an atom's
    force is learnt (None: all are); always_learnt (S,): labels that are never held out (None: any may be);
    polar_tensors (S, N, 3, 3): dmu_x / dr_jy in e at [j, y, x], about an origin at rest, nan for labels without.
    Energies, forces, dipoles and polar tensors may each be missing (None). force_offsets (members, S, N, 3),
    dipole_offsets (members, S, 3): what each member learns beside `forces` and `dipoles`, where every member has values
    of its own. taught: True where the values are a process's and no labels (see `regression.teacher`), so that no
    statistics are made of them.
    """

    numbers: IntArray
    positions: FloatArray
    energies: FloatArray | None = None
    forces: FloatArray | None = None
    dipoles: FloatArray | None = None
    charge: int = 0
    multiplicity: int = 1
    force_mask: BoolArray | None = None
    always_learnt: BoolArray | None = None
    polar_tensors: FloatArray | None = None
    force_offsets: FloatArray | None = None
    dipole_offsets: FloatArray | None = None
    taught: bool = False

    def __len__(self) -> int:
        return len(self.positions)

    def of(self, rows: IntArray) -> LabelledGroup:
        """The labels of some geometries."""
        pick = lambda value: None if value is None else value[rows]  # noqa: E731
        each = lambda value: None if value is None else value[:, rows]  # noqa: E731
        return replace(
            self,
            positions=self.positions[rows],
            energies=pick(self.energies),
            forces=pick(self.forces),
            dipoles=pick(self.dipoles),
            force_mask=pick(self.force_mask),
            always_learnt=pick(self.always_learnt),
            polar_tensors=pick(self.polar_tensors),
            force_offsets=each(self.force_offsets),
            dipole_offsets=each(self.dipole_offsets),
        )

    def __post_init__(self) -> None:
        count, atoms = len(self.positions), len(self.numbers)
        shapes = {
            "positions": (count, atoms, 3),
            "energies": (count,),
            "forces": (count, atoms, 3),
            "dipoles": (count, 3),
            "force_mask": (count, atoms),
            "always_learnt": (count,),
            "polar_tensors": (count, atoms, 3, 3),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            if np.shape(value) != shape:
                raise InputError(
                    f"the {name} of a labelled group have the wrong shape",
                    value=np.shape(value),
                    hint=f"{shape}",
                )
            missing = np.isnan(value) if name == "polar_tensors" else False
            if not np.all(np.isfinite(value) | missing):
                raise InputError(f"the {name} of a labelled group are not all finite numbers")

    def keys(self) -> list[str]:
        """A key of each label from its contents (atoms, positions, values): the same in every data set."""
        head = np.asarray(self.numbers, np.int64).tobytes() + f"{self.charge}".encode()
        parts = [np.asarray(self.positions, float)]
        values = (self.energies, self.forces, self.dipoles, self.polar_tensors)
        parts += [np.asarray(v, float) for v in values if v is not None]
        return [
            hashlib.blake2b(head + b"".join(part[s].tobytes() for part in parts), digest_size=16).hexdigest()
            for s in range(len(self))
        ]


@dataclass(frozen=True)
class GroupTensors:
    """One group, ready to train. Atoms are sorted by element (stable), A = 3 N force components.

    inputs (S, N, K); jacobian (S, N, 3, C, K) = -dx/dr, by moved atom and by slot of centre; centres (S, N, C)
    the centre in each slot (a slot without one has a zero jacobian), or None where slot c is centre c; vectors
    (S, N, n, 3) of the atomic dipoles or None. `group` has the labels, its atoms sorted likewise.
    """

    group: LabelledGroup
    keys: tuple[str, ...]
    geometry_keys: tuple[str, ...]
    inputs: NDArray
    jacobian: NDArray
    centres: IntArray | None
    vectors: NDArray | None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that training reads."""
        arrays = (self.inputs, self.jacobian, self.centres, self.vectors)
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True)
class TrainingData:
    """A training set: labels of one or more molecules on one set of symmetry functions.

    reductions: element -> Reduction. groups: one GroupTensors for each molecule, in the order given.
    """

    functions: SymmetryFunctionSet
    reductions: dict[int, Reduction]
    groups: tuple[GroupTensors, ...]
    precision: str

    @classmethod
    def build(
        cls,
        groups: Sequence[LabelledGroup],
        functions: SymmetryFunctionSet,
        precision: str = "float32",
        *,
        start: dict[int, NetworkCommittee] | None = None,
        max_inputs: int = MAX_INPUTS,
        comm: Communicator = ONE_RANK,
    ) -> TrainingData:
        """Compute everything for `groups`; the reduction is that of `start` where one is given, else fitted.

        comm: ranks that want the same set and share the work (collective); the bits do not depend on their number.
        Raises InputError when there is no label at all, or an element that `functions` does not have.
        """
        if not groups or not any(len(group) for group in groups):
            raise InputError("there is no label to train on", hint="give at least one labelled geometry")
        if start is None:
            reductions = fit_reductions(functions, fit_sample(groups), max_inputs, comm)
        else:
            reductions = {element: reduction_of(committee) for element, committee in start.items()}
        return cls(functions, reductions, (), precision).extended(groups, comm)

    def extended(self, groups: Sequence[LabelledGroup], comm: Communicator = ONE_RANK) -> TrainingData:
        """The training set of exactly `groups`, with this one's reduction; geometries it has are not recomputed.

        comm: see `build`; all its ranks have the same geometries.
        """
        known = {key: (tensors, s) for tensors in self.groups for s, key in enumerate(tensors.geometry_keys)}
        built = tuple(_tensors(self, group, known, comm) for group in groups if len(group))
        return replace(self, groups=built)

    def of_member(self, member: int) -> TrainingData:
        """The set that a member learns, with values of its own; itself where members have the same."""
        groups = tuple(_of_member(tensors, member) for tensors in self.groups)
        same = all(own is tensors for own, tensors in zip(groups, self.groups, strict=True))
        return self if same else replace(self, groups=groups)

    def reduced_like(self, committees: dict[int, NetworkCommittee]) -> TrainingData:
        """This training set with the reduction of a model's networks: itself when they are the same already."""
        reductions = {element: reduction_of(committee) for element, committee in committees.items()}
        same = reductions.keys() == self.reductions.keys() and all(
            reductions[z].same_as(self.reductions[z]) for z in reductions
        )
        if same:
            return self
        return TrainingData(self.functions, reductions, (), self.precision).extended(
            [tensors.group for tensors in self.groups]
        )

    @property
    def n_inputs(self) -> int:
        """K, the same for all elements."""
        return next(iter(self.reductions.values())).n_inputs

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(sorted(self.reductions))

    @property
    def keys(self) -> list[str]:
        """The labels' keys, of all groups in order."""
        return [key for tensors in self.groups for key in tensors.keys]

    @property
    def always_learnt(self) -> BoolArray:
        """(labels,) those that are never held out."""
        parts = [(t.group.always_learnt, len(t.group)) for t in self.groups]
        return np.concatenate([np.zeros(n, bool) if part is None else np.asarray(part, bool) for part, n in parts])

    @property
    def labelled(self) -> tuple[GroupTensors, ...]:
        """The groups of labels, without those of a process's values."""
        return tuple(tensors for tensors in self.groups if not tensors.group.taught)

    @property
    def n_labels(self) -> int:
        return sum(len(tensors.group) for tensors in self.groups)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that training reads."""
        return sum(tensors.nbytes for tensors in self.groups)


def estimated_bytes(n_labels: int, n_atoms: int, n_centres: int, n_inputs: int, precision: str = "float32") -> int:
    """Bytes that a set needs: `n_centres` is the most atoms within the cutoff of an atom, itself among them."""
    size = np.dtype(precision).itemsize
    slots = n_atoms if _is_dense(n_atoms, n_centres) else n_centres
    table = 0 if slots == n_atoms else 8 * n_labels * n_atoms * slots
    return n_labels * n_atoms * (1 + 3 * slots) * n_inputs * size + table


def _is_dense(n_atoms: int, n_centres: int) -> bool:
    """True where slots for all centres (no table to look up) are worth the zeros they hold."""
    return n_centres >= 0.7 * n_atoms


def fit_sample(groups: Sequence[LabelledGroup]) -> list[tuple[IntArray, FloatArray]]:
    """Up to FIT_GEOMETRIES geometries, evenly from all groups, as (numbers, positions)."""
    total = sum(len(group) for group in groups)
    step = max(1.0, total / FIT_GEOMETRIES)
    sample = []
    for group in groups:
        picks = np.unique(np.arange(0, len(group), step).astype(int))
        sample.append((np.asarray(group.numbers, np.int64), np.asarray(group.positions, float)[picks]))
    return sample


def element_order(numbers: IntArray) -> IntArray:
    """The places (N,) of atoms that sort them by element, those of one element in their order."""
    return np.argsort(numbers, kind="stable")


def sorted_by_element(group: LabelledGroup) -> LabelledGroup:
    """The group with its atoms sorted by element, those of one element in their order."""
    order = element_order(group.numbers)
    pick = lambda value: None if value is None else np.ascontiguousarray(np.asarray(value)[:, order])  # noqa: E731
    return replace(
        group,
        numbers=np.asarray(group.numbers, np.int64)[order],
        positions=np.ascontiguousarray(np.asarray(group.positions, float)[:, order]),
        forces=pick(group.forces),
        force_mask=pick(group.force_mask),
        polar_tensors=pick(group.polar_tensors),
        force_offsets=None if group.force_offsets is None else np.ascontiguousarray(group.force_offsets[:, :, order]),
    )


def _of_member(tensors: GroupTensors, member: int) -> GroupTensors:
    """Forces and dipoles with the offsets of a member; itself where there are none."""
    group = tensors.group
    if group.forces is not None and group.force_offsets is not None:
        group = replace(group, forces=group.forces + group.force_offsets[member], force_offsets=None)
    if group.dipoles is not None and group.dipole_offsets is not None:
        group = replace(group, dipoles=group.dipoles + group.dipole_offsets[member], dipole_offsets=None)
    return tensors if group is tensors.group else replace(tensors, group=group)


def _geometry_keys(group: LabelledGroup) -> list[str]:
    return LabelledGroup(group.numbers, group.positions).keys()


def _tensors(
    data: TrainingData, group: LabelledGroup, known: dict[str, tuple[GroupTensors, int]], comm: Communicator
) -> GroupTensors:
    """The tensors of one group; rows of geometries in `known` are copied from there."""
    keys = group.keys()
    ordered = sorted_by_element(group)
    geometry_keys = _geometry_keys(ordered)
    fresh = [s for s, key in enumerate(geometry_keys) if key not in known]
    new = _compute(data, ordered.numbers, ordered.positions[fresh], comm) if fresh else None
    old = [(s, *known[key]) for s, key in enumerate(geometry_keys) if key in known]
    arrays = _merge(len(ordered), fresh, new, old)
    return GroupTensors(ordered, tuple(keys), tuple(geometry_keys), *arrays)


Arrays = tuple[NDArray, NDArray, "IntArray | None", "NDArray | None"]


def _merge(count: int, fresh: list[int], new: Arrays | None, old: list[tuple[int, GroupTensors, int]]) -> Arrays:
    """Rows newly computed and rows known, in their places; the layout with the most slots of centres wins."""
    if not old and new is not None:
        return new
    sources = [(s, tensors.inputs[r], tensors.jacobian[r], None if tensors.centres is None else tensors.centres[r],
                None if tensors.vectors is None else tensors.vectors[r]) for s, tensors, r in old]  # fmt: skip
    if new is not None:
        inputs, jacobian, centres, vectors = new
        sources += [(s, inputs[r], jacobian[r], None if centres is None else centres[r],
                     None if vectors is None else vectors[r]) for r, s in enumerate(fresh)]  # fmt: skip
    atoms, n_inputs = sources[0][1].shape
    dense = any(source[3] is None for source in sources)
    slots = atoms if dense else max(source[2].shape[2] for source in sources)
    kind = sources[0][1].dtype
    inputs, jacobian = (
        np.zeros((count, atoms, n_inputs), kind),
        np.zeros((count, atoms, 3, slots, n_inputs), kind),
    )
    centres = None if dense else np.zeros((count, atoms, slots), np.int64)
    vectors = None if sources[0][4] is None else np.zeros((count, *sources[0][4].shape), kind)
    for s, row_inputs, row_jacobian, row_centres, row_vectors in sources:
        inputs[s] = row_inputs
        if vectors is not None:
            vectors[s] = row_vectors
        width = row_jacobian.shape[2]
        if dense and row_centres is not None:
            for a in range(atoms):
                for slot, centre in enumerate(row_centres[a]):
                    jacobian[s, a, :, centre] += row_jacobian[a, :, slot]
            continue
        jacobian[s, :, :, :width] = row_jacobian
        if centres is not None and row_centres is not None:
            centres[s, :, :width] = row_centres
    return inputs, jacobian, centres, vectors


def _compute(data: TrainingData, numbers: IntArray, positions: FloatArray, comm: Communicator) -> Arrays:
    """inputs, jacobian, centres and vectors (see GroupTensors) of geometries, chunk by chunk; the ranks of comm take
    a chunk each in turn, and hand it to the others."""
    from hpcir.descriptors.derivatives import neighbour_table

    kind = np.dtype(data.precision)
    atoms, n_inputs = len(numbers), data.n_inputs
    most = neighbour_table(positions, data.functions.cutoff).shape[2]
    dense = _is_dense(atoms, most + 1)
    slots = atoms if dense else most + 1
    count = len(positions)
    inputs = np.zeros((count, atoms, n_inputs), kind)
    jacobian = np.zeros((count, atoms, 3, slots, n_inputs), kind)
    centres = None if dense else np.zeros((count, atoms, slots), np.int64)
    arrays = [array for array in (inputs, jacobian, centres) if array is not None]
    chunk = max(1, CHUNK_BYTES // (atoms * max(most, 1) * 3 * data.functions.n_features * 8))
    for first in range(0, count, chunk * comm.size):
        begin = min(first + chunk * comm.rank, count)
        part = slice(begin, min(begin + chunk, count))
        if part.start < part.stop:
            place = jacobian[part], None if centres is None else centres[part]
            _compute_chunk(data, numbers, positions[part], inputs[part], *place)
        if comm.size > 1:
            for array in arrays:
                _exchange(array, first, part, chunk, comm)
    vectors = None
    if data.functions.shells:
        vectors = atomic_dipole_vectors(data.functions, numbers, positions).astype(kind)
    return inputs, jacobian, centres, vectors


def _compute_chunk(
    data: TrainingData,
    numbers: IntArray,
    positions: FloatArray,
    inputs: NDArray,
    jacobian: NDArray,
    centres: IntArray | None,
) -> None:
    """Fill the rows of some geometries."""
    features, derivatives, neighbours = features_and_derivatives(data.functions, numbers, positions)
    for element, reduction in data.reductions.items():
        here = np.flatnonzero(numbers == element)
        inputs[:, here] = reduction.apply(features[:, here])
        for centre in here:
            slopes = reduction.apply_slopes(derivatives[:, centre])
            _scatter(int(centre), -slopes, neighbours[:, centre], jacobian, centres)


def _exchange(array: NDArray, first: int, own: slice, chunk: int, comm: Communicator) -> None:
    """Fill the rows of an array from `first` on, a chunk of each rank; this rank has computed its own."""
    block = np.zeros((chunk, *array.shape[1:]), array.dtype)
    block[: own.stop - own.start] = array[own]
    every = comm.gather_arrays(block).reshape(-1, *array.shape[1:])
    here = array[first : first + len(every)]
    here[:] = every[: len(here)]


def _scatter(
    centre: int, slopes: FloatArray, neighbours: IntArray, jacobian: NDArray, centres: IntArray | None
) -> None:
    """Put -dx_centre/dr, slopes (S, K, 3, n_inputs) by neighbour, where the moved atoms look for them.

    Slot 0 of a sparse layout is the atom itself; the others are filled in the order of the neighbour lists.
    """
    rows = np.arange(len(slopes))
    own = centre if centres is None else 0
    jacobian[:, centre, :, own] = -slopes.sum(1)
    if centres is not None:
        centres[:, centre, 0] = centre
    for k in range(neighbours.shape[1]):
        present = neighbours[:, k] >= 0
        s, moved = rows[present], neighbours[present, k]
        if centres is None:
            jacobian[s, moved, :, centre] = slopes[present, k]
            continue
        # Centres come in increasing order, so an atom's next free slot is after those already taken.
        slot = 1 + _taken(centres, jacobian, s, moved, centre)
        jacobian[s, moved, :, slot] = slopes[present, k]
        centres[s, moved, slot] = centre


def _taken(centres: IntArray, jacobian: NDArray, labels: IntArray, moved: IntArray, centre: int) -> IntArray:
    """Number of centres below `centre` that atom `moved` of each label already has in slots 1 and up."""
    used = np.abs(jacobian[labels, moved, :, 1:]).sum((1, 3)) > 0
    return np.asarray(used.sum(1), np.int64)


def dipole_operator(tensors: GroupTensors, with_vectors: bool) -> tuple[FloatArray, FloatArray]:
    """operator (S, 3, N n) and constant (S, 3) of mu = operator y + constant, for network outputs y (N n).

    With q_i = y_i0 + (Q - sum_j y_j0) / N, mu = sum_i y_i0 (r_i - rm) + Q (rm - R0), rm the mean position; the
    other outputs multiply the atomic dipole vectors.
    """
    group = tensors.group
    middle = group.positions.mean(1)
    weights = group.numbers / group.numbers.sum()
    origin = np.einsum("i,six->sx", weights, group.positions)
    columns = (group.positions - middle[:, None])[:, :, None]
    if with_vectors and tensors.vectors is not None:
        columns = np.concatenate([columns, tensors.vectors], 2)
    count, atoms, outputs = columns.shape[:3]
    operator = columns.reshape(count, atoms * outputs, 3).transpose(0, 2, 1)
    return operator, group.charge * (middle - origin)
