"""The label farm on real ranks: what is labelled beside other work is known later, and never done twice."""

import json
from collections import Counter

import pytest

from hpcir.storage.journal import read_journal
from tests.conftest import ROOT

pytestmark = pytest.mark.mpi

BESIDE = """
import json, sys, time
from pathlib import Path
import numpy as np
from hpcir.deck.sections import LabelSettings
from hpcir.runtime.mpi import world
from hpcir.study.label_farm import LabelFarm, LabelStore, candidates
from hpcir.study.session import default_deck, session
from hpcir.molecules.structures import read_structure
comm, methanol = world(), read_structure(Path(sys.argv[2]))
settings = LabelSettings(engine="ase", calculator="sleeping_calculator:Sleeping")
deck = default_deck(Path(sys.argv[2])).model_copy(update={"labels": settings})
moved = [methanol.moved(methanol.positions + np.random.default_rng(n).normal(0, 0.05, methanol.positions.shape))
         for n in range(12)]
with session(Path(sys.argv[1]), comm, deck, methanol, "test-1") as context:
    store = LabelStore()
    farm = LabelFarm(context, settings, None, store)
    wanted = candidates(moved, "round 0") if context.root else None
    result = farm.label_beside(wanted, lambda: time.sleep(4.0) or "minimum")
    known, asked = len(store.entries), len(store.requested)
    labels = farm.label(wanted)
    farm.close()
    if context.root:
        energies = [label.energy for label in labels]
        print(json.dumps({"result": result, "known": known, "asked": asked, "energies": energies,
                          "purposes": [entry.purpose for entry in store.requested]}))
"""


def test_labels_beside_other_work_are_known_later(mpirun, tmp_path):
    energies = []
    for ranks in (1, 3):
        out = tmp_path / f"run-{ranks}"
        path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools' / 'bench'}"}
        done = mpirun(ranks, ["-c", BESIDE, str(out), str(ROOT / "inputs" / "methanol.xyz")], env=path)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        assert said["result"] == "minimum"
        assert said["asked"] == 0
        assert said["known"] == 0 if ranks == 1 else said["known"] > 0
        assert said["purposes"] == ["round 0"] * 12
        energies.append(said["energies"])
        records = [record.key for file in (out / "labels").glob("*.journal") for record in read_journal(file)[0]]
        assert sorted(Counter(records).values()) == [1] * 12
    assert energies[0] == energies[1]
