"""The spectra of a target: of its main trajectories with the committee's share of the errors, and of its other sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.runtime.mpi import collective
from hpcir.spectra.bands import Committee
from hpcir.storage import layout
from hpcir.study.context import Context
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.convergence import BandErrors
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.production.targets import Target
from hpcir.study.results.bond_events import BondEvents, bond_events
from hpcir.study.results.spectrum import OtherParts, SpectrumResult, SpectrumStage


@collective
def target_spectra(target: Target) -> dict[str, SpectrumResult] | None:
    """The spectra of a target by name: "spectrum", its isotopologues, its families (collective; empty but on rank 0).

    A family or isotopologue without a valid trajectory has none; a target without one is lost: None, on all ranks. The
    log reports either.
    """
    if _lost(target, target.main):
        return None
    context, main = target.context, target.main
    results = {layout.SPECTRUM: spectrum_of_set(context, main, layout.SPECTRUM, target.members_of(main))}
    for chosen in target.others:
        if not _lost(target, chosen):
            name = layout.spectrum_name(chosen.name)
            results[chosen.name] = spectrum_of_set(context, chosen, name, target.members_of(chosen))
    return {name: result for name, result in results.items() if result is not None}


@collective
def errors_so_far(context: Context, chosen: TrajectorySet) -> BandErrors:
    """The bands' sampling errors of the trajectories that a set has (collective; the same on all ranks)."""
    found = SpectrumStage(context, chosen.modes, [], chosen.blocks, chosen.name, chosen.taken).estimate()

    def errors() -> BandErrors:
        if found is None:
            return BandErrors(chosen.taken, 0)
        return BandErrors.of(found.bands, chosen.taken, found.metadata["trajectories"])

    return context.on_root(errors)


@collective
def _lost(target: Target, chosen: TrajectorySet) -> bool:
    """True where no trajectory of a set is valid; the log reports it (collective)."""
    context = target.context
    lost = context.on_root(lambda: not _any_valid(context, chosen))
    if lost and context.root:
        which = "" if chosen is target.main else f" of {chosen.name}"
        text = f"{target.name}: no spectrum{which}: all trajectories left the region covered by the training data"
        said = _events_of(context, chosen)
        context.progress.log(
            ". ".join(filter(None, [text, *(line.rstrip(".") for line in said.lines), said.advice])), warning=True
        )
    return lost


def _events_of(context: Context, chosen: TrajectorySet) -> BondEvents:
    """The events of bonds in the trajectories of a set, valid or not."""
    blocks = [TrajectoryBlock.read(context.directory / block) for block in chosen.blocks]
    events = [block.events for block in blocks if block.events is not None]
    return bond_events(
        events, context.structure, context.deck.dynamics.timestep, sum(len(block.sane) for block in blocks)
    )


def _any_valid(context: Context, chosen: TrajectorySet) -> bool:
    return any(bool(TrajectoryBlock.read(context.directory / block).sane.any()) for block in chosen.blocks)


@collective
def spectrum_of_set(
    context: Context, chosen: TrajectorySet, name: str, members: Sequence[TrajectorySet] = ()
) -> SpectrumResult | None:
    """The spectrum of a set, written as NAME.csv and NAME.h5 (collective; the result on rank 0). members: its sets of
    single members of the committee."""
    committee = committee_of(context, members, chosen.calibration)
    words = chosen.words(context.structure)
    stage = SpectrumStage(context, chosen.modes, words, chosen.blocks, name, chosen.taken)
    return stage.run(OtherParts(committee, chosen.populations, _why_no_committee(context, chosen, committee)))


def _why_no_committee(context: Context, chosen: TrajectorySet, committee: Committee | None) -> str:
    """The reason for which the model's part of the errors is not known, where it is not."""
    if committee is not None:
        return ""
    if not context.deck.spectrum.committee_errors:
        return "spectrum.committee_errors is off"
    if chosen.model.members < 2:
        return "the model has one member"
    return "a member of the committee has fewer than two valid trajectories in common with the others"


@collective
def committee_of(
    context: Context, members: Sequence[TrajectorySet], calibration: tuple[float, float]
) -> Committee | None:
    """The spectra of single members with the deck's estimator, on rank 0 (collective); else None.

    None too when there are fewer than two members, or they have fewer than two valid trajectories in common. A rank
    takes whole members.
    """

    def curve(index: int) -> tuple[IntArray, FloatArray]:
        chosen = members[index]
        return SpectrumStage(context, chosen.modes, [], chosen.blocks, chosen.name, chosen.taken).terms()

    found = context.map_over_ranks("correlate members", range(len(members)), curve, "members")
    if found is None or len(members) < 2:
        return None
    common = found[0][0]
    for ids, _ in found.values():
        common = np.intersect1d(common, ids)
    if len(common) < 2:
        return None
    terms = [found[index][1][np.isin(found[index][0], common)] for index in range(len(members))]
    return Committee(np.array(terms), calibration)
