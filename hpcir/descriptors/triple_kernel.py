"""The four contractions of three equal tensors up to rank 3, in registers: value and derivative written out.

Of one channel, with its moments V (rank 1), Q (rank 2), O (rank 3), each symmetric tensor stored by its distinct
components:
    V.Q.V,   tr Q Q Q,   V.(O:Q) = V_a O_abc Q_bc,   O:O:Q = O_abc O_abd Q_cd.
`contraction_kernel` has the same sums term by term, for any contraction; here a channel takes a tenth of the time.
"""

from __future__ import annotations

from hpcir.descriptors.lanes import INLINE, INNER, WIDTH, load, njit, stand_alone, store

# Values of one channel.
TRIPLES = 4


@njit(**INLINE)
def moment(work, place, n):  # type: ignore[no-untyped-def]
    """Moment n of the channel at `place`."""
    return load(work, place + n * WIDTH)


@njit(**INLINE)
def add_moment(work, place, n, value):  # type: ignore[no-untyped-def]
    """Add to moment n of the channel at `place`."""
    at = place + n * WIDTH
    store(work, at, load(work, at) + value)


@njit(**INNER)
def triple_sums(work, place, rows, row, stride):  # type: ignore[no-untyped-def]
    """The four values of the channel at `place` into rows[row + k stride]."""
    stand_alone()
    x, y, z = moment(work, place, 1), moment(work, place, 2), moment(work, place, 3)
    xx, xy, xz = moment(work, place, 4), moment(work, place, 5), moment(work, place, 6)
    yy, yz, zz = moment(work, place, 7), moment(work, place, 8), moment(work, place, 9)
    qx, qy, qz = xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z
    store(rows, row, x * qx + y * qy + z * qz)
    rxy, rxz = xx * xy + xy * yy + xz * yz, xx * xz + xy * yz + xz * zz
    ryz = xy * xz + yy * yz + yz * zz
    diagonal = (xx * xx + xy * xy + xz * xz) * xx + (xy * xy + yy * yy + yz * yz) * yy
    diagonal = diagonal + (xz * xz + yz * yz + zz * zz) * zz
    store(rows, row + stride, diagonal + 2.0 * (rxy * xy + rxz * xz + ryz * yz))
    xxx, xxy, xxz = moment(work, place, 10), moment(work, place, 11), moment(work, place, 12)
    xyy, xyz, xzz = moment(work, place, 13), moment(work, place, 14), moment(work, place, 15)
    yyy, yyz = moment(work, place, 16), moment(work, place, 17)
    yzz, zzz = moment(work, place, 18), moment(work, place, 19)
    wx = xxx * xx + xyy * yy + xzz * zz + 2.0 * (xxy * xy + xxz * xz + xyz * yz)
    wy = xxy * xx + yyy * yy + yzz * zz + 2.0 * (xyy * xy + xyz * xz + yyz * yz)
    wz = xxz * xx + yyz * yy + zzz * zz + 2.0 * (xyz * xy + xzz * xz + yzz * yz)
    store(rows, row + 2 * stride, x * wx + y * wy + z * wz)
    pxx = xxx * xxx + xyy * xyy + xzz * xzz + 2.0 * (xxy * xxy + xxz * xxz + xyz * xyz)
    pyy = xxy * xxy + yyy * yyy + yzz * yzz + 2.0 * (xyy * xyy + xyz * xyz + yyz * yyz)
    pzz = xxz * xxz + yyz * yyz + zzz * zzz + 2.0 * (xyz * xyz + xzz * xzz + yzz * yzz)
    pxy = xxx * xxy + xyy * yyy + xzz * yzz + 2.0 * (xxy * xyy + xxz * xyz + xyz * yyz)
    pxz = xxx * xxz + xyy * yyz + xzz * zzz + 2.0 * (xxy * xyz + xxz * xzz + xyz * yzz)
    pyz = xxy * xxz + yyy * yyz + yzz * zzz + 2.0 * (xyy * xyz + xyz * xzz + yyz * yzz)
    value = pxx * xx + pyy * yy + pzz * zz + 2.0 * (pxy * xy + pxz * xz + pyz * yz)
    store(rows, row + 3 * stride, value)


@njit(**INNER)
def triple_slopes(work, place, bar, slopes, row, stride):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) at `bar`, from dE/d(values) in slopes[row + k stride]."""
    stand_alone()
    s1, s2 = load(slopes, row), 3.0 * load(slopes, row + stride)
    s3, s4 = load(slopes, row + 2 * stride), load(slopes, row + 3 * stride)
    x, y, z = moment(work, place, 1), moment(work, place, 2), moment(work, place, 3)
    xx, xy, xz = moment(work, place, 4), moment(work, place, 5), moment(work, place, 6)
    yy, yz, zz = moment(work, place, 7), moment(work, place, 8), moment(work, place, 9)
    xxx, xxy, xxz = moment(work, place, 10), moment(work, place, 11), moment(work, place, 12)
    xyy, xyz, xzz = moment(work, place, 13), moment(work, place, 14), moment(work, place, 15)
    yyy, yyz = moment(work, place, 16), moment(work, place, 17)
    yzz, zzz = moment(work, place, 18), moment(work, place, 19)
    twice = 2.0 * s1
    wx = xxx * xx + xyy * yy + xzz * zz + 2.0 * (xxy * xy + xxz * xz + xyz * yz)
    wy = xxy * xx + yyy * yy + yzz * zz + 2.0 * (xyy * xy + xyz * xz + yyz * yz)
    wz = xxz * xx + yyz * yy + zzz * zz + 2.0 * (xyz * xy + xzz * xz + yzz * yz)
    add_moment(work, bar, 1, twice * (xx * x + xy * y + xz * z) + s3 * wx)
    add_moment(work, bar, 2, twice * (xy * x + yy * y + yz * z) + s3 * wy)
    add_moment(work, bar, 3, twice * (xz * x + yz * y + zz * z) + s3 * wz)
    # Of a component off the diagonal there are two.
    sx, sy, sz = s1 * x, s1 * y, s1 * z
    vx, vy, vz = s3 * x, s3 * y, s3 * z
    p = xxx * xxx + xyy * xyy + xzz * xzz + 2.0 * (xxy * xxy + xxz * xxz + xyz * xyz)
    value = sx * x + s2 * (xx * xx + xy * xy + xz * xz) + (xxx * vx + xxy * vy + xxz * vz)
    add_moment(work, bar, 4, value + s4 * p)
    p = xxx * xxy + xyy * yyy + xzz * yzz + 2.0 * (xxy * xyy + xxz * xyz + xyz * yyz)
    value = sx * y + s2 * (xx * xy + xy * yy + xz * yz) + (xxy * vx + xyy * vy + xyz * vz)
    add_moment(work, bar, 5, 2.0 * (value + s4 * p))
    p = xxx * xxz + xyy * yyz + xzz * zzz + 2.0 * (xxy * xyz + xxz * xzz + xyz * yzz)
    value = sx * z + s2 * (xx * xz + xy * yz + xz * zz) + (xxz * vx + xyz * vy + xzz * vz)
    add_moment(work, bar, 6, 2.0 * (value + s4 * p))
    p = xxy * xxy + yyy * yyy + yzz * yzz + 2.0 * (xyy * xyy + xyz * xyz + yyz * yyz)
    value = sy * y + s2 * (xy * xy + yy * yy + yz * yz) + (xyy * vx + yyy * vy + yyz * vz)
    add_moment(work, bar, 7, value + s4 * p)
    p = xxy * xxz + yyy * yyz + yzz * zzz + 2.0 * (xyy * xyz + xyz * xzz + yyz * yzz)
    value = sy * z + s2 * (xy * xz + yy * yz + yz * zz) + (xyz * vx + yyz * vy + yzz * vz)
    add_moment(work, bar, 8, 2.0 * (value + s4 * p))
    p = xxz * xxz + yyz * yyz + zzz * zzz + 2.0 * (xyz * xyz + xzz * xzz + yzz * yzz)
    value = sz * z + s2 * (xz * xz + yz * yz + zz * zz) + (xzz * vx + yzz * vy + zzz * vz)
    add_moment(work, bar, 9, value + s4 * p)
    third_rank_slopes(work, place, bar, vx, vy, vz, s4 + s4)


@njit(**INLINE)
def third_rank_slopes(work, place, bar, vx, vy, vz, twice):  # type: ignore[no-untyped-def]
    """dE/dO: Q_bc times vx, vy, vz = s3 V, and O.Q times `twice` = 2 s4, each component as often as there are equal
    ones."""
    xx, xy, xz = moment(work, place, 4), moment(work, place, 5), moment(work, place, 6)
    yy, yz, zz = moment(work, place, 7), moment(work, place, 8), moment(work, place, 9)
    xxx, xxy, xxz = moment(work, place, 10), moment(work, place, 11), moment(work, place, 12)
    xyy, xyz, xzz = moment(work, place, 13), moment(work, place, 14), moment(work, place, 15)
    yyy, yyz = moment(work, place, 16), moment(work, place, 17)
    yzz, zzz = moment(work, place, 18), moment(work, place, 19)
    add_moment(work, bar, 10, vx * xx + twice * (xxx * xx + xxy * xy + xxz * xz))
    add_moment(work, bar, 16, vy * yy + twice * (xyy * xy + yyy * yy + yyz * yz))
    add_moment(work, bar, 19, vz * zz + twice * (xzz * xz + yzz * yz + zzz * zz))
    # xxy: O_xxd Q_dy once and O_xyd Q_dx twice, and so on.
    one, two = xxx * xy + xxy * yy + xxz * yz, xxy * xx + xyy * xy + xyz * xz
    add_moment(work, bar, 11, vy * xx + 2.0 * (vx * xy) + twice * (one + 2.0 * two))
    one, two = xxx * xz + xxy * yz + xxz * zz, xxz * xx + xyz * xy + xzz * xz
    add_moment(work, bar, 12, vz * xx + 2.0 * (vx * xz) + twice * (one + 2.0 * two))
    one, two = xyy * xx + yyy * xy + yyz * xz, xxy * xy + xyy * yy + xyz * yz
    add_moment(work, bar, 13, vx * yy + 2.0 * (vy * xy) + twice * (one + 2.0 * two))
    one, two = xzz * xx + yzz * xy + zzz * xz, xxz * xz + xyz * yz + xzz * zz
    add_moment(work, bar, 15, vx * zz + 2.0 * (vz * xz) + twice * (one + 2.0 * two))
    one, two = xyy * xz + yyy * yz + yyz * zz, xyz * xy + yyz * yy + yzz * yz
    add_moment(work, bar, 17, vz * yy + 2.0 * (vy * yz) + twice * (one + 2.0 * two))
    one, two = xzz * xy + yzz * yy + zzz * yz, xyz * xz + yyz * yz + yzz * zz
    add_moment(work, bar, 18, vy * zz + 2.0 * (vz * yz) + twice * (one + 2.0 * two))
    total = xxy * xz + xyy * yz + xyz * zz
    total = total + (xxz * xy + xyz * yy + xzz * yz)
    total = total + (xyz * xx + yyz * xy + yzz * xz)
    add_moment(work, bar, 14, 2.0 * (vx * yz + vy * xz + vz * xy) + 2.0 * (twice * total))
