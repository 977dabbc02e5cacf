"""Exchange-correlation integrals block by block of the grid, against those with the orbitals in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto

from hpcir.labels import pyscf_grid
from hpcir.labels.pyscf_grid import CachedIntegrator, grouped

# Two molecules so far apart that none of one's orbitals reaches the other's part of the grid.
APART = "O 0 0 0.12; H 0.05 0.79 -0.48; H 0 -0.74 -0.45; F 30 0 0; H 30.9 0.1 0"


def field_of(spin: int, xc: str) -> Any:
    molecule = gto.M(atom=APART, basis="def2-svp", spin=spin, charge=spin, verbose=0)
    field = (dft.UKS if spin else dft.RKS)(molecule, xc=xc)
    field.grids.level = 0
    field.grids.build(with_non0tab=False, sort_grids=False)
    return field


@pytest.mark.parametrize(("spin", "xc"), [(0, "bp86"), (1, "bp86"), (0, "lda,vwn")])
def test_blocks_of_neighbouring_points_add_up_to_the_whole(spin: int, xc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy, potential and derivatives by the nuclei, with orbitals left out where they vanish."""
    field = field_of(spin, xc)
    molecule, grids = field.mol, field.grids
    density = np.asarray(field.get_init_guess())
    matrices = density.reshape(-1, molecule.nao, molecule.nao)

    def found() -> tuple[Any, ...]:
        integrator = CachedIntegrator()
        integrate = integrator.nr_uks if spin else integrator.nr_rks
        electrons, energy, potential = integrate(molecule, grids, xc, density)
        assert integrator.cache(molecule, grids, xc, forces=True)
        return electrons, energy, potential, integrator.gradient(molecule, grids, xc, matrices)

    whole = found()
    monkeypatch.setattr(pyscf_grid, "MEMORY_BYTES", 0)
    grouped(molecule, grids)
    sizes = {
        len(index) if index is not None else molecule.nao for _, index, _ in _direct(molecule, grids, xc)._blocks(grids)
    }
    assert min(sizes) < molecule.nao
    for one, other in zip(whole, found(), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-7)


def _direct(molecule: Any, grids: Any, xc: str) -> CachedIntegrator:
    integrator = CachedIntegrator()
    integrator.cache(molecule, grids, xc)
    return integrator


def test_a_label_is_the_same_with_and_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converged on both grids: the orbitals left out change forces by far less than the SCF's threshold."""
    from hpcir.deck.sections import LabelSettings
    from hpcir.labels import create_engine
    from tests.contract.test_engines import WATER

    labels = []
    for memory in (pyscf_grid.MEMORY_BYTES, 0):
        monkeypatch.setattr(pyscf_grid, "MEMORY_BYTES", memory)
        labels.append(create_engine(LabelSettings(grid_level=1)).label(WATER))
    np.testing.assert_allclose(labels[1].forces, labels[0].forces, atol=2e-6)
    assert labels[1].energy == pytest.approx(labels[0].energy, abs=1e-7)
