"""Journalled work is dealt once: a second call reads it, a new key is worked on, the order is that of the keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import Interrupted
from hpcir.molecules.structures import read_structure
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.study.session import default_deck, session

METHANOL = Path(__file__).parents[2] / "inputs" / "methanol.xyz"


@pytest.fixture
def context(tmp_path):
    with session(
        tmp_path / "run", SerialCommunicator(), default_deck(METHANOL), read_structure(METHANOL), "test-1"
    ) as opened:
        yield opened


def test_work_is_done_once_and_comes_in_order_of_the_keys(context):
    done = []

    def work(index):
        done.append(index)
        return {"values": np.array([1.5 * index])}, {"index": index}

    first = context.map_journalled("work", "pieces", ["a", "b", "c"], work, "pieces")
    assert done == [0, 1, 2]
    again = context.map_journalled("work", "pieces", ["c", "d", "a"], work, "pieces")
    assert done == [0, 1, 2, 1]
    assert [record.key for record in again] == ["c", "d", "a"]
    assert [record.attributes["index"] for record in again] == [2, 1, 0]
    np.testing.assert_array_equal(again[0].arrays["values"], first[2].arrays["values"])


def test_what_was_done_before_a_stop_is_kept(context):
    def work(index):
        if index == 2:
            raise Interrupted("stopped")
        return {"values": np.array([float(index)])}, {}

    with pytest.raises(Interrupted):
        context.map_journalled("work", "pieces", ["a", "b", "c"], work, "pieces")
    assert sorted(record.key for record in context.directory.records("pieces")) == ["a", "b"]
