"""The learning curve: rounds of sampling with their errors, and the reason to stop; models/learning_curve.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpcir.errors import InputError
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.storage.files import write_atomic
from hpcir.storage.provenance import origin
from hpcir.storage.records import as_dict, from_json, read_json
from hpcir.units import (
    DEBYE,
    KCAL_PER_MOL,
    KCAL_PER_MOL_ANGSTROM,
    Debye,
    ElementaryCharges,
    KcalPerMol,
    KcalPerMolAngstrom,
    Picoseconds,
)

if TYPE_CHECKING:
    from hpcir.models.model import Model

NAN = float("nan")
# The first training has the deck's steps divided by this.
SHORTEST = 4


class StopReason(Enum):
    """The reason why sampling stopped: the accuracy or its goal is reached, nothing left to label, or a limit."""

    LABEL_BUDGET = "label_budget"
    ROUNDS = "rounds"
    GOAL = "goal"
    NOTHING_NEW = "nothing_new"
    ACCURACY = "accuracy"

    @property
    def is_limit(self) -> bool:
        """True where sampling ended before it reached its goal."""
        return self in (StopReason.LABEL_BUDGET, StopReason.ROUNDS)


class Stop(NamedTuple):
    """A reason to stop with its sentence for the log and the report."""

    reason: StopReason
    sentence: str


class Errors(NamedTuple):
    """Root mean square errors of a model: forces (kcal/mol/A), energy (kcal/mol), dipole (D); None: not known."""

    forces: float | None
    energy: float | None
    dipole: float | None


@dataclass(frozen=True)
class TargetExploration:
    """Figures of the exploration of one target in a round; insane: trajectories that became unphysical."""

    explored_picoseconds: Picoseconds = 0.0
    takes: int = 0
    insane: int = 0


@dataclass(frozen=True)
class ExplorationFigures:
    """Figures of exploration in a round: time, geometries taken (takes), those that became unphysical (`insane`), and
    the time between takes; `targets`: by name, where they are distinguished."""

    explored_picoseconds: Picoseconds
    takes: int
    insane: int
    picoseconds_between_takes: Picoseconds
    targets: dict[str, TargetExploration] | None = None


@dataclass(frozen=True)
class Round:
    """A round of sampling: its number, the labels that its model was trained on, and a digest of them (data).

    Root mean square errors of energies, of force and dipole components: on labels held out; `taken`: of the round
    before on the geometries that exploration took for this one; `test`: on the independent test. Calibrations: the
    factors from spreads to expected errors. The figures of its exploration once the round has explored.
    """

    round: int
    labels: int
    data: str = ""
    energy_rmse_kcal_per_mol: KcalPerMol = NAN
    force_rmse_kcal_per_mol_angstrom: KcalPerMolAngstrom = NAN
    dipole_rmse_debye: Debye = NAN
    taken_force_rmse_kcal_per_mol_angstrom: KcalPerMolAngstrom = NAN
    force_calibration: float = NAN
    dipole_calibration: float = NAN
    explored_picoseconds: Picoseconds | None = None
    takes: int | None = None
    insane: int | None = None
    picoseconds_between_takes: Picoseconds | None = None
    targets: dict[str, TargetExploration] | None = None
    test_energy_rmse_kcal_per_mol: KcalPerMol | None = None
    test_force_rmse_kcal_per_mol_angstrom: KcalPerMolAngstrom | None = None
    test_dipole_rmse_debye: Debye | None = None
    test_polar_tensor_rmse_e: ElementaryCharges | None = None

    @classmethod
    def of_model(cls, number: int, labels: int, data: str, model: Model) -> Round:
        """The round of a trained model, its errors in user units."""
        error = model.error
        return cls(
            round=number,
            labels=labels,
            data=data,
            energy_rmse_kcal_per_mol=error.get("energy_rmse", NAN) / KCAL_PER_MOL,
            force_rmse_kcal_per_mol_angstrom=error.get("force_rmse", NAN) / KCAL_PER_MOL_ANGSTROM,
            dipole_rmse_debye=error.get("dipole_rmse", NAN) / DEBYE,
            taken_force_rmse_kcal_per_mol_angstrom=error.get("taken_force_rmse", NAN) / KCAL_PER_MOL_ANGSTROM,
            force_calibration=error.get("force_calibration", NAN),
            dipole_calibration=error.get("dipole_calibration", NAN),
        )

    @property
    def held_out(self) -> Errors:
        """Errors on the labels held out."""
        return Errors(self.force_rmse_kcal_per_mol_angstrom, self.energy_rmse_kcal_per_mol, self.dipole_rmse_debye)

    @property
    def tested(self) -> Errors:
        """Errors on the independent test."""
        return Errors(
            self.test_force_rmse_kcal_per_mol_angstrom, self.test_energy_rmse_kcal_per_mol, self.test_dipole_rmse_debye
        )

    def explored(self, found: ExplorationFigures) -> Round:
        """The round after its exploration."""
        return replace(
            self,
            explored_picoseconds=found.explored_picoseconds,
            takes=found.takes,
            insane=found.insane,
            picoseconds_between_takes=found.picoseconds_between_takes,
            targets=found.targets,
        )

    def line(self) -> str:
        """The round in one line of the log."""
        return (
            f"round {self.round}: {self.labels} labels, held-out errors: force "
            f"{self.force_rmse_kcal_per_mol_angstrom:.3f} kcal/mol/A, energy {self.energy_rmse_kcal_per_mol:.4f} "
            f"kcal/mol, dipole {self.dipole_rmse_debye:.4f} D"
        )


@dataclass
class LearningCurve:
    """The rounds so far, the reason to stop (None and '' while sampling continues), a digest of the labels that the
    final model was trained on; steps_divisor: a round's training has the deck's steps divided by it."""

    rounds: list[Round] = field(default_factory=list)
    reason: str = ""
    final: str = ""
    stopped: StopReason | None = None
    steps_divisor: int = SHORTEST

    def put(self, entry: Round) -> None:
        """Add a round, in place of the one with its number and all after that."""
        self.rounds = [*self.rounds[: entry.round], entry]

    def explored(self, number: int, found: ExplorationFigures) -> None:
        """Add the figures of a round's exploration."""
        self.rounds[number] = self.rounds[number].explored(found)

    def stop(self, stop: Stop) -> None:
        """Record that sampling has stopped."""
        self.stopped, self.reason = stop

    def save(self, folder: Path) -> None:
        """Write learning_curve.json in a folder of models. Raises RunStopped when that fails."""
        content = as_dict(self)
        written = json.dumps({**content, "digest": digest(content), "origin": origin()}, indent=1)
        write_atomic(folder / layout.LEARNING_CURVE_FILE, written)

    @classmethod
    def load(cls, folder: Path) -> LearningCurve:
        """The curve that an earlier session saved; an empty one when the file is missing or damaged."""
        try:
            content = json.loads((folder / layout.LEARNING_CURVE_FILE).read_text())
            expected = content.pop("digest")
            content.pop("origin", None)
            return from_json(cls, content) if digest(content) == expected else cls()
        except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError, InputError):
            return cls()


def read_curve(path: Path) -> LearningCurve:
    """A learning curve as it is in a file. Raises InputError where it cannot be read, FileNotFoundError without one."""
    content = read_json(path, path.name)
    if isinstance(content, list):  # the form of the first versions
        content = {"rounds": content}
    return from_json(LearningCurve, content, path.name)
