"""Samples of a dipole series that no motion makes: jumps, spikes, gaps, repeated and shuffled samples.

A dipole is a smooth function of the time. So its change between two samples is like the changes around it, and it can
be foretold from the samples before by linear prediction (Makhoul, Proc. IEEE 63, 561, 1975). Scales are medians of
absolute deviations, which single samples do not move.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError

# A change so many robust standard deviations large, and so many times those beside it, is a jump.
JUMP, ISOLATED = 12.0, 3.0
# Samples that a prediction goes by, how many times its 99th percentile an error is that no motion makes (1.6 was the
# most in 60 trajectories of seven molecules), and the fewest samples for it.
ORDER, MISSED, MIN_PREDICTED = 24, 4.0, 500
# Values of so many steps of their last digit within a usual change are never the same by chance in three components.
FINE = 100.0
# Equal samples in a row, and in two places, that are no chance even where digits are few.
MIN_REPEATED, MIN_RECURRING = 8, 4
# Lags over which the samples of a real series are not all uncorrelated, in standard deviations of white noise.
LAGS, WHITE = 6, 4.0
MIN_SAMPLES = 20
# Samples that a message names.
NAMED = 6


def check_samples(dipoles: FloatArray, where: str) -> None:
    """Raise InputError naming the samples (from 1) where dipoles (T, 3, R) are no series in time."""
    if len(dipoles) < MIN_SAMPLES:
        return
    for replica in range(dipoles.shape[2]):
        series = dipoles[:, :, replica]
        place = f"{where}, trajectory {replica + 1}" if dipoles.shape[2] > 1 else where
        _check_repeats(series, place)
        _check_jumps(series, place)
        _check_order(series, place)
        _check_gaps(series, place)


def scales(steps: FloatArray) -> FloatArray:
    """(3,) robust standard deviations of changes (T, 3); of a component that hardly moves a thousandth of the
    others'."""
    found = 1.4826 * np.median(np.abs(steps - np.median(steps, axis=0)), axis=0)
    return np.asarray(np.maximum(found, 1e-3 * found.max(initial=0.0)))


def jumps(series: FloatArray) -> IntArray:
    """Samples (from 0) that a series (T, 3) jumps at: changes far larger than usual, and than those beside them."""
    steps = np.diff(series, axis=0)
    scale = scales(steps)
    if not np.any(scale):
        return np.flatnonzero(np.any(steps != 0, axis=1)) + 1
    size = np.abs(steps - np.median(steps, axis=0)) / scale
    padded = np.pad(size, ((2, 2), (0, 0)))
    beside = np.max([padded[:-4], padded[4:]], axis=0)
    nearest = np.sort([padded[1:-3], padded[3:-1]], axis=0)
    # A spike is two changes beside each other: the smaller neighbour of each is then a usual one.
    alone = size > ISOLATED * np.maximum(beside, nearest[0])
    return np.flatnonzero(np.any((size > JUMP) & alone, axis=1)) + 1


def _check_jumps(series: FloatArray, where: str) -> None:
    found = jumps(series)
    if not len(found):
        return
    spikes = [int(k) for k in found if k + 1 in found and _comes_back(series, int(k))]
    rest = [int(k) for k in found if k not in spikes and k - 1 not in spikes]
    if rest:
        size = float(np.abs(np.diff(series, axis=0)[rest[0] - 1]).max())
        usual = float(scales(np.diff(series, axis=0)).max())
        raise InputError(
            f"the dipole jumps at {named(rest)}",
            where=where,
            value=f"by {size / usual:.0f} times its usual change" if usual else "from a constant",
            hint="another branch of a Berry phase (give --cell, the edges of the box, to undo it), a restart, or "
            "samples left out: mend the file, or give its pieces as files of their own",
        )
    raise InputError(
        f"the dipole has spikes at {named(spikes)}",
        where=where,
        hint="look at these calculations: leave the piece around them out, and give the others as files of their own",
    )


def _comes_back(series: FloatArray, k: int) -> bool:
    """True where the sample after k is close to the one before k again."""
    there, back = series[k] - series[k - 1], series[min(k + 1, len(series) - 1)] - series[k - 1]
    return float(np.abs(back).max()) < 0.5 * float(np.abs(there).max())


def _check_repeats(series: FloatArray, where: str) -> None:
    steps = np.abs(np.diff(series, axis=0))
    same = np.flatnonzero(np.all(steps == 0, axis=1)) + 1
    moving = steps[steps > 0]
    if not len(moving):
        return
    fine = float(np.median(moving)) > FINE * float(moving.min())
    runs = np.split(same, np.flatnonzero(np.diff(same) != 1) + 1) if len(same) else []
    long = [int(k) for run in runs if fine or len(run) >= MIN_REPEATED - 1 for k in run]
    if long:
        raise InputError(
            f"the dipole is exactly that of the sample before at {named(long)}",
            where=where,
            value=f"{len(long)} of {len(series)} samples",
            hint="a program that writes one value several times, or stands still: leave the copies out",
        )
    again = _repeated_piece(series)
    if again is not None:
        first, copy, length = again
        raise InputError(
            f"samples {copy + 1} to {copy + length} are exactly samples {first + 1} to {first + length}",
            where=where,
            hint="a restart that wrote the end of the run before again: leave one of the two out",
        )


def _repeated_piece(series: FloatArray) -> tuple[int, int, int] | None:
    """(first sample, sample of the copy, length) of a piece of MIN_RECURRING samples or more that is there twice."""
    seen: dict[bytes, int] = {}
    for start in range(len(series) - MIN_RECURRING + 1):
        key = np.ascontiguousarray(series[start : start + MIN_RECURRING]).tobytes()
        first = seen.setdefault(key, start)
        if first + MIN_RECURRING <= start and np.any(np.ptp(series[start : start + MIN_RECURRING], axis=0)):
            length = MIN_RECURRING
            while start + length < len(series) and np.array_equal(series[first + length], series[start + length]):
                length += 1
            return first, start, length
    return None


def _check_order(series: FloatArray, where: str) -> None:
    """Shuffled samples are uncorrelated with those beside them, which no motion that is resolved is."""
    count = len(series)
    moved = series - series.mean(axis=0)
    power = (moved**2).sum(axis=0)
    if count < MIN_PREDICTED or not np.any(power > 0):
        return
    moved, power = moved[:, power > 0], power[power > 0]
    correlation = np.array([(moved[lag:] * moved[:-lag]).sum(axis=0) / power for lag in range(1, LAGS + 1)])
    if np.all(np.abs(correlation) < WHITE / np.sqrt(count)):
        raise InputError(
            "each sample is uncorrelated with those beside it",
            where=where,
            value=f"correlation {float(correlation[0].mean()):.3f} with the next",
            hint="shuffled samples (as in a training set), or far too few in time: a series has them in their order, "
            "every few femtoseconds",
        )


def prediction_errors(series: FloatArray) -> FloatArray:
    """(T - ORDER - 1,) the error of predicting each change of a series (T, 3) from the ORDER changes before it by the
    one linear rule that fits best, over the 99th percentile of such errors; the largest component's."""
    steps = np.diff(series, axis=0)
    scale = scales(steps)
    errors = np.zeros((1, max(0, len(steps) - ORDER)))
    for component in (steps / np.where(scale > 0, scale, 1.0)).T:
        rows = np.lib.stride_tricks.sliding_window_view(component, ORDER + 1)
        rule = np.linalg.lstsq(rows[:, :-1], rows[:, -1], rcond=1e-8)[0]
        off = np.abs(rows[:, -1] - rows[:, :-1] @ rule)
        errors = np.vstack([errors, off / max(float(np.quantile(off, 0.99)), 1e-3)])
    return np.asarray(errors.max(axis=0))


def _check_gaps(series: FloatArray, where: str) -> None:
    if len(series) < MIN_PREDICTED:
        return
    errors = prediction_errors(series)
    found = [int(k) + ORDER + 1 for k in np.flatnonzero(errors > MISSED)]
    first = [k for n, k in enumerate(found) if n == 0 or k - found[n - 1] > ORDER]
    if first:
        raise InputError(
            f"the dipole deviates from the course of its motion at {named(first)}",
            where=where,
            value=f"{float(errors.max()):.1f} times the largest usual error of a prediction",
            hint="samples left out or put together from two runs: repair the file, or give its pieces as files of "
            "their own",
        )


def named(samples: list[int]) -> str:
    """'sample 3001', 'samples 3001 and 5201', 'samples 1, 2, ... (12 in all)', counted from 1."""
    words = [str(k + 1) for k in samples[:NAMED]]
    if len(samples) > NAMED:
        return f"samples {', '.join(words)}, ... ({len(samples)} in all)"
    return f"sample {words[0]}" if len(words) == 1 else f"samples {', '.join(words[:-1])} and {words[-1]}"


def unwrapped(dipoles: FloatArray, cell: FloatArray) -> tuple[FloatArray, int]:
    """Dipoles (T, 3, R) in e bohr on one branch of the Berry phase, and how many changes of branch were undone.

    cell (3, 3): the vectors of the box in bohr, one a row; the dipole is known up to e times each of them (King-Smith
    and Vanderbilt, Phys. Rev. B 47, 1651, 1993). Raises InputError for a box without volume.
    """
    edges = np.linalg.norm(cell, axis=1)
    if not np.all(np.isfinite(cell)) or abs(np.linalg.det(cell)) < 1e-3 * np.prod(edges) or not np.all(edges > 0):
        raise InputError("the box of the Berry phase has no volume", value=" ".join(f"{x:g}" for x in np.ravel(cell)))
    turns = np.round(np.einsum("txr,xv->tvr", np.diff(dipoles, axis=0), np.linalg.inv(cell)))
    branch = np.concatenate([np.zeros((1, *dipoles.shape[1:])), np.cumsum(turns, axis=0)])
    return dipoles - np.einsum("tvr,vx->txr", branch, cell), int(np.count_nonzero(turns))
