"""Classical free energies of conformers against numerical integration of model surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.structures import Structure, read_structure
from hpcir.units import AMU, ANGSTROM, KCAL_PER_MOL, KELVIN, PER_CM
from hpcir.vibrations.free_energy import free_energy, log_rotor, rotational, rotor_inertia, vibrational
from hpcir.vibrations.normal_modes import normal_modes

TEMPERATURE = 300 * KELVIN


class Triatomic:
    """A bent molecule of three atoms: stiff bonds that grow with the angle, and a double well in the cosine of it."""

    numbers = np.array([16, 8, 8])
    lengths = 2.4
    stretch = 2.0
    cosines = (0.45, -0.75)
    height = 0.06

    def energy(self, one, two, cosine):
        low, high = self.cosines
        well = self.height * ((cosine - low) * (cosine - high)) ** 2 * 16 / (low - high) ** 4
        length = self.lengths - 0.5 * cosine
        return well + 0.5 * self.stretch * ((one - length) ** 2 + (two - length) ** 2) - 0.00012 * cosine

    def cartesian(self, flat):
        x = flat.reshape(3, 3)
        a, b = x[1] - x[0], x[2] - x[0]
        one, two = np.linalg.norm(a), np.linalg.norm(b)
        return self.energy(one, two, a @ b / one / two)

    def minimum(self, cosine):
        from scipy.optimize import minimize

        start = np.array([self.lengths - 0.5 * cosine] * 2 + [cosine])
        found = minimize(lambda q: self.energy(*q), start, tol=1e-14).x
        sine = np.sqrt(1 - found[2] ** 2)
        positions = np.array([[0, 0, 0], [found[0], 0, 0], [found[1] * found[2], found[1] * sine, 0]])
        return Structure(self.numbers, positions)

    def modes(self, structure, step=1e-3):
        flat, axes = structure.positions.ravel(), np.eye(9) * step
        hessian = np.array([
            [
                (self.cartesian(flat + a + b) - self.cartesian(flat + a - b) - self.cartesian(flat - a + b)
                 + self.cartesian(flat - a - b)) / (4 * step**2)
                for b in axes
            ]
            for a in axes
        ])  # fmt: skip
        return normal_modes(structure, hessian)

    def integrals(self, temperature):
        """Configuration integrals of both wells, volume element r1^2 r2^2 dr1 dr2 dcos."""
        cosine = np.linspace(-1, 1, 1201)
        stretched = 7 * np.sqrt(temperature / self.stretch) * np.linspace(-1, 1, 61)
        one, two, third = np.meshgrid(stretched, stretched, cosine, indexing="ij", sparse=True)
        one, two = (part + self.lengths - 0.5 * third for part in (one, two))
        weight = one**2 * two**2 * np.exp(-self.energy(one, two, third) / temperature)
        density = weight.sum(axis=(0, 1))
        middle = sum(self.cosines) / 2
        return np.array([density[cosine > middle].sum(), density[cosine < middle].sum()])


def test_weights_of_a_double_well_triatomic_are_those_of_numerical_integration():
    """Exact to a percent; without the moments of inertia it is off by tenths."""
    surface, temperature = Triatomic(), 50 * KELVIN
    exact = surface.integrals(temperature)
    exact = exact[0] / exact.sum()
    weights, without = [], []
    for cosine in surface.cosines:
        structure = surface.minimum(cosine)
        modes = surface.modes(structure)
        energy = surface.cartesian(structure.positions.ravel())
        weights.append(np.exp(-(energy + free_energy(modes, temperature)) / temperature))
        without.append(np.exp(-(energy + vibrational(modes, temperature)) / temperature))
    assert weights[0] / sum(weights) == pytest.approx(exact, rel=0.01)
    assert abs(without[0] / sum(without) - exact) > 0.1


def test_rotation_of_a_bent_and_of_a_linear_molecule():
    """Against the phase space integral of a rigid body: q = 8 pi^2 (2 pi kT)^(3/2) sqrt(I_a I_b I_c) / (2 pi)^3."""
    water = np.array([[0, 0, 0], [1.4, 1.1, 0], [-1.4, 1.1, 0]], float)
    masses = np.array([16.0, 1.0, 1.0]) * AMU
    relative = water - masses @ water / masses.sum()
    inertia = sum(m * ((r @ r) * np.eye(3) - np.outer(r, r)) for m, r in zip(masses, relative, strict=True))
    q = 8 * np.pi**2 * (2 * np.pi * TEMPERATURE) ** 1.5 * np.sqrt(np.linalg.det(inertia)) / (2 * np.pi) ** 3
    assert rotational(water, masses, TEMPERATURE) == pytest.approx(-TEMPERATURE * np.log(q))
    line = np.array([[0, 0, -2.2], [0, 0, 0], [0, 0, 2.2]])
    moment = 2 * 16 * AMU * 2.2**2
    linear = rotational(line, np.array([16.0, 12.0, 16.0]) * AMU, TEMPERATURE)
    assert linear == pytest.approx(
        -TEMPERATURE * np.log(4 * np.pi * 2 * np.pi * TEMPERATURE * moment / (2 * np.pi) ** 2)
    )


@pytest.mark.parametrize("height", [0.0, 0.3, 1.0, 3.0, 8.0])
def test_hindered_rotor_is_the_phase_space_integral_of_its_cosine(height):
    """Of one well of three, barrier in kcal/mol."""
    inertia, wells = 2.6 * AMU / ANGSTROM**-2, 3
    barrier = height * KCAL_PER_MOL
    angle = np.linspace(-np.pi / wells, np.pi / wells, 20001)
    boltzmann = np.exp(-0.5 * barrier * (1 - np.cos(wells * angle)) / TEMPERATURE)
    exact = np.sqrt(2 * np.pi * inertia * TEMPERATURE) / (2 * np.pi) * np.trapezoid(boltzmann, angle)
    u = barrier / (2 * TEMPERATURE)
    found = log_rotor(np.array([u]), np.array([inertia]), np.array([3.0]), TEMPERATURE)[0]
    assert found == pytest.approx(np.log(exact), abs=1e-6)


def test_a_stiff_rotor_is_a_harmonic_vibration():
    inertia, omega = 2.6 * AMU / ANGSTROM**-2, 3000 * PER_CM
    u = inertia * omega**2 / (9 * TEMPERATURE)
    found = log_rotor(np.array([u]), np.array([inertia]), np.array([3.0]), TEMPERATURE)[0]
    assert found == pytest.approx(np.log(TEMPERATURE / omega), abs=1e-3)


class Peroxide:
    """Hydrogen peroxide, stiff but for its torsion, whose cosine has three wells."""

    barrier = 0.8 * KCAL_PER_MOL

    def __init__(self):
        from ase.build import molecule

        atoms = molecule("H2O2")
        self.start = atoms.positions * ANGSTROM
        self.numbers = atoms.numbers.astype(np.int64)
        self.o = [k for k in range(4) if self.numbers[k] == 8]
        self.h = [
            min((k for k in range(4) if self.numbers[k] == 1), key=lambda k, o=o: self._far(k, o)) for o in self.o
        ]

    def _far(self, k, o):
        return np.linalg.norm(self.start[k] - self.start[o])

    def internal(self, x):
        h, o, p, q = x[self.h[0]], x[self.o[0]], x[self.o[1]], x[self.h[1]]
        a, b, c = h - o, p - o, q - p
        lengths = np.array([np.linalg.norm(v) for v in (a, b, c)])
        angles = np.array([a @ b / lengths[0] / lengths[1], -(c @ b) / lengths[2] / lengths[1]])
        one, two = np.cross(a, b), np.cross(b, c)
        phi = np.arctan2(np.cross(one, two) @ b / lengths[1], one @ two)
        return lengths, angles, phi

    def energy(self, x):
        lengths, angles, phi = self.internal(x)
        first = self.internal(self.start)
        stiff = 0.5 * ((lengths - first[0]) ** 2).sum() + 0.5 * ((angles - first[1]) ** 2).sum()
        return stiff + 0.5 * self.barrier * (1 - np.cos(3 * (phi - first[2])))

    def modes(self, step=2e-3):
        flat, axes = self.start.ravel(), np.eye(12) * step
        energy = lambda x: self.energy(x.reshape(4, 3))  # noqa: E731
        hessian = np.array([
            [
                (energy(flat + a + b) - energy(flat + a - b) - energy(flat - a + b) + energy(flat - a - b))
                / (4 * step**2)
                for b in axes
            ]
            for a in axes
        ])  # fmt: skip
        return normal_modes(Structure(self.numbers, self.start), hessian)


def test_the_torsion_of_a_molecule_is_the_rotor_of_its_potential():
    """The inertia of the torsional mode gives back the barrier, and the free energy is that of the integral over the
    well where harmonic vibrations miss a fifth of kT."""
    surface = Peroxide()
    modes = surface.modes()
    graph = bond_graph(Structure(surface.numbers, surface.start))
    inertia, wells = rotor_inertia(modes, graph)
    barrier = 2 * inertia[0] * modes.angular_frequencies[0] ** 2 / wells[0] ** 2
    assert barrier == pytest.approx(surface.barrier, rel=0.01)
    angle = np.linspace(-np.pi / 3, np.pi / 3, 2001)
    boltzmann = np.exp(-0.5 * surface.barrier * (1 - np.cos(3 * angle)) / TEMPERATURE)
    exact = np.trapezoid(boltzmann, angle) / np.sqrt(2 * np.pi * TEMPERATURE / (4.5 * surface.barrier))
    difference = vibrational(modes, TEMPERATURE, graph) - vibrational(modes, TEMPERATURE)
    assert difference == pytest.approx(-TEMPERATURE * np.log(exact), abs=0.01 * TEMPERATURE)
    assert abs(np.log(exact)) > 0.1


def test_a_rotor_of_no_curvature_or_at_a_maximum_is_free():
    from dataclasses import replace
    from pathlib import Path

    from hpcir.molecules.internal_coordinates import model_hessian

    structure = read_structure(Path(__file__).parents[2] / "inputs" / "ethanol.xyz")
    graph = bond_graph(structure)
    modes = normal_modes(structure, model_hessian(structure))
    found = []
    for wavenumber in (-200.0, 0.0, 1e-3):
        soft = replace(modes, wavenumbers=np.array([wavenumber, *modes.wavenumbers[1:]]))
        found.append(vibrational(soft, TEMPERATURE, graph))
    assert np.ptp(found) < 1e-6 * TEMPERATURE


@pytest.mark.parametrize("half_height", [9.9e4, 1.1e5, 1e12, 1e20])
def test_a_stiff_rotor_is_a_harmonic_oscillator(half_height):
    """ln q = ln(kT / omega) with omega^2 = n^2 kT u / I, up to 1 / (8 u), where the Bessel function overflows too."""
    inertia, wells, temperature = np.array([2e5]), np.array([3.0]), 1e-3
    omega = wells * np.sqrt(temperature * half_height / inertia)
    found = log_rotor(np.array([half_height]), inertia, wells, temperature)
    np.testing.assert_allclose(found, np.log(temperature / omega) + 1 / (8 * half_height), atol=1e-9)
