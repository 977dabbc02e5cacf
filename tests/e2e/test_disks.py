"""Disks that are full, quotas that are spent, folders that cannot be written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import WATER, assert_same, differences, finish, results

LONG = pytest.mark.long


@contextlib.contextmanager
def small_disk(place: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of so many KiB at a folder; only root can have one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("kibibytes", [200, *(pytest.param(n, marks=LONG) for n in (28, 50, 100, 150, 500, 800))])
def test_a_full_disk_stops_the_run_with_a_word_and_it_goes_on_when_there_is_room(
    undisturbed, deck, run_deck, tmp_path, kibibytes
):
    with small_disk(tmp_path / "disk", kibibytes) as disk:
        out = disk / "run"
        done = run_deck(deck, out)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "No space left" in done.stderr
        assert done.stderr.count("hpcir: ") == 1
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        finish(run_deck, deck, out)
        assert_same(undisturbed, out)


QUOTA = """
import errno, os, stat, sys
from hpcir.cli import main
left, write = int(sys.argv.pop(1)), os.write
def limited(descriptor, data):
    global left
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        left -= len(data)
        if left < 0:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return write(descriptor, data)
os.write = limited
sys.exit(main())
"""


@pytest.mark.parametrize("kilobytes", [20, *(pytest.param(n, marks=LONG) for n in (1, 50, 80))])
def test_a_spent_quota_stops_the_run_with_a_word_and_it_goes_on_when_there_is_room(
    undisturbed, deck, run_deck, tmp_path, kilobytes
):
    """No file system with quotas can be counted on here: the journals' writes fail as they would on one."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", QUOTA, str(1000 * kilobytes), "run", str(deck), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Disk quota exceeded" in done.stderr
    assert done.stderr.count("hpcir: ") == 1
    assert "Traceback" not in done.stderr
    finish(run_deck, deck, out)
    assert_same(undisturbed, out)


def test_input_from_a_folder_that_cannot_be_written(undisturbed, deck, run_deck, tmp_path):
    with small_disk(tmp_path / "input", 1000) as folder:
        shutil.copy(WATER, folder)
        assert str(WATER) in deck.read_text()
        (folder / "tiny.yaml").write_text(deck.read_text().replace(str(WATER), WATER.name))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        finish(run_deck, folder / "tiny.yaml", tmp_path / "run")
        assert differences(results(undisturbed), results(tmp_path / "run")) == []
