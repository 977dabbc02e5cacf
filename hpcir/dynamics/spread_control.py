"""A control variate for means over rings whose centroid is held: nearly all of their noise, taken away exactly.

A mean force over the beads differs from the force at the centroid q by what the beads' spread makes of its curvature,
    < F >_beads = F(q) + D^2F(q) : S / 2 + ...,   S = sum_p (x_p - q)(x_p - q)^T / P = sum_k>0 X_k X_k^T / P,
and nearly all of its noise is that of S. By parts, < X_ki dH_P/dX_kj > = delta_ij P k_B T for every normal mode k of
the ring and all coordinates i, j, whatever the potential. In mass-weighted eigenvectors of the Hessian at q, with the
eigenvalues W_i, the symmetrised
    Z_ij = sum_k (X_ki dH_P/dX_kj - delta_ij P k_B T) / P (omega_k^2 + (W_i + W_j) / 2)
has the mean zero exactly, and is S less its mean where the potential is harmonic. So < F > - D^2F(q) : Z / 2 has the
same mean as < F > and noise of the next order only (a zero-variance estimator: Assaraf, Caffarel, Phys. Rev. Lett. 83,
4682, 1999). Dipoles likewise.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.ring_polymer import RingPolymer
from hpcir.models.evaluator import Evaluator

# Displacements (bohr, of the whole molecule) for derivatives of forces and dipoles.
STEP = 0.02


class SpreadControl:
    """Z of rings about centroids (N, 3, G), added up over frames."""

    def __init__(self, evaluator: Evaluator, ring: RingPolymer, centroids: FloatArray, masses: FloatArray) -> None:
        self.evaluator, self.ring, self.centroids = evaluator, ring, centroids
        self.roots = np.repeat(np.sqrt(masses), 3)
        self.curvatures, self.basis = self._eigenvectors()
        self.total = np.zeros_like(self.basis)
        self.frames = 0

    def _eigenvectors(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues (G, 3N), none below 0, and eigenvectors (G, 3N, 3N), in columns, of mass-weighted Hessians."""
        size = len(self.roots)
        directions = np.broadcast_to(np.eye(size), (self.centroids.shape[2], size, size))
        plus, minus, _ = self._displaced(STEP * directions)
        hessian = (minus[0] - plus[0]) / (2 * STEP)
        values, vectors = np.linalg.eigh(
            0.5 * (hessian + hessian.transpose(0, 2, 1)) / np.outer(self.roots, self.roots)
        )
        return np.maximum(values, 0.0), vectors

    def add(self, x: FloatArray, forces: FloatArray) -> None:
        """A frame: beads and forces (N, 3, P G)."""
        moved, pulled = (self._in_basis(self.ring.to_modes(array), power) for array, power in ((x, 1), (forces, -1)))
        diagonal = np.arange(len(self.roots))
        half = 0.5 * (self.curvatures[:, :, None] + self.curvatures[:, None, :])
        for k in range(1, self.ring.beads):
            square = self.ring.frequencies[k] ** 2
            product = moved[k, :, :, None] * (square * moved[k] - pulled[k])[:, None, :]
            product = 0.5 * (product + product.transpose(0, 2, 1))
            product[:, diagonal, diagonal] -= self.ring.bead_temperature
            self.total += product / (self.ring.beads * (square + half))
        self.frames += 1

    def _in_basis(self, modes: FloatArray, power: int) -> FloatArray:
        """(P, G, 3N): normal modes of the ring (N, 3, P, G), times masses^(power / 2), in the eigenvectors."""
        weighted = modes.reshape(len(self.roots), *modes.shape[2:]) * (self.roots**power)[:, None, None]
        return np.asarray(weighted.transpose(1, 2, 0)[:, :, None, :] @ self.basis)[:, :, 0]

    def take(self) -> tuple[FloatArray, FloatArray]:
        """D^2F : Z / 2 (N, 3, G) and D^2mu : Z / 2 (3, G) of the frames since the last call; nan where beads were
        lost."""
        mean = self.total / max(self.frames, 1)
        lost = ~np.isfinite(mean).all((1, 2))
        values, vectors = np.linalg.eigh(np.where(lost[:, None, None], 0.0, mean))
        values[lost] = np.nan
        self.total, self.frames = np.zeros_like(self.total), 0
        directions = (self.basis @ vectors).transpose(0, 2, 1) / self.roots
        lengths = np.linalg.norm(directions, axis=2)
        plus, minus, centre = self._displaced(STEP * directions / lengths[:, :, None])
        weights = 0.5 * values * (lengths / STEP) ** 2
        force, dipole = (
            np.einsum("gm,gmi->ig", weights, up + down - 2 * middle[:, None])
            for up, down, middle in zip(plus, minus, centre, strict=True)
        )
        return force.reshape(self.centroids.shape), dipole

    def _displaced(
        self, displacements: FloatArray
    ) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        """Forces (G, M, 3N) and dipoles (G, M, 3) at the centroids plus and minus displacements (G, M, 3N), and at the
        centroids themselves, (G, 3N) and (G, 3)."""
        geometries, count, size = displacements.shape
        every = np.concatenate([displacements, -displacements, np.zeros((geometries, 1, size))], axis=1)
        beads = self.ring.beads
        forces, dipoles = np.zeros_like(every), np.zeros((*every.shape[:2], 3))
        for first in range(0, every.shape[1], beads):
            part = every[:, first : first + beads]
            room = np.zeros((geometries, beads, size))
            room[:, : part.shape[1]] = part
            # Lanes are bead after bead, geometries innermost.
            moved = self.centroids[:, :, None] + room.transpose(2, 1, 0).reshape(-1, 3, beads, geometries)
            lanes = moved.reshape(-1, 3, beads * geometries)
            found = self.evaluator.evaluate(lanes)[1].reshape(size, beads, geometries).transpose(2, 1, 0)
            forces[:, first : first + beads] = found[:, : part.shape[1]]
            found = self.evaluator.dipoles(lanes)[0].reshape(3, beads, geometries).transpose(2, 1, 0)
            dipoles[:, first : first + beads] = found[:, : part.shape[1]]
        plus, minus = (forces[:, :count], dipoles[:, :count]), (forces[:, count:-1], dipoles[:, count:-1])
        return plus, minus, (forces[:, -1], dipoles[:, -1])
