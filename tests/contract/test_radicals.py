"""Open shells: fields are followed downhill to a minimum, contaminated spins have a word, other states no label."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.errors import LabelFailed
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM

pyscf_scf = pytest.importorskip("hpcir.labels.pyscf_scf")

SETTINGS = LabelSettings(functional="hf", basis="sto-3g", density_fitting=False)


def cyanide() -> Structure:
    positions = np.array([[0.0, 0, 0], [0, 0, 1.17]]) * ANGSTROM
    return Structure(np.array([6, 7]), positions, multiplicity=2, name="CN")


def hydrogens(apart: float) -> Structure:
    """Three hydrogen atoms in a line, neighbours this far apart in angstrom."""
    positions = np.array([[0.0, 0, 0], [apart, 0, 0], [2 * apart, 0, 0]]) * ANGSTROM
    return Structure(np.array([1, 1, 1]), positions, multiplicity=2, name="H3")


def field_of(structure: Structure):
    shop = pyscf_scf.workshop(structure, SETTINGS)
    return lambda: pyscf_scf.mean_field(shop, structure.positions, SETTINGS, 0, coarse=False)


def test_an_excited_state_is_followed_to_the_ground_state():
    """The radical CN with its unpaired electron in the pi system is a saddle point: the sigma state lies lower."""
    from pyscf.scf import addons

    make = field_of(cyanide())
    ground = make()
    ground.kernel()
    ground = pyscf_scf.stable(ground, make)
    for hole in range(int(ground.mol.nelec[1])):
        excited = make()
        occupations = np.array(ground.mo_occ)
        occupations[1, [hole, ground.mol.nelec[1]]] = 0, 1
        addons.mom_occ(excited, ground.mo_coeff, occupations)
        excited.kernel(dm0=excited.make_rdm1(ground.mo_coeff, occupations))
        if excited.converged and 0.01 < excited.e_tot - ground.e_tot < 1.0:
            break
    else:
        pytest.fail("no excited state was found")
    excited.get_occ = type(excited).get_occ.__get__(excited)
    followed = pyscf_scf.stable(excited, make)
    assert followed.e_tot < excited.e_tot - 0.005
    assert pyscf_scf.stable(ground, make).e_tot == pytest.approx(ground.e_tot, abs=1e-5)


def test_closed_shells_are_left_alone():
    field = field_of(Structure(np.array([1, 1]), hydrogens(0.74).positions[:2], name="H2"))()
    field.kernel()
    assert pyscf_scf.stable(field, lambda: pytest.fail("made another field")) is field
    assert pyscf_scf.excess_spin(field) == 0


def test_a_geometry_of_another_state_has_no_label():
    """Three atoms that let go of each other are a doublet only by half: <S^2> goes towards 1.75."""
    from hpcir.labels.pyscf_engine import PyscfEngine

    engine = PyscfEngine(SETTINGS)
    assert engine.label(hydrogens(0.9)).method == "default"
    with pytest.raises(LabelFailed, match=r"<S\^2> is 0\.\d+ above that of multiplicity 2: .*another electronic state"):
        engine.label(hydrogens(2.0))


def test_a_contaminated_spin_has_a_word():
    from hpcir.labels.pyscf_engine import PyscfEngine

    assert PyscfEngine(SETTINGS).label(hydrogens(1.2)).method == "default (<S^2> 0.16 too large)"
