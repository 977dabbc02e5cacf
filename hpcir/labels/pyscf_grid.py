"""Exchange-correlation integrals with the orbitals on the grid kept in memory between SCF iterations.

PySCF evaluates the atomic orbitals on the grid in every iteration; for small molecules they fit into memory. For larger
ones they are evaluated block by block of neighbouring points, and only those that do not vanish there take part. The
formulas are PySCF's own: rho = sum_ij D_ij phi_i phi_j and V = sum_p phi_i w_p vxc phi_j with its gradient terms.
Arrays are orbital by point here (the grid is the contiguous index). Only stages that label import this module.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf.dft import gen_grid, numint
from pyscf.gto.eval_gto import eval_gto, make_screen_index

from hpcir.arrays import FloatArray

# A block: orbitals (components, its orbitals, points), the indices of these (None: all), the points' weights.
Block = tuple[FloatArray, "NDArray[np.intp] | None", FloatArray]

# Orbitals of a grid larger than this are evaluated anew in every iteration.
MEMORY_BYTES = 600_000_000
# Points in a block: orbitals and derivatives of a block stay in the second-level cache.
BLOCK = 2048
# Likewise of orbitals that are evaluated block by block: neighbouring points, so that few orbitals reach them.
DIRECT_BLOCK = 1024
# Orbitals whose values on a block of the grid are all smaller are left out there: forces change by less than 1e-7.
CUTOFF = 1e-9
_NAMES = ("GTOval_sph", "GTOval_sph_deriv1", "GTOval_sph_deriv2")
_COMPONENTS = (1, 4, 10)
# Second derivatives in PySCF's order xx xy xz yy yz zz, as a symmetric matrix of component indices.
_SECOND = ((4, 5, 6), (5, 7, 8), (6, 8, 9))


class CachedIntegrator(numint.NumInt):  # type: ignore[misc]
    """PySCF's integrator, with orbitals cached or block by block for LDA and GGA; everything else goes to PySCF."""

    KINDS = ("LDA", "GGA")

    def __init__(self, for_forces: bool = False) -> None:
        super().__init__()
        # Whether to evaluate the derivative that the forces need together with the rest, rather than again.
        self._for_forces = for_forces
        self._orbitals: FloatArray = np.empty((0, 0, 0))
        self._grid: Any = None
        # The molecule and the last grid, where orbitals are evaluated block by block, with the order of derivatives.
        self._direct: tuple[Any, int] | None = None
        # Kept from label to label: fresh memory of this size costs as much as filling it.
        self._buffer = np.empty(0)

    def nr_rks(
        self, mol: Any, grids: Any, xc_code: str, dms: Any, relativity: int = 0, hermi: int = 1, *rest: Any, **more: Any
    ) -> Any:
        """Electrons, energy and potential (nao, nao) of one density matrix."""
        if np.ndim(dms) != 2 or hermi != 1 or not self.cache(mol, grids, xc_code):
            return super().nr_rks(mol, grids, xc_code, dms, relativity, hermi, *rest, **more)
        electrons, energy, potentials = self._integrate(grids, xc_code, np.asarray(dms)[None])
        return electrons[0], energy, potentials[0]

    def nr_uks(
        self, mol: Any, grids: Any, xc_code: str, dms: Any, relativity: int = 0, hermi: int = 1, *rest: Any, **more: Any
    ) -> Any:
        """Electrons (2,), energy and potentials (2, nao, nao) of the two spin density matrices."""
        if np.ndim(dms) != 3 or hermi != 1 or not self.cache(mol, grids, xc_code):
            return super().nr_uks(mol, grids, xc_code, dms, relativity, hermi, *rest, **more)
        return self._integrate(grids, xc_code, np.asarray(dms))

    def cache(self, mol: Any, grids: Any, xc_code: str, forces: bool = False) -> bool:
        """Have the orbitals of this grid at hand, with one derivative more for forces; False for what is PySCF's."""
        kind = self._xc_type(xc_code)
        if kind not in self.KINDS:
            return False
        order = (0 if kind == "LDA" else 1) + forces
        if self._grid is grids.coords and len(self._orbitals) >= _COMPONENTS[order]:
            return True
        points = len(grids.weights)
        if 8 * points * mol.nao * _COMPONENTS[order] > MEMORY_BYTES:
            # From memory what is there for the potential; block by block what is not.
            self._direct = (mol, order)
            self._grid, self._orbitals = None, np.empty((0, 0, 0))
            return True
        self._direct = None
        if self._for_forces and not forces and 8 * points * mol.nao * _COMPONENTS[order + 1] <= MEMORY_BYTES:
            order += 1
        count = _COMPONENTS[order]
        if len(self._buffer) < count * mol.nao * points:
            self._buffer = np.empty(count * mol.nao * points)
        mol.eval_gto(_NAMES[order], grids.coords, out=self._buffer)
        self._orbitals = self._buffer[: count * mol.nao * points].reshape(count, mol.nao, points)
        self._grid = grids.coords
        return True

    def _integrate(self, grids: Any, xc_code: str, dms: FloatArray) -> tuple[FloatArray, float, FloatArray]:
        electrons, energy = np.zeros(len(dms)), 0.0
        potentials = np.zeros_like(dms)
        for (orbitals, index, weights), _, rho, exc, wv in self._potential_on_grid(grids, xc_code, dms):
            density = rho[:, 0] @ weights
            electrons += density
            energy += float((rho[:, 0].sum(0) * weights) @ exc)
            for spin in range(len(dms)):
                part = orbitals[0] @ _scaled(orbitals, wv[spin]).T
                if index is None:
                    potentials[spin] += part
                else:
                    potentials[spin][np.ix_(index, index)] += part
        # Half of the plain term was taken, so the sum with the transpose is whole.
        return electrons, energy, potentials + potentials.transpose(0, 2, 1)

    def _blocks(self, grids: Any) -> Iterator[Block]:
        """The orbitals block by block, from memory or evaluated."""
        if self._direct is None:
            for start in range(0, len(grids.weights), BLOCK):
                own = slice(start, start + BLOCK)
                yield self._orbitals[:, :, own], None, grids.weights[own]
            return
        mol, order = self._direct
        # Shells of a block as a molecule of their own.
        part, places = copy.copy(mol), mol.ao_loc
        for start in range(0, len(grids.weights), DIRECT_BLOCK):
            own = slice(start, start + DIRECT_BLOCK)
            coordinates = grids.coords[own]
            shells = np.flatnonzero(make_screen_index(mol, coordinates, cutoff=CUTOFF).any(0))
            if not len(shells):
                continue
            part._bas = mol._bas[shells]
            values = eval_gto(part, _NAMES[order], coordinates)
            orbitals = np.reshape(values, (-1, len(coordinates), values.shape[-1])).transpose(0, 2, 1)
            index = np.concatenate([np.arange(places[shell], places[shell + 1]) for shell in shells])
            yield orbitals, None if len(index) == mol.nao else index, grids.weights[own]

    def _potential_on_grid(self, grids: Any, xc_code: str, dms: FloatArray) -> Iterator[Any]:
        """Yield (block, D phi, rho, exc, weighted potential) block by block; the plain term halved."""
        kind = self._xc_type(xc_code)
        count = 1 if kind == "LDA" else 4
        restricted = len(dms) == 1
        for block in self._blocks(grids):
            orbitals, index, weights = block
            own = dms if index is None else dms[:, index[:, None], index]
            first = own @ orbitals[0]
            rho = np.array([_density(orbitals[:count], spin) for spin in first])
            given = rho[0] if restricted else rho
            exc, vxc = self.eval_xc_eff(xc_code, given[..., 0, :] if count == 1 else given, deriv=1, xctype=kind)[:2]
            wv = np.reshape(vxc, (len(dms), count, -1)) * weights
            wv[:, 0] *= 0.5
            yield block, first, rho, exc, wv

    def gradient(self, mol: Any, grids: Any, xc_code: str, dms: FloatArray) -> FloatArray:
        """Derivative (N, 3) of the exchange-correlation energy by the nuclei, without the motion of the grid.

        -2 sum over the atom's orbitals i and points of grad(phi_i) (w0 D phi)_i + ...: the same as contracting
        PySCF's potential derivatives with the density matrix. `cache(..., forces=True)` must have succeeded.
        """
        rows = np.zeros((3, mol.nao))
        for (orbitals, index, _), first, _, _, wv in self._potential_on_grid(grids, xc_code, dms):
            place = slice(None) if index is None else index
            own = dms if index is None else dms[:, index[:, None], index]
            for dm, spin, weight in zip(own, first, wv, strict=True):
                plain = dm @ _scaled(orbitals, weight) + spin * weight[0]
                for axis in range(3):
                    rows[axis, place] += np.einsum("ip,ip->i", orbitals[1 + axis], plain)
                for other in range(1, len(weight)):
                    scaled = spin * weight[other]
                    for axis in range(3):
                        rows[axis, place] += np.einsum("ip,ip->i", orbitals[_SECOND[axis][other - 1]], scaled)
        return np.array([-2 * rows[:, first:last].sum(1) for first, last in mol.aoslice_by_atom()[:, 2:]])


def grouped(molecule: Any, grids: Any) -> None:
    """Sort a built grid so that neighbouring points stand together."""
    order = gen_grid.arg_group_grids(molecule, grids.coords)
    grids.coords, grids.weights = np.asarray(grids.coords[order], order="C"), grids.weights[order]


def fits(molecule: Any, grids: Any) -> bool:
    """True where the orbitals of a grid, with the derivatives of a GGA, are kept in memory."""
    return bool(8 * len(grids.weights) * molecule.nao * _COMPONENTS[1] <= MEMORY_BYTES)


def _density(orbitals: FloatArray, product: FloatArray) -> FloatArray:
    """Density and its gradient (1 or 4, points) from orbitals (1 or 4, nao, points) and D phi (nao, points)."""
    rho = np.einsum("kip,ip->kp", orbitals, product)
    rho[1:] *= 2
    return rho


def _scaled(orbitals: FloatArray, weights: FloatArray) -> FloatArray:
    """sum_k w_k phi_k (nao, points)."""
    total = orbitals[0] * weights[0]
    for component in range(1, len(weights)):
        total += orbitals[component] * weights[component]
    return total
