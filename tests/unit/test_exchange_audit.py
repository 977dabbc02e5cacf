"""The audit finds each fault that is put into a sound data set, names it, and is silent about the sound one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hpcir.exchange.audit import audit, describe, exact_copies
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.molecules.structures import centre
from hpcir.units import ANGSTROM, DEBYE, EV, EV_PER_ANGSTROM, KCAL_PER_MOL

# Methanol: bond springs of a molecule's size, charges of a molecule's size, an all-electron total energy.
NUMBERS = np.array([6, 8, 1, 1, 1, 1])
MINIMUM = ANGSTROM * np.array(
    [
        [-0.047131, 0.664389, 0.0],
        [-0.047131, -0.758551, 0.0],
        [-1.092995, 0.969785, 0.0],
        [0.878534, -1.048458, 0.0],
        [0.437145, 1.080376, 0.891772],
        [0.437145, 1.080376, -0.891772],
    ]
)
CHARGES = np.array([0.35, -0.65, -0.03, 0.39, -0.03, -0.03])
ENERGY = -115.6


def springs(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy and forces of springs between all atoms, stiff along bonds, with a cubic term."""
    rest = np.linalg.norm(MINIMUM[:, None] - MINIMUM[None], axis=-1)
    energy, forces = ENERGY, np.zeros_like(positions)
    for i in range(6):
        for j in range(i):
            stiff = 0.35 if rest[i, j] < 3.0 else 0.05
            vector = positions[j] - positions[i]
            length = np.linalg.norm(vector)
            x = length - rest[i, j]
            energy += 0.5 * stiff * x**2 - 0.3 * stiff * x**3
            pull = (stiff * x - 0.9 * stiff * x**2) * vector / length
            forces[i] += pull
            forces[j] -= pull
    return energy, forces


def sound(count: int = 60, width: float = 0.08, charge: int = 0, wander: float = 0.0) -> Dataset:
    random = np.random.Generator(np.random.Philox(key=[21, count]))
    frames = []
    for n in range(count):
        positions = MINIMUM + width * random.standard_normal((6, 3)) + wander * random.standard_normal(3)
        energy, forces = springs(positions)
        partial = CHARGES + charge / 6
        dipole = partial @ (positions - centre(positions, NUMBERS.astype(float)))
        frames.append(Frame(NUMBERS, positions, energy, forces, dipole, partial, charge, "HF/6-31G", f"g{n}"))
    return Dataset(tuple(frames), "sound")


def changed(dataset: Dataset, change: Callable[[Frame], dict], which: range | None = None) -> Dataset:
    return Dataset(
        tuple(
            replace(frame, **change(frame)) if which is None or n in which else frame
            for n, frame in enumerate(dataset.frames)
        )
    )


def checks(dataset: Dataset) -> set[str]:
    return {finding.check for finding in audit(dataset)}


@pytest.mark.parametrize("width", [0.01, 0.08, 0.2])
def test_a_sound_set_is_passed(width):
    data = sound(width=width)
    assert audit(data) == [], describe(audit(data))
    assert "nothing" in describe([])


def test_a_turned_and_moved_set_is_passed():
    """Frames of an outside trajectory stand anywhere: forces and dipoles turn with the molecule."""
    random = np.random.Generator(np.random.Philox(key=[4, 4]))
    frames = []
    for frame in sound().frames:
        turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        frames.append(
            replace(
                frame,
                positions=frame.positions @ turn.T + 5 * random.standard_normal(3),
                forces=frame.forces @ turn.T,
                dipole=turn @ frame.dipole,
            )
        )
    assert audit(Dataset(tuple(frames))) == []


FORCE_FAULTS = {
    "forces in eV/angstrom read as hartree/bohr": lambda f: {"forces": f.forces / EV_PER_ANGSTROM},
    "forces in hartree/angstrom read as hartree/bohr": lambda f: {"forces": f.forces * ANGSTROM},
    "forces in kcal/mol/angstrom read as eV/angstrom": lambda f: {"forces": f.forces * EV / KCAL_PER_MOL},
    "energies in eV read as hartree": lambda f: {"energy": f.energy / EV},
    "energies in hartree read as kcal/mol": lambda f: {"energy": f.energy * KCAL_PER_MOL},
}


@pytest.mark.parametrize("fault", FORCE_FAULTS)
def test_units_of_energies_and_forces_that_disagree(fault):
    found = [f for f in audit(changed(sound(), FORCE_FAULTS[fault])) if f.check == "force_energy"]
    assert found
    assert found[0].severity == "error"
    same = {
        "forces in kcal/mol/angstrom read as eV/angstrom": "forces in kcal/mol per length read as eV per length",
        "forces in hartree/angstrom read as hartree/bohr": "forces in hartree/angstrom read as hartree/bohr",
    }
    assert same.get(fault, fault) in found[0].advice, found[0].advice


def test_gradients_read_as_forces():
    found = audit(changed(sound(), lambda f: {"forces": -f.forces}))
    assert "gradients" in " ".join(f.advice for f in found if f.check == "force_energy")


def test_forces_of_another_calculation():
    data = sound()
    shuffled = [replace(f, forces=data.frames[(n * 7 + 3) % 60].forces) for n, f in enumerate(data.frames)]
    assert any(f.check == "force_energy" for f in audit(Dataset(tuple(shuffled))))


def test_both_energies_and_forces_in_the_wrong_unit():
    found = audit(changed(sound(), lambda f: {"energy": f.energy / EV, "forces": f.forces / EV}))
    energy = [f for f in found if f.check == "energy_size"]
    assert energy
    assert "eV read as hartree" in energy[0].text


def test_forces_alone_of_an_absurd_size():
    found = checks(changed(sound(), lambda f: {"energy": None, "forces": f.forces * 50}))
    assert found == {"bonds", "force_size"}


@pytest.mark.parametrize("width", [0.01, 0.08, 0.2])
@pytest.mark.parametrize("absent", ["energy", "forces"])
def test_half_of_a_sound_set_is_passed(width, absent):
    data = changed(sound(width=width), lambda f: {absent: None})
    assert audit(data) == [], describe(audit(data))


@pytest.mark.parametrize(
    ("factor", "word"),
    [
        (-1.0, "gradients were read as forces"),
        (1 / EV_PER_ANGSTROM, "eV/A read as hartree/bohr"),
        (EV_PER_ANGSTROM, "hartree/bohr read as eV/A"),
        (EV / KCAL_PER_MOL, "kcal/mol/A read as eV/A"),
    ],
)
def test_forces_alone_are_held_against_the_bonds(factor, word):
    found = audit(changed(sound(), lambda f: {"energy": None, "forces": f.forces * factor}))
    named = [f for f in found if f.check == "bonds"]
    assert named[0].severity == "error"
    assert word in named[0].advice, describe(found)


@pytest.mark.parametrize(
    ("factor", "word"), [(KCAL_PER_MOL / EV, "eV/A read as kcal/mol/A"), (1 / KCAL_PER_MOL, "kcal/mol/A")]
)
def test_energies_and_forces_that_agree_on_a_wrong_unit(factor, word):
    """Small energies are no sign (tight binding, energies of binding): the bonds tell."""
    valence = 11.4 - ENERGY  # GFN2-xTB counts valence electrons alone
    data = changed(sound(), lambda f: {"energy": factor * (f.energy + valence), "forces": factor * f.forces})
    found = [f for f in audit(data) if f.check == "bonds"]
    assert [f.severity for f in found] == ["error"]
    assert word in describe(found)
    assert "and of the energies" in describe(found)


def test_forces_of_other_atoms_do_not_follow_the_bonds():
    data = changed(sound(), lambda f: {"energy": None, "forces": f.forces[::-1]})
    assert "do not follow" in describe([f for f in audit(data) if f.check == "bonds"])


@pytest.mark.parametrize(("factor", "word"), [(EV, "hartree read as eV"), (1 / EV, "eV read as hartree")])
def test_energies_alone_are_held_against_the_bonds(factor, word):
    found = audit(changed(sound(), lambda f: {"forces": None, "energy": f.energy * factor}))
    named = [f for f in found if f.check == "bonds"]
    assert word in named[0].advice, describe(found)


@pytest.mark.parametrize(
    ("factor", "what"), [(1 / ANGSTROM, "angstrom read as bohr"), (ANGSTROM, "bohr read as angstrom")]
)
def test_positions_in_the_wrong_unit(factor, what):
    found = [
        f for f in audit(changed(sound(), lambda f: {"positions": f.positions * factor})) if f.check == "positions"
    ]
    assert found[0].severity == "error"
    assert what in found[0].text


@pytest.mark.parametrize(
    ("factor", "what"),
    [
        (1 / DEBYE, "debye read as e*bohr"),
        (DEBYE, "e*bohr read as debye"),
        (ANGSTROM / DEBYE, "debye read as e*A"),
        (ANGSTROM, "e*A"),
    ],
)
def test_dipoles_in_the_wrong_unit_against_the_charges(factor, what):
    found = [f for f in audit(changed(sound(), lambda f: {"dipole": f.dipole * factor})) if f.check == "dipole"]
    if what == "e*A":  # e*A read as e*bohr is 1 / 1.89, e*bohr read as e*A 1.89
        what = "e*bohr read as e*A"
    assert any(what in f.text for f in found), describe(found)


@pytest.mark.parametrize(("factor", "word"), [(1 / DEBYE, "more than"), (DEBYE, "less than")])
def test_dipoles_off_by_2_5417_without_charges(factor, word):
    data = changed(sound(), lambda f: {"charges": None, "dipole": f.dipole * factor})
    found = [f for f in audit(data) if f.check == "dipole"]
    assert word in found[0].advice
    assert "2.5417" in found[0].advice


def test_dipoles_of_the_wrong_sign_without_charges():
    found = audit(changed(sound(), lambda f: {"charges": None, "dipole": -f.dipole}))
    assert [(f.severity, f.check) for f in found] == [("error", "dipole")]
    assert "signs are reversed" in found[0].advice


def test_an_ion_that_is_not_said_to_be_one():
    ion = sound(charge=1, wander=5.0)
    data = changed(
        ion, lambda f: {"charge": 0, "charges": None, "dipole": f.dipole + centre(f.positions, NUMBERS.astype(float))}
    )
    found = [f for f in audit(data) if f.check == "origin"]
    assert found[0].severity == "error"
    assert "--charge 1 --dipole-origin zero" in found[0].advice


def test_an_ions_origin():
    ion = sound(charge=1, wander=5.0)
    # An even-electron molecule with charge +1 has an odd number of electrons: that is a note.
    assert {f.check for f in audit(ion) if f.severity != "note"} == set()
    moving = changed(ion, lambda f: {"dipole": f.dipole + centre(f.positions, NUMBERS.astype(float)), "charges": None})
    found = [f for f in audit(moving) if f.check == "origin"]
    assert found[0].severity == "error"
    assert "--dipole-origin zero" in found[0].advice
    opposite = changed(
        ion, lambda f: {"dipole": f.dipole - centre(f.positions, NUMBERS.astype(float)), "charges": None}
    )
    assert "declared" in next(f for f in audit(opposite) if f.check == "origin").advice
    standing = [f for f in audit(sound(charge=1)) if f.check == "origin"]
    assert standing[0].severity == "note"


@pytest.mark.parametrize("quantity", ["energy", "forces", "dipole", "charges"])
def test_zeros(quantity):
    zero = {"energy": 0.0, "forces": np.zeros((6, 3)), "dipole": np.zeros(3), "charges": np.zeros(6)}[quantity]
    found = [f for f in audit(changed(sound(), lambda _: {quantity: zero}, range(3, 6))) if f.check == "zero"]
    assert found[0].frames == (3, 4, 5)
    assert f"{quantity} exactly zero in 3 of 60" in found[0].text
    everywhere = audit(changed(sound(), lambda _: {quantity: zero}))
    assert any(f.check == "zero" and len(f.frames) == 60 for f in everywhere)


def test_not_a_number():
    forces = np.full((6, 3), np.nan)
    data = changed(sound(), lambda _: {"forces": forces}, range(10, 12))
    data = changed(data, lambda _: {"dipole": np.zeros(3)}, range(20, 21))
    found = audit(data)
    assert [(f.check, f.frames) for f in found] == [("finite", (10, 11)), ("zero", (20,))]


def test_outliers():
    data = changed(sound(), lambda f: {"energy": f.energy + 3.0}, range(7, 8))
    assert (7,) in [f.frames for f in audit(data) if f.check == "outliers"]
    data = changed(sound(), lambda f: {"energy": f.energy - 3.0}, range(7, 8))
    assert (7,) in [f.frames for f in audit(data) if f.check == "outliers"]
    data = changed(sound(), lambda f: {"forces": f.forces * 50}, range(8, 9))
    assert (8,) in [f.frames for f in audit(data) if f.check == "outliers"]


def test_duplicates():
    data = sound()
    copied = Dataset((*data.frames, data.frames[4], replace(data.frames[5], energy=data.frames[5].energy + 0.01)))
    found = {f.severity: f.frames for f in audit(copied) if f.check == "duplicates"}
    assert found == {"warning": (60,), "error": (61,)}
    assert exact_copies(copied) == [60]


def test_the_copy_that_says_more_stays():
    """A copy without a dipole goes, whichever comes first; one with a quantity that the other lacks does not."""
    data = sound()
    poor, rich = replace(data.frames[4], dipole=None), data.frames[4]
    assert exact_copies(Dataset((poor, rich))) == [0]
    assert exact_copies(Dataset((rich, poor))) == [1]
    assert exact_copies(Dataset((replace(rich, charges=None, forces=None), replace(rich, dipole=None)))) == []


def test_duplicates_that_stand_elsewhere_and_turned():
    data = sound()
    turn = np.linalg.qr(np.random.Generator(np.random.Philox(3)).normal(size=(3, 3)))[0]
    frame = data.frames[7]
    turned = replace(frame, positions=np.round(frame.positions @ turn.T + 5.0, 8), forces=frame.forces @ turn.T,
                     dipole=turn @ frame.dipole)  # fmt: skip
    found = [f for f in audit(Dataset((*data.frames, turned))) if f.check == "duplicates"]
    assert [(f.severity, f.frames) for f in found] == [("warning", (60,))]


def test_overlapping_atoms():
    def squeeze(frame: Frame) -> dict:
        positions = frame.positions.copy()
        positions[3] = positions[1] + [0.2, 0.0, 0.0]
        return {"positions": positions}

    found = [f for f in audit(changed(sound(), squeeze, range(2, 3))) if f.check == "overlap"]
    assert found[0].frames == (2,)


def test_two_levels_of_theory():
    named = changed(sound(), lambda _: {"level": "B3LYP"}, range(30, 60))
    assert any(f.check == "levels" and "B3LYP" in f.text for f in audit(named))
    hidden = changed(sound(), lambda f: {"energy": f.energy - 0.9}, range(40, 60))
    found = [f for f in audit(hidden) if f.check == "levels"]
    assert found[0].frames == tuple(range(40))
    assert "two levels" in found[0].advice


def test_charges_that_do_not_sum():
    found = [f for f in audit(changed(sound(), lambda f: {"charges": f.charges + 1 / 6})) if f.check == "charges"]
    assert "+1.00" in found[0].text
