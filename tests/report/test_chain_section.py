"""The page's section about the chain of levels of theory, and the verdict that it shows."""

from __future__ import annotations

from hpcir.report.chain import chain_section
from hpcir.study.learning.curve import LearningCurve, Round
from hpcir.study.results.chain import BELOW, FRESH, chain_figures, points
from hpcir.study.results.records import ChainLevelFigures, IndependentTest, LabelFigures, OtherModel

BELOW_IT = ChainLevelFigures("GFN2 <xTB>", 3000, 2, 60.0, "", points(LearningCurve([Round(0, 3000)])))
LABELS = LabelFigures("B3LYP", 20, 10, 0, 300.0, {"round 0": 10, "round 1": 10, "test": 10}, 0)
CURVE = LearningCurve(
    [Round(n, labels, force_rmse_kcal_per_mol_angstrom=error) for n, labels, error in ((0, 10, 0.5), (1, 20, 0.25))],
    "the label budget of 20 is spent",
)
TEST = IndependentTest(
    10,
    force_rmse_kcal_per_mol_angstrom=0.2,
    dipole_rmse_debye=0.01,
    others={FRESH: OtherModel(2.0, 0.1), BELOW: OtherModel(4.0, 0.2)},
)


def test_the_chain_says_what_it_saved() -> None:
    """Thirty labels of the last level took 300 s, so 3,000 would have taken 30,000 s."""
    found = chain_figures([BELOW_IT], LABELS, CURVE, TEST)
    assert found is not None
    assert (found.levels[-1].labels, found.levels[-1].seconds) == (20, 200.0)
    assert found.seconds_at_the_last == 30_000.0
    for words in ("3000 of GFN2 <xTB>", "0.2 kcal/mol/A", "2 kcal/mol/A and 0.1 D without the levels below"):
        assert words in found.verdict


def test_a_run_of_one_level_has_no_chain() -> None:
    assert chain_figures([], LABELS, CURVE, TEST) is None
    assert chain_section(None) == ""


def test_the_section_has_each_level_with_its_learning_curve() -> None:
    page = chain_section(chain_figures([BELOW_IT], LABELS, CURVE, TEST))
    assert "GFN2 &lt;xTB&gt;" in page
    assert "3000 (2 failed)" in page
    assert "10: 0.5, 20: 0.25" in page
    assert page.count("<tr>") == 3
