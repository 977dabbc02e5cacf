"""Vibrational levels against exact ones, closed formulas and sum rules."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hpcir.errors import InputError
from hpcir.molecules.structures import Structure
from hpcir.units import AMU, ANGSTROM, KM_PER_MOL_PER_E2_AMU, KM_PER_MOL_PER_E2_ME, PER_CM
from hpcir.vibrations.levels.force_field import ForceField, quartic_force_field
from hpcir.vibrations.levels.grids import diatomic_levels
from hpcir.vibrations.levels.harmonic import minimum_of, surface_modes
from hpcir.vibrations.levels.large_amplitude import large_amplitudes
from hpcir.vibrations.levels.naming import assigned
from hpcir.vibrations.levels.rovibration import EckartFrame, eckart_frame_of, ground_state_constants
from hpcir.vibrations.levels.solve import levels_of, solve_surface, vibrational_levels
from hpcir.vibrations.levels.triatomic import radau_coordinates, radau_positions, triatomic_levels
from hpcir.vibrations.levels.vci import VciSettings, variational_levels
from hpcir.vibrations.levels.vpt2 import perturbed_levels
from tests.unit.surfaces import (
    DEPTH,
    DIATOMIC_MASSES,
    MORSE_OMEGA,
    MORSE_SHIFT,
    REDUCED,
    REST,
    STEEPNESS,
    SpringSurface,
    bent,
    cosine,
    diatomic,
    length,
    linear,
)

SMALL = VciSettings(functions=9, quadrature=11, states=300, coupling=3, dipole_coupling=3, eigenstates=40)


def gaps(states):
    return (states.energies - states.energies[0]) / PER_CM


def fundamentals(states):
    return np.sort([gaps(states)[state] for state, _ in assigned(states, 1)])


def frame_of(surface, structure, masses=None):
    masses = structure.masses if masses is None else masses
    return eckart_frame_of(surface_modes(surface, minimum_of(surface, structure), masses))


# -- diatomics --------------------------------------------------------------------------------------------------


def test_grid_gives_the_levels_of_a_morse_oscillator():
    surface, structure = diatomic()
    found = diatomic_levels(surface, structure, DIATOMIC_MASSES, 4)
    half = np.arange(4) + 0.5
    np.testing.assert_allclose(found.energies / PER_CM, MORSE_OMEGA * half - MORSE_SHIFT * half**2, atol=0.01)


def test_perturbation_theory_is_exact_for_a_morse_oscillator():
    surface, structure = diatomic()
    frame = frame_of(surface, structure, DIATOMIC_MASSES)
    result = perturbed_levels(quartic_force_field(surface, frame), frame)
    half = np.arange(3) + 0.5
    exact = MORSE_OMEGA * half - MORSE_SHIFT * half**2
    np.testing.assert_allclose(result.states.energies / PER_CM, exact, atol=0.02)


def test_rotational_constant_of_the_ground_state_is_that_of_the_exact_wave_function():
    surface, structure = diatomic()
    frame = frame_of(surface, structure, DIATOMIC_MASSES)
    ground = ground_state_constants(frame, quartic_force_field(surface, frame).cubic)
    exact = diatomic_levels(surface, structure, DIATOMIC_MASSES).rotational[0]
    assert frame.rotational_constants[1] == pytest.approx(0.5 / (REDUCED * REST**2), rel=1e-6)
    assert (exact - frame.rotational_constants[1]) / PER_CM < -0.1
    assert ground[1] - frame.rotational_constants[1] == pytest.approx(exact - frame.rotational_constants[1], rel=0.02)


def test_force_field_of_a_morse_oscillator_has_its_derivatives():
    surface, structure = diatomic()
    frame = frame_of(surface, structure, DIATOMIC_MASSES)
    field = quartic_force_field(surface, frame)
    scale = 1 / np.sqrt(REDUCED * frame.frequencies[0])
    assert abs(field.cubic[0, 0, 0]) == pytest.approx(6 * DEPTH * (STEEPNESS * scale) ** 3, rel=2e-4)
    assert field.quartic[0, 0, 0, 0] == pytest.approx(14 * DEPTH * (STEEPNESS * scale) ** 4, rel=2e-3)
    assert field.hessian[0, 0] == pytest.approx(frame.frequencies[0], rel=1e-6)
    np.testing.assert_allclose(field.dipole_second, 0, atol=1e-9)


def test_all_intensity_of_a_linear_dipole_is_in_its_sum_rule():
    """sum_n 2 (E_n - E_0) |<0|mu|n>|^2 = |dmu/dQ|^2, bound and unbound states of the basis together."""
    surface, structure = diatomic()
    frame = frame_of(surface, structure, DIATOMIC_MASSES)
    settings = VciSettings(functions=18, quadrature=20, states=18, coupling=1, dipole_coupling=1, eigenstates=18)
    states = variational_levels(surface, frame, settings).states
    total = (2 * (states.energies - states.energies[0]) * (states.moments**2).sum(1)).sum()
    assert total == pytest.approx(0.2**2 / REDUCED, rel=2e-3)


# -- harmonic limit ---------------------------------------------------------------------------------------------


def test_harmonic_molecule_has_harmonic_levels_and_intensities():
    """A spring: the fundamental at its frequency, with 974.9 km/mol per e2/amu, no overtone, by every method."""
    rest, constant = 2.2, 0.6
    spring = SpringSurface(lambda x: 0.5 * constant * (length(x, 0, 1) - rest) ** 2, [0.3, -0.3])
    masses = np.array([12.0, 16.0]) * AMU
    reduced = masses.prod() / masses.sum()
    levels = vibrational_levels(spring, Structure(np.array([6, 8]), np.array([[0, 0, 0], [0, 0, rest]])), masses)
    first, second = levels.levels[:2]
    assert first.wavenumber_per_cm == pytest.approx(np.sqrt(constant / reduced) / PER_CM, abs=0.01)
    assert first.perturbation_per_cm == pytest.approx(first.wavenumber_per_cm, abs=0.01)
    expected = KM_PER_MOL_PER_E2_AMU * 0.3**2 / (reduced / AMU)
    assert first.intensity_km_per_mol == pytest.approx(expected, rel=1e-4)
    assert second.name == "2 v1"
    assert second.intensity_km_per_mol < 1e-6 * expected


# -- oscillators without rotation, against diagonalisation in the whole basis ------------------------------------


def oscillators(omega, cubic_size, quartic_size, seed=4):
    """Coupled oscillators with a dipole, as a force field in a frame without Coriolis coupling."""
    rng = np.random.default_rng(seed)
    n = len(omega)
    cubic, quartic = rng.standard_normal((n,) * 3), rng.standard_normal((n,) * 4)
    cubic = sum(cubic.transpose(p) for p in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))) / 6
    pairs = [quartic, quartic.transpose(1, 0, 2, 3)]
    quartic = np.zeros((n,) * 4)
    from itertools import permutations

    for axes in permutations(range(4)):
        quartic += pairs[0].transpose(axes) / 24
    dipole = np.zeros((3, n))
    dipole[0] = rng.standard_normal(n)
    second = np.zeros((3, n, n))
    second[0] = 0.2 * np.array([[0.5, 0.3, -0.2], [0.3, -0.4, 0.1], [-0.2, 0.1, 0.6]])[:n, :n]
    omega = np.asarray(omega) * PER_CM
    field = ForceField(
        np.zeros(n), np.diag(omega), cubic_size * PER_CM * cubic, quartic_size * PER_CM * quartic, np.zeros(3), dipole,
        second, np.zeros((3, n, n, n)), True,
    )  # fmt: skip
    large = 1e12 * np.array([[1.0, 0, 0], [-1.0, 0.5, 0], [0, -1.0, 0.7]])
    frame = EckartFrame(np.ones(3), large, np.zeros((n, 3, 3)), omega, np.eye(3), False)
    return field, frame


def diagonalised(field, frame, size=12):
    """Energies and transition dipoles from the ground state, all products of `size` functions each."""
    n = len(frame)
    q = np.diag(np.sqrt(np.arange(1, size) / 2), 1)
    q = q + q.T
    big = np.zeros((size + 4, size + 4))
    big[np.arange(size + 3), np.arange(1, size + 4)] = np.sqrt(np.arange(1, size + 4) / 2)
    big = big + big.T
    powers = [np.linalg.matrix_power(big, p)[:size, :size] for p in range(5)]

    def product(indices):
        result = np.ones((1, 1))
        for mode in range(n):
            result = np.kron(result, powers[indices.count(mode)])
        return result

    hamiltonian = sum(
        (np.kron(np.kron(np.eye(size**m), np.diag((np.arange(size) + 0.5) * w)), np.eye(size ** (n - m - 1))))
        for m, w in enumerate(frame.frequencies)
    )
    mu = np.zeros_like(hamiltonian)
    for i in range(n):
        mu += field.dipole_first[0, i] * product([i])
        for j in range(n):
            mu += field.dipole_second[0, i, j] * product([i, j]) / 2
            for k in range(n):
                hamiltonian = hamiltonian + field.cubic[i, j, k] * product([i, j, k]) / 6
                for l in range(n):
                    hamiltonian = hamiltonian + field.quartic[i, j, k, l] * product([i, j, k, l]) / 24
    energies, vectors = np.linalg.eigh(hamiltonian)
    return energies, vectors[:, 0] @ mu @ vectors


def test_perturbation_theory_errs_in_the_fourth_order_of_the_anharmonicity():
    errors, moment_errors = [], []
    for size in (1.0, 0.5):
        field, frame = oscillators([1000.0, 1730.0], 120 * size, 60 * size**2)
        exact, moments = diagonalised(field, frame)
        states = perturbed_levels(field, frame).states
        errors.append(np.abs((states.energies[:4] - exact[:4]) / PER_CM).max())
        strong = np.abs(moments[[1, 2]])
        moment_errors.append(np.abs(np.abs(states.moments[[1, 2], 0]) / strong - 1).max())
    assert errors[0] < 3.0
    assert errors[0] / errors[1] > 11
    assert moment_errors[0] < 0.02
    assert moment_errors[0] / moment_errors[1] > 6  # third order and more


def test_fermi_resonance_is_diagonalised():
    field, frame = oscillators([620.0, 1250.0], 0.0, 20.0)
    for place in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        field.cubic[place] = 100 * PER_CM
    exact, moments = diagonalised(field, frame)
    result = perturbed_levels(field, frame)
    assert [(one.upper, one.lower) for one in result.resonances] == [(1, (0, 0))]
    np.testing.assert_allclose(gaps(result.states)[1:4], (exact[1:4] - exact[0]) / PER_CM, atol=1.5)
    np.testing.assert_allclose(np.abs(result.states.moments[2:4, 0]), np.abs(moments[2:4]), rtol=0.1)
    # Without the resonance in a matrix the second-order sum would be far off.
    unperturbed = 1250 - 100**2 / (8 * 10)
    assert abs(unperturbed - (exact[3] - exact[0]) / PER_CM) > 50


def test_nearly_equal_modes_are_coupled_in_second_order():
    """Darling-Dennison: two stretches 10 cm-1 apart whose overtones mix by quartic constants."""
    field, frame = oscillators([3000.0, 3010.0], 0.0, 0.0)
    for place in ((0, 0, 0, 0), (1, 1, 1, 1)):
        field.quartic[place] = -60 * PER_CM
    for place in ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)):
        field.quartic[place] = -55 * PER_CM
    exact, _ = diagonalised(field, frame)
    found = perturbed_levels(field, frame).states
    np.testing.assert_allclose(gaps(found)[1:6], (exact[1:6] - exact[0]) / PER_CM, atol=0.8)
    # The overtones without their coupling would be 20 cm-1 apart and share nothing.
    assert np.abs(gaps(found)[5] - gaps(found)[3]) > 21
    assert 0.05 < (found.vectors[:, 3] ** 2)[found.quanta.max(1) == 2].min() < 0.5


# -- triatomics --------------------------------------------------------------------------------------------------


def test_radau_coordinates_and_back():
    masses = np.array([16.0, 1.0, 2.0]) * AMU
    first, second, cosine = np.array([1.9]), np.array([1.7]), np.array([-0.3])
    positions = radau_positions(first, second, cosine, masses)[0]
    np.testing.assert_allclose(radau_coordinates(positions, masses), (1.9, 1.7, -0.3), atol=1e-12)
    np.testing.assert_allclose(masses @ positions, 0, atol=1e-6)
    # Orthogonal coordinates: a step of one and a step of the other share no kinetic energy.
    step = 1e-5
    one = (radau_positions(first + step, second, cosine, masses) - positions)[0] / step
    two = (radau_positions(first, second + step, cosine, masses) - positions)[0] / step
    turn = np.cross(np.array([0, 0, 1.0]), positions)
    assert abs((masses[:, None] * one * two).sum()) < 1e-2 * np.sqrt(
        (masses[:, None] * one**2).sum() * (masses[:, None] * two**2).sum()
    )
    assert (masses[:, None] * one * turn).sum() == pytest.approx(0, abs=1.0)


def test_variation_with_watsons_hamiltonian_gives_the_exact_levels_of_a_bent_molecule():
    surface, structure = bent()
    frame = frame_of(surface, structure)
    found = variational_levels(surface, frame, SMALL)
    exact = triatomic_levels(surface, minimum_of(surface, structure), structure.masses, 8)
    energies = (exact.energies - exact.energies[0]) / PER_CM
    np.testing.assert_allclose(gaps(found.states)[1:5], energies[1:5], atol=0.5)
    assert found.states.energies[0] / PER_CM == pytest.approx(exact.energies[0] / PER_CM, abs=0.5)
    # Watson's term alone is 13 cm-1 of the zero-point energy, the rotation of the modes 10 cm-1 of a stretch.
    field = quartic_force_field(surface, frame)
    perturbed = perturbed_levels(field, frame)
    np.testing.assert_allclose(fundamentals(perturbed.states), fundamentals(found.states), atol=4)
    intensity = KM_PER_MOL_PER_E2_ME * 2 * gaps(found.states) * PER_CM * (found.states.moments**2).sum(1)
    other = KM_PER_MOL_PER_E2_ME * 2 * gaps(perturbed.states) * PER_CM * (perturbed.states.moments**2).sum(1)
    strong = [state for state, _ in assigned(found.states, 1)]
    np.testing.assert_allclose(
        np.sort(intensity[strong]), np.sort(other[[s for s, _ in assigned(perturbed.states, 1)]]), rtol=0.03
    )


def test_intensities_of_a_bent_molecule_obey_the_sum_rule():
    """Fixed charges: sum_n 2 (E_n - E_0) |<0|mu|n>|^2 = sum_k |dmu/dQ_k|^2 in the Eckart frame, up to its rotation."""
    surface, structure = bent()
    modes = surface_modes(surface, minimum_of(surface, structure), structure.masses)
    frame = eckart_frame_of(modes)
    settings = VciSettings(functions=9, quadrature=11, states=250, coupling=3, dipole_coupling=3, eigenstates=250)
    states = variational_levels(surface, frame, settings).states
    total = (2 * (states.energies - states.energies[0]) * (states.moments**2).sum(1)).sum()
    assert total == pytest.approx((modes.mode_dipoles**2).sum(), rel=0.02)


def test_linear_molecule_in_fermi_resonance_against_the_grid():
    surface, structure = linear()
    levels = vibrational_levels(surface, structure, structure.masses)
    assert levels.method == "grid"
    assert [name.split(":")[0] for name in levels.resonances] == ["v3 and 2 v1", "v3 and 2 v2"]
    bend, same, symmetric, antisymmetric = levels.fundamentals
    for level, allowed in ((bend, 0.5), (same, 0.5), (symmetric, 4.0), (antisymmetric, 2.0)):
        assert abs(level.perturbation_per_cm - level.wavenumber_per_cm) < allowed
    assert bend.wavenumber_per_cm == same.wavenumber_per_cm
    # The resonance pushes the stretch up by more than 30 cm-1, against anharmonicity.
    assert symmetric.wavenumber_per_cm - symmetric.harmonic_per_cm > 30
    assert symmetric.intensity_km_per_mol < 1e-6
    assert any("2 v" in partner for partner in symmetric.partners)


def test_isotopologue_of_a_bent_molecule():
    """Heavier hydrogens: every fundamental falls by about the root of two, and zero-point energy with them."""
    surface, structure = bent()
    heavy = structure.masses.copy()
    heavy[1:] *= 2
    light = vibrational_levels(surface, structure, structure.masses)
    deuterated = vibrational_levels(surface, structure, heavy)
    for one, two in zip(light.fundamentals, deuterated.fundamentals, strict=True):
        assert 1.33 < one.wavenumber_per_cm / two.wavenumber_per_cm < 1.40
    assert 1.35 < light.zero_point_per_cm / deuterated.zero_point_per_cm < 1.40


# -- error bars and words ----------------------------------------------------------------------------------------


def test_error_bars_are_those_of_the_members():
    """Members whose surfaces differ by a factor have fundamentals that differ by about its root."""
    surface, structure = bent()
    factors = np.array([0.998, 1.0, 1.002])
    levels = vibrational_levels(surface, structure, structure.masses, [bent(scale)[0] for scale in factors])
    spread = np.sqrt(factors).std(ddof=1)
    for level in levels.fundamentals:
        assert level.stderr_per_cm == pytest.approx(spread * level.harmonic_per_cm, rel=0.1)
    assert levels.zero_point_stderr_per_cm == pytest.approx(spread * levels.zero_point_per_cm, rel=0.1)
    assert levels.members == 3


def test_members_that_disagree_where_wave_functions_reach_leave_perturbation_theory():
    """A bump far out, of another height for each member, and nothing of it near the minimum."""
    surface, structure = bent()

    def bumpy(height):
        def energy(x):
            import torch

            return surface.energy(x) + height * torch.exp(-(((length(x, 0, 1) - 2.25) / 0.12) ** 2))

        return SpringSurface(energy, [-0.6, 0.3, 0.3])

    levels = vibrational_levels(surface, structure, structure.masses, [bumpy(h) for h in (-0.02, 0.0, 0.02)])
    assert levels.method == "perturbation"
    assert any("committee disagrees" in remark for remark in levels.remarks)


def test_a_hole_behind_a_barrier_is_walled_off():
    """A network's surface may fall at bond lengths that no label has: the levels are those of the well asked for."""
    surface, structure = diatomic()
    holed = SpringSurface(
        lambda x: surface.energy(x) - 0.5 * torch.exp(-(((length(x, 0, 1) - 1.45) / 0.05) ** 2)), [0.2, -0.2]
    )
    whole, own = (diatomic_levels(one, structure, DIATOMIC_MASSES, 4) for one in (surface, holed))
    np.testing.assert_allclose(own.energies / PER_CM, whole.energies / PER_CM, atol=0.05)


def test_a_member_with_its_minimum_elsewhere_is_left_out_and_said():
    """Of four members one has another molecule's minimum; the error bars are those of the others, and known."""
    surface, structure = bent()

    def moved(x):
        return 0.3 * ((length(x, 0, 1) - 2.6) ** 2 + (length(x, 0, 2) - 1.82) ** 2 + (cosine(x, 1, 0, 2) + 0.24) ** 2)

    members = [bent(0.998)[0], SpringSurface(moved, [-0.6, 0.3, 0.3]), bent(1.0)[0], bent(1.002)[0]]
    levels = vibrational_levels(surface, structure, structure.masses, members, quick=True)
    alone = vibrational_levels(surface, structure, structure.masses, [members[n] for n in (0, 2, 3)], quick=True)
    assert [one.stderr_per_cm for one in levels.levels] == [one.stderr_per_cm for one in alone.levels]
    assert levels.members == 3
    (remark,) = [word for word in levels.remarks if "left out" in word]
    assert "member 2 of 4" in remark
    assert "the other 3" in remark


def test_a_member_at_a_saddle_point_is_left_out():
    """Of two members one is left: error bars are not known, and that is said."""
    surface, structure = bent()
    ridge = SpringSurface(lambda x: surface.energy(x) - 0.2 * (cosine(x, 1, 0, 2) + 0.2419) ** 2, [-0.6, 0.3, 0.3])
    levels = vibrational_levels(surface, structure, structure.masses, [surface, ridge], quick=True)
    assert levels.members == 1
    assert all(np.isnan(level.stderr_per_cm) for level in levels.levels)
    assert any("error bars are not known" in remark for remark in levels.remarks)


def test_a_hole_in_the_surface_leaves_perturbation_theory():
    """Far from the minimum a triatomic's surface falls below it: its levels on a grid would be those of the hole."""
    surface, structure = bent()

    def fallen(x):
        return surface.energy(x) - 0.5 * torch.exp(-(((length(x, 0, 1) - 2.9) / 0.2) ** 2))

    levels = vibrational_levels(SpringSurface(fallen, [-0.6, 0.3, 0.3]), structure, structure.masses)
    assert levels.method == "perturbation"
    assert any("lower minimum elsewhere" in remark for remark in levels.remarks)


def test_saddle_point_is_refused():
    surface, structure = bent()
    straight = structure.moved(1.9 * np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, -1.0]]))
    with pytest.raises(InputError, match="saddle point"):
        vibrational_levels(surface, straight, structure.masses)


def test_expansion_that_diverges_is_refused():
    """A bond in a nearly flat, strongly quartic well."""
    rest = 2.2
    flat = SpringSurface(
        lambda x: 0.004 * (length(x, 0, 1) - rest) ** 2 + 0.5 * (length(x, 0, 1) - rest) ** 4, [0.1, -0.1]
    )
    pair = Structure(np.array([6, 8]), np.array([[0, 0, 0], [0, 0, rest]]))
    with pytest.raises(InputError, match="diverges"):
        vibrational_levels(flat, pair, np.array([12.0, 16.0]) * AMU)


def test_rotor_is_named():
    """Ethane's torsion is soft and wide, and nothing else of it is."""
    from ase.build import molecule

    from hpcir.molecules.internal_coordinates import model_hessian
    from hpcir.vibrations.normal_modes import normal_modes

    atoms = molecule("C2H6")
    ethane = Structure(atoms.numbers.astype(np.int64), atoms.positions * ANGSTROM)
    modes = normal_modes(ethane, model_hessian(ethane, 0.0))
    found = large_amplitudes(modes, ethane)
    assert [one.mode for one in found] == [0]
    assert modes.wavenumbers[0] < 450


def test_flat_mode_is_held_at_rest():
    """A mode of heavy atoms with a small negative curvature, which is noise: no square root of it is taken."""
    from hpcir.molecules.internal_coordinates import model_hessian
    from hpcir.vibrations.normal_modes import normal_modes

    chain = Structure(np.array([17, 17, 17]), np.array([[0, 0, -3.9], [0, 0, 0], [0, 0, 3.9]]))
    modes = normal_modes(chain, model_hessian(chain, 0.0), masses=np.full(3, 2000.0) * AMU)
    wavenumbers = modes.wavenumbers.copy()
    wavenumbers[0] = -8.0
    (flat,) = large_amplitudes(replace(modes, wavenumbers=wavenumbers), chain)
    assert flat.frozen
    assert flat.mode == 0


def test_mode_that_leads_no_state_is_named():
    """Six modes at one place that share everything: none of the products has a twentieth of a state."""
    surface, structure = bent()
    solved = solve_surface(surface, structure, structure.masses, quick=True)
    spread = solved.final.vectors.copy()
    mode = int(np.flatnonzero((solved.final.quanta.sum(1) == 1) & (solved.final.quanta[:, 0] == 1))[0])
    spread[mode] = np.sqrt(0.04)
    levels = levels_of(replace(solved, final=replace(solved.final, vectors=spread)), [])
    assert [level.name for level in levels.fundamentals] == ["v2", "v3"]
    assert any("v1 (H-O-H bend) leads no state" in remark for remark in levels.remarks)


# -- the engine's own surface ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deuterated", "expected"), [(False, (1496.4, 3450.0, 3452.0)), (True, (1105.3, 2522.9, 2569.0))]
)
def test_water_from_the_label_engine(deuterated, expected):
    """GFN2-xTB: variation in a small basis against the grid of tools/bench/bench_quantum."""
    pytest.importorskip("tblite")
    from hpcir.deck.sections import LabelSettings
    from hpcir.labels import create_engine
    from hpcir.vibrations.levels.surface import LabelSurface

    water = Structure(
        np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.58, 0], [-0.76, 0.58, 0]]) * ANGSTROM, name="water"
    )
    masses = water.masses
    if deuterated:
        masses = masses.copy()
        masses[1:] = 2.014 * AMU
    surface = LabelSurface(create_engine(LabelSettings(engine="tblite"), water).label, water, masses)
    frame = frame_of(surface, water, masses)
    small = VciSettings(functions=8, quadrature=9, states=160, coupling=3, dipole_coupling=1, eigenstates=20)
    np.testing.assert_allclose(fundamentals(variational_levels(surface, frame, small).states), expected, atol=1.5)
    perturbed = perturbed_levels(quartic_force_field(surface, frame), frame)
    np.testing.assert_allclose(fundamentals(perturbed.states), expected, atol=12)
