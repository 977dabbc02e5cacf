"""The frame of a trajectory that does not turn."""

import numpy as np

from hpcir.molecules.eckart import joined_frames, still_frames

MASSES = np.array([29000.0, 1800.0, 1900.0])
BENT = np.array([[0.0, 0.1, 0.0], [1.4, -0.9, 0.0], [-1.4, -1.0, 0.2]])
LINE = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, -2.1]])


def turn(axis, angle):
    """Rotation (3, 3) about an axis (3,)."""
    x, y, z = axis / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def rotating(geometry, axes, rate, times):
    """A rigid body that turns by `rate` a step about another axis in each of its replicas, (T, N, 3, R)."""
    return np.stack([[geometry @ turn(axis, rate * t).T for t in times] for axis in axes], axis=-1)


def seen(frames, vectors):
    """Vectors (T + 1, 3, R) in the still frames (T, 3, 3, R), the first as it is."""
    return np.concatenate([vectors[:1], np.einsum("tabr,tbr->tar", frames, vectors[1:])])


def test_a_rigid_body_stands_still():
    axes = np.array([[0.3, -1.0, 0.4], [0.0, 0.0, 1.0]])
    motion = rotating(BENT, axes, 0.11, range(60)) + np.linspace(0, 5, 60)[:, None, None, None]
    frames = still_frames(motion, MASSES)
    vectors = motion[:, 1] - motion[:, 0]
    np.testing.assert_allclose(seen(frames, vectors), np.broadcast_to(vectors[0], vectors.shape), atol=1e-10)


def test_stretches_of_a_trajectory_join_to_the_whole():
    motion = rotating(BENT, np.array([[0.3, -1.0, 0.4]]), 0.07, range(41))
    motion = motion + 0.05 * np.random.default_rng(3).standard_normal(motion.shape)
    parts = [still_frames(motion[first : last + 1], MASSES) for first, last in ((0, 7), (7, 8), (8, 40))]
    np.testing.assert_allclose(joined_frames(parts), still_frames(motion, MASSES), atol=1e-12)


def test_vibration_without_angular_momentum_is_left_as_it_is():
    """A stretch along a bond that turns, against the same stretch at rest: but for the rotation they are one."""
    times = np.arange(400)
    length = 2.0 + 0.1 * np.cos(0.35 * times)
    directions = np.stack([np.cos(0.02 * times), np.sin(0.02 * times), 0 * times], axis=-1)
    bond = length[:, None] * directions
    masses = np.array([30000.0, 1800.0])
    motion = np.stack([-bond * masses[1], bond * masses[0]], axis=1)[..., None] / masses.sum()
    found = seen(still_frames(motion, masses, linear=True), bond[..., None])[..., 0]
    np.testing.assert_allclose(found, length[:, None] * directions[0], atol=2e-3)


def test_bends_of_a_line_do_not_turn_its_frame():
    """Two bends a quarter out of phase go round the axis (l = 1); the molecule does not turn."""
    times = np.arange(200)
    bend = np.stack([0.1 * np.cos(0.13 * times), 0.1 * np.sin(0.13 * times), 0 * times], axis=-1)
    parts = np.array([0.0, 1.0, 2.0 * MASSES[1] / 2.1 / MASSES[2]])
    parts[0] = -(MASSES[1] * parts[1] + MASSES[2] * parts[2]) / MASSES[0]
    motion = LINE + parts[:, None] * bend[:, None]
    centred = motion - np.einsum("i,tia->ta", MASSES / MASSES.sum(), motion)[:, None]
    frames = still_frames(centred[..., None], MASSES, linear=True)[..., 0]
    np.testing.assert_allclose(frames, np.broadcast_to(np.eye(3), frames.shape), atol=0.02)
    # Taken for a bent molecule it would go round with its bends.
    round_axis = still_frames(centred[..., None], MASSES)[..., 0]
    assert np.abs(round_axis - np.eye(3)).max() > 0.9
