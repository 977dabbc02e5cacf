"""What a run says of the conformers that its trajectories met, and of bands whose errors nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import torsion, turned
from hpcir.molecules.rotamer_names import stereogenic
from hpcir.molecules.rotamers import pivots
from hpcir.molecules.structures import Structure, read_structure
from hpcir.spectra.bands import Band
from hpcir.study.results.summary import band_line
from hpcir.study.results.trust_map import ensemble

INPUTS = Path(__file__).parents[2] / "inputs"


def rotated(structure: Structure, angles: list[float]) -> np.ndarray:
    """Geometries with the first rotatable torsion at these angles."""
    graph = bond_graph(structure)
    item = pivots(graph, flips=False)[0].atoms
    made = np.array([turned(structure.positions, graph, item, angle) for angle in angles])
    np.testing.assert_allclose([torsion(frame, item) for frame in made], angles, atol=1e-6)
    return made


def test_one_conformer_and_its_mirror_image_stand_for_the_ensemble() -> None:
    ethanol = read_structure(INPUTS / "ethanol.xyz")
    found = ensemble(ethanol, rotated(ethanol, [60.0])[0], rotated(ethanol, [55.0, 70.0, -62.0, -58.0, 45.0]))
    assert (found.in_minimum, found.conformers, found.verdict) == (1.0, 1, "")


def test_another_conformer_is_told() -> None:
    ethanol = read_structure(INPUTS / "ethanol.xyz")
    found = ensemble(ethanol, rotated(ethanol, [175.0])[0], rotated(ethanol, [-175.0, 170.0, 60.0, -60.0]))
    assert found.in_minimum == 0.5
    assert found.conformers == 2
    assert "one minimum does not represent the ensemble: 50 % of the frames" in found.verdict


@pytest.mark.parametrize("name", ["methanol", "formic-acid"])
def test_nothing_is_said_where_nothing_turns(name: str) -> None:
    structure = read_structure(INPUTS / f"{name}.xyz")
    found = ensemble(structure, structure.positions, structure.positions[None])
    assert found.verdict == ""


def test_bonds_that_cannot_be_assigned_are_no_reason_to_fail() -> None:
    odd = Structure(np.array([2, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]]))
    assert ensemble(odd, odd.positions, odd.positions[None]).verdict == ""


def test_stereogenic_atoms() -> None:
    # CHFClBr, and ethanol, whose carbon has two hydrogens.
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    lengths = np.array([1.1, 1.36, 1.76, 1.94])[:, None] / 0.529177
    chiral = Structure(np.array([6, 1, 9, 17, 35]), np.vstack([np.zeros(3), corners * lengths]))
    assert stereogenic(bond_graph(chiral))
    assert not stereogenic(bond_graph(read_structure(INPUTS / "ethanol.xyz")))


def test_a_band_without_errors_is_told() -> None:
    unknown = float("nan")
    band = Band(1012.34, unknown, 45.6, unknown, 1012.0, unknown, 980.0, 1040.0, unknown, assignment="C-O stretch")
    assert band_line(band) == "band  1012.3 +-    ? cm-1,   45.6 +-    ? km/mol  C-O stretch"
