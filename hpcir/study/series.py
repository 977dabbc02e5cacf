"""The road of a deck with several molecules: one model from seeds and fragments, the spectra of all targets from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcir.deck.study import Series
from hpcir.errors import InputError, RunStopped
from hpcir.models.model import Model
from hpcir.study import label_farm as farm
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.committee import symmetry_functions
from hpcir.study.learning.loop import Sampling
from hpcir.study.learning.pretrain import cheap_settings
from hpcir.study.learning.series_sampling import MaskedTrainer, Pretrained, SeriesSampler
from hpcir.study.production import targets
from hpcir.study.production.families import find_families
from hpcir.study.production.targets import Target
from hpcir.study.results import series_summary
from hpcir.study.results.series_summary import Finished
from hpcir.study.results.spectrum import ALL_LEFT
from hpcir.study.road import MODEL, Pipeline

PRETRAINED = "models/pretrained"
STAGES = ("pretrain", "sample", "trajectories", "test", "spectrum", "report")


class SeriesPipeline(Pipeline):
    """One run's stages in order, for all its targets; each target has a folder of its own in targets/."""

    def __init__(
        self, context: Context, series: Series, until: str | None, report: Callable[[Path], object] | None
    ) -> None:
        if until is not None and until not in STAGES:
            raise InputError(
                "a run with several molecules has no such stage",
                where="--until",
                value=until,
                hint="valid: " + ", ".join(STAGES),
            )
        super().__init__(context, until, report)
        self.series = series

    def run(self) -> None:
        self._timed("compile", self._compile)
        label_farm = LabelFarm(self.context, self.context.deck.labels, None, self.store)
        try:
            self._series(label_farm)
        finally:
            label_farm.close()

    def _series(self, label_farm: LabelFarm) -> None:
        context = self.context
        masks: dict[str, Any] = {}
        trainer = MaskedTrainer(context, symmetry_functions(context, self.series.elements), masks)
        start = self._timed("pretrain", lambda: self._pretrained(trainer, masks))
        sampler = SeriesSampler(context, label_farm, self.series, trainer, masks, start)
        model, sampling = self._timed("sample", lambda: self._sampled(sampler))
        trust = sampler.training_environments() if context.root else {}
        found = self._timed("trajectories", lambda: self._trajectories(model, label_farm))
        tests = self._timed("test", lambda: [targets.test(t.context, label_farm, model, t) for t in found])
        spectra = self._timed("spectrum", lambda: [targets.spectra(target) for target in found])
        done = list(zip(found, tests, spectra, strict=True))
        kept = [Finished(target, test, result) for target, test, result in done if result is not None]
        lost = [target for target, _, result in done if result is None]
        if not kept:
            raise RunStopped(ALL_LEFT)
        if context.root:
            farm.export(context, self.store)
            known = series_summary.Known(self.store, label_farm.level, model, sampling, trust)
            self._summarise(known, kept, lost)
        self._timed("report", lambda: self._reports([one.target for one in kept]))
        context.comm.barrier()
        if lost:
            names = ", ".join(target.name for target in lost)
            raise RunStopped(f"no spectrum of {names} (those of the other molecules are written): {ALL_LEFT}")

    def _pretrained(self, trainer: MaskedTrainer, masks: dict[str, Any]) -> Pretrained | None:
        """The same sampling at the cheap level of theory, where there is one: its model and geometries begin the
        expensive one."""
        context = self.context
        settings = cheap_settings(context)
        if settings is None:
            return None
        count = context.deck.labels.pretrain.labels
        changes = {"max_labels": count, "initial_labels": -(-count // 3), "round_labels": -(-count // 8)}
        sampling = context.deck.sampling.model_copy(update=changes)
        cheap = replace(context, deck=context.deck.model_copy(update={"sampling": sampling}))
        cheap_farm = LabelFarm(cheap, settings, None, self.store)
        try:
            sampler = SeriesSampler(cheap, cheap_farm, self.series, trainer, masks, folder=PRETRAINED)
            model, _ = sampler.run()
            return sampler.as_pretrained(model)
        finally:
            cheap_farm.close()

    def _sampled(self, sampler: SeriesSampler) -> tuple[Model, Sampling]:
        model, sampling = sampler.run()
        if self.context.root:
            model.save(self.context.directory / MODEL)
        return model, sampling

    def _trajectories(self, model: Model, label_farm: LabelFarm) -> list[Target]:
        contexts = [targets.target_context(self.context, structure) for structure in self.series.targets]
        if self.context.root:
            for context in contexts:
                targets.prepare(context, model)
        self.context.comm.barrier()
        if count := self.context.deck.sampling.families:
            key = targets.model_key(model)
            ensembles = [find_families(context, label_farm, model, count, key) for context in contexts]
            return [targets.family_trajectories(c, model, e) for c, e in zip(contexts, ensembles, strict=True)]
        modes = targets.harmonics(contexts, model)
        return [targets.trajectories(c, model, m) for c, m in zip(contexts, modes, strict=True)]

    def _summarise(self, known: series_summary.Known, kept: list[Finished], lost: list[Target]) -> None:
        """summary.json of the run and of every target; the run's spectrum is that of the first target (rank 0)."""
        context = self.context
        summaries = [series_summary.write_target(known, one) for one in kept]
        for line in series_summary.lines(series_summary.write(context, self.store, kept, summaries, lost)):
            context.progress.log(line)
        for number, (target, *_) in enumerate(kept):
            for path in sorted(target.context.directory.path.glob("spectrum*")):
                own = path.name if number == 0 else path.name.replace("spectrum", f"spectrum-{target.name}", 1)
                shutil.copyfile(path, context.directory / own)

    def _reports(self, found: list[Target]) -> None:
        if self.context.root and self.report is not None:
            for target in found:
                self.report(target.context.directory.path)
            self.report(self.context.directory.path)
