"""The inference kernels against the plain numpy descriptors and networks, and their symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcir.descriptors.definition import SymmetryFunctionSet, automatic_set
from hpcir.descriptors.reference import _gaussian, features_and_jacobian
from hpcir.errors import InputError
from hpcir.models.evaluation import Evaluation
from hpcir.models.evaluator import Evaluator, evaluate
from hpcir.models.polar import polar_tensors
from hpcir.models.random_model import random_model

AUTOMATIC = automatic_set((1, 6, 8), 9.0, 8, 2, (1, 3))
GENERIC = SymmetryFunctionSet(
    elements=(1, 6, 8),
    cutoff=8.0,
    radial=((0.5, 1.0), (1.0, 2.0), (0.1, 0.0)),
    shells=((0.3, 0.0), (0.1, 2.0), (0.05, 3.0)),
    angles=((1, 1), (2, -1), (5, 1)),
    cutoff_function="tanh3",
)
RADIAL_ONLY = automatic_set((1, 6, 8), 7.0, 5, 0, (1,), "cosine")


def random_molecule(seed, atoms, elements=(1, 6, 8), box=3.0, nearest=1.6):
    """Random atoms no nearer than `nearest` bohr."""
    stream = np.random.default_rng(seed)
    positions = []
    while len(positions) < atoms:
        place = stream.uniform(-box, box, 3)
        if all(np.linalg.norm(place - other) > nearest for other in positions):
            positions.append(place)
    return stream.choice(elements, atoms), np.array(positions)


def plain_evaluation(model, numbers, positions):
    """Every member's energy (M,), forces (M, N, 3), dipole (M, 3) and charges (M, N), in numpy."""
    features, jacobian = features_and_jacobian(model.functions, numbers, positions)
    members, count = model.members, len(numbers)
    energy, forces = np.zeros(members), np.zeros((members, count, 3))
    charges, atomic = np.zeros((members, count)), np.zeros((members, count, 3))
    for i, z in enumerate(numbers):
        output, gradient = model.energy[z].evaluate(features[i : i + 1])
        energy += output[:, 0, 0] + model.offsets[z]
        forces -= np.einsum("mf,fjc->mjc", gradient[:, 0], jacobian[i])
        output, _ = model.charge[z].evaluate(features[i : i + 1])
        charges[:, i] = output[:, 0, 0]
        if output.shape[2] > 1:
            atomic[:, i] = output[:, 0, 1:] @ shell_vectors(model.functions, numbers, positions, i)
    charges += (model.total_charge - charges.sum(1, keepdims=True)) / count
    about = positions - numbers @ positions / numbers.sum()
    return energy, forces, charges @ about + atomic.sum(1), charges


def shell_vectors(functions, numbers, positions, i):
    """V_i (elements * shells, 3) of models/model.py."""
    vectors = np.zeros((len(functions.elements), len(functions.shells), 3))
    for j, z in enumerate(numbers):
        delta = positions[j] - positions[i]
        r = np.linalg.norm(delta)
        if j != i and r < functions.cutoff:
            for s, (eta, shift) in enumerate(functions.shells):
                vectors[functions.elements.index(z), s] += _gaussian(functions, eta, shift, r)[0] * delta / r
    return vectors.reshape(-1, 3)


@pytest.mark.parametrize("all_pairs", [True, False], ids=["all-pairs", "list"])
@pytest.mark.parametrize("moments", [True, False], ids=["moments", "direct"])
@pytest.mark.parametrize("functions", [AUTOMATIC, GENERIC, RADIAL_ONLY], ids=["automatic", "generic", "radial"])
def test_kernels_equal_their_plain_twin(functions, moments, all_pairs):
    model = random_model(functions, 5, members=3, dropped=4, hidden=(11, 7, 5), atomic_dipoles=bool(functions.shells))
    numbers, first = random_molecule(1, 11)
    second = first + np.random.default_rng(2).normal(size=first.shape) * 0.05
    evaluator = Evaluator(model, numbers, 2, all_pairs=all_pairs, moments=moments)
    positions = np.stack([first, second], axis=-1)
    energies, forces = evaluator.evaluate(positions)
    member_energies, member_forces = evaluator.members(positions)
    dipoles, charges = evaluator.dipoles(positions)
    for r, geometry in enumerate((first, second)):
        energy, force, dipole, charge = plain_evaluation(model, numbers, geometry)
        assert np.allclose(member_energies[:, r], energy, rtol=1e-11, atol=0)
        assert np.allclose(energies[r], energy.mean(), rtol=1e-11, atol=0)
        scale = np.abs(force).max()
        assert np.abs(member_forces[..., r] - force).max() < 1e-11 * scale
        assert np.abs(forces[..., r] - force.mean(0)).max() < 1e-11 * scale
        assert np.abs(dipoles[:, r] - dipole.mean(0)).max() < 1e-11 * np.abs(dipole).max()
        assert np.abs(charges[:, r] - charge.mean(0)).max() < 1e-11 * np.abs(charge).max()


@pytest.mark.parametrize("hidden", [(9,), (30, 30), (12, 6, 8)])
def test_any_number_of_layers(hidden):
    model = random_model(AUTOMATIC, 6, members=2, hidden=hidden)
    numbers, positions = random_molecule(3, 6)
    answer = evaluate(model, numbers, positions)
    energy, forces, dipole, charges = plain_evaluation(model, numbers, positions)
    assert answer.energy == pytest.approx(energy.mean(), rel=1e-12)
    assert answer.energy_spread == pytest.approx(energy.std(), rel=1e-9)
    assert np.allclose(answer.forces, forces.mean(0), atol=1e-12)
    assert np.allclose(answer.forces_spread, forces.std(0), atol=1e-12)
    assert np.allclose(answer.dipole, dipole.mean(0), atol=1e-12)
    assert np.allclose(answer.dipole_spread, dipole.std(0), atol=1e-12)
    assert np.allclose(answer.charges_spread, charges.std(0), atol=1e-12)


@pytest.mark.parametrize("atoms", [7, 40])
def test_forces_are_minus_the_gradient(atoms):
    model = random_model(AUTOMATIC, 7, members=2)
    numbers, positions = random_molecule(5, atoms, box=2.2 * atoms ** (1 / 3))
    moved = np.repeat(positions[:, :, None], 24, axis=2)
    step = 1e-4
    stream = np.random.default_rng(0)
    picks = [(int(stream.integers(atoms)), int(stream.integers(3))) for _ in range(12)]
    for n, (atom, axis) in enumerate(picks):
        moved[atom, axis, 2 * n] += step
        moved[atom, axis, 2 * n + 1] -= step
    energies, _ = Evaluator(model, numbers, 24).evaluate(moved)
    forces = evaluate(model, numbers, positions).forces
    slopes = (energies[1::2] - energies[0::2]) / (2 * step)
    assert np.allclose(slopes, [forces[pick] for pick in picks], atol=3e-7)


def test_rotation_translation_and_permutation():
    model = random_model(AUTOMATIC, 8, members=2, atomic_dipoles=True)
    numbers, positions = random_molecule(6, 9)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    order = np.random.default_rng(2).permutation(9)
    plain = evaluate(model, numbers, positions)
    turned = evaluate(model, numbers[order], (positions @ rotation.T + 3.0)[order])
    assert turned.energy == pytest.approx(plain.energy, rel=1e-12)
    assert np.allclose(turned.forces, (plain.forces @ rotation.T)[order], atol=1e-11)
    assert np.allclose(turned.charges, plain.charges[order], atol=1e-11)
    assert np.allclose(turned.dipole, rotation @ plain.dipole, atol=1e-11)
    assert np.allclose(plain.forces.sum(0), 0, atol=1e-12)
    assert np.allclose(np.cross(positions, plain.forces).sum(0), 0, atol=1e-11)


def test_charges_sum_to_the_total_charge_and_the_origin_matters_by_the_charge():
    model = random_model(AUTOMATIC, 9)
    numbers, positions = random_molecule(7, 8)
    masses = np.linspace(1.0, 9.0, 8)
    ion = Evaluator(model, numbers, 1, charge=-2)
    about_mass = Evaluator(model, numbers, 1, charge=-2, origin="mass", masses=masses)
    dipole, charges = ion.dipoles(positions[:, :, None])
    other, _ = about_mass.dipoles(positions[:, :, None])
    assert charges.sum() == pytest.approx(-2, abs=1e-12)
    shift = numbers @ positions / numbers.sum() - masses @ positions / masses.sum()
    assert np.allclose(other - dipole, -2 * shift[:, None], atol=1e-11)


def _moved_dipoles(model, numbers, positions, charge, step):
    """The kernels' dipoles (3 N, 3), about an origin at rest, with each coordinate moved by `step`."""
    moves = step * np.eye(positions.size).reshape(-1, *positions.shape)
    frames = positions + moves
    dipoles = Evaluator(model, numbers, len(frames), charge=charge).dipoles(frames.transpose(1, 2, 0))[0].T
    return dipoles + charge * np.einsum("i,six->sx", numbers / numbers.sum(), frames)


@pytest.mark.parametrize("functions", [AUTOMATIC, GENERIC, RADIAL_ONLY], ids=["automatic", "generic", "radial"])
@pytest.mark.parametrize(("atoms", "box"), [(9, 3.0), (16, 8.0)], ids=["near", "beyond the cutoff"])
def test_polar_tensors_are_the_derivatives_of_the_kernels_dipole(functions, atoms, box):
    model = random_model(functions, 12, members=2, dropped=3, atomic_dipoles=bool(functions.shells))
    numbers, positions = random_molecule(7, atoms, box=box)
    found = polar_tensors(model, numbers, positions, charge=1)
    moved = {k: _moved_dipoles(model, numbers, positions, 1, k * 1e-3) for k in (-2, -1, 1, 2)}
    differences = (8 * (moved[1] - moved[-1]) - (moved[2] - moved[-2])) / 12e-3
    np.testing.assert_allclose(found.reshape(-1, 3), differences, atol=1e-8 * np.abs(found).max())
    # All atoms moved together move the charge.
    np.testing.assert_allclose(found.sum(0), np.eye(3), atol=1e-11 * np.abs(found).max())


def test_polar_tensors_need_charges():
    model = replace(random_model(AUTOMATIC, 1), charge={})
    with pytest.raises(InputError, match="has no dipole"):
        polar_tensors(model, np.array([1, 8]), np.eye(2, 3))


@pytest.mark.parametrize("all_pairs", [True, False], ids=["all-pairs", "list"])
def test_a_replica_does_not_depend_on_its_neighbours_in_lockstep(all_pairs):
    model = random_model(AUTOMATIC, 10, members=2)
    numbers, positions = random_molecule(8, 12)
    stream = np.random.default_rng(3)
    block = positions[:, :, None] + 0.1 * stream.normal(size=(12, 3, 21))
    energies, forces = Evaluator(model, numbers, 21, all_pairs=all_pairs).evaluate(block)
    alone, force = Evaluator(model, numbers, 1, all_pairs=all_pairs).evaluate(block[:, :, 13:14])
    assert energies[13] == alone[0]
    assert np.array_equal(forces[:, :, 13], force[:, :, 0])


def test_forces_do_not_depend_on_when_the_list_was_built():
    model = random_model(AUTOMATIC, 11)
    numbers, positions = random_molecule(9, 60, box=8.0)
    moved = positions + np.random.default_rng(4).uniform(-0.2, 0.2, positions.shape)
    old = Evaluator(model, numbers, 1)
    old.evaluate(positions[:, :, None])
    born = old.layout.reference.copy()
    energy, forces = old.evaluate(moved[:, :, None])
    assert np.array_equal(born, old.layout.reference)  # the list is still the first one
    new_energy, new_forces = Evaluator(model, numbers, 1).evaluate(moved[:, :, None])
    assert energy[0] == new_energy[0]
    assert np.array_equal(forces, new_forces)


def test_the_list_follows_atoms_that_move_far():
    model = random_model(AUTOMATIC, 12)
    numbers, positions = random_molecule(10, 30, box=6.0)
    evaluator = Evaluator(model, numbers, 1, all_pairs=False)
    for seed in range(4):
        _, positions = random_molecule(20 + seed, 30, box=5.0 + 3 * seed)
        energy, forces = evaluator.evaluate(positions[:, :, None])
        plain = Evaluator(model, numbers, 1, all_pairs=True).evaluate(positions[:, :, None])
        assert energy[0] == pytest.approx(plain[0][0], rel=1e-12)
        assert np.allclose(forces, plain[1], atol=1e-12)


def test_lone_and_distant_atoms():
    model = random_model(AUTOMATIC, 13)
    answer = evaluate(model, np.array([8]), np.zeros((1, 3)))
    assert np.all(answer.forces == 0)
    apart = evaluate(model, np.array([8, 1]), np.array([[0, 0, 0], [0, 0, 50.0]]))
    assert np.all(apart.forces == 0)
    assert np.isfinite(apart.energy)


def test_wrong_input_is_named():
    model = random_model(AUTOMATIC, 14)
    with pytest.raises(InputError, match="Fe"):
        Evaluator(model, np.array([26, 1]), 1)
    evaluator = Evaluator(model, np.array([8, 1]), 2)
    with pytest.raises(InputError, match="shape"):
        evaluator.evaluate(np.zeros((2, 3, 1)))
    with pytest.raises(InputError, match="finite"):
        evaluator.evaluate(np.full((2, 3, 2), np.nan))


def test_an_evaluation_prints_what_it_is():
    count = 3
    found = Evaluation(-1.25, np.eye(3), np.array([0.2, -0.1, -0.1]), np.array([0.0, 0.0, 0.7]), 1e-4, 0.01 * np.eye(3),
                       np.zeros(count), np.zeros(3))  # fmt: skip
    assert repr(found).splitlines()[0] == "evaluation of 3 atoms"
    assert "-1.250000 +- 0.0001 hartree" in repr(found)
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize("atoms", [7, 40])
def test_one_geometry_does_not_depend_on_those_before_it(atoms):
    numbers, positions = random_molecule(11, atoms, box=3.0 if atoms < 10 else 7.0)
    model = random_model(AUTOMATIC, 12, members=2)
    moved = positions + np.random.default_rng(3).normal(0, 0.05, positions.shape)
    alone = evaluate(model, numbers, moved)
    other = random_model(AUTOMATIC, 13, members=2)
    for first in (lambda: evaluate(model, numbers, positions), lambda: evaluate(other, numbers, moved)):
        before = first()
        assert before.energy != alone.energy
        again = evaluate(model, numbers, moved)
        assert again.energy == alone.energy
        np.testing.assert_array_equal(again.forces, alone.forces)
        np.testing.assert_array_equal(again.dipole, alone.dipole)
    assert evaluate(model, numbers, moved, charge=1).dipole.tolist() != alone.dipole.tolist()
