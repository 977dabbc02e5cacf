"""Data sets and labels as people bring them: charges under other names, NaN, folders, groups. Read, or words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from hpcir.deck.sections import LabelSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.errors import InputError, RunStopped
from hpcir.exchange.audit import audit
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.n2p2.files import read_weights
from hpcir.exchange.reading import read_dataset
from hpcir.labels.ase_engine import AseEngine
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import Structure
from hpcir.spectra.files.jcamp import read_jcamp, write_jcamp
from hpcir.spectra.spectrum import CSV_COLUMNS, Spectrum
from hpcir.storage.checksums import data_digest
from hpcir.study.session import require_charge
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM

COUNT = 12
RANDOM = np.random.default_rng(4)
WATER = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
PLACES = WATER + 0.05 * RANDOM.normal(size=(COUNT, 3, 3))
ENERGY, FORCES, DIPOLE = (
    RANDOM.normal(-2000, 0.1, COUNT),
    RANDOM.normal(size=(COUNT, 3, 3)),
    RANDOM.normal(size=(COUNT, 3)),
)


def extxyz(path: Path, words: str, symbols: str = "OHH") -> Path:
    lines = []
    for s in range(COUNT):
        dipole = " ".join(f"{x:.8f}" for x in DIPOLE[s])
        lines += ["3", f'Properties=species:S:1:pos:R:3:forces:R:3 energy={ENERGY[s]:.8f} dipole="{dipole}" {words}']
        rows = zip(symbols, np.hstack([PLACES[s], FORCES[s]]), strict=True)
        lines += [f"{symbol} " + " ".join(f"{x:.8f}" for x in row) for symbol, row in rows]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["total_charge", "Charge", "net_charge", "q_tot", "molecular_charge"])
def test_a_charge_under_another_name_stops(tmp_path, name):
    path = extxyz(tmp_path / "a.xyz", f"{name}=1")
    with pytest.raises(InputError, match=rf"looks like the total charge under '{name}'.*--keys charge={name}"):
        read_dataset(path, units="ase")
    read = read_dataset(path, units="ase", keys={"charge": name}, dipole_origin="charge")
    assert {frame.charge for frame in read.frames} == {1}
    assert len(read.having("forces")) == COUNT


def test_a_charge_of_zero_under_another_name_does_not(tmp_path):
    assert len(read_dataset(extxyz(tmp_path / "a.xyz", "total_charge=0 total_spin=1"), units="ase")) == COUNT


def test_several_spin_states_stop(tmp_path):
    path = extxyz(tmp_path / "a.xyz", "multiplicity=1")
    path.write_text(path.read_text().replace("multiplicity=1", "multiplicity=3", 1))
    with pytest.raises(InputError, match="several spin states"):
        read_dataset(path, units="ase")


def test_an_odd_number_of_electrons_without_a_charge_stops(tmp_path):
    path = extxyz(tmp_path / "a.xyz", "", "NHH")
    odd = [finding for finding in audit(read_dataset(path, units="ase")) if "odd number" in finding.text]
    assert [finding.severity for finding in odd] == ["error"]
    declared = audit(read_dataset(path, units="ase", charge=0))
    assert [finding.severity for finding in declared if "odd number" in finding.text] == ["note"]


def test_a_model_s_charge_is_held_to(tmp_path):
    model = random_model(automatic_set((1, 8), 8.0, 3, 1, (1,)), 1)
    require_charge(model, tmp_path, model.total_charge, "here")
    with pytest.raises(InputError, match="learnt molecules of total charge 0"):
        require_charge(model, tmp_path, 1, "here")


class Deaf(Calculator):
    """Point charges that sum to `total`, whatever the atoms say."""

    implemented_properties: ClassVar = ["energy", "forces", "dipole"]

    def __init__(self, total: float = 0.0) -> None:
        super().__init__()
        self.total = total

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        count = len(self.atoms)
        charges = np.linspace(-0.4, 0.4, count) + self.total / count
        zero = np.zeros((count, 3))
        self.results = {"energy": 0.0, "forces": zero, "dipole": charges @ self.atoms.positions}


@pytest.mark.parametrize(("charge", "total"), [(1, 0), (0, 1), (-1, 1)])
def test_a_calculator_that_did_not_hear_the_charge_is_refused(monkeypatch, charge, total):
    ion = Structure(np.array([8, 1, 1]), WATER * ANGSTROM, charge=charge, multiplicity=1 + abs(charge) % 2)
    settings = LabelSettings(engine="ase", calculator="nowhere:Deaf", arguments={"total": total})
    monkeypatch.setattr("hpcir.labels.ase_engine._imported", lambda path: Deaf)
    with pytest.raises(InputError, match=re.escape(f"charge {total:+.2f}, and {charge:+d} is declared")):
        AseEngine(settings).label(ion)


def test_a_calculator_that_heard_it_is_asked_once(monkeypatch):
    made: list[Deaf] = []

    def count(**arguments: Any) -> Deaf:
        made.append(Deaf(**arguments))
        return made[-1]

    monkeypatch.setattr("hpcir.labels.ase_engine._imported", lambda path: count)
    ion = Structure(np.array([8, 1, 1]), WATER * ANGSTROM, charge=1, multiplicity=2)
    engine = AseEngine(LabelSettings(engine="ase", calculator="nowhere:Deaf", arguments={"total": 1}))
    for _ in range(3):
        engine.label(ion)
    assert len(made) == 4


class Spins(Deaf):
    """An energy that depends on the multiplicity and the charge where `hears` says so: of the atoms, of an argument."""

    def __init__(self, hears: str = "", total: float = 0.0, **said: int) -> None:
        super().__init__(total)
        self.hears, self.said = hears, said

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        heard = {"atoms": self.atoms.get_initial_magnetic_moments().sum() + self.atoms.get_initial_charges().sum()}
        self.results["energy"] = float(heard.get(self.hears, self.said.get(self.hears, 0.0)))
        if self.hears == "moment":
            self.results["magmom"] = 2.0


def spins(monkeypatch: pytest.MonkeyPatch, multiplicity: int, charge: int = 0, **settings: Any) -> None:
    monkeypatch.setattr("hpcir.labels.ase_engine._imported", lambda path: Spins)
    molecule = Structure(np.array([8, 1, 1]), WATER * ANGSTROM, charge=charge, multiplicity=multiplicity)
    AseEngine(LabelSettings(engine="ase", calculator="nowhere:Spins", **settings)).label(molecule)


@pytest.mark.parametrize(
    "said",
    [{"hears": "atoms"}, {"hears": "mult", "mult": 3}, {"hears": "uhf", "uhf": 2}, {"hears": "moment"}],
    ids=lambda said: said["hears"],
)
def test_a_calculator_that_heard_the_multiplicity(monkeypatch, said):
    spins(monkeypatch, 3, arguments=said)


@pytest.mark.parametrize("said", [{}, {"multiplicity": 3}, {"uhf": 2}, {"hears": "uhf", "multiplicity": 3}])
def test_a_calculator_that_did_not_hear_the_multiplicity_is_refused(monkeypatch, said):
    """An argument that it takes and forgets is not heard."""
    with pytest.raises(InputError, match="same energy with and without the multiplicity 3"):
        spins(monkeypatch, 3, arguments=said)
    for lowest in ({}, {"multiplicity": 1}, {"uhf": 0}):
        spins(monkeypatch, 1, arguments=lowest)


@pytest.mark.parametrize("said", [{"multiplicity": 3}, {"uhf": 2}, {"spin_multiplicity": 2}, {"nopen": 1}])
def test_an_argument_of_another_multiplicity_is_refused(monkeypatch, said):
    with pytest.raises(InputError, match=r"another multiplicity than the deck's, 1") as caught:
        spins(monkeypatch, 1, arguments=said)
    assert caught.value.where == f"labels.arguments.{next(iter(said))}"


def test_the_charge_where_there_is_no_dipole(monkeypatch):
    spins(monkeypatch, 2, 1, dipoles=False, arguments={"hears": "atoms"})
    spins(monkeypatch, 2, 1, dipoles=False, arguments={"hears": "charge", "charge": 1})
    for said in ({}, {"charge": 1}):
        with pytest.raises(InputError, match=r"same energy with and without the total charge \+1"):
            spins(monkeypatch, 2, 1, dipoles=False, arguments=said)


def test_triplets_of_tblite_by_way_of_ase(monkeypatch):
    pytest.importorskip("tblite")
    oxygen = Structure(np.array([8, 8]), np.array([[0.0, 0, 0], [0, 0, 1.2]]) * ANGSTROM, multiplicity=3)
    settings = LabelSettings(engine="ase", calculator="tblite.ase:TBLite", arguments={"verbosity": 0})
    AseEngine(settings).label(oxygen)
    deaf = settings.model_copy(update={"arguments": {"verbosity": 0, "multiplicity": 1}})
    with pytest.raises(InputError, match="another multiplicity"):
        AseEngine(deaf).label(oxygen)


def arrays() -> dict[str, np.ndarray]:
    numbers = np.array([8, 1, 1])
    return {"numbers": numbers, "positions": PLACES, "energy": ENERGY, "forces": FORCES, "dipole": DIPOLE.copy()}


def test_nan_is_missing_where_that_is_allowed(tmp_path):
    held = arrays()
    held["dipole"][3:6] = np.nan
    np.savez(tmp_path / "a.npz", **held)
    assert len(read_dataset(tmp_path / "a.npz", units="ase", missing="allow").having("dipole")) == COUNT - 3
    strict = read_dataset(tmp_path / "a.npz", units="ase")
    assert any("NaN" in finding.text and "--missing allow" in finding.advice for finding in audit(strict))
    text = extxyz(tmp_path / "a.xyz", "").read_text().replace('dipole="', 'dipole="nan ', 1)
    first = text.split("\n")[1]
    (tmp_path / "a.xyz").write_text(
        text.replace(first, first.rsplit(" ", 1)[0], 1).replace('dipole="nan ', 'dipole="nan nan nan" x="', 1)
    )
    assert len(read_dataset(tmp_path / "a.xyz", units="ase", missing="allow").having("dipole")) == COUNT - 1


def deepmd(folder: Path, raw: bool = False) -> Path:
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("1 0 0\n")
    (folder / "type_map.raw").write_text("H\nO\n")
    held = {"coord": PLACES, "energy": ENERGY, "force": FORCES, "dipole": DIPOLE}
    for name, array in held.items():
        flat = array.reshape(COUNT, -1)
        if raw:
            np.savetxt(folder / "set.000" / f"{name}.raw", flat)
        else:
            np.save(folder / "set.000" / f"{name}.npy", flat)
    return folder


@pytest.mark.parametrize("raw", [False, True])
def test_folders_of_deepmd(tmp_path, raw):
    deepmd(tmp_path / "all" / "one", raw)
    deepmd(tmp_path / "all" / "two", raw)
    with pytest.raises(InputError, match="unit of dipole is not declared"):
        read_dataset(tmp_path / "all")
    read = read_dataset(tmp_path / "all", units={"dipole": "e*A"})
    assert len(read) == 2 * COUNT
    np.testing.assert_array_equal(read.frames[0].numbers, [8, 1, 1])
    np.testing.assert_allclose(read.frames[5].positions / ANGSTROM, PLACES[5])
    np.testing.assert_allclose(read.frames[5].forces / EV_PER_ANGSTROM, FORCES[5])
    assert read.frames[5].energy == pytest.approx(ENERGY[5] * EV)
    before = data_digest(tmp_path / "all")
    np.save(tmp_path / "all" / "two" / "set.000" / "energy.npy", ENERGY + 1)
    assert data_digest(tmp_path / "all") != before


def test_other_folders_and_periodic_cells(tmp_path):
    deepmd(tmp_path / "box")
    np.save(tmp_path / "box" / "set.000" / "box.npy", np.tile(10 * np.eye(3).ravel(), (COUNT, 1)))
    with pytest.raises(InputError, match="periodic cell"):
        read_dataset(tmp_path / "box", units="ase")
    (tmp_path / "box" / "nopbc").touch()
    assert len(read_dataset(tmp_path / "box", units="ase")) == COUNT
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="this is a folder, and none of DeePMD-kit's"):
        read_dataset(tmp_path / "other")


def test_one_group_a_molecule_with_published_units(tmp_path):
    with h5py.File(tmp_path / "spice.h5", "w") as file:
        for name in ("water 1", "water 2"):
            group = file.create_group(name)
            group["atomic_numbers"] = [8, 1, 1]
            group["conformations"], group["scf_dipole"] = PLACES, DIPOLE
            group["dft_total_energy"], group["dft_total_gradient"] = ENERGY, FORCES
    read = read_dataset(tmp_path / "spice.h5")
    assert len(read) == 2 * COUNT
    np.testing.assert_allclose(read.frames[3].forces, -FORCES[3])
    np.testing.assert_allclose(read.frames[3].positions, PLACES[3])
    with h5py.File(tmp_path / "qm7x.h5", "w") as file:
        for s in range(COUNT):
            group = file.create_group(f"1/Geom-m1-i1-c1-d{s}")
            group["atNUM"], group["atXYZ"], group["totFOR"], group["vDIP"] = [8, 1, 1], PLACES[s], FORCES[s], DIPOLE[s]
            group["ePBE0+MBD"] = [ENERGY[s]]
    read = read_dataset(tmp_path / "qm7x.h5")
    assert len(read) == COUNT
    np.testing.assert_allclose(sorted(frame.energy for frame in read.frames), np.sort(ENERGY * EV))


@pytest.mark.parametrize("symbols", [True, False])
def test_the_files_of_ani(tmp_path, symbols):
    """ANI-1: nested groups with symbols and arrays of high energies; ANI-2x: numbers for each geometry, and forces."""
    with h5py.File(tmp_path / "ani.h5", "w") as file:
        group = file.create_group("gdb11_s01/gdb11_s01-0" if symbols else "3")
        group["coordinates"], group["energies"] = PLACES.astype("f4"), ENERGY
        if symbols:
            group["species"], group["smiles"] = np.array([b"O", b"H", b"H"]), np.array([b"O", b"[H]"])
            group["coordinatesHE"], group["energiesHE"] = PLACES + 1, ENERGY + 1
        else:
            group["species"], group["forces"] = np.tile([8, 1, 1], (COUNT, 1)), FORCES
    read = read_dataset(tmp_path / "ani.h5")
    assert len(read) == COUNT
    np.testing.assert_array_equal(read.frames[2].numbers, [8, 1, 1])
    np.testing.assert_allclose(read.frames[2].positions / ANGSTROM, PLACES[2], atol=1e-6)
    assert read.frames[2].energy == pytest.approx(ENERGY[2])
    if not symbols:
        np.testing.assert_allclose(read.frames[2].forces * ANGSTROM, FORCES[2])
    with h5py.File(tmp_path / "ani.h5", "a") as file:
        group = file["gdb11_s01/gdb11_s01-0" if symbols else "3"]
        del group["species"]
        group["species"] = np.array([b"O", b"H", b"Q"])
    with pytest.raises(InputError, match=r"no symbol of an element.*'Q'"):
        read_dataset(tmp_path / "ani.h5")


def test_unknown_groups_are_ten_names_and_a_count(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for n in range(500):
            file.create_group(f"molecule {n}")["whatever"] = np.zeros(3)
    with pytest.raises(InputError, match="500 groups") as caught:
        read_dataset(tmp_path / "a.h5")
    assert len(str(caught.value)) < 800
    assert json.dumps(str(caught.value)).count("molecule") == 10


def test_a_model_with_a_number_that_is_not_finite_is_neither_written_nor_read(tmp_path):
    model = random_model(automatic_set((1, 8), 8.0, 3, 1, (1,)), 1)
    model.save(tmp_path / "good")
    model.energy[8].weights[1].flat[2] = np.nan
    with pytest.raises(RunStopped, match=r"weights of layer 2 at \[0, 0, 2\] of the energy networks of O"):
        model.save(tmp_path / "bad")
    assert not list((tmp_path / "bad").glob("*.h5"))


@pytest.mark.parametrize("row", ["nan,1.0,0.1", "700.0,inf,0.1", "100.0,1.0,0.1"])
def test_a_spectrum_with_a_number_that_cannot_be(tmp_path, row):
    lines = [",".join(CSV_COLUMNS), "500.0,1.0,nan", "600.0,2.0,0.1", row]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"a\.csv:4: (the wavenumbers do not ascend|expected three numbers)"):
        Spectrum.from_csv(tmp_path / "a.csv")


def test_weights_of_n2p2_that_are_not_finite(tmp_path):
    (tmp_path / "weights.001.data").write_text("1.0 a\nnan a\n0.5 b\n")
    with pytest.raises(InputError, match=r"weights\.001\.data:2: a number is not finite"):
        read_weights(tmp_path / "weights.001.data", [2, 1])


def test_what_is_not_finite_is_not_written(tmp_path):
    frame = Frame(np.array([8, 1, 1]), WATER, energy=float("nan"), place="geometry 7")
    with pytest.raises(InputError, match="geometry 7: the energy is not finite"):
        write_extxyz(Dataset((frame,)), tmp_path / "a.xyz")
    spectrum = Spectrum(1000 + np.arange(5.0), np.array([1.0, np.nan, 2.0, 0.5, 0.1]), np.zeros(5))
    write_jcamp(spectrum, tmp_path / "a.jdx")
    np.testing.assert_array_equal(
        np.isnan(read_jcamp(tmp_path / "a.jdx").absorption), [False, True, False, False, False]
    )


@pytest.mark.parametrize("name", ["positions", "forces", "dipole"])
def test_numbers_whose_squares_overflow_are_an_error_of_the_audit(tmp_path, name):
    """Found by fuzzing: 1e300 is finite, and its square is not."""
    held = {"positions": PLACES.copy(), "energy": ENERGY, "forces": FORCES.copy(), "dipole": DIPOLE.copy()}
    held[name][3].flat[0] = 1e300
    np.savez(tmp_path / "a.npz", numbers=[8, 1, 1], **held)
    found = audit(read_dataset(tmp_path / "a.npz", units="ase"))
    assert [(one.severity, one.frames) for one in found if one.check == "finite"] == [("error", (3,))]


def test_a_geometry_without_atoms_is_refused(tmp_path):
    """Found by fuzzing: padding alone."""
    held = {"Z": np.zeros((2, 2), int), "R": np.zeros((2, 2, 3)), "E": np.zeros(2), "N": np.zeros(2, int)}
    np.savez(tmp_path / "a.npz", **held)
    keys = {"numbers": "Z", "positions": "R", "energy": "E", "count": "N"}
    with pytest.raises(InputError):
        read_dataset(tmp_path / "a.npz", units="ase", keys=keys)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["m/species"] = np.zeros((2, 2), int)
        file["m/coordinates"], file["m/energies"] = np.zeros((2, 2, 3)), np.zeros(2)
    with pytest.raises(InputError, match="without atoms"):
        read_dataset(tmp_path / "a.h5")


def test_one_molecule_with_two_charges_is_an_error(tmp_path):
    """An ion and its neutral have two surfaces, and a model has one."""
    held = {"numbers": [8, 1, 1], "positions": PLACES, "energy": ENERGY, "forces": FORCES}
    np.savez(tmp_path / "a.npz", **held, charge=np.where(np.arange(COUNT) < 3, 1, 0))
    found = [
        one for one in audit(read_dataset(tmp_path / "a.npz", units="ase")) if "total charges +0 and +1" in one.text
    ]
    assert [(one.severity, one.frames) for one in found] == [("error", (0, 1, 2))]
    np.savez(tmp_path / "b.npz", **held, charge=1)
    assert not any("total charges" in one.text for one in audit(read_dataset(tmp_path / "b.npz", units="ase")))
