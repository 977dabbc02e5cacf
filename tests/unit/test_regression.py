"""The Gaussian process of the labels: covariances, fits, draws, and what it teaches the networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcir.deck.sections import ModelSettings, TrainingSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.training.batches import DeviceData, fit_offsets
from hpcir.training.dataset import GroupTensors, LabelledGroup, TrainingData
from hpcir.training.evaluation import error_figures, error_sums, predict
from hpcir.training.regression import process as process_module
from hpcir.training.regression import solvers
from hpcir.training.regression.baseline import Values
from hpcir.training.regression.covariance import Described, energy_covariance, gradient_covariance
from hpcir.training.regression.description import Description
from hpcir.training.regression.dipoles import Charged, DipoleProcess, covariance
from hpcir.training.regression.process import LENGTH, AtomicProcess, Targets
from hpcir.training.regression.teacher import MIN_PLACES, LevelBelow, displaced, rows_of, taught_sets
from hpcir.training.split import held_out
from hpcir.training.train import join_members, train_members
from tests.unit.test_training import MINIMUM, NUMBERS, water, water_at

MODEL = ModelSettings(cutoff="7 bohr", radial=6, shells=3, zetas=[1, 2], channels=4, hidden=[12, 12], members=2)
TRAINING = TrainingSettings(steps=300, batch=16)
FUNCTIONS = automatic_set((1, 8), 7.0, 6, 3, (1, 2), channels=8)
ORDER = np.argsort(NUMBERS, kind="stable")


def at_place(count: int, seed: int, spread: float = 0.12) -> np.ndarray:
    """Geometries of water with atoms sorted by element."""
    return (MINIMUM + np.random.default_rng(seed).normal(0, spread, (count, 3, 3)))[:, ORDER]


@pytest.fixture(scope="module")
def description() -> Description:
    return Description.fitted(FUNCTIONS, [(NUMBERS[ORDER], at_place(40, 1))])


def describe(description: Description, positions: np.ndarray) -> Described:
    return description.describe(NUMBERS[ORDER], positions)


def plain_kernel(one: Described, other: Described) -> np.ndarray:
    """cov(E, E') atom by atom."""
    total = np.zeros((len(one), len(other)))
    for a, b in np.ndindex(total.shape):
        for (first, last), (begin, end) in zip(one.ranges, other.ranges, strict=True):
            for x in one.inputs[a, first:last]:
                for y in other.inputs[b, begin:end]:
                    total[a, b] += (1 + x @ y / LENGTH**2) ** 2
    return total


def test_covariances_of_gradients_are_derivatives_of_those_of_energies(description: Description) -> None:
    one, other = at_place(2, 2), at_place(3, 3)
    energies, gradients = energy_covariance(describe(description, one), describe(description, other), 1 / LENGTH**2)
    plain = plain_kernel(describe(description, one), describe(description, other))
    np.testing.assert_allclose(energies, plain, rtol=1e-12)
    second = np.zeros((18, 27))
    gradient_covariance(describe(description, one), describe(description, other), 1 / LENGTH**2, second)
    step = 1e-4

    def moved(positions: np.ndarray, coordinate: int, sign: int) -> Described:
        changed = positions.copy()
        changed.reshape(len(positions), -1)[:, coordinate] += sign * step
        return describe(description, changed)

    for c in range(9):
        ends = [plain_kernel(moved(one, c, sign), describe(description, other)) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(gradients.reshape(2, 9, 3)[:, c], slope, atol=1e-6 * np.abs(gradients).max())
        up, down = (
            energy_covariance(describe(description, other), moved(one, c, sign), 1 / LENGTH**2)[1] for sign in (1, -1)
        )
        slope = ((up - down) / (2 * step)).reshape(27, 2).T
        np.testing.assert_allclose(second.reshape(2, 9, 27)[:, c], slope, atol=1e-6 * np.abs(second).max())


def targets_of(group: LabelledGroup) -> Targets:
    assert group.energies is not None
    assert group.forces is not None
    count = len(group)
    gradients = -group.forces[:, ORDER].reshape(count, -1)
    return Targets(group.energies + 76.0, gradients, np.ones(count, bool), np.ones(gradients.shape, bool))


def test_the_mean_interpolates_its_labels_and_is_right_between_them(description: Description) -> None:
    group, test = water(30, 1), water(20, 9)
    process = AtomicProcess([describe(description, group.positions[:, ORDER])])
    fit = process.fitted([targets_of(group)])
    mean, drawn = fit.mean, process.drawn(fit, seed=1, draw=0)
    assert fit.misfit < 1e-3
    for own, tolerance in ((group, 2e-3), (test, 2e-2)):
        energies, gradients = mean.evaluate(describe(description, own.positions[:, ORDER]))
        wanted = targets_of(own)
        assert np.abs(gradients - wanted.gradients).max() < tolerance * np.abs(wanted.gradients).max()
        assert np.abs(energies - wanted.energies).max() < tolerance * np.ptp(wanted.energies)
    at_labels, between = (
        np.abs(drawn.evaluate(describe(description, own.positions[:, ORDER]))[1]).max() for own in (group, test)
    )
    assert at_labels < 0.2 * between


def test_energies_and_forces_without_stored_derivatives_are_the_same(description: Description) -> None:
    group = water(12, 1)
    process = AtomicProcess([describe(description, group.positions[:, ORDER])])
    fit = process.fitted([targets_of(group)])
    pair = fit.mean, process.drawn(fit, seed=1, draw=0)
    places = at_place(5, 4)
    energies, forces = description.evaluate(list(pair), NUMBERS[ORDER], places)
    for p, polynomial in enumerate(pair):
        wanted, gradients = polynomial.evaluate(describe(description, places))
        np.testing.assert_allclose(energies[p], wanted, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(forces[p].reshape(5, 9), -gradients, atol=1e-11 * np.abs(gradients).max())


def test_the_iterative_solution_is_the_dense_one(description: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    group = water(40, 1)
    once = targets_of(group)
    known = once.gradients_used.copy()
    known[:, 4] = False
    targets = [replace(once, gradients_used=known, energies_used=np.arange(40) % 3 > 0)]
    described = describe(description, group.positions[:, ORDER])
    plain = AtomicProcess([described])
    dense = plain.fitted(targets)
    drawn = plain.drawn(dense, seed=1, draw=0)
    monkeypatch.setattr(process_module, "MAX_DENSE_ROWS", 100)
    monkeypatch.setattr(solvers, "COLUMNS", 90)
    monkeypatch.setattr(solvers, "TOLERANCE", 1e-6)
    monkeypatch.setattr(solvers, "VALUES_TOLERANCE", 0.0)
    monkeypatch.setattr(solvers, "MIN_ITERATIVE_NOISE", 0.0)
    process = AtomicProcess([described])
    iterative = process.fitted(targets)
    assert iterative.size == pytest.approx(dense.size, rel=1e-6)
    assert iterative.misfit == pytest.approx(dense.misfit, rel=1e-4)
    test = describe(description, at_place(10, 7))
    for own, wanted in ((iterative.mean, dense.mean), (process.drawn(iterative, seed=1, draw=0), drawn)):
        gradients = wanted.evaluate(test)[1]
        np.testing.assert_allclose(own.evaluate(test)[1], gradients, atol=1e-3 * np.abs(gradients).max())


def test_single_precision_is_enough_for_many_labels(description: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    group, test = water(40, 1), water(20, 9)
    described = describe(description, group.positions[:, ORDER])
    single = replace(described, slopes=described.slopes.astype(np.float32))
    monkeypatch.setattr(process_module, "MAX_DENSE_ROWS", 100)
    monkeypatch.setattr(solvers, "COLUMNS", 90)
    pair = [AtomicProcess([one]).fitted([targets_of(group)]).mean for one in (described, single)]
    double, single_mean = (p.evaluate(describe(description, test.positions[:, ORDER]))[1] for p in pair)
    error = np.abs(double - targets_of(test).gradients).mean()
    assert np.abs(single_mean - double).mean() < 0.2 * error


def test_labels_that_are_there_many_times_do_no_harm(description: Description) -> None:
    group = water(6, 1)
    known = describe(description, np.repeat(group.positions[:, ORDER], 8, axis=0))
    process = AtomicProcess([known])
    process.solver.mean_variance *= (
        1e-12  # as where the energies of large molecules vary by much more than their forces
    )
    once = targets_of(group)
    repeated = (np.repeat(part, 8, axis=0) for part in (once.energies, once.gradients))
    used = np.ones(48, bool), np.ones((48, 9), bool)
    mean = process.fitted([Targets(*repeated, *used)]).mean
    gradients = mean.evaluate(describe(description, group.positions[:, ORDER]))[1]
    assert np.abs(gradients - once.gradients).max() < 0.01 * np.abs(once.gradients).max()


def test_draws_of_the_posterior_have_the_size_of_its_error(description: Description) -> None:
    """Over surfaces drawn from the prior itself the mean's squared error is the draws' mean square."""
    known, other = describe(description, at_place(4, 1)), describe(description, at_place(30, 7))
    process = AtomicProcess([known])
    errors, draws = [], []
    for number in range(40):
        truth = process.prior_draw(0.01, np.random.default_rng((5, number)))
        energies, gradients = truth.evaluate(known)
        used = np.ones(len(known), bool), np.ones(gradients.shape, bool)
        fit = process.fitted([Targets(energies, gradients, *used)])
        mean, drawn = fit.mean, process.drawn(fit, seed=6, draw=number)
        errors.append(np.mean((mean.plus(truth, -1.0).evaluate(other)[1]) ** 2))
        draws.append(np.mean(drawn.evaluate(other)[1] ** 2))
    assert np.mean(errors) == pytest.approx(np.mean(draws), rel=0.25)


def test_dipoles_of_charges_that_bend_with_the_geometry_are_found(description: Description) -> None:
    def charged(positions: np.ndarray) -> Charged:
        described = describe(description, positions)
        operator = (positions - positions.mean(1, keepdims=True)).transpose(0, 2, 1)[..., None]
        return Charged(described.inputs, operator, described.ranges)

    group, test = water(40, 1), water(25, 9)
    assert group.dipoles is not None
    assert test.dipoles is not None
    at_labels, places = charged(group.positions[:, ORDER]), charged(test.positions[:, ORDER])
    matrix = covariance(at_labels, at_labels)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10 * matrix.max())
    assert np.linalg.eigvalsh(matrix).min() > -1e-9 * matrix.max()
    process = DipoleProcess([at_labels], [places, at_labels])
    (mean, drawn), (same, misfit) = process.fitted([group.dipoles], [np.ones(40, bool)], seed=1, draw=0)
    assert np.abs(mean - test.dipoles).max() < 0.02 * np.abs(test.dipoles).max()
    assert np.abs(same - group.dipoles).max() < 2e-3 * np.abs(group.dipoles).max()
    assert np.sqrt((misfit**2).mean()) < 0.3 * np.sqrt((drawn**2).mean())


def training_data(group: LabelledGroup) -> TrainingData:
    return TrainingData.build([group], automatic_set((1, 8), 7.0, 6, 3, (1, 2), channels=4))


def test_what_a_member_holds_out_its_process_does_not_know() -> None:
    group = water(40, 1)
    first = taught_sets(training_data(group), MODEL, TRAINING, members=[0, 1], seed=3)
    _, mine = held_out(group.keys(), [0, 1], 3, TRAINING.validation)
    out = mine[0] & ~mine[1]
    assert out.any()
    data = training_data(group)
    (tensors,) = data.groups
    forces = tensors.group.forces.copy()
    forces[out] *= 1.0001
    # The keys decide what is held out, so the labels are changed behind them.
    changed = replace(data, groups=(replace(tensors, group=replace(tensors.group, forces=forces)),))
    second = taught_sets(changed, MODEL, TRAINING, members=[0, 1], seed=3)
    np.testing.assert_array_equal(first[0].groups[1].group.forces, second[0].groups[1].group.forces)
    assert not np.array_equal(first[1].groups[1].group.forces, second[1].groups[1].group.forces)


def test_two_members_lie_on_both_sides_of_the_process_and_near_the_truth() -> None:
    sets = taught_sets(training_data(water(40, 1)), MODEL, TRAINING, members=[0, 1], seed=3, hold_out=False)
    one, two = (sets[m].groups[1].group for m in (0, 1))
    assert one.taught
    assert len(one) == MIN_PLACES
    truth = water_at(one.positions[:, np.argsort(ORDER)])
    assert truth.forces is not None
    assert truth.dipoles is not None
    mean, spread = (one.forces + two.forces) / 2, np.abs(one.forces - two.forces).mean() / 2
    error = np.abs(mean - truth.forces[:, ORDER]).mean()
    assert error < 0.01 * np.abs(truth.forces).mean()
    # The analytic water is smoother than the process expects: it doubts more than it errs, and little.
    assert error < 5 * spread
    assert spread < 0.01 * np.abs(truth.forces).mean()
    np.testing.assert_allclose((one.energies + two.energies) / 2, truth.energies, atol=2e-4)
    np.testing.assert_allclose((one.dipoles + two.dipoles) / 2, truth.dipoles, atol=5e-3)
    assert sets[0].groups[0].group is sets[1].groups[0].group


def test_the_process_adds_nothing_to_a_base_that_knows_the_labels() -> None:
    data = training_data(water(24, 1))
    base, _ = train_members(data, MODEL, TRAINING, members=[0], seed=1, steps=60)
    (tensors,) = data.groups
    own = predict(base, data, tensors)
    group = replace(tensors.group, energies=own.energies[0], forces=own.forces[0], dipoles=own.dipoles[0])
    relabelled = replace(data, groups=(replace(tensors, group=group),))
    sets = taught_sets(relabelled, MODEL, TRAINING, members=[0], seed=1, below=LevelBelow(base))
    taught = sets[0].groups[1]
    wanted = predict(base, sets[0], taught)
    np.testing.assert_allclose(taught.group.energies, wanted.energies[0], atol=1e-6)
    np.testing.assert_allclose(taught.group.forces, wanted.forces[0], atol=1e-6)
    np.testing.assert_allclose(taught.group.dipoles, wanted.dipoles[0], atol=1e-6)


def below_at(tensors: GroupTensors) -> Values:
    """A level below whose energies are nine tenths of the analytic water's, and others by a constant."""
    truth = water_at(tensors.group.positions[:, np.argsort(ORDER)])
    assert truth.energies is not None
    assert truth.forces is not None
    assert truth.dipoles is not None
    return Values(0.9 * truth.energies + 0.3, 0.9 * truth.forces[:, ORDER], truth.dipoles)


def test_the_process_is_the_difference_to_the_labels_of_the_level_below() -> None:
    """Of few labels, and with a calculation that failed at one of them and at one displaced geometry."""
    data = training_data(water(8, 1))
    base, _ = train_members(data, MODEL, TRAINING, members=[0], seed=1, steps=20)
    labels = [tensors.group for tensors in data.groups]
    values = [below_at(tensors) for tensors in data.extended([*labels, *displaced(labels, 1, MODEL.inputs)]).groups]
    for level in values:
        level.energies[3], level.forces[3], level.dipoles[3] = np.nan, np.nan, np.nan
    errors = []
    for below in (None, LevelBelow(base, values[:1], values[1:])):
        sets = taught_sets(data, MODEL, TRAINING, members=[0, 1], seed=1, below=below, hold_out=False)
        one, two = (sets[m].groups[1].group for m in (0, 1))
        truth = water_at(one.positions[:, np.argsort(ORDER)])
        errors.append(np.abs((one.forces + two.forces) / 2 - truth.forces[:, ORDER]).mean())
        np.testing.assert_allclose((one.energies + two.energies) / 2, truth.energies, atol=1e-3)
    assert errors[1] < 0.2 * errors[0]
    assert len(one) == MIN_PLACES - 1


def test_displaced_geometries_without_labels_of_the_level_below_have_its_models_values() -> None:
    """The difference is still that of labels: what the model misses of its own level is not taken for a part of it."""
    data = training_data(water(8, 1))
    (tensors,) = data.groups
    level = below_at(tensors)
    group = replace(tensors.group, energies=level.energies, forces=level.forces, dipoles=level.dipoles)
    own = replace(data, groups=(replace(tensors, group=group),))
    base, _ = train_members(own, MODEL, TRAINING, members=[0], seed=1, steps=20)
    values = taught_sets(data, MODEL, TRAINING, members=[0, 1], seed=1, below=LevelBelow(base), hold_out=False)
    both = taught_sets(data, MODEL, TRAINING, members=[0, 1], seed=1, below=LevelBelow(base, [level]), hold_out=False)
    taught = [(sets[0].groups[1].group.forces + sets[1].groups[1].group.forces) / 2 for sets in (values, both)]
    place = values[0].groups[1]
    truth, model = water_at(place.group.positions[:, np.argsort(ORDER)]), predict(base, values[0], place)
    wanted = model.forces[0] + 0.1 * truth.forces[:, ORDER]
    errors = [np.abs(found - wanted).mean() for found in taught]
    assert errors[1] < 0.2 * errors[0]


def test_units_and_offsets_are_those_of_the_labels() -> None:
    data = training_data(water(30, 1))
    sets = taught_sets(data, MODEL, TRAINING, members=[0], seed=1)
    assert fit_offsets(sets[0], None) == fit_offsets(data, None)
    mine = np.zeros((1, sets[0].n_labels), bool)
    alone = DeviceData.create(data, MODEL, None, mine[:, :30], "cpu", "force")
    together = DeviceData.create(sets[0], MODEL, None, mine, "cpu", "force")
    assert (together.unit, together.constant_charges) == (alone.unit, alone.constant_charges)


def test_networks_that_are_taught_are_more_accurate() -> None:
    data, test = training_data(water(24, 1)), water(60, 9)
    errors = []
    for rows in (0, 9000):
        training = TRAINING.model_copy(update={"process": rows})
        sets = taught_sets(data, MODEL, training, members=[0, 1], seed=1, hold_out=False)
        parts = [train_members(sets[m], MODEL, training, members=[m], seed=1, hold_out=False)[0] for m in (0, 1)]
        held = TrainingData.build([test], data.functions, start=parts[0].energy)
        errors.append(error_figures(error_sums(join_members(parts), held, held.groups[0])))
    assert errors[1]["force_rmse"] < 0.6 * errors[0]["force_rmse"]
    assert errors[1]["dipole_rmse"] < 1.0 * errors[0]["dipole_rmse"]


def test_the_labels_alone_where_there_are_too_many_or_no_forces() -> None:
    group = water(30, 1)
    data = training_data(group)
    assert rows_of([group]) == 300
    for limit, process in ((299, False), (300, True)):
        sets = taught_sets(data, MODEL, TRAINING.model_copy(update={"process": limit}), members=[0], seed=1)
        assert (sets[0] is not data) == process
    energies_alone = training_data(replace(group, forces=None))
    assert taught_sets(energies_alone, MODEL, TRAINING, members=[0], seed=1)[0] is energies_alone


def test_forces_that_are_not_learnt_do_not_count() -> None:
    group = water(40, 1)
    mask = np.ones((40, 3), bool)
    mask[:, 0] = False
    forces = group.forces.copy()
    forces[:, 0] += 10.0
    data = training_data(replace(group, forces=forces, force_mask=mask))
    taught = taught_sets(data, MODEL, TRAINING, members=[0], seed=1, hold_out=False)[0].groups[1].group
    truth = water_at(taught.positions[:, np.argsort(ORDER)])
    error = np.abs(taught.forces - truth.forces[:, ORDER])
    assert error[:, :2].mean() < 0.03 * np.abs(truth.forces).mean()
    np.testing.assert_array_equal(taught.force_mask, np.tile([True, True, False], (len(taught), 1)))
