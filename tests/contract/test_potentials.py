"""The contract of hpcir.models.potential.Potential, which every implementation keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.runner import RECORDS, ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError, LabelFailed
from hpcir.exchange.n2p2 import export_n2p2, import_n2p2
from hpcir.labels import Label, create_engine
from hpcir.labels.potential import EnginePotential
from hpcir.models.random_model import random_model
from hpcir.models.sums import SumOfPotentials
from hpcir.molecules.structures import Structure, centre, standard_masses
from hpcir.units import ANGSTROM, FS, KELVIN

# Hydrogen peroxide, away from its minimum and without symmetry.
NUMBERS = np.array([8, 8, 1, 1])
POSITIONS = np.array([[0.0, 0.72, -0.05], [0.03, -0.72, -0.04], [0.83, 0.88, 0.44], [-0.81, -0.92, 0.38]]) * ANGSTROM
MOLECULE = Structure(NUMBERS, POSITIONS, name="peroxide")
MASSES = standard_masses(NUMBERS)
FUNCTIONS = automatic_set((1, 8), 9.0, 5, 2, (1, 2))


class Springs:
    """An analytic engine: springs between all atoms of unlike strength, fixed charges of the elements."""

    def __init__(self, constant: float = 0.3) -> None:
        self.constant = constant
        self.level = f"springs of {constant}"

    def check(self, structure: Structure) -> None:
        """Every molecule will do."""

    def label(self, structure: Structure, polar: bool = False) -> Label:
        x, z = structure.positions, structure.numbers.astype(float)
        if np.abs(x).max() > 50:
            raise LabelFailed("too far")
        charges = 0.03 * (z - z.mean()) + structure.charge / len(z)
        vectors = x[:, None] - x[None]
        lengths = np.sqrt((vectors**2).sum(-1) + np.eye(len(z)))
        strength = self.constant * np.sqrt(np.outer(z, z)) * (1 - np.eye(len(z))) / 8
        energy = 0.25 * (strength * (lengths - 2.0) ** 2).sum()
        forces = -((strength * (lengths - 2.0) / lengths)[..., None] * vectors).sum(1)
        dipole = charges @ (x - centre(x, z))
        tensors = charges[:, None, None] * np.eye(3) if polar else None
        return Label(energy, forces, dipole, polar_tensors=tensors)


def model(seed=1, **options):
    return random_model(FUNCTIONS, seed, **{"hidden": (7, 6), "members": 2, **options})


def imported(folder, seed=2, members=2):
    own = model(seed, members=members)
    folders = [folder / f"{seed}-{m}" for m in range(members)]
    for member, place in enumerate(folders):
        export_n2p2(own, place, member)
    return import_n2p2(folders)


def semiempirical(folder):
    pytest.importorskip("tblite")
    return EnginePotential(create_engine(LabelSettings(engine="tblite")), MOLECULE)


KINDS = {
    "model": lambda folder: model(atomic_dipoles=True),
    "model without dipole": lambda folder: replace(model(), charge={}),
    "n2p2": imported,
    "engine": lambda folder: EnginePotential(Springs(), MOLECULE),
    "tblite": semiempirical,
    "engine and correction": lambda folder: SumOfPotentials(EnginePotential(Springs(), MOLECULE), (model(3),)),
    "model and correction of energies": lambda folder: SumOfPotentials(model(), (replace(model(3), charge={}),)),
    "two committees": lambda folder: SumOfPotentials(model(), (imported(folder), model(4, members=1))),
}


@pytest.fixture(params=KINDS)
def potential(request, tmp_path):
    return KINDS[request.param](tmp_path)


def moved(seed, scale=0.05):
    return POSITIONS + scale * np.random.default_rng(seed).standard_normal(POSITIONS.shape)


def test_forces_are_slopes_of_the_energy(potential):
    found, step = potential.evaluate(NUMBERS, POSITIONS), 2e-3
    scale = np.abs(found.forces).max()
    for seed in range(3):
        direction = np.random.default_rng(seed).standard_normal(POSITIONS.shape)
        ahead, back, far, behind = (
            potential.evaluate(NUMBERS, POSITIONS + n * step * direction).energy for n in (1, -1, 2, -2)
        )
        slope = (8 * (ahead - back) - (far - behind)) / (12 * step)
        assert -(found.forces * direction).sum() == pytest.approx(slope, abs=2e-5 * scale)


def test_polar_tensors_are_slopes_of_the_dipole(potential):
    tensors, step = potential.polar_tensors(NUMBERS, POSITIONS, 0), 2e-3
    if tensors is None:
        return
    assert tensors.shape == (4, 3, 3)
    for j, y in ((0, 0), (1, 2), (3, 1)):
        change = np.zeros_like(POSITIONS)
        change[j, y] = step
        ahead, back = (potential.evaluate(NUMBERS, POSITIONS + s * change, 0).dipole for s in (1, -1))
        # GFN2-xTB's dipoles are as exact as its charges' convergence: the tolerance of the engines' own contract.
        exact = 2e-4 if potential.level.startswith("GFN") else 2e-5
        np.testing.assert_allclose(tensors[j, y], (ahead - back) / (2 * step), atol=exact)


def test_turned_shifted_and_renumbered_molecules_are_the_same(potential):
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    order = np.array([2, 1, 3, 0])
    here = potential.evaluate(NUMBERS, POSITIONS, 0)
    there = potential.evaluate(NUMBERS[order], (POSITIONS @ rotation.T + 3.0)[order], 0)
    assert there.energy == pytest.approx(here.energy, abs=1e-8)
    np.testing.assert_allclose(there.forces, (here.forces @ rotation.T)[order], atol=1e-7)
    np.testing.assert_allclose(there.dipole, here.dipole @ rotation.T, atol=1e-6)
    np.testing.assert_allclose(there.charges, here.charges[order], atol=1e-6)


def test_replicas_are_single_evaluations(potential):
    frames = [POSITIONS, moved(1), moved(2)]
    block = np.stack(frames, -1)
    replicas = potential.replicas(NUMBERS, 3)
    assert replicas.chunk_steps >= 1
    found = replicas.evaluate_with_dipoles(block)
    energies, forces = replicas.evaluate(block)
    np.testing.assert_array_equal(energies, found.energies)
    np.testing.assert_array_equal(forces, found.forces)
    assert (found.dipoles is not None) == potential.has_dipole
    for r, frame in enumerate(frames):
        single = potential.evaluate(NUMBERS, frame)
        assert found.energies[r] == pytest.approx(single.energy, abs=1e-8)
        np.testing.assert_allclose(found.forces[..., r], single.forces, atol=1e-8)
        if found.dipoles is None:
            assert np.isnan(single.dipole).all()
        else:
            np.testing.assert_allclose(found.dipoles[:, r], single.dipole, atol=1e-7)


def test_dipoles_of_charged_replicas_are_about_the_centre_of_mass(potential):
    """mu(centre of mass) = mu(R0) + Q (R0 - centre of mass)."""
    if potential.level.startswith("GFN") or not potential.has_dipole:
        return  # an odd number of electrons is another spin for the real engine
    found = potential.replicas(NUMBERS, 1, 1, MASSES).evaluate_with_dipoles(POSITIONS[..., None])
    shift = centre(POSITIONS, NUMBERS.astype(float)) - centre(POSITIONS, MASSES)
    expected = potential.evaluate(NUMBERS, POSITIONS, 1).dipole + shift
    np.testing.assert_allclose(found.dipoles[:, 0], expected, atol=1e-9)


def test_members_make_mean_and_spread(potential):
    whole = potential.evaluate(NUMBERS, POSITIONS)
    singles = [potential.member(m).evaluate(NUMBERS, POSITIONS) for m in range(potential.members)]
    assert all(potential.member(m).members == 1 for m in range(potential.members))
    energies, forces, dipoles = (np.array([getattr(s, n) for s in singles]) for n in ("energy", "forces", "dipole"))
    assert whole.energy == pytest.approx(energies.mean(), abs=1e-10)
    assert whole.energy_spread == pytest.approx(energies.std(), abs=1e-10)
    np.testing.assert_allclose(whole.forces, forces.mean(0), atol=1e-10)
    np.testing.assert_allclose(whole.forces_spread, forces.std(0), atol=1e-10)
    np.testing.assert_allclose(whole.dipole, dipoles.mean(0), atol=1e-10)
    np.testing.assert_allclose(whole.dipole_spread, dipoles.std(0), atol=1e-10)
    digests = {potential.digest, *(potential.member(m).digest for m in range(potential.members))}
    assert len(digests) == (1 if potential.members == 1 else 1 + potential.members)


def test_other_molecules_are_refused(potential):
    assert potential.elements == (1, 8)
    potential.require(NUMBERS)
    with pytest.raises(InputError):
        potential.require(np.array([8, 26, 1, 1]))
    with pytest.raises(InputError):
        potential.evaluate(np.array([8, 26, 1, 1]), POSITIONS)
    with pytest.raises(InputError):
        potential.replicas(np.array([8, 26, 1, 1]), 2)


def test_facts_are_texts(potential):
    assert all(isinstance(text, str) and text for pair in potential.facts() for text in pair)


def test_moves_as_its_forces_say(potential):
    """Velocity Verlet of any implementation conserves the total energy to the second order of the timestep."""
    ids = np.arange(2)
    positions = np.stack([POSITIONS, moved(3, 0.01)], -1)
    block = ReplicaBlock.start(positions, thermal_velocities(positions, MASSES, 100 * KELVIN, 1, ids), ids)
    excess = []
    for refine in (1, 2):
        replicas = potential.replicas(NUMBERS, 2, masses=MASSES)
        record = ("dipoles",) if potential.has_dipole else ()
        steps, timestep = 20 * refine, 0.2 * FS / refine
        chunk = run_chunk(replicas, block, MASSES, steps, timestep, dipole_every=refine, record=record)
        assert not chunk.retired
        assert chunk.dipoles.shape == (20 if record else 0, 3, 2)
        excess.append(np.ptp(chunk.kinetic + chunk.potential, axis=0).max())
    assert excess[1] < 0.35 * excess[0]


def changed(model, kind, part):
    committee = getattr(model, kind)[8]
    arrays = [array.copy() for array in getattr(committee, part)]
    arrays[-1].flat[-1] += 1e-9
    return replace(model, **{kind: {**getattr(model, kind), 8: replace(committee, **{part: tuple(arrays)})}})


def test_the_digest_of_a_model_changes_with_every_part_of_it(tmp_path):
    own = model()
    others = [changed(own, kind, part) for kind in ("energy", "charge") for part in ("weights", "biases")]
    others += [
        replace(own, offsets={**own.offsets, 8: own.offsets[8] + 1e-9}),
        replace(own, total_charge=1),
        replace(own, functions=replace(own.functions, cutoff=9.1)),
        replace(own, error={"force_calibration": 2.0}),
        replace(own, charge={}),
    ]
    assert len({own.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert type(own).load(own.save(tmp_path)).digest == own.digest == model().digest


def test_the_digests_of_the_others_change_with_their_parts(tmp_path):
    own = imported(tmp_path)
    element = own.charge[0].elements[8]
    weights = (*element.weights[:-1], element.weights[-1] + 1e-9)
    networks = replace(own.charge[0], elements={**own.charge[0].elements, 8: replace(element, weights=weights)})
    assert replace(own, charge=(networks, *own.charge[1:])).digest != own.digest
    assert type(own).load(own.save(tmp_path / "saved")).digest == own.digest
    one, two = (EnginePotential(Springs(constant), MOLECULE) for constant in (0.3, 0.4))
    assert one.digest == EnginePotential(Springs(), MOLECULE).digest != two.digest
    assert EnginePotential(Springs(), replace(MOLECULE, charge=1)).digest != one.digest
    sums = [SumOfPotentials(base, (part,)) for base in (one, two, own) for part in (own, model(5), model(6))]
    assert len({total.digest for total in sums}) == 9


def test_a_sum_is_the_sum(tmp_path):
    parts = [model(members=3), imported(tmp_path, members=1), replace(model(7, members=1), charge={})]
    total = SumOfPotentials(parts[0], tuple(parts[1:]))
    found = total.evaluate(NUMBERS, POSITIONS, -1)
    one, two, three = (part.evaluate(NUMBERS, POSITIONS, q) for part, q in zip(parts, (-1, 0, 0), strict=True))
    assert found.energy == pytest.approx(one.energy + two.energy + three.energy, rel=1e-14)
    np.testing.assert_allclose(found.forces, one.forces + two.forces + three.forces, rtol=1e-12)
    np.testing.assert_allclose(found.dipole, one.dipole + two.dipole, rtol=1e-12)
    np.testing.assert_allclose(found.charges, one.charges + two.charges, rtol=1e-12)
    assert found.charges.sum() == pytest.approx(-1)
    np.testing.assert_array_equal(found.forces_spread, one.forces_spread)
    with pytest.raises(InputError, match="differ in size"):
        SumOfPotentials(parts[0], (model(members=2),))


def test_a_correction_of_nothing_changes_no_trajectory():
    """Plain steps on the sum against compiled steps on the model."""
    own, nothing = model(scale=0.05), model(8, scale=0.0)
    nothing = replace(
        nothing,
        offsets={1: 0.0, 8: 0.0},
        **{
            kind: {z: replace(c, biases=(*c.biases[:-1], 0 * c.biases[-1])) for z, c in getattr(nothing, kind).items()}
            for kind in ("energy", "charge")
        },
    )
    ids, positions = np.arange(2), np.stack([POSITIONS, moved(4)], -1)
    block = ReplicaBlock.start(positions, thermal_velocities(positions, MASSES, 300 * KELVIN, 1, ids), ids)
    ends = [
        run_chunk(one.replicas(NUMBERS, 2, masses=MASSES), block, MASSES, 100, 0.5 * FS, record=RECORDS)
        for one in (own, SumOfPotentials(own, (nothing,)))
    ]
    for name in ("positions", "velocities", "dipoles", "potential"):
        first, second = (getattr(end, name) for end in ends)
        np.testing.assert_allclose(second, first, atol=1e-10 * np.abs(first).max())


def test_only_models_have_a_calibrated_spread(tmp_path):
    own = replace(model(), error={"force_calibration": 2.0, "dipole_calibration": 4.0})
    assert own.spread_threshold(1.0) == 0.5
    assert own.spread_threshold(1.0, "dipole") == 0.25
    assert imported(tmp_path).spread_threshold(1.0) == np.inf
    engine = EnginePotential(Springs(), MOLECULE)
    assert engine.spread_threshold(1.0) == np.inf
    assert SumOfPotentials(own, (engine,)).spread_threshold(1.0) == 0.5
    assert SumOfPotentials(own, (model(3),)).spread_threshold(1.0) == np.inf


def test_a_geometry_that_cannot_be_labelled_is_not_a_number():
    said: list[str] = []
    replicas = EnginePotential(Springs(), MOLECULE, said.append).replicas(NUMBERS, 2)
    found = replicas.evaluate_with_dipoles(np.stack([POSITIONS, 1e3 * POSITIONS], -1))
    assert np.isfinite(found.energies).tolist() == [True, False]
    assert np.isnan(found.forces[..., 1]).all()
    assert np.isnan(found.dipoles[:, 1]).all()
    assert "too far" in said[0]
    with pytest.raises(LabelFailed):
        EnginePotential(Springs(), MOLECULE).evaluate(NUMBERS, 1e3 * POSITIONS)
