"""Inference: `evaluate` for one geometry, `Evaluator` for many replicas of one molecule without rebuilding anything."""

from __future__ import annotations

import sys
import threading

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.lanes import WIDTH
from hpcir.errors import InputError
from hpcir.models.evaluation import Evaluation, ReplicaEvaluation, origin_weights
from hpcir.models.lane_layout import TILE_LANES, LaneLayout
from hpcir.models.neighbour_kernel import moved_beyond
from hpcir.models.networks import ModelNetworks
from hpcir.models.packing import activation_rows, pack_networks, padded
from hpcir.models.potential_kernel import PackedNetworks, Workspace, evaluate_lanes, sum_atoms, total_dipoles


class Evaluator:
    """Energies, forces and dipoles of `replicas` replicas of one molecule, in lockstep; atomic units.

    numbers (N,) atomic numbers; charge: total charge in e (default: the model's). origin: what dipoles are about,
    'charge' for the centre of nuclear charge, or 'mass' for the centre of mass, for which masses (N,) are needed; it
    matters only for ions. all_pairs and moments force one of the two layouts and of the two ways of the angular sums
    (tests, benchmarks). Raises InputError for an element that the model does not know.

    One instance may be used by one thread at a time.
    """

    def __init__(
        self,
        model: ModelNetworks,
        numbers: IntArray,
        replicas: int,
        charge: int | None = None,
        *,
        origin: str = "charge",
        masses: FloatArray | None = None,
        all_pairs: bool | None = None,
        moments: bool | None = None,
    ) -> None:
        numbers = np.asarray(numbers, np.int64)
        model.require(numbers)
        if replicas < 1:
            raise InputError("there must be at least one replica", value=replicas)
        self.model, self.numbers, self.replicas = model, numbers, replicas
        self.atoms = len(numbers)
        self.total_charge = float(model.total_charge if charge is None else charge)
        self.origin_weights = origin_weights(origin, numbers, masses)
        self.layout = LaneLayout(model.functions, numbers, replicas, all_pairs=all_pairs, moments=moments)
        plans = self.layout.plans
        self.energy_networks = pack_networks(model.energy, plans, model.offsets)
        self.has_charges = all(plan.element in model.charge for plan in plans)
        self.charge_networks = (
            pack_networks(model.charge, plans, None)
            if self.has_charges
            else PackedNetworks(np.zeros(1), np.zeros(8 * len(plans), np.int64), 8)
        )
        self._single: list[tuple[PackedNetworks, PackedNetworks]] | None = None
        stride = self.layout.stride
        self.x = self.layout.new_positions()
        self.forces = np.zeros_like(self.x)
        self.atomic_dipoles = np.zeros_like(self.x)
        self.atomic_energies = np.zeros((self.atoms + 2) * stride)
        self.charges = np.zeros_like(self.atomic_energies)
        self.energies = np.zeros(stride)
        self.dipole = np.zeros(3 * stride)
        self.work = self._workspace()

    def _workspace(self) -> Workspace:
        scratch, moments = self.layout.scratch_sizes()
        sums = max(padded(plan.rows) for plan in self.layout.plans) + 6
        rows = [activation_rows(networks) for networks in (self.energy_networks, self.charge_networks)]
        return Workspace(
            scratch=np.zeros(scratch),
            rows=np.zeros(sums * TILE_LANES),
            slopes=np.zeros(sums * TILE_LANES),
            activations=np.zeros(max(row[0] for row in rows) * TILE_LANES),
            results=np.zeros(max(row[1] for row in rows) * TILE_LANES),
            moments=np.zeros(moments),
            line=np.zeros(max(TILE_LANES, 4 * WIDTH)),
        )

    def as_replicas(self, flat: FloatArray, components: int = 3) -> FloatArray:
        """A view (N, components, stride) of a kernel array without its absent atoms; (N, stride) for components 1."""
        shape = (self.atoms + 2, components, self.layout.stride)
        view = flat.reshape(shape)[: self.atoms]
        return view if components > 1 else view[:, 0]

    def set_positions(self, positions: FloatArray) -> None:
        """Copy positions (N, 3, R) in bohr into the kernels' layout; spare lanes repeat the first replica."""
        positions = np.asarray(positions, float)
        expected = (self.atoms, 3, self.replicas)
        if positions.shape != expected:
            raise InputError("positions of the wrong shape", value=positions.shape, hint=f"expected {expected}")
        if not np.all(np.isfinite(positions)):
            raise InputError("a coordinate is not a finite number")
        view = self.as_replicas(self.x)
        view[:, :, : self.replicas] = positions
        view[:, :, self.replicas :] = positions[:, :, :1]

    def refresh(self, anew: bool = False) -> None:
        """Renew the neighbour list when an atom has moved more than half the skin since it was built, or `anew`."""
        layout = self.layout
        if layout.all_pairs:
            return
        half_skin = (layout.reach - self.model.functions.cutoff) / 2
        if anew or moved_beyond(self.x, layout.reference, half_skin, self.atoms, layout.stride, self.replicas):
            layout.rebuild(self.x)
            if layout.scratch_sizes()[0] > self.work.scratch.size:
                self.work = self._workspace()

    def compute(
        self, with_charges: bool = False, networks: tuple[PackedNetworks, PackedNetworks] | None = None
    ) -> None:
        """Run the kernels at self.x; results stay in the instance's flat arrays."""
        self.refresh()
        energy, charge = networks or (self.energy_networks, self.charge_networks)
        layout, stride = self.layout, self.layout.stride
        evaluate_lanes(
            self.x,
            layout.lanes,
            layout.tables,
            energy,
            charge,
            self.work,
            with_charges,
            self.atomic_energies,
            self.forces,
            self.charges,
            self.atomic_dipoles,
        )
        sum_atoms(self.atomic_energies, self.atoms, stride, self.energies)
        if with_charges:
            total_dipoles(
                self.x,
                self.charges,
                self.atomic_dipoles,
                self.origin_weights,
                self.atoms,
                stride,
                self.total_charge,
                self.dipole,
            )

    def evaluate(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Committee-mean energies (R,) in hartree and forces (N, 3, R) in hartree/bohr at positions (N, 3, R)."""
        self.set_positions(positions)
        self.compute()
        return self._energies(), self._forces()

    @property
    def kernels(self) -> Evaluator:
        """Itself: the compiled steps of dynamics move its arrays."""
        return self

    @property
    def chunk_steps(self) -> int:
        """No limit: its steps are fast."""
        return sys.maxsize

    def evaluate_with_dipoles(self, positions: FloatArray) -> ReplicaEvaluation:
        """Committee-mean energies, forces and, with charge networks, dipoles at positions (N, 3, R)."""
        self.set_positions(positions)
        self.compute(with_charges=self.has_charges)
        return ReplicaEvaluation(self._energies(), self._forces(), self._dipoles() if self.has_charges else None)

    def dipoles(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Committee-mean dipoles (3, R) in e bohr and charges (N, R) in e at positions (N, 3, R)."""
        self.model.require_charges(self.numbers)
        self.set_positions(positions)
        self.compute(with_charges=True)
        return self._dipoles(), self.as_replicas(self.charges, 1)[:, : self.replicas].copy()

    def dipole_parts(self, positions: FloatArray) -> FloatArray:
        """Atoms' parts (N, 3, R) of the committee-mean dipole in e bohr, (q_i - Q w_i) r_i + mu_i about the origin with
        the weights w_i, at positions (N, 3, R); they sum to the dipole."""
        self.model.require_charges(self.numbers)
        self.set_positions(positions)
        self.compute(with_charges=True)
        charges = self.as_replicas(self.charges, 1)[:, None, : self.replicas]
        excess = charges - (self.total_charge * self.origin_weights)[:, None, None]
        return np.asarray(excess * positions + self.as_replicas(self.atomic_dipoles)[:, :, : self.replicas])

    def members(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Every member's energies (M, R) and forces (M, N, 3, R) at positions (N, 3, R)."""
        self.set_positions(positions)
        results = []
        for networks in self._members():
            self.compute(networks=networks)
            results.append((self._energies(), self._forces()))
        return np.stack([energy for energy, _ in results]), np.stack([forces for _, forces in results])

    def member_dipoles(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Every member's dipoles (M, 3, R) and charges (M, N, R) at positions (N, 3, R)."""
        self.model.require_charges(self.numbers)
        self.set_positions(positions)
        results = []
        for networks in self._members():
            self.compute(with_charges=True, networks=networks)
            results.append((self._dipoles(), self.as_replicas(self.charges, 1)[:, : self.replicas].copy()))
        return np.stack([dipole for dipole, _ in results]), np.stack([charges for _, charges in results])

    def force_spread(self, positions: FloatArray) -> FloatArray:
        """(N, R): standard deviation over the members of each atom's force vector (`spread_of`), hartree/bohr."""
        return spread_of(self.members(positions)[1])

    def spread_here(self) -> tuple[FloatArray, FloatArray]:
        """At the positions that the instance holds: (R,) the largest over the atoms of `force_spread`, and (R,) the
        standard deviation of the members' dipole vectors, e bohr, sqrt(mean_m |mu_m - mean mu|^2) (0 without charges).

        For dynamics: the instance's forces and energies are kept.
        """
        kept, energies = self.forces.copy(), self.energies.copy()
        collected, moments = [], []
        for networks in self._members():
            self.compute(with_charges=self.has_charges, networks=networks)
            collected.append(self._forces())
            moments.append(self._dipoles())
        self.forces[:], self.energies[:] = kept, energies
        dipoles = np.stack(moments)
        worst = spread_of(np.stack(collected)).max(0)
        return np.asarray(worst), np.asarray(np.sqrt(((dipoles - dipoles.mean(0)) ** 2).mean(0).sum(0)))

    def _members(self) -> list[tuple[PackedNetworks, PackedNetworks]]:
        if self._single is None:
            plans, model = self.layout.plans, self.model
            self._single = []
            for m in range(model.members):
                energy = {z: c.member(m) for z, c in model.energy.items()}
                charge = {z: c.member(m) for z, c in model.charge.items()}
                packed = pack_networks(charge, plans, None) if self.has_charges else self.charge_networks
                self._single.append((pack_networks(energy, plans, model.offsets), packed))
        return self._single

    def _energies(self) -> FloatArray:
        return self.energies[: self.replicas].copy()

    def _forces(self) -> FloatArray:
        return self.as_replicas(self.forces)[:, :, : self.replicas].copy()

    def _dipoles(self) -> FloatArray:
        return self.dipole.reshape(3, -1)[:, : self.replicas].copy()


def spread_of(forces: FloatArray) -> FloatArray:
    """sqrt(mean_m |F_m - mean F|^2), (N, R), of the members' forces (M, N, 3, R)."""
    return np.asarray(np.sqrt(((forces - forces.mean(0)) ** 2).mean(0).sum(1)))


# Evaluators that a thread keeps, one a model: those of a sum of potentials take turns.
MAX_CACHED_EVALUATORS = 8


class _Kept(threading.local):
    """The evaluators of a thread's last single geometries, the latest first: packing the networks takes longer than a
    hundred geometries."""

    def __init__(self) -> None:
        self.evaluators: list[Evaluator] = []


_kept = _Kept()


def _evaluator_of_one(model: ModelNetworks, numbers: IntArray, charge: int | None) -> Evaluator:
    kept = _kept.evaluators
    total = float(model.total_charge if charge is None else charge)
    own = next((one for one in kept if one.model is model), None)
    if own is not None and own.total_charge == total and np.array_equal(own.numbers, numbers):
        return own
    own = Evaluator(model, numbers, 1, charge)
    _kept.evaluators = [own, *(one for one in kept if one.model is not model)][:MAX_CACHED_EVALUATORS]
    return own


def evaluate(model: ModelNetworks, numbers: IntArray, positions: FloatArray, charge: int | None = None) -> Evaluation:
    """The answer of `model` for one geometry: numbers (N,), positions (N, 3) in bohr. See Model.evaluate.

    The mean dipole is the mean of the members' dipoles. Without charge networks, charges and dipole are NaN.
    """
    evaluator = _evaluator_of_one(model, numbers, charge)
    replica = np.asarray(positions, float)[:, :, None]
    # The order of the sums must not depend on the geometries before this one.
    evaluator.set_positions(replica)
    evaluator.refresh(anew=True)
    energies, forces = evaluator.members(replica)
    if evaluator.has_charges:
        dipoles, charges = evaluator.member_dipoles(replica)
    else:
        dipoles, charges = np.full((1, 3, 1), np.nan), np.full((1, len(numbers), 1), np.nan)
    return Evaluation.of_members(energies[:, 0], forces[..., 0], charges[..., 0], dipoles[..., 0])
