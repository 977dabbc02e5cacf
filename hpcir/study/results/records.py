"""The results of a run and of its targets as records: what summary.json holds, each number with its unit.

Numbers that are not known are NaN (null in the file); results that a run does not have, or not yet, are None (no key
in the file).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hpcir.sampling.trust import AtomTrust
from hpcir.spectra.bands import Band
from hpcir.storage.records import read_record
from hpcir.study.learning.curve import Errors, StopReason
from hpcir.units import (
    Debye,
    ElementaryCharges,
    KcalPerMol,
    KcalPerMolAngstrom,
    KcalPerMolPer100Ps,
    KmPerMol,
    Microseconds,
    Milliseconds,
    PerCm,
    Seconds,
)

NAN = float("nan")


class EndReason(Enum):
    """The reason why a stage did no more: the deck's accuracy is met, sampling's own goal is reached or nothing new
    was found, an upper limit of the deck came first, or there is no more to be done by design."""

    ACCURACY = "accuracy"
    GOAL = "goal"
    NOTHING_NEW = "nothing_new"
    LIMIT = "limit"
    NO_BANDS = "no_bands"
    FIXED = "fixed"


@dataclass(frozen=True)
class StageEnd:
    """The end of a stage: what it did and why no more, and what more would have bought ('' where it is not known)."""

    stage: str
    reason: EndReason
    sentence: str
    more: str = ""

    def line(self) -> str:
        """Both in a line of the log."""
        return f"{self.stage}: {self.sentence}{f'; {self.more}' if self.more else ''}"


@dataclass(frozen=True)
class StageTime:
    """Wall time of a stage over all sessions, and the time of the cores: of each session's ranks, working or not."""

    stage: str
    seconds: Seconds
    core_seconds: Seconds


@dataclass(frozen=True)
class ModeRow:
    """A normal mode of the model: its harmonic wavenumber and intensity, its position and width in the trajectories,
    and its contribution to the spectrum. The last row of a table is the remainder: a contribution alone."""

    name: str
    harmonic_per_cm: PerCm | None = None
    anharmonic_per_cm: PerCm | None = None
    stderr_per_cm: PerCm | None = None
    width_per_cm: PerCm | None = None
    harmonic_intensity_km_per_mol: KmPerMol | None = None
    contribution_km_per_mol: KmPerMol | None = None


@dataclass(frozen=True)
class Group:
    """A group of atoms (numbers from 1) and its contribution to the spectrum."""

    name: str
    atoms: tuple[int, ...]
    contribution_km_per_mol: KmPerMol


@dataclass(frozen=True)
class LabelFigures:
    """Labels of the main level: those that were learnt from, those of the test, failures, seconds, and the count of
    each purpose; other_levels: labels of cheaper levels."""

    level: str
    count: int
    test_count: int = 0
    failed: int = 0
    seconds: Seconds = 0.0
    by_purpose: dict[str, int] = field(default_factory=dict)
    other_levels: int = 0


@dataclass(frozen=True)
class SamplingFigures:
    """Rounds of sampling, and the reason why sampling stopped."""

    rounds: int
    stopped_because: str = ""
    stopped: StopReason | None = None


@dataclass(frozen=True)
class ModelFigures:
    """The committee, its level of theory, and its errors on labels held out, in atomic units."""

    members: int
    level: str
    held_out: dict[str, float]


@dataclass(frozen=True)
class HarmonicFigures:
    """Harmonic spectra of the model and, where the target was labelled whole, of the label engine, each at its own
    minimum; mae: mean absolute difference of the sorted wavenumbers."""

    mae_per_cm: PerCm = NAN
    engine_wavenumbers_per_cm: tuple[PerCm, ...] | None = None
    engine_intensities_km_per_mol: tuple[KmPerMol, ...] | None = None
    model_wavenumbers_per_cm: tuple[PerCm, ...] = ()
    model_intensities_km_per_mol: tuple[KmPerMol, ...] = ()


@dataclass(frozen=True)
class LevelRow:
    """A fundamental of the quantum levels at the model's minimum: position and intensity with the standard deviation
    over the committee's members, and a remark where the figure should not be trusted."""

    name: str
    motion: str
    wavenumber_per_cm: PerCm
    stderr_per_cm: PerCm
    intensity_km_per_mol: KmPerMol
    stderr_km_per_mol: KmPerMol
    harmonic_per_cm: PerCm
    remark: str = ""


@dataclass(frozen=True)
class LevelFigures:
    """Quantum levels at the model's minimum, 0 K: the method in words, zero-point energy, fundamentals, remarks."""

    method: str
    zero_point_per_cm: PerCm
    zero_point_stderr_per_cm: PerCm
    fundamentals: tuple[LevelRow, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BandEstimate:
    """A band's position by one method, with its standard error (of sampling and committee) and the error of the method
    as measured for this kind of motion: its mean, and the scatter about it; None where that was not measured."""

    method: str
    wavenumber_per_cm: PerCm
    stderr_per_cm: PerCm
    method_error_per_cm: PerCm | None = None
    method_scatter_per_cm: PerCm | None = None


@dataclass(frozen=True)
class BandRow:
    """A band by every method: its modes ('v3'), their harmonic wavenumber (of the label engine where that is known),
    the trajectories' and the levels' estimates, the experiment's position, and what is left of the difference from it
    when the method's error is taken off, which is the level of theory's: computed less measured."""

    assignment: str
    modes: tuple[str, ...]
    intensity_km_per_mol: KmPerMol
    trajectories: BandEstimate
    harmonic_per_cm: PerCm | None = None
    levels: BandEstimate | None = None
    experiment_per_cm: PerCm | None = None
    level_of_theory_per_cm: PerCm | None = None
    level_of_theory_stderr_per_cm: PerCm | None = None


@dataclass(frozen=True)
class TrustVerdict:
    """Distance of the trajectories from the training data: the farthest atom, distances in units of the usual one
    between training environments, the fraction of frames outside the range of a symmetry function, the largest spread
    of the committee, and all of it in words."""

    atom: str | None = None
    largest_distance: float | None = None
    mean_distance: float | None = None
    outside: float | None = None
    largest_spread_kcal_per_mol_angstrom: KcalPerMolAngstrom | None = None
    verdict: str = ""


@dataclass(frozen=True)
class TrustMap:
    """trust.json: every atom's distance from the training data over some frames, the farthest first."""

    unit_of_spread: str = "kcal/mol/A"
    frames: int = 0
    atoms: tuple[AtomTrust, ...] = ()


@dataclass(frozen=True)
class RotamerPopulation:
    """A rotamer (its torsions trans, t, or gauche, g+ and g-, and the shapes of its rings; a mirror image is the same),
    its share of the starts and of production, with standard errors over the trajectories, and of the canonical ensemble
    with that over independent chains, where it was sampled; beside it the harmonic weight of its minima, as a check."""

    name: str
    start: float
    start_stderr: float
    production: float
    production_stderr: float
    canonical: float | None = None
    canonical_stderr: float | None = None
    harmonic: float | None = None


@dataclass(frozen=True)
class ConformerVerdict:
    """Distribution of the trajectories over conformers: rotatable bonds, the fraction of frames with the torsions of
    the minimum of the harmonic lines, conformers seen, the fraction of trans torsions, populations of rotamers and the
    passes between them; how the canonical ensemble was sampled, and the frames left out of it for being outside the
    region covered by the training data; the verdict in words ('': the populations are those of the ensemble, and the
    minimum represents it)."""

    rotatable: int | None = None
    in_minimum: float | None = None
    conformers: int | None = None
    trans_fraction: float | None = None
    populations: tuple[RotamerPopulation, ...] | None = None
    passes: int | None = None
    sampling: str | None = None
    left_out: int | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Family:
    """A family of conformers: its weight in the ensemble with the standard error, where replica exchange gives it, and
    beside it the harmonic one; free energies from the lowest conformer's, the main trajectories that started in it, and
    the bands of its own trajectories, where it has any."""

    name: str
    weight: float
    conformers: int
    free_energies_kcal_per_mol: tuple[KcalPerMol, ...]
    trajectories: int
    bands: tuple[Band, ...] | None = None
    weight_stderr: float | None = None
    harmonic_weight: float | None = None


@dataclass(frozen=True)
class LocalFrequencyRow:
    """A kind of vibration: how often the molecule has it, the label engine's effective wavenumber over the geometries
    of the test, and the model's shift from it with its standard error."""

    motion: str
    count: int
    wavenumber_per_cm: PerCm
    shift_per_cm: PerCm
    shift_error_per_cm: PerCm


@dataclass(frozen=True)
class OtherModel:
    """Errors of a further model on the independent test."""

    force_rmse_kcal_per_mol_angstrom: KcalPerMolAngstrom | None = None
    dipole_rmse_debye: Debye | None = None


@dataclass(frozen=True)
class LearningPoint:
    """A point of the learning curve of a level below the last: labels, and errors on those held out."""

    labels: int
    force_rmse_kcal_per_mol_angstrom: KcalPerMolAngstrom
    energy_rmse_kcal_per_mol: KcalPerMol
    dipole_rmse_debye: Debye


@dataclass(frozen=True)
class ChainLevelFigures:
    """A level of the chain: its labels, those that failed, the seconds that they took, the reason why there are no
    more, and its learning curve."""

    level: str
    labels: int
    failed: int
    seconds: Seconds
    stopped_because: str
    learning: tuple[LearningPoint, ...]
    stopped: StopReason | None = None


@dataclass(frozen=True)
class ChainFigures:
    """The chain of levels of theory, the cheapest first. seconds_at_the_last: what the labels of the levels below would
    have taken at the last; verdict: what the chain is worth, in words."""

    levels: tuple[ChainLevelFigures, ...]
    seconds_at_the_last: Seconds | None = None
    verdict: str = ""


@dataclass(frozen=True)
class IndependentTest:
    """Root mean square errors on geometries of the final model's own trajectories: energies of the molecule (and their
    mean error), components of forces, dipoles and polar tensors. n: geometries, 0 where nothing was tested; others:
    further models on the same geometries, by name;
    force_rmse_relative_stderr: the standard error of the forces' figure by the scatter of the geometries, relative."""

    n: int
    energy_rmse_kcal_per_mol: KcalPerMol | None = None
    energy_offset_kcal_per_mol: KcalPerMol | None = None
    force_rmse_kcal_per_mol_angstrom: KcalPerMolAngstrom | None = None
    dipole_rmse_debye: Debye | None = None
    polar_tensor_rmse_e: ElementaryCharges | None = None
    local_frequencies: tuple[LocalFrequencyRow, ...] | None = None
    harmonic_mae_per_cm: PerCm | None = None
    force_rmse_relative_stderr: float | None = None
    others: dict[str, OtherModel] | None = None

    @property
    def errors(self) -> Errors:
        """Errors of forces, energy and dipole."""
        return Errors(self.force_rmse_kcal_per_mol_angstrom, self.energy_rmse_kcal_per_mol, self.dipole_rmse_debye)


@dataclass(frozen=True)
class MdFigures:
    """Trajectories, those left out of the average, steps, the mean drift of the total energy and the largest one of a
    trajectory, and the time of a core for a step of one trajectory; those in which a cluster dissociated and those
    that broke a bond, and the events of bonds, in words; nuclei: how they moved, where not classically; restraint: of a
    cluster's pieces, in words."""

    trajectories: int
    left_out: int | None = None
    steps: int | None = None
    drift_kcal_per_mol_per_100_ps: KcalPerMolPer100Ps | None = None
    largest_drift_kcal_per_mol: KcalPerMol | None = None
    nuclei: str | None = None
    microseconds_per_step: Microseconds | None = None
    came_apart: int | None = None
    broke_a_bond: int | None = None
    bond_events: tuple[str, ...] | None = None
    restraint: str | None = None


@dataclass(frozen=True)
class SpectrumFigures:
    """Estimator of the spectrum, the verdict on its errors, the factor by which the control variates reduce the
    variance of band intensities (smallest, median, largest), and total intensities; error_parts: what each part of the
    bands' errors is from (sampling, committee, populations), or why it is not known."""

    estimator: str
    verdict: str
    variance_gain: dict[str, float]
    trajectories: int
    total_intensity_km_per_mol: KmPerMol
    harmonic_total_km_per_mol: KmPerMol
    error_parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetSummary:
    """The summary of a target in a run; of one without a valid trajectory only `md`."""

    atoms: int
    test: IndependentTest | None = None
    md: MdFigures | None = None
    spectrum: SpectrumFigures | None = None
    bands: tuple[Band, ...] | None = None
    trust: TrustVerdict | None = None
    ensemble: ConformerVerdict | None = None
    families: tuple[Family, ...] | None = None


@dataclass(frozen=True)
class Summary:
    """summary.json of a run or of a target's folder. That of a run is about its first target, and has a table of all
    `targets`. ends: reasons for which the stages ended; stages: seconds of wall time; times: with the cores' time, and
    faster: a word on the largest of them; provenance: named facts, the deck among them."""

    labels: LabelFigures | None = None
    sampling: SamplingFigures | None = None
    chain: ChainFigures | None = None
    model: ModelFigures | None = None
    harmonic: HarmonicFigures | None = None
    levels: LevelFigures | None = None
    trust: TrustVerdict | None = None
    ensemble: ConformerVerdict | None = None
    families: tuple[Family, ...] | None = None
    test: IndependentTest | None = None
    md: MdFigures | None = None
    spectrum: SpectrumFigures | None = None
    bands: tuple[Band, ...] = ()
    weak_bands: tuple[Band, ...] = ()
    modes: tuple[ModeRow, ...] = ()
    groups: tuple[Group, ...] = ()
    side_by_side: tuple[BandRow, ...] = ()
    isotopologues: dict[str, tuple[Band, ...]] = field(default_factory=dict)
    isotopologue_modes: dict[str, tuple[ModeRow, ...]] = field(default_factory=dict)
    ends: tuple[StageEnd, ...] = ()
    stages: dict[str, Seconds] = field(default_factory=dict)
    times: tuple[StageTime, ...] = ()
    faster: str = ""
    provenance: dict[str, object] = field(default_factory=dict)
    largest_labelled_heavy_atoms: int | None = None
    targets: dict[str, TargetSummary] | None = None

    def target(self, atoms: int) -> TargetSummary:
        """The row of this target in the table of its run."""
        return TargetSummary(
            atoms, self.test, self.md, self.spectrum, self.bands, self.trust, self.ensemble, self.families
        )


@dataclass(frozen=True)
class Timing:
    """The time of a step of `hpcir md`: of a core with a model, of a rank with the label engine (and its labels); wall
    time of the whole session, and its ranks."""

    microseconds_per_step: Microseconds | None = None
    labels: int | None = None
    milliseconds_per_step: Milliseconds | None = None
    seconds: Seconds | None = None
    ranks: int | None = None


@dataclass(frozen=True)
class TrajectorySummary:
    """summary.json of `hpcir md`: the level of theory, the key of the starts, and the results of the trajectories."""

    level: str
    starts: str
    md: MdFigures
    spectrum: SpectrumFigures
    bands: tuple[Band, ...]
    weak_bands: tuple[Band, ...]
    modes: tuple[ModeRow, ...]
    groups: tuple[Group, ...]
    timing: Timing


def read_summary(path: Path) -> Summary:
    """summary.json of a run or a target. Raises InputError where it cannot be read, FileNotFoundError without one."""
    return read_record(Summary, path)


def read_trajectory_summary(path: Path) -> TrajectorySummary:
    """summary.json of `hpcir md`; raises as `read_summary`."""
    return read_record(TrajectorySummary, path)


def read_trust_map(path: Path) -> TrustMap:
    """trust.json; raises as `read_summary`."""
    return read_record(TrustMap, path)
