"""Vibrational levels of one molecule from its potential energy and dipole surface: one call, one typed result.

Diatomics: exactly, on a grid. Triatomics: exactly, on a grid of Radau coordinates. Up to nine modes: configuration
interaction with Watson's Hamiltonian, where the basis suffices. Larger molecules: perturbation theory with resonances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError, RunStopped
from hpcir.molecules.eckart import eckart_frame
from hpcir.molecules.structures import Structure
from hpcir.units import KM_PER_MOL_PER_E2_ME, PER_CM
from hpcir.vibrations.levels.exact import diatomic_states, triatomic_states
from hpcir.vibrations.levels.force_field import ForceField, quartic_force_field
from hpcir.vibrations.levels.harmonic import minimum_of, surface_modes
from hpcir.vibrations.levels.large_amplitude import (
    LargeAmplitude,
    frozen_frame,
    large_amplitudes,
    moving_modes,
    strongly_anharmonic,
)
from hpcir.vibrations.levels.mode_expansion import cut_uncertainty
from hpcir.vibrations.levels.naming import assigned, kind_of, matched, partners, product_name
from hpcir.vibrations.levels.result import Level, Levels, Method
from hpcir.vibrations.levels.rovibration import EckartFrame, eckart_frame_of, ground_state_constants
from hpcir.vibrations.levels.surface import Surface
from hpcir.vibrations.levels.vci import VciSettings, settings_for, variational_levels
from hpcir.vibrations.levels.vpt2 import Resonance, VibrationalStates, perturbed_levels, wanted_quanta
from hpcir.vibrations.mode_names import describe_modes
from hpcir.vibrations.normal_modes import NormalModes

# Configuration interaction is tried up to this many modes, and kept when halving its basis moves no fundamental by more
# than this (cm-1).
MAX_VARIATIONAL_MODES, CONVERGED = 9, 3.0
# Products in the basis of a member's levels, of which only the differences between members count.
MEMBER_STATES = 900
# Members that put a fundamental this far apart (cm-1) by their cuts at zero-point amplitudes and beyond do not know the
# surface there.
DOUBTFUL = 3.0
# A member's minimum beyond this many zero-point amplitudes along a mode is another one.
SAME_BASIN = 2.0
# An imaginary mode beyond this (cm-1) is no numerical noise.
SADDLE = 30.0
# A fundamental that leaves its harmonic place by more than this fraction says that the expansion diverges.
DIVERGED = 0.4


@dataclass(frozen=True)
class SolvedSurface:
    """One surface solved. numbers: the modes in the expansion, from 1 by ascending wavenumber; perturbed, final: states
    by perturbation theory and by the method; converged: cm-1, nan for other methods than variation; doubts: modes along
    which the members disagree; refused: why the surface was not solved beyond perturbation theory."""

    minimum: Structure
    modes: NormalModes
    frame: EckartFrame
    field: ForceField
    numbers: tuple[int, ...]
    perturbed: VibrationalStates
    final: VibrationalStates
    method: Method
    converged: float
    resonances: tuple[Resonance, ...]
    large: tuple[LargeAmplitude, ...]
    doubts: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A member of the committee that has no levels to compare, and why."""

    reason: str


MemberStates = VibrationalStates | LeftOut
# States, the method, and how far fundamentals are from converged (cm-1, or nan).
Solution = tuple[VibrationalStates, Method, float]


def vibrational_levels(
    surface: Surface,
    near: Structure,
    masses: FloatArray,
    members: Sequence[Surface] = (),
    tick: Callable[[str], None] = lambda word: None,
    quick: bool = False,
) -> Levels:
    """Levels of the molecule at the surface's minimum near a structure, for masses (N,) in electron masses.

    members: surfaces of the committee's members, for error bars. tick is called with a word before each part of the
    work. quick: perturbation theory, whatever the molecule's size.
    Raises InputError at a saddle point and where the expansion diverges, RunStopped where there is no minimum.
    """
    solved = solve_surface(surface, near, masses, members, tick, quick)
    others = []
    for number, member in enumerate(members, 1):
        tick(f"member {number} of {len(members)}")
        others.append(member_states(member, solved, masses))
    return levels_of(solved, others)


def levels_of(solved: SolvedSurface, others: Sequence[MemberStates]) -> Levels:
    """The result, from the surface solved and from the committee's members' states, whose spreads are its error
    bars. Members that are left out are counted and named in the remarks."""
    return _Table(solved, others).levels()


def solve_surface(
    surface: Surface,
    near: Structure,
    masses: FloatArray,
    members: Sequence[Surface] = (),
    tick: Callable[[str], None] = lambda word: None,
    quick: bool = False,
) -> SolvedSurface:
    """Minimum, normal modes, force field, perturbation theory, and the best method that is affordable and that the
    members, if any, allow."""
    tick("minimum and normal modes")
    minimum = minimum_of(surface, near)
    modes = surface_modes(surface, minimum, masses)
    check_minimum(modes, minimum.name)
    large = large_amplitudes(modes, minimum)
    frame = frozen_frame(eckart_frame_of(modes), large)
    if not len(frame):
        raise InputError(
            "every mode is a large amplitude, and no expansion in normal coordinates describes one",
            where=minimum.name,
            value=", ".join(f"{mode.wavenumber:.0f} cm-1" for mode in large),
        )
    numbers = tuple(mode + 1 for mode in moving_modes(len(modes), large))
    tick("force field and perturbation theory")
    field = quartic_force_field(surface, frame)
    result = perturbed_levels(field, frame, wanted_quanta(len(frame)))
    large = _checked(result.states, frame, numbers, minimum.name, large)
    doubts = _doubts(members, frame, numbers)
    tick("levels")
    usual: Solution = (result.states, "perturbation", float("nan"))
    refused = ""
    try:
        best = usual if doubts or quick else _best(surface, minimum, masses, frame, result.states)
    except RunStopped as error:
        best, refused = usual, str(error)
    return SolvedSurface(
        minimum, modes, frame, field, numbers, result.states, *best, result.resonances, large, doubts, refused
    )


def _doubts(members: Sequence[Surface], frame: EckartFrame, numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Words for the modes along which the members disagree so far out that the surface itself must not be solved."""
    if len(members) < 2:
        return ()
    errors = cut_uncertainty(members, frame)
    return tuple(
        f"v{number}: {error:.0f} cm-1" for number, error in zip(numbers, errors, strict=True) if error > DOUBTFUL
    )


def check_minimum(modes: NormalModes, name: str) -> None:
    """Raise InputError where modes are imaginary."""
    imaginary = modes.wavenumbers[modes.wavenumbers < -SADDLE]
    if len(imaginary):
        raise InputError(
            "the structure is a saddle point of the surface, and vibrational levels belong to minima",
            where=name,
            value="imaginary modes at " + ", ".join(f"{-w:.0f}i cm-1" for w in imaginary),
            hint="start from a structure without that symmetry, or displaced along the mode",
        )


def _checked(
    states: VibrationalStates,
    frame: EckartFrame,
    numbers: tuple[int, ...],
    name: str,
    large: tuple[LargeAmplitude, ...],
) -> tuple[LargeAmplitude, ...]:
    """The large amplitudes, and what perturbation theory shows of others. Raises InputError where it diverges."""
    known = {one.mode for one in large}
    found = list(large)
    for state, product in assigned(states, 1):
        mode = int(states.quanta[product].argmax())
        harmonic = float(frame.frequencies[mode] / PER_CM)
        wavenumber = float((states.energies[state] - states.energies[0]) / PER_CM)
        if numbers[mode] - 1 in known:
            continue
        if abs(wavenumber / harmonic - 1) > DIVERGED:
            raise InputError(
                f"the expansion of the surface diverges: mode v{numbers[mode]} comes out at {wavenumber:.0f} cm-1",
                where=name,
                value=f"{harmonic:.0f} cm-1 in the harmonic approximation",
                hint="the motion is wide, or the surface is rough there: look at the model's labels near the minimum",
            )
        word = strongly_anharmonic(numbers[mode] - 1, harmonic, wavenumber)
        found += [word] if word is not None else []
    return tuple(sorted(found, key=lambda one: one.mode))


def _best(
    surface: Surface,
    minimum: Structure,
    masses: FloatArray,
    frame: EckartFrame,
    perturbed: VibrationalStates,
) -> Solution:
    """States by the best affordable method.

    Raises RunStopped where the surface is not one of a single well far from the minimum."""
    if len(masses) == 2:
        return diatomic_states(surface, minimum, masses), "grid", float("nan")
    if len(masses) == 3 and len(frame) == (4 if frame.linear else 3):
        states = perturbed if frame.linear else variational_levels(surface, frame).states
        return triatomic_states(surface, minimum, masses, frame, states), "grid", float("nan")
    if len(frame) > MAX_VARIATIONAL_MODES:
        return perturbed, "perturbation", float("nan")
    result = variational_levels(surface, frame)
    full, half = result.states.energies, result.halved
    fundamentals = [state for state, _ in assigned(result.states, 1)]
    moved = float(np.abs((full - full[0] - half + half[0])[fundamentals]).max() / PER_CM)
    if moved > CONVERGED or len(fundamentals) < len(frame):
        return perturbed, "perturbation", moved
    return result.states, "variational", moved


def member_states(surface: Surface, solved: SolvedSurface, masses: FloatArray) -> MemberStates:
    """A member's states at its own minimum, cheaply: only differences between members are wanted of them.

    A member without a minimum where the surface has its own, or without the levels in it, is left out."""
    try:
        return _member_states(surface, solved, masses)
    except RunStopped as error:
        return LeftOut(str(error))


def _member_states(surface: Surface, solved: SolvedSurface, masses: FloatArray) -> MemberStates:
    minimum = minimum_of(surface, solved.minimum)
    moved = _displacement(minimum, solved)
    if moved > SAME_BASIN:
        return LeftOut(f"its minimum is {moved:.1f} zero-point amplitudes away along a mode")
    modes = surface_modes(surface, minimum, masses)
    frame = frozen_frame(eckart_frame_of(modes), solved.large)
    if frame.frequencies.min() <= 0:
        return LeftOut("its surface has no minimum there")
    if solved.method == "grid" and len(masses) == 2:
        return diatomic_states(surface, minimum, masses)
    if solved.method == "perturbation" or frame.linear:
        field = quartic_force_field(surface, frame, complete=False)
        return perturbed_levels(field, frame, wanted_quanta(len(frame))).states
    usual = settings_for(len(frame))
    settings = VciSettings(usual.functions, usual.quadrature, MEMBER_STATES, usual.coupling, usual.dipole_coupling)
    return variational_levels(surface, frame, settings).states


def _displacement(minimum: Structure, solved: SolvedSurface) -> float:
    """The largest displacement of a minimum from the solved surface's along one of the modes in the expansion, in
    zero-point amplitudes, 1/sqrt(2 omega)."""
    modes = solved.modes
    framed = eckart_frame(minimum.positions, modes.positions, modes.masses)[0]
    weighted = np.sqrt(modes.masses)[:, None] * (framed - modes.positions)
    normal = np.einsum("kia,ia->k", modes.modes, weighted)[np.array(solved.numbers) - 1]
    return float(np.abs(normal * np.sqrt(2 * solved.frame.frequencies)).max())


def intensities(states: VibrationalStates) -> FloatArray:
    """(S,) km/mol of the transitions from the ground state: N_A/(12 eps0 c^2) 2 omega |<0|mu|s>|^2."""
    gaps = states.energies - states.energies[0]
    return np.asarray(KM_PER_MOL_PER_E2_ME * 2 * gaps * (states.moments**2).sum(1))


class _Table:
    """The rows of the result."""

    def __init__(self, solved: SolvedSurface, committee: Sequence[MemberStates]) -> None:
        self.solved, self.states = solved, solved.final
        self.words = describe_modes(solved.modes, solved.minimum)
        self.remarks = {one.mode: one.reason for one in solved.large}
        self.gaps = (self.states.energies - self.states.energies[0]) / PER_CM
        self.strengths = intensities(self.states)
        others = [one for one in committee if not isinstance(one, LeftOut)]
        left_out = [(number, one) for number, one in enumerate(committee, 1) if isinstance(one, LeftOut)]
        self.left_out = [f"member {number} of {len(committee)} ({one.reason})" for number, one in left_out]
        self.stderr, self.strength_stderr = self._spreads(others)
        zero = np.array([other.energies[0] for other in others]) / PER_CM
        self.zero_stderr = float(zero.std(ddof=1)) if len(zero) > 1 else float("nan")
        self.members = len(others)
        self.perturbed = {
            tuple(solved.perturbed.quanta[b].tolist()): float(
                (solved.perturbed.energies[s] - solved.perturbed.energies[0]) / PER_CM
            )
            for s, b in assigned(solved.perturbed, 2)
        }

    def _spreads(self, others: Sequence[VibrationalStates]) -> tuple[FloatArray, FloatArray]:
        """Standard deviations over the members of wavenumbers (S,) and intensities (S,); nan for fewer than two."""
        if len(others) < 2:
            return np.full(len(self.gaps), np.nan), np.full(len(self.gaps), np.nan)
        gaps, strengths = [], []
        for other in others:
            place = matched(self.states, other)
            found = np.full((2, len(self.gaps)), np.nan)
            known = place >= 0
            found[0, known] = ((other.energies - other.energies[0]) / PER_CM)[place[known]]
            found[1, known] = intensities(other)[place[known]]
            gaps.append(found[0])
            strengths.append(found[1])
        return np.std(gaps, axis=0, ddof=1), np.std(strengths, axis=0, ddof=1)

    def levels(self) -> Levels:
        solved = self.solved
        rows = [self._row(state, product) for state, product in assigned(self.states, 2) if self._described(product)]
        rows += [self._frozen(one) for one in solved.large if one.frozen]
        turning = solved.frame.turning
        constants = solved.frame.rotational_constants, ground_state_constants(solved.frame, solved.field.cubic)
        equilibrium, ground = (self._constants(values, turning) for values in constants)
        return Levels(
            method=solved.method,
            members=self.members,
            zero_point_per_cm=float(self.states.energies[0] / PER_CM),
            zero_point_stderr_per_cm=self.zero_stderr,
            rotational_equilibrium_per_cm=equilibrium,
            rotational_per_cm=ground,
            resonances=tuple(self._resonance(one) for one in solved.resonances),
            converged_per_cm=solved.converged,
            levels=tuple(sorted(rows, key=lambda row: row.wavenumber_per_cm)),
            positions=solved.minimum.positions,
            remarks=self._remarks(),
        )

    def _described(self, product: int) -> bool:
        """Overtones and combinations of a hindered rotor are left out: nothing of them would be right."""
        rotors = {one.mode for one in self.solved.large if one.rotor}
        quanta = self.states.quanta[product]
        return kind_of(quanta) == "fundamental" or not any(
            self.solved.numbers[mode] - 1 in rotors for mode in np.flatnonzero(quanta)
        )

    def _constants(self, values: FloatArray, turning: tuple[int, ...]) -> tuple[float, ...]:
        found = [float(values[axis] / PER_CM) for axis in turning]
        return tuple(found[:1] if self.solved.frame.linear else found)

    def _row(self, state: int, product: int) -> Level:
        solved, quanta = self.solved, self.states.quanta[product]
        excited = np.flatnonzero(quanta)
        whole = [solved.numbers[mode] - 1 for mode in excited]
        kind = kind_of(quanta)
        reasons = [f"v{mode + 1}: {self.remarks[mode]}" for mode in whole if mode in self.remarks]
        harmonic = float(quanta.astype(float) @ solved.frame.frequencies / PER_CM)
        return Level(
            name=product_name(quanta, solved.numbers),
            kind=kind,
            motion=self.words[whole[0]] if len(whole) == 1 else " with ".join(self.words[mode] for mode in whole),
            wavenumber_per_cm=float(self.gaps[state]),
            stderr_per_cm=float(self.stderr[state]),
            intensity_km_per_mol=float(self.strengths[state]),
            stderr_km_per_mol=float(self.strength_stderr[state]),
            harmonic_per_cm=harmonic,
            harmonic_km_per_mol=float(solved.modes.intensities[whole[0]]) if kind == "fundamental" else 0.0,
            perturbation_per_cm=self.perturbed.get(tuple(quanta.tolist()), float("nan")),
            share=float(self.states.vectors[product, state] ** 2),
            partners=partners(self.states, state, product, solved.numbers),
            remark="; ".join(reasons),
        )

    def _frozen(self, one: LargeAmplitude) -> Level:
        modes = self.solved.modes
        return Level(
            name=f"v{one.mode + 1}",
            kind="fundamental",
            motion=self.words[one.mode],
            wavenumber_per_cm=one.wavenumber,
            stderr_per_cm=float("nan"),
            intensity_km_per_mol=float(modes.intensities[one.mode]),
            stderr_km_per_mol=float("nan"),
            harmonic_per_cm=one.wavenumber,
            harmonic_km_per_mol=float(modes.intensities[one.mode]),
            perturbation_per_cm=float("nan"),
            share=1.0,
            partners=(),
            remark=one.reason,
        )

    def _resonance(self, one: Resonance) -> str:
        numbers = self.solved.numbers
        first, second = (numbers[mode] for mode in one.lower)
        lower = f"2 v{first}" if first == second else f"v{first} + v{second}"
        return f"v{numbers[one.upper]} and {lower}: {one.gap:+.0f} cm-1 apart, cubic constant {one.coupling:.0f} cm-1"

    def _remarks(self) -> tuple[str, ...]:
        solved = self.solved
        said = [f"v{one.mode + 1} at {one.wavenumber:.0f} cm-1 is {one.reason}" for one in solved.large]
        leading = {int(self.states.quanta[product].argmax()) for _, product in assigned(self.states, 1)}
        said += [
            f"v{number} ({self.words[number - 1]}) leads no state: resonances divide it among others"
            for mode, number in enumerate(solved.numbers)
            if mode not in leading
        ]
        if solved.doubts:
            said.append(
                "the committee disagrees where the wave functions reach, by what it makes of fundamentals: "
                + ", ".join(solved.doubts)
                + "; perturbation theory, which needs the surface near the minimum alone, is given"
            )
        if solved.refused:
            said.append(f"{solved.refused}: perturbation theory, which needs the surface near the minimum, is given")
        if solved.method == "perturbation" and np.isfinite(solved.converged):
            said.append(
                f"the variational basis is too small (halving it moves fundamentals by {solved.converged:.0f} cm-1): "
                "perturbation theory is given"
            )
        if self.left_out:
            rest = f"those of the other {self.members}" if self.members > 1 else "not known"
            said.append(f"error bars are {rest}: left out is {'; '.join(self.left_out)}")
        return tuple(said)
