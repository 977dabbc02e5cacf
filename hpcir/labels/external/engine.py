"""Label engine files: geometries that the user has labelled elsewhere, all of one call at once.

Inputs go to a folder of the run directory, the run ends and says how many labels are missing, and the next start reads
the outputs that lie beside their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, Interrupted, LabelFailed, RunStopped
from hpcir.labels.base import Label
from hpcir.labels.external.formats import FORMATS, OutputFormat
from hpcir.labels.external.reading import Frame, Unfinished, check_frame, read_extxyz, read_output
from hpcir.labels.external.template import check_template, coordinate_lines, filled, level_lines
from hpcir.molecules.structures import Structure
from hpcir.storage.checksums import digest
from hpcir.storage.files import keep_text

EXTXYZ = "extxyz"
# All geometries that have no output yet; and the names of their inputs, one a line, for job arrays.
WANTED, MISSING = "wanted.xyz", "missing.txt"
# Ending of a file by which the user sets a geometry aside.
FAILED = ".failed"


class LabelsMissing(Interrupted):
    """Labels that another program has to make are not there yet: the run continues when they are (exit status 75)."""


@dataclass(frozen=True)
class Answers:
    """Results of the outputs for a list of geometries, in its order.

    labels: a label, why the geometry is set aside, or None where nothing is there yet; refused: outputs that cannot be
    what was asked for; waiting: one line for each output that is not finished; folder: of all of them; inputs: what is
    to be run, in words; unanswered: how many geometries have no answer, those of earlier lists included.
    """

    labels: list[Label | LabelFailed | None]
    refused: list[InputError]
    waiting: list[str]
    folder: Path
    inputs: str
    unanswered: int

    def require_all(self) -> None:
        """Raise InputError when an output is refused, LabelsMissing when one is not there."""
        count = sum(label is None for label in self.labels)
        if self.refused:
            heading = f"{len(self.refused)} outputs are refused, and nothing else of what was labelled is lost:\n"
            raise InputError(
                (heading if len(self.refused) > 1 else "") + "\n".join(str(error) for error in self.refused)
            )
        if count:
            unfinished = "".join(f"\n{line}" for line in self.waiting)
            others = f", and {self.unanswered - count} more that will be asked for" if self.unanswered > count else ""
            raise LabelsMissing(
                f"{count} label{'s are' if count > 1 else ' is'} missing{others}: run {self.inputs} in {self.folder} "
                f"({MISSING} has their names), then start the same command again{unfinished}"
            )


class ExternalEngine:
    """Labels that are read from files. It answers lists of geometries; `folder` is where inputs and outputs lie (None:
    it can only check)."""

    def __init__(self, settings: LabelSettings, folder: Path | None = None) -> None:
        self.settings, self.folder = settings.files, folder
        self.polar = settings.polar_tensors
        form = FORMATS.get(self.settings.program)
        kind = EXTXYZ if form is None else form.name
        told = digest(list(level_lines(self.settings.template, form)))[:8] if form else ""
        self.level = f"{self.settings.level} ({kind}, files{f', template {told}' if told else ''})"
        self._form: OutputFormat | None = form
        # Geometries that were asked for and have no answer yet, by name.
        self._open: dict[str, Structure] = {}

    def check(self, structure: Structure) -> None:
        """InputError when the level has no name, the template lacks a place, or polar tensors are wanted."""
        if not self.settings.level.strip():
            raise InputError(
                "labels from files need a name of their level of theory",
                where="labels.files.level",
                value=self.settings.level,
                hint="such as 'B3LYP/def2-TZVP (ORCA 6.0)'",
            )
        if self.polar:
            raise InputError("polar tensors are not read from files", where="labels.polar_tensors", value=True)
        if self._form is not None:
            check_template(self.settings.template, self._form)
        elif self.settings.template:
            raise InputError(
                "labels that come as extxyz have no template", where="labels.files.template", hint="remove it"
            )

    def label(self, structure: Structure, polar: bool = False) -> Label:
        """The label of one geometry. Raises LabelsMissing where there is none yet, InputError where the output is
        refused, LabelFailed where the user has set the geometry aside."""
        answers = self.answers([structure])
        answers.require_all()
        found = answers.labels[0]
        if not isinstance(found, Label):
            raise found or LabelFailed(f"{structure.name}: no label")
        return found

    def close(self) -> None:
        """Nothing is held open."""

    def answers(self, structures: Sequence[Structure]) -> Answers:
        """Read what is there for these geometries, and write the inputs of the others."""
        if self.folder is None:
            raise RunStopped("labels from files are for runs and for hpcir label, which have a folder to put them in")
        self.folder.mkdir(parents=True, exist_ok=True)
        labels: list[Label | LabelFailed | None] = []
        refused: list[InputError] = []
        waiting: list[str] = []
        frames = self._frames(refused)
        for structure in structures:
            labels.append(None)
            try:
                labels[-1] = self._answer(structure, frames)
            except LabelFailed as error:
                labels[-1] = error
            except Unfinished as error:
                waiting.append(str(error))
            except InputError as error:
                refused.append(error)
            self._open.pop(name_of(structure), None)
            if labels[-1] is None:
                self._open[name_of(structure)] = structure
                self._write_input(structure)
        self._write_wanted()
        suffix = self._form.input_suffix if self._form else ""
        inputs = f"the inputs (*{suffix})" if suffix else f"the geometries of {WANTED}"
        return Answers(labels, refused, waiting, self.folder, inputs, len(self._open))

    def _answer(self, structure: Structure, frames: list[Frame]) -> Label | None:
        assert self.folder is not None
        name = name_of(structure)
        aside = self.folder / f"{name}{FAILED}"
        if aside.exists():
            raise LabelFailed(f"{structure.name}: set aside by {aside}")
        if self._form is None:
            found = [frame for frame in frames if frame.holds(structure, name)]
            return check_frame(found[-1], structure) if found else None
        for suffix in self._form.output_suffixes:
            path = self.folder / f"{name}{suffix}"
            if path.is_file():
                return read_output(path, self._form, structure, level_lines(self.settings.template, self._form))
        return None

    def _frames(self, refused: list[InputError]) -> list[Frame]:
        """All frames of all extxyz files in the folder but that of the geometries themselves."""
        if self._form is not None or self.folder is None:
            return []
        frames: list[Frame] = []
        for path in sorted([*self.folder.glob("*.xyz"), *self.folder.glob("*.extxyz")]):
            if path.name == WANTED or path.name.startswith("."):
                continue
            try:
                frames += read_extxyz(path, self.settings.level)
            except InputError as error:
                refused.append(error)
        return frames

    def _write_input(self, structure: Structure) -> None:
        assert self.folder is not None
        if self._form is None:
            return
        name = name_of(structure)
        keep_text(self.folder / f"{name}{self._form.input_suffix}", filled(self.settings.template, structure, name))

    def _write_wanted(self) -> None:
        """wanted.xyz with all geometries that have no answer, and missing.txt with the names of their inputs."""
        assert self.folder is not None
        text = "".join(_xyz_frame(structure, self.settings.level) for structure in self._open.values())
        keep_text(self.folder / WANTED, text)
        suffix = self._form.input_suffix if self._form else ""
        keep_text(self.folder / MISSING, "".join(f"{name}{suffix}\n" for name in self._open))


def name_of(structure: Structure) -> str:
    """The name of a geometry's files: of its atoms, positions, charge and spin alone."""
    parts = (structure.numbers.astype(np.int64), structure.positions, structure.charge, structure.multiplicity)
    return f"label-{digest(*parts)[:12]}"


def _xyz_frame(structure: Structure, level: str) -> str:
    comment = (
        f'name={name_of(structure)} charge={structure.charge} multiplicity={structure.multiplicity} level="{level}" '
        "Properties=species:S:1:pos:R:3"
    )
    return "\n".join([str(len(structure)), comment, *coordinate_lines(structure), ""])


def create(settings: LabelSettings, reference: Structure | None = None) -> ExternalEngine:
    """The engine of the deck, without a folder; the reference is not needed."""
    return ExternalEngine(settings)
