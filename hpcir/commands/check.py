"""`hpcir check`: checks of a deck before the first label, and the cost of the run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcir.deck.checks import deck_warnings
from hpcir.deck.sections import EngineSettings, Level, ModelSettings
from hpcir.deck.study import Study, heavy_atoms
from hpcir.descriptors.definition import functions_of
from hpcir.errors import InputError, LabelFailed, RunStopped
from hpcir.models.work import step_operations
from hpcir.molecules.pieces import formula, isotope_words
from hpcir.runtime.progress import duration_text, on_terminal
from hpcir.study.label_cost import LabelEstimate, estimated_label, start_seconds
from hpcir.study.memory import MEBI, lower_labels, rank_memory
from hpcir.study.nuclei import refuse_too_few_beads, usual_ring
from hpcir.study.production.convergence import look_counts
from hpcir.units import FS, KELVIN, PS
from hpcir.vibrations.optimise import TYPICAL_LABELS

# Seconds, the start of the engine's process included, up to which a label is made without being asked for.
CHEAP_LABEL = 1.0

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass(frozen=True)
class TimedLabel:
    """One label of the starting structure: wall seconds, the engine process's memory in bytes, the level of theory."""

    seconds: float
    memory: int
    level: str


def check_engine(study: Study) -> None:
    """Ask the label engines whether they can label the deck's molecule (basis, elements, spin, packages).

    Raises InputError that names the deck's line. Computes nothing.
    """
    from hpcir.commands.check_molecules import check_molecules

    try:
        refuse_too_few_beads(study.deck.dynamics, study.targets)
        check_molecules(study)
    except InputError as error:
        raise study.loaded.located(error) from None


def check_device(study: Study) -> list[str]:
    """Warnings about the device of the training: this machine may not be the one that trains.

    Raises InputError where the installed torch supports no GPU at all.
    """
    device = study.deck.training.device
    if device == "cpu":
        return []
    from hpcir.training.devices import device_problem, missing_in_torch

    where = study.loaded.where("training.device")
    if missing_in_torch():
        raise InputError(missing_in_torch(), where=where, value=device, hint="install another torch, or give cpu")
    problem = device_problem(device)
    return [f"{where}: {problem}; the run begins only where there is one"] if problem else []


def check_output(out: Path) -> Path:
    """The folder that exists already, of which the run directory will be a part. Raises InputError when nothing
    can be written there."""
    place = out.absolute()
    if place.exists() and not place.is_dir():
        raise InputError("the run directory is a file", where=str(out), hint="give --out another name")
    while not place.exists():
        place = place.parent
    try:
        # Only an attempt shows: permissions, read-only disks, root on a network disk, a spent quota.
        with tempfile.TemporaryDirectory(prefix=".hpcir-check-", dir=place):
            return place
    except OSError as error:
        raise InputError(
            f"the run directory cannot be written: {error.strerror}",
            where=str(out),
            value=str(place),
            hint="give --out another place",
        ) from None


def check_run(study: Study, out: Path, *, ranks: int = 1, label: bool | None = None) -> None:
    """Check output folder and disk space, and print plan, cost and memory; the engine is checked already.

    label: whether a label of the structure is made for its time and memory; None: where it takes `CHEAP_LABEL` or less
    by its estimate, and of calculators of which nothing is known. Raises InputError for what the user can correct,
    RunStopped when the disk is too full, or the structure cannot be labelled.
    """
    from rich.console import Console

    lacking = check_device(study)
    place = check_output(out)
    need, free = disk_need(study), shutil.disk_usage(place).free
    if free < need:
        raise RunStopped(
            f"{place}: the run needs about {need / MEBI:.0f} MiB of disk, and {free / MEBI:.0f} MiB are free. "
            "Give --out another place"
        )
    looked_at = on_terminal()
    console = Console(highlight=False, soft_wrap=True, force_terminal=looked_at, width=None if looked_at else 110)
    console.print(_plan(study, out))
    for warning in [*deck_warnings(study), *lacking]:
        console.print(f"warning: {warning}", markup=False)
    estimate = estimated_label(study.deck.labels, study.structure)
    timed = None
    if _label_wanted(study, label, estimate):
        timed = _time_one(study, console)
    elif study.deck.labels.engine != "files":
        costs = "its time is not estimated" if estimate is None else f"it would take {_estimate_words(estimate)}"
        console.print(
            f"No label was made: {costs}. --label makes one, and shows whether it converges, its time and its memory.",
            markup=False,
        )
    console.print(_cost(study, ranks, timed or estimate, need, free))
    console.print("The deck is fine.")


def _label_wanted(study: Study, label: bool | None, estimate: LabelEstimate | None) -> bool:
    """True where a label is made: as the user says, else where it is cheap; of an ASE calculator only a label shows
    what it returns, and that it heard of the charge and the multiplicity."""
    engine = study.deck.labels.engine
    if engine == "files":
        return False
    if label is not None:
        return label
    return engine == "ase" or (estimate is not None and estimate.seconds + start_seconds(engine) <= CHEAP_LABEL)


def label_counts(study: Study) -> dict[str, int]:
    """Labels of the main engine by purpose, at most."""
    deck, families = study.deck, study.deck.sampling.families
    counts = {"training, at most": deck.sampling.max_labels}
    if study.one_minimum and deck.labels_its_minimum:
        counts |= {"optimisation (about)": TYPICAL_LABELS, "normal modes": 6 * len(study.structure) + 1}
    if families:
        counts["conformers, at most"] = families * len(study.targets)
    tested = [item for item in study.targets if heavy_atoms(item) <= deck.test.largest]
    return {**counts, "independent test": deck.test.count * len(tested)}


def disk_need(study: Study) -> int:
    """Bytes that the run will write, about: series of dipoles and mode energies, geometries, labels, models."""
    deck, atoms = study.deck, sum(len(item) for item in study.targets)
    dynamics = deck.dynamics
    samples = dynamics.trajectories * int(dynamics.duration / dynamics.timestep / dynamics.dipole_every)
    labels = sum(label_counts(study).values()) + sum(lower_labels(deck))
    return 8 * samples * (3 + 9 * atoms) + 8 * labels * (7 * atoms + 8) + 50 * MEBI


def _time_one(study: Study, console: Console) -> TimedLabel:
    """Label the starting structure as the farm would, in a process of its own."""
    import resource

    from hpcir.labels.isolation import IsolatedEngine

    console.print("Timing one label ...")
    try:
        with IsolatedEngine(study.deck.labels) as engine:
            label = engine.label(study.structure, study.deck.labels.polar_tensors)
            level = engine.level
    except LabelFailed as error:
        raise RunStopped(f"the starting structure cannot be labelled: {error}") from error
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return TimedLabel(label.seconds, memory, level)


def _table(title: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    return table


def _row(table: Any, name: str, value: str) -> None:
    from rich.text import Text

    table.add_row(Text(name), Text(value))  # user input stays text, never markup


def _plan(study: Study, out: Path) -> Table:
    deck, structure = study.deck, study.structure
    dynamics, sampling = deck.dynamics, deck.sampling
    charge = f"{structure.charge:+d}" if structure.charge else "0"
    temperatures = ", ".join(f"{t / KELVIN:g}" for t in sampling.temperatures)
    steps = round(dynamics.duration / dynamics.timestep)
    table = _table("Plan")
    _row(table, "molecule", f"{structure.name}, {formula(structure.symbols)}")
    if not study.one_minimum:
        _row(table, "targets", ", ".join(item.name for item in study.targets))
        _row(table, "seeds", ", ".join(item.name for item in study.seeds))
        _row(table, "labelled", f"molecules and fragments of up to {sampling.largest_fragment} heavy atoms")
    if structure.nuclear_masses is not None:
        _row(table, "isotopes", isotope_words(structure))
    _row(table, "charge and spin", f"charge {charge}, multiplicity {structure.multiplicity}")
    _row(table, "labels", _engine(study.deck.labels))
    _row(table, "pretraining", _pretraining(study))
    _row(table, "committee", f"{deck.model.members} networks of {_widths(deck.model)}")
    for name, text in _functions(study):
        _row(table, name, text)
    _row(table, "trained on", "the processor" if deck.training.device == "cpu" else "GPUs (cuda)")
    _row(
        table,
        "exploration",
        f"up to {sampling.rounds} rounds of {sampling.trajectories} trajectories of {sampling.duration / PS:g} ps at "
        f"{temperatures} K",
    )
    _row(
        table,
        "trajectories",
        f"{dynamics.trajectories} x {dynamics.duration / PS:g} ps at {dynamics.temperature / KELVIN:g} K, "
        f"{steps} steps of {dynamics.timestep / FS:g} fs each, {dynamics.ensemble.upper()}",
    )
    first = look_counts(dynamics.trajectories, dynamics.lockstep)[0]
    if first < dynamics.trajectories:
        _row(table, "", f"as many of them, {first} at least, as {deck.accuracy.words()} takes")
    if (ring := usual_ring(dynamics, structure)) is not None:
        about = "" if dynamics.beads else "about "
        _row(table, "nuclei", f"{dynamics.nuclei}, {about}{ring.beads} beads at {ring.temperature / KELVIN:.0f} K")
    if deck.system.isotopes:
        _row(table, "isotopologues", ", ".join(deck.system.isotopes))
    _row(table, "run directory", str(out))
    return table


def _widths(model: ModelSettings) -> str:
    energy, charge = (" x ".join(map(str, widths)) for widths in (model.hidden, model.charge_widths))
    return energy if charge == energy else f"{energy}, of {charge} for the charges"


def _functions(study: Study) -> list[tuple[str, str]]:
    """The number of symmetry functions, and the share of contractions in the arithmetic of a step."""
    model, structure = study.deck.model, study.structure
    functions = functions_of(model, study.elements)
    angular = functions.n_behler - functions.n_radial
    text = f"{functions.n_features} a centre: {functions.n_radial} radial, {angular} angular"
    if not functions.contractions:
        return [("symmetry functions", text)]
    plain = replace(functions, channels=(), contractions=())
    widths = tuple(model.hidden), model.members
    ratio = sum(step_operations(functions, structure.numbers, *widths)) / sum(
        step_operations(plain, structure.numbers, *widths)
    )
    return [
        ("symmetry functions", f"{text}, {len(functions.contractions)} contractions of {model.channels} channels"),
        ("work of a step", f"about {ratio:.1f} times that without contractions (model.channels: 0)"),
    ]


def _level(level: Level) -> str:
    """A level below the last in words."""
    if level.is_data:
        return f"{'all' if level.labels is None else level.labels} geometries of {Path(level.data.file).name}"
    return f"{level.budget} labels of {_engine(level)}"


def _engine(labels: EngineSettings) -> str:
    if labels.engine == "pyscf":
        method = labels.functional if labels.wavefunction == "none" else labels.wavefunction.upper()
        return f"PySCF {method}/{labels.basis}"
    if labels.engine == "files":
        return f"{labels.files.level}, from files of {labels.files.program} that you run"
    if labels.engine == "tblite":
        return f"tblite {labels.method}"
    return f"ASE calculator, imported from {labels.calculator}"


def _pretraining(study: Study) -> str:
    labels = study.deck.labels
    if study.deck.levels:
        return ", then ".join(_level(level) for level in study.deck.levels[:-1]) or "none"
    if labels.pretrain.engine == "none" or (labels.pretrain.engine == "auto" and labels.engine == "tblite"):
        return "none"
    condition = ", where tblite is installed" if labels.pretrain.engine == "auto" else ""
    method = labels.pretrain.calculator if labels.pretrain.engine == "ase" else labels.pretrain.method
    return f"{labels.pretrain.labels} labels of {method}{condition}"


def _cost(study: Study, ranks: int, label: TimedLabel | LabelEstimate | None, need: int, free: int) -> Table:
    table = _table("Cost")
    counts = label_counts(study)
    for purpose, count in counts.items():
        _row(table, f"labels: {purpose}", str(count))
    if label is not None:
        words = _estimate_words(label) if isinstance(label, LabelEstimate) else f"{label.seconds:.2g} s, {label.level}"
        _row(table, "one label", words)
        work = sum(counts.values()) * label.seconds
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for number in sorted({1, ranks, max(1, cores // study.deck.labels.threads)}):
            time = duration_text(work / number)
            if isinstance(label, LabelEstimate):
                time = "about " + " ".join(time.split()[:2])
            _row(table, f"all labels on {number} rank{'s'[: number > 1]}", time)
    timed = label if isinstance(label, TimedLabel) else None
    if timed is not None:
        _row(table, "memory of a label", f"{timed.memory / MEBI:.0f} MiB a rank")
    for molecule, size in _wavefunction_sizes(study):
        _row(table, f"integrals and amplitudes of {molecule}", size)
    memory = rank_memory(study)
    for name in ("training", "trajectories"):
        _row(table, f"memory of {name}", f"{memory[name] / MEBI:.0f} MiB a rank at most")
    engine = timed.memory if timed is not None else 0
    most = memory["program"] + max(memory["training"], memory["trajectories"]) + engine
    first = max(most, memory["program"] + memory["spectrum"] + engine)
    with_engine = ", the label engine's process included" if timed is not None else ", the label engine's process apart"
    _row(table, "memory a rank", f"{most / MEBI:.0f} MiB at most (rank 0: {first / MEBI:.0f} MiB){with_engine}")
    _row(table, "disk", f"about {need / MEBI:.0f} MiB of {free / MEBI:.0f} MiB free")
    return table


def _estimate_words(estimate: LabelEstimate) -> str:
    return f"about {estimate.seconds:.1g} s, estimated from {estimate.size}"


def _wavefunction_sizes(study: Study) -> Iterator[tuple[str, str]]:
    """Name and memory of each molecule that is labelled whole with a correlated wavefunction."""
    labels = study.deck.labels
    if labels.engine != "pyscf" or labels.wavefunction == "none":
        return
    from hpcir.labels.pyscf_checks import orbital_space, wavefunction_memory

    for target in study.targets:
        if study.labelled_whole(target):
            space = orbital_space(labels, target)
            occupied, virtual = ("/".join(map(str, dict.fromkeys(pair))) for pair in (space.occupied, space.virtual))
            memory = wavefunction_memory(labels, target) / MEBI
            yield target.name, f"about {memory:.0f} MiB ({occupied} occupied, {virtual} virtual orbitals)"
