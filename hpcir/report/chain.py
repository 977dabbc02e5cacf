"""The section of the page about the chain of levels of theory: labels, learning curve and label time of each."""

from __future__ import annotations

from hpcir.report.tables import text
from hpcir.report.verdict import known
from hpcir.runtime.progress import duration_text
from hpcir.study.results.records import ChainFigures, ChainLevelFigures

TITLES = ("level", "labels", "label time", "held-out force error / (kcal/mol/Å) by labels", "no more labels because")


def chain_section(chain: ChainFigures | None) -> str:
    """The section; '' for a run of one level."""
    if chain is None:
        return ""
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in TITLES)
    rows = "".join(_row(level) for level in chain.levels)
    verdict = f'<p class="hint">{text(chain.verdict)}.</p>' if chain.verdict else ""
    return (
        '<section class="card" id="chain"><h2>Levels of theory</h2><div class="scroll">'
        f'<table class="chain"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{verdict}</section>'
    )


def _row(level: ChainLevelFigures) -> str:
    failed = f" ({level.failed} failed)" if level.failed else ""
    seconds = known(level.seconds)
    cells = [
        f"{level.labels}{failed}",
        "–" if not seconds else duration_text(seconds),
        _curve(level),
        level.stopped_because or "–",
    ]
    cells_html = "".join(f"<td>{text(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{text(level.level)}</th>{cells_html}</tr>'


def _curve(level: ChainLevelFigures) -> str:
    """The learning curve in words: '40: 0.54, 60: 0.31'."""
    pairs = [(point.labels, known(point.force_rmse_kcal_per_mol_angstrom)) for point in level.learning]
    return ", ".join(f"{labels}: {error:.3g}" for labels, error in pairs if error is not None) or "–"
