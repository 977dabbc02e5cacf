"""The Eckart frame of geometries and trajectories, and the frame of a trajectory that does not turn, vectorised.

Eckart, Phys. Rev. 47, 552, 1935; the rotation by the quaternion method of Horn, J. Opt. Soc. Am. A 4, 629, 1987. From
one geometry to the next the frame that does not turn goes with the angular momentum of the step (Jellinek, Li, Phys.
Rev. Lett. 62, 241, 1989): what is left of the motion is vibration, the same that dynamics without rotation has but for
centrifugal distortion, and no minimum is needed as a reference, so that torsions and rearrangements have no jumps.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray


def eckart_frame(positions: FloatArray, reference: FloatArray, masses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positions (..., N, 3) turned and shifted onto a reference (N, 3) with least mass-weighted displacement.

    Returns the positions in the frame (..., N, 3), and the rotations (..., 3, 3): framed = (positions - centre
    of mass) @ rotation.T + reference's centre of mass; a vector v (..., N, 3) becomes v @ rotation.T. Any leading
    shape; for trajectories kept as (T, N, 3, R) pass np.moveaxis(array, -1, 1).
    """
    weights = masses / masses.sum()
    own = np.einsum("i,...ia->...a", weights, positions)
    middle = weights @ reference
    relative = positions - own[..., None, :]
    target = reference - middle
    covariance = np.einsum("i,...ia,ib->...ab", weights, relative, target, optimize=True)
    axis = _axis_of_line(target, weights)
    rotation = _rotation_to(covariance) if axis is None else _shortest_turn(covariance @ axis, axis)
    return np.matmul(relative, np.swapaxes(rotation, -1, -2)) + middle, rotation


def internal_velocities(
    positions: FloatArray, velocities: FloatArray, reference: FloatArray, masses: FloatArray
) -> FloatArray:
    """Velocities (..., N, 3) in the Eckart frame of the reference, with the frame's own motion removed.

    The frame turns with omega that keeps sum_i m_i c_i x r_i = 0: J omega = sum_i m_i c_i x v_i with J =
    sum_i m_i [(r_i.c_i) 1 - r_i c_i^T], c_i the reference and r_i the positions about their centres of mass.
    """
    framed, rotation = eckart_frame(positions, reference, masses)
    weights = masses / masses.sum()
    middle = weights @ reference
    target, relative = reference - middle, framed - middle
    velocity = np.matmul(velocities, np.swapaxes(rotation, -1, -2))
    velocity = velocity - np.einsum("i,...ia->...a", weights, velocity)[..., None, :]
    angular = np.einsum("i,...ia->...a", weights, np.cross(target, velocity))
    outer = np.einsum("i,...ia,ib->...ab", weights, relative, target, optimize=True)
    inertia = np.trace(outer, axis1=-2, axis2=-1)[..., None, None] * np.eye(3) - outer
    if _axis_of_line(target, weights) is None:
        omega = np.linalg.solve(inertia, angular[..., None])[..., 0]
    else:  # one rotation is free, and the pseudo-inverse does not turn about it
        omega = np.matmul(np.linalg.pinv(inertia, rcond=1e-6), angular[..., None])[..., 0]
    return velocity - np.cross(omega[..., None, :], relative)


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


def _axis_of_line(target: FloatArray, weights: FloatArray) -> FloatArray | None:
    """The unit axis (3,) of a linear reference, or None."""
    moments, vectors = np.linalg.eigh((target * weights[:, None]).T @ target)
    return vectors[:, 2] if moments[0] + moments[1] <= 1e-4 * moments[2] and moments[2] > 0 else None


def _rotation_to(covariance: FloatArray) -> FloatArray:
    """Rotations (..., 3, 3) maximising the overlap, from covariances C_ab = sum_i w_i r_ia c_ib (..., 3, 3)."""
    c = covariance
    matrix = np.empty((*c.shape[:-2], 4, 4))
    matrix[..., 0, 0] = c[..., 0, 0] + c[..., 1, 1] + c[..., 2, 2]
    for a, b, d in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        matrix[..., 0, d + 1] = matrix[..., d + 1, 0] = c[..., a, b] - c[..., b, a]
        matrix[..., a + 1, b + 1] = matrix[..., b + 1, a + 1] = c[..., a, b] + c[..., b, a]
        matrix[..., a + 1, a + 1] = c[..., a, a] - c[..., b, b] - c[..., d, d]
    w, x, y, z = np.moveaxis(np.linalg.eigh(matrix)[1][..., -1], -1, 0)
    rotation = np.empty_like(c)
    rotation[..., 0, 0] = w * w + x * x - y * y - z * z
    rotation[..., 1, 1] = w * w - x * x + y * y - z * z
    rotation[..., 2, 2] = w * w - x * x - y * y + z * z
    rotation[..., 0, 1], rotation[..., 1, 0] = 2 * (x * y - w * z), 2 * (x * y + w * z)
    rotation[..., 0, 2], rotation[..., 2, 0] = 2 * (x * z + w * y), 2 * (x * z - w * y)
    rotation[..., 1, 2], rotation[..., 2, 1] = 2 * (y * z - w * x), 2 * (y * z + w * x)
    return rotation


def _shortest_turn(vectors: FloatArray, axis: FloatArray) -> FloatArray:
    """Rotations (..., 3, 3) by the smallest angle that bring vectors (..., 3) onto a unit axis (Rodrigues)."""
    unit = vectors / np.sqrt((vectors**2).sum(-1, keepdims=True))
    cosine = unit @ axis
    cross = np.cross(unit, axis)
    skew = np.zeros((*unit.shape, 3))
    for a, b, d in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        skew[..., a, b], skew[..., b, a] = -cross[..., d], cross[..., d]
    # 1 + cos vanishes for the opposite direction: any half turn about a perpendicular axis does.
    factor = 1 / np.maximum(1 + cosine, 1e-12)
    rotation = np.eye(3) + skew + np.matmul(skew, skew) * factor[..., None, None]
    perpendicular = np.linalg.svd(axis[None])[2][1]
    half_turn = 2 * np.outer(perpendicular, perpendicular) - np.eye(3)
    return np.where((cosine < -1 + 1e-9)[..., None, None], half_turn, rotation)


def _cayley(turned: FloatArray) -> FloatArray:
    """Rotations (..., 3, 3) about vectors (..., 3) by the angle whose half has half of their length for its tangent:
    (1 - A/2)^-1 (1 + A/2) with A v = turned x v."""
    half = np.zeros((*turned.shape, 3))
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        half[..., a, b], half[..., b, a] = -0.5 * turned[..., c], 0.5 * turned[..., c]
    return np.asarray(np.linalg.solve(np.eye(3) - half, np.eye(3) + half))
