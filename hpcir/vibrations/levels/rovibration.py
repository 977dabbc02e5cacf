"""The molecule in its Eckart frame: normal coordinates, moments of inertia, Coriolis couplings.

Watson, Mol. Phys. 15, 479, 1968 (nonlinear) and 19, 465, 1970 (linear molecules).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.thermal import is_linear
from hpcir.molecules.structures import centre
from hpcir.vibrations.normal_modes import NormalModes


@dataclass(frozen=True)
class EckartFrame:
    """A molecule of N atoms at its minimum, in its principal axes about the centre of mass, with n normal coordinates.

    masses (N,) electron masses; reference (N, 3) bohr; modes (n, N, 3) mass-weighted and orthonormal; frequencies (n,)
    hartree; axes (3, 3): rows are the principal axes in the original frame, by ascending moment of inertia; linear: the
    molecule is linear, along the first axis.
    """

    masses: FloatArray
    reference: FloatArray
    modes: FloatArray
    frequencies: FloatArray
    axes: FloatArray
    linear: bool

    def __len__(self) -> int:
        return len(self.frequencies)

    def positions(self, coordinates: FloatArray) -> FloatArray:
        """Geometries (..., N, 3) in bohr at normal coordinates Q (..., n) in bohr sqrt(electron mass)."""
        return self.reference + np.tensordot(coordinates, self.modes / np.sqrt(self.masses)[:, None], 1)

    @cached_property
    def inertia(self) -> FloatArray:
        """(3, 3) moments of inertia of the reference, electron masses bohr^2."""
        squared = (self.reference**2).sum()
        outer = np.einsum("i,ia,ib->ab", self.masses, self.reference, self.reference)
        return np.asarray(np.eye(3) * np.trace(outer) - outer) if squared else np.zeros((3, 3))

    @cached_property
    def inertia_slopes(self) -> FloatArray:
        """a_k (n, 3, 3): derivatives of the moments of inertia by the normal coordinates, at the reference."""
        cross = np.einsum("i,ia,kib->kab", np.sqrt(self.masses), self.reference, self.modes)
        trace = np.trace(cross, axis1=1, axis2=2)
        return np.asarray(2 * trace[:, None, None] * np.eye(3) - cross - cross.transpose(0, 2, 1))

    @cached_property
    def coriolis(self) -> FloatArray:
        """zeta (3, n, n), antisymmetric: zeta^a_kl = sum_i (l_ik x l_il)_a, so that pi_a = sum_kl zeta^a_kl Q_k P_l."""
        return np.asarray(np.cross(self.modes[:, None], self.modes[None]).sum(2).transpose(2, 0, 1))

    @property
    def turning(self) -> tuple[int, ...]:
        """The axes about which the molecule has moments of inertia: all, or the two across a line."""
        return (1, 2) if self.linear else (0, 1, 2)

    def reciprocal_inertia(self, coordinates: FloatArray) -> FloatArray:
        """mu (..., 3, 3) at normal coordinates (..., n): (I'')^-1 I0 (I'')^-1 with I'' = I0 + sum_k a_k Q_k / 2.

        For linear molecules I'' is a number and mu stands for both axes across the line.
        """
        half = self.inertia + 0.5 * np.tensordot(coordinates, self.inertia_slopes, 1)
        if not self.linear:
            inverse = np.linalg.inv(half)
            return np.asarray(inverse @ self.inertia @ inverse)
        # The two diagonal elements differ by rounding alone, and those between them vanish.
        number = self.inertia[1, 1] / half[..., 1, 1] ** 2
        return np.asarray(number[..., None, None] * np.diag([0.0, 1.0, 1.0]))

    @cached_property
    def rotational_constants(self) -> FloatArray:
        """A, B, C (3,) of the reference in hartree, descending; a linear molecule's first one is 0."""
        moments = np.diag(self.inertia)
        return np.array([0.5 / moments[a] if a in self.turning else 0.0 for a in range(3)])


def eckart_frame_of(modes: NormalModes) -> EckartFrame:
    """The frame of a harmonic analysis, in principal axes. Imaginary modes keep their negative frequency."""
    relative = modes.positions - centre(modes.positions, modes.masses)
    outer = np.einsum("i,ia,ib->ab", modes.masses, relative, relative)
    _, vectors = np.linalg.eigh(np.trace(outer) * np.eye(3) - outer)
    axes = vectors.T.copy()
    axes[2] *= np.sign(np.linalg.det(axes))
    return EckartFrame(
        masses=modes.masses,
        reference=relative @ axes.T,
        modes=modes.modes @ axes.T,
        frequencies=modes.angular_frequencies,
        axes=axes,
        linear=is_linear(modes.positions, modes.masses),
    )


def ground_state_constants(frame: EckartFrame, cubic: FloatArray) -> FloatArray:
    """A0, B0, C0 (3,) in hartree: the rotational constants averaged over zero-point motion, by second-order
    perturbation theory; cubic (n, n, n) force constants by dimensionless normal coordinates, hartree.

    B_0 = B_e - sum_r alpha_r / 2 (Mills, in "Molecular Spectroscopy: Modern Research", 1972, eq. 64); the Coriolis sum
    is taken pair by pair, where its resonances cancel.
    """
    omega, slopes = frame.frequencies, frame.inertia_slopes
    moments = np.diag(frame.inertia)
    shift = np.zeros(3)
    for b in frame.turning:
        inverse = np.array([1 / moments[x] if x in frame.turning else 0.0 for x in range(3)])
        shift[b] += 0.75 * float((slopes[:, b] ** 2 @ inverse / omega).sum())
        gap, total = np.subtract.outer(omega, omega), np.add.outer(omega, omega)
        pairs = frame.coriolis[b] ** 2 * gap**2 / (np.outer(omega, omega) * total)
        shift[b] -= 0.5 * float(pairs.sum())
        shift[b] += 0.5 * float(np.einsum("rrs,s->", cubic, slopes[:, b, b] / omega**1.5))
    return np.asarray(frame.rotational_constants + frame.rotational_constants**2 * shift)
