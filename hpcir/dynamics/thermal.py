"""Thermal velocities, and removal of the motion of the whole molecule."""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.streams import trajectory_stream
from hpcir.molecules.structures import centre

# A molecule whose smallest moment of inertia is below this fraction of the largest counts as linear.
LINEAR_INERTIA_RATIO = 1e-4


def is_linear(positions: FloatArray, masses: FloatArray) -> bool:
    """True where all atoms lie on a line (or there is one atom only): positions (N, 3), masses (N,)."""
    relative = positions - centre(positions, masses)
    moments = np.linalg.eigvalsh((relative * masses[:, None]).T @ relative)
    # The two smaller second moments vanish for a line; the smallest moment of inertia is their sum.
    return bool(moments[0] + moments[1] <= LINEAR_INERTIA_RATIO * max(moments[2], 1e-300))


def degrees_of_freedom(positions: FloatArray, masses: FloatArray, rotation: str = "keep") -> int:
    """3N, less the translations, less the rotations of the shape when rotation is 'remove'; at least 1.

    positions (N, 3) in bohr, masses (N,).
    """
    atoms = len(masses)
    degrees = 3 * atoms - 3
    if rotation == "remove" and atoms > 1:
        degrees -= 2 if is_linear(positions, masses) else 3
    return max(1, degrees)


def remove_motion(
    positions: FloatArray, velocities: FloatArray, masses: FloatArray, rotation: bool = True, linear: bool = False
) -> FloatArray:
    """Velocities (N, 3, R) without total momentum and, when `rotation`, without angular momentum.

    positions (N, 3, R); masses (N,). omega solves I omega = L about the centre of mass; the pseudo-inverse leaves the
    missing rotation of linear geometries alone. linear: the molecule's minimum is linear. What turns a bent geometry of
    it about its axis of least inertia are its bends, out of phase (the vibrational angular momentum), and stays.
    """
    velocities = velocities - np.einsum("i,icr->cr", masses, velocities) / masses.sum()
    if not rotation or len(masses) < 2:
        return np.asarray(velocities)
    r = positions - np.einsum("i,icr->cr", masses, positions) / masses.sum()
    momentum = np.einsum("i,icr->rc", masses, np.cross(r, velocities, axis=1))
    squared = np.einsum("i,icr,icr->r", masses, r, r)
    inertia = squared[:, None, None] * np.eye(3) - np.einsum("i,iar,ibr->rab", masses, r, r)
    if linear:
        axes = np.linalg.eigh(inertia)[1][:, :, 1:]
        keep = np.matmul(axes, np.swapaxes(axes, 1, 2))
        inertia, momentum = np.matmul(np.matmul(keep, inertia), keep), np.einsum("rab,rb->ra", keep, momentum)
    omega = np.einsum("rab,rb->ar", np.linalg.pinv(inertia, rcond=1e-10, hermitian=True), momentum)
    return np.asarray(velocities - np.cross(np.broadcast_to(omega, r.shape), r, axis=1))


def kinetic_energy(velocities: FloatArray, masses: FloatArray) -> FloatArray:
    """(R,) kinetic energies in hartree of velocities (N, 3, R) in atomic units."""
    return np.asarray(0.5 * np.einsum("i,icr,icr->r", masses, velocities, velocities))


def thermal_velocities(
    positions: FloatArray,
    masses: FloatArray,
    temperature: float | FloatArray,
    seed: int,
    trajectories: IntArray,
    *,
    rotation: str = "keep",
    linear: bool = False,
    purpose: str = "velocities",
) -> FloatArray:
    """Maxwell-Boltzmann velocities (N, 3, R) of the trajectories with the ids (R,), centre of mass at rest.

    positions (N, 3, R) in bohr, masses (N,) in electron masses, temperature (or one for each trajectory) in hartree
    (k_B T). rotation: 'keep' leaves the thermal rotation, 'remove' takes it out (without rescaling: what is left is
    Maxwell-Boltzmann in the degrees of freedom that are left); linear: as in `remove_motion`.
    """
    shape = (len(masses), 3)
    draws = [trajectory_stream(seed, purpose, int(t)).standard_normal(shape) for t in trajectories]
    width = np.sqrt(np.asarray(temperature) / masses[:, None, None])
    return remove_motion(positions, width * np.stack(draws, axis=-1), masses, rotation == "remove", linear)
