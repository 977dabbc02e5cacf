"""A label engine as the potential of trajectories."""

from __future__ import annotations

import numpy as np

from hpcir.errors import LabelFailed
from hpcir.labels import Label
from hpcir.labels.potential import EnginePotential
from hpcir.molecules.structures import Structure


def test_dipoles_of_ions_are_about_the_centre_of_mass() -> None:
    """Fixed point charges: what an engine says about the centre of nuclear charge, moved, against the definition."""
    numbers, charges = np.array([8, 1, 1, 1]), np.array([-0.5, 0.5, 0.5, 0.5])
    positions = np.random.default_rng(1).standard_normal((4, 3))
    ion = Structure(numbers, positions, charge=1)

    class PointCharges:
        def label(self, structure: Structure) -> Label:
            centre = numbers @ structure.positions / numbers.sum()
            return Label(0.0, np.zeros((4, 3)), charges @ (structure.positions - centre))

    potential = EnginePotential(PointCharges(), ion, print)  # type: ignore[arg-type]
    replicas = potential.replicas(numbers, 2, masses=ion.masses)
    dipoles = replicas.evaluate_with_dipoles(np.stack([positions, positions + 3.0], axis=-1)).dipoles
    mass_centre = ion.masses @ positions / ion.masses.sum()
    assert np.allclose(dipoles, (charges @ (positions - mass_centre))[:, None])


def test_a_retired_replica_costs_no_labels() -> None:
    class Counting:
        count = 0

        def label(self, structure: Structure) -> Label:
            self.count += 1
            raise LabelFailed("never")

    said: list[str] = []
    engine = Counting()
    hydrogen = Structure(np.array([1, 1]), np.zeros((2, 3)))
    potential = EnginePotential(engine, hydrogen, said.append).replicas(hydrogen.numbers, 1)  # type: ignore[arg-type]
    still = np.zeros((2, 3, 1))
    for _ in range(3):
        energies, forces = potential.evaluate(still)
        assert np.isnan(energies).all()
        assert np.isnan(forces).all()
    assert engine.count == 1
    assert "never" in said[0]
