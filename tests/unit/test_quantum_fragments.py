"""A large molecule with quantum nuclei on the whole road, in one process: beads are labelled by fragments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.storage.hdf5 import read_h5
from hpcir.study.learning.committee import CommitteeTrainer, groups_of
from hpcir.study.learning.fragment_source import FragmentSource
from hpcir.study.learning.source import Exploration
from hpcir.study.production import pigs
from hpcir.study.road import Road
from hpcir.study.session import session
from hpcir.units import ANGSTROM

pytestmark = pytest.mark.long

ALKANES = Path(__file__).parents[2] / "inputs" / "alkanes"
LARGEST = 5
DECK = f"""
system: {{structure: {ALKANES / "C6H14.xyz"}}}
labels: {{engine: tblite, pretrain: {{engine: none}}}}
model: {{cutoff: 3 A, members: 2, hidden: [12, 12], radial: 6, shells: 2, zetas: [1, 2], channels: 0}}
training: {{steps: 300, retrain_steps: 100, final_steps: 300}}
sampling:
  {{seeds: [{ALKANES / "C2H6.xyz"}, {ALKANES / "C3H8.xyz"}, {ALKANES / "C4H10.xyz"}], largest_fragment: {LARGEST},
    conformers: 2, max_labels: 60, initial_labels: 36, round_labels: 12, rounds: 2, trajectories: 4,
    duration: 0.1 ps, force_error: 8 kcal/mol/A}}
test: {{count: 4}}
dynamics:
  {{nuclei: pigs, trajectories: 4, lockstep: 4, equilibration: 0.1 ps, duration: 0.6 ps, force_error: 200 kcal/mol/A}}
spectrum: {{depth: 0.3 ps, committee_errors: false}}
"""


class Watched:
    """What a run chose and learnt: the pieces cut out of beads by their positions, the candidates of all rounds, and
    the labels of the last training."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.beads, self.chosen, self.learnt = {}, [], []
        choose, train = FragmentSource.choose, CommitteeTrainer.train

        def watched_choose(source, number, model, exploration):
            pairs = zip(exploration.blocks, exploration.found, strict=True)
            rings = [pair for pair in pairs if pair[0].ring is not None]
            pieces = source._pieces(model, Exploration(*zip(*rings, strict=True)))
            self.beads |= {piece.structure.positions.tobytes(): piece for piece in pieces}
            found = choose(source, number, model, exploration)
            self.chosen += found
            return found

        def watched_train(trainer, labelled, **settings):
            self.learnt = labelled
            return train(trainer, labelled, **settings)

        patch.setattr(FragmentSource, "choose", watched_choose)
        patch.setattr(CommitteeTrainer, "train", watched_train)


@pytest.fixture(scope="module")
def hexane(tmp_path_factory):
    """(run directory, what was watched)."""
    place = tmp_path_factory.mktemp("hexane")
    (place / "deck.yaml").write_text(DECK)
    study = check_deck(load_deck(place / "deck.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pigs, "GEOMETRIES", 32)
        watched = Watched(patch)
        with session(place / "run", SerialCommunicator(), study.deck, study.structure, "test-1") as context:
            Road(context, study, None, None).run()
    return place / "run", watched


def of_beads(watched: Watched) -> list:
    """The candidates that are fragments of beads."""
    return [item for item in watched.chosen if item.structure.positions.tobytes() in watched.beads]


def test_fragments_around_the_doubtful_atoms_of_beads_are_labelled(hexane):
    run, watched = hexane
    found = of_beads(watched)
    assert len(found) >= 3
    assert all((item.structure.numbers == 6).sum() <= LARGEST for item in found)
    arrays, _ = read_h5(run / "labels.h5")
    on_disk = {frame.tobytes() for name, array in arrays.items() if name.endswith("/positions") for frame in array}
    assert all(item.structure.positions.tobytes() in on_disk for item in found)


def test_of_a_bead_only_the_forces_of_atoms_with_their_whole_surroundings_are_learnt(hexane):
    _, watched = hexane
    masks = [item.learnt for item in of_beads(watched)]
    assert all(mask is not None and mask.any() and not mask.all() for mask in masks)
    groups, kept = groups_of(watched.learnt), 0
    for group in groups:
        for number, frame in enumerate(group.positions):
            if (piece := watched.beads.get(frame.tobytes())) is not None:
                assert np.array_equal(group.force_mask[number], piece.learnt)
                kept += 1
    assert kept == len(masks)


def test_beads_have_zero_point_amplitudes(hexane):
    """C-H bonds of the atoms learnt: 0.08 A of a quantum stretch at 3000 cm-1, 0.03 of a classical one at 300 K."""
    _, watched = hexane
    lengths = []
    for item in of_beads(watched):
        numbers, positions = item.structure.numbers, item.structure.positions / ANGSTROM
        for hydrogen in np.flatnonzero((numbers == 1) & item.learnt):
            lengths.append(np.linalg.norm(positions[numbers == 6] - positions[hydrogen], axis=1).min())
    assert len(lengths) > 10
    assert 0.05 < np.std(lengths) < 0.15


def test_the_large_molecule_has_its_quantum_spectrum(hexane):
    run, _ = hexane
    summary = json.loads((run / "summary.json").read_text())
    assert summary["largest_labelled_heavy_atoms"] <= LARGEST
    assert summary["md"]["nuclei"] == "pigs"
    assert summary["md"]["left_out"] < summary["md"]["trajectories"]
    centroids, _ = read_h5(run / "pigs" / "main-centroids.h5")
    assert centroids["centroids"].shape[1:] == (20, 3)
    # Too few trajectories for an error bar, so the band is among those that are not significant.
    strongest = max(summary["bands"] + summary["weak_bands"], key=lambda band: band["intensity_km_per_mol"])
    assert 2700 < strongest["position_per_cm"] < 2900
