"""Upper estimate of the memory of each rank, from the deck alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hpcir.deck.sections import Deck
from hpcir.deck.study import Study, heavy_atoms
from hpcir.descriptors.definition import functions_of
from hpcir.dynamics.streams import RING_BLOCK_STEPS
from hpcir.study.nuclei import HELD_BLOCK, HELD_GEOMETRIES, usual_ring

MEBI = 1 << 20
# The program itself with numpy, numba, torch and compiled kernels: 250 to 370 MiB seen.
PROGRAM_BYTES = 400 * MEBI
# Steps between two states of a block on the disk (see trajectories.py, which this must not import for check's sake).
CHUNK_STEPS = 2000
# Of the process of the labels: inputs of an atom, and geometries around the labels, at most (likewise of training).
INPUTS, MAX_PLACES = 300, 2000
# Rows of a covariance that is formed, and columns of a larger one, at most.
MAX_DENSE_ROWS, COLUMNS = 9000, 3000
# Arrays of a chunk's frames that are there at the same time: recorded, transposed, projected on the modes.
FRAME_COPIES = 6
# Copies of all spectra on rank 0 while they are combined, and points of a spectrum for each wavenumber of its range.
SPECTRUM_COPIES = 4
# Arrays of all beads: positions, velocities, forces and dipoles in the kernels and as replicas. Their random numbers
# are there twice, for a block of steps.
BEAD_ARRAYS = 12


def rank_memory(study: Study) -> dict[str, int]:
    """Bytes by what they are for, at most; 'spectrum' is rank 0's alone. The label engine's process is not in it."""
    return {
        "program": PROGRAM_BYTES,
        "training": training_memory(study),
        "trajectories": trajectory_memory(study),
        "spectrum": spectrum_memory(study),
    }


def training_memory(study: Study) -> int:
    """The stored descriptor derivatives of the largest training set, every atom in every cutoff, and a process of the
    labels with the geometries around them: an upper bound."""
    deck, atoms = study.deck, labelled_atoms(study)
    held = HELD_GEOMETRIES if deck.dynamics.nuclei == "pigs" else 0
    each = label_memory(deck, atoms, study.elements)
    alone = max(deck.sampling.max_labels, held, *lower_labels(deck)) * each
    return max(alone, process_memory(deck, atoms, each) if deck.training.process else 0)


def process_memory(deck: Deck, atoms: int, each: int) -> int:
    """A process of as many labels of so many atoms as it may have: the covariance twice with room to solve, the labels'
    derivatives, and the geometries around them, of `each` bytes as training sets have them. Of many labels it has
    columns of the covariance alone."""
    labels = min(deck.sampling.max_labels, deck.training.process // (3 * atoms + 1))
    rows, slopes = labels * (3 * atoms + 1), labels * 3 * atoms**2 * INPUTS
    covariances = 8 * 3 * rows**2 if rows <= MAX_DENSE_ROWS else 8 * 3 * rows * COLUMNS
    return covariances + 8 * slopes + (labels + MAX_PLACES) * each


def lower_labels(deck: Deck) -> list[int]:
    """The label budgets of the levels below the deck's, of data sets only where they have one; a 0 at least."""
    if deck.levels:
        return [0, *(level.budget for level in deck.levels[:-1] if level.labels is not None or not level.is_data)]
    return [0 if deck.labels.pretrain.engine == "none" else deck.labels.pretrain.labels]


def label_memory(deck: Deck, atoms: int, elements: tuple[int, ...]) -> int:
    """The stored descriptor derivatives of one geometry of so many atoms, at most."""
    model = deck.model
    functions = functions_of(model, elements)
    size = 4 if deck.training.precision == "float32" else 8
    vectors = 3 * len(functions.elements) * len(functions.shells)
    return atoms * (min(model.inputs, functions.n_features) * (1 + 3 * atoms) + vectors) * size


def physical_memory() -> int:
    """Bytes of memory of this machine, or what the job's control group leaves of it."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int(Path(path).read_text()))
    return found


def labelled_atoms(study: Study) -> int:
    """Atoms of the largest molecule that is labelled for training; of fragments, about."""
    largest = study.deck.sampling.largest_fragment
    # A fragment has the molecule's share of hydrogen, and the capping ones.
    sizes = [
        len(item) if study.labelled_whole(item) else round(len(item) * largest / heavy_atoms(item)) + 2
        for item in study.targets
    ]
    return max(*sizes, *(len(seed) for seed in study.seeds), 0)


def trajectory_memory(study: Study) -> int:
    """A block's frames of one chunk, and its series since it began; the beads of a block, with quantum nuclei."""
    dynamics, largest = study.deck.dynamics, max(study.targets, key=len)
    atoms, ring = len(largest), usual_ring(study.deck.dynamics, largest)
    width = min(dynamics.lockstep, dynamics.trajectories)
    frames = CHUNK_STEPS // dynamics.dipole_every
    samples = int(dynamics.duration / dynamics.timestep / dynamics.dipole_every)
    modes = max(1, 3 * atoms - 6)
    rings = 0 if ring is None else ring.beads * (width if dynamics.nuclei == "trpmd" else HELD_BLOCK)
    beads = 8 * rings * 3 * atoms * (BEAD_ARRAYS + 2 * RING_BLOCK_STEPS)
    return 8 * width * (FRAME_COPIES * frames * 3 * atoms + samples * 3) + 4 * width * samples * modes + beads


def spectrum_memory(study: Study) -> int:
    """All trajectories' spectra on rank 0."""
    from hpcir.spectra.intensities import wavenumber_grid

    points = len(wavenumber_grid(study.deck.spectrum))
    return SPECTRUM_COPIES * 8 * points * study.deck.dynamics.trajectories
