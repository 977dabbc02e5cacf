"""Damaged files of a run: noticed by every reader, and made good by running again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError, RunStopped
from hpcir.models.model import Model
from hpcir.storage.hdf5 import read_h5
from hpcir.storage.journal import read_journal
from tests.e2e.conftest import differences, finish, results

LONG = pytest.mark.long


DAMAGED = (
    "labels/*.journal",
    "exploration/*.journal",
    "trajectories/*.h5",
    "models/*.h5",
    "models/learning_curve.json",
    "spectrum.h5",
    "labels.h5",
    "test.h5",
    "prepare.h5",
    "summary.json",
    "spectrum.csv",
    "deck.resolved.yaml",
    "start.xyz",
)


def damage(path: Path, random: np.random.Generator) -> str:
    """Flip a bit of a file, or cut its end off; what was done."""
    data = bytearray(path.read_bytes())
    place = int(random.integers(len(data)))
    if random.random() < 0.25:
        path.write_bytes(data[:place])
        return f"{path.name} cut at {place}"
    bit = int(random.integers(8))
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.name} bit {bit} of byte {place}"


def content(path: Path) -> object:
    """What a reader of the program makes of a file: arrays and attributes, or the error that it raises."""
    if path.suffix == ".journal":
        found, _ = read_journal(path)
        return {r.key: (r.attributes, {n: a.tobytes() for n, a in r.arrays.items()}) for r in found}
    if path.parent.name == "models":
        return Model.load(path)
    arrays, attributes = read_h5(path)
    return {name: array.tobytes() for name, array in arrays.items()}, {k: str(v) for k, v in attributes.items()}


def harmless(before: object, after: object) -> bool:
    if isinstance(before, Model) and isinstance(after, Model):
        pairs = [(getattr(before, kind), getattr(after, kind)) for kind in ("energy", "charge")]
        return before.functions == after.functions and all(
            np.array_equal(a[z].weights[n], b[z].weights[n])
            for a, b in pairs
            for z in a
            for n in range(len(a[z].weights))
        )
    if isinstance(before, dict) and isinstance(after, dict):  # a journal: records may be missing, none may differ
        return all(before.get(key) == value for key, value in after.items())
    return before == after


def test_any_damage_is_noticed_by_the_readers(undisturbed, tmp_path, say):
    random = np.random.default_rng(11)
    files = [p for pattern in DAMAGED for p in sorted(undisturbed.glob(pattern)) if p.suffix in (".h5", ".journal")]
    noticed = alike = 0
    for _ in range(150):
        path = files[int(random.integers(len(files)))]
        copy = tmp_path / path.parent.name / path.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        what = damage(copy, random)
        try:
            after = content(copy)
        except (RunStopped, InputError):
            noticed += 1
            continue
        assert harmless(content(path), after), what
        alike += 1
    say(f"{noticed} damaged files refused, {alike} harmless, of 150")
    assert noticed > 75


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=LONG) for n in range(2, 12))])
def test_a_damaged_run_directory_gives_the_same_result_when_run_again(undisturbed, deck, run_deck, tmp_path, say, seed):
    random = np.random.default_rng(seed)
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    done = [damage(p, random) for pattern in DAMAGED for p in sorted(out.glob(pattern))]
    finish(run_deck, deck, out)
    assert differences(results(undisturbed), results(out)) == [], done
    assert list(out.rglob("*.damaged")), done
    for name in ("spectrum.csv", "deck.resolved.yaml", "start.xyz"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), done
    say(f"seed {seed}: {len(done)} files damaged, the same result")
