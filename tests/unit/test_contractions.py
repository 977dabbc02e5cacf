"""Contractions of moments: what they are, their invariance, and the kernels and derivatives against the plain twin."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import h5py
import numpy as np
import pytest

from hpcir.deck.sections import ModelSettings
from hpcir.descriptors.contractions import Contraction
from hpcir.descriptors.definition import SymmetryFunctionSet, automatic_set, functions_of
from hpcir.descriptors.derivatives import features_and_derivatives, features_only
from hpcir.descriptors.reference import _gaussian, features_and_jacobian
from hpcir.errors import InputError
from hpcir.exchange.n2p2 import export_n2p2
from hpcir.models.evaluator import Evaluator, evaluate
from hpcir.models.model import Model
from hpcir.models.random_model import random_model
from hpcir.models.work import step_operations
from hpcir.units import ANGSTROM
from tests.unit.test_evaluator import plain_evaluation, random_molecule

CONTRACTIONS = (
    Contraction((0, 1), (2,)),
    Contraction((0, 2), (4,)),
    Contraction((0, 0, 0), (1, 0, 1)),
    Contraction((0, 1, 2), (2, 1, 1)),
    Contraction((2, 2, 2, 2), (1, 0, 1, 1, 0, 1)),
    Contraction((3, 0), (1,)),
    Contraction((0, 1), (1,)),
    Contraction((3, 0), (2,)),
)


def mixed(base: SymmetryFunctionSet) -> SymmetryFunctionSet:
    """`base` with two channels of one element and shell alone, one of everything, and one of oxygen alone."""
    weights = np.zeros((4, 3, 2))
    weights[0, 1, 0] = weights[1, 0, 1] = 1.0
    weights[2] = np.random.default_rng(0).standard_normal((3, 2))
    weights[3, 2] = 0.5, -1.0
    channels = tuple(tuple(tuple(map(float, row)) for row in channel) for channel in weights)
    return replace(base, channels=channels, contractions=CONTRACTIONS)


FULL = mixed(automatic_set((1, 6, 8), 9.0, 4, 2, (1, 3)))
WITHOUT_ANGLES = mixed(automatic_set((1, 6, 8), 9.0, 4, 2, ()))
AUTOMATIC = automatic_set((1, 6, 8), 9.0, 4, 2, (1, 4), channels=3)
SETS = pytest.mark.parametrize(
    "functions", [FULL, WITHOUT_ANGLES, AUTOMATIC], ids=["with angles", "without angles", "automatic"]
)


def test_contractions_are_sums_over_neighbours_of_cosines() -> None:
    numbers, positions = random_molecule(3, 6)
    features, _ = features_and_jacobian(FULL, numbers, positions)
    near = [j for j in range(1, 6)]
    delta = positions[near] - positions[0]
    r = np.linalg.norm(delta, axis=1)
    cosine = (delta @ delta.T) / np.outer(r, r)
    radial = np.zeros((4, 5))
    for place, j in enumerate(near):
        values = [_gaussian(FULL, eta, shift, r[place])[0] for eta, shift in FULL.shells]
        radial[:, place] = np.array(FULL.channels)[:, FULL.elements.index(numbers[j])] @ values
    a, b, c = radial[0], radial[1], radial[2]
    first = FULL.n_behler
    assert features[0, first] == pytest.approx(a @ cosine**2 @ b, rel=1e-12)
    assert features[0, first + 2] == pytest.approx(np.einsum("i,j,k,ij,jk->", a, a, a, cosine, cosine), rel=1e-12)
    three = np.einsum("i,j,k,ij,ik,jk->", a, b, c, cosine**2, cosine, cosine)
    assert features[0, first + 3] == pytest.approx(three, rel=1e-12)
    four = np.einsum("i,j,k,l,ij,il,jk,kl->", c, c, c, c, cosine, cosine, cosine, cosine)
    assert features[0, first + 4] == pytest.approx(four, rel=1e-12)


@SETS
def test_reference_jacobian_is_the_derivative_and_the_compiled_ones_are_the_same(
    functions: SymmetryFunctionSet,
) -> None:
    numbers, positions = random_molecule(4, 5)
    features, jacobian = features_and_jacobian(functions, numbers, positions)
    computed, slopes, neighbours = features_and_derivatives(functions, numbers, positions[None])
    np.testing.assert_allclose(computed[0], features, rtol=1e-11, atol=1e-12)
    step, size = 1e-5, np.abs(jacobian).max()
    for atom, axis in product(range(5), range(3)):
        shift = np.zeros((5, 3))
        shift[atom, axis] = step
        ends = features_only(functions, numbers, np.stack([positions + shift, positions - shift]))
        np.testing.assert_allclose(jacobian[:, :, atom, axis], (ends[0] - ends[1]) / (2 * step), atol=1e-8 * size)
        for centre in range(5):
            if centre == atom:
                found = -slopes[0, centre, :, axis].sum(0)
            else:
                found = slopes[0, centre, list(neighbours[0, centre]).index(atom), axis]
            np.testing.assert_allclose(found, jacobian[centre, :, atom, axis], atol=1e-12 * size)


@pytest.mark.parametrize(("all_pairs", "moments"), [(True, False), (False, True)], ids=["all-pairs", "list"])
@pytest.mark.parametrize("elements", [(1, 6, 8), (1, 6)], ids=["all elements", "oxygen missing"])
@SETS
def test_kernels_equal_their_plain_twin(functions, elements, all_pairs, moments):  # type: ignore[no-untyped-def]
    model = random_model(functions, 5, members=3, dropped=4, hidden=(11, 7, 5), atomic_dipoles=True)
    numbers, first = random_molecule(1, 11, elements)
    second = first + np.random.default_rng(2).normal(size=first.shape) * 0.05
    evaluator = Evaluator(model, numbers, 2, all_pairs=all_pairs, moments=moments)
    positions = np.stack([first, second], axis=-1)
    energies, forces = evaluator.evaluate(positions)
    dipoles, charges = evaluator.dipoles(positions)
    for r, geometry in enumerate((first, second)):
        energy, force, dipole, charge = plain_evaluation(model, numbers, geometry)
        assert np.allclose(energies[r], energy.mean(), rtol=1e-11, atol=0)
        assert np.abs(forces[..., r] - force.mean(0)).max() < 1e-11 * np.abs(force).max()
        assert np.abs(dipoles[:, r] - dipole.mean(0)).max() < 1e-11 * np.abs(dipole).max()
        assert np.abs(charges[:, r] - charge.mean(0)).max() < 1e-11 * np.abs(charge).max()


def test_rotation_reflection_and_permutation() -> None:
    model = random_model(FULL, 8, members=2)
    numbers, positions = random_molecule(6, 9)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    order = np.random.default_rng(2).permutation(9)
    for turn in (rotation, -rotation):
        plain = evaluate(model, numbers, positions)
        turned = evaluate(model, numbers[order], (positions @ turn.T + 3.0)[order])
        assert turned.energy == pytest.approx(plain.energy, rel=1e-12)
        assert np.allclose(turned.forces, (plain.forces @ turn.T)[order], atol=1e-11)


@pytest.mark.parametrize("atoms", [7, 40])
def test_forces_are_minus_the_gradient(atoms: int) -> None:
    model = random_model(FULL, 7, members=2, scale=0.1)
    numbers, positions = random_molecule(5, atoms, box=2.2 * atoms ** (1 / 3))
    step = 1e-4
    picks = [(0, 0), (atoms - 1, 2), (atoms // 2, 1)]
    moved = np.repeat(positions[:, :, None], 6, axis=2)
    for n, (atom, axis) in enumerate(picks):
        moved[atom, axis, 2 * n] += step
        moved[atom, axis, 2 * n + 1] -= step
    energies, _ = Evaluator(model, numbers, 6).evaluate(moved)
    forces = evaluate(model, numbers, positions).forces
    slopes = (energies[1::2] - energies[0::2]) / (2 * step)
    assert np.allclose(slopes, [forces[pick] for pick in picks], atol=1e-6)


def test_a_model_file_keeps_them_and_a_file_of_the_first_format_has_none(tmp_path) -> None:  # type: ignore[no-untyped-def]
    numbers, positions = random_molecule(6, 7)
    for functions, version in ((FULL, 2), (replace(FULL, channels=(), contractions=()), 1)):
        model = random_model(functions, 3)
        path = model.save(tmp_path / f"{version}.h5")
        with h5py.File(path) as file:
            assert file.attrs["format_version"] == version
        read = Model.load(path)
        assert read.functions == functions
        assert read.evaluate(numbers, positions).energy == model.evaluate(numbers, positions).energy


def test_n2p2_is_refused_with_the_names_of_the_functions(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=r"8 .*contraction.*C 0") as refused:
        export_n2p2(random_model(FULL, 3), tmp_path / "n2p2")
    assert not (tmp_path / "n2p2").exists()
    assert "model.channels" in str(refused.value.hint)


def test_the_automatic_set_grows_without_changing_what_was_there() -> None:
    few, more = (functions_of(ModelSettings(channels=count), (1, 6, 8)) for count in (4, 8))
    assert more.channels[:4] == few.channels
    assert set(few.contractions) < set(more.contractions)
    assert all(np.linalg.norm(channel) == pytest.approx(1.0) for channel in more.channels)
    assert functions_of(ModelSettings(channels=0), (8, 1)) == automatic_set((1, 8), 5 * ANGSTROM, 10, 4, (1, 2, 4))
    assert {max(c.ranks) for c in more.contractions} == {1, 2, 3}


def test_work_of_a_step_counts_what_contractions_add() -> None:
    numbers = np.array([6, 8, 1, 1, 1, 1])
    plain, more = (functions_of(ModelSettings(channels=count), (1, 6, 8)) for count in (0, 8))
    rows = len(numbers) * len(more.contractions)
    less, work = (step_operations(functions, numbers, (20, 10), 3) for functions in (plain, more))
    assert work[1] - less[1] == 3 * 4 * 20 * rows
    assert work[0] > less[0]
