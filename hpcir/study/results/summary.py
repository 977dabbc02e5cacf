"""summary.json of a run and of its targets, with trust.json beside it: results, their errors and their provenance."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpcir.arrays import FloatArray
from hpcir.deck.study import heavy_atoms
from hpcir.models.model import Model
from hpcir.runtime.progress import figure_parts
from hpcir.spectra.bands import Band
from hpcir.storage import layout
from hpcir.storage.files import write_atomic
from hpcir.storage.json_result import finite
from hpcir.storage.provenance import origin
from hpcir.storage.records import to_json
from hpcir.study.context import Context
from hpcir.study.ends import independent_test_end, level_ends, sampling_end, training_end, trajectories_end
from hpcir.study.label_farm import TEST, LabelStore
from hpcir.study.learning.accuracy import ModelShare
from hpcir.study.learning.curve import LearningCurve
from hpcir.study.learning.reference import Reference
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.sets import MAIN_SECONDS
from hpcir.study.production.targets import Target
from hpcir.study.results import trust_map
from hpcir.study.results.chain import chain_figures
from hpcir.study.results.families import family_rows, write_families
from hpcir.study.results.populations import with_populations
from hpcir.study.results.records import (
    ChainLevelFigures,
    ConformerVerdict,
    HarmonicFigures,
    IndependentTest,
    LabelFigures,
    LevelFigures,
    MdFigures,
    ModelFigures,
    RotamerPopulation,
    SamplingFigures,
    StageEnd,
    Summary,
    TargetSummary,
)
from hpcir.study.results.side_by_side import side_by_side
from hpcir.study.results.spectrum import SpectrumResult
from hpcir.study.results.trust_map import Trust
from hpcir.study.times import seconds_by_name, stage_seconds, stage_times, table, what_is_faster
from hpcir.units import FS, KELVIN
from hpcir.vibrations.harmonics import harmonic_error
from hpcir.vibrations.normal_modes import NormalModes

# Bands weaker than this are in the files but not in the log.
MIN_LOGGED_KM_PER_MOL = 2.0
# Most rotamers in the log; all are in the files.
MAX_LOGGED_ROTAMERS = 4


@dataclass(frozen=True)
class Shared:
    """Data that all targets of a run share: labels and the level of the deck, the model, its learning curve, the
    environments that it was trained on, the levels of theory below the deck's, and the model errors' share of the
    spectrum."""

    store: LabelStore
    level: str
    model: Model
    curve: LearningCurve
    environments: Trust
    below: tuple[ChainLevelFigures, ...] = ()
    share: ModelShare | None = None


@dataclass(frozen=True)
class Finished:
    """A target with its results: independent test, and spectra by name ('spectrum', those of isotopologues, 'family-1'
    and so on)."""

    target: Target
    test: IndependentTest
    spectra: Mapping[str, SpectrumResult]
    levels: LevelFigures | None = None

    @property
    def context(self) -> Context:
        """The context of the target, whose directory is its folder."""
        return self.target.context

    @property
    def isotopologues(self) -> dict[str, SpectrumResult]:
        """The spectra of isotopologues, by name."""
        names = [one.name for one in self.target.isotopes]
        return {name: self.spectra[name] for name in names if name in self.spectra}


def write_run(context: Context, shared: Shared, finished: Sequence[Finished], lost: Sequence[Target] = ()) -> Summary:
    """Write summary.json of the run and of each further target, with trust.json (and families.json) beside each
    (rank 0); the run's summary: that of the first target, and a table of all."""
    summaries = [target_summary(shared, one) for one in finished]
    for one, found in zip(finished[1:], summaries[1:], strict=True):
        write_summary(one.context, found)
    targets = {
        one.target.name: found.target(len(one.target.structure)) for one, found in zip(finished, summaries, strict=True)
    }
    for target in lost:
        count = target.main.taken
        figures = MdFigures(trajectories=count, left_out=count)
        targets[target.name] = TargetSummary(len(target.structure), md=figures)
    labels, times = summaries[0].labels, stage_times(context)
    summary = replace(
        summaries[0],
        ends=ends(context, shared, finished),
        stages=stage_seconds(context),
        times=times,
        faster=what_is_faster(times, labels.seconds if labels is not None else 0.0),
        provenance=provenance(context),
        largest_labelled_heavy_atoms=largest_labelled(shared.store),
        targets=targets,
    )
    if finished[0].context.directory.path != context.directory.path:
        write_summary(finished[0].context, summaries[0])
    write_summary(context, summary)
    return summary


def ends(context: Context, shared: Shared, finished: Sequence[Finished]) -> tuple[StageEnd, ...]:
    """The reasons for which the stages ended, in their order."""
    deck, curve = context.deck, shared.curve
    found = level_ends(shared.below)
    if curve.stopped is not None:
        found += [
            sampling_end(curve, shared.share, deck.accuracy),
            training_end(curve, shared.share, deck, bool(shared.below)),
        ]
    names = [one.target.name if len(finished) > 1 else "" for one in finished]
    for name, one in zip(names, finished, strict=True):
        main, planned = one.spectra[layout.SPECTRUM], one.target.main.trajectories
        found.append(trajectories_end(main.spectrum.bands, main.md, planned, deck.accuracy, name))
    tested = [independent_test_end(deck, one.test, name) for name, one in zip(names, finished, strict=True)]
    return (*found, *(one for one in tested if one is not None))


def write_summary(context: Context, summary: Summary) -> None:
    """Write summary.json in a folder. Raises RunStopped when that fails."""
    write_atomic(context.directory / layout.SUMMARY, json.dumps(finite(to_json(summary)), indent=1))


def target_summary(shared: Shared, one: Finished) -> Summary:
    """The summary of a target by itself; trust.json and families.json are written (rank 0)."""
    context, model, curve = one.context, shared.model, shared.curve
    target, main = one.target, one.spectra[layout.SPECTRUM]
    modes, ensemble = target.main.surface_modes, target.ensemble
    harmonic = harmonic_figures(modes, target.reference)
    frames = trust_map.snapshots(context, target.main.blocks)
    if ensemble is not None:
        write_families(context, ensemble, target.started)
    labels = label_figures(shared.store, shared.level)
    summary = Summary(
        labels=labels,
        chain=chain_figures(shared.below, labels, curve, one.test),
        sampling=SamplingFigures(len(curve.rounds), curve.reason, curve.stopped),
        model=ModelFigures(model.members, model.level, model.error),
        harmonic=harmonic,
        levels=one.levels,
        trust=trust_map.write_trust(context, target.structure, model, shared.environments, frames),
        ensemble=_conformers(target, frames),
        families=None if ensemble is None else family_rows(ensemble, target.started, one.spectra),
        test=replace(one.test, harmonic_mae_per_cm=harmonic.mae_per_cm),
        md=timed(main.md, context),
        spectrum=main.figures,
        bands=main.bands,
        weak_bands=main.weak_bands,
        modes=main.modes,
        groups=main.groups,
        isotopologues={name: result.bands for name, result in one.isotopologues.items()},
        isotopologue_modes={name: result.modes for name, result in one.isotopologues.items()},
        stages=stage_seconds(context),
        provenance=provenance(context),
    )
    return replace(summary, side_by_side=side_by_side(summary))


def _conformers(target: Target, frames: FloatArray) -> ConformerVerdict:
    """Distribution of a target's main trajectories over conformers."""
    main, context = target.main, target.context
    found = trust_map.ensemble(target.structure, main.modes.positions, frames)
    blocks = (TrajectoryBlock.read(context.directory / name) for name in main.blocks)
    return with_populations(found, target.structure, blocks, target.canonical, target.rotamers)


def harmonic_figures(modes: NormalModes, reference: Reference | None) -> HarmonicFigures:
    """Harmonic spectra of the model and, where it is known, of the label engine."""
    own = HarmonicFigures(
        model_wavenumbers_per_cm=tuple(modes.wavenumbers.tolist()),
        model_intensities_km_per_mol=tuple(modes.intensities.tolist()),
    )
    if reference is None:
        return own
    return replace(
        own,
        mae_per_cm=harmonic_error(modes, reference.modes),
        engine_wavenumbers_per_cm=tuple(reference.modes.wavenumbers.tolist()),
        engine_intensities_km_per_mol=tuple(reference.modes.intensities.tolist()),
    )


def timed(md: MdFigures, context: Context) -> MdFigures:
    """The trajectories' figures with the time of a step, over all sessions."""
    spent = seconds_by_name(context).get(MAIN_SECONDS, 0.0)
    return replace(md, microseconds_per_step=1e6 * spent * context.comm.size / max(md.steps or 0, 1))


def largest_labelled(store: LabelStore) -> int:
    """Heavy atoms of the largest molecule or fragment that was learnt from."""
    learnt = (entry.structure for entry in store.requested if not entry.purpose.startswith(TEST))
    return max(map(heavy_atoms, learnt), default=0)


def label_figures(store: LabelStore, level: str) -> LabelFigures:
    """Counts and time of the labels of the main level, and the cheap ones apart."""
    own = [entry for entry in store.requested if entry.level == level]
    good = [entry for entry in own if entry.label is not None]
    learnt = [entry for entry in good if not entry.purpose.startswith(TEST)]
    by_purpose: dict[str, int] = {}
    for entry in good:
        by_purpose[entry.purpose] = by_purpose.get(entry.purpose, 0) + 1
    return LabelFigures(
        level=level,
        count=len(learnt),
        test_count=by_purpose.get(TEST, 0),
        failed=len(own) - len(good),
        seconds=float(sum(entry.label.seconds for entry in good if entry.label is not None)),
        by_purpose=by_purpose,
        other_levels=len(store.requested) - len(own),
    )


def provenance(context: Context) -> dict[str, object]:
    """Program, commit and libraries, seed, hosts, ranks and machine; the deck itself, and the digest by which the other
    files name it."""
    told = origin()
    return {
        **told,
        "deck_digest": told.get("deck", ""),
        "machine": platform.machine(),
        "ranks": context.comm.size,
        "temperature_kelvin": context.deck.dynamics.temperature / KELVIN,
        "timestep_fs": context.deck.dynamics.timestep / FS,
        "deck": context.deck.model_dump(mode="json"),
    }


# -- words ------------------------------------------------------------------------------------------------------------


def lines(summary: Summary) -> list[str]:
    """The summary in words, for the end of the log. Bands are those of the first target."""
    text = [_labels_line(summary)]
    text += [] if summary.chain is None or not summary.chain.verdict else [summary.chain.verdict]
    targets = summary.targets or {}
    for name, target in targets.items():
        before = f"{name}: " if len(targets) > 1 else ""
        text += [before + line for line in _target_lines(target)]
    text += [band_line(band) for band in summary.bands if band.intensity_km_per_mol > MIN_LOGGED_KM_PER_MOL]
    if summary.spectrum is not None:
        text.append(summary.spectrum.verdict)
    text += [end.line() for end in summary.ends]
    text += table(summary.times)
    return [*text, *([summary.faster] if summary.faster else [])]


def _labels_line(summary: Summary) -> str:
    labels, sampling = summary.labels, summary.sampling
    assert labels is not None
    assert sampling is not None
    return (
        f"labels: {labels.count} of {labels.level} ({labels.failed} failed), molecules and fragments of up to "
        f"{summary.largest_labelled_heavy_atoms} heavy atoms, {labels.test_count} more for the test; "
        f"{sampling.stopped_because}"
    )


def _target_lines(target: TargetSummary) -> list[str]:
    """Lines of the log for one target; for one without a valid trajectory only its trajectories."""
    text = []
    if target.test is not None:
        text += _test_lines(target.test)
    if target.md is not None:
        text.append(_md_line(target.md))
    text += [found.verdict for found in (target.trust, target.ensemble) if found is not None and found.verdict]
    text += [] if target.ensemble is None else _rotamers_line(target.ensemble)
    for number, family in enumerate(target.families or (), 1):
        error = figure(100 * (family.weight_stderr or math.nan), ".1f")
        text.append(
            f"family {number}, {100 * family.weight:.1f} +- {error} % (harmonic "
            f"{100 * (family.harmonic_weight or 0.0):.1f} %): {family.name} ({family.conformers} conformers, "
            f"{family.trajectories} trajectories)"
        )
    return text


def _check(row: RotamerPopulation) -> str:
    """Shares of a rotamer by replica exchange and by harmonic weights, in words."""
    said = [] if row.canonical is None else [f"canonical {100 * row.canonical:.0f}"]
    said += [] if row.harmonic is None else [f"harmonic {100 * row.harmonic:.0f}"]
    return f" ({', '.join(said)} %)" if said else ""


def _rotamers_line(found: ConformerVerdict) -> list[str]:
    """The populations of the commonest rotamers."""
    if not found.populations:
        return []
    shown = [
        f"{row.name} {100 * row.production:.0f} +- {figure(100 * row.production_stderr, '.0f')} %{_check(row)}"
        for row in found.populations[:MAX_LOGGED_ROTAMERS]
    ]
    return [f"rotamers in production: {', '.join(shown)}; {found.passes} passes between them seen"]


def _test_lines(test: IndependentTest) -> list[str]:
    text = []
    if test.n:
        text.append(
            f"independent test on {test.n} geometries: force "
            f"{figure(test.force_rmse_kcal_per_mol_angstrom, '.3f')} kcal/mol/A, energy "
            f"{figure(test.energy_rmse_kcal_per_mol, '.4f')} kcal/mol, dipole {figure(test.dipole_rmse_debye, '.4f')} D"
        )
    text += local_line(test)
    if test.harmonic_mae_per_cm is not None and math.isfinite(test.harmonic_mae_per_cm):
        text.append(f"harmonic frequencies, model against engine: {test.harmonic_mae_per_cm:.2f} cm-1 mean absolute")
    return text


def _md_line(md: MdFigures) -> str:
    text = f"trajectories: {md.trajectories}, {md.left_out} left out"
    if md.drift_kcal_per_mol_per_100_ps is not None:
        text += f"; drift {md.drift_kcal_per_mol_per_100_ps:.3f} kcal/mol in 100 ps"
    if md.microseconds_per_step is not None:
        text += f"; {figure_parts('microseconds_per_step', md.microseconds_per_step)[1]}"
    said = [*(md.bond_events or ()), *([md.restraint] if md.restraint else [])]
    return ". ".join([text, *(line.rstrip(".") for line in said)])


def figure(value: float | None, form: str) -> str:
    """A number in a format, or ? in its width where it is not known."""
    if value is None or not math.isfinite(value):
        return f"{'?':>{form.split('.')[0] or 1}}"
    return f"{value:{form}}"


def band_line(band: Band) -> str:
    """One band: position and intensity with their errors (? where few trajectories give none), and its words."""
    return (
        f"band {figure(band.position_per_cm, '7.1f')} +- {figure(band.stderr_per_cm, '4.1f')} cm-1, "
        f"{figure(band.intensity_km_per_mol, '6.1f')} +- {figure(band.stderr_km_per_mol, '4.1f')} km/mol  "
        f"{band.assignment}"
    ).rstrip()


def local_line(test: IndependentTest) -> list[str]:
    """A line on the kind of vibration with the largest shift by the test's forces; none where none is known."""
    found = [row for row in test.local_frequencies or () if math.isfinite(row.shift_per_cm)]
    if not found:
        return []
    row = max(found, key=lambda row: abs(row.shift_per_cm))
    return [
        f"effective frequencies of {len(found)} kinds of vibration by the test's forces: the largest shift is "
        f"{row.motion} {row.shift_per_cm:+.1f} +- {row.shift_error_per_cm:.1f} cm-1 from the engine's "
        f"{row.wavenumber_per_cm:.0f} cm-1"
    ]
