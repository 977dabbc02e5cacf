"""Rotational contours: linear rotors against closed formulas, conservation, and free rotation of dynamics."""

import numpy as np
import pytest

from hpcir.spectra.contour import (
    _turned,
    dipole_directions,
    principal_axes,
    rigid_rotor_contour,
    rotor_correlation,
    with_contour,
)
from hpcir.spectra.spectrum import Spectrum
from hpcir.units import AMU, ANGSTROM, KELVIN, PER_CM, PS

ROOM = 300 * KELVIN
# Carbon monoxide: B = 1.9 cm-1.
LINEAR = np.array([0.0, 1.0, 1.0]) * 0.5 / (1.9 * PER_CM)
METHANOL = 0.5 / (np.array([4.26, 0.823, 0.794]) * PER_CM)


def test_branches_of_a_linear_rotor_are_apart_as_the_formula_says():
    contour = rigid_rotor_contour(LINEAR, ROOM, 0.25, 1.0)
    shape = contour.shapes[0]
    half = len(shape) // 2
    right = contour.offsets[half + int(shape[half:].argmax())]
    expected = np.sqrt(8 * 1.9 * ROOM / PER_CM)
    assert 2 * right == pytest.approx(expected, rel=0.05)
    assert shape[half] < 0.2 * shape.max()  # no Q branch
    # Detailed balance.
    np.testing.assert_allclose(shape, shape[::-1] * np.exp(contour.offsets * PER_CM / ROOM), rtol=1e-9, atol=1e-15)


def test_dipole_across_a_linear_rotor_has_half_of_its_intensity_in_the_q_branch():
    times = np.linspace(0, 12 * PS, 241)
    correlation = rotor_correlation(LINEAR, ROOM, times)
    np.testing.assert_allclose(correlation[1, -60:].mean(), 0.5, atol=0.02)
    np.testing.assert_allclose(correlation[0, -60:].mean(), 0.0, atol=0.02)


def test_second_moment_is_that_of_the_turning_dipole():
    """<e_a.e_a''> = -(kT / I_b + kT / I_c), whatever the molecule does later."""
    slow = np.linspace(0, 0.02 * PS, 5)
    correlation = rotor_correlation(METHANOL, ROOM, slow, rotors=4096)
    curvature = 2 * (1 - correlation[:, 1]) / slow[1] ** 2
    rates = ROOM / METHANOL
    np.testing.assert_allclose(curvature, rates.sum() - rates, rtol=0.03)


def test_integral_is_kept_and_directions_add_up():
    x = np.arange(0, 4001.0)
    curve = 30 * np.exp(-((x - 1500) ** 2) / 200) + 10 * np.exp(-((x - 2900) ** 2) / 400)
    spectrum = Spectrum(x, curve, np.zeros_like(x))
    contour = rigid_rotor_contour(METHANOL, ROOM, 1.0, 2.0)
    dipoles = np.array([[1.0, 0, 0], [0.3, 0.4, 0]])
    contributions = np.array([curve * (x < 2000), curve * (x >= 2000), 0 * x])
    directions = dipole_directions(contributions, dipoles, np.eye(3))
    np.testing.assert_allclose(directions.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(directions[1500], [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(directions[2900], [0.36, 0.64, 0], atol=1e-3)
    made = with_contour(spectrum, contour, directions)
    for lower, upper in ((1000, 2000), (2400, 3400)):
        assert made.integral(lower, upper) == pytest.approx(spectrum.integral(lower, upper), rel=1e-4)
    assert made.absorption.max() < 0.7 * curve.max()


def test_contour_is_the_spectrum_of_a_rigid_rotor_in_dynamics():
    """Two atoms on a stiff spring, turning: the transform of their dipole's correlation has the contour at zero."""
    positions = np.array([[0, 0, 0.4], [0, 0, -0.9]]) * ANGSTROM
    masses = np.array([12.0, 5.0]) * AMU
    moments, axes = principal_axes(positions, masses)
    rng = np.random.default_rng(3)
    times = np.linspace(0, 6 * PS, 400)
    omega = rng.standard_normal((20000, 2)) * np.sqrt(ROOM / moments[2])
    simulated = np.cos(np.sqrt((omega**2).sum(1))[:, None] * times).mean(0)
    np.testing.assert_allclose(rotor_correlation(moments, ROOM, times)[0], simulated, atol=0.02)
    np.testing.assert_allclose(np.abs(axes[0]), [0, 0, 1], atol=1e-12)


def test_asymmetric_rotor_keeps_energy_and_angular_momentum():
    inertia = 0.5 / (np.array([27.0, 14.5, 9.3]) * PER_CM)
    omega = np.random.default_rng(1).standard_normal((50, 3)) * np.sqrt(ROOM / inertia)
    moved = omega
    for _ in range(400):
        moved = _turned(moved, inertia, 0.05 / np.sqrt(ROOM / inertia.min()))
    assert np.abs(moved - omega).max() > 0.5 * np.abs(omega).max()
    np.testing.assert_allclose((inertia * moved**2).sum(1), (inertia * omega**2).sum(1), rtol=1e-4)
    np.testing.assert_allclose(((inertia * moved) ** 2).sum(1), ((inertia * omega) ** 2).sum(1), rtol=1e-4)


def test_what_stays_of_a_symmetric_top_is_the_axis_along_its_angular_momentum():
    """C_a at long times is the mean square cosine between the axis and the angular momentum."""
    inertia = np.array([1.0, 5.0, 5.0]) * 0.5 / (10 * PER_CM)
    momenta = np.random.default_rng(2).standard_normal((100000, 3)) * np.sqrt(inertia * ROOM)
    expected = (momenta[:, 0] ** 2 / (momenta**2).sum(1)).mean()
    times = np.linspace(0, 10 * PS, 300)
    assert rotor_correlation(inertia, ROOM, times)[0, -100:].mean() == pytest.approx(expected, abs=0.02)


# -- quantum rotors, line by line ---------------------------------------------------------------------------------


def three_j(j: int, k: int, step: int, q: int) -> float:
    """The root of (2J+1)(2J'+1) times the 3j symbol (J 1 J'; K q -K-q), J' = J + step: how much of the molecule's axis
    q there is between symmetric top states (Zare, Angular Momentum, 1988, table 2.4)."""
    up = j + step
    k2 = k + q
    if up < 0 or abs(k2) > up or abs(k) > j or (step == 0 and j == 0):
        return 0.0
    # Clebsch-Gordan coefficients <J K 1 q | J' K + q>.
    table = {
        (1, 1): np.sqrt((j + k + 1) * (j + k + 2) / ((2 * j + 1) * (2 * j + 2))),
        (1, 0): np.sqrt((j - k + 1) * (j + k + 1) / ((2 * j + 1) * (j + 1))),
        (1, -1): np.sqrt((j - k + 1) * (j - k + 2) / ((2 * j + 1) * (2 * j + 2))),
        (0, 1): -np.sqrt((j + k + 1) * (j - k) / (2 * j * (j + 1))) if j else 0.0,
        (0, 0): k / np.sqrt(j * (j + 1)) if j else 0.0,
        (0, -1): np.sqrt((j + k) * (j - k + 1) / (2 * j * (j + 1))) if j else 0.0,
        (-1, 1): np.sqrt((j - k - 1) * (j - k) / (2 * j * (2 * j + 1))) if j else 0.0,
        (-1, 0): -np.sqrt((j - k) * (j + k) / (j * (2 * j + 1))) if j else 0.0,
        (-1, -1): np.sqrt((j + k) * (j + k - 1) / (2 * j * (2 * j + 1))) if j else 0.0,
    }
    return float(table[(step, q)] * np.sqrt(2 * j + 1))


def rotor_states(constants: tuple[float, float, float], j: int) -> tuple[np.ndarray, np.ndarray]:
    """Energies (2J+1,) in cm-1 of a rigid rotor A >= B >= C, and its states in symmetric tops about the axis a."""
    a, b, c = constants
    if j == 0:
        return np.zeros(1), np.eye(1)
    k = np.arange(-j, j + 1)
    matrix = np.diag(0.5 * (b + c) * (j * (j + 1) - k**2) + a * k**2)
    ladder = np.sqrt((j * (j + 1) - k[:-2] * (k[:-2] + 1)) * (j * (j + 1) - (k[:-2] + 1) * (k[:-2] + 2)))
    matrix += np.diag(0.25 * (b - c) * ladder, 2) + np.diag(0.25 * (b - c) * ladder, -2)
    return np.linalg.eigh(matrix)


def lines(constants: tuple[float, float, float], axis: str, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (cm-1) and strengths of all lines of a band whose dipole is along one principal axis."""
    parts = {"a": {0: 1.0}, "b": {1: -np.sqrt(0.5), -1: np.sqrt(0.5)}, "c": {1: np.sqrt(0.5), -1: np.sqrt(0.5)}}[axis]
    states = [rotor_states(constants, j) for j in range(largest + 2)]
    places, strengths = [], []
    for j in range(largest + 1):
        energies, vectors = states[j]
        for step in (-1, 0, 1):
            if j + step < 0:
                continue
            above, others = states[j + step]
            dipole = np.zeros((2 * (j + step) + 1, 2 * j + 1))
            for k in range(-j, j + 1):
                for q, part in parts.items():
                    if abs(k + q) <= j + step:
                        dipole[k + q + j + step, k + j] += part * three_j(j, k, step, q)
            weights = np.exp(-energies * PER_CM / ROOM)
            places.append(np.subtract.outer(above, energies).ravel())
            strengths.append(((others.T @ dipole @ vectors) ** 2 * weights).ravel())
    return np.concatenate(places), np.concatenate(strengths)


def test_strengths_of_a_rotors_lines_add_up():
    """Of each state of J and K, over P, Q and R branches: one, whatever the axis (the sum rule of Hoenl and London)."""
    for q in (-1, 0, 1):
        for j in range(6):
            for k in range(-j, j + 1):
                total = sum(three_j(j, k, step, q) ** 2 for step in (-1, 0, 1))
                assert total / (2 * j + 1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("constants", "axis", "largest"),
    [
        ((5.2, 0.85, 0.85), "a", 40),  # like CH3F, parallel band
        ((5.2, 0.85, 0.85), "b", 40),  # perpendicular band
        ((2.2, 1.5, 0.9), "b", 36),  # an asymmetric top
        ((2.2, 1.5, 0.9), "c", 36),
    ],
)
def test_contour_is_that_of_the_quantum_rotors_lines(constants, axis, largest):
    """Lines of the quantum rotor, by diagonalisation, seen at a resolution that does not tell them apart."""
    resolution = 2.5 * max(constants)
    contour = rigid_rotor_contour(0.5 / (np.array(constants) * PER_CM), ROOM, 0.5, resolution)
    places, strengths = lines(constants, axis, largest)
    counted = np.histogram(places, np.append(contour.offsets - 0.25, contour.offsets[-1] + 0.25), weights=strengths)[0]
    width = resolution / np.sqrt(8 * np.log(2))
    around = np.arange(-np.ceil(4 * width / 0.5), np.ceil(4 * width / 0.5) + 1) * 0.5
    quantum = np.convolve(counted, np.exp(-0.5 * (around / width) ** 2), mode="same")
    quantum /= quantum.sum()
    shape = contour.shapes["abc".index(axis)]
    cosine = shape @ quantum / np.sqrt((shape @ shape) * (quantum @ quantum))
    assert cosine > 0.998
    # The centroid is above the origin by the constants about the axes across the dipole; and the same spread.
    means = [float(contour.offsets @ one) for one in (shape, quantum)]
    expected = sum(constants) - constants["abc".index(axis)]
    assert means == pytest.approx([expected, expected], rel=0.05)
    spread = [np.sqrt(contour.offsets**2 @ one) for one in (shape, quantum)]
    assert spread[0] == pytest.approx(spread[1], rel=0.01)
