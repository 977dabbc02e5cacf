"""A member trained by several ranks: the same model as on one, and the same again after a stop."""

import json

import pytest

pytestmark = pytest.mark.mpi

TRAIN = """
import hashlib, json, sys
import numpy as np
from hpcir.deck.sections import ModelSettings, TrainingSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.runtime.mpi import world
from hpcir.training import dataset, team
from hpcir.training.dataset import LabelledGroup, TrainingData
from hpcir.training.train import train_members
from tests.unit.test_training import FUNCTIONS, NETWORKS, water, weights_of

def data_digest(data):
    tensors = data.groups[0]
    assert np.abs(tensors.jacobian).max(axis=(1, 2, 3, 4)).min() > 0
    return hashlib.sha256(tensors.inputs.tobytes() + tensors.jacobian.tobytes()).hexdigest()

def trained(optimizer):
    settings = TrainingSettings(steps=20, batch=32, optimizer=optimizer)
    parts = team.batch_parts(groups, FUNCTIONS.n_features, settings)
    mine = team.form_team(comm, list(range(comm.size)), parts)
    if mine is None:
        return None
    data = TrainingData.build(groups, FUNCTIONS, comm=mine.comm)
    states = []
    arguments = dict(members=[1], seed=5, team=mine)
    model, _ = train_members(data, NETWORKS, settings, on_checkpoint=states.append, **arguments)
    middle = states[len(states) // 2]
    again, _ = train_members(data, NETWORKS, settings, state=middle, **arguments)
    digests = [
        hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in weights_of(m, 0))).hexdigest()
        for m in (model, again)
    ]
    return [parts, mine.comm.size, int(middle["step"]), [data_digest(data) + digest for digest in digests]]

team.PART_ELEMENTS, dataset.CHUNK_BYTES = 1, 1 << 15
comm = world()
groups = [water(40, 1)]
answers = [comm.gather(trained(optimizer)) for optimizer in sys.argv[1:]]
if comm.rank == 0:
    print(json.dumps(answers))
"""


def test_ranks_share_the_batches_of_a_member_bit_for_bit(mpirun):
    optimizers = ("adam", "soap")
    found = {optimizer: set() for optimizer in optimizers}
    for ranks, working in ((1, 1), (2, 2), (3, 2), (4, 4)):
        done = mpirun(ranks, ["-c", TRAIN, *optimizers])
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout.splitlines()[0])  # Open MPI's ranks have a terminal, and libraries reset it
        for optimizer, of_ranks in zip(optimizers, answers, strict=True):
            assert len(of_ranks) == ranks
            at_work = [answer for answer in of_ranks if answer is not None]
            assert len(at_work) == working
            for parts, size, step, digests in at_work:
                assert (parts, size) == (8, working)
                assert 0 < step < 20
                found[optimizer] |= set(digests)
    assert {optimizer: len(digests) for optimizer, digests in found.items()} == dict.fromkeys(optimizers, 1)
