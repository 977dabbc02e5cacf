"""Methanol and random basins of it, for tests of spectra by their minima."""

from __future__ import annotations

import numpy as np

from hpcir.molecules.structures import Structure
from hpcir.spectra.basins import Basin
from hpcir.spectra.projection import rigid_directions
from hpcir.units import ANGSTROM


def generator(seed: int, repeat: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, repeat]))


def methanol() -> Structure:
    from ase.build import molecule

    atoms = molecule("CH3OH")
    return Structure(atoms.numbers, atoms.positions * ANGSTROM)


def random_basin(structure: Structure, seed: int, count: int = 6) -> Basin:
    """Orthonormal directions free of rigid motions: as good as normal modes for kinetic averages."""
    masses = structure.masses
    rigid = rigid_directions(structure.positions[None], masses)[0]
    vectors = generator(seed).normal(size=(count, 3 * len(masses)))
    vectors -= vectors @ rigid.T @ rigid
    modes = np.linalg.qr(vectors.T)[0].T.reshape(count, -1, 3)
    return Basin(structure.positions, modes, np.linspace(500, 3000, count))
