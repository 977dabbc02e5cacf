"""A training's state on the disk: what is read back, what counts as none, and when it is saved."""

import numpy as np
import pytest

from hpcir.errors import Interrupted
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.runtime.stopping import StopRequest
from hpcir.study.learning import checkpoint as training_checkpoint
from hpcir.study.learning.checkpoint import TrainingCheckpoint


def state(seed):
    random = np.random.default_rng(seed)
    return {"step": np.array(seed), "energy/first": random.normal(size=(1, 40)).astype(np.float32)}


def checkpoint(tmp_path, key="training", stop=None):
    return TrainingCheckpoint(tmp_path / "a" / "member-000.training", key, SerialCommunicator(), stop or StopRequest())


def same(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items()
    )


def test_a_state_comes_back_for_its_own_training_alone(tmp_path):
    assert checkpoint(tmp_path).load() is None
    checkpoint(tmp_path).save(state(3))
    assert same(checkpoint(tmp_path).load(), state(3))
    assert checkpoint(tmp_path, "another training").load() is None


def test_a_damaged_state_counts_as_none(tmp_path):
    checkpoint(tmp_path).save(state(3))
    path = tmp_path / "a" / "member-000.training"
    good, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(50):
        data = bytearray(good)
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        assert checkpoint(tmp_path).load() is None
        path.write_bytes(good[: random.integers(len(good))])
        assert checkpoint(tmp_path).load() is None


def test_it_is_saved_every_few_seconds_and_before_a_stop(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training_checkpoint.time, "monotonic", lambda: now[0])
    stop = StopRequest()
    mine = checkpoint(tmp_path, stop=stop)
    mine.keep(state(1))
    assert mine.load() is None
    now[0] = training_checkpoint.SAVE_INTERVAL + 0.1
    mine.keep(state(2))
    assert same(mine.load(), state(2))
    stop.request("a test")
    with pytest.raises(Interrupted, match="a test"):
        mine.keep(state(3))
    assert same(mine.load(), state(3))
