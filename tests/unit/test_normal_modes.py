"""Normal modes against analytic answers and sum rules; the Eckart frame; thermal sampling; names of modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, RunStopped
from hpcir.labels.base import Label, LabelEngine, create_engine
from hpcir.molecules.eckart import eckart_frame, internal_velocities
from hpcir.molecules.internal_coordinates import InternalCoordinate, internal_coordinates, model_hessian
from hpcir.molecules.structures import Structure, superimpose
from hpcir.units import AMU, ANGSTROM, KELVIN, KM_PER_MOL_PER_E2_AMU, PER_CM
from hpcir.vibrations.mode_names import describe_modes
from hpcir.vibrations.normal_modes import (
    NormalModes,
    derivatives_from_labels,
    displaced_geometries,
    fixed_origin,
    internal_directions,
    isotope_masses,
    keeps_bonds,
    mode_coordinates,
    mode_velocities,
    normal_modes,
    sample,
    stiff_hessian,
)
from hpcir.vibrations.optimise import optimise


def random(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def molecule(name: str, charge: int = 0) -> Structure:
    from ase.build import molecule as build

    atoms = build(name)
    return Structure(np.array(atoms.numbers, np.int64), atoms.positions * ANGSTROM, charge=charge, name=name)


@pytest.fixture(scope="module")
def tblite() -> LabelEngine:
    pytest.importorskip("tblite")
    return create_engine(LabelSettings(engine="tblite"))


def analysed(engine: LabelEngine, structure: Structure) -> tuple[Structure, np.ndarray, np.ndarray, NormalModes]:
    minimum = optimise(structure, engine.label).structure
    step = 0.005  # the sum rules hold up to its square and to the engine's noise over it
    labels = [engine.label(geometry) for geometry in displaced_geometries(minimum, step)]
    hessian, derivatives = derivatives_from_labels(minimum, engine.label(minimum), labels, step)
    return minimum, hessian, derivatives, normal_modes(minimum, hessian, derivatives)


def spring_chain(structure: Structure, constant: float) -> np.ndarray:
    """Hessian of springs between consecutive atoms at their rest lengths."""
    size = len(structure)
    hessian = np.zeros((3 * size, 3 * size))
    for i in range(size - 1):
        unit = structure.positions[i + 1] - structure.positions[i]
        unit /= np.linalg.norm(unit)
        row = np.zeros((size, 3))
        row[i], row[i + 1] = -unit, unit
        hessian += constant * np.outer(row, row)
    return hessian


def test_diatomic_has_the_analytic_frequency_and_intensity() -> None:
    structure = Structure(np.array([1, 17]), np.array([[0.1, 0.2, 0.3], [1.0, 1.5, 2.2]]))
    constant, charge = 0.33, 0.2
    unit = structure.positions[1] - structure.positions[0]
    unit /= np.linalg.norm(unit)
    derivatives = np.hstack([np.eye(3) * charge, -np.eye(3) * charge])
    modes = normal_modes(structure, spring_chain(structure, constant), derivatives)
    reduced = structure.masses.prod() / structure.masses.sum()
    assert len(modes) == 1
    assert modes.wavenumbers[0] == pytest.approx(np.sqrt(constant / reduced) / PER_CM, rel=1e-12)
    # The convention of normalised Cartesian displacements, which is not the two-body reduced mass.
    assert modes.reduced_masses[0] == pytest.approx(1 / (reduced * (structure.masses**-2.0).sum()), rel=1e-10)
    # |dmu/dQ|^2 = charge^2 / reduced mass, at 974.9 km/mol per e^2/amu.
    assert pytest.approx(974.9, abs=0.05) == KM_PER_MOL_PER_E2_AMU
    expected = KM_PER_MOL_PER_E2_AMU * charge**2 / (reduced / AMU)
    assert modes.intensities[0] == pytest.approx(expected, rel=1e-10)


def test_linear_triatomic_stretches_are_analytic() -> None:
    structure = Structure(np.array([8, 6, 8]), np.array([[0.0, 0, -2.2], [0, 0, 0], [0, 0, 2.2]]) + 0.7)
    constant = 1.0
    modes = normal_modes(structure, spring_chain(structure, constant))
    oxygen, carbon = structure.masses[:2]
    expected = np.sqrt([constant / oxygen, constant * (1 / oxygen + 2 / carbon)]) / PER_CM
    assert len(modes) == 4
    np.testing.assert_allclose(modes.wavenumbers[2:], expected, rtol=1e-10)
    np.testing.assert_allclose(modes.wavenumbers[:2], 0, atol=1e-4)


def test_modes_are_orthonormal_and_free_of_rigid_motion() -> None:
    structure = molecule("CH3OH")
    noise = random(1).normal(size=(18, 18))
    modes = normal_modes(structure, noise @ noise.T)
    flat = modes.modes.reshape(12, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(12), atol=1e-12)
    weighted = modes.modes * np.sqrt(modes.masses)[:, None]
    np.testing.assert_allclose(weighted.sum(1), 0, atol=1e-10)
    relative = structure.positions - modes.masses @ structure.positions / modes.masses.sum()
    np.testing.assert_allclose(np.cross(relative, weighted).sum(1), 0, atol=1e-8)


@pytest.mark.parametrize("name", ["H2O", "C2H4", "CH3OH"])
def test_rounding_does_not_decide_the_sign_of_a_mode(name: str) -> None:
    structure = molecule(name)
    hessian = model_hessian(structure)
    before = normal_modes(structure, hessian)
    noise = random(8).normal(size=hessian.shape)
    after = normal_modes(structure, hessian + 1e-12 * (noise + noise.T))
    np.testing.assert_allclose(after.modes, before.modes, atol=1e-6)


def test_a_saddle_has_a_negative_wavenumber() -> None:
    structure = Structure(np.array([1, 17]), np.array([[0.0, 0, 0], [0, 0, 2.4]]))
    assert normal_modes(structure, spring_chain(structure, -0.1)).wavenumbers[0] < 0


@pytest.mark.parametrize(("name", "charge"), [("H2O", 0), ("CO2", 0), ("NH4", 1)])
def test_sum_rules_of_an_engine(tblite: LabelEngine, name: str, charge: int) -> None:
    start = molecule(name) if name != "NH4" else molecule("CH4").moved(molecule("CH4").positions * 0.95)
    if charge:
        start = Structure(np.array([7, 1, 1, 1, 1]), start.positions, charge=1, name=name)
    minimum, hessian, derivatives, modes = analysed(tblite, start)
    assert len(modes) == 3 * len(minimum) - (5 if name == "CO2" else 6)
    # Translations cost no energy, and move a charged molecule's dipole by its charge.
    np.testing.assert_allclose(hessian.reshape(len(hessian), -1, 3).sum(1), 0, atol=2e-5)
    fixed = fixed_origin(minimum, derivatives)
    np.testing.assert_allclose(derivatives.reshape(3, -1, 3).sum(1), 0, atol=3e-5)
    np.testing.assert_allclose(fixed.reshape(3, -1, 3).sum(1), charge * np.eye(3), atol=1e-10)
    np.testing.assert_allclose(fixed_origin(minimum, fixed), fixed, atol=1e-12)
    assert np.all(modes.wavenumbers > 300)


def test_carbon_dioxide_bends_are_degenerate_and_dark_where_symmetry_says(tblite: LabelEngine) -> None:
    minimum, _, _, modes = analysed(tblite, molecule("CO2"))
    assert modes.wavenumbers[0] == pytest.approx(modes.wavenumbers[1], abs=0.05)
    assert modes.intensities[2] < 1e-3 < modes.intensities[3]
    names = describe_modes(modes, minimum)
    assert names == ["O=C=O bend"] * 2 + ["C=O symmetric stretch", "C=O antisymmetric stretch"]


def test_intensities_of_an_ion_do_not_depend_on_the_origin(tblite: LabelEngine) -> None:
    start = Structure(np.array([8, 1]), np.array([[0.0, 0, 0], [0, 0, 1.85]]), charge=-1, name="hydroxide")
    minimum, hessian, derivatives, modes = analysed(tblite, start)
    about_fixed = normal_modes(minimum, hessian, fixed_origin(minimum, derivatives))
    np.testing.assert_allclose(modes.intensities, about_fixed.intensities, rtol=1e-10)
    # Directly: the dipole about the centre of mass along the mode.
    shift = 0.01 * modes.modes[0] / np.sqrt(modes.masses)[:, None]

    def dipole(positions: np.ndarray) -> np.ndarray:
        label = tblite.label(minimum.moved(positions))
        nuclear = minimum.numbers @ positions / minimum.numbers.sum()
        return label.dipole - (nuclear - minimum.masses @ positions / minimum.masses.sum())

    slope = (dipole(minimum.positions + shift) - dipole(minimum.positions - shift)) / 0.02
    np.testing.assert_allclose(slope, modes.mode_dipoles[0], atol=1e-6)


def test_methanols_modes_have_their_names(tblite: LabelEngine) -> None:
    minimum, _, _, modes = analysed(tblite, molecule("CH3OH"))
    names = describe_modes(modes, minimum)
    assert names[0] == "torsion about C-O"
    assert names[-1] == "O-H stretch"
    assert all(name.startswith("CH3") and name.endswith("stretch") for name in names[-4:-1])
    assert sum("CH3 symmetric stretch" in name for name in names) == 1
    assert "C-O stretch" in names
    assert any(name.startswith("CH3 rock") for name in names)
    assert sum("umbrella" in name for name in names) == 1
    # The deuterated group moves lower and keeps its name.
    heavy = normal_modes(minimum, _hessian_again(tblite, minimum), masses=isotope_masses(minimum, {"H4": 2.014}))
    assert heavy.wavenumbers[-1] < modes.wavenumbers[-1] + 1e-6
    hydroxyl = next(j for i, j in _oh_bonds(minimum))
    labelled = isotope_masses(minimum, {f"H{hydroxyl + 1}": 2.014})
    deuterated = normal_modes(minimum, _hessian_again(tblite, minimum), masses=labelled)
    index = describe_modes(deuterated, minimum).index("O-H stretch")
    assert deuterated.wavenumbers[index] / modes.wavenumbers[-1] == pytest.approx(np.sqrt(0.53), abs=0.01)


def _hessian_again(engine: LabelEngine, minimum: Structure) -> np.ndarray:
    labels = [engine.label(geometry) for geometry in displaced_geometries(minimum)]
    return derivatives_from_labels(minimum, engine.label(minimum), labels)[0]


@pytest.mark.parametrize(("name", "charge"), [("CH3OH", 0), ("CO2", 0), ("NH3", 0)])
def test_internal_directions_give_what_cartesian_differences_give(tblite: LabelEngine, name: str, charge: int) -> None:
    minimum = optimise(molecule(name, charge), tblite.label, force_tolerance=1e-6).structure
    step, size = 0.005, 3 * len(minimum)
    hessian, dipoles = np.zeros((size, size)), np.zeros((3, size))
    for index in range(size):
        shift = np.zeros(size)
        shift[index] = step
        ends = [tblite.label(minimum.moved(minimum.positions + s * shift.reshape(-1, 3))) for s in (1, -1)]
        hessian[index] = -(ends[0].forces - ends[1].forces).ravel() / (2 * step)
        dipoles[:, index] = (ends[0].dipole - ends[1].dipole) / (2 * step)
    labels = [tblite.label(geometry) for geometry in displaced_geometries(minimum, step)]
    assert len(labels) == 2 * len(internal_directions(minimum)) == 2 * len(normal_modes(minimum, hessian))
    ours, slopes = derivatives_from_labels(minimum, tblite.label(minimum), labels, step)
    np.testing.assert_allclose(ours, hessian, atol=1e-4)
    np.testing.assert_allclose(slopes, dipoles, atol=2e-4)
    cartesian, internal = normal_modes(minimum, hessian, dipoles), normal_modes(minimum, ours, slopes)
    np.testing.assert_allclose(internal.wavenumbers, cartesian.wavenumbers, atol=0.5)
    np.testing.assert_allclose(internal.intensities, cartesian.intensities, atol=0.1, rtol=2e-3)


def _oh_bonds(structure: Structure) -> list[tuple[int, int]]:
    from hpcir.molecules.structures import bonds

    return [(i, j) for i, j in bonds(structure) if {structure.numbers[i], structure.numbers[j]} == {8, 1}]


def test_isotope_masses_refuse_atoms_that_are_not_there() -> None:
    water = molecule("H2O")
    np.testing.assert_allclose(isotope_masses(water, {"H": 2.014, "H3": 3.016})[1:] / AMU, [2.014, 3.016])
    for wrong in ("C", "O2", "H4"):
        with pytest.raises(InputError, match="no such atom"):
            isotope_masses(water, {wrong: 13.0})


def test_eckart_frame_equals_kabsch_and_turns_with_the_molecule() -> None:
    structure = molecule("CH3OH")
    masses, rng = structure.masses, random(2)
    positions = structure.positions + 0.3 * rng.normal(size=(4, 3, 6, 3)) + 5.0
    framed, rotation = eckart_frame(positions, structure.positions, masses)
    for index in np.ndindex(4, 3):
        expected, turn, _ = superimpose(positions[index], structure.positions, masses)
        np.testing.assert_allclose(framed[index], expected, atol=1e-10)
        np.testing.assert_allclose(rotation[index], turn, atol=1e-10)
    # Eckart's condition: no angular momentum between frame and reference.
    middle = masses @ structure.positions / masses.sum()
    condition = np.einsum("i,...ia->...a", masses, np.cross(structure.positions - middle, framed - middle))
    np.testing.assert_allclose(condition, 0, atol=1e-8)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    again, _ = eckart_frame(positions @ turn.T + 3.0, structure.positions, masses)
    np.testing.assert_allclose(again, framed, atol=1e-10)


def test_eckart_frame_of_a_linear_molecule() -> None:
    structure = Structure(np.array([8, 6, 8]), np.array([[0.0, 0, -2.2], [0, 0, 0], [0, 0, 2.2]]))
    turn, _ = np.linalg.qr(random(3).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    for rotation in (turn, np.diag([1.0, -1.0, -1.0]), np.eye(3)):
        bent = structure.positions + np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0, 0]])
        framed, found = eckart_frame(bent @ rotation.T + 1.0, structure.positions, structure.masses)
        np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(found) == pytest.approx(1.0)
        np.testing.assert_allclose(framed[:, 2], structure.positions[:, 2], atol=1e-10)


@pytest.mark.parametrize("name", ["CH3OH", "CO2"])
def test_mode_velocities_are_the_derivative_of_mode_coordinates(name: str) -> None:
    structure = molecule(name)
    rng = random(4)
    modes = normal_modes(structure, model_hessian(structure))
    positions = structure.positions + 0.2 * rng.normal(size=(5, len(structure), 3))
    velocities = rng.normal(size=positions.shape)
    step = 1e-5
    slope = (
        mode_coordinates(positions + step * velocities, modes) - mode_coordinates(positions - step * velocities, modes)
    ) / (2 * step)
    keep = slice(None) if name != "CO2" else slice(2, None)  # the bends of a line turn freely about it
    np.testing.assert_allclose(mode_velocities(positions, velocities, modes)[:, keep], slope[:, keep], atol=2e-6)


def test_rigid_rotation_moves_no_mode() -> None:
    structure = molecule("CH3OH")
    modes = normal_modes(structure, model_hessian(structure))
    positions = structure.positions + 0.1 * random(5).normal(size=(6, 3))
    velocities = np.cross([0.3, -0.2, 0.5], positions) + np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(mode_velocities(positions, velocities, modes), 0, atol=1e-9)
    internal = internal_velocities(positions, velocities, structure.positions, structure.masses)
    np.testing.assert_allclose(internal, 0, atol=1e-10)


def test_sampling_is_thermal_and_sane() -> None:
    structure = molecule("H2O")
    modes = normal_modes(structure, model_hessian(structure, stiffness=1e-6))
    temperature = 300 * KELVIN
    geometries = sample(modes, temperature, 4000, random(6))
    coordinates = (geometries - modes.positions) * np.sqrt(modes.masses)[:, None]
    amplitudes = np.einsum("sia,kia->sk", coordinates, modes.modes)
    energies = 0.5 * modes.angular_frequencies**2 * (amplitudes**2).mean(0)
    # kT/2 of potential energy a mode; the standard error of 4,000 draws is 2.2 %.
    np.testing.assert_allclose(energies / (0.5 * temperature), 1.0, atol=0.09)
    np.testing.assert_array_equal(sample(modes, temperature, 7, random(7)), sample(modes, temperature, 7, random(7)))
    assert np.all(keeps_bonds(modes.numbers, modes.positions, geometries))


def test_sampling_stays_sane_for_soft_and_imaginary_modes() -> None:
    structure = molecule("CH3CH2OH")
    hessian = model_hessian(structure, stiffness=0.0)
    values, vectors = np.linalg.eigh(hessian)
    soft = vectors[:, 8]
    modes = normal_modes(structure, hessian - (values[8] + 1e-3) * np.outer(soft, soft))
    assert modes.wavenumbers[0] < 0
    geometries = sample(modes, 1000 * KELVIN, 300, random(8))
    assert np.all(keeps_bonds(modes.numbers, modes.positions, geometries))
    assert 0.02 < np.abs(geometries - modes.positions).mean() < 1.0


def test_modes_travel_as_arrays() -> None:
    structure = molecule("H2O")
    modes = normal_modes(structure, model_hessian(structure), np.tile(np.eye(3), 3))
    again = NormalModes.from_arrays({**modes.to_arrays(), "something else": np.zeros(1)})
    for name, values in modes.to_arrays().items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_internal_coordinates_have_their_finite_differences() -> None:
    structure = molecule("CH3CH2OH")
    structure = structure.moved(structure.positions + 0.1 * random(9).normal(size=structure.positions.shape))
    checked = set()
    for coordinate in internal_coordinates(structure):
        if coordinate.kind not in ("stretch", "bend", "torsion"):
            continue
        slope = np.empty(structure.positions.size)
        for i in range(len(slope)):
            shift = np.zeros(len(slope))
            shift[i] = 1e-5
            ends = [_value(structure.positions + s * shift.reshape(-1, 3), coordinate) for s in (1, -1)]
            slope[i] = ((ends[0] - ends[1] + np.pi) % (2 * np.pi) - np.pi) / 2e-5
        np.testing.assert_allclose(coordinate.row, slope, atol=1e-8)
        checked.add(coordinate.kind)
    assert checked == {"stretch", "bend", "torsion"}


def _value(positions: np.ndarray, coordinate: InternalCoordinate) -> float:
    points = positions[list(coordinate.atoms)]
    if coordinate.kind == "stretch":
        return float(np.linalg.norm(points[0] - points[1]))
    u, v = points[0] - points[1], points[2] - points[1]
    if coordinate.kind == "bend":
        return float(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))
    axis = v / np.linalg.norm(v)
    w = points[3] - points[2]
    first, second = u - (u @ axis) * axis, w - (w @ axis) * axis
    return float(np.arctan2(np.cross(axis, first) @ second, first @ second))


def test_every_internal_coordinate_ignores_rigid_motion() -> None:
    for name in ("CH3CH2OH", "CO2", "C2H2", "H2CO", "CH3CONH2", "C6H6"):
        structure = molecule(name)
        rigid = [np.tile(axis, (len(structure), 1)) for axis in np.eye(3)]
        rigid += [np.cross(axis, structure.positions) for axis in np.eye(3)]
        for coordinate in internal_coordinates(structure):
            for motion in rigid:
                assert coordinate.row @ motion.ravel() == pytest.approx(0, abs=1e-6), (name, coordinate.kind)


def test_optimisation_finds_the_minimum_in_few_labels(tblite: LabelEngine) -> None:
    start = molecule("CH3CH2OH")
    start = start.moved(start.positions + 0.1 * random(10).normal(size=start.positions.shape))
    result = optimise(start, tblite.label)
    assert result.largest_force < 5e-5
    assert np.abs(tblite.label(result.structure).forces).max() < 5e-5
    assert result.labels < 40
    with pytest.raises(RunStopped, match="did not converge in 3 labels"):
        optimise(start, tblite.label, max_labels=3)


def test_an_optimisation_that_knows_the_hessian_of_a_similar_level_takes_fewer_labels() -> None:
    pytest.importorskip("tblite")
    cheap, engine = (create_engine(LabelSettings(engine="tblite", method=name)) for name in ("GFN2-xTB", "GFN1-xTB"))
    minimum, hessian, _, modes = analysed(cheap, molecule("CH3CH2OH"))
    begin = stiff_hessian(modes)
    assert np.linalg.eigvalsh(begin).min() > 1e-4
    # All of its stiff curvature: along the directions of modes that are not raised, it is the Hessian.
    stiff = modes.modes[modes.wavenumbers > 100].reshape(-1, 3 * len(minimum)) / np.repeat(np.sqrt(modes.masses), 3)
    assert np.allclose(stiff @ begin @ stiff.T, stiff @ hessian @ stiff.T, atol=1e-6)
    taught, untaught = optimise(minimum, engine.label, begin), optimise(minimum, engine.label)
    assert taught.largest_force < 5e-5
    assert taught.labels < untaught.labels
    assert abs(taught.label.energy - untaught.label.energy) < 1e-6


def test_an_optimisation_is_not_pushed_about_by_a_net_force(tblite: LabelEngine) -> None:
    """Integration grids leave one, which no motion of the molecule takes away."""
    start = molecule("CH3OH")
    start = start.moved(start.positions + 0.1 * random(11).normal(size=start.positions.shape))
    plain = optimise(start, tblite.label)

    def label(structure: Structure) -> Label:
        own = tblite.label(structure)
        return replace(own, forces=own.forces + np.array([1e-4, 0.0, 3e-4]))

    found = optimise(start, label)
    assert found.labels <= plain.labels + 2
    assert found.label.energy == pytest.approx(plain.label.energy, abs=1e-8)


def test_optimisation_says_which_label_failed() -> None:
    from hpcir.errors import LabelFailed

    def failing(structure: Structure) -> Label:
        raise LabelFailed("water: the SCF did not converge")

    with pytest.raises(RunStopped, match="SCF did not converge"):
        optimise(molecule("H2O"), failing)


def test_a_light_diatomic_has_the_analytic_curvature() -> None:
    """A Morse oscillator like H2: two displacements of 0.02 bohr alone put it 2 cm-1 too high."""
    depth, width, rest = 0.17, 1.04, 1.4
    structure = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, rest]]))

    def label(geometry: Structure) -> Label:
        apart = geometry.positions[1] - geometry.positions[0]
        length = float(np.linalg.norm(apart))
        decay = np.exp(-width * (length - rest))
        force = 2 * depth * width * decay * (1 - decay) * apart / length
        return Label(depth * (1 - decay) ** 2, np.array([force, -force]), 0.1 * length**2 * apart / length)

    labels = [label(geometry) for geometry in displaced_geometries(structure)]
    modes = normal_modes(structure, *derivatives_from_labels(structure, label(structure), labels))
    mass = structure.masses[0] / 2
    exact = np.sqrt(2 * depth * width**2 / mass) / PER_CM
    assert modes.wavenumbers[0] == pytest.approx(exact, abs=0.01)
    slope = 0.1 * 2 * rest
    assert modes.intensities[0] == pytest.approx(KM_PER_MOL_PER_E2_AMU * slope**2 / (mass / AMU), rel=1e-5)
