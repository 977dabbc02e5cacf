"""The assignment of a set's spectrum: contributions of modes and groups of atoms, and positions of the modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import SpectrumSettings
from hpcir.spectra.assignment import (
    Contributions,
    ModePositions,
    assign,
    mode_parts,
    mode_positions,
    mode_spectra,
    part_spectra,
)
from hpcir.spectra.controls import Controls
from hpcir.spectra.correlation import differences
from hpcir.spectra.spectrum import Spectrum
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.results.records import Group, ModeRow
from hpcir.study.results.spectrum_files import Dataset
from hpcir.vibrations.mode_names import AtomGroup
from hpcir.vibrations.normal_modes import NormalModes

# The remainder of the spectrum after the parts of the modes.
REMAINDER = "overtones and combinations"


@dataclass(frozen=True)
class PartSpectra:
    """Spectra of the trajectories of a block: modes (M + 1, R, F), the remainder last; groups (G, R, F); velocities
    (M, R, F). Each of the first two sums to the trajectories' spectra."""

    modes: FloatArray
    groups: FloatArray
    velocities: FloatArray

    @staticmethod
    def join(blocks: Sequence[PartSpectra]) -> PartSpectra:
        """Join the parts of all blocks' trajectories."""
        names = ("modes", "groups", "velocities")
        return PartSpectra(*(np.concatenate([getattr(block, name) for block in blocks], axis=1) for name in names))


@dataclass(frozen=True)
class Assignment:
    """Contributions of modes and of groups of atoms to a spectrum, each summing to it, and the modes' positions."""

    modes: Contributions
    groups: Contributions | None
    positions: ModePositions

    def named(self, spectrum: Spectrum) -> Spectrum:
        """The spectrum with the assignment of its bands in words."""
        return replace(spectrum, bands=assign(spectrum.bands, self.modes, places=self.positions.centroid))

    def arrays(self) -> dict[str, Dataset]:
        """Datasets of spectrum.h5."""
        positions = self.positions
        found: dict[str, Dataset] = {
            "mode_contributions": (self.modes.contributions, "km/mol cm", "part,wavenumber"),
            "mode_harmonic": (positions.harmonic, "cm-1", "mode"),
            "mode_anharmonic": (positions.centroid, "cm-1", "mode"),
            "mode_anharmonic_stderr": (positions.stderr, "cm-1", "mode"),
            "mode_width": (positions.width, "cm-1", "mode"),
        }
        if self.groups is not None:
            found["group_contributions"] = (self.groups.contributions, "km/mol cm", "group,wavenumber")
        return found

    def labels(self) -> dict[str, list[str]]:
        """Names of the parts in the order of the datasets."""
        found = {"modes": list(self.modes.labels)}
        return found | ({"groups": list(self.groups.labels)} if self.groups is not None else {})

    def mode_rows(self, modes: NormalModes) -> tuple[ModeRow, ...]:
        """A row of the summary for each mode, and one for the remainder."""
        place, integrals = self.positions, self.modes.integrals
        rows = [
            ModeRow(
                name=self.modes.labels[mode],
                harmonic_per_cm=float(place.harmonic[mode]),
                anharmonic_per_cm=float(place.centroid[mode]),
                stderr_per_cm=float(place.stderr[mode]),
                width_per_cm=float(place.width[mode]),
                harmonic_intensity_km_per_mol=float(modes.intensities[mode]),
                contribution_km_per_mol=float(integrals[mode]),
            )
            for mode in range(len(modes))
        ]
        return (*rows, ModeRow(self.modes.labels[-1], contribution_km_per_mol=float(integrals[-1])))

    def group_rows(self, groups: Sequence[AtomGroup]) -> tuple[Group, ...]:
        """A row of the summary for each group of atoms."""
        if self.groups is None:
            return ()
        areas = zip(groups, self.groups.integrals, strict=True)
        return tuple(Group(group.name, tuple(atom + 1 for atom in group.atoms), float(area)) for group, area in areas)


def block_parts(block: TrajectoryBlock, settings: SpectrumSettings) -> PartSpectra | None:
    """The parts of a block's valid trajectories; None where the block holds no series for them."""
    if block.mode_velocities is None:
        return None
    assert block.mode_dipoles is not None
    assert block.rotations is not None
    assert block.basin is not None
    sane, dipoles, between = block.sane, block.sane_dipoles, block.time_between_dipoles
    velocities = block.mode_velocities[:, :, sane].astype(float)
    rotations = block.rotations[..., sane].astype(float)
    parts = mode_parts(velocities, block.mode_dipoles, rotations, between, block.basin[:, sane])
    rest = (between, block.timestep, block.temperature, settings)
    groups = np.zeros((0, len(dipoles[0, 0]), 0))
    if block.group_dipoles is not None:
        own = np.moveaxis(block.group_dipoles[..., sane].astype(float), 1, 0)
        # The last group is the remainder of the others, so that nothing is lost to rounding.
        groups = part_spectra(np.array([differences(group, between) for group in own[:-1]]).reshape(
            len(own) - 1, len(dipoles) - 1, *dipoles.shape[1:]
        ), dipoles, *rest)  # fmt: skip
    modes = part_spectra(parts, dipoles, *rest)
    if not len(groups):
        groups = np.zeros((0, *modes.shape[1:]))
    return PartSpectra(modes, groups, mode_spectra(velocities, *rest))


def assignment_of(
    blocks: Sequence[PartSpectra | None],
    spectrum: Spectrum,
    modes: NormalModes,
    words: Sequence[str],
    groups: Sequence[AtomGroup],
    controls: Controls,
    settings: SpectrumSettings,
    core: float = 0.0,
) -> Assignment | None:
    """The assignment of a spectrum whose trajectories are those of the blocks; None where a block has no parts. core:
    of the modes' positions (`mode_positions`)."""
    present = [block for block in blocks if block is not None]
    if len(present) < len(blocks) or not words:
        return None
    parts = PartSpectra.join(present)
    grid, weights = spectrum.wavenumbers, spectrum.weights
    by_group = len(parts.groups) == len(groups) > 0
    return Assignment(
        Contributions.of((*words, REMAINDER), parts.modes, grid, weights),
        Contributions.of([g.name for g in groups], parts.groups, grid, weights) if by_group else None,
        mode_positions(parts.velocities, modes.wavenumbers, settings, controls, core),
    )
