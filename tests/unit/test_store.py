"""Journals survive kills and bit flips; locks and decks guard a run directory."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from hpcir.errors import InputError, RunStopped
from hpcir.storage.checksums import digest
from hpcir.storage.hdf5 import read_h5, read_intact, write_h5
from hpcir.storage.journal import Journal, encode_record, read_journal
from hpcir.storage.lock import lock_identity
from hpcir.storage.run_directory import RunDirectory


def arrays(seed):
    random = np.random.default_rng(seed)
    return {"energy": np.float64(random.normal()), "forces": random.normal(size=(4, 3)), "count": np.int64(seed)}


def write_records(path, count):
    journal = Journal(path)
    for index in range(count):
        journal.append(f"key {index}", arrays(index), {"purpose": "test"})
    journal.close()


def test_journal_gives_back_what_was_appended(tmp_path):
    write_records(tmp_path / "a.journal", 5)
    records, damaged = read_journal(tmp_path / "a.journal")
    assert damaged == 0
    assert [record.key for record in records] == [f"key {index}" for index in range(5)]
    for index, record in enumerate(records):
        for name, value in arrays(index).items():
            np.testing.assert_array_equal(record.arrays[name], value)
            assert record.arrays[name].shape == np.shape(value)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_truncated_tail_costs_the_last_record_only(tmp_path, cut):
    path = tmp_path / "a.journal"
    write_records(path, 5)
    os.truncate(path, path.stat().st_size - cut)
    records, damaged = read_journal(path)
    assert [record.key for record in records] == [f"key {index}" for index in range(4)]
    assert damaged == 1
    # What a resumed run appends behind the torn record is found.
    journal = Journal(path)
    journal.append("key 4", arrays(4))
    journal.close()
    assert len(read_journal(path)[0]) == 5


def test_any_single_bit_flip_is_detected_and_costs_one_record(tmp_path):
    path = tmp_path / "a.journal"
    write_records(path, 3)
    good = path.read_bytes()
    originals = {record.key: record for record in read_journal(path)[0]}
    random = np.random.default_rng(3)
    for _ in range(200):
        place, bit = random.integers(len(good)), random.integers(8)
        data = bytearray(good)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        records, damaged = read_journal(path)
        assert len(records) == 2
        assert damaged >= 1
        for record in records:
            for name, value in record.arrays.items():
                np.testing.assert_array_equal(value, originals[record.key].arrays[name])


def test_objects_are_refused():
    with pytest.raises(TypeError, match="Python objects"):
        encode_record("key", {"bad": np.array([{}])}, {})


def test_h5_damage_is_detected(tmp_path):
    path = tmp_path / "a.h5"
    write_h5(path, {"x/forces": (np.arange(4000.0), "hartree/bohr", "atom")}, {"format": "test"})
    values, attributes = read_h5(path)
    np.testing.assert_array_equal(values["x/forces"], np.arange(4000.0))
    assert attributes["format"] == "test"
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)
    with pytest.raises(RunStopped):
        read_h5(path)
    assert read_intact(path) is None
    assert (tmp_path / "a.h5.damaged").exists()


def test_digest_tells_shape_type_and_value_apart():
    values = [np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.float32), 0.0, "0", [0.0, 0.0]]
    assert len({digest(value) for value in values}) == len(values)


def test_directory_of_another_deck_is_refused(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.open("deck one", "a: 1\n")
    run.unlock()
    with pytest.raises(InputError, match="another deck"):
        RunDirectory(tmp_path / "run").open("deck two", "a: 2\n")
    assert (tmp_path / "run" / "deck.resolved.yaml").read_text() == "a: 1\n"


def test_directory_that_is_no_run_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not a run"):
        RunDirectory(tmp_path).open("deck", "")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["thesis.tex"]


def test_two_runs_in_one_directory_are_refused_and_the_dead_are_taken_over(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hpcir.storage.run_directory import RunDirectory;"
        f"RunDirectory(Path({str(tmp_path / 'run')!r})).open('deck', ''); print('open', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    try:
        with pytest.raises(InputError, match="another run works"):
            RunDirectory(tmp_path / "run").open("deck", "")
    finally:
        other.kill()
        other.wait()
    RunDirectory(tmp_path / "run").open("deck", "")


@pytest.mark.parametrize("holder", [{"host": "elsewhere"}, {"place": "another boot"}])
@pytest.mark.parametrize("age", [0.0, 1e5, -1e5])
def test_the_lock_of_another_host_is_alive_when_it_is_touched(tmp_path, monkeypatch, holder, age):
    """Whatever its age, which clocks that jump make meaningless."""
    monkeypatch.setattr(RunDirectory, "LOCK_TIMEOUT", 1.0)
    run = RunDirectory(tmp_path)
    lock = tmp_path / RunDirectory.LOCK
    (tmp_path / RunDirectory.MANIFEST).write_text(json.dumps({"deck": "deck", "stages": {}}))
    lock.write_text(json.dumps(lock_identity() | {"pid": 1, "started": "1"} | holder))
    then = lock.stat().st_mtime - age
    os.utime(lock, (then, then))
    beating = threading.Timer(0.4, lambda: os.utime(lock, (then, then + 10)))
    beating.start()
    with pytest.raises(InputError, match="process 1 on"):
        run.open("deck", "")
    run.open("deck", "")  # nobody touches it any more
    run.unlock()
    assert not lock.exists()


def test_finished_stage_needs_its_inputs_and_intact_files(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.open("deck", "")
    (run / "model.h5").write_bytes(b"weights")
    run.finish("train", "inputs", ["model.h5"], 1.5, {})
    assert run.finished("train", "inputs") is not None
    assert run.finished("train", "others") is None
    (run / "model.h5").write_bytes(b"weighty")
    assert run.finished("train", "inputs") is None
    assert (run / "model.h5.damaged").exists()


def test_processes_append_to_one_journal_and_no_record_is_lost(tmp_path):
    """Ranks of a node share a file; one that is killed in the middle of a write costs its own record alone."""
    code = (
        "import sys; from pathlib import Path; import numpy as np; from hpcir.storage.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for index in range(200): journal.append(f'{sys.argv[2]} {index}', {'a': np.full(3000, index)})\n"
        "journal.close()\n"
    )
    path = tmp_path / "node-00000.journal"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(4)]
    processes.append(subprocess.Popen([sys.executable, "-c", code.replace("200", "10**9"), str(path), "killed"]))
    for process in processes[:4]:
        assert process.wait(timeout=120) == 0
    processes[4].kill()
    processes[4].wait()
    records, damaged = read_journal(path)
    keys = {record.key for record in records}
    assert damaged <= 1
    assert {f"{n} {index}" for n in range(4) for index in range(200)} <= keys
    assert all(np.all(record.arrays["a"] == int(record.key.split()[1])) for record in records)


def test_an_index_finds_every_record_without_reading_its_arrays(tmp_path):
    run = RunDirectory(tmp_path)
    for node in (0, 64):
        journal = run.journal("work", node)
        for index in range(3):
            journal.append(f"{node} {index}", arrays(index), {"index": index})
        journal.close()
    path = tmp_path / "work" / "node-00064.journal"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # in the arrays of the last record
    path.write_bytes(data)
    headings = list(run.index("work"))
    assert [heading.key for heading in headings] == [f"{node} {index}" for node in (0, 64) for index in range(3)]
    found = [run.record_at("work", heading.place) for heading in headings]
    assert found[-1] is None
    for record, heading in zip(found[:-1], headings[:-1], strict=True):
        assert record is not None
        assert (record.key, record.attributes) == (heading.key, heading.attributes)
        np.testing.assert_array_equal(record.arrays["forces"], arrays(heading.attributes["index"])["forces"])
    assert [record.key for record in run.records("work")] == [heading.key for heading in headings[:-1]]


@pytest.mark.parametrize("damage", ["", "{", '{"deck": "other"', "[]"])
def test_a_damaged_manifest_of_the_same_deck_is_set_aside(tmp_path, damage):
    directory = RunDirectory(tmp_path / "run")
    directory.open("deck", "text")
    directory.unlock()
    manifest = directory.path / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(damage)
    with pytest.raises(RunStopped, match="cannot be read"):
        directory.open("another", "another text")
    directory.open("deck", "text")
    directory.unlock()
    assert manifest.read_text() == whole
    assert (directory.path / "manifest.json.damaged").read_text() == damage


def test_a_flipped_letter_of_the_manifest_or_the_resolved_deck_is_mended(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.open("deck", "text")
    directory.unlock()
    manifest, resolved = directory.path / "manifest.json", directory.path / "deck.resolved.yaml"
    manifest.write_text(manifest.read_text().replace('"deck": "deck"', '"deck": "deak"'))
    with pytest.raises(RunStopped, match="checksum"):
        directory.manifest()
    directory.open("deck", "text")
    directory.unlock()
    resolved.write_text("tExt")
    directory.open("deck", "text")
    assert resolved.read_text() == "text"
    assert directory.manifest()["deck"] == "deck"
