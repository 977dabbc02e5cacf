"""The steps of a study, once: pretrain, prepare, sample, trajectories, variants, test, spectrum, report. A run resumes
by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from hpcir.deck.resolved import deck_digest, resolved_text
from hpcir.deck.study import Study
from hpcir.errors import InputError, RunStopped
from hpcir.exchange.level_data import level_digests
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, xyz_text
from hpcir.runtime.mpi import Communicator, collective, on_root
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.files import keep_text
from hpcir.storage.run_directory import RunDirectory
from hpcir.study import label_farm
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm, LabelStore
from hpcir.study.learning.approach import Approach, approach_of
from hpcir.study.learning.chain import LearntLevel, fresh_weights
from hpcir.study.learning.committee import CommitteeTrainer, require_device, symmetry_functions
from hpcir.study.learning.curve import LearningCurve
from hpcir.study.learning.loop import LearningLoop
from hpcir.study.learning.reference import Reference
from hpcir.study.production.targets import Target, main_trajectories, variants
from hpcir.study.results import summary
from hpcir.study.results.analysis import engine_reference, independent_test
from hpcir.study.results.chain import BELOW, FRESH, level_figures
from hpcir.study.results.levels import target_levels
from hpcir.study.results.records import IndependentTest, LevelFigures
from hpcir.study.results.spectra import errors_so_far, target_spectra
from hpcir.study.results.spectrum import NO_VALID_TRAJECTORY, SpectrumResult
from hpcir.study.results.summary import Finished, Shared
from hpcir.study.results.trust_map import training_environments
from hpcir.study.session import at_work
from hpcir.study.times import spend

Result = TypeVar("Result")

STAGES = ("pretrain", "prepare", "sample", "trajectories", "variants", "test", "spectrum", "levels", "report")


class Until(Exception):
    """Raised when the stage of --until is done."""


def run(
    study: Study,
    out: Path,
    comm: Communicator,
    *,
    until: str | None = None,
    fresh: bool = False,
    force: bool = False,
    walltime: float | None = None,
    report: Callable[[Path], object] | None = None,
) -> None:
    """Run a study in a run directory from wherever it stands (collective).

    until: the last stage to run; walltime: seconds after which to stop with everything saved; report: draws a finished
    directory (rank 0).
    """
    if until is not None and until not in STAGES:
        raise InputError("no such stage", where="--until", value=until, hint="valid: " + ", ".join(STAGES))
    directory = RunDirectory(Path(out))

    @collective
    def opened() -> None:
        _require_device(study, directory, comm, until)
        on_root(comm, lambda: _open(directory, study, fresh, force))

    with suppress(Until), at_work(directory, comm, study.deck, study.structure, opened, walltime) as context:
        Road(context, study, until, report).run()


@collective
def _require_device(study: Study, directory: RunDirectory, comm: Communicator, until: str | None) -> None:
    """Refuse a device that is not there before labels are spent; a run whose models are finished needs none."""
    if until == "prepare" or on_root(comm, lambda: (directory / layout.MODEL).exists()):
        return
    try:
        require_device(comm, study.deck.training)
    except InputError as error:
        raise study.loaded.located(error) from None


def _open(directory: RunDirectory, study: Study, fresh: bool, force: bool) -> None:
    """Lock the run directory for this study: its key is every setting and the structures."""
    deck = study.deck
    targets = {layout.target_structure(item.name): item for item in study.targets[1:]}
    seeds = {layout.seed_structure(item.name): item for item in study.seeds if deck.sampling.seeds}
    files: dict[str, Structure] = {layout.START: study.structure, **targets, **seeds}
    parts = [part for item in files.values() for part in (item.numbers, item.positions)]
    # Only where there are isotopes, so that directories of before are still this deck's.
    parts += [item.nuclear_masses for item in files.values() if item.nuclear_masses is not None]
    key = digest(deck_digest(deck), *parts, *level_digests(study))
    directory.open(key, resolved_text(deck, layout.START, list(targets), list(seeds)), fresh=fresh, force=force)
    for name, item in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        keep_text(directory / name, xyz_text(item))


class Road:
    """One run's stages in order; each reads the files of the one before it."""

    def __init__(
        self, context: Context, study: Study, until: str | None, report: Callable[[Path], object] | None
    ) -> None:
        self.context, self.study = context, study
        self.until, self.report = until, report
        self.store = LabelStore()
        context.at_root(lambda: self.store.load(list(context.directory.records(label_farm.FOLDER))))

    @collective
    def run(self) -> None:
        context = self.context
        self._timed("compile", self._compile)
        trainer = CommitteeTrainer(context, symmetry_functions(context, self.study.elements))
        approach = approach_of(context, self.study, trainer, self.store)
        self._timed("pretrain", approach.pretrain)
        farm, reference = self._timed("prepare", approach.prepare)
        try:
            self._from_labels_to_spectrum(approach, farm, reference, trainer)
        finally:
            farm.close()

    @collective
    def _from_labels_to_spectrum(
        self, approach: Approach, farm: LabelFarm, reference: Reference | None, trainer: CommitteeTrainer
    ) -> None:
        sampled = self._timed("sample", lambda: self._sample(approach.loop(farm, reference), trainer))
        loop, model, curve, fresh = sampled
        # Before the labels of conformers, which no model has learnt.
        shared = self.context.at_root(lambda: self._shared(loop, model, curve, approach.below))
        targets = self._timed(
            "trajectories",
            lambda: main_trajectories(self.context, self.study, model, farm, reference, errors_so_far),
        )
        targets = self._timed("variants", lambda: [variants(target) for target in targets])
        others = {name: other for name, other in ((FRESH, fresh), (BELOW, self._below(approach))) if other is not None}
        targets, tests = self._timed("test", lambda: self._test(farm, model, targets, curve, others))
        spectra = self._timed("spectrum", lambda: [target_spectra(target) for target in targets])
        levels = self._timed("levels", lambda: [self._levels(target, model) for target in targets])
        self._finish(targets, tests, spectra, levels, shared)

    # -- stages -------------------------------------------------------------------------------------------------

    @collective
    def _compile(self) -> None:
        """Compile the kernels, or load them: two ranks of a node first, one for dynamics and one for training; the
        others find them in the cache."""
        from hpcir.dynamics.warm_up import compile_kernels
        from hpcir.training.compiled.warm_up import compile_training

        with self.context.progress.stage("compile kernels"):
            place, training = self.context.comm.node_rank, self.context.deck.training
            if place == 0:
                compile_kernels()
            if place == min(1, self.context.comm.node_size - 1) and training.device == "cpu":
                compile_training(training.precision)
            self.context.comm.barrier()

    @collective
    def _sample(
        self, loop: LearningLoop, trainer: CommitteeTrainer
    ) -> tuple[LearningLoop, Model, LearningCurve, Model | None]:
        """The loop, its model and learning curve, and a model from fresh weights where one is wanted to compare."""
        model, curve = loop.run()
        self.context.at_root(lambda: model.save(self.context.directory / layout.MODEL))
        fresh = fresh_weights(self.context, loop, trainer, model)
        trainer.forget()
        return loop, model, curve, fresh

    def _below(self, approach: Approach) -> Model | None:
        """The model of the level below the last, which the test of a chain of levels is asked about too."""
        return approach.below[-1].model if self.context.deck.levels and approach.below else None

    @collective
    def _test(
        self,
        farm: LabelFarm,
        model: Model,
        targets: Sequence[Target],
        curve: LearningCurve,
        others: Mapping[str, Model],
    ) -> tuple[list[Target], list[IndependentTest]]:
        """The engine's harmonic spectrum of the targets that have none yet, and the independent test of each; others:
        models that the same test is asked about, by name."""
        known = [engine_reference(self.study, farm, target) for target in targets]
        curves = [curve, *[None] * (len(known) - 1)]  # the learning curve is tested on the first target
        tests = [
            independent_test(self.context, farm, model, target, own, others)
            for target, own in zip(known, curves, strict=True)
        ]
        return known, tests

    @collective
    def _levels(self, target: Target, model: Model) -> LevelFigures | None:
        """Quantum levels at a target's minimum."""
        minimum = target.structure.moved(target.main.modes.positions)
        return target_levels(target.context, model, minimum)

    def _shared(self, loop: LearningLoop, model: Model, curve: LearningCurve, below: Sequence[LearntLevel]) -> Shared:
        """The part of the results that all targets share (rank 0)."""
        known = training_environments(model, loop.learnt_labels())
        return Shared(self.store, loop.farm.level, model, curve, known, tuple(map(level_figures, below)), loop.share)

    @collective
    def _finish(
        self,
        targets: Sequence[Target],
        tests: Sequence[IndependentTest],
        spectra: Sequence[dict[str, SpectrumResult] | None],
        levels: Sequence[LevelFigures | None],
        shared: Shared | None,
    ) -> None:
        """Write summaries and pages. Raises RunStopped where a target lost all its trajectories, after the others'."""
        done = list(zip(targets, tests, spectra, levels, strict=True))
        lost = [target for target, _, found, _ in done if found is None]
        if len(lost) == len(targets):
            raise RunStopped(NO_VALID_TRAJECTORY)
        if shared is not None:
            finished = [Finished(target, test, found, own) for target, test, found, own in done if found is not None]
            self._summarise(shared, finished, lost)
        self._timed("report", lambda: self._report([target for target, _, found, _ in done if found is not None]))
        self.context.comm.barrier()
        if lost:
            names = ", ".join(target.name for target in lost)
            raise RunStopped(
                f"no spectrum of {names} (those of the other molecules are written): {NO_VALID_TRAJECTORY}"
            )

    def _summarise(self, shared: Shared, finished: Sequence[Finished], lost: Sequence[Target]) -> None:
        """summary.json of the run and of every target; the run's spectrum is that of the first target (rank 0)."""
        context = self.context
        label_farm.export(context, self.store)
        for line in summary.lines(summary.write_run(context, shared, finished, lost)):
            context.progress.log(line)
        for number, one in enumerate(finished):
            folder = one.target.context.directory.path
            if folder == context.directory.path:
                continue
            for path in sorted(folder.glob(f"{layout.SPECTRUM}*")):
                own = (
                    path.name
                    if number == 0
                    else path.name.replace(layout.SPECTRUM, layout.spectrum_name(one.target.name), 1)
                )
                shutil.copyfile(path, context.directory / own)

    def _report(self, targets: Sequence[Target]) -> None:
        if not self.context.root or self.report is None:
            return
        run = self.context.directory.path
        folders = [target.context.directory.path for target in targets]
        for folder in [*(folder for folder in folders if folder != run), run]:
            self.report(folder)
        self.context.progress.log(f"report: {self.context.directory / layout.REPORT}")

    # -- time ---------------------------------------------------------------------------------------------------

    @collective
    def _timed(self, stage: str, work: Callable[[], Result]) -> Result:
        started = time.monotonic()
        try:
            result = work()
        except OSError as error:
            raise RunStopped(f"stage {stage}: {error}. Everything finished so far is kept") from error
        finally:
            spent = time.monotonic() - started
            self.context.at_root(lambda: spend(self.context, stage, spent))
        if self.until == stage:
            raise Until
        return result
