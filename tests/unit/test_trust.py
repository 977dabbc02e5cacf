"""Distance of a target's environments to the training data, and extrapolation of single symmetry functions."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.descriptors.definition import automatic_set
from hpcir.errors import InputError
from hpcir.sampling.trust import element_reference, references, trust_table


@pytest.fixture
def random():
    return np.random.Generator(np.random.Philox(key=np.array([7, 7], np.uint64)))


FUNCTIONS = automatic_set((1, 6), cutoff=9.0, radial=4, shells=2, zetas=(1, 2))


def correlated(random, count):
    """Environments on a three-dimensional manifold in feature space, as symmetry functions lie."""
    hidden = random.normal(size=(count, 3))
    mixing = np.random.Generator(np.random.Philox(key=np.array([1, 2], np.uint64))).normal(
        size=(3, FUNCTIONS.n_features)
    )
    return hidden @ mixing + 0.01 * random.normal(size=(count, FUNCTIONS.n_features))


def test_training_environments_have_no_distance_and_fresh_ones_of_the_kind_about_one(random):
    training, fresh = correlated(random, 2000), correlated(random, 500)
    known = element_reference(training)
    assert known.distances(training).max() < 1e-9
    assert 0.7 < np.median(known.distances(fresh)) < 1.4


def test_distance_agrees_with_plain_search(random):
    training, fresh = correlated(random, 300), correlated(random, 20)
    known = element_reference(training)
    points, own = known.reduced(training), known.reduced(fresh)
    plain = np.sqrt(((own[:, None] - points[None]) ** 2).sum(-1)).min(1) / known.spacing
    np.testing.assert_allclose(known.distances(fresh), plain, rtol=1e-10)


def test_distance_grows_with_the_way_out(random):
    known = element_reference(correlated(random, 1000))
    mean = known.mean
    direction = correlated(random, 1)[0] - mean
    along = known.distances(mean + np.outer([4.0, 8.0, 16.0], direction))
    assert np.all(np.diff(along) > 1)
    assert along[0] > 3


def test_a_direction_without_training_variance_is_noticed(random):
    training = correlated(random, 1000)
    known = element_reference(training)
    # orthogonal to the manifold: principal components alone would not see it
    standard = (training - known.mean) / known.scale
    _, _, rows = np.linalg.svd(standard, full_matrices=True)
    out = known.mean + 5.0 * rows[-1] * known.scale
    assert known.distances(out[None])[0] > 5


def test_extrapolation_names_the_symmetry_function_and_by_how_much(random):
    training = random.uniform(-1, 1, size=(500, FUNCTIONS.n_features))
    training[0], training[1] = -1.0, 1.0
    known = {1: element_reference(training), 6: element_reference(training)}
    features = random.uniform(-0.9, 0.9, size=(10, 2, FUNCTIONS.n_features))
    features[4, 1, 3] = 2.0  # half a range of 2 beyond the upper end of 1
    spreads = np.full((10, 2), 0.5)
    spreads[4, 1] = 1.5
    rows = trust_table(known, FUNCTIONS, np.array([6, 1]), features, spreads)
    row = next(row for row in rows if row.atom == 1)
    assert row.name == "H2"
    assert row.function == 3
    assert row.description == FUNCTIONS.describe(3)
    assert row.excess == pytest.approx(0.5)
    assert row.outside == pytest.approx(0.1)
    assert row.largest_spread == 1.5
    assert row.mean_spread == pytest.approx(0.6)
    inside = next(row for row in rows if row.atom == 0)
    assert inside.function == -1
    assert inside.outside == 0
    assert inside.description == ""
    assert inside.excess == 0


def test_least_trusted_atom_comes_first(random):
    training = correlated(random, 500)
    known = references([(np.full(500, 6), training)])
    features = correlated(random, 12).reshape(4, 3, -1)
    features[2, 1] += 20.0
    rows = trust_table(known, FUNCTIONS, np.array([6, 6, 6]), features)
    assert rows[0].name == "C2"
    assert rows[0].largest_distance > 3 * rows[1].largest_distance
    assert np.isnan(rows[0].largest_spread)


def test_references_sort_environments_by_element(random):
    first, second = correlated(random, 3), correlated(random, 2)
    known = references([(np.array([6, 1, 1]), first), (np.array([1, 6]), second)])
    assert known[6].count == 2
    assert known[1].count == 3
    np.testing.assert_array_equal(known[6].lowest, np.minimum(first[0], second[1]))


def test_an_element_that_training_lacks_is_refused_with_the_atom_named(random):
    known = {6: element_reference(correlated(random, 10))}
    with pytest.raises(InputError, match=r"atom 2 \(O\)"):
        trust_table(known, FUNCTIONS, np.array([6, 8]), np.zeros((1, 2, FUNCTIONS.n_features)))


def test_constant_features_do_not_divide_by_nothing(random):
    training = correlated(random, 200)
    training[:, 5] = 0.0
    known = element_reference(training)
    assert np.isfinite(known.distances(correlated(random, 5))).all()
    moved = training[:1].copy()
    moved[0, 5] = 0.1
    assert known.excess(moved)[0].argmax() == 5
    assert known.excess(moved)[0, 5] > 0


def test_no_environments_is_an_error():
    with pytest.raises(InputError):
        element_reference(np.zeros((0, 4)))
