"""Look at a data set before learning from it: units, origin, outliers, duplicates, mixed levels of theory.

Each check returns findings in words. What each rests on:
- units of forces against energies: for two geometries a small step d apart, E_b - E_a = -d.(F_a + F_b)/2 up to third
  order in d, so the slope of one on the other is 1; a slope near a ratio of units names the mistake. Without close
  geometries, the typical size of forces and the spread of the energies are held against what molecules have.
- units of dipoles: dipoles against the charges of the file, or against the typical size for the molecule's spread of
  nuclear charge; 2.5417 debye are one atomic unit, 4.8032 debye one e*A, 1.8897 e*bohr one e*A.
- positions: the shortest distances in units of covalent radii; a molecule read in the wrong unit is 1.89 off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcir.exchange.datasets import QUANTITIES, Dataset, Frame, formula
from hpcir.structures import OVERLAP_FRACTION, superimpose
from hpcir.units import ANGSTROM, DEBYE, EV, EV_PER_ANGSTROM, KCAL_PER_MOL, KJ_PER_MOL

FloatArray = NDArray[np.float64]

SEVERITIES = ("error", "warning", "note")
# A robust z (from the median absolute deviation) beyond which a value stands out.
OUTLIER = 12.0
# Steps between geometries, as root mean square over the atoms (bohr), that the force-energy slope uses.
SMALL_STEP = 0.15
# Typical root mean square of a force component, hartree/bohr: minima of thermal geometries and of distorted ones.
FORCE_RANGE = (5e-4, 0.3)
# Wrong unit read as right: the factor by which energies, or lengths, come out -> what happened.
ENERGY_RATIOS = {
    1 / EV: "eV taken for hartree",
    EV: "hartree taken for eV",
    1 / KCAL_PER_MOL: "kcal/mol taken for hartree",
    KCAL_PER_MOL: "hartree taken for kcal/mol",
    EV / KCAL_PER_MOL: "kcal/mol taken for eV",
    KCAL_PER_MOL / EV: "eV taken for kcal/mol",
    EV / KJ_PER_MOL: "kJ/mol taken for eV",
    KJ_PER_MOL / EV: "eV taken for kJ/mol",
    KCAL_PER_MOL / KJ_PER_MOL: "kJ/mol taken for kcal/mol",
    KJ_PER_MOL / KCAL_PER_MOL: "kcal/mol taken for kJ/mol",
}
LENGTH_RATIOS = {ANGSTROM: "per bohr taken for per angstrom", 1 / ANGSTROM: "per angstrom taken for per bohr"}
DIPOLE_RATIOS = {
    1 / DEBYE: "debye taken for e*bohr (2.5417)",
    DEBYE: "e*bohr taken for debye (2.5417)",
    ANGSTROM / DEBYE: "debye taken for e*A (4.8032)",
    DEBYE / ANGSTROM: "e*A taken for debye (4.8032)",
    ANGSTROM: "e*bohr taken for e*A (1.8897)",
    1 / ANGSTROM: "e*A taken for e*bohr (1.8897)",
}


@dataclass(frozen=True)
class Finding:
    """One thing that the audit saw. severity: 'error' (do not train on this), 'warning' (look), 'note'.

    check: which test; text: what was seen, with numbers; advice: what to do; frames: indices of the geometries.
    """

    severity: str
    check: str
    text: str
    advice: str
    frames: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}. {self.advice}"


def audit(dataset: Dataset) -> list[Finding]:
    """Every finding about a data set, errors first. An empty list: nothing seen that speaks against training."""
    broken = check_finite(dataset)
    bad = {n for finding in broken for n in finding.frames}
    rest = dataset.without(bad)
    places = [n for n in range(len(dataset)) if n not in bad]
    findings = list(broken)
    if len(rest):
        for check in CHECKS:
            for found in check(rest):
                moved = tuple(places[n] for n in found.frames)
                findings.append(Finding(found.severity, found.check, found.text, found.advice, moved))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def check_finite(dataset: Dataset) -> list[Finding]:
    """Numbers that are NaN or infinite."""
    bad: dict[str, list[int]] = {}
    for n, frame in enumerate(dataset.frames):
        for name in ("positions", *QUANTITIES):
            value = getattr(frame, name)
            if value is not None and not np.all(np.isfinite(value)):
                bad.setdefault(name, []).append(n)
    return [
        Finding(
            "error",
            "finite",
            f"{name} of {len(frames)} geometries hold NaN or infinity ({_some(frames)})",
            "leave these geometries out, or find out why the calculation failed",
            tuple(frames),
        )
        for name, frames in bad.items()
    ]


def check_zero(dataset: Dataset) -> list[Finding]:
    """Arrays of exact zeros: what a program writes when it did not compute the quantity."""
    findings = []
    for name in QUANTITIES:
        zero = []
        for n in dataset.having(name):
            frame = dataset.frames[n]
            alone = len(frame) == 1 and name in ("forces", "dipole")  # an atom has neither
            if not np.any(getattr(frame, name)) and not alone:
                zero.append(n)
        if zero:
            findings.append(
                Finding(
                    "error",
                    "zero",
                    f"{name} of {len(zero)} of {len(dataset.having(name))} geometries are exactly zero ({_some(zero)})",
                    "most likely they were never computed: leave the quantity out of keys, or leave these geometries out",
                    tuple(zero),
                )
            )
    return findings


def check_distances(dataset: Dataset) -> list[Finding]:
    """Nearest distances against covalent radii: positions in the wrong unit, and overlapping atoms."""
    ratios = np.array([_nearest(frame) for frame in dataset.frames])
    known = ratios[np.isfinite(ratios)]
    if not len(known):
        return []
    typical = float(np.median(known))
    for factor, what in ((ANGSTROM, "angstrom taken for bohr"), (1 / ANGSTROM, "bohr taken for angstrom")):
        if abs(np.log(typical * factor)) < 0.15 and abs(np.log(typical)) > 0.35:
            return [
                Finding(
                    "error",
                    "positions",
                    f"the nearest atoms are {typical:.2f} times the sum of their covalent radii apart, as if {what}",
                    "declare the unit of the positions, such as units={'positions': 'bohr'}",
                )
            ]
    close = np.flatnonzero(ratios < OVERLAP_FRACTION).tolist()
    findings = []
    if close:
        findings.append(
            Finding(
                "warning",
                "overlap",
                f"atoms overlap in {len(close)} geometries, the worst at {ratios[close].min():.2f} of the sum of their "
                f"covalent radii ({_some(close)})",
                "look at these geometries; leave them out unless they are meant",
                tuple(close),
            )
        )
    if not 0.75 < typical < 1.35:
        text = f"the nearest atoms are {typical:.2f} times the sum of their covalent radii apart"
        findings.append(
            Finding("warning", "positions", text, "check the unit of the positions and the elements")
        )
    return findings


def _nearest(frame: Frame) -> float:
    """The smallest distance in units of the sum of covalent radii (NaN for one atom)."""
    from ase.data import covalent_radii

    if len(frame) < 2:
        return float("nan")
    radii = np.asarray(covalent_radii)[frame.numbers] * ANGSTROM
    distance = np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1)
    ratio = distance / (radii[:, None] + radii[None])
    return float(ratio[np.triu_indices(len(frame), 1)].min())


def check_duplicates(dataset: Dataset) -> list[Finding]:
    """The same geometry twice (to 1e-6 bohr, not rotated); worse when its labels differ."""
    seen: dict[bytes, int] = {}
    same, differing = [], []
    for n, frame in enumerate(dataset.frames):
        rounded = np.round(frame.positions - frame.positions[0], 5) + 0.0
        key = frame.numbers.tobytes() + rounded.tobytes() + str((frame.charge, frame.level)).encode()
        first = seen.setdefault(key, n)
        if first == n:
            continue
        other = dataset.frames[first]
        agree = frame.energy is None or other.energy is None or abs(frame.energy - other.energy) < 1e-6
        (same if agree else differing).append(n)
    findings = []
    if differing:
        findings.append(
            Finding(
                "error",
                "duplicates",
                f"{len(differing)} geometries stand there twice with different energies ({_some(differing)})",
                "find out which calculation is right; two levels of theory, or an SCF in another state?",
                tuple(differing),
            )
        )
    if same:
        findings.append(
            Finding(
                "warning",
                "duplicates",
                f"{len(same)} geometries are copies of earlier ones ({_some(same)})",
                "leave them out: a copy in both the training and the test set makes the test error too small",
                tuple(same),
            )
        )
    return findings


def check_force_energy(dataset: Dataset) -> list[Finding]:
    """The slope of energy differences on the work of the forces between nearby geometries: 1 when units agree."""
    work, change = [], []
    for members in dataset.compositions().values():
        for a, b in _close_pairs(dataset, members):
            one, other = dataset.frames[a], dataset.frames[b]
            step, turned = _step(one, other)
            assert one.forces is not None and other.forces is not None
            assert one.energy is not None and other.energy is not None
            work.append(-float(np.sum(0.5 * (one.forces + turned) * step)))
            change.append(other.energy - one.energy)
    if len(work) < 3:
        return _force_size(dataset)
    x, y = np.array(work), np.array(change)
    slope = float(np.median(y[x != 0] / x[x != 0]))
    spread = float(np.median(np.abs(y - slope * x)) / max(np.median(np.abs(y)), 1e-30))
    if spread > 0.5:
        text = f"energies do not follow the forces: {len(x)} pairs of nearby geometries, slope {slope:.3g}, scatter {spread:.0%}"
        return [
            Finding(
                "warning",
                "force_energy",
                text,
                "check that both are of one calculation; forces with another sign?",
            )
        ]
    if slope < 0:
        text = f"forces point uphill: energy changes are {slope:.3g} times what the forces say"
        return [Finding("error", "force_energy", text, "the file holds gradients; change their sign")]
    if abs(np.log(slope)) < 0.08:
        return []
    text = (
        f"energy changes between nearby geometries are {slope:.4g} times what the forces say ({len(x)} pairs)"
    )
    return [Finding("error", "force_energy", text, f"the units do not agree: {_explain(slope)}")]


def _explain(slope: float) -> str:
    """What mistake of units multiplies energies by `slope` relative to forces times lengths."""
    candidates = {ratio: f"energy in {what}" for ratio, what in ENERGY_RATIOS.items()}
    candidates |= {1 / ratio: f"forces in {what}" for ratio, what in ENERGY_RATIOS.items()}
    candidates |= {1 / ratio: f"forces {what}" for ratio, what in LENGTH_RATIOS.items()}
    for e_ratio, e_what in ENERGY_RATIOS.items():
        for l_ratio, l_what in LENGTH_RATIOS.items():
            candidates.setdefault(1 / (e_ratio * l_ratio), f"forces in {e_what} and {l_what}")
    best = min(candidates, key=lambda ratio: abs(np.log(slope / ratio)))
    if abs(np.log(slope / best)) > 0.1:
        return "by no known ratio of units; check both"
    close = [what for ratio, what in candidates.items() if abs(np.log(ratio / best)) < 0.02]
    return "as if " + ", or ".join(dict.fromkeys(close))


def _close_pairs(dataset: Dataset, members: list[int], most: int = 200) -> list[tuple[int, int]]:
    """Pairs of geometries, atoms in one order, a small step apart after superposition; nearest in energy order."""
    usable = [
        n for n in members if dataset.frames[n].forces is not None and dataset.frames[n].energy is not None
    ]
    pairs: list[tuple[float, int, int]] = []
    if len(usable) < 2:
        return []
    # Distances that superposition does not change find the candidates without comparing all pairs in three dimensions.
    shapes = np.array([_fingerprint(dataset.frames[n]) for n in usable])
    from scipy.spatial import cKDTree

    near, found = cKDTree(shapes).query(shapes, k=min(4, len(usable)))
    for row in range(len(usable)):
        for distance, other in zip(near[row][1:], found[row][1:], strict=True):
            a, b = sorted((usable[row], usable[int(other)]))
            if a != b and np.array_equal(dataset.frames[a].numbers, dataset.frames[b].numbers):
                pairs.append((float(distance), a, b))
    chosen = []
    for _, a, b in sorted(set(pairs)):
        step, _ = _step(dataset.frames[a], dataset.frames[b])
        size = np.sqrt((step**2).sum() / len(step))
        if 1e-6 < size < SMALL_STEP:
            chosen.append((a, b))
        if len(chosen) == most:
            break
    return chosen


def _fingerprint(frame: Frame) -> FloatArray:
    """Distances of each atom to the mean position and to the next atom in the file: invariant, 2 N numbers."""
    middle = np.linalg.norm(frame.positions - frame.positions.mean(0), axis=1)
    following = np.linalg.norm(frame.positions - np.roll(frame.positions, 1, axis=0), axis=1)
    return np.concatenate([middle, following])


def _step(one: Frame, other: Frame) -> tuple[FloatArray, FloatArray]:
    """The displacement from one geometry to the other superimposed on it, and the other's forces turned likewise."""
    weights = np.ones(len(one))
    moved, rotation, _ = superimpose(other.positions, one.positions, weights)
    assert other.forces is not None
    return moved - one.positions, other.forces @ rotation.T


def _force_size(dataset: Dataset) -> list[Finding]:
    """Typical sizes of forces and of the energies' spread, for a set without neighbouring geometries."""
    findings = []
    with_forces = dataset.having("forces")
    if with_forces:
        sizes = [np.sqrt(np.mean(np.square(dataset.frames[n].forces))) for n in with_forces]  # type: ignore[arg-type]
        typical = float(np.median(sizes))
        if not FORCE_RANGE[0] < typical < FORCE_RANGE[1]:
            findings.append(
                Finding(
                    "warning",
                    "force_size",
                    f"forces are {typical / EV_PER_ANGSTROM:.3g} eV/A (root mean square of a component); molecules near "
                    f"their minima have {FORCE_RANGE[0] / EV_PER_ANGSTROM:.2g} to {FORCE_RANGE[1] / EV_PER_ANGSTROM:.2g}",
                    "check the unit of the forces",
                )
            )
    return findings


def check_energy_size(dataset: Dataset) -> list[Finding]:
    """Energies per electron and their spread: total energies, binding energies, or a wrong unit."""
    energies = dataset.having("energy")
    if not energies:
        return []
    findings = []
    reference = np.array([_free_atoms(dataset.frames[n]) for n in energies])
    values = np.array([float(dataset.frames[n].energy) for n in energies])  # type: ignore[arg-type]
    ratio = float(np.median(values / reference))
    # All-electron totals are near 1; valence-only ones (pseudopotentials, tight binding) and binding energies below it.
    for factor, what in ENERGY_RATIOS.items():
        if abs(np.log(abs(ratio) / factor)) < 0.03 and ratio > 0:
            text = f"total energies are {ratio:.3g} times the sum of the free atoms' energies, as if {what}"
            findings.append(Finding("error", "energy_size", text, "check the unit of the energies"))
            break
    spreads = []
    for members in dataset.compositions().values():
        own = [float(dataset.frames[n].energy) for n in members if dataset.frames[n].energy is not None]  # type: ignore[arg-type]
        if len(own) > 4:
            spreads.append(np.subtract(*np.percentile(own, [75, 25])) / len(dataset.frames[members[0]]))
    if spreads and np.median(spreads) > 0.05:
        text = f"energies of one molecule spread over {np.median(spreads) / EV:.2g} eV an atom"
        findings.append(
            Finding(
                "warning",
                "energy_size",
                text,
                "check their unit, and whether broken molecules are meant to be there",
            )
        )
    return findings


def _free_atoms(frame: Frame) -> float:
    """A rough all-electron energy of the free atoms, hartree: Thomas-Fermi with Scott's and Schwinger's corrections
    (Englert and Schwinger, Phys. Rev. A 29, 2331, 1984): -0.768745 Z^(7/3) + Z^2 / 2 - 0.2699 Z^(5/3)."""
    z = frame.numbers.astype(float)
    return float(np.sum(-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.2699 * z ** (5 / 3)))


def check_dipoles(dataset: Dataset) -> list[Finding]:
    """Dipoles against the file's charges, and their size against the molecule's spread of nuclear charge."""
    both = [n for n in dataset.having("dipole") if dataset.frames[n].charges is not None]
    if len(both) >= 3:
        x, y = [], []
        for n in both:
            frame = dataset.frames[n]
            assert frame.charges is not None and frame.dipole is not None
            x.append(frame.charges @ (frame.positions - _nuclear_centre(frame)))
            y.append(frame.dipole)
        flat_x, flat_y = np.concatenate(x), np.concatenate(y)
        slope = float(flat_x @ flat_y / max(flat_x @ flat_x, 1e-30))
        fit = float(np.corrcoef(flat_x, flat_y)[0, 1])
        best = min(DIPOLE_RATIOS, key=lambda ratio: abs(np.log(max(slope, 1e-30) / ratio)))
        # Charges of a population analysis do not give the dipole exactly: only a close hit with a close fit counts.
        if fit > 0.995 and abs(np.log(slope)) > 0.3 and abs(np.log(slope / best)) < 0.08:
            text = f"dipoles are {slope:.4g} times what the charges give (correlation {fit:.3f})"
            return [
                Finding(
                    "error", "dipole", text, f"as if {DIPOLE_RATIOS[best]}: check the unit of the dipoles"
                )
            ]
    sizes = []
    for n in dataset.having("dipole"):
        frame = dataset.frames[n]
        if len(frame) > 1:
            assert frame.dipole is not None
            extent = np.sqrt(np.mean(((frame.positions - _nuclear_centre(frame)) ** 2).sum(1)))
            sizes.append(float(np.linalg.norm(frame.dipole)) / extent)
    # The effective charge |mu| / extent of neutral molecules: water 0.5, HF 0.7, urea 0.5, glycine zwitterion 1.2.
    if sizes and np.median(sizes) > 2.0:
        text = f"dipoles are those of {np.median(sizes):.1f} e over the extent of the molecule"
        return [
            Finding("warning", "dipole", text, "more than molecules have: debye taken for an atomic unit?")
        ]
    return []


def _nuclear_centre(frame: Frame) -> FloatArray:
    z = frame.numbers.astype(float)
    return np.asarray(z @ frame.positions / z.sum(), float)


def check_origin(dataset: Dataset) -> list[Finding]:
    """For ions: does the dipole depend on where the molecule stands? About the centre of nuclear charge it does not."""
    findings = []
    for (numbers, charge, _), members in dataset.compositions().items():
        own = [n for n in members if dataset.frames[n].dipole is not None]
        if charge == 0 or len(own) < 5:
            continue
        places = np.array([_nuclear_centre(dataset.frames[n]) for n in own])
        places -= places.mean(0)
        if np.sqrt((places**2).sum(1).mean()) < 0.5:
            continue
        dipoles = np.array([dataset.frames[n].dipole for n in own])
        slope = float((places * (dipoles - dipoles.mean(0))).sum() / (places**2).sum())
        if abs(slope / charge) > 0.5:
            findings.append(
                Finding(
                    "error",
                    "origin",
                    f"the dipole of the ion {formula(numbers)} ({charge:+d}) moves with the molecule, {slope:+.2f} e bohr a bohr",
                    "it is about the origin of the coordinates: read with dipole_origin='zero'"
                    if slope / charge > 0
                    else "its origin was declared as that of the coordinates, but it is about the molecule's own centre",
                    tuple(own),
                )
            )
    return findings


def check_charges(dataset: Dataset) -> list[Finding]:
    """Atomic charges must sum to the total charge; an odd number of electrons is worth a word."""
    wrong = []
    for n in dataset.having("charges"):
        frame = dataset.frames[n]
        assert frame.charges is not None
        if abs(float(frame.charges.sum()) - frame.charge) > 0.05:
            wrong.append(n)
    findings = []
    if wrong:
        sums = [float(dataset.frames[n].charges.sum()) for n in wrong]  # type: ignore[union-attr]
        text = f"atomic charges sum to {np.median(sums):+.2f} in {len(wrong)} geometries, not to the total charge ({_some(wrong)})"
        findings.append(
            Finding(
                "warning",
                "charges",
                text,
                "declare charge=..., or name the key of the total charge",
                tuple(wrong),
            )
        )
    odd = [n for n, frame in enumerate(dataset.frames) if (int(frame.numbers.sum()) - frame.charge) % 2]
    if odd:
        text = f"{len(odd)} geometries have an odd number of electrons ({_some(odd)})"
        findings.append(
            Finding("note", "charges", text, "radicals? otherwise declare the total charge", tuple(odd))
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
            values = np.array([_size(dataset.frames[n], name) for n in own])
            middle = np.median(values)
            width = 1.4826 * np.median(np.abs(values - middle))
            if width > 0:
                out += [n for n, z in zip(own, np.abs(values - middle) / width, strict=True) if z > OUTLIER]
    return [
        Finding(
            "warning",
            "outliers",
            f"the {name} of {len(frames)} geometries stand more than {OUTLIER:.0f} robust standard deviations out ({_some(frames)})",
            "look at them: SCF in another state, a broken molecule, or a failed calculation",
            tuple(frames),
        )
        for name, frames in found.items()
        if frames
    ]


def _size(frame: Frame, name: str) -> float:
    value = getattr(frame, name)
    return float(value) if name == "energy" else float(np.abs(value).max())


def check_levels(dataset: Dataset) -> list[Finding]:
    """Several levels of theory: declared ones, and energies of one molecule in groups far apart."""
    findings = []
    levels = sorted({frame.level for frame in dataset.frames})
    if len(levels) > 1:
        text = (
            f"{len(levels)} levels of theory are mixed: {', '.join(level or '(unnamed)' for level in levels)}"
        )
        findings.append(
            Finding(
                "error", "levels", text, "train on one level at a time (the cheap one first, then fine-tune)"
            )
        )
    for (numbers, _, _), members in dataset.compositions().items():
        own = sorted(
            (float(dataset.frames[n].energy), n) for n in members if dataset.frames[n].energy is not None
        )  # type: ignore[arg-type]
        if len(own) < 10:
            continue
        energies = np.array([energy for energy, _ in own])
        gaps = np.diff(energies)
        cut = int(np.argmax(gaps))
        low, high = energies[: cut + 1], energies[cut + 1 :]
        within = max(np.std(low), np.std(high), 1e-9)
        # Two groups of some size with a gap many times their own width: conformers do not do that.
        if (
            min(len(low), len(high)) >= max(3, 0.05 * len(own))
            and gaps[cut] > 6 * within
            and gaps[cut] > 0.02
        ):
            upper = tuple(sorted(n for _, n in own[cut + 1 :]))
            text = (
                f"the energies of {formula(numbers)} fall into two groups ({len(low)} and {len(high)} geometries) "
                f"{gaps[cut]:.3g} hartree apart, each only {within:.2g} wide"
            )
            findings.append(
                Finding(
                    "error",
                    "levels",
                    text,
                    "two levels of theory, or two electronic states? Keep one of them",
                    upper,
                )
            )
    return findings


def _some(frames: list[int], most: int = 5) -> str:
    """'geometries 1, 2, 5, ...' counted from 1 as a user counts them in the file."""
    shown = ", ".join(str(n + 1) for n in frames[:most])
    return (
        f"{'geometry' if len(frames) == 1 else 'geometries'} {shown}{', ...' if len(frames) > most else ''}"
    )


def describe(findings: list[Finding]) -> str:
    """The findings as text for a terminal, one a paragraph; a sentence when there is none."""
    if not findings:
        return "The audit found nothing that speaks against training on this data set."
    return "\n".join(f"- {finding}" for finding in findings)


CHECKS: tuple[Callable[[Dataset], list[Finding]], ...] = (
    check_zero,
    check_distances,
    check_duplicates,
    check_force_energy,
    check_energy_size,
    check_dipoles,
    check_origin,
    check_charges,
    check_outliers,
    check_levels,
)
