"""Where a file says that it comes from."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hpcir.descriptors.definition import automatic_set
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.n2p2 import export_n2p2
from hpcir.exchange.potentials import tell_model
from hpcir.exchange.reading import read_dataset
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import Structure, read_frames
from hpcir.spectra.files.jcamp import read_jcamp, write_jcamp
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import provenance
from hpcir.storage.hdf5 import origin_of, read_h5, write_h5
from hpcir.storage.json_result import write_json
from hpcir.version import __version__

ROOT = Path(provenance.__file__).parents[1]


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(provenance, "_facts", {})
    monkeypatch.setattr(provenance, "_settings", {})
    provenance.record_facts({"model": {"members": 4}}, seed=7, deck="abcdefghijklmnop", hosts=3)
    return {"seed": 7, "deck": "abcdefghijklmnop", "hosts": 3, "version": __version__}


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
    attributes = read_h5(tmp_path / "a.h5")[1]
    origin = json.loads(attributes["origin"])
    assert told.items() <= origin.items()
    assert origin["git_commit"] == provenance.git_commit()
    assert origin["libraries"]["numpy"] == np.__version__
    assert json.loads(attributes["deck"]) == {"model": {"members": 4}}
    assert origin_of(tmp_path / "a.h5") == origin
    curve = np.linspace(0, 1, 5)
    Spectrum(curve, curve, curve).to_csv(tmp_path / "a.csv")
    line = next(line for line in (tmp_path / "a.csv").read_text().splitlines() if line.startswith("# origin: "))
    assert told.items() <= json.loads(line.removeprefix("# origin: ")).items()
    np.testing.assert_allclose(Spectrum.from_csv(tmp_path / "a.csv").absorption, curve)


def test_other_formats_say_it_too(tmp_path, told):
    line = f"hpcir {__version__} commit {provenance.git_commit()[:12]} seed 7 deck abcdefghijkl hosts 3"
    water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0, 1.4, 1.1], [0, -1.4, 1.1]], float))
    frame = Frame(water.numbers, water.positions, energy=-1.0, forces=np.zeros((3, 3)), dipole=np.zeros(3))
    write_extxyz(Dataset((frame,)), tmp_path / "a.xyz")
    assert read_frames(tmp_path / "a.xyz")[0].info["origin"] == line
    assert read_dataset(tmp_path / "a.xyz").unread == ()
    curve = np.linspace(0, 1, 5)
    write_jcamp(Spectrum(1000 * curve, curve, curve), tmp_path / "a.jdx")
    assert f"##ORIGIN={line}" in (tmp_path / "a.jdx").read_text().splitlines()
    np.testing.assert_allclose(read_jcamp(tmp_path / "a.jdx").absorption, curve, atol=1e-6)
    model = random_model(automatic_set((1, 8), 9.0, 5, 2, (1,)), 1)
    export_n2p2(model, tmp_path / "n2p2")
    assert f"# origin: {line}" in (tmp_path / "n2p2" / "input.nn").read_text().splitlines()
    write_json(tmp_path / "a.json", {"x": np.nan, "y": np.arange(2)})
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["x"], content["y"]) == (None, [0, 1])
    assert told.items() <= content["origin"].items()
    Figure().savefig(tmp_path / "a.png", metadata=provenance.png_texts())
    with Image.open(tmp_path / "a.png") as image:
        assert told.items() <= json.loads(image.info["Source"]).items()


def test_files_made_with_a_model_name_it(tmp_path, told):
    model = random_model(automatic_set((1, 8), 9.0, 5, 2, (1,)), 1)
    model.save(tmp_path / "model")
    provenance.record_facts(seed=8, deck="another")
    tell_model(tmp_path / "model", model)
    assert provenance.origin()["model"] == model.digest
    assert told.items() <= provenance.origin().items()
