"""Where a file says that it comes from."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hpcir import __version__, provenance
from hpcir.spectra.spectrum import Spectrum
from hpcir.store import read_h5, write_h5

ROOT = Path(provenance.__file__).parents[1]


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(provenance, "_told", {})
    provenance.tell(seed=7, deck="abc", hosts=3)
    return {"seed": 7, "deck": "abc", "hosts": 3, "version": __version__}


def test_the_commit_is_what_git_says():
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip("not a git checkout")
    assert provenance.git_commit() == said.stdout.strip()


def test_a_commit_among_packed_references_is_found(tmp_path):
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "packed-refs").write_text("# pack-refs\n1234 refs/heads/main2\nabcd refs/heads/main\n")
    assert provenance._head(tmp_path) == "abcd"
    (tmp_path / "HEAD").write_text("ef01\n")
    assert provenance._head(tmp_path) == "ef01"


def test_every_h5_file_and_csv_says_it(tmp_path, told):
    write_h5(tmp_path / "a.h5", {"x": (np.zeros(3), "bohr", "atom")}, {})
    origin = json.loads(read_h5(tmp_path / "a.h5")[1]["origin"])
    assert told.items() <= origin.items()
    assert origin["git_commit"] == provenance.git_commit()
    curve = np.linspace(0, 1, 5)
    Spectrum(curve, curve, curve).to_csv(tmp_path / "a.csv")
    line = next(line for line in (tmp_path / "a.csv").read_text().splitlines() if line.startswith("# origin: "))
    assert told.items() <= json.loads(line.removeprefix("# origin: ")).items()
    np.testing.assert_allclose(Spectrum.from_csv(tmp_path / "a.csv").absorption, curve)
