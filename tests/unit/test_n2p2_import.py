"""What `hpcir import` makes of n2p2 potentials: models for the vector kernels, lockstep replicas, training ranges."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hpcir
from hpcir.cli import main
from hpcir.errors import InputError
from hpcir.exchange.n2p2 import export_n2p2, import_n2p2
from hpcir.exchange.n2p2.conversion import as_model
from hpcir.exchange.n2p2.files import unknown_keywords
from hpcir.exchange.n2p2.potential import N2p2Potential
from hpcir.exchange.n2p2.training_range import extrapolations
from hpcir.models.model import Model
from tests.unit.test_n2p2 import METHANOL, POSITIONS, plain_atomic, random_model, write_potential

ALIKE = (" 5.0", " 8.0"), (" 6.0", " 8.0"), (" 6.5", " 8.0"), (" 7.0", " 8.0")


def for_vector_kernels(folder: Path) -> Path:
    """`write_potential`'s files with what the vector kernels cannot run replaced: type 3, zeta 3.5, four cutoffs."""
    path = folder / "input.nn"
    lines = []
    for text in path.read_text().splitlines():
        line = text
        if line.startswith("symfunction_short"):
            line = re.sub(r"^(\S+ \S+) 3 ", r"\1 9 ", line).replace(" 3.5 ", " 3 ")
            for old, new in ALIKE:
                line = line.replace(old, new)
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")
    return folder


def replicas(count: int) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=[3, count]))
    return POSITIONS[:, :, None] + 0.2 * random.standard_normal((*POSITIONS.shape, count))


def assert_same(one, other, atol: float = 1e-12) -> None:
    assert one.energy == pytest.approx(other.energy, rel=1e-12)
    assert one.energy_spread == pytest.approx(other.energy_spread, abs=1e-11)
    np.testing.assert_allclose(one.forces, other.forces, atol=atol)
    np.testing.assert_allclose(one.forces_spread, other.forces_spread, atol=atol)
    np.testing.assert_allclose(one.charges, other.charges, atol=atol)
    np.testing.assert_allclose(one.dipole, other.dipole, atol=10 * atol)


@pytest.mark.parametrize("activations", ["ttl", "stl", "ssl", "tl"])
@pytest.mark.parametrize(
    "scaling",
    [[], ["scale_symmetry_functions"], ["scale_symmetry_functions_sigma", "scale_min_short -0.5"]],
    ids=["none", "scale", "sigma"],
)
@pytest.mark.parametrize("cutoff", ["1", "2", "6"])
def test_model_in_the_vector_kernels_is_the_same_potential(tmp_path, cutoff, scaling, activations):
    """Against the plain loops over n2p2's published formulas, the general kernels, and the vector kernels."""
    folder = for_vector_kernels(write_potential(tmp_path, cutoff, scaling, activations, "mean_energy 0.25"))
    potential = import_n2p2(folder)
    model, reasons = as_model(potential)
    assert model is not None, reasons
    assert_same(model.evaluate(METHANOL, POSITIONS), potential.evaluate(METHANOL, POSITIONS))
    plain = plain_atomic(folder, METHANOL, POSITIONS).sum()
    assert model.evaluate(METHANOL, POSITIONS).energy == pytest.approx(plain, rel=1e-12)


def test_members_with_scaling_of_their_own_and_charges(tmp_path):
    folders = []
    for number, scaling in enumerate(("scale_symmetry_functions", "center_symmetry_functions")):
        folder = for_vector_kernels(write_potential(tmp_path / str(number), "2", [scaling], "tsl"))
        folders.append(folder)
        charges = for_vector_kernels(write_potential(folder / "charges", "2", ["scale_symmetry_functions"], "ttl"))
        text = (charges / "input.nn").read_text()
        (charges / "input.nn").write_text(re.sub(r"atom_energy (\S+) -[\d.]+", r"atom_energy \1 0.01", text))
    (folders[1] / "weights.008.data").write_text((folders[0] / "weights.008.data").read_text().replace("1.", "1.1"))
    potential = import_n2p2(folders, total_charge=1)
    model, reasons = as_model(potential)
    assert model is not None, reasons
    here, there = model.evaluate(METHANOL, POSITIONS), potential.evaluate(METHANOL, POSITIONS)
    assert_same(here, there)
    assert there.energy_spread > 1e-4
    assert here.charges.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((" 9 H C", " 3 H C"), "type 3"),
        (("cutoff_type 1", "cutoff_type 7"), "cutoff_type 7"),
        (("cutoff_type 1", "cutoff_type 1 0.2"), "inner radius 0.2"),
        (("0.1 0.0 8.0", "0.1 0.0 9.0"), "different cutoff radii"),
        ((" 3 8.0 1.2", " 2.5 8.0 1.2"), "whole number"),
        ((" 1 3 8.0 1.2", " 0.5 3 8.0 1.2"), "lambda"),
        (("_short t t l", "_short p t l"), "activation functions p"),
    ],
)
def test_reasons_against_the_vector_kernels_are_named(tmp_path, change, reason):
    folder = for_vector_kernels(write_potential(tmp_path, "1", [], "ttl"))
    text = (folder / "input.nn").read_text()
    assert change[0] in text
    (folder / "input.nn").write_text(text.replace(*change))
    model, reasons = as_model(import_n2p2(folder))
    assert model is None
    assert reason in "; ".join(reasons)


@pytest.mark.parametrize("charges", [False, True])
@pytest.mark.parametrize(("cutoff", "activations"), [("1", "ttl"), ("2", "ppl"), ("7", "stl")])
def test_lockstep_replicas_are_single_evaluations(tmp_path, cutoff, activations, charges):
    folders = [write_potential(tmp_path / str(n), cutoff, ["scale_symmetry_functions"], activations) for n in range(2)]
    weights = folders[1] / "weights.001.data"
    weights.write_text(weights.read_text().replace("-", ""))
    if charges:
        write_potential(folders[0] / "charges", cutoff, [], "ttl")
    potential = import_n2p2(folders, total_charge=-1)
    positions = replicas(5)
    masses = np.linspace(1.0, 16.0, len(METHANOL))
    answer = potential.replicas(METHANOL, 5, masses=masses).evaluate_with_dipoles(positions)
    assert (answer.dipoles is not None) == charges
    for r in range(5):
        single = potential.evaluate(METHANOL, positions[:, :, r])
        assert answer.energies[r] == pytest.approx(single.energy, rel=1e-12)
        np.testing.assert_allclose(answer.forces[:, :, r], single.forces, atol=1e-12)
        if charges:
            origin = masses @ positions[:, :, r] / masses.sum()
            np.testing.assert_allclose(answer.dipoles[:, r], single.charges @ (positions[:, :, r] - origin), atol=1e-11)


def test_export_and_import_give_the_model_back(tmp_path):
    model = random_model()
    model = replace(model, charge={z: replace(c, weights=(*c.weights[:-1], c.weights[-1][:, :1]),
                                              biases=(*c.biases[:-1], c.biases[-1][:, :1]))
                                   for z, c in model.charge.items()})  # fmt: skip
    folders = [tmp_path / f"member-{m}" for m in range(2)]
    for member, folder in enumerate(folders):
        export_n2p2(model, folder, member)
    back, reasons = as_model(import_n2p2(folders))
    assert back is not None, reasons
    assert back.level == "random numbers"
    assert_same(back.evaluate(METHANOL, POSITIONS), model.evaluate(METHANOL, POSITIONS), atol=1e-10)


def test_extrapolation_names_the_atom_and_the_function(tmp_path):
    potential = import_n2p2(write_potential(tmp_path, "1", ["scale_symmetry_functions"], "ttl"))
    features = potential.energy[0].features(METHANOL, neighbours_of(potential))
    oxygen = potential.energy[0].elements[8]
    oxygen.minimum[:], oxygen.maximum[:] = features[1, :3] - 1.0, features[1, :3] + 1.0
    oxygen.maximum[2] = features[1, 2] - 0.5
    for z in (1, 6):
        potential.energy[0].elements[z].minimum[:], potential.energy[0].elements[z].maximum[:] = -1e30, 1e30
    (found,) = extrapolations(potential, METHANOL, POSITIONS)
    assert (found.atom, found.element) == (2, "O")
    assert found.excess == pytest.approx(1.0)
    assert re.match(
        r"atom 2 \(O\): function 3 \(type 9 to H and C, eta .* A\^-2, zeta 8, lambda -1, cutoff", str(found)
    )


def neighbours_of(potential: N2p2Potential):
    from hpcir.exchange.n2p2.networks import find_neighbours

    return find_neighbours(POSITIONS, potential.cutoff)


# -- the command -------------------------------------------------------------------------------------------------


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def write_methanol(path: Path) -> Path:
    from ase import Atoms

    Atoms(METHANOL, POSITIONS * 0.529177210544).write(path)
    return path


def test_command_writes_a_model_for_the_vector_kernels(tmp_path, capsys):
    for number in range(2):
        for_vector_kernels(write_potential(tmp_path / f"in/nnp-{number}", "1", ["scale_symmetry_functions"], "ttl"))
    assert run("import", tmp_path / "in", "--level", "RPBE", "--charge", "1", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "2 members" in printed
    assert "runs in the vector kernels" in printed
    assert "no charge networks" in printed
    model = hpcir.load(tmp_path / "out")
    assert isinstance(model, Model)
    assert (model.level, model.total_charge) == ("RPBE", 1)
    methanol = write_methanol(tmp_path / "methanol.xyz")
    assert run("evaluate", tmp_path / "out", methanol, "-o", tmp_path / "e.xyz") == 0
    printed = capsys.readouterr().out
    assert "leave the training range" in printed
    assert re.search(r"geometry 1, atom \d \([CHO]\): function \d \(type", printed)
    assert run("import", tmp_path / "in", "-o", tmp_path / "out") == 2
    assert "--force" in capsys.readouterr().err


def test_keywords_that_are_not_known_are_told(tmp_path, capsys):
    """Neither those that were read, nor those of n2p2's training, which do not touch the energy."""
    folder = write_potential(tmp_path / "in", "1", ["scale_symmetry_functions"], "ttl")
    settings = tmp_path / "in/input.nn"
    lines = settings.read_text().splitlines()
    extra = ["epochs 10", "kalman_type 0", "conv_length 1.9", "short_energy_fraction 1.0", "nnp_polarizability 3 # new"]
    settings.write_text("\n".join([*lines, *extra]) + "\n")
    assert unknown_keywords(settings) == [("nnp_polarizability", len(lines) + 5)]
    assert run("import", folder, "-o", tmp_path / "out") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "not known here" in line]
    assert len(notes) == 1
    assert f"input.nn:{len(lines) + 5}: keyword 'nnp_polarizability'" in notes[0]


def test_command_says_why_not_the_vector_kernels(tmp_path, capsys):
    write_potential(tmp_path / "in", "7", [], "ppl")
    write_potential(tmp_path / "charges", "7", [], "ttl")
    out = tmp_path / "out"
    assert run("import", tmp_path / "in", "--charges", tmp_path / "charges", "-o", out) == 0
    printed = capsys.readouterr().out
    for reason in ("type 3", "cutoff_type 7", "cutoff radii", "zeta", "activation functions p"):
        assert reason in printed
    assert isinstance(hpcir.load(out), N2p2Potential)
    from ase.io import read

    assert run("evaluate", out, write_methanol(tmp_path / "m.xyz"), "-o", tmp_path / "e.xyz") == 0
    atoms = read(tmp_path / "e.xyz")
    single = import_n2p2(tmp_path / "in", charges=tmp_path / "charges").evaluate(METHANOL, POSITIONS)
    assert atoms.get_potential_energy() == pytest.approx(single.energy * 27.211386245981, rel=1e-9)
    np.testing.assert_allclose(atoms.get_dipole_moment(), single.dipole * 0.529177210544, atol=1e-6)


def test_units_are_taken_as_declared(tmp_path, capsys):
    write_potential(tmp_path / "in", "1", [], "ttl")
    assert run("import", tmp_path / "in", "--energy-unit", "eV", "--length-unit", "A", "-o", tmp_path / "out") == 0
    there = import_n2p2(tmp_path / "in", energy_unit="eV", length_unit="A").evaluate(METHANOL, POSITIONS)
    assert hpcir.load(tmp_path / "out").evaluate(METHANOL, POSITIONS).energy == there.energy
    capsys.readouterr()
    assert run("import", tmp_path / "in", "--energy-unit", "furlong", "-o", tmp_path / "o") == 2
    assert "furlong" in capsys.readouterr().err


def test_folder_without_a_potential_is_named(tmp_path, capsys):
    assert run("import", tmp_path, "-o", tmp_path / "out") == 2
    assert "input.nn" in capsys.readouterr().err
    with pytest.raises(InputError, match="no model here"):
        hpcir.load(tmp_path)
