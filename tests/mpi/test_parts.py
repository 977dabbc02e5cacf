"""Trajectories in parts on real ranks: the same number of them, and the same bits, on one, two and three."""

import json

import pytest

from tests.conftest import ROOT
from tests.frozen.comparison import differences

pytestmark = pytest.mark.mpi

RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from hpcir.runtime.mpi import world
from hpcir.study.road import Road
from hpcir.study.session import session
from tests.unit.test_parts import DECK, ISOTOPE
from tests.unit.test_road import Morse, study_of
DECK = DECK.replace("test: {count: 0}", "test: {count: 32}")
comm, place = world(), Path(sys.argv[1])
if comm.rank == 0:
    place.mkdir()
    study_of(place, ISOTOPE, DECK + sys.argv[2])
comm.barrier()
study = study_of(place, ISOTOPE, DECK + sys.argv[2]) if comm.rank == 0 else None
study = comm.bcast(study)
with session(place / "run", comm, study.deck, study.structure, "test-1") as context:
    Road(replace(context, open_engine=lambda *_: Morse()), study, None, None).run()
"""


@pytest.mark.parametrize(
    ("accuracy", "count", "several"),
    [
        ("2000 cm-1, intensity: 900 %", 32, (3,)),
        pytest.param("2000 cm-1, intensity: 900 %", 32, (2,), marks=pytest.mark.long),
        pytest.param("1e-6 cm-1", 96, (2, 3), marks=pytest.mark.long),
    ],
)
def test_ranks_agree_on_the_number_of_trajectories(mpirun, tmp_path, accuracy, count, several):
    for ranks in (1, *several):
        words = ["-c", RUN, str(tmp_path / str(ranks)), f"accuracy: {{wavenumber: {accuracy}}}\n"]
        done = mpirun(ranks, words, env={"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        out = tmp_path / str(ranks) / "run"
        assert json.loads((out / "summary.json").read_text())["md"]["trajectories"] == count
        assert len(list((out / "trajectories").glob("main-*.h5"))) == count // 16
        if ranks > 1:
            assert differences(tmp_path / "1" / "run", out) == ([], [])
