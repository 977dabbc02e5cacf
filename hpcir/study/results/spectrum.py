"""Stage spectrum: correlate each trajectory, gather, estimate with error bars, find and name the bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.thermal import is_linear
from hpcir.errors import RunStopped
from hpcir.molecules.structures import centre
from hpcir.runtime.mpi import collective
from hpcir.spectra.band_limits import branch_distance
from hpcir.spectra.bands import Band, Committee, OtherErrors, Populations
from hpcir.spectra.controls import Controls, ModeMoments, local_controls, mode_controls, moment_controls
from hpcir.spectra.estimate import combine
from hpcir.spectra.intensities import trajectory_spectra
from hpcir.spectra.spectrum import Spectrum
from hpcir.study.context import Context
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.plan import StartPopulations, restraint_of
from hpcir.study.results.assigned import Assignment, PartSpectra, assignment_of, block_parts
from hpcir.study.results.bond_events import BondEvents, bond_events, restraint_line
from hpcir.study.results.records import Group, MdFigures, ModeRow, SpectrumFigures
from hpcir.study.results.spectrum_files import write_spectrum
from hpcir.units import KCAL_PER_MOL, PS
from hpcir.vibrations.mode_names import functional_groups
from hpcir.vibrations.normal_modes import NormalModes

# Bands with less than this (km/mol), or less than so many of their standard errors, are listed apart: overtones and
# combinations too weak to be measured in the gas phase.
WEAK_KM_PER_MOL = 1.0
MIN_SIGNIFICANCE = 3.0
# The thermostat of TRPMD's beads gives bands the tails of a Lorentzian, which has no first moment, and the tails of the
# rotation reach under the bands of vibration: a centroid is taken where the curve is above this part of the peak.
BEADS_CORE = 0.1
NO_VALID_TRAJECTORY = (
    "every trajectory left the region covered by the training data (dynamics.force_error); raise sampling.max_labels, "
    "or lower sampling.force_error so that exploration takes more geometries"
)


@dataclass(frozen=True)
class BlockResult:
    """Contribution of one block of trajectories to the average; arrays over its valid trajectories.

    wavenumbers: of the modes in each kind of basin and of the bonds, the same in all blocks. trajectories: their ids;
    starts: a key of the positions and velocities that production began with; events: of bonds, and the parts of
    the time in which a restraint acted, as block files have them.
    """

    spectra: FloatArray
    parts: PartSpectra | None
    moments: dict[str, FloatArray]
    wavenumbers: dict[str, FloatArray]
    drift: FloatArray
    left_out: int
    trajectories: IntArray
    starts: str
    events: IntArray
    restrained: FloatArray | None = None


@dataclass(frozen=True)
class SpectrumResult:
    """The spectrum and the figures of summary.json: bands, the weak ones apart, modes and groups of atoms."""

    spectrum: Spectrum
    md: MdFigures
    figures: SpectrumFigures
    bands: tuple[Band, ...]
    weak_bands: tuple[Band, ...]
    modes: tuple[ModeRow, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class OtherParts:
    """Parts of the errors besides the sampling's: the committee of single members, and the populations that the
    trajectories start with; why the first is not known, where it is not."""

    committee: Committee | None = None
    populations: StartPopulations | None = None
    why_no_committee: str = ""

    def of(self, trajectories: IntArray) -> OtherErrors:
        """The errors of valid trajectories (R,)."""
        populations = None
        if self.populations is not None and self.populations.known:
            populations = Populations(self.populations.kind[trajectories], self.populations.covariance)
        return OtherErrors(self.committee, populations)

    def words(self, count: int) -> dict[str, str]:
        """Each part in words: what it is from, or why it is not known."""
        members = "" if self.committee is None else f"{len(self.committee.terms)} members"
        populations = self.populations
        return {
            "sampling": f"{count} trajectories",
            "committee": members or f"not known: {self.why_no_committee or 'no single members'}",
            "populations": "not known: the starts were not sampled" if populations is None else populations.words,
        }


class SpectrumStage:
    """From a set of trajectory blocks to a spectrum; collective, the result on rank 0 (None elsewhere)."""

    def __init__(
        self,
        context: Context,
        modes: NormalModes,
        words: Sequence[str],
        blocks: Sequence[str],
        name: str,
        trajectories: int,
    ) -> None:
        self.context, self.modes, self.words = context, modes, words
        self.blocks, self.name, self.trajectories = blocks, name, trajectories

    def run(self, others: OtherParts) -> SpectrumResult | None:
        """Correlate the blocks over the ranks; combine, find bands and write on rank 0."""
        results = self._collect()
        return None if results is None else self._finish(results, others)

    @collective
    def estimate(self) -> Spectrum | None:
        """The spectrum with the sampling's errors alone, not written (rank 0); None elsewhere, and where no trajectory
        is valid."""
        results = self._collect()
        if results is None or not any(len(result.trajectories) for result in results):
            return None
        return self._combine(results, OtherParts())

    def terms(self) -> tuple[IntArray, FloatArray]:
        """The valid trajectories (R,) and their contributions (R, F) to the averaged spectrum, on the calling rank."""
        results = [self._block(file) for file in self.blocks]
        ids = np.concatenate([result.trajectories for result in results])
        if not len(ids):
            return ids, np.zeros((0, 0))
        terms = self._combine(results, OtherParts()).terms
        assert terms is not None
        return ids, terms

    @collective
    def _collect(self) -> list[BlockResult] | None:
        numbers = range(len(self.blocks))
        found = self.context.map_over_ranks(
            f"correlate {self.name}", numbers, lambda number: self._block(self.blocks[number]), "blocks"
        )
        return None if found is None else [found[number] for number in numbers]

    def _block(self, file: str) -> BlockResult:
        block, settings = TrajectoryBlock.read(self.context.directory / file), self.context.deck.spectrum
        spectra = trajectory_spectra(
            block.sane_dipoles, block.time_between_dipoles, block.timestep, block.temperature, settings
        )
        return BlockResult(
            spectra=spectra,
            parts=block_parts(block, settings) if self.words else None,
            moments=block.sane_averages,
            wavenumbers=block.wavenumbers,
            drift=block.drift,
            left_out=block.left_out,
            trajectories=block.trajectory[block.sane],
            starts=block.starts,
            events=block.events if block.events is not None else np.zeros((0, 6), np.int64),
            restrained=block.restrained,
        )

    def _combine(self, results: list[BlockResult], others: OtherParts) -> Spectrum:
        context = self.context
        spectra = np.concatenate([result.spectra for result in results])
        if len(spectra) == 0:
            said = self._bond_events(results)
            raise RunStopped(" ".join([*said.lines, said.advice]) if said.unmade else NO_VALID_TRAJECTORY)
        return combine(
            spectra,
            context.deck.spectrum,
            context.deck.dynamics.temperature,
            self._controls(results),
            others.of(np.concatenate([result.trajectories for result in results])),
            metadata={"molecule": context.structure.name, "error_parts": others.words(len(spectra))},
            seed=context.deck.seed,
            branches=self._branches(),
            core=self._core(),
        )

    def _core(self) -> float:
        """The part of a line's height from which on it counts for its place: beads give lines tails."""
        return BEADS_CORE if self.context.deck.dynamics.nuclei == "trpmd" else 0.0

    def _branches(self) -> float | None:
        """Distance of the P and R branches of a linear molecule that rotates, cm-1; None of others."""
        dynamics, modes = self.context.deck.dynamics, self.modes
        if dynamics.rotation != "keep" or not is_linear(modes.positions, modes.masses):
            return None
        relative = modes.positions - centre(modes.positions, modes.masses)
        return branch_distance(float(modes.masses @ (relative**2).sum(axis=1)), dynamics.temperature)

    def _finish(self, results: list[BlockResult], others: OtherParts) -> SpectrumResult:
        spectrum = self._combine(results, others)
        groups = functional_groups(self.context.structure.moved(self.modes.positions))
        controls = self._controls(results)
        settings = self.context.deck.spectrum
        parts = [result.parts for result in results]
        found = assignment_of(parts, spectrum, self.modes, self.words, groups, controls, settings, self._core())
        if found is None:
            spectrum = replace(spectrum, bands=tuple(self._named(band) for band in spectrum.bands))
        else:
            spectrum = found.named(spectrum)
        spectrum = with_branches(spectrum)
        self._write(spectrum, results, found)
        return SpectrumResult(
            spectrum,
            self._md(results),
            self._figures(spectrum),
            *_listed(spectrum.bands),
            () if found is None else found.mode_rows(self.modes),
            () if found is None else found.group_rows(groups),
        )

    def _controls(self, results: list[BlockResult]) -> Controls:
        dynamics = self.context.deck.dynamics
        names = results[0].moments
        joined = {name: np.concatenate([result.moments[name] for result in results]) for name in names}
        return controls_of(joined, results[0].wavenumbers, dynamics.temperature, dynamics.timestep)

    def _named(self, band: Band) -> Band:
        """The band with the words of the harmonic modes nearest to it, the strongest first."""
        inside = (self.modes.wavenumbers > band.lower_per_cm - 30) & (self.modes.wavenumbers < band.upper_per_cm + 60)
        strong = sorted(np.flatnonzero(inside), key=lambda mode: -self.modes.intensities[mode])[:3]
        names = list(dict.fromkeys(self.words[int(mode)] for mode in strong))
        return replace(band, assignment=", ".join(names))

    def _write(self, spectrum: Spectrum, results: list[BlockResult], found: Assignment | None) -> None:
        ids = np.concatenate([result.trajectories for result in results])
        arrays = {} if found is None else found.arrays()
        labels = {} if found is None else found.labels()
        write_spectrum(self.context.directory.path, self.name, spectrum, ids, results[0].starts, arrays, labels)

    def _md(self, results: list[BlockResult]) -> MdFigures:
        dynamics = self.context.deck.dynamics
        drift = np.concatenate([result.drift for result in results]) / KCAL_PER_MOL
        picoseconds = dynamics.duration / PS
        # The beads of ring polymers are thermostatted, so their energy has no drift.
        free = dynamics.nuclei != "trpmd"
        said = self._bond_events(results)
        for line in said.lines:
            self.context.progress.log(line, warning=True)
        if said.unmade:
            self.context.progress.log(f"{said.advice}.")
        held = self._restraint(results)
        if held is not None:
            self.context.progress.log(held)
        return MdFigures(
            restraint=held,
            came_apart=said.apart,
            broke_a_bond=said.broken,
            bond_events=said.lines,
            trajectories=self.trajectories,
            left_out=sum(result.left_out for result in results),
            steps=round(dynamics.duration / dynamics.timestep) * self.trajectories,
            drift_kcal_per_mol_per_100_ps=float(np.mean(drift) / picoseconds * 100) if free else None,
            largest_drift_kcal_per_mol=float(np.max(np.abs(drift))) if free else None,
            nuclei=None if dynamics.nuclei == "classical" else dynamics.nuclei,
        )

    def _restraint(self, results: list[BlockResult]) -> str | None:
        """The restraint of a cluster in words; None where there was none."""
        parts = [result.restrained for result in results if result.restrained is not None]
        structure = self.context.structure.moved(self.modes.positions)
        restraint = restraint_of(self.context.deck.dynamics, structure, self.modes.masses)
        return None if restraint is None or not parts else restraint_line(restraint, np.concatenate(parts))

    def _bond_events(self, results: list[BlockResult]) -> BondEvents:
        events = [result.events for result in results]
        held = any(result.restrained is not None for result in results)
        return bond_events(events, self.context.structure, self.context.deck.dynamics.timestep, self.trajectories, held)

    def _figures(self, spectrum: Spectrum) -> SpectrumFigures:
        known = spectrum.metadata
        return SpectrumFigures(
            estimator=known["estimator"],
            verdict=known["verdict"],
            variance_gain=known["variance_gain"],
            trajectories=known["trajectories"],
            error_parts=known["error_parts"],
            total_intensity_km_per_mol=float(np.trapezoid(spectrum.absorption, spectrum.wavenumbers)),
            harmonic_total_km_per_mol=float(np.nansum(self.modes.intensities)),
        )


def with_branches(spectrum: Spectrum) -> Spectrum:
    """The spectrum with the bands that are P and R branches called so."""
    double = spectrum.metadata.get("branches", ())
    bands = [
        replace(band, assignment=f"{band.assignment} (P and R branches)".strip()) if index in double else band
        for index, band in enumerate(spectrum.bands)
    ]
    return replace(spectrum, bands=tuple(bands))


def _listed(bands: Sequence[Band]) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
    """Bands as summary.json has them: those to report, and the weak ones.

    A band is weak that has less than WEAK_KM_PER_MOL, or is not significant beside its own error.
    """
    strong: list[Band] = []
    weak: list[Band] = []
    for band in bands:
        significant = not band.intensity_km_per_mol < MIN_SIGNIFICANCE * band.stderr_km_per_mol
        (strong if band.intensity_km_per_mol >= WEAK_KM_PER_MOL and significant else weak).append(band)
    return tuple(strong), tuple(weak)


def controls_of(
    moments: dict[str, FloatArray], wavenumbers: dict[str, FloatArray], temperature: float, timestep: float
) -> Controls:
    """The controls of the averages that block files hold, over trajectories: `mode_energies` or `moments_*` of the
    normal modes at `mode_wavenumbers` (K, M), `bond_energies` at `bond_wavenumbers`, `rotation_energies` at
    `rotation_wavenumbers`."""
    parts = []
    if "mode_energies" in moments:
        places = wavenumbers["mode_wavenumbers"][0]
        parts.append(mode_controls(moments["mode_energies"], places, temperature, timestep))
    elif any(name.startswith("moments_") for name in moments):
        names = {name.removeprefix("moments_"): value for name, value in moments.items() if name.startswith("moments_")}
        parts.append(moment_controls(ModeMoments(**names), wavenumbers["mode_wavenumbers"], temperature, timestep))
    if "bond_energies" in moments:
        squares = 2 * moments["bond_energies"]
        parts.append(local_controls(squares, wavenumbers["bond_wavenumbers"], temperature, timestep))
    if "rotation_energies" in moments:
        # A linear molecule rotates about two axes; the third, without inertia, comes first and has no energy.
        places = wavenumbers["rotation_wavenumbers"]
        squares = 2 * moments["rotation_energies"][:, -len(places) :]
        parts.append(local_controls(squares, places, temperature, timestep))
    return Controls.join(*parts)
