"""The spectra of a target: of its main trajectories with the committee's share of the errors, and of its other sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.study.context import Context
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.production.targets import Target
from hpcir.study.results.spectrum import SpectrumResult, SpectrumStage

FloatArray = NDArray[np.float64]


@collective
def target_spectra(target: Target) -> dict[str, SpectrumResult] | None:
    """The spectra of a target by name: "spectrum", its isotopologues, its families (collective; empty but on rank 0).

    A family or isotopologue without a valid trajectory has none; a target without one is lost: None, on all ranks. The
    log reports either.
    """
    context = target.context
    if _lost(target, target.main):
        return None
    curves = member_curves(context, target.members)
    results = {layout.SPECTRUM: spectrum_of_set(context, target.main, layout.SPECTRUM, curves)}
    for chosen in (*target.isotopes, *(one for _, one in target.families)):
        if not _lost(target, chosen):
            results[chosen.name] = spectrum_of_set(context, chosen, layout.spectrum_name(chosen.name))
    return {name: result for name, result in results.items() if result is not None}


@collective
def _lost(target: Target, chosen: TrajectorySet) -> bool:
    """True where no trajectory of a set is valid; the log reports it (collective)."""
    context = target.context
    lost = context.on_root(lambda: not _any_valid(context, chosen))
    if lost and context.root:
        which = "" if chosen is target.main else f" of {chosen.name}"
        context.progress.log(
            f"{target.name}: no spectrum{which}: all trajectories left the region covered by the training data",
            warning=True,
        )
    return lost


def _any_valid(context: Context, chosen: TrajectorySet) -> bool:
    return any(bool(TrajectoryBlock.read(context.directory / block).sane.any()) for block in chosen.blocks)


@collective
def spectrum_of_set(
    context: Context, chosen: TrajectorySet, name: str, member_spectra: FloatArray | None = None
) -> SpectrumResult | None:
    """The spectrum of a set, written as NAME.csv and NAME.h5 (collective; the result on rank 0)."""
    words = chosen.words(context.structure)
    return SpectrumStage(context, chosen.modes, words, chosen.blocks, name, chosen.trajectories).run(member_spectra)


@collective
def member_curves(context: Context, members: Sequence[TrajectorySet]) -> FloatArray | None:
    """Each member's own spectrum (members, F) with the deck's estimator, on rank 0 (collective); else None.

    None too when there are fewer than two members, or one of them has no valid trajectory. A rank takes whole members.
    """

    def curve(index: int) -> FloatArray | None:
        chosen = members[index]
        return SpectrumStage(context, chosen.modes, [], chosen.blocks, chosen.name, chosen.trajectories).curve()

    found = context.map_over_ranks("correlate members", range(len(members)), curve, "members")
    if found is None:
        return None
    present = [found[index] for index in range(len(members)) if found[index] is not None]
    return np.array(present) if len(present) == len(members) > 1 else None
