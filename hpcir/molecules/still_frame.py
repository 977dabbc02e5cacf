"""The frame of a trajectory that does not turn: dynamics with rotation, seen as if it had no angular momentum.

From one geometry to the next the frame turns as the angular momentum of the step says (Jellinek, Li, Phys. Rev. Lett.
62, 241, 1989); what is left of the motion is vibration, the same that dynamics without rotation has but for centrifugal
distortion. No minimum is needed as a reference, so that torsions and rearrangements have no jumps.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray


def still_frames(positions: FloatArray, masses: FloatArray, linear: bool = False) -> FloatArray:
    """Rotations (T, 3, 3, R) at the geometries 1 .. T of positions (T + 1, N, 3, R) in bohr, masses (N,): a vector v of
    geometry t is rotation[t - 1] @ v in the frame of geometry 0, turned back.

    linear: the molecule's minimum is linear; about its axis of least inertia its bends turn it, and the frame does not.
    Exact for a rigid body, of second order in the step for others.
    """
    weights = masses / masses.sum()
    relative = positions - np.einsum("i,tiar->tar", weights, positions)[:, None]
    middle, moved = 0.5 * (relative[1:] + relative[:-1]), np.diff(relative, axis=0)
    momentum = np.einsum("i,tiar->tra", masses, np.cross(middle, moved, axis=2))
    squared = np.einsum("i,tiar,tiar->tr", masses, middle, middle)
    inertia = squared[..., None, None] * np.eye(3) - np.einsum("i,tiar,tibr->trab", masses, middle, middle)
    if linear:
        axes = np.linalg.eigh(inertia)[1][..., 1:]
        keep = np.matmul(axes, np.swapaxes(axes, -1, -2))
        inertia, momentum = np.matmul(np.matmul(keep, inertia), keep), np.einsum("trab,trb->tra", keep, momentum)
    turned = np.matmul(np.linalg.pinv(inertia, rcond=1e-10, hermitian=True), momentum[..., None])[..., 0]
    back = np.swapaxes(_cayley(turned), -1, -2)
    for step in range(1, len(back)):
        back[step] = np.matmul(back[step - 1], back[step])
    return np.ascontiguousarray(np.moveaxis(back, 1, -1))


def joined_frames(parts: list[FloatArray]) -> FloatArray:
    """Rotations (T, 3, 3, R) of `still_frames` of consecutive stretches of one trajectory, each from the end of the one
    before, in the frame of the first stretch."""
    whole = [parts[0]]
    for part in parts[1:]:
        whole.append(np.einsum("abr,tbcr->tacr", whole[-1][-1], part))
    return np.concatenate(whole)


def _cayley(turned: FloatArray) -> FloatArray:
    """Rotations (..., 3, 3) about vectors (..., 3) by the angle whose half has half of their length for its tangent:
    (1 - A/2)^-1 (1 + A/2) with A v = turned x v."""
    half = np.zeros((*turned.shape, 3))
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        half[..., a, b], half[..., b, a] = -0.5 * turned[..., c], 0.5 * turned[..., c]
    return np.asarray(np.linalg.solve(np.eye(3) - half, np.eye(3) + half))
