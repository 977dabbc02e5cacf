"""Conformer families of a target: found, relaxed and ranked with the model and its label engine, and sampled.

Candidates come from distance geometry or a torsion scan, and from what sampling has labelled; they are relaxed with the
model over all ranks, and the minima of any weight labelled once each. A conformer's free energy is its label's energy
and the classical one of the model's vibrations and rotation (`vibrations.free_energy`): the harmonic weights. Replica
exchange from the conformers gives the canonical ones of the model, moved by the difference of labels and model; the
main trajectories start from its frames drawn by them, so that their plain average is the ensemble's; each family of
weight has trajectories of its own besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.thermal import is_linear, thermal_velocities
from hpcir.errors import InputError
from hpcir.models.model import Model
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import (
    Conformer,
    Family,
    conformer_weights,
    families,
    family_name,
    radius_of_gyration,
)
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage.checksums import digest
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm, candidates
from hpcir.study.learning.relaxation import harmonic_modes, minima
from hpcir.study.production.canonical_starts import CHAINS, Canonical, canonical_ensemble
from hpcir.study.production.plan import StartPopulations, Starts
from hpcir.vibrations.free_energy import free_energy
from hpcir.vibrations.harmonics import model_harmonics
from hpcir.vibrations.normal_modes import NormalModes
from hpcir.vibrations.normal_modes import sample as sample_modes

PURPOSE = "conformers"
# Most labelled geometries among the candidates, the lowest ones: every round of sampling labels minima of its model,
# found from other candidates than the final ones.
MAX_LABELLED_CANDIDATES = 80
# Most kT of a labelled conformer above the lowest, by free energy in the model: beyond it each is less than a
# thousandth of the ensemble, and the model is accurate to about half a kT.
MAX_FREE_ENERGY = 7.0
# Least weight of a family with its own spectrum, and most such families.
MIN_WEIGHT, MAX_FAMILIES = 0.02, 5
# Most trajectories of each family: fewer have wide error bars, however right.
MAX_FAMILY_TRAJECTORIES = 12


@dataclass(frozen=True)
class Ensemble:
    """Families, the heaviest first, with the modes of every conformer: modes[f][c] of family f's member c; shifts (F,):
    the mean of labelled less model energies of a family's conformers, hartree.

    weights (F,) of the families and weight_errors (F,): those of the canonical ensemble where it was sampled, else the
    harmonic ones with errors that are not known; other: what the ensemble has of conformers in no family.
    """

    families: tuple[Family, ...]
    modes: tuple[tuple[NormalModes, ...], ...]
    shifts: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    weight_errors: tuple[float, ...] = ()
    other: float = 0.0

    @property
    def longest(self) -> float:
        """The largest radius of gyration of a conformer, bohr."""
        return max(radius_of_gyration(item.structure) for _, item, _ in self.conformers())

    def weighted(self, canonical: Canonical, temperature: float) -> Ensemble:
        """With the weights of the canonical ensemble of the model, each family's moved by how much its labels lie above
        the model: exp(-shift / kT). The harmonic ones stay where replica exchange did not connect the families.
        temperature in hartree.
        """
        basins = canonical.basins
        if basins.unconnected:
            return self
        factors = dict(
            zip((family.name for family in self.families), np.exp(-np.array(self.shifts) / temperature), strict=True)
        )
        typical = float(np.dot([factors.get(name, 1.0) for name in basins.names], basins.shares))
        moved = np.array([factors.get(name, typical) for name in basins.names])
        values = moved * basins.shares
        whole = values.sum()
        # Of a quotient: d(v_b / sum v) = (dv_b - w_b sum dv) / sum v.
        slope = (np.diag(moved) - np.outer(values / whole, moved)) / whole
        errors = np.sqrt(np.diag(slope @ basins.covariance @ slope.T))
        found = {name: (value / whole, error) for name, value, error in zip(basins.names, values, errors, strict=True)}
        missing = (0.0, 1 / max(1, len(canonical.frames)))
        pairs = [found.get(family.name, missing) for family in self.families]
        order = sorted(range(len(pairs)), key=lambda number: -pairs[number][0])
        return Ensemble(
            families=tuple(self.families[number] for number in order),
            modes=tuple(self.modes[number] for number in order),
            shifts=tuple(self.shifts[number] for number in order),
            weights=tuple(float(pairs[number][0]) for number in order),
            weight_errors=tuple(float(pairs[number][1]) for number in order),
            other=max(0.0, 1 - float(sum(weight for weight, _ in pairs))),
        )

    def conformers(self) -> Iterator[tuple[int, Conformer, NormalModes]]:
        """Every conformer with its family's number."""
        for number, (family, modes) in enumerate(zip(self.families, self.modes, strict=True)):
            for member, own in zip(family.members, modes, strict=True):
                yield number, member, own


def find_families(context: Context, farm: LabelFarm, model: Model, count: int, weights_key: str) -> Ensemble:
    """The families of a target (collective). Raises InputError when no minimum keeps the molecule's bonds."""
    structure, graph = context.structure, bond_graph(context.structure)
    temperature = context.deck.dynamics.temperature
    seed = context.deck.seed
    known = _lowest_labelled(farm, structure) if context.root else []
    found = minima(context, model, structure, graph, count, seed, weights_key, known=known)
    if not found:
        raise InputError(
            "no conformer could be relaxed with its bonds kept",
            where=structure.source or "system.structure",
            hint="this charge and protonation may have no minimum at this level of theory",
        )
    geometries = [item.structure for item in found]
    vibrations = harmonic_modes(context, geometries, weights_key, lambda s: model_harmonics(model, s))
    pairs = _worth_a_label(found, vibrations, temperature, graph)
    labels = farm.label(candidates([item.structure for item, _ in pairs], PURPOSE))
    kept, modes, shifts = [], [], []
    for (item, own), label in zip(pairs, labels, strict=True):
        if label is not None:
            kept.append(replace(item, energy=label.energy + free_energy(own, temperature, graph)))
            modes.append(own)
            shifts.append(label.energy - item.energy)
    ordered = families(kept, temperature, graph)
    place = {id(item): number for number, item in enumerate(kept)}
    numbers = [[place[id(member)] for member in family.members] for family in ordered]
    mean = float(np.mean(shifts)) if shifts else 0.0
    return Ensemble(
        tuple(ordered),
        tuple(tuple(modes[number] for number in own) for own in numbers),
        tuple(
            float(conformer_weights(family.members, temperature) @ np.array([shifts[number] for number in own])) - mean
            for family, own in zip(ordered, numbers, strict=True)
        ),
        tuple(family.weight for family in ordered),
        (float("nan"),) * len(ordered),
    )


@collective
def sampled_ensemble(context: Context, model: Model, ensemble: Ensemble, count: int, key: str) -> Canonical:
    """The canonical ensemble of a molecule with conformer families: replica exchange from the conformers, drawn by
    their harmonic weights, and its frames brought down to minima that distinguish them (collective)."""
    structure, graph, longest = context.structure, bond_graph(context.structure), ensemble.longest
    starts, _ = ensemble_starts(context, ensemble, CHAINS)
    first = np.ascontiguousarray(starts.positions.transpose(2, 0, 1))

    def name(minima: FloatArray) -> list[str]:
        return [family_name(structure.moved(frame), graph, longest) for frame in minima]

    return canonical_ensemble(context, model, structure, count, key, first, name)


def main_starts(
    context: Context, ensemble: Ensemble, canonical: Canonical, count: int
) -> tuple[Starts, StartPopulations]:
    """Starts of the main trajectories: canonical frames drawn by the families' weights; and the populations."""
    weights = dict(zip((family.name for family in ensemble.families), ensemble.weights, strict=True))
    others = [name for name in canonical.basins.names if name not in weights]
    each = ensemble.other / max(1, len(others))
    starts, found = canonical.draw(
        context, context.structure, count, "main", {**{name: each for name in others}, **weights}
    )
    if not canonical.basins.unconnected:
        return starts, found
    words = "not known: replica exchange did not connect all families, whose weights are harmonic"
    return starts, replace(found, covariance=np.full_like(found.covariance, np.nan), words=words)


def family_starts(context: Context, ensemble: Ensemble, canonical: Canonical, count: int, number: int) -> Starts:
    """Starts of a family's own trajectories: canonical frames of it, or thermal samples of its conformers where there
    are none."""
    name = ensemble.families[number].name
    if name not in canonical.basins.names:
        return ensemble_starts(context, ensemble, count, number)[0]
    return canonical.draw(context, context.structure, count, f"family {number}", {name: 1.0})[0]


def family_populations(ensemble: Ensemble, found: StartPopulations) -> tuple[int, ...]:
    """The family that each trajectory starts in, -1 for conformers of none."""
    numbers = {family.name: number for number, family in enumerate(ensemble.families)}
    return tuple(numbers.get(found.names[kind], -1) for kind in found.kind.tolist())


def _lowest_labelled(farm: LabelFarm, structure: Structure) -> list[Structure]:
    """The molecule's own geometries among the labels so far, the lowest MAX_LABELLED_CANDIDATES of them (rank 0)."""
    own = [
        (label.energy, geometry)
        for geometry, label in farm.store.select(farm.level)
        if np.array_equal(geometry.numbers, structure.numbers) and geometry.charge == structure.charge
    ]
    return [geometry for _, geometry in sorted(own, key=lambda pair: pair[0])[:MAX_LABELLED_CANDIDATES]]


def _worth_a_label(
    found: list[Conformer], modes: list[NormalModes], temperature: float, graph: BondGraph
) -> list[tuple[Conformer, NormalModes]]:
    """The conformers with a significant weight by their free energy in the model, with their modes."""
    pairs = list(zip(found, modes, strict=True))
    energies = [item.energy + free_energy(own, temperature, graph) for item, own in pairs]
    highest = min(energies) + MAX_FREE_ENERGY * temperature
    return [pair for pair, energy in zip(pairs, energies, strict=True) if energy < highest]


def ensemble_starts(
    context: Context, ensemble: Ensemble, count: int, family: int | None = None
) -> tuple[Starts, list[int]]:
    """Thermal starts of `count` trajectories in conformers drawn by weight (of one family, or of all), systematically;
    and the family that each starts in."""
    dynamics, seed = context.deck.dynamics, context.deck.seed
    temperature, masses = dynamics.temperature, context.structure.masses
    members = [item for item in ensemble.conformers() if family is None or item[0] == family]
    weights = conformer_weights([item[1] for item in members], temperature)
    # Equal steps along the cumulated weights: every conformer in proportion to its weight, to one trajectory.
    picks = np.searchsorted(np.cumsum(weights), (np.arange(count) + 0.5) / count * (1 - 1e-12))
    purpose = "ensemble" if family is None else f"family {family}"
    # Shuffled, so that the first few represent all: a reference of fewer trajectories starts from those.
    picks = picks[context.random(f"order of {purpose}").permutation(count)]
    frames = np.array(
        [
            sample_modes(members[pick][2], temperature, 1, context.random(purpose, number))[0]
            for number, pick in enumerate(picks.tolist())
        ]
    )
    positions = np.ascontiguousarray(frames.transpose(1, 2, 0))
    own_seed = int(digest(seed, purpose)[:12], 16)
    linear = is_linear(members[0][2].positions, masses)
    velocities = thermal_velocities(
        positions, masses, temperature, own_seed, np.arange(count), rotation=dynamics.rotation, linear=linear
    )
    key = digest(purpose, positions, velocities)
    chosen = [members[pick][0] for pick in picks.tolist()]
    return Starts(positions, velocities, np.ones(count, bool), key), chosen


def worth_a_spectrum(ensemble: Ensemble) -> list[int]:
    """The families with a spectrum of their own."""
    return [number for number, weight in enumerate(ensemble.weights) if weight >= MIN_WEIGHT][:MAX_FAMILIES]
