"""The targets on the page: the structure as understood, each molecule with its figures, the conformer families."""

from __future__ import annotations

import base64
from urllib.parse import quote

from hpcir.molecules.pieces import formula, isotope_words, pieces
from hpcir.molecules.strings import drawn
from hpcir.report.data import ReportData
from hpcir.report.tables import band_table, short, text
from hpcir.report.tables import facts as facts_table
from hpcir.report.verdict import known
from hpcir.storage import layout
from hpcir.study.results.records import TargetSummary

TITLES = ("molecule", "atoms", "force RMSE / (kcal/mol/Å)", "dipole RMSE / D", "trajectories", "left out")


def molecules(data: ReportData) -> str:
    """A row for each molecule, then the bands of all but the first, folded away; empty for one molecule."""
    if len(data.targets) < 2:
        return ""
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in TITLES)
    rows = "".join(_row(name, target, name in data.pages) for name, target in data.targets.items())
    bands = "".join(
        f"<details><summary>Bands of {text(name)}</summary>"
        f'<div class="scroll">{band_table(target.bands or ())}</div></details>'
        for name, target in list(data.targets.items())[1:]
    )
    return (
        '<section class="card" id="molecules"><h2>Molecules</h2><div class="scroll">'
        f'<table class="columns"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{bands}</section>'
    )


def understood(data: ReportData) -> str:
    """The molecule of the run's structure as its bonds are understood: a drawing, formula, SMILES, charge, pieces and
    isotopes; empty where there is no structure."""
    start = data.start
    if start is None:
        return ""
    picture = drawn(start)
    facts: dict[str, object] = {"formula": formula(start.symbols), "charge": start.charge}
    facts["multiplicity"] = start.multiplicity
    if picture is not None:
        facts["SMILES"] = picture.smiles
    parts = pieces(start)
    if len(parts) > 1:
        facts["pieces"] = ", ".join(formula([start.symbols[atom] for atom in part]) for part in parts)
    if heavy := isotope_words(start):
        facts["isotopes"] = heavy
    image = ""
    if picture is not None:
        code = base64.b64encode(picture.drawing.encode()).decode()
        image = f'<img class="drawing" alt="{text(picture.smiles)}" src="data:image/svg+xml;base64,{code}">'
    return (
        f'<section class="card" id="structure"><h2>Structure of {text(data.name)}, as understood</h2>'
        f'<div class="beside">{image}{facts_table(facts)}</div></section>'
    )


def _row(name: str, target: TargetSummary, linked: bool) -> str:
    shown = text(name)
    if linked:
        shown = f'<a href="{quote(layout.target_folder(name))}/{layout.REPORT}">{shown}</a>'
    test, md = target.test, target.md
    values: list[object] = [target.atoms]
    values += [None, None] if test is None else [test.force_rmse_kcal_per_mol_angstrom, test.dipole_rmse_debye]
    values += [None, None] if md is None else [md.trajectories, md.left_out]
    cells = "".join(f"<td>{text(short(value))}</td>" for value in values)
    return f'<tr><th scope="row">{shown}</th>{cells}</tr>'


def families(data: ReportData) -> str:
    """The families of conformers of the first molecule: name, population, conformers, trajectories; empty without."""
    rows = []
    for number, family in enumerate(data.summary.families or (), 1):
        weight, lowest = known(family.weight), known(min(family.free_energies_kcal_per_mol, default=None))
        cells = [
            "–" if weight is None else f"{100 * weight:.2g} %",
            "–" if lowest is None else f"{lowest:.2f}",
            short(family.conformers),
            short(family.trajectories),
            family.name,
        ]
        rows.append(f'<tr><th scope="row">{number}</th>' + "".join(f"<td>{text(c)}</td>" for c in cells) + "</tr>")
    if not rows:
        return ""
    titles = ("family", "population", "ΔG / (kcal/mol)", "conformers", "trajectories", "what it has in common")
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    table = f'<table class="columns wordy"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    title = "<h2>Families of conformers</h2>"
    return f'<section class="card" id="families">{title}<div class="scroll">{table}</div></section>'
