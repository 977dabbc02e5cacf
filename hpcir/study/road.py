"""The whole road: prepare, pretrain, sample, trajectories, test, spectrum, report. Resumes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcir.deck.loader import LoadedDeck
from hpcir.deck.resolved import deck_digest, resolved_text
from hpcir.deck.sections import Deck
from hpcir.deck.study import Series
from hpcir.errors import InputError, RunStopped
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, xyz_text
from hpcir.runtime.mpi import Communicator, on_root
from hpcir.storage.checksums import digest
from hpcir.storage.files import keep_text
from hpcir.storage.run_directory import RunDirectory
from hpcir.study import label_farm as farm
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm, LabelStore
from hpcir.study.learning import pretrain
from hpcir.study.learning import reference as prepare
from hpcir.study.learning.committee import CommitteeTrainer, require_device, symmetry_functions
from hpcir.study.learning.loop import Sampler, Sampling, first_geometries, round_purpose
from hpcir.study.learning.reference import Reference
from hpcir.study.production import sets
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.results import analysis, summary, trust_map
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.study.session import at_work
from hpcir.vibrations.normal_modes import stiff_hessian

STAGES = ("prepare", "pretrain", "sample", "trajectories", "variants", "test", "spectrum", "report")
MODEL = "models/model.h5"
# The starting structure, beside the resolved deck that names it.
START = "start.xyz"


class Until(Exception):
    """The stage that --until names is done."""


def run(
    loaded: LoadedDeck,
    out: Path,
    comm: Communicator,
    *,
    until: str | None = None,
    fresh: bool = False,
    force: bool = False,
    walltime: float | None = None,
    report: Callable[[Path], object] | None = None,
) -> None:
    """Run a deck in a run directory from wherever it stands (collective).

    until: the last stage to run; walltime: seconds after which to stop with everything saved; report: draws the
    finished run directory (rank 0).
    """
    if until is not None and until not in STAGES:
        raise InputError("no such stage", where="--until", value=until, hint="valid: " + ", ".join(STAGES))
    deck, structure = loaded.deck, loaded.structure
    series = loaded.series if deck.is_series else None
    directory = RunDirectory(Path(out))

    def opened() -> None:
        _require_device(loaded, directory, comm, until)
        on_root(comm, lambda: _open(directory, deck, structure, series, fresh, force))

    with suppress(Until), at_work(directory, comm, deck, structure, opened, walltime) as context:
        if series is None:
            Pipeline(context, until, report).run()
        else:
            from hpcir.study.series import SeriesPipeline

            SeriesPipeline(context, series, until, report).run()


def _require_device(loaded: LoadedDeck, directory: RunDirectory, comm: Communicator, until: str | None) -> None:
    """Refuse a device that is not there before labels are spent; a run whose models are finished needs none."""
    if until == "prepare" or comm.bcast((directory / MODEL).exists() if comm.rank == 0 else None):
        return
    try:
        require_device(comm, loaded.deck.training)
    except InputError as error:
        raise loaded.located(error) from None


def _open(
    directory: RunDirectory, deck: Deck, structure: Structure, series: Series | None, fresh: bool, force: bool
) -> None:
    """Lock the run directory for this deck; what makes it this deck's is every setting and the structures."""
    files = {START: structure}
    targets: dict[str, Structure] = {}
    seeds: dict[str, Structure] = {}
    if series is not None:
        targets = {f"structures/{item.name}.xyz": item for item in series.targets[1:]}
        seeds = {f"structures/seed-{item.name}.xyz": item for item in series.seeds if deck.sampling.seeds}
        files |= targets | seeds
    key = digest(deck_digest(deck), *(part for item in files.values() for part in (item.numbers, item.positions)))
    text = resolved_text(deck, START, list(targets), list(seeds))
    directory.open(key, text, fresh=fresh, force=force)
    for name, item in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        keep_text(directory / name, xyz_text(item))


class Pipeline:
    """One run's stages in order; each reads what the one before it wrote."""

    def __init__(self, context: Context, until: str | None, report: Callable[[Path], object] | None) -> None:
        self.context = context
        self.until, self.report = until, report
        self.store = LabelStore()
        if context.root:
            self.store.load(list(context.directory.records(farm.FOLDER)))
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        context = self.context
        self._timed("compile", self._compile)
        pretrained = pretrain.cheap_settings(context)
        cheap = self._timed("pretrain", lambda: self._cheap(pretrained)) if pretrained else None
        # One reference for all labels of a run where the cheap level gives one: so may the first labels begin before
        # the minimum is known.
        label_farm = LabelFarm(context, context.deck.labels, cheap.reference.structure if cheap else None, self.store)
        reference = self._timed("prepare", lambda: self._prepare(label_farm, cheap))
        if not cheap:
            label_farm.close()
            label_farm = LabelFarm(context, context.deck.labels, reference.structure, self.store)
        try:
            self._from_labels_to_spectrum(label_farm, reference, cheap)
        finally:
            label_farm.close()

    def _from_labels_to_spectrum(
        self, label_farm: LabelFarm, reference: Reference, cheap: pretrain.Pretrained | None
    ) -> None:
        context = self.context
        trainer = CommitteeTrainer(context, symmetry_functions(context))
        start = self._timed("pretrain", lambda: self._pretrain(cheap, trainer)) if cheap else None
        model, sampling = self._timed("sample", lambda: self._sample(label_farm, reference, trainer, start, cheap))
        modes = analysis.model_harmonics(model, reference.structure)
        main = self._timed("trajectories", lambda: sets.run_sets(context, [sets.main_set(context, model, modes)])[0])
        members, isotopes = self._timed("variants", lambda: self._variants(main))
        test = self._timed("test", lambda: self._test(label_farm, model, reference, main, sampling))
        spectra = self._timed("spectrum", lambda: self._spectra(main, members, isotopes))
        if context.root:
            farm.export(context, self.store)
            content = summary.content(context, self.store, label_farm.level, model, reference, main.modes, sampling)
            content |= self._met(model, reference, main, label_farm.level)
            for line in summary.lines(summary.write(context, content, test, spectra)):
                context.progress.log(line)
        self._timed("report", self._report)
        context.comm.barrier()

    # -- stages -------------------------------------------------------------------------------------------------

    def _compile(self) -> None:
        """Compile the kernels, or load them: one rank of a node first, so that the others find them in the cache."""
        from hpcir.dynamics.warm_up import compile_kernels

        with self.context.progress.stage("compile kernels"):
            if self.context.comm.node_rank == 0:
                compile_kernels()
            self.context.comm.barrier()

    def _cheap(self, settings: Any) -> pretrain.Pretrained:
        return pretrain.cheap_labels(self.context, settings, self.store)

    def _prepare(self, label_farm: LabelFarm, cheap: pretrain.Pretrained | None) -> Reference:
        """The minimum of the deck's level, from the cheap one's where there is one; while rank 0 optimises, the others
        label the first geometries of the cheap level's pool."""
        context = self.context
        if cheap:
            hessian = stiff_hessian(cheap.reference.modes)
            beside = first_geometries(context, cheap.pool) if context.root else []
            minimum = prepare.optimised(
                context, label_farm, cheap.reference.structure, hessian=hessian, beside=(beside, round_purpose(0))
            )
        else:
            minimum = prepare.optimised(context, label_farm, context.structure)
        reference = prepare.harmonic_analysis(self.context, label_farm, minimum)
        if self.context.root:
            prepare.write(self.context, reference)
            prepare.check_minimum(self.context, reference.modes)
        return reference

    def _pretrain(self, cheap: pretrain.Pretrained, trainer: CommitteeTrainer) -> Model:
        context = self.context
        inputs = context.comm.bcast(
            digest(self._settings("model", "training", "seed"), *(s.positions for s, _ in cheap.labelled))
        )
        model = pretrain.pretrain(context, cheap, trainer, inputs)
        if context.root:
            model.save(context.directory / pretrain.MODEL)
            context.directory.finish("pretrain", inputs, [pretrain.MODEL], 0.0, model.error)
        return model

    def _sample(
        self,
        label_farm: LabelFarm,
        reference: Reference,
        trainer: CommitteeTrainer,
        start: Model | None,
        cheap: pretrain.Pretrained | None,
    ) -> tuple[Model, Sampling]:
        context = self.context
        pool = cheap.pool if cheap else pretrain.own_pool(context, reference)
        model, sampling = Sampler(context, label_farm, reference, trainer, start, pool).run()
        if context.root:
            model.save(context.directory / MODEL)
        trainer.forget()
        return model, sampling

    def _variants(self, main: TrajectorySet) -> tuple[list[TrajectorySet], list[TrajectorySet]]:
        """The trajectories of single members and of isotopologues."""
        context = self.context
        members, isotopes = sets.member_sets(context, main), sets.isotope_sets(context, main)
        done = sets.run_sets(context, [*members, *isotopes])
        return done[: len(members)], done[len(members) :]

    def _test(
        self, label_farm: LabelFarm, model: Model, reference: Reference, main: TrajectorySet, sampling: Sampling
    ) -> dict[str, Any]:
        if self.context.deck.test.count == 0:
            return {"n": 0}
        return analysis.independent_test(self.context, label_farm, model, reference, main.blocks, sampling)

    def _spectra(
        self, main: TrajectorySet, members: list[TrajectorySet], isotopes: list[TrajectorySet]
    ) -> dict[str, SpectrumResult]:
        """Spectra by name, the main one first; rank 0 (empty elsewhere)."""
        context = self.context
        curves = sets.member_curves(context, members)
        results = {"spectrum": sets.spectrum_of_set(context, main, "spectrum", curves)}
        for chosen in isotopes:
            results[chosen.name] = sets.spectrum_of_set(context, chosen, f"spectrum-{chosen.name}")
        return {name: result for name, result in results.items() if result is not None}

    def _met(self, model: Model, reference: Reference, main: TrajectorySet, level: str) -> dict[str, Any]:
        """What the trajectories met: trust.json, and which conformers (rank 0)."""
        learnt = [e.structure for e in self.store.asked if e.level == level and e.label and e.purpose != "test"]
        frames = trust_map.snapshots(self.context, reference.structure, main.blocks)
        known = trust_map.training_environments(model, learnt)
        return {
            "trust": trust_map.write_trust(self.context, reference.structure, model, known, frames),
            "ensemble": trust_map.ensemble(reference.structure, main.modes.positions, frames),
        }

    def _report(self) -> None:
        if self.context.root and self.report is not None:
            self.report(self.context.directory.path)
            self.context.progress.log(f"the page to look at: {self.context.directory / 'report.html'}")

    # -- time ---------------------------------------------------------------------------------------------------

    def _settings(self, *sections: str) -> dict[str, Any]:
        content = self.context.deck.model_dump(mode="json")
        return {name: content[name] for name in sections}

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        started = time.monotonic()
        try:
            result = work()
        except OSError as error:
            raise RunStopped(f"stage {stage}: {error}. Everything finished so far is kept") from error
        finally:
            spent = time.monotonic() - started
            if self.context.root:
                self.context.directory.spend(stage, spent)
        if self.until == stage:
            raise Until
        return result
