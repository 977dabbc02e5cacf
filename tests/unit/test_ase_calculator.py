"""hpcir.ase.Calculator in ASE's own optimiser, vibrations and dynamics."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Infrared

from hpcir.ase import Calculator
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.errors import InputError
from hpcir.exchange.potentials import load_potential
from hpcir.models.evaluation import Evaluation
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM, KM_PER_MOL_PER_E2_ME, PER_CM

WATER = Atoms("OH2", positions=[[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.02, -0.77, -0.46]])


class Springs:
    """An analytic stand-in for a model: a harmonic molecule of fixed charges, in atomic units."""

    elements = (1, 8)
    level = ""
    constant = 0.4
    charges = np.array([-0.7, 0.35, 0.35])

    def __init__(self, charge: int = 0) -> None:
        self.charge, self.minimum = charge, WATER.positions * ANGSTROM

    def require(self, numbers) -> None:
        if not set(np.asarray(numbers).tolist()) <= set(self.elements):
            raise InputError("the model knows no such element")

    def evaluate(self, numbers, positions, charge=None) -> Evaluation:
        energy, forces = 0.0, np.zeros_like(positions)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            rest = np.linalg.norm(self.minimum[i] - self.minimum[j])
            vector = positions[j] - positions[i]
            length = np.linalg.norm(vector)
            energy += 0.5 * self.constant * (length - rest) ** 2
            pull = self.constant * (length - rest) * vector / length
            forces[i] += pull
            forces[j] -= pull
        total = self.charge if charge is None else charge
        charges = self.charges + total / 3
        dipole = charges @ (positions - numbers @ positions / numbers.sum())
        zero = np.zeros_like(positions)
        return Evaluation(energy, forces, charges, dipole, 0.01, zero + 0.02, zero[:, 0] + 0.03, zero[0] + 0.04)


def model(charged: bool = True) -> Model:
    """An untrained model of H and O."""
    functions = SymmetryFunctionSet((1, 8), 8.0, ((0.3, 1.5), (0.2, 3.0)), ((0.1, 1.5),), ((1, 1), (2, -1)))

    def committee(z: int, kind: int) -> NetworkCommittee:
        random = np.random.Generator(np.random.Philox(key=[z, kind]))
        count = functions.n_features
        sizes = [(5, count), (4, 5), (1, 4)]
        return NetworkCommittee(
            active=np.arange(count),
            shift=random.uniform(0, 0.4, count),
            scale=random.uniform(0.5, 2.0, count),
            weights=tuple(0.4 * random.standard_normal((3, *size)) for size in sizes),
            biases=tuple(0.2 * random.standard_normal((3, size[0])) for size in sizes),
        )

    return Model(
        functions=functions,
        energy={z: committee(z, 1) for z in (1, 8)},
        charge={z: committee(z, 2) for z in (1, 8)} if charged else {},
        offsets={1: -0.5, 8: -75.0},
    )


def test_units_and_spreads():
    atoms, springs = WATER.copy(), Springs()
    atoms.positions[1, 1] += 0.05
    atoms.calc = Calculator(springs)
    expected = springs.evaluate(atoms.numbers, atoms.positions * ANGSTROM)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy * units.Hartree, rel=1e-7)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces * units.Hartree / units.Bohr, rtol=1e-7)
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected.dipole * units.Bohr, rtol=1e-7)
    np.testing.assert_allclose(atoms.get_charges(), expected.charges)
    results = atoms.calc.results
    assert results["energy_spread"] == pytest.approx(0.01 / EV)
    np.testing.assert_allclose(results["forces_spread"], 0.02 / EV_PER_ANGSTROM)
    np.testing.assert_allclose(results["dipole_spread"], 0.04 / ANGSTROM)


def test_prints_what_it_is():
    assert repr(Calculator(Springs(), charge=1)) == "hpcir.ase.Calculator(H, O, charge +1)"


def test_forces_are_the_gradient_of_a_real_model():
    atoms = WATER.copy()
    atoms.calc = Calculator(model())
    forces, step = atoms.get_forces(), 1e-4
    for atom in range(3):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * step
                moved.calc = atoms.calc
                energies.append(moved.get_potential_energy())
            assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-6)


def test_optimiser_finds_the_minimum():
    atoms = WATER.copy()
    atoms.rattle(0.1, seed=3)
    atoms.calc = Calculator(Springs())
    assert BFGS(atoms, logfile=None).run(fmax=1e-6, steps=200)
    np.testing.assert_allclose(atoms.get_all_distances(), WATER.get_all_distances(), atol=1e-5)


def test_infrared_gives_the_modes_and_intensities_of_the_analytic_molecule(tmp_path):
    atoms = WATER.copy()
    atoms.calc = Calculator(Springs())
    infrared = Infrared(atoms, name=str(tmp_path / "ir"), delta=0.002)
    infrared.run()
    infrared.summary(log=io.StringIO())
    hessian, derivative = np.zeros((9, 9)), np.zeros((9, 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        unit = WATER.positions[j] - WATER.positions[i]
        unit /= np.linalg.norm(unit)
        row = np.zeros(9)
        row[3 * i : 3 * i + 3], row[3 * j : 3 * j + 3] = -unit, unit
        hessian += Springs.constant * np.outer(row, row)
    for atom in range(3):
        derivative[3 * atom : 3 * atom + 3] = Springs.charges[atom] * np.eye(3)
    masses = np.repeat(atoms.get_masses(), 3) * units._amu / units._me
    squares, modes = np.linalg.eigh(hessian / np.sqrt(np.outer(masses, masses)))
    intensities = KM_PER_MOL_PER_E2_ME * ((modes / np.sqrt(masses)[:, None]).T @ derivative) ** 2
    found = infrared.get_frequencies().real
    np.testing.assert_allclose(found[6:], np.sqrt(squares[6:]) / PER_CM, rtol=1e-4)
    np.testing.assert_allclose(infrared.intensities[6:] * 42.255, intensities.sum(1)[6:], rtol=2e-3)


def energy_error(step: float) -> float:
    """The largest change of the total energy (eV) over 20 fs of ASE's dynamics."""
    atoms = WATER.copy()
    atoms.calc = Calculator(Springs())
    random = np.random.Generator(np.random.Philox(key=[5, 0]))
    widths = np.sqrt(600 * units.kB * atoms.get_masses())[:, None]
    atoms.set_momenta(widths * random.standard_normal((3, 3)))
    start, errors = atoms.get_total_energy(), []
    dynamics = VelocityVerlet(atoms, timestep=step * units.fs)
    dynamics.attach(lambda: errors.append(abs(atoms.get_total_energy() - start)))
    dynamics.run(round(20 / step))
    return max(errors)


def test_dynamics_conserves_energy_to_second_order_in_the_step():
    coarse, fine = energy_error(0.2), energy_error(0.05)
    assert fine < 1e-4
    assert coarse / fine == pytest.approx(16.0, rel=0.15)


def test_an_ions_dipole_is_about_the_centre_of_nuclear_charge():
    calculator = Calculator(Springs(), charge=1)
    atoms = WATER.copy()
    atoms.calc = calculator
    before = atoms.get_dipole_moment()
    assert atoms.get_charges().sum() == pytest.approx(1.0)
    atoms.positions += [3.0, -2.0, 5.0]
    np.testing.assert_allclose(atoms.get_dipole_moment(), before, atol=1e-12)
    mass_centre = atoms.get_center_of_mass()
    direct = atoms.get_charges() @ (atoms.positions - mass_centre)
    np.testing.assert_allclose(calculator.dipole_about(mass_centre), direct, atol=1e-12)


def test_no_charge_networks_is_an_error_not_a_zero():
    atoms = WATER.copy()
    atoms.calc = Calculator(model(charged=False))
    assert np.isfinite(atoms.get_potential_energy())
    assert "dipole" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError, match="no charge networks"):
        atoms.get_dipole_moment()


def test_unknown_elements_and_cells_are_named():
    atoms = Atoms("NH", positions=[[0, 0, 0], [0, 0, 1.0]])
    atoms.calc = Calculator(model())
    with pytest.raises(InputError, match="has no network for N"):
        atoms.get_potential_energy()
    atoms = WATER.copy()
    atoms.set_cell([10, 10, 10])
    atoms.pbc = True
    atoms.calc = Calculator(model())
    with pytest.raises(InputError, match="periodic"):
        atoms.get_forces()


def test_loads_model_directories_and_n2p2_folders(tmp_path):
    from hpcir.exchange.n2p2 import export_n2p2, import_n2p2

    original = model()
    original.save(tmp_path / "ours")
    export_n2p2(original, tmp_path / "n2p2", member=1)
    import_n2p2(tmp_path / "n2p2").save(tmp_path / "saved")
    numbers, positions = WATER.numbers, WATER.positions * ANGSTROM
    energies = [load_potential(tmp_path / name).evaluate(numbers, positions).energy for name in ("n2p2", "saved")]
    assert energies[0] == energies[1]
    assert load_potential(tmp_path / "ours").evaluate(numbers, positions).energy == pytest.approx(
        original.evaluate(numbers, positions).energy, rel=1e-14
    )
    with pytest.raises(InputError, match="no model here"):
        load_potential(tmp_path / "nowhere")


def test_results_are_written_and_read_by_ase(tmp_path):
    from ase.io import read, write

    atoms = WATER.copy()
    atoms.calc = Calculator(Springs())
    atoms.get_forces()
    write(tmp_path / "frame.xyz", atoms)
    again = read(tmp_path / "frame.xyz")
    np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-7)
    np.testing.assert_allclose(again.get_dipole_moment(), atoms.get_dipole_moment(), atol=1e-7)
