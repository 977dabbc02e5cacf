"""One model for several molecules: seeds C2 to C4, targets C6 and C8 by fragments; on two ranks and resumed too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpcir.storage.hdf5 import read_h5, write_h5
from tests.e2e.conftest import ROOT, differences, finish, kill_in_stages, replaced, results

ALKANES = ROOT / "inputs" / "alkanes"
TARGETS = ("C6H14", "C8H18")

DECK = f"""\
system: {{structure: {ALKANES / "C6H14.xyz"}, targets: [{ALKANES / "C8H18.xyz"}]}}
labels: {{engine: tblite}}
model: {{cutoff: 3 A, members: 2, hidden: [12, 12], radial: 6, shells: 2, zetas: [1, 2], channels: 0}}
training: {{steps: 150, final_steps: 200, learning_rate: 0.01, process: 0}}
sampling:
  {{seeds: [{ALKANES / "C2H6.xyz"}, {ALKANES / "C3H8.xyz"}, {ALKANES / "C4H10.xyz"}], largest_fragment: 5,
    conformers: 2, max_labels: 55, initial_labels: 30, round_labels: 12, rounds: 2, trajectories: 8,
    duration: 0.1 ps, force_error: 20 kcal/mol/A, temperatures: [300 K, 500 K]}}
test: {{count: 4}}
dynamics:
  {{trajectories: 12, lockstep: 6, equilibration: 0.05 ps, duration: 0.6 ps, force_error: 32 kcal/mol/A,
    population_error: 0.3}}
spectrum: {{depth: 0.3 ps, estimator: plain, committee_errors: false}}
"""


@pytest.fixture(scope="module")
def series_deck(made_once) -> Path:
    return made_once("series-deck", lambda folder: (folder / "series.yaml").write_text(DECK)) / "series.yaml"


@pytest.fixture(scope="module")
def finished(series_deck, finished_run) -> Path:
    return finished_run("series", series_deck)


def all_results(run: Path) -> dict[str, np.ndarray]:
    """What two runs of one deck must share: labels, model, and every target's trajectories and spectrum."""
    found = results(run)
    for name in TARGETS:
        folder = run / "targets" / name
        for path in (folder / "spectrum.h5", folder / "modes.h5", *sorted((folder / "trajectories").glob("*.h5"))):
            arrays, _ = read_h5(path)
            found |= {f"{name}/{path.stem}/{key}": value for key, value in arrays.items()}
    return found


def test_every_target_has_its_spectrum_and_the_run_says_what_it_rests_on(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["targets"]) == list(TARGETS)
    assert summary["labels"]["count"] <= 55
    assert summary["largest_labelled_heavy_atoms"] <= 5
    for name in TARGETS:
        folder = finished / "targets" / name
        own = json.loads((folder / "summary.json").read_text())
        assert 2 <= own["test"]["n"] <= 4
        assert own["test"]["force_rmse_kcal_per_mol_angstrom"] < 10
        assert own["bands"]
        assert own["md"]["microseconds_per_step"] > 0
        assert own["ensemble"]["rotatable"] == {"C6H14": 3, "C8H18": 5}[name]
        atoms = json.loads((folder / "trust.json").read_text())["atoms"]
        assert len(atoms) == {"C6H14": 20, "C8H18": 26}[name]
        for file in ("spectrum.csv", "spectrum.h5", "report.html", "deck.resolved.yaml", "models/model.h5"):
            assert (folder / file).stat().st_size > 0
    assert (finished / "spectrum-C8H18.csv").read_text() == (
        finished / "targets" / "C8H18" / "spectrum.csv"
    ).read_text()
    assert not (finished / "lock.json").exists()


def test_fragments_of_the_target_were_labelled_and_nothing_larger(finished):
    arrays, _ = read_h5(finished / "labels.h5")
    groups = {name.split("/")[0] for name in arrays}
    sizes = set()
    for group in groups:
        purposes = {item.decode() for item in np.ravel(arrays[f"{group}/purpose"])}
        carbons = int((arrays[f"{group}/numbers"] == 6).sum())
        hydrogens = int((arrays[f"{group}/numbers"] == 1).sum())
        assert hydrogens == 2 * carbons + 2
        if purposes - {"test"}:
            sizes.add(carbons)
    assert max(sizes) == 5
    assert sizes >= {2, 3, 4}


@pytest.mark.long
@pytest.mark.mpi
def test_its_own_resolved_deck_gives_the_same_on_two_ranks(finished, run_deck, tmp_path):
    out = tmp_path / "again"
    finish(run_deck, finished / "deck.resolved.yaml", out, ranks=2)
    first, second = (json.loads((run / "summary.json").read_text()) for run in (finished, out))
    assert first["labels"]["by_purpose"] == second["labels"]["by_purpose"]
    assert differences(all_results(finished), all_results(out)) == []


@pytest.mark.long
def test_killed_and_run_again_it_ends_the_same(finished, series_deck, run_deck, tmp_path):
    out = tmp_path / "run"
    kill_in_stages(series_deck, out, ("explore round 0", "train round 1", "starts of C8H18"), finished)
    finish(run_deck, series_deck, out)
    assert differences(all_results(finished), all_results(out)) == []


def test_a_target_without_a_sane_trajectory_does_not_cost_the_others_their_spectra(
    finished, series_deck, run_deck, tmp_path
):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for path in sorted((out / "targets" / "C6H14" / "trajectories").glob("main-*.h5")):
        arrays, attributes = read_h5(path)
        arrays["sane"] = np.zeros_like(arrays["sane"])
        for name in ("program_version", "format_version"):
            del attributes[name]
        write_h5(path, {name: (value, "", "") for name, value in arrays.items()}, attributes)
    done = run_deck(series_deck, out)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no spectrum of C6H14" in done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["targets"]["C6H14"] == {"atoms": 20, "md": {"trajectories": 12, "left_out": 12}}
    assert summary["targets"]["C8H18"]["bands"] == summary["bands"]
    assert (out / "spectrum.csv").read_text() == (finished / "spectrum-C8H18.csv").read_text()
    page = (out / "report.html").read_text()
    assert "C6H14" in page
    assert "C8H18" in page


@pytest.mark.long
def test_a_cheap_level_comes_first_where_the_deck_wants_it(series_deck, run_deck, tmp_path):
    path = tmp_path / "levels.yaml"
    changed = {
        "{engine: tblite}": "{engine: tblite, method: GFN1-xTB, pretrain: {engine: tblite, labels: 90}}",
        "training: {": "training: {pretrain_steps: 300, ",
        "max_labels: 55, initial_labels: 30": "max_labels: 30, initial_labels: 20",
    }
    path.write_text(replaced(DECK, changed))
    finish(run_deck, path, tmp_path / "run")
    labels = json.loads((tmp_path / "run" / "summary.json").read_text())["labels"]
    assert labels["level"].startswith("GFN1-xTB")
    assert labels["count"] <= 30
    assert 30 <= labels["other_levels"] <= 90  # the first ones, and what exploration took
