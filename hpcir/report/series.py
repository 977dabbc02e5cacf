"""What the page of several molecules shows besides the first one: each with its figures and bands, and the families of
conformers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hpcir.report.data import ReportData
from hpcir.report.tables import band_table, plain_number, short, text

COLUMNS = (
    ("test", "force_rmse_kcal_per_mol_angstrom", "force RMSE / (kcal/mol/Å)"),
    ("test", "dipole_rmse_debye", "dipole RMSE / D"),
    ("md", "trajectories", "trajectories"),
    ("md", "left_out", "left out"),
)


def molecules(data: ReportData) -> str:
    """A row for each molecule, then the bands of all but the first, folded away; empty for one molecule."""
    if len(data.targets) < 2:
        return ""
    titles = ["molecule", "atoms", *(title for *_, title in COLUMNS)]
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    rows = "".join(_row(name, target, name in data.pages) for name, target in data.targets.items())
    bands = "".join(
        f"<details><summary>Bands of {text(name)}</summary>"
        f'<div class="scroll">{band_table(target.get("bands") or [])}</div></details>'
        for name, target in list(data.targets.items())[1:]
    )
    return (
        '<section class="card" id="molecules"><h2>Molecules</h2><div class="scroll">'
        f'<table class="columns"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{bands}</section>'
    )


def _row(name: str, target: dict[str, Any], linked: bool) -> str:
    shown = text(name)
    if linked:
        shown = f'<a href="targets/{quote(name)}/report.html">{shown}</a>'
    values = [target.get("atoms")] + [(target.get(part) or {}).get(key) for part, key, _ in COLUMNS]
    cells = "".join(f"<td>{text(short(value))}</td>" for value in values)
    return f'<tr><th scope="row">{shown}</th>{cells}</tr>'


def families(data: ReportData) -> str:
    """The families of conformers of the first molecule: name, population, conformers, trajectories; empty without."""
    rows = []
    for number, family in enumerate(data.summary.get("families") or [], 1):
        weight = plain_number(family.get("weight"))
        lowest = min((family.get("free_energies_kcal_per_mol") or [None]), key=lambda g: (g is None, g))
        cells = [
            "–" if weight is None else f"{100 * weight:.2g} %",
            "–" if plain_number(lowest) is None else f"{lowest:.2f}",
            short(family.get("conformers")),
            short(family.get("trajectories")),
            str(family.get("name") or ""),
        ]
        rows.append(f'<tr><th scope="row">{number}</th>' + "".join(f"<td>{text(c)}</td>" for c in cells) + "</tr>")
    if not rows:
        return ""
    titles = ("family", "population", "ΔG / (kcal/mol)", "conformers", "trajectories", "what it has in common")
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    table = f'<table class="columns wordy"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    title = "<h2>Families of conformers</h2>"
    return f'<section class="card" id="families">{title}<div class="scroll">{table}</div></section>'
