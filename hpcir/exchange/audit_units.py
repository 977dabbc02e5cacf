"""The audit's checks of units and origins, and their foundations:

- forces against energies: between two geometries a step d apart, E_b - E_a = -d.(F_a + F_b)/2 up to third order in d
  and exactly in a harmonic well, so the slope of one on the other is 1; another slope that is a ratio of units names
  the mistake, a negative one says that gradients were read as forces;
- energies against the free atoms' (Englert and Schwinger, Phys. Rev. A 29, 2331, 1984);
- dipoles against the atomic charges of the file where these are proportional, and against the charge per kind of
  atom that fits them best: hydrogen on N, O or F carries about 0.2 to 0.6 e, oxygen of C=O -0.2 to -1.2 e, no atom
  more than 3 e;
- nearest distances against covalent radii; a molecule read in the wrong unit is 1.89 off.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.exchange.datasets import Dataset, Frame, formula
from hpcir.exchange.findings import Finding, fingerprint, nuclear_centre, some, values
from hpcir.molecules.structures import OVERLAP_FRACTION, Structure, bonds, superimpose
from hpcir.units import ANGSTROM, DEBYE, EV, EV_PER_ANGSTROM, KCAL_PER_MOL, KJ_PER_MOL

# Steps between geometries (bohr, root mean square over the atoms): below the first third-order terms are small.
SMALL_STEP, LARGE_STEP = 0.15, 0.6
# Typical root mean square of a force component, hartree/bohr, from thermal to strongly distorted molecules.
FORCE_RANGE = (5e-4, 0.3)
ACID, CARBONYL = "H on N, O or F", "O of C=O"
_ENERGIES = {"hartree": 1.0, "eV": EV, "kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL}
_LENGTHS = {"bohr": 1.0, "angstrom": ANGSTROM}
_DIPOLES = {"e*bohr": 1.0, "debye": DEBYE, "e*A": ANGSTROM}


def check_distances(dataset: Dataset) -> list[Finding]:
    """Nearest distances against covalent radii: positions in the wrong unit, and overlapping atoms."""
    ratios = np.array([_nearest(frame) for frame in dataset.frames])
    known = ratios[np.isfinite(ratios)]
    if not len(known):
        return []
    typical = max(float(np.median(known)), 1e-9)
    text = f"the nearest atoms are {typical:.2f} times the sum of their covalent radii apart"
    if abs(np.log(typical)) > 0.35:
        what = {True: "angstrom read as bohr", False: "bohr read as angstrom"}[typical < 1]
        factor = ANGSTROM if typical < 1 else 1 / ANGSTROM
        as_if = f", as if {what}" if abs(np.log(typical * factor)) < 0.25 else ""
        advice = "check the unit of the positions, such as --units positions=bohr, and the elements"
        return [Finding("error", "positions", text + as_if, advice)]
    close = np.flatnonzero(ratios < OVERLAP_FRACTION).tolist()
    if not close:
        return []
    return [
        Finding(
            "warning",
            "overlap",
            f"atoms overlap in {len(close)} geometries, the worst at {ratios[close].min():.2f} of the sum of their "
            f"covalent radii ({some(close)})",
            "look at these geometries, and leave them out unless they are meant",
            tuple(close),
        )
    ]


def _nearest(frame: Frame) -> float:
    """The smallest distance in units of the sum of covalent radii (NaN for one atom)."""
    from ase.data import covalent_radii

    if len(frame) < 2:
        return float("nan")
    radii = np.asarray(covalent_radii)[frame.numbers] * ANGSTROM
    distance = np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1)
    ratio = distance / (radii[:, None] + radii[None])
    return float(ratio[np.triu_indices(len(frame), 1)].min())


def check_force_energy(dataset: Dataset) -> list[Finding]:
    """The slope of energy differences on the work of the forces between nearby geometries: 1 when units agree."""
    rows = [
        _work_and_change(dataset.frames[a], dataset.frames[b])
        for members in dataset.compositions().values()
        for a, b in _close_pairs(dataset, members)
    ]
    near = [row for row in rows if row[2] < SMALL_STEP]
    exact = len(near) >= 10
    used = np.array(near if exact else rows)
    if len(used) < 3:
        return _force_size(dataset)
    work, change, _ = used.T
    slope = _weighted_median(change / np.where(work == 0, 1e-30, work), np.abs(work))
    scatter = float(np.median(np.abs(change - slope * work)) / max(float(np.median(np.abs(change))), 1e-30))
    text = f"energy changes between nearby geometries are {slope:.4g} times what the forces say ({len(used)} pairs)"
    if slope < 0 and scatter < 0.7:
        return [Finding("error", "force_energy", text, "gradients were read as forces: change their sign")]
    if slope <= 0 or scatter > (0.3 if exact else 0.7):
        text = f"energies do not follow the forces: over {len(used)} pairs the scatter is {scatter:.0%}"
        advice = "check that both are of one calculation, of one level of theory, and in one orientation"
        return [Finding("warning", "force_energy", text, advice)]
    if abs(np.log(slope)) < (0.1 if exact else 0.3):
        return []
    return [Finding("error", "force_energy", text, f"the units do not agree: {_explain(slope)}")]


def _weighted_median(ratios: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(ratios)
    total = np.cumsum(weights[order])
    return float(ratios[order][np.searchsorted(total, 0.5 * total[-1])])


def _explain(slope: float) -> str:
    """The confusion of units that multiplies energies by `slope` relative to forces times lengths, in words."""
    candidates = []
    for true, size in _ENERGIES.items():
        for read, other in _ENERGIES.items():
            if true != read:
                candidates.append((other / size, f"energies in {true} read as {read}"))
                candidates.append((size / other, f"forces in {true} per length read as {read} per length"))
            for true_length, length in _LENGTHS.items():
                for read_length, other_length in _LENGTHS.items():
                    if true_length != read_length:
                        ratio = (size / length) / (other / other_length)
                        candidates.append((ratio, f"forces in {true}/{true_length} read as {read}/{read_length}"))
    fitting = sorted((abs(float(np.log(slope / ratio))), text) for ratio, text in candidates)
    if fitting[0][0] > 0.15:
        return "by no known ratio of units; check both"
    best = [text for distance, text in fitting if distance < fitting[0][0] + 0.03]
    return "as if " + ", or ".join(dict.fromkeys(best[:4]))


def _close_pairs(dataset: Dataset, members: list[int], most: int = 200) -> list[tuple[int, int]]:
    """The nearest pairs among geometries of one molecule with energies and forces, by invariant fingerprints."""
    from scipy.spatial import cKDTree

    usable = [n for n in members if dataset.frames[n].forces is not None and dataset.frames[n].energy is not None]
    if len(usable) < 2 or len(dataset.frames[usable[0]]) < 2:
        return []
    prints = np.array([fingerprint(dataset.frames[n]) for n in usable])
    near, found = (np.asarray(a) for a in cKDTree(prints).query(prints, k=min(4, len(usable))))
    pairs = set()
    for row in range(len(usable)):
        for distance, other in zip(near[row], found[row], strict=True):
            a, b = sorted((usable[row], usable[int(other)]))
            if a != b and np.array_equal(dataset.frames[a].numbers, dataset.frames[b].numbers):
                pairs.add((float(distance), a, b))
    steps = [(a, b, _step(dataset.frames[a], dataset.frames[b])[0]) for _, a, b in sorted(pairs)[:most]]
    return [(a, b) for a, b, step in steps if 1e-6 < _rms(step) < LARGE_STEP]


def _rms(step: FloatArray) -> float:
    return float(np.sqrt((step**2).sum() / len(step)))


def _step(one: Frame, other: Frame) -> tuple[FloatArray, FloatArray]:
    """The displacement from one geometry to the other superimposed on it (N, 3), and the rotation (3, 3)."""
    moved, rotation, _ = superimpose(other.positions, one.positions, np.ones(len(one)))
    return moved - one.positions, rotation


def _work_and_change(one: Frame, other: Frame) -> tuple[float, float, float]:
    """-d.(F_a + F_b)/2, E_b - E_a and the step's size, for frames that have energies and forces."""
    step, rotation = _step(one, other)
    forces = 0.5 * (np.asarray(one.forces) + np.asarray(other.forces) @ rotation.T)
    return -float(np.sum(forces * step)), float(other.energy or 0.0) - float(one.energy or 0.0), _rms(step)


def _force_size(dataset: Dataset) -> list[Finding]:
    """The typical size of forces, for a set without neighbouring geometries."""
    having = dataset.having("forces")
    sizes = [np.sqrt(np.mean(np.square(force))) for force in values(dataset, having, "forces")]
    if not sizes or FORCE_RANGE[0] < np.median(sizes) < FORCE_RANGE[1]:
        return []
    low, high = (limit / EV_PER_ANGSTROM for limit in FORCE_RANGE)
    text = f"forces are {np.median(sizes) / EV_PER_ANGSTROM:.3g} eV/A (root mean square of a component)"
    advice = f"check their unit: molecules have {low:.2g} to {high:.2g} eV/A unless all geometries are minima"
    return [Finding("warning", "force_size", text, advice)]


def check_energy_size(dataset: Dataset) -> list[Finding]:
    """Energies against the sum of free atoms, and their spread: a wrong unit."""
    having = dataset.having("energy")
    energies = np.array(values(dataset, having, "energy"), float)
    if not having or not np.any(energies):
        return []
    findings = []
    ratio = float(np.median(energies / [_free_atoms(dataset.frames[n]) for n in having]))
    # Below 1 there is no verdict: pseudopotentials, tight binding and binding energies all lie there.
    if ratio > 1.4 or ratio < -1.4:
        true, read, off = _nearest_pair(_ENERGIES, abs(ratio))
        as_if = f", as if {true} read as {read}" if off < 0.1 else ""
        text = f"energies are {ratio:.3g} times those of the free atoms{as_if}"
        findings.append(Finding("error", "energy_size", text, "check the unit of the energies"))
    spreads = []
    for members in dataset.compositions().values():
        own = [n for n in members if dataset.frames[n].energy is not None]
        if len(own) > 4:
            low, high = np.quantile(np.array(values(dataset, own, "energy"), float), [0.25, 0.75])
            spreads.append(float(high - low) / len(dataset.frames[members[0]]))
    if spreads and np.median(spreads) > 0.05:
        text = f"the energies of one molecule spread over {np.median(spreads) / EV:.2g} eV an atom"
        advice = "check their unit, and whether broken molecules are meant to be there"
        findings.append(Finding("warning", "energy_size", text, advice))
    return findings


def _free_atoms(frame: Frame) -> float:
    """The free atoms' energy, hartree: -0.768745 Z^(7/3) + Z^2 / 2 - 0.2699 Z^(5/3) (Englert and Schwinger)."""
    z = frame.numbers.astype(float)
    return float(np.sum(-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.2699 * z ** (5 / 3)))


def _nearest_pair(sizes: dict[str, float], ratio: float) -> tuple[str, str, float]:
    """The unit that, read as another, comes out `ratio` times too large, and how far off in the logarithm."""
    pairs = [
        (abs(float(np.log(ratio * true_size / read_size))), true, read)
        for true, true_size in sizes.items()
        for read, read_size in sizes.items()
        if true != read
    ]
    off, true, read = min(pairs)
    return true, read, off


def check_dipoles_and_charges(dataset: Dataset) -> list[Finding]:
    """Dipoles against the point charges of the same file: a slope that is a ratio of units."""
    both = [n for n in dataset.having("dipole") if dataset.frames[n].charges is not None]
    if len(both) < 3:
        return []
    found = np.concatenate(values(dataset, both, "dipole"))
    charges = values(dataset, both, "charges")
    arms = [dataset.frames[n].positions - nuclear_centre(dataset.frames[n]) for n in both]
    point = np.concatenate([q @ arm for q, arm in zip(charges, arms, strict=True)])
    if not np.any(point) or not np.any(found):
        return []
    slope = float(point @ found / (point @ point))
    cosine = float(point @ found / np.sqrt((point @ point) * (found @ found)))
    # Charges of a population analysis give the dipole only roughly (half of it in ammonia by GFN2-xTB): a verdict
    # needs charges that give it exactly but for a factor, and that factor a ratio of units.
    if cosine < 0.999 or abs(np.log(slope)) < 0.3:
        return []
    true, read, off = _nearest_pair(_DIPOLES, slope)
    if off > 0.02:
        return []
    text = f"dipoles are {slope:.4g} times what the file's charges give, as if {true} read as {read}"
    return [Finding("error", "dipole", text, "check the unit of the dipoles")]


def check_dipole_size(dataset: Dataset) -> list[Finding]:
    """Charges, one per kind of atom, that fit the dipoles best: too large, too small or reversed."""
    findings = []
    for (numbers, charge, _), members in dataset.compositions().items():
        frames = [dataset.frames[n] for n in members if dataset.frames[n].dipole is not None]
        frames = [frame for frame in frames if np.array_equal(frame.numbers, frames[0].numbers)]
        if len(frames) < 6 or len(set(numbers)) < 2:
            continue
        fitted, cosine = _fitted_charges(frames, _kinds(frames[0]), charge)
        if cosine < 0.7:
            continue
        judged = _judged(fitted, charge)
        if judged is not None:
            severity, advice = judged
            shown = ", ".join(f"{kind} {q:+.2f}" for kind, q in fitted.items())
            text = f"dipoles of {formula(numbers)} are those of the charges {shown} (e)"
            findings.append(Finding(severity, "dipole", text, advice))
    return findings


def _judged(fitted: dict[str, float], charge: int) -> tuple[str, str] | None:
    """Severity and advice for charges that atoms do not carry; None for those that they may."""
    acid, carbonyl = fitted.get(ACID), fitted.get(CARBONYL)
    large = {kind: 0.7 if kind.startswith("H") else 1.25 if kind == CARBONYL else 3.0 for kind in fitted}
    if any(abs(q) > large[kind] for kind, q in fitted.items()):
        return "error", "more than atoms carry: debye read as an atomic unit (2.5417) or as e*A (4.8032)?"
    if charge:
        return None
    if (acid is not None and acid < -0.05) or (acid is None and carbonyl is not None and carbonyl > 0.05):
        return "error", "the signs are reversed: the vector must point from minus to plus. Change its sign"
    small = (acid is not None and acid < 0.18) or (acid is None and carbonyl is not None and carbonyl > -0.2)
    if small:
        return "warning", "less than atoms carry: an atomic unit (2.5417) or e*A (4.8032) read as debye?"
    return None


def _kinds(frame: Frame) -> list[str]:
    """A kind for each atom: its element, hydrogen on N, O or F apart, and oxygen bonded to one carbon alone."""
    structure = Structure(frame.numbers, frame.positions)
    kinds = structure.symbols
    pairs = bonds(structure)
    around = Counter(atom for pair in pairs for atom in pair)
    for i, j in pairs:
        for one, other in ((i, j), (j, i)):
            if frame.numbers[one] == 1 and frame.numbers[other] in (7, 8, 9):
                kinds[one] = ACID
            elif frame.numbers[one] == 8 and frame.numbers[other] == 6 and around[one] == 1:
                kinds[one] = CARBONYL
    return kinds


def _fitted_charges(frames: list[Frame], kinds: list[str], charge: int) -> tuple[dict[str, float], float]:
    """One charge a kind of atom, summing to the total charge, that fit the dipoles best; and the cosine of the fit."""
    names = sorted(set(kinds))
    member = np.array([[kind == name for kind in kinds] for name in names], float)
    arms = [member @ (frame.positions - nuclear_centre(frame)) for frame in frames]
    matrix, target = (
        np.concatenate([arm.T for arm in arms]),
        np.concatenate([np.asarray(f.dipole) for f in frames]),
    )
    if not np.any(target):
        return dict.fromkeys(names, 0.0), 0.0
    found = np.linalg.lstsq(matrix, target, rcond=1e-8)[0]
    fit = matrix @ found
    # Charges in proportion to the nuclei's give no dipole about their centre: they take up the total charge.
    counts = member.sum(1)
    nuclear = member @ frames[0].numbers / counts
    found = found + nuclear * (charge - counts @ found) / (counts @ nuclear)
    cosine = float(fit @ target / max(float(np.linalg.norm(fit) * np.linalg.norm(target)), 1e-30))
    return {name: float(q) for name, q in zip(names, found, strict=True)}, cosine


def check_origin(dataset: Dataset) -> list[Finding]:
    """A dipole about the centre of nuclear charge does not change when the molecule is elsewhere; about the origin of
    the coordinates it changes by the total charge times the distance, which also tells an ion taken for a molecule."""
    findings = []
    for (numbers, charge, _), members in dataset.compositions().items():
        own = [n for n in members if dataset.frames[n].dipole is not None]
        if not own:
            continue
        places = np.array([nuclear_centre(dataset.frames[n]) for n in own])
        places -= places.mean(0)
        name = f"the ion {formula(numbers)} ({charge:+d})" if charge else f"{formula(numbers)}, taken as uncharged,"
        if len(own) < 5 or _rms(places) < 0.5:
            if charge:
                text = f"the origin of the dipoles of {name} cannot be checked: it stands in one place"
                advice = "make sure that --dipole-origin is what the other program used"
                findings.append(Finding("note", "origin", text, advice, tuple(own)))
            continue
        dipoles = np.array(values(dataset, own, "dipole"))
        slope = float((places * (dipoles - dipoles.mean(0))).sum() / (places**2).sum())
        if abs(slope) > 0.5:
            text = f"the dipole of {name} moves with the molecule, {slope:+.2f} e bohr a bohr"
            findings.append(Finding("error", "origin", text, _origin_advice(slope, charge), tuple(own)))
    return findings


def _origin_advice(slope: float, charge: int) -> str:
    if not charge:
        return (
            f"an ion? Then its charge is {round(slope):+d}, and the dipole is about the origin of the coordinates: "
            f"--charge {round(slope)} --dipole-origin zero"
        )
    if slope / charge > 0:
        return "it is about the origin of the coordinates: read it with --dipole-origin zero"
    return "it was declared to be about the origin of the coordinates, and is about a centre of the molecule"
