"""The conformer families of a target as the summary has them; families.json beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcir.storage import layout
from hpcir.storage.json_result import write_json
from hpcir.storage.records import as_dict
from hpcir.study.context import Context
from hpcir.study.production.families import Ensemble
from hpcir.study.results.records import Family
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.units import ANGSTROM, KCAL_PER_MOL


def family_rows(
    ensemble: Ensemble, started: Sequence[int], spectra: Mapping[str, SpectrumResult]
) -> tuple[Family, ...]:
    """A row for each family; started: the family that each main trajectory began in; spectra: those by name among
    which the families' own are."""
    lowest = min(item.energy for _, item, _ in ensemble.conformers())
    rows = []
    for number, family in enumerate(ensemble.families):
        own = spectra.get(layout.family_set(number))
        rows.append(
            Family(
                name=family.name,
                weight=ensemble.weights[number],
                weight_stderr=ensemble.weight_errors[number],
                harmonic_weight=family.weight,
                conformers=len(family.members),
                free_energies_kcal_per_mol=tuple((item.energy - lowest) / KCAL_PER_MOL for item in family.members),
                trajectories=list(started).count(number),
                bands=None if own is None else own.bands,
            )
        )
    return tuple(rows)


def write_families(context: Context, ensemble: Ensemble, started: Sequence[int]) -> None:
    """families.json: the families, and the geometries of all their conformers in angstrom (rank 0)."""
    rows = [as_dict(row) for row in family_rows(ensemble, started, {})]
    geometries = [(item.structure.positions / ANGSTROM).tolist() for _, item, _ in ensemble.conformers()]
    write_json(context.directory / layout.FAMILIES, {"families": rows, "angstrom": geometries})
