"""Populations of rotamers in production against the canonical ones, passes, and when they are to be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import rotors, turned
from hpcir.molecules.structures import read_structure
from hpcir.sampling.tempering import Basins, Tally
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.canonical_starts import Canonical, Rotamers
from hpcir.study.results.populations import visits, with_populations
from hpcir.study.results.records import ConformerVerdict
from hpcir.units import KCAL_PER_MOL, KELVIN

INPUTS = Path(__file__).parents[2] / "inputs"
BUTANE = read_structure(INPUTS / "alkanes" / "C4H10.xyz")
GRAPH = bond_graph(BUTANE)
TRANS, PLUS, MINUS = (turned(BUTANE.positions, GRAPH, rotors(GRAPH)[0], angle) for angle in (180.0, 65.0, -65.0))
ROTATABLE = ConformerVerdict(rotatable=1)


def block(rows, sane=None):
    """A block whose trajectories start in the first geometry of each row and go on to the others."""
    frames = np.array(rows).transpose(1, 2, 3, 0)  # time, atom, xyz, trajectory
    count = len(rows)
    return TrajectoryBlock(
        dipoles=np.zeros((2, 3, count)), total_energy=np.zeros((2, count)), snapshots=frames[1:],
        largest_spread=np.zeros(count), trajectory=np.arange(count),
        sane=np.ones(count, bool) if sane is None else np.array(sane), alive=np.ones(count, bool),
        inputs="", starts="", time_between_dipoles=1.0, timestep=1.0, temperature=1e-3,
        start_positions=frames[0], start_velocities=0 * frames[0], start_alive=np.ones(count, bool),
    )  # fmt: skip


def test_shares_and_passes_are_counted_and_mirror_images_are_one():
    found = visits(GRAPH, [block([[TRANS, TRANS, PLUS], [PLUS, MINUS, PLUS], [TRANS, TRANS, TRANS]])])
    rows = {row.name: row for row in found.populations()}
    assert rows["t"].start == pytest.approx(2 / 3)
    assert rows["t"].production == pytest.approx(0.5)
    assert rows["g+"].production == pytest.approx(0.5)
    assert found.passes == 1


def test_lost_trajectories_do_not_count():
    found = visits(GRAPH, [block([[TRANS, TRANS], [PLUS, PLUS]], [True, False])])
    assert [row.name for row in found.populations()] == ["t"]


def sampled(trans: float, error: float = 0.02, goal: float = 0.03, **changes) -> Canonical:
    """A canonical ensemble with a population of trans."""
    shares, errors = np.array([trans, 1 - trans]), np.array([error, error])
    basins = Basins(("t", "g+"), shares, errors, np.diag(errors**2), 40, ())
    kelvin = np.array([300.0, 500.0]) * KELVIN
    return Canonical(
        replace(basins, **changes), np.zeros((0, 14, 3)), (), kelvin, Tally.none(2), 30, goal, left_out=0, key=""
    )


def test_sampled_starts_whose_populations_hold_leave_the_verdict_empty():
    rows = [[TRANS, TRANS]] * 14 + [[PLUS, PLUS]] * 7
    verdict = with_populations(ROTATABLE, BUTANE, [block(rows)], sampled(0.67), 2)
    assert verdict.verdict == ""
    assert verdict.passes == 0
    first = verdict.populations[0]
    assert (first.name, first.production, first.canonical) == ("t", pytest.approx(2 / 3), 0.67)
    assert "30 cycles of replica exchange up to 500 K" in verdict.sampling


def test_populations_that_move_away_from_canonical_ones_are_named():
    rows = [[TRANS, TRANS]] * 14 + [[PLUS, TRANS]] * 18
    verdict = with_populations(ROTATABLE, BUTANE, [block(rows)], sampled(0.44), 2).verdict
    assert "not in equilibrium: " in verdict
    assert "100 +- 3 % in production and 44 +- 2 % in the canonical ensemble" in verdict


def test_a_rotamer_that_production_never_meets_is_named():
    verdict = with_populations(ROTATABLE, BUTANE, [block([[TRANS, TRANS]] * 32)], sampled(0.67), 2)
    assert {row.name for row in verdict.populations} == {"t", "g+"}
    assert "not in equilibrium" in verdict.verdict


def test_what_replica_exchange_did_not_reach_is_said():
    rows = [[TRANS, TRANS]] * 14 + [[PLUS, PLUS]] * 7
    apart = sampled(0.67, unconnected=(("g+",),))
    verdict = with_populations(ROTATABLE, BUTANE, [block(rows)], apart, 2).verdict
    assert "did not connect these rotamers with the others in 30 cycles: g+" in verdict
    vague = with_populations(ROTATABLE, BUTANE, [block(rows)], sampled(0.67, error=0.05), 2).verdict
    assert "known to 5.0 %, not to the 3.0 % asked for (dynamics.population_error)" in vague


def test_low_minima_that_no_chain_came_to_are_said():
    kcal = np.array([0.0, 0.6, 1.2, 2.5]) * KCAL_PER_MOL
    known = Rotamers(("t", "t anti", "g+", "g+ anti"), kcal, np.array([True, False, True, True]))
    found = known.missing(("t",), 300 * KELVIN)
    assert found == (
        "t anti (0.6 kcal/mol above the lowest and outside the region covered by the training data)",
        "g+ (1.2 kcal/mol above the lowest)",
    )
    assert known.missing(("t", "g+", "t anti"), 300 * KELVIN) == ()
    rows = [[TRANS, TRANS]] * 14 + [[PLUS, PLUS]] * 7
    verdict = with_populations(ROTATABLE, BUTANE, [block(rows)], replace(sampled(0.67), missed=found), 4).verdict
    assert "no chain of replica exchange came to these low minima of the model: t anti (0.6" in verdict


def test_harmonic_weights_of_the_minima_stand_beside():
    """Both conformers of one name count together."""
    known = Rotamers(("t", "g+", "t"), np.zeros(3), np.ones(3, bool), np.array([0.4, 0.35, 0.25]))
    assert known.harmonic == pytest.approx({"t": 0.65, "g+": 0.35})
    rows = [[TRANS, TRANS]] * 14 + [[PLUS, PLUS]] * 7
    canonical = replace(sampled(0.67), harmonic=known.harmonic)
    table = with_populations(ROTATABLE, BUTANE, [block(rows)], canonical, 2).populations
    assert [(row.name, row.harmonic) for row in table] == [("t", pytest.approx(0.65)), ("g+", 0.35)]
    assert with_populations(ROTATABLE, BUTANE, [block(rows)], sampled(0.67), 2).populations[0].harmonic is None


def test_starts_in_one_minimum_of_several_are_no_ensemble():
    """Silence is no proof: the rarer the escape, the less is known."""
    verdict = with_populations(ROTATABLE, BUTANE, [block([[TRANS, TRANS]] * 8)], None, None).verdict
    assert "all 8 trajectories start in one rotamer and 0 passes to others were seen" in verdict
    assert with_populations(ROTATABLE, BUTANE, [block([[TRANS, TRANS]] * 8)], None, 1).verdict == ""


def test_earlier_words_are_kept_and_nothing_is_said_of_what_cannot_turn():
    before = ConformerVerdict(rotatable=1, verdict="one minimum does not represent the ensemble")
    verdict = with_populations(before, BUTANE, [block([[TRANS, TRANS]] * 8)], None, 2).verdict
    assert verdict.startswith("one minimum does not represent the ensemble; all 8 trajectories")
    stiff, ethane = ConformerVerdict(rotatable=0), read_structure(INPUTS / "alkanes" / "C2H6.xyz")
    assert with_populations(stiff, ethane, [], None, None) is stiff
