"""Training: grouping, resuming, warm starts, sum rules, and learning an analytic potential."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hpcir.deck.sections import ModelSettings, TrainingSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.models.model import Model
from hpcir.models.polar import polar_tensors
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.training.batches import DeviceData, label_weights
from hpcir.training.dataset import LabelledGroup, TrainingData, estimated_bytes
from hpcir.training.dipoles import DipoleLoss
from hpcir.training.evaluation import _rows, added, error_figures, error_sums, held_out_errors, predict
from hpcir.training.losses import gradients
from hpcir.training.network import Layout, Parameters
from hpcir.training.split import held_out
from hpcir.training.team import Team, batch_parts
from hpcir.training.train import join_members, train_members

NUMBERS = np.array([8, 1, 1])
MINIMUM = np.array([[0.0, 0.0, 0.0], [0.0, 1.43, 1.11], [0.0, -1.43, 1.11]])
FUNCTIONS = automatic_set((1, 8), 7.0, 6, 3, (1, 2))
NETWORKS = ModelSettings(hidden=[12, 12])
SHORT = TrainingSettings(steps=40, retrain_steps=20, batch=8)


def water(count: int, seed: int, spread: float = 0.12) -> LabelledGroup:
    """Labels of an analytic water: harmonic in its three distances, charges that depend on the bond lengths."""
    return water_at(MINIMUM + np.random.default_rng(seed).normal(0, spread, (count, 3, 3)))


def water_at(positions: np.ndarray) -> LabelledGroup:
    count = len(positions)
    pairs = [(0, 1, 0.5, 1.81), (0, 2, 0.5, 1.81), (1, 2, 0.15, 2.86)]
    energies, forces, charges = np.full(count, -76.0), np.zeros_like(positions), np.zeros((count, 3))
    for a, b, stiffness, rest in pairs:
        bond = positions[:, a] - positions[:, b]
        length = np.linalg.norm(bond, axis=1)
        energies += 0.5 * stiffness * (length - rest) ** 2
        pull = -stiffness * ((length - rest) / length)[:, None] * bond
        forces[:, a] += pull
        forces[:, b] -= pull
        if a == 0:
            charges[:, b] = 0.35 + 0.1 * (length - rest)
    charges[:, 0] = -charges.sum(1)
    origin = np.einsum("i,six->sx", NUMBERS / 10.0, positions)
    dipoles = np.einsum("si,six->sx", charges, positions - origin[:, None])
    return LabelledGroup(NUMBERS, positions, energies, forces, dipoles)


def with_polar_tensors(group: LabelledGroup, known: slice = slice(None)) -> LabelledGroup:
    """The analytic water's polar tensors, by differences of its dipole (it has no charge); nan but for `known`."""
    tensors = np.full((len(group), 3, 3, 3), np.nan)
    for atom, axis in np.ndindex(3, 3):
        move = np.zeros((3, 3))
        move[atom, axis] = 1e-4
        up, down = (water_at(group.positions + sign * move).dipoles for sign in (1, -1))
        tensors[known, atom, axis] = ((up - down) / 2e-4)[known]
    return replace(group, polar_tensors=tensors)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData.build([water(40, 1)], FUNCTIONS)


def weights_of(model: Model, member: int) -> list[np.ndarray]:
    networks = [*model.energy.values(), *model.charge.values()]
    return [layer[member] for n in networks for layer in (*n.weights, *n.biases)]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "soap", "kalman"])
def test_a_member_does_not_depend_on_which_others_train_beside_it(data: TrainingData, optimizer: str) -> None:
    settings = SHORT.model_copy(update={"optimizer": optimizer, "steps": 40 if optimizer != "kalman" else 3})
    together, _ = train_members(data, NETWORKS, settings, members=[0, 1, 2, 3, 4], seed=3)
    pair, _ = train_members(data, NETWORKS, settings, members=[3, 1], seed=3)
    assert same(weights_of(together, 3), weights_of(pair, 0))
    assert same(weights_of(together, 1), weights_of(pair, 1))
    assert not same(weights_of(together, 0), weights_of(together, 1))


@pytest.mark.parametrize("optimizer", ["adam", "soap", "kalman"])
def test_resuming_is_bit_for_bit(data: TrainingData, optimizer: str) -> None:
    settings = SHORT.model_copy(update={"optimizer": optimizer, "steps": 40 if optimizer != "kalman" else 4})
    states: list[dict] = []
    arguments = {"members": [0, 1], "seed": 5}
    whole, _ = train_members(data, NETWORKS, settings, on_checkpoint=states.append, **arguments)
    middle = states[len(states) // 2]
    assert 0 < int(middle["step"]) < settings.steps
    resumed, _ = train_members(data, NETWORKS, settings, state=middle, **arguments)
    for member in (0, 1):
        assert same(weights_of(whole, member), weights_of(resumed, member))


def test_joining_members_trained_apart_is_training_them_together(data: TrainingData) -> None:
    apart = [train_members(data, NETWORKS, SHORT, members=[m], seed=3)[0] for m in (0, 1)]
    together, _ = train_members(data, NETWORKS, SHORT, members=[0, 1], seed=3)
    joined = join_members(apart)
    for member in (0, 1):
        assert same(weights_of(joined, member), weights_of(together, member))
    assert joined.error["force_rmse"] == pytest.approx(together.error["force_rmse"], rel=0.05)


def test_warm_start_without_a_step_is_the_same_function(data: TrainingData) -> None:
    model, _ = train_members(data, NETWORKS, SHORT, members=[0, 1], seed=3)
    elsewhere = TrainingData.build([water(30, 9)], FUNCTIONS, "float64")
    warm, _ = train_members(elsewhere, NETWORKS, SHORT, members=[0, 1], seed=3, start=model, steps=0)
    test = TrainingData.build([water(10, 11)], FUNCTIONS, "float64", start=model.energy)
    before, after = (predict(m, test, test.groups[0]) for m in (model, warm))
    np.testing.assert_allclose(after.forces, before.forces, atol=1e-9)
    np.testing.assert_allclose(after.dipoles, before.dipoles, atol=1e-9)


def test_adding_labels_computes_only_the_new_ones(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcir.training import dataset

    computed = []
    real = dataset._compute
    monkeypatch.setattr(dataset, "_compute", lambda d, n, p, c: computed.append(len(p)) or real(d, n, p, c))
    old, new = water(40, 1), water(7, 2)
    both = LabelledGroup(
        NUMBERS,
        *(
            np.concatenate([getattr(g, name) for g in (new, old)])
            for name in ("positions", "energies", "forces", "dipoles")
        ),
    )
    extended = data.extended([both])
    assert computed == [7]
    whole = TrainingData(FUNCTIONS, data.reductions, (), "float32").extended([both])
    np.testing.assert_array_equal(extended.groups[0].jacobian, whole.groups[0].jacobian)
    np.testing.assert_array_equal(extended.groups[0].inputs, whole.groups[0].inputs)


def test_memory_is_what_was_estimated(data: TrainingData) -> None:
    tensors = data.groups[0]
    stated = data.nbytes - tensors.vectors.nbytes
    assert stated == estimated_bytes(40, 3, 3, data.n_inputs)


def test_a_tripeptide_with_a_thousand_labels_is_under_four_gigabytes() -> None:
    assert estimated_bytes(1000, 34, 34, 96) < 4e9 / 2


@pytest.mark.parametrize("dipole", ["charges", "charges+dipoles"])
def test_model_forces_charges_and_permutation(data: TrainingData, dipole: str) -> None:
    settings = ModelSettings(hidden=[12, 12], dipole=dipole)
    model, _ = train_members(data, settings, SHORT, members=[0, 1], seed=3)
    group = water(1, 21)
    answer = model.evaluate(NUMBERS, group.positions[0])
    stored = TrainingData.build([group], FUNCTIONS, "float64", start=model.energy)
    prediction = predict(model, stored, stored.groups[0])
    order = np.argsort(NUMBERS, kind="stable")
    np.testing.assert_allclose(answer.energy, prediction.energies.mean(), rtol=1e-10)
    np.testing.assert_allclose(answer.forces[order], prediction.forces.mean(0)[0], atol=1e-9)
    np.testing.assert_allclose(answer.dipole, prediction.dipoles.mean(0)[0], atol=1e-9)
    assert abs(answer.charges.sum()) < 1e-12
    swapped = model.evaluate(NUMBERS[[2, 0, 1]], group.positions[0][[2, 0, 1]])
    np.testing.assert_allclose(swapped.energy, answer.energy, rtol=1e-12)
    np.testing.assert_allclose(swapped.forces, answer.forces[[2, 0, 1]], atol=1e-11)
    step, direction = 1e-4, np.random.default_rng(1).normal(size=(3, 3))
    up, down = (model.evaluate(NUMBERS, group.positions[0] + s * step * direction).energy for s in (1, -1))
    np.testing.assert_allclose((answer.forces * direction).sum(), -(up - down) / (2 * step), atol=2e-7)


def test_masked_forces_and_missing_parts_are_left_out() -> None:
    good = water(30, 1)
    mask = np.random.default_rng(2).random((30, 3)) > 0.3
    spoilt = LabelledGroup(
        NUMBERS,
        good.positions,
        good.energies,
        np.where(mask[:, :, None], good.forces, 99.0),
        None,
        force_mask=mask,
    )
    clean = LabelledGroup(
        NUMBERS,
        good.positions,
        good.energies,
        np.where(mask[:, :, None], good.forces, -5.0),
        None,
        force_mask=mask,
    )
    sets = [TrainingData.build([g], FUNCTIONS) for g in (spoilt, clean)]
    for built in sets:
        object.__setattr__(built.groups[0], "keys", tuple(f"{n:032x}" for n in range(30)))
    models = [train_members(d, NETWORKS, SHORT, members=[0], seed=1)[0] for d in sets]
    assert models[0].charge == {}
    assert same(weights_of(models[0], 0), weights_of(models[1], 0))


def test_held_out_labels_stay_held_out_when_labels_are_added() -> None:
    keys = water(60, 4).keys()
    common, mine = held_out(keys, range(4), 7, 0.2)
    fewer, fewer_mine = held_out(keys[:50], range(4), 7, 0.2)
    np.testing.assert_array_equal(common[:50], fewer)
    np.testing.assert_array_equal(mine[:, :50], fewer_mine)
    own = mine & ~common
    assert common.any()
    assert own.sum(0).max() == 1


def test_a_committee_learns_an_analytic_potential() -> None:
    settings = TrainingSettings(steps=400, batch=16, learning_rate=1e-2, weighting="equal")
    functions = automatic_set((1, 8), 7.0, 12, 4, (1, 2))
    data = TrainingData.build([water(150, 1)], functions)
    model, _ = train_members(data, NETWORKS, settings, members=[0, 1], seed=2)
    test = TrainingData.build([water(40, 77)], functions, "float64", start=model.energy)
    group, prediction = test.groups[0].group, predict(model, test, test.groups[0])
    force_error = np.sqrt(np.mean((prediction.forces.mean(0) - group.forces) ** 2))
    dipole_error = np.sqrt(np.mean((prediction.dipoles.mean(0) - group.dipoles) ** 2))
    assert force_error < 0.1 * group.forces.std()
    assert dipole_error < 0.02 * group.dipoles.std()
    errors = held_out_errors(model, data, 2, settings.validation)
    assert 0.2 < errors["force_calibration"] < 5.0
    assert errors["force_rmse"] <= errors["member_force_rmse"]


def test_the_kalman_filter_learns_the_same_potential() -> None:
    settings = TrainingSettings(steps=20, batch=16, optimizer="kalman", precision="float64")
    data = TrainingData.build([water(100, 1)], FUNCTIONS, "float64", max_inputs=16)
    model, _ = train_members(data, ModelSettings(hidden=[8, 8]), settings, members=[0], seed=2)
    test = TrainingData.build([water(40, 77)], FUNCTIONS, "float64", start=model.energy)
    group, prediction = test.groups[0].group, predict(model, test, test.groups[0])
    assert np.sqrt(np.mean((prediction.forces[0] - group.forces) ** 2)) < 0.15 * group.forces.std()


def test_labels_of_the_minimum_are_never_held_out() -> None:
    keys = water(40, 4).keys()
    always = np.arange(40) < 30
    common, mine = held_out(keys, range(4), 7, 0.5, always)
    assert common[30:].any()
    assert not common[:30].any()
    assert not mine[:, :30].any()


def test_a_small_set_holds_out_enough_to_judge_by() -> None:
    keys = water(24, 4).keys()
    for count in (12, 16, 24):
        common, _ = held_out(keys[:count], range(2), 7, 0.1)
        assert common.sum() >= 4


def test_without_holding_out_every_member_learns_every_label() -> None:
    data = TrainingData.build([water(30, 1)], FUNCTIONS)
    held, free = (
        train_members(data, NETWORKS, SHORT, members=[0], seed=1, hold_out=choice)[0] for choice in (True, False)
    )
    assert held.error["force_rmse"] > 0
    assert free.error == {}
    assert not same(weights_of(held, 0), weights_of(free, 0))


def test_label_weights_favour_small_forces_and_average_to_one() -> None:
    group = water(50, 1)
    data = TrainingData.build([group], FUNCTIONS)
    (weights,) = label_weights(data, "force")
    assert weights.mean() == pytest.approx(1.0)
    squares = (data.groups[0].group.forces ** 2).mean((1, 2))
    np.testing.assert_array_equal(np.argsort(-weights), np.argsort(squares))
    (equal,) = label_weights(data, "equal")
    np.testing.assert_array_equal(equal, 1.0)


def test_error_sums_of_parts_add_up() -> None:
    data = TrainingData.build([water(30, 1)], FUNCTIONS, "float64")
    model, _ = train_members(data, NETWORKS, SHORT, members=[0, 1], seed=1)
    whole = data.groups[0]
    parts = [_rows(whole, rows) for rows in (np.arange(10), np.arange(10, 30))]
    joined = error_figures(added([error_sums(model, data, part) for part in parts]))
    expected = error_figures(error_sums(model, data, whole))
    assert joined == {name: pytest.approx(value) for name, value in expected.items()}
    assert expected["force_rmse"] <= expected["member_force_rmse"]


def test_a_batch_in_parts_gives_the_gradient_of_the_whole() -> None:
    """Another rounding, the same mathematics: after ten steps the weights agree. (SOAP's first eigenbasis is arbitrary
    where the first gradient has no part, so that its weights go another way from any other rounding.)"""
    data = TrainingData.build([water(40, 1)], FUNCTIONS, "float64")
    settings = SHORT.model_copy(update={"optimizer": "adam", "steps": 10, "batch": 16})
    models = []
    for parts in (1, 2, 4):
        team = Team(SerialCommunicator(), parts)
        models.append(train_members(data, NETWORKS, settings, members=[0, 1], seed=5, team=team)[0])
    whole = np.concatenate([w.ravel() for w in weights_of(models[0], 0)])
    for model in models[1:]:
        weights = np.concatenate([w.ravel() for w in weights_of(model, 0)])
        np.testing.assert_allclose(weights, whole, rtol=1e-6, atol=1e-7)
        assert not np.array_equal(weights, whole)


def test_parts_go_by_the_size_of_the_molecule_alone() -> None:
    small, large = water(3, 1), LabelledGroup(np.full(40, 6), np.zeros((3, 40, 3)))
    assert batch_parts([small], 60, SHORT) == 1
    assert batch_parts([small, large], 150, SHORT.model_copy(update={"batch": 32})) == 8
    assert batch_parts([large], 150, SHORT.model_copy(update={"batch": 8})) == 2
    assert batch_parts([large], 150, SHORT.model_copy(update={"optimizer": "kalman"})) == 1
    assert batch_parts([large], 150, SHORT.model_copy(update={"batch": 32, "device": "cuda"})) == 1


def test_polar_tensors_teach_the_dipole() -> None:
    """Ten labels, whose dipoles alone do not pin the charges down."""
    settings = SHORT.model_copy(update={"steps": 1500})
    errors = {}
    groups = {"dipoles": water(10, 1), "half": with_polar_tensors(water(10, 1), slice(0, 5))}
    groups["all"] = with_polar_tensors(water(10, 1))
    for name, group in groups.items():
        learnt = TrainingData.build([group], FUNCTIONS)
        model, _ = train_members(learnt, NETWORKS, settings, members=[0], seed=3, hold_out=False)
        test = TrainingData.build([water(200, 2)], FUNCTIONS, "float64", start=model.energy)
        errors[name] = error_figures(error_sums(model, test, test.groups[0]))["dipole_rmse"]
    assert errors["all"] < errors["half"] < errors["dipoles"]
    assert errors["all"] < 0.5 * errors["dipoles"]


def test_the_models_polar_tensors_are_what_it_learnt() -> None:
    group = with_polar_tensors(water(60, 1))
    settings = SHORT.model_copy(update={"steps": 1500})
    model, _ = train_members(TrainingData.build([group], FUNCTIONS), NETWORKS, settings, members=[0, 1], seed=3)
    assert model.error["polar_rmse"] < 0.02
    fresh = with_polar_tensors(water(5, 2, 0.08))
    for positions, tensors in zip(fresh.positions, fresh.polar_tensors, strict=True):
        np.testing.assert_allclose(polar_tensors(model, NUMBERS, positions), tensors, atol=0.03)


def test_parts_of_a_batch_have_the_gradient_of_the_whole() -> None:
    group = with_polar_tensors(water(16, 1), slice(0, 11))
    device = DeviceData.create(
        TrainingData.build([group], FUNCTIONS, "float64"), NETWORKS, None, np.zeros((2, 16), bool), "cpu"
    )
    layout = Layout((1, 8), device.groups[0].inputs.shape[2], (12, 12), 1 + 2 * 3)
    flat = torch.from_numpy(np.random.default_rng(4).normal(0, 0.3, (2, layout.size)))
    parameters = Parameters.of(layout, flat)
    indices = np.arange(16)
    batch = device.batch(indices)
    gradients([DipoleLoss(parameters, batch, polar_weight=2.0)], batch)
    whole, counts = parameters.gradient.clone(), device.counts(indices)
    total = torch.zeros_like(whole)
    for part in np.array_split(indices, 4):
        batch = device.batch(part)
        gradients([DipoleLoss(parameters, batch, counts.dipoles, 2.0, counts.polar)], batch)
        total += parameters.gradient
    torch.testing.assert_close(total, whole)


def test_a_member_learns_values_of_its_own_and_holds_out_what_it_would_without():
    group, random = water(20, 1), np.random.default_rng(2)
    forces, dipoles = random.normal(0, 0.01, (2, 20, 3, 3)), random.normal(0, 0.01, (2, 20, 3))
    moved = replace(group, force_offsets=forces, dipole_offsets=dipoles)
    data, plain = (TrainingData.build([one], FUNCTIONS) for one in (moved, group))
    order = np.argsort(NUMBERS, kind="stable")
    for member in (0, 1):
        own = data.of_member(member)
        assert own.keys == plain.keys
        assert np.array_equal(own.groups[0].group.forces, (group.forces + forces[member])[:, order])
        assert np.array_equal(own.groups[0].group.dipoles, group.dipoles + dipoles[member])
    assert plain.of_member(1) is plain
