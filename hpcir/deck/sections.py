"""The YAML deck: sections with their defaults, units and limits, as frozen validated models.

Quantities are held in atomic units (wavenumbers in cm-1, wall times in seconds) and written back with their unit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from hpcir.deck.quantities import (
    DipoleMoment,
    Force,
    Fraction,
    Length,
    Temperature,
    Time,
    WallTime,
    Wavenumber,
    quantity_field,
)
from hpcir.units import PER_CM


class Section(BaseModel):
    """A part of the deck: unknown keys are refused, values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True, allow_inf_nan=False)


class System(Section):
    """The molecule."""

    structure: str = Field(description="structure file (xyz, extxyz), relative to the deck")
    name: str = Field("", description="name for reports; empty: the structure file's name")
    charge: int = Field(0, description="total charge in e")
    multiplicity: int = Field(1, ge=1, description="2S+1")
    isotopes: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="isotopologues by name: masses in amu by element or by 1-based atom ('H': 2.014, 'H6': 2.014)",
    )
    targets: list[str] = Field(
        default_factory=list,
        description="structure files of further molecules whose spectra the same model gives; an extxyz file may say "
        "its charge and multiplicity",
    )


class Pretrain(Section):
    """Cheap labels that pretrain the networks before the expensive ones fine-tune them."""

    engine: Literal["auto", "none", "tblite", "ase"] = Field(
        "auto",
        description="auto: tblite where it is installed, knows the elements and is not the engine itself; ase: any "
        "calculator of ASE",
    )
    method: str = Field("GFN2-xTB", description="tblite: method of the cheap engine")
    calculator: str = Field("", description="ase: import path of a calculator class, 'package.module:Class'")
    arguments: dict[str, Any] = Field(default_factory=dict, description="ase: keyword arguments of the calculator")
    labels: int = Field(3000, ge=50, description="number of cheap labels")


class FilesSettings(Section):
    """Labels that you make with another program: the engine files writes inputs and reads outputs."""

    program: Literal["orca", "gaussian", "psi4", "qchem", "extxyz"] = Field(
        "orca", description="whose inputs and outputs; extxyz: geometries out, labelled frames in (eV, eV/A, e A)"
    )
    level: str = Field("", description="name of the level of theory, for reports and as the labels' key")
    template: str = Field(
        "",
        description="text of an input with the places {coordinates}, {charge}, {multiplicity} and, if wanted, {name}",
    )


class EngineSettings(Section):
    """A label engine and its level of theory."""

    engine: Literal["pyscf", "tblite", "ase", "files"] = Field("pyscf", description="label engine")
    functional: str = Field("bp86", description="pyscf: exchange-correlation functional, or 'hf'")
    basis: str = Field("def2-svp", description="pyscf: basis set")
    wavefunction: Literal["none", "mp2", "ccsd", "ccsd(t)"] = Field(
        "none",
        description="pyscf: a correlated wavefunction on Hartree-Fock orbitals instead of a functional; mp2 with "
        "density_fitting (closed shells) or without, coupled cluster always without",
    )
    frozen_core: bool = Field(True, description="pyscf, with a wavefunction: core orbitals are not correlated")
    density_fitting: bool = Field(True, description="pyscf: density fitting of Coulomb (and exchange)")
    dispersion: Literal["none", "d3", "d3bj", "d4"] = Field("none", description="pyscf: dispersion correction")
    grid_level: int = Field(3, ge=0, le=9, description="pyscf: integration grid level")
    max_cycles: int = Field(60, ge=1, description="pyscf: SCF cycles before the ladder for hard cases starts")
    method: str = Field("GFN2-xTB", description="tblite: GFN2-xTB, GFN1-xTB or IPEA1-xTB")
    calculator: str = Field("", description="ase: import path of a calculator class, 'package.module:Class'")
    arguments: dict[str, Any] = Field(default_factory=dict, description="ase: keyword arguments of the calculator")
    polar_tensors: bool = Field(
        False,
        description="derivatives of the dipole by the positions too, from forces in weak electric fields: six more "
        "calculations a label, 9 N numbers about the charges instead of three (pyscf, tblite)",
    )
    threads: int = Field(1, ge=1, description="threads of one label")
    time_limit: WallTime = quantity_field("1 h", gt=0, description="a label that takes longer is set aside")
    files: FilesSettings = Field(default_factory=FilesSettings)
    dipoles: bool = Field(
        True,
        description="false: the calculator gives none, and energies and forces alone are learnt from it (ase, for a "
        "level below the spectrum's)",
    )

    def content(self) -> dict[str, Any]:
        """All settings as JSON but those of later versions at their defaults: for digests, so that what was made before
        is still theirs."""
        dumped = self.model_dump(mode="json")
        if self.dipoles:
            del dumped["dipoles"]
        return dumped


class LabelSettings(EngineSettings):
    """Electronic structure: which engine, which level of theory."""

    pretrain: Pretrain = Field(default_factory=Pretrain)

    @property
    def pretrain_settings(self) -> LabelSettings:
        """The settings of the cheap level's engine: tblite where `pretrain.engine` is auto."""
        if self.pretrain.engine == "ase":
            calculator, arguments = self.pretrain.calculator, self.pretrain.arguments
            return LabelSettings(
                engine="ase",
                calculator=calculator,
                arguments=arguments,
                time_limit=self.time_limit,
                threads=self.threads,
            )
        return LabelSettings(engine="tblite", method=self.pretrain.method)


class DataSettings(Section):
    """A data set that stands for a level: a file or folder as `hpcir train` reads it."""

    file: str = Field("", description="the data set, relative to the deck; empty: the level has an engine")
    units: str | dict[str, str] = Field("", description="'ase', 'atomic', or a unit for each quantity")
    keys: dict[str, str] = Field(default_factory=dict, description="the file's names of quantities")
    charge: int | None = Field(None, description="total charge where the data do not say it")
    dipole_origin: Literal["charge", "mass", "geometry", "zero"] | None = Field(
        None, description="origin of the dipoles of ions"
    )


class Level(EngineSettings):
    """A level of theory in a chain, with the number of its labels."""

    data: DataSettings = Field(default_factory=DataSettings)
    labels: int | None = Field(
        None,
        ge=1,
        description="label budget, the test's apart (default: 3000 of tblite, else 200; all of a data set)",
    )
    initial_labels: int | None = Field(None, ge=1, description="labels before its first exploration; default: half")
    round_labels: int | None = Field(None, ge=1, description="most labels of a round; default: a quarter")
    minimum: Literal["auto", "labels", "model"] = Field(
        "auto",
        description="labels: the level's own minimum and normal modes, some 6N + 15 labels that train; model: those of "
        "the level below's model, without a label; auto: labels for the first level, model above",
    )

    @property
    def budget(self) -> int:
        """The number of labels, of a data set the most geometries."""
        if self.labels is not None:
            return self.labels
        return sys.maxsize if self.is_data else 3000 if self.engine == "tblite" else 200

    @property
    def is_data(self) -> bool:
        """True for a data set instead of an engine."""
        return bool(self.data.file)

    def has_own_minimum(self, number: int) -> bool:
        """True where the level labels its own minimum and normal modes, as number `number` of the chain from 0."""
        return self.minimum == "labels" or (self.minimum == "auto" and number == 0)

    def within(self, folder: Path) -> Level:
        """The level with the path of its data set, where it has one, taken from a folder."""
        if not self.is_data:
            return self
        data = self.data.model_copy(update={"file": str((folder / self.data.file).resolve())})
        return self.model_copy(update={"data": data})

    @property
    def settings(self) -> LabelSettings:
        """The label engine alone."""
        own = {name: getattr(self, name) for name in EngineSettings.model_fields}
        return LabelSettings(**own, pretrain=Pretrain(engine="none"))

    @property
    def sampling(self) -> dict[str, int]:
        """The counts of `SamplingSettings` that this level has in its own way."""
        most = self.budget
        first, more = self.initial_labels or -(-most // 2), self.round_labels or -(-most // 4)
        return {"max_labels": most, "initial_labels": first, "round_labels": more}


class ModelSettings(Section):
    """Symmetry functions and networks."""

    cutoff: Length = quantity_field("5 A", gt=0, description="cutoff radius of the symmetry functions")
    cutoff_function: Literal["polynomial", "cosine", "tanh3"] = Field("polynomial", description="cutoff function")
    radial: int = Field(10, ge=1, description="radial functions for each neighbour element")
    shells: int = Field(4, ge=0, description="radial shells of the angular functions, for each element pair")
    zetas: list[Annotated[int, Field(ge=1, le=8)]] = Field(
        default_factory=lambda: [1, 2, 4], description="exponents of the angular functions, each with lambda +1 and -1"
    )
    channels: int = Field(
        8,
        ge=0,
        le=64,
        description="mixtures of neighbour elements and shells whose moments are contracted to functions of three and "
        "four bodies; 0: Behler's functions alone",
    )
    degree: int = Field(3, ge=1, le=3, description="largest degree of the moments that are contracted")
    inputs: int = Field(
        120,
        ge=1,
        description="most inputs of a network: principal components of the symmetry functions (free in dynamics)",
    )
    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=lambda: [40, 40], min_length=2, max_length=2, description="widths of the two hidden layers"
    )
    charge_hidden: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=2, max_length=2, description="likewise of the charge networks (default: as hidden)"
    )
    members: int = Field(4, ge=1, description="networks in the committee")
    dipole: Literal["charges", "charges+dipoles"] = Field(
        "charges+dipoles", description="dipole from atomic charges, or from charges and atomic dipoles"
    )

    @property
    def charge_widths(self) -> list[int]:
        """Widths of the charge networks' hidden layers."""
        return self.charge_hidden or self.hidden


class TrainingSettings(Section):
    """Training of the networks."""

    optimizer: Literal["adam", "soap", "kalman"] = Field("soap", description="optimiser")
    steps: int = Field(4000, ge=1, description="optimiser steps of a training from scratch")
    pretrain_steps: int = Field(8000, ge=1, description="optimiser steps on the cheap level's labels")
    retrain_steps: int = Field(1000, ge=1, description="optimiser steps of a retraining or fine-tuning (warm)")
    batch: int = Field(32, ge=1, description="geometries in a batch")
    learning_rate: float = Field(1e-2, gt=0, description="largest learning rate of the schedule")
    final_steps: int = Field(3000, ge=1, description="optimiser steps of the final model, which learns all labels")
    retrain_rate: float = Field(3e-3, gt=0, description="largest learning rate of a retraining or fine-tuning")
    force_weight: float = Field(10.0, ge=0, description="eta of the loss: weight of the forces against the energy")
    weighting: Literal["force", "equal"] = Field(
        "force", description="force: labels with large forces count less, for the frequencies' sake; equal: all alike"
    )
    validation: float = Field(0.1, gt=0, lt=1, description="fraction of the labels held out, another for each member")
    process: int = Field(
        9000,
        ge=0,
        le=100000,
        description="most energies and forces of labels for a Gaussian process, which the networks learn as well",
    )
    precision: Literal["float32", "float64"] = Field("float32", description="arithmetic of the training")
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="where the networks are trained; cuda: a GPU, one rank for each committee member"
    )


class SamplingSettings(Section):
    """Active learning: growth of the training set."""

    max_labels: int = Field(250, ge=10, description="label budget of the main engine (the test set apart)")
    initial_labels: int = Field(40, ge=5, description="labels from sampled normal modes before the first exploration")
    round_labels: int = Field(40, ge=1, description="most labels taken in one round of exploration")
    rounds: int = Field(10, ge=0, description="most rounds of exploration")
    temperatures: list[Temperature] = Field(
        default_factory=lambda: cast(list[float], ["300 K", "500 K", "700 K"]),
        min_length=1,
        description="temperatures of the exploration",
    )
    trajectories: int = Field(24, ge=1, description="committee trajectories in a round")
    duration: Time = quantity_field("2 ps", gt=0, description="length of each exploration trajectory")
    goal: Time = quantity_field(
        "10 ps",
        gt=0,
        description="explored time per geometry taken at which sampling is done; where longer than a round, sampling "
        "continues until the labels or the rounds are used up",
    )
    force_error: Force = quantity_field(
        "2 kcal/mol/A",
        gt=0,
        description="expected error of an atom's force (committee spread, calibrated) at which a geometry is taken",
    )
    dipole_error: DipoleMoment = quantity_field(
        "0.1 D", gt=0, description="expected error of the dipole (likewise) at which a geometry is taken"
    )
    seeds: list[str] = Field(
        default_factory=list,
        description="structure files of small relatives, labelled whole, that sampling starts from; molecules larger "
        "than largest_fragment are then labelled in fragments",
    )
    conformers: int = Field(8, ge=1, description="with seeds or targets: conformers of each seed to begin with")
    largest_fragment: int = Field(12, ge=2, description="heavy atoms of the largest molecule or fragment labelled")
    fragment_forces: Literal["core", "all"] = Field(
        "core",
        description="forces learnt of a fragment: core, those of atoms whose whole surroundings within the cutoff are "
        "the large molecule's; all, those near a cap and of the caps too, a fragment being a molecule itself",
    )
    families: int = Field(
        0,
        ge=0,
        description="conformers of each target that the final model relaxes and sorts into families, each with a "
        "spectrum of its own, the main one their Boltzmann average; 0: trajectories start from torsions sampled by "
        "Monte Carlo with the model (with seeds or targets), or from the one minimum",
    )


class TestSettings(Section):
    """The independent test: geometries from the final model's own trajectories, labelled, never trained on."""

    count: int = Field(100, ge=0, description="most test geometries; 0 leaves the test out")
    largest: int = Field(
        100, ge=1, description="heavy atoms of the largest molecule that is labelled whole for the test"
    )
    harmonic: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="the engine's harmonic spectrum of targets that are labelled whole, where sampling does not need "
        "it anyway: 6N + 1 labels each; auto: with tblite, or for molecules of up to 12 atoms",
    )


class DynamicsSettings(Section):
    """The production trajectories."""

    temperature: Temperature = quantity_field("300 K", gt=0, description="temperature")
    nuclei: Literal["classical", "trpmd", "pigs"] = Field(
        "classical",
        description="classical; trpmd: thermostatted ring polymers, every bead a replica; pigs: classical on the "
        "potential of mean force of ring polymers' centroids, learnt as a correction to the model",
    )
    beads: int = Field(
        0, ge=0, description="trpmd, pigs: beads of a ring polymer; 0: as many as the stiffest mode needs"
    )
    pigs_temperature: Temperature = quantity_field(
        "0 K",
        ge=0,
        description="pigs: temperature of the ring polymers about the held centroids, not below dynamics.temperature; "
        "0: by the stiffest mode of each isotopologue, 430 K where it is at 3650 cm-1 and trajectories at 300 K",
    )
    timestep: Time = quantity_field("0.5 fs", gt=0, description="timestep of velocity Verlet")
    trajectories: int = Field(64, ge=1, description="most independent trajectories: fewer where `accuracy` is met")
    equilibration: Time = quantity_field("2 ps", ge=0, description="thermostatted time before each trajectory")
    duration: Time = quantity_field("5 ps", gt=0, description="length of each trajectory")
    ensemble: Literal["nve", "nvt"] = Field(
        "nve", description="production ensemble; nvt with thermostat svr alone: langevin broadens lines"
    )
    thermostat: Literal["langevin", "svr"] = Field(
        "langevin",
        description="langevin (BAOAB) or svr (stochastic velocity rescaling); ring polymers have PILE in its place",
    )
    time_constant: Time = quantity_field("100 fs", gt=0, description="thermostat's relaxation time")
    rotation: Literal["keep", "remove"] = Field(
        "remove",
        description="keep: thermal rotation, gas-phase band contours; remove: bands without rotation (trpmd turns "
        "nevertheless, and has its dipoles in a frame that does not)",
    )
    dipole_every: int = Field(4, ge=1, description="steps between dipoles")
    force_error: Force = quantity_field(
        "8 kcal/mol/A",
        gt=0,
        description="expected error of an atom's force (committee spread, calibrated) beyond which a trajectory is "
        "left out of the spectrum, and no trajectory starts",
    )
    restraint: Length = quantity_field(
        "0 A",
        ge=0,
        description="clusters: how much further from the cluster's centre of mass a piece's may go than the outermost "
        "is at the start, before a spring draws it back (flat-bottomed); 0: no restraint",
    )
    lockstep: int = Field(16, ge=1, le=1024, description="replicas that one kernel call moves together")
    population_error: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="standard error of the populations of rotamers at which replica exchange, which gives the starts "
        "of molecules with several, has gone on long enough",
    )

    @property
    def highest_wavenumber(self) -> float:
        """The highest wavenumber (cm-1) that the dipole series resolves: 1 / (2 c dt)."""
        # A period 2 dt has the angular frequency pi / dt; PER_CM is that of one cm-1.
        return 3.141592653589793 / (self.dipole_every * self.timestep) / PER_CM


class SpectrumSettings(Section):
    """From dipole series to the spectrum."""

    window: Literal["hann", "gaussian", "blackman", "none"] = Field("hann", description="window on the correlation")
    depth: Time = quantity_field("1.5 ps", gt=0, description="correlation depth: where the window reaches zero")
    zero_padding: int = Field(4, ge=1, description="padding of the correlation, as a multiple of its length")
    quantum_correction: Literal["harmonic", "none", "standard", "schofield"] = Field(
        "harmonic", description="quantum correction of the classical line shape"
    )
    estimator: Literal["control_variates", "plain"] = Field(
        "control_variates", description="average with mode energies as control variates, or the plain mean"
    )
    committee_errors: bool = Field(
        True, description="run each committee member alone too, for its share of the error bars"
    )
    levels: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="quantum levels at the minimum of the model by perturbation theory, beside the bands "
        "(`hpcir levels` has more); auto: of molecules of up to 9 atoms",
    )
    timestep_correction: bool = Field(True, description="undo the frequency error of velocity Verlet")
    first: Wavenumber = quantity_field("0 cm-1", ge=0, description="first wavenumber of the spectrum")
    last: Wavenumber = quantity_field("4500 cm-1", gt=0, description="last wavenumber of the spectrum")


class AccuracySettings(Section):
    """Accuracy of every band over 5 km/mol: sampling, trainings and trajectories end where it is met; their numbers in
    the other sections are upper limits."""

    wavenumber: Wavenumber = quantity_field("1 cm-1", gt=0, description="of a band's position (standard error)")
    intensity: Fraction = quantity_field("2 %", gt=0, description="of a band's intensity, relative: 2 % or 0.02")

    def words(self) -> str:
        """The accuracy in words."""
        return f"an accuracy of {self.wavenumber:g} cm-1 and {100 * self.intensity:g} %"


class Deck(Section):
    """A whole deck."""

    system: System
    labels: LabelSettings = Field(default_factory=LabelSettings)
    levels: list[Level] = Field(
        default_factory=list,
        description="a chain of levels of theory in the place of labels, the cheapest first: each fine-tunes the one "
        "before, and the last is the spectrum's",
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    test: TestSettings = Field(default_factory=TestSettings)
    dynamics: DynamicsSettings = Field(default_factory=DynamicsSettings)
    spectrum: SpectrumSettings = Field(default_factory=SpectrumSettings)
    accuracy: AccuracySettings = Field(default_factory=AccuracySettings)
    seed: int = Field(1, ge=0, description="seed of every random stream")

    @property
    def explores_one_minimum(self) -> bool:
        """True where sampling explores around the minimum of one molecule: no further targets, seeds or families."""
        return not (self.system.targets or self.sampling.seeds or self.sampling.families)

    @property
    def labels_its_minimum(self) -> bool:
        """True where the minimum that sampling explores around is labelled at the spectrum's level."""
        return not self.levels or self.levels[-1].has_own_minimum(len(self.levels) - 1)

    def with_last_level(self, folder: Path) -> Deck:
        """The deck with the last level of its chain, where it has one, as its labels and label budget, and the paths of
        data sets taken from the deck's folder."""
        if not self.levels:
            return self
        levels = [level.within(folder) for level in self.levels]
        sampling = self.sampling.model_copy(update=levels[-1].sampling)
        return self.model_copy(update={"levels": levels, "labels": levels[-1].settings, "sampling": sampling})
