"""Trajectories in parts until the bands are as accurate as the deck asks for: the rule, and runs that follow it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.sections import AccuracySettings
from hpcir.errors import RunStopped
from hpcir.spectra.bands import Band
from hpcir.spectra.estimators import shift_factor, small_sample_factor
from hpcir.storage.hdf5 import write_h5
from hpcir.study.production.convergence import BandErrors, SamplingEnd, SamplingStop, look_counts, margin
from hpcir.study.production.trajectories import TrajectoryStage
from hpcir.study.results import analysis
from tests.frozen.comparison import differences
from tests.unit.test_road import SMALL, run, study_of

LIMIT = 96
DECK = SMALL.replace(
    "dynamics: {trajectories: 4, lockstep: 4,", f"dynamics: {{trajectories: {LIMIT}, lockstep: 16,"
).replace("test: {count: 4}", "test: {count: 0}")

ISOTOPE = "{structure: hcl.xyz, isotopes: {DCl: {H: 2.014}}}"
LOOSE = "accuracy: {wavenumber: 2000 cm-1, intensity: 900 %}\n"
TIGHT = "accuracy: {wavenumber: 1e-6 cm-1, intensity: 0.0001 %}\n"


def band(position=1000.0, intensity=10.0, shift=0.5, error=0.1) -> Band:
    return Band(position, shift, intensity, error, position, shift, position - 20, position + 20, error,
                sampling_stderr_per_cm=shift)  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "lockstep", "counts"),
    [
        (4, 4, (4,)),
        (32, 16, (32,)),
        (64, 16, (32, 64)),
        (256, 16, (32, 64, 128, 256)),
        (100, 10, (40, 80, 100)),
        (64, 64, (64,)),
        (1, 16, (1,)),
    ],
)
def test_looks_are_at_whole_blocks_and_double(limit, lockstep, counts):
    assert look_counts(limit, lockstep) == counts


def test_a_set_that_needs_many_starts_is_not_looked_at_before():
    assert look_counts(64, 16, 40) == (48, 64)
    assert look_counts(64, 16, 100) == (64,)


def test_the_worst_band_over_five_km_per_mol_counts():
    found = BandErrors.of([band(), band(1700, 20, 0.7, 0.1), band(900, 4, 50, 4), band(3000, 6, 0.1, 0.3)], 64, 62)
    assert (found.wavenumber, found.wavenumber_at) == (0.7, 1700)
    assert (found.intensity, found.intensity_at) == (pytest.approx(0.05), 3000)
    assert found.meets(AccuracySettings(wavenumber="0.7 cm-1", intensity="5.1 %"))
    assert not found.meets(AccuracySettings(wavenumber="0.6 cm-1", intensity="5.1 %"))
    assert not found.meets(AccuracySettings(wavenumber="0.7 cm-1", intensity="4.9 %"))
    assert not found.surely_meets(AccuracySettings(wavenumber="0.7 cm-1", intensity="5.1 %"))
    assert found.surely_meets(AccuracySettings(wavenumber="1 cm-1", intensity="7 %"))


@pytest.mark.parametrize("bands", [[], [band(intensity=1.0)], [band(shift=np.nan)], [band(error=np.nan)]])
def test_without_errors_nothing_is_met(bands):
    found = BandErrors.of(bands, 64, 64)
    assert not found.known
    assert not found.surely_meets(AccuracySettings(wavenumber="1000 cm-1", intensity="100 %"))
    assert found.needed(AccuracySettings()) is None
    stop = SamplingStop.at(found, 64, AccuracySettings())
    assert stop.reason is SamplingEnd.NO_BANDS
    assert "no band over 5 km/mol" in stop.sentence()


def test_the_errors_fall_as_the_estimator_states_them():
    """The program's own factors for few trajectories, put on a scatter that stays the same."""

    def stated(count):
        factor = float(small_sample_factor(count))
        return BandErrors(
            count, count, 30 * factor * shift_factor(count) / count**0.5, 1000.0, factor / count**0.5, 1.0
        )

    few, wanted = stated(32), AccuracySettings(wavenumber="1 cm-1", intensity="2 %")
    assert few.after(4) == pytest.approx((stated(128).wavenumber, stated(128).intensity))
    by_intensity = few.needed(AccuracySettings(wavenumber="100 cm-1", intensity="2 %"))
    assert by_intensity == pytest.approx(2500, rel=0.05)
    needed = stated(few.needed(wanted))
    assert needed.meets(wanted, 1 / 1.03)
    assert not stated(round(few.needed(wanted) * 0.9)).meets(wanted)


def test_an_accuracy_beyond_reach_has_its_price():
    stop = SamplingStop.at(BandErrors(64, 64, 1.0, 1000.0, 0.02, 1000.0), 64, AccuracySettings(wavenumber="1e-4 cm-1"))
    assert stop.reason is SamplingEnd.LIMIT
    assert stop.errors.needed(stop.wanted) > 1e8
    assert "dynamics.trajectories" in stop.sentence()
    assert "twice as many" in stop.more()


def means_and_errors(values, looks, wanted):
    """Mean and stated relative error of many runs (N, R) that stop by the rule; the trajectories that they took."""
    mean, error, taken = (np.full(len(values), np.nan) for _ in range(3))
    going = np.ones(len(values), bool)
    for look in looks:
        part = values[:, :look]
        own, stated = part.mean(1), part.std(1, ddof=1) / look**0.5 * small_sample_factor(look)
        relative = stated / own
        ends = going & ((margin(look) * relative <= wanted) | (look == looks[-1]))
        mean[ends], error[ends], taken[ends] = own[ends], stated[ends], look
        going &= ~ends
    return mean, error, taken


@pytest.mark.parametrize("shape", [100.0, 25.0, 8.0])
def test_stopping_leaves_no_bias_and_keeps_the_coverage(shape):
    """Skewed intensities (gamma), whose scatter is small where their mean is low by chance: over accuracies from those
    that the first look meets to those that the last one does not, twice the stated error covers as well as it does of
    a fixed number, and the mean is off by a tenth of the error at most."""
    random = np.random.Generator(np.random.Philox(key=[7, int(shape)]))
    values = random.gamma(shape, 1 / shape, size=(6000, 256))
    looks = look_counts(256, 16)
    scatter = shape**-0.5
    for wanted in scatter * np.array([2.0, 1.3, 1.0, 0.8, 0.6, 0.4]) / 64**0.5:
        mean, error, taken = means_and_errors(values, looks, wanted)
        score = (mean - 1) / error
        assert abs(score.mean()) < 0.1 + 3 / 6000**0.5
        assert np.mean(np.abs(score) < 2) > 0.94
        # What is stopped for the accuracy has it.
        early = taken < looks[-1]
        if early.mean() > 0.1:
            assert np.std(mean[early] - 1) < 1.02 * wanted


def counts(folder: Path) -> tuple[int, list[str]]:
    summary = json.loads((folder / "summary.json").read_text())
    return summary["md"]["trajectories"], sorted(p.name for p in (folder / "trajectories").glob("main-*.h5"))


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """A run whose first look meets a loose accuracy."""
    place = tmp_path_factory.mktemp("early")
    study = study_of(place, ISOTOPE, DECK + LOOSE)
    run(place / "run", study)
    return place


def test_trajectories_end_where_the_accuracy_is_met(early):
    taken, files = counts(early / "run")
    assert taken == 32
    assert files == ["main-00000.h5", "main-00001.h5"]
    assert sorted(p.name for p in (early / "run" / "trajectories").glob("DCl-*.h5")) == ["DCl-00000.h5", "DCl-00001.h5"]
    assert "no more are needed" in (early / "run" / "log.txt").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same deck with an accuracy that no number of trajectories meets."""
    place = tmp_path_factory.mktemp("whole")
    run(place / "run", study_of(place, ISOTOPE, DECK + TIGHT))
    return place / "run"


def test_an_accuracy_that_no_sampling_meets_is_said_with_its_price_before_it_is_spent(whole):
    taken, files = counts(whole)
    assert (taken, len(files)) == (LIMIT, LIMIT // 16)
    log = (whole / "log.txt").read_text()
    warned = log.index("would take about")
    assert "dynamics.trajectories allows 96" in log[warned:]
    assert "32 trajectories give every band over 5 km/mol" in log[:warned]


def test_a_run_goes_on_with_a_tighter_accuracy_and_ends_as_one_from_nothing(early, whole, tmp_path):
    shutil.copytree(early / "run", tmp_path / "run")
    before = (tmp_path / "run" / "trajectories" / "main-00001.h5").read_bytes()
    engine = run(tmp_path / "run", study_of(tmp_path, ISOTOPE, DECK + TIGHT))
    assert engine.labelled == []
    assert (tmp_path / "run" / "trajectories" / "main-00001.h5").read_bytes() == before
    assert differences(whole, tmp_path / "run") == ([], [])


def test_trajectories_that_are_there_count_whatever_the_accuracy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    run(tmp_path / "run", study_of(tmp_path, ISOTOPE, DECK + LOOSE))
    assert counts(tmp_path / "run")[0] == LIMIT


def test_a_run_goes_on_with_a_larger_limit_and_ends_as_one_from_nothing(whole, tmp_path):
    """The last block of before, of fewer trajectories, is run anew; the others and all labels stay."""
    fewer = DECK.replace(f"trajectories: {LIMIT},", "trajectories: 40,")
    assert fewer != DECK
    run(tmp_path / "run", study_of(tmp_path, ISOTOPE, fewer + TIGHT))
    assert counts(tmp_path / "run")[0] == 40
    files = [tmp_path / "run" / "trajectories" / f"main-0000{block}.h5" for block in range(3)]
    before = [path.read_bytes() for path in files]
    engine = run(tmp_path / "run", study_of(tmp_path, ISOTOPE, DECK + TIGHT))
    assert engine.labelled == []
    assert [path.read_bytes() == old for path, old in zip(files, before, strict=True)] == [True, True, False]
    assert differences(whole, tmp_path / "run") == ([], [])


def test_a_run_that_is_stopped_between_its_parts_gives_the_same_bits(whole, tmp_path, monkeypatch):
    study, whole_block, done = study_of(tmp_path, ISOTOPE, DECK + TIGHT), TrajectoryStage.run_block, []

    def stopping(self, number, journal, places):
        if len(done) % 4 == 3:
            done.append(None)
            raise RunStopped("stopped")
        done.append((self.plan.name, number))
        whole_block(self, number, journal, places)

    monkeypatch.setattr(TrajectoryStage, "run_block", stopping)
    stops = 0
    while True:
        try:
            run(tmp_path / "run", study)
            break
        except RunStopped:
            stops += 1
    assert stops >= 3
    ran = [one for one in done if one is not None]
    assert len(set(ran)) == len(ran)
    assert differences(whole, tmp_path / "run") == ([], [])


def test_blocks_of_another_model_beyond_the_part_are_removed(early, tmp_path):
    shutil.copytree(early / "run", tmp_path / "run")
    folder = tmp_path / "run" / "trajectories"
    write_h5(folder / "main-00002.h5", {"x": (np.zeros(1), "1", "one")}, {"inputs": "of another model"})
    run(tmp_path / "run", study_of(tmp_path, ISOTOPE, DECK + LOOSE))
    assert counts(tmp_path / "run") == counts(early / "run")


def test_the_test_labels_as_many_as_its_figures_take(early, tmp_path, monkeypatch):
    """Of up to 32 geometries fewer do for a loose accuracy, which asks for the force error alone; all are labelled
    for a tight one, and the labels of before are among them."""
    monkeypatch.setattr(analysis, "FORCE_ERROR_KNOWN", 0.5)
    shutil.copytree(early / "run", tmp_path / "run")
    counted = DECK.replace("test: {count: 0}", "test: {count: 32}")
    run(tmp_path / "run", study_of(tmp_path, ISOTOPE, counted + LOOSE))
    loose = json.loads((tmp_path / "run" / "summary.json").read_text())
    tighter = "accuracy: {wavenumber: 1e-6 cm-1, intensity: 100 %}\n"
    engine = run(tmp_path / "run", study_of(tmp_path, ISOTOPE, counted + tighter))
    tight = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert loose["test"]["n"] == 16
    assert 0 < loose["test"]["force_rmse_relative_stderr"] <= 0.5
    assert tight["test"]["n"] == 32
    assert [end["reason"] for end in tight["ends"] if end["stage"] == "test"] == ["limit"]
    assert len(engine.labelled) == 32 - loose["test"]["n"]
