"""The memory that `hpcir check` promises, against what a training set and a spectrum really take."""

import numpy as np
import pytest

from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.study import memory
from hpcir.study.production.trajectories import CHUNK_STEPS
from hpcir.training.dataset import LabelledGroup, TrainingData


@pytest.fixture
def study(tmp_path):
    from ase.build import molecule

    molecule("CH3OH").write(tmp_path / "m.xyz")
    (tmp_path / "deck.yaml").write_text(
        "system: {structure: m.xyz}\nlabels: {engine: tblite}\nsampling: {max_labels: 60, initial_labels: 20}\n"
    )
    return check_deck(load_deck(tmp_path / "deck.yaml"))


def test_a_training_set_takes_no_more_than_is_said(study):
    from hpcir.descriptors.definition import functions_of

    functions = functions_of(study.deck.model, (1, 6, 8))
    cheap = study.deck.labels.pretrain.labels
    count = 60
    positions = study.structure.positions + np.random.default_rng(1).normal(0, 0.1, (count, 6, 3))
    group = LabelledGroup(study.structure.numbers, positions, np.zeros(count), np.zeros((count, 6, 3)))
    data = TrainingData.build([group], functions, max_inputs=study.deck.model.inputs)
    assert data.nbytes <= memory.training_memory(study) * count / max(count, cheap)


def test_a_process_takes_no_more_than_is_said(study):
    from hpcir.training.regression import description, solvers, teacher

    assert (memory.INPUTS, memory.MAX_PLACES) == (description.INPUTS, teacher.MAX_PLACES)
    assert (memory.MAX_DENSE_ROWS, memory.COLUMNS) == (solvers.MAX_DENSE_ROWS, solvers.COLUMNS)
    each = memory.label_memory(study.deck, 6, (1, 6, 8))
    promised = memory.process_memory(study.deck, 6, each)
    rows = 60 * 19
    assert promised >= 3 * 8 * rows**2 + (60 + teacher.MAX_PLACES) * each
    assert memory.training_memory(study) >= promised


def test_the_chunk_is_the_one_of_the_trajectories(study):
    assert memory.CHUNK_STEPS == CHUNK_STEPS
    dynamics = study.deck.dynamics
    frames = CHUNK_STEPS // dynamics.dipole_every * 2 * dynamics.lockstep * 6 * 3 * 8
    assert frames < memory.trajectory_memory(study) < 20 * frames


def test_more_trajectories_take_more_on_rank_0_alone(study):
    parts = memory.rank_memory(study)
    dynamics = study.deck.dynamics.model_copy(update={"trajectories": 10 * study.deck.dynamics.trajectories})
    from dataclasses import replace

    deck = study.deck.model_copy(update={"dynamics": dynamics})
    grown = memory.rank_memory(replace(study, loaded=replace(study.loaded, deck=deck)))
    assert grown["spectrum"] == 10 * parts["spectrum"]
    assert grown["trajectories"] == parts["trajectories"]


def test_the_machines_memory_is_what_it_says():
    from pathlib import Path

    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert 2**28 < memory.physical_memory() <= int(total.split()[1]) * 1024


def test_beads_are_in_the_memory_of_trajectories(study):
    from dataclasses import replace

    def of(nuclei):
        dynamics = study.deck.dynamics.model_copy(update={"nuclei": nuclei})
        deck = study.deck.model_copy(update={"dynamics": dynamics})
        return memory.trajectory_memory(replace(study, loaded=replace(study.loaded, deck=deck)))

    # Positions, velocities and forces of 32 beads of each trajectory at least, and the random numbers of 16 steps.
    lanes = 32 * study.deck.dynamics.lockstep
    assert 8 * lanes * 18 * (3 + 16) < of("trpmd") - of("classical") < 8 * lanes * 18 * 100
    assert of("classical") < of("pigs") < of("trpmd")
