"""Audit of a data set before learning from it: units, origin, outliers, duplicates, mixed levels of theory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hpcir.exchange.audit_bonds import check_bonds
from hpcir.exchange.audit_polar import check_polar_tensors
from hpcir.exchange.audit_units import (
    check_dipole_size,
    check_dipoles_and_charges,
    check_distances,
    check_energy_size,
    check_force_energy,
    check_origin,
)
from hpcir.exchange.datasets import QUANTITIES, Dataset, formula
from hpcir.exchange.findings import SEVERITIES, Finding, describe, fingerprint, some, values

__all__ = ["Finding", "audit", "describe", "exact_copies"]

# Largest robust z (from the median absolute deviation) of a value that is not an outlier: normal noise stays below it.
MAX_ROBUST_Z = 12.0
# Larger numbers are of no unit; their squares overflow.
LARGEST = 1e100
# Decimals (bohr) to which the distances of equal geometries agree.
DUPLICATE_DECIMALS = 5


def audit(dataset: Dataset) -> list[Finding]:
    """Every finding about a data set, errors first. An empty list: nothing found against training."""
    findings = check_finite(dataset)
    bad = {n for finding in findings for n in finding.frames}
    places = [n for n in range(len(dataset)) if n not in bad]
    rest = dataset.without(bad)
    if len(rest):
        for check in CHECKS:
            findings += [replace(found, frames=tuple(places[n] for n in found.frames)) for found in check(rest)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def check_finite(dataset: Dataset) -> list[Finding]:
    """Numbers that are NaN or infinite, or whose squares are."""
    bad: dict[str, list[int]] = {}
    for n, frame in enumerate(dataset.frames):
        for name in ("positions", *QUANTITIES):
            value = getattr(frame, name)
            if value is not None and not np.all(np.abs(value) < LARGEST):
                bad.setdefault(name, []).append(n)
    return [
        Finding(
            "error",
            "finite",
            f"NaN, infinity or over {LARGEST:g} in {name} of {len(frames)} of {len(dataset)} geometries "
            f"({some(frames)})",
            "leave these geometries out, find out why the calculation failed, or, where NaN stands for what was not "
            "computed, give --missing allow",
            tuple(frames),
        )
        for name, frames in bad.items()
    ]


def check_zero(dataset: Dataset) -> list[Finding]:
    """Arrays of exact zeros: what a program writes when it did not compute the quantity."""
    findings = []
    for name in QUANTITIES:
        having = [n for n in dataset.having(name) if len(dataset.frames[n]) > 1]  # an atom has no force, no dipole
        zero = [n for n in having if not np.any(getattr(dataset.frames[n], name))]
        if zero:
            findings.append(
                Finding(
                    "error",
                    "zero",
                    f"{name} exactly zero in {len(zero)} of {len(having)} geometries ({some(zero)})",
                    "most likely never computed: take the quantity out of keys, or leave these geometries out",
                    tuple(zero),
                )
            )
    return findings


def check_duplicates(dataset: Dataset) -> list[Finding]:
    """The same geometry twice, wherever and however turned it stands; worse when its energies differ."""
    same: list[int] = []
    differing: list[int] = []
    for n, first in _copies(dataset).items():
        (same if _agree(dataset, n, first) else differing).append(n)
    findings = []
    if differing:
        findings.append(
            Finding(
                "error",
                "duplicates",
                f"copies of other geometries with another energy: {some(differing)}",
                "find out which is right: two levels of theory, or an SCF in another state",
                tuple(differing),
            )
        )
    if same:
        findings.append(
            Finding(
                "warning",
                "duplicates",
                f"copies of other geometries, mirror images counted: {some(same)}",
                "training leaves them out, as a copy among the held-out geometries makes their error too small; do so "
                "with a test set of your own",
                tuple(same),
            )
        )
    return findings


def exact_copies(dataset: Dataset) -> list[int]:
    """Geometries that say nothing new: copies that agree with another one, which has all the quantities they have."""
    return [
        n
        for n, first in _copies(dataset).items()
        if _agree(dataset, n, first) and _quantities(dataset, n) <= _quantities(dataset, first)
    ]


def _copies(dataset: Dataset) -> dict[int, int]:
    """Every copy -> the geometry that it is a copy of: the one with most quantities, the first of those."""
    seen: dict[bytes, int] = {}
    found: dict[int, int] = {}
    for n in sorted(range(len(dataset)), key=lambda n: -len(_quantities(dataset, n))):
        frame = dataset.frames[n]
        rounded = np.round(fingerprint(frame), DUPLICATE_DECIMALS) + 0.0
        key = frame.numbers.tobytes() + rounded.tobytes() + f"{frame.charge} {frame.level}".encode()
        first = seen.setdefault(key, n)
        if first != n:
            found[n] = first
    return dict(sorted(found.items()))


def _quantities(dataset: Dataset, n: int) -> set[str]:
    return {name for name in QUANTITIES if getattr(dataset.frames[n], name) is not None}


def _agree(dataset: Dataset, n: int, first: int) -> bool:
    one, other = dataset.frames[n].energy, dataset.frames[first].energy
    return one is None or other is None or abs(one - other) < 1e-5


def check_charges(dataset: Dataset) -> list[Finding]:
    """Atomic charges must sum to the total charge; an odd number of electrons gives a note."""
    findings = []
    having = dataset.having("charges")
    sums = {n: float(np.sum(v)) for n, v in zip(having, values(dataset, having, "charges"), strict=True)}
    wrong = [n for n, total in sums.items() if abs(total - dataset.frames[n].charge) > 0.05]
    if wrong:
        findings.append(
            Finding(
                "warning",
                "charges",
                f"atomic charges of {len(wrong)} geometries sum to {np.median([sums[n] for n in wrong]):+.2f}, not to "
                f"the total charge ({some(wrong)})",
                "declare charge=..., or name the key of the total charge",
                tuple(wrong),
            )
        )
    charges: dict[tuple[tuple[int, ...], str], dict[int, list[int]]] = {}
    for (numbers, charge, level), members in dataset.compositions().items():
        charges.setdefault((numbers, level), {})[charge] = members
    mixed = [found for found in charges.values() if len(found) > 1]
    if mixed:
        fewer = sorted(n for found in mixed for n in min(found.values(), key=len))
        named = " and ".join(f"{charge:+d}" for charge in sorted(mixed[0]))
        findings.append(
            Finding(
                "error",
                "charges",
                f"one molecule with the total charges {named} ({some(fewer)})",
                "a model has one energy for a geometry: train on one of the charges",
                tuple(fewer),
            )
        )
    odd = [n for n, frame in enumerate(dataset.frames) if (int(frame.numbers.sum()) - frame.charge) % 2]
    if odd:
        findings.append(
            Finding(
                "note" if dataset.charge_known else "error",
                "charges",
                f"an odd number of electrons: {some(odd)}",
                "radicals? Otherwise declare the total charge"
                if dataset.charge_known
                else "an ion whose charge is nowhere said? Declare it with --charge, or a radical with --charge 0",
                tuple(odd),
            )
        )
    return findings


def check_outliers(dataset: Dataset) -> list[Finding]:
    """Energies and largest forces that stand far outside those of the same molecule (robust z)."""
    found: dict[str, list[int]] = {"energy": [], "forces": [], "dipole": []}
    for members in dataset.compositions().values():
        for name, out in found.items():
            own = [n for n in members if getattr(dataset.frames[n], name) is not None]
            if len(own) < 8:
                continue
            sizes = _sizes(dataset, own, name)
            middle = np.median(sizes)
            width = 1.4826 * np.median(np.abs(sizes - middle))
            if width > 0:
                out += [n for n, z in zip(own, np.abs(sizes - middle) / width, strict=True) if z > MAX_ROBUST_Z]
    return [
        Finding(
            "warning",
            "outliers",
            f"{name} of {len(frames)} geometries stands more than {MAX_ROBUST_Z:.0f} robust standard deviations out "
            f"({some(frames)})",
            "check them: an SCF in another state, a broken molecule, or a failed calculation",
            tuple(frames),
        )
        for name, frames in found.items()
        if frames
    ]


def _sizes(dataset: Dataset, frames: list[int], name: str) -> np.ndarray:
    """The values compared: the largest component, or the root of the energy above the lowest, which is near normal."""
    found = values(dataset, frames, name)
    if name == "energy":
        energies = np.array(found, float)
        return np.asarray(np.sqrt(energies - energies.min()))
    return np.array([np.abs(value).max() for value in found])


def check_levels(dataset: Dataset) -> list[Finding]:
    """Several levels of theory: declared ones, and energies of one molecule in two groups far apart."""
    findings = []
    levels = sorted({frame.level or "(unnamed)" for frame in dataset.frames})
    if len(levels) > 1:
        findings.append(
            Finding(
                "error",
                "levels",
                f"{len(levels)} levels of theory are mixed: {', '.join(levels)}",
                "train on one level at a time: the cheap one first, then the expensive one",
            )
        )
    for (numbers, _, _), members in dataset.compositions().items():
        own = [n for n in members if dataset.frames[n].energy is not None]
        energies = np.array(values(dataset, own, "energy"), float)
        split = _two_groups(energies)
        if split is not None:
            threshold, gap, width = split
            upper = [n for n, energy in zip(own, energies, strict=True) if energy > threshold]
            findings.append(
                Finding(
                    "error",
                    "levels",
                    f"the energies of {formula(numbers)} fall into two groups, of {len(own) - len(upper)} and "
                    f"{len(upper)} geometries, {gap:.3g} hartree apart and each no wider than {width:.2g}",
                    "two levels of theory, two electronic states or two isomers? Train on the two apart",
                    tuple(upper),
                )
            )
    return findings


def _two_groups(energies: np.ndarray) -> tuple[float, float, float] | None:
    """(energy between, gap, width of the wider group) where sorted energies leave a gap that no thermal spread does."""
    if len(energies) < 10:
        return None
    ordered = np.sort(energies)
    gaps = np.diff(ordered)
    cut = int(np.argmax(gaps))
    low, high = ordered[: cut + 1], ordered[cut + 1 :]
    width = max(float(np.std(low)), float(np.std(high)), 1e-9)
    if min(len(low), len(high)) < max(3, 0.05 * len(ordered)) or gaps[cut] < max(3 * width, 0.02):
        return None
    return float(0.5 * (low[-1] + high[0])), float(gaps[cut]), width


CHECKS: tuple[Callable[[Dataset], list[Finding]], ...] = (
    check_zero,
    check_distances,
    check_duplicates,
    check_force_energy,
    check_bonds,
    check_energy_size,
    check_dipoles_and_charges,
    check_dipole_size,
    check_origin,
    check_charges,
    check_polar_tensors,
    check_outliers,
    check_levels,
)
