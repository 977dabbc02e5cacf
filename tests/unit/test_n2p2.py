"""n2p2 files in and out, against an evaluation in plain loops from n2p2's published definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.errors import InputError
from hpcir.exchange.n2p2 import export_n2p2, import_n2p2
from hpcir.exchange.n2p2.potential import N2p2Potential
from hpcir.models.model import Model
from hpcir.models.networks import NetworkCommittee
from hpcir.units import ANGSTROM, EV

ATOMIC_NUMBER = {"H": 1, "C": 6, "O": 8}
METHANOL = np.array([6, 8, 1, 1, 1, 1])
POSITIONS = ANGSTROM * np.array(
    [
        [-0.047131, 0.664389, 0.02],
        [-0.047131, -0.758551, 0.01],
        [-1.092995, 0.969785, 0.05],
        [0.878534, -1.048458, -0.04],
        [0.437145, 1.080376, 0.891772],
        [0.437145, 1.080376, -0.891772],
    ]
)


def generator(item: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[7, item]))


# ---------------------------------------------------------------- the independent evaluation


def plain_cutoff(kind: int, alpha: float, r: float, rc: float) -> float:
    if r >= rc:
        return 0.0
    if kind in (2, 3):
        return math.tanh(1 - r / rc) ** 3 * (1.0 if kind == 2 else 1 / math.tanh(1.0) ** 3)
    if r < alpha * rc:
        return 1.0
    x = (r - alpha * rc) / (rc - alpha * rc)
    return {
        0: lambda: 1.0,
        1: lambda: 0.5 * (math.cos(math.pi * x) + 1),
        4: lambda: math.exp(1 - 1 / (1 - x * x)),
        5: lambda: (2 * x - 3) * x**2 + 1,
        6: lambda: ((15 - 6 * x) * x - 10) * x**3 + 1,
        7: lambda: (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1,
        8: lambda: (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1,
    }[kind]()


def plain_function(words: list[str], i: int, numbers, positions, kind: int, alpha: float) -> float:
    """One `symfunction_short` line for atom i, by the formulas of n2p2's page on descriptors."""
    others = [j for j in range(len(numbers)) if j != i]
    distance = lambda a, b: float(np.linalg.norm(positions[a] - positions[b]))  # noqa: E731
    if words[1] == "2":
        eta, shift, rc = map(float, words[3:6])
        return sum(
            math.exp(-eta * (distance(i, j) - shift) ** 2) * plain_cutoff(kind, alpha, distance(i, j), rc)
            for j in others
            if numbers[j] == ATOMIC_NUMBER[words[2]]
        )
    eta, lam, zeta, rc = map(float, words[4:8])
    shift = float(words[8]) if len(words) > 8 else 0.0
    wanted, total = sorted(ATOMIC_NUMBER[w] for w in words[2:4]), 0.0
    for j, k in combinations(others, 2):
        if sorted((numbers[j], numbers[k])) != wanted:
            continue
        legs = [distance(i, j), distance(i, k)] + ([distance(j, k)] if words[1] == "3" else [])
        cosine = (positions[j] - positions[i]) @ (positions[k] - positions[i]) / (legs[0] * legs[1])
        term = max(1 + lam * cosine, 0.0) ** zeta
        for r in legs:
            term *= math.exp(-eta * (r - shift) ** 2) * plain_cutoff(kind, alpha, r, rc)
        total += term
    return 2 ** (1 - zeta) * total


def plain_network(features: np.ndarray, folder: Path, z: int, activations: str, sizes: list[int]) -> float:
    rows = [line.split() for line in (folder / f"weights.{z:03d}.data").read_text().splitlines() if line[0] != "#"]
    values, x = iter(float(row[0]) for row in rows), features
    act = {
        "t": np.tanh,
        "p": lambda y: np.log(1 + np.exp(y)),
        "l": lambda y: y,
        "s": lambda y: 1 / (1 + np.exp(-y)),
    }
    for n_in, n_out, letter in zip(sizes[:-1], sizes[1:], activations, strict=True):
        weight = np.array([[next(values) for _ in range(n_out)] for _ in range(n_in)])
        x = act[letter](x @ weight + np.array([next(values) for _ in range(n_out)]))
    return float(x[0])


def plain_atomic(folder: Path, numbers, positions) -> np.ndarray:
    """Every atom's energy (with its atom_energy and mean_energy), in the file's units, from the files alone."""
    lines = [line.split("#")[0].split() for line in (folder / "input.nn").read_text().splitlines()]
    lines = [words for words in lines if words]
    single = {words[0]: words[1:] for words in lines}
    kind = int(single["cutoff_type"][0])
    alpha = float(single["cutoff_type"][1]) if len(single["cutoff_type"]) > 1 else 0.0
    elements = sorted(ATOMIC_NUMBER[s] for s in single["elements"])
    scaling = {}
    if (folder / "scaling.data").is_file():
        for line in (folder / "scaling.data").read_text().splitlines():
            if line[0] != "#":
                words = line.split()
                scaling[elements[int(words[0]) - 1], int(words[1])] = list(map(float, words[2:6]))
    low, high = (float(single.get(f"scale_{m}_short", [d])[0]) for m, d in (("min", 0), ("max", 1)))
    offsets = {ATOMIC_NUMBER[w[1]]: float(w[2]) for w in lines if w[0] == "atom_energy"}
    mean, factor = (float(single.get(key, [d])[0]) for key, d in (("mean_energy", 0), ("conv_energy", 1)))
    result = []
    for i, z in enumerate(numbers):
        own = [w[1:] for w in lines if w[0] == "symfunction_short" and ATOMIC_NUMBER[w[1]] == z]

        def key(w):
            if w[1] == "2":
                return (2, float(w[5]), float(w[3]), float(w[4]), 1, 1, ATOMIC_NUMBER[w[2]], 0)
            pair = sorted(ATOMIC_NUMBER[s] for s in w[2:4])
            shift = float(w[8]) if len(w) > 8 else 0.0
            return (int(w[1]), float(w[7]), float(w[4]), shift, float(w[6]), float(w[5]), *pair)

        x = []
        for n, words in enumerate(sorted(own, key=key), 1):
            g = plain_function(words, i, numbers, positions, kind, alpha)
            if scaling:
                least, most, average, sigma = scaling[int(z), n]
                if "scale_symmetry_functions_sigma" in single:
                    g = low + (high - low) / sigma * (g - average)
                elif "scale_symmetry_functions" in single:
                    start = average if "center_symmetry_functions" in single else least
                    g = low + (high - low) / (most - least) * (g - start)
                elif "center_symmetry_functions" in single:
                    g = g - average
            x.append(g)
        sizes = [len(x), *map(int, single["global_nodes_short"]), 1]
        raw = plain_network(np.array(x), folder, int(z), "".join(single["global_activation_short"]), sizes)
        result.append(raw / factor + mean + offsets.get(int(z), 0.0))
    return np.array(result)


# ---------------------------------------------------------------- potentials to test with


def write_potential(folder: Path, cutoff: str, scaling: list[str], activations: str, extra: str = "") -> Path:
    """A folder as n2p2 keeps it: every function type, lists that differ by element, lines in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    functions = {
        "H": [
            "H 2 O 0.3 1.5 6.0",
            "H 2 C 0.1 0.0 8.0",
            "H 3 O C 0.02 -1 4 8.0",
            "H 9 C H 0.05 1 3.5 7.0 1.2",
        ],
        "C": [
            "C 9 H H 0.04 1.0 2.0 6.5",
            "C 2 H 0.2 0.0 6.0",
            "C 3 H O 0.03 1.0 1.0 6.0 0.5",
            "C 2 H 0.2 0.0 5.0",
        ],
        "O": ["O 2 H 0.5 1.0 6.0", "O 9 H C 0.02 -1.0 8.0 8.0", "O 2 C 0.1 0.0 6.0"],
    }
    nodes = [5, 4][: len(activations) - 1]
    text = [
        "# a potential of random numbers",
        "number_of_elements 3",
        "elements O H C   # in no order",
        f"global_hidden_layers_short {len(nodes)}",
        f"global_nodes_short {' '.join(map(str, nodes))}",
        "global_activation_short " + " ".join(activations),
        f"cutoff_type {cutoff}",
        *scaling,
        "atom_energy O -75.0",
        "atom_energy C -37.5",
        "atom_energy H -0.5",
        *(f"symfunction_short {line}" for lines in functions.values() for line in lines),
        extra,
    ]
    (folder / "input.nn").write_text("\n".join(text) + "\n")
    rows = ["# scaling"]
    for index, (z, symbol) in enumerate([(1, "H"), (6, "C"), (8, "O")], 1):
        random = generator(z)
        for n in range(1, len(functions[symbol]) + 1):
            least, width = random.uniform(0, 0.2), random.uniform(0.5, 1.5)
            average, sigma = least + 0.4 * width, 0.3 * width
            rows.append(f"{index} {n} {least:.16E} {least + width:.16E} {average:.16E} {sigma:.16E}")
        sizes = [len(functions[symbol]), *nodes, 1]
        count = sum((a + 1) * b for a, b in pairwise(sizes))
        (folder / f"weights.{z:03d}.data").write_text(
            "\n".join(f"{value:.16E}" for value in 0.5 * random.standard_normal(count)) + "\n"
        )
    if scaling:
        (folder / "scaling.data").write_text("\n".join(rows) + "\n")
    return folder


def random_model(cutoff_function: str = "polynomial", hidden: tuple[int, ...] = (6, 5)) -> Model:
    """An untrained model of C, H, O whose networks differ in width and use a part of the features."""
    functions = SymmetryFunctionSet(
        elements=(1, 6, 8),
        cutoff=9.0,
        radial=((0.3, 1.5), (0.3, 3.0), (0.05, 4.5)),
        shells=((0.1, 1.5), (0.04, 3.0)),
        angles=((1, 1), (1, -1), (4, 1)),
        cutoff_function=cutoff_function,
    )

    def committee(z: int, outputs: int) -> NetworkCommittee:
        random = generator(100 * outputs + z)
        active = np.sort(random.choice(functions.n_features, functions.n_features - z, replace=False))
        sizes = [len(active), hidden[0] + z % 3, *hidden[1:], outputs]
        pairs = list(pairwise(sizes))
        return NetworkCommittee(
            active=active,
            shift=random.uniform(0.0, 0.5, len(active)),
            scale=random.uniform(0.3, 3.0, len(active)),
            weights=tuple(random.standard_normal((2, b, a)) / np.sqrt(a) for a, b in pairs),
            biases=tuple(0.3 * random.standard_normal((2, b)) for _, b in pairs),
        )

    return Model(
        functions=functions,
        energy={z: committee(z, 1) for z in (1, 6, 8)},
        charge={z: committee(z, 3) for z in (1, 6, 8)},
        offsets={1: -0.5, 6: -37.8, 8: -75.1},
        level="random\nnumbers",
    )


def plain_features(model: Model, numbers, positions) -> np.ndarray:
    """(N, F) features of a model by its definition's formulas, in plain loops."""
    functions = model.functions
    kind = {"polynomial": 6, "cosine": 1, "tanh3": 2}[functions.cutoff_function]
    names = {z: s for s, z in ATOMIC_NUMBER.items()}
    rows = []
    for i in range(len(numbers)):
        lines = [
            ["X", "2", names[z], eta, shift, functions.cutoff]
            for z in functions.elements
            for eta, shift in functions.radial
        ]
        lines += [
            [
                "X",
                "9",
                names[functions.elements[a]],
                names[functions.elements[b]],
                eta,
                lam,
                zeta,
                functions.cutoff,
                rs,
            ]
            for a, b in functions.pairs
            for eta, rs in functions.shells
            for zeta, lam in functions.angles
        ]
        rows.append([plain_function(w, i, numbers, positions, kind, 0.0) for w in lines])
    return np.array(rows)


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize("cutoff", ["0", "1", "1 0.3", "2", "3", "4", "5", "6", "6 0.4", "7", "8 0.2"])
def test_import_agrees_with_plain_loops_for_every_cutoff_function(tmp_path, cutoff):
    folder = write_potential(tmp_path, cutoff, ["scale_symmetry_functions_sigma", "scale_max_short 2.0"], "ttl")
    result = import_n2p2(folder).evaluate(METHANOL, POSITIONS)
    assert result.energy == pytest.approx(plain_atomic(folder, METHANOL, POSITIONS).sum(), rel=1e-13)


@pytest.mark.parametrize(
    "scaling",
    [
        [],
        ["scale_symmetry_functions"],
        ["center_symmetry_functions"],
        [
            "scale_symmetry_functions",
            "center_symmetry_functions",
            "scale_min_short -1.0",
            "scale_max_short 0.5",
        ],
        ["scale_symmetry_functions_sigma", "scale_min_short 0.2"],
    ],
    ids=lambda s: "+".join(w.split("_")[0] for w in s) or "none",
)
@pytest.mark.parametrize("activations", ["ttl", "ppl", "stl", "tl"])
def test_import_agrees_for_every_scaling_and_activation(tmp_path, scaling, activations):
    folder = write_potential(tmp_path, "1", scaling, activations)
    result = import_n2p2(folder).evaluate(METHANOL, POSITIONS)
    assert result.energy == pytest.approx(plain_atomic(folder, METHANOL, POSITIONS).sum(), rel=1e-13)


def test_normalised_energies(tmp_path):
    extra = "mean_energy -1.25\nconv_energy 37.0\nconv_length 1.7"
    folder = write_potential(tmp_path, "2", ["scale_symmetry_functions"], "ttl", extra)
    plain = plain_atomic(folder, METHANOL, POSITIONS).sum()
    assert import_n2p2(folder).evaluate(METHANOL, POSITIONS).energy == pytest.approx(plain, rel=1e-13)


def test_normalised_nodes_divide_weights_and_biases_by_the_number_of_inputs(tmp_path):
    plain = import_n2p2(write_potential(tmp_path / "a", "1", [], "ttl")).energy[0].elements[8]
    divided = import_n2p2(write_potential(tmp_path / "b", "1", [], "ttl", "normalize_nodes")).energy[0].elements[8]
    for layer, count in enumerate((3, 5, 4)):
        np.testing.assert_allclose(divided.weights[layer] * count, plain.weights[layer], rtol=1e-15)
        np.testing.assert_allclose(divided.biases[layer] * count, plain.biases[layer], rtol=1e-15)


@pytest.mark.parametrize("cutoff", ["1", "2", "4 0.1", "5", "6", "7", "8 0.3"])
def test_imported_forces_are_the_gradient(tmp_path, cutoff):
    potential = import_n2p2(write_potential(tmp_path, cutoff, ["scale_symmetry_functions_sigma"], "tpl"))
    forces, step = potential.evaluate(METHANOL, POSITIONS).forces, 1e-4
    for atom in range(len(METHANOL)):
        for axis in range(3):
            move = np.zeros_like(POSITIONS)
            move[atom, axis] = step
            up, down = (potential.evaluate(METHANOL, POSITIONS + s * move).energy for s in (1, -1))
            assert forces[atom, axis] == pytest.approx(-(up - down) / (2 * step), abs=2e-7)
    np.testing.assert_allclose(forces.sum(0), 0.0, atol=1e-13)


def test_a_large_periodic_cell_is_a_molecule_and_images_repeat(tmp_path):
    potential = import_n2p2(write_potential(tmp_path, "6", [], "ttl"))
    free = potential.evaluate(METHANOL, POSITIONS)
    boxed = potential.evaluate(METHANOL, POSITIONS, cell=40.0 * np.eye(3))
    assert boxed.energy == pytest.approx(free.energy, rel=1e-14)
    np.testing.assert_allclose(boxed.forces, free.forces, atol=1e-14)
    cell = np.diag([9.0, 10.0, 11.0])  # shorter than twice the cutoff: every image counts
    one = potential.evaluate(METHANOL, POSITIONS, cell=cell)
    double = np.concatenate([POSITIONS, POSITIONS + cell[0]])
    two = potential.evaluate(np.tile(METHANOL, 2), double, cell=np.diag([18.0, 10.0, 11.0]))
    assert two.energy == pytest.approx(2 * one.energy, rel=1e-13)
    np.testing.assert_allclose(two.forces, np.tile(one.forces, (2, 1)), atol=1e-13)


def test_declared_units(tmp_path):
    folder = write_potential(tmp_path, "1", ["scale_symmetry_functions_sigma"], "ttl")
    atomic = import_n2p2(folder).evaluate(METHANOL, POSITIONS)
    metal = import_n2p2(folder, energy_unit="eV", length_unit="A").evaluate(METHANOL, POSITIONS * ANGSTROM)
    assert metal.energy == pytest.approx(EV * atomic.energy, rel=1e-13)
    np.testing.assert_allclose(metal.forces, EV / ANGSTROM * atomic.forces, rtol=1e-10, atol=1e-15)
    with pytest.raises(InputError, match="unit"):
        import_n2p2(folder, energy_unit="ev")


@pytest.mark.parametrize("cutoff_function", ["polynomial", "cosine", "tanh3"])
def test_export_evaluates_to_the_models_energy(tmp_path, cutoff_function):
    model = random_model(cutoff_function)
    features = plain_features(model, METHANOL, POSITIONS)
    for member in range(2):
        atomic = [model.energy[int(z)].evaluate(features[[i]])[0][member, 0, 0] for i, z in enumerate(METHANOL)]
        energy = sum(atomic) + sum(model.offsets[int(z)] for z in METHANOL)
        folder = tmp_path / str(member)
        export_n2p2(model, folder, member)
        assert plain_atomic(folder, METHANOL, POSITIONS).sum() == pytest.approx(energy, rel=1e-13)
        assert import_n2p2(folder).evaluate(METHANOL, POSITIONS).energy == pytest.approx(energy, rel=1e-13)


def charges_alone(model: Model) -> Model:
    """The model without its atomic dipoles."""
    networks = {
        z: replace(c, weights=(*c.weights[:-1], c.weights[-1][:, :1]), biases=(*c.biases[:-1], c.biases[-1][:, :1]))
        for z, c in model.charge.items()
    }
    return replace(model, charge=networks)


@pytest.mark.parametrize("whole", [True, False])
def test_export_carries_the_charge_networks(tmp_path, whole):
    """Charges that are a part of the dipole are written, and no import makes a wrong dipole of them by itself."""
    model = replace(charges_alone(random_model()) if whole else random_model(), total_charge=1)
    exported = export_n2p2(model, tmp_path)
    assert any("atomic dipoles" in note for note in exported.notes) != whole
    assert all(path.is_file() for path in exported.files)
    features = plain_features(model, METHANOL, POSITIONS)
    raw = np.array([model.charge[int(z)].evaluate(features[[i]])[0][0, 0, 0] for i, z in enumerate(METHANOL)])
    folder = tmp_path / ("charges" if whole else "charges-without-atomic-dipoles")
    np.testing.assert_allclose(plain_atomic(folder, METHANOL, POSITIONS), raw, rtol=1e-12)
    if not whole:
        assert np.all(np.isnan(import_n2p2(tmp_path, total_charge=1).evaluate(METHANOL, POSITIONS).dipole))
    charges = None if whole else folder
    result = import_n2p2(tmp_path, charges=charges, total_charge=1).evaluate(METHANOL, POSITIONS)
    np.testing.assert_allclose(result.charges, raw + (1 - raw.sum()) / 6, rtol=1e-11)
    origin = METHANOL @ POSITIONS / METHANOL.sum()
    np.testing.assert_allclose(result.dipole, result.charges @ (POSITIONS - origin), rtol=1e-12)


def test_exported_forces_are_those_of_the_fast_kernels(tmp_path):
    pytest.importorskip("hpcir.models.evaluator")
    model = random_model()
    folders = [tmp_path / str(m) for m in range(2)]
    for member, folder in enumerate(folders):
        export_n2p2(model, folder, member)
    ours, theirs = model.evaluate(METHANOL, POSITIONS), import_n2p2(folders).evaluate(METHANOL, POSITIONS)
    assert theirs.energy == pytest.approx(ours.energy, rel=1e-12)
    assert theirs.energy_spread == pytest.approx(ours.energy_spread, rel=1e-8)
    scale = np.abs(ours.forces).max()
    np.testing.assert_allclose(theirs.forces, ours.forces, atol=1e-11 * scale)
    np.testing.assert_allclose(theirs.forces_spread, ours.forces_spread, atol=1e-10 * scale)


def test_saved_and_loaded_potential_is_the_same(tmp_path):
    potential = import_n2p2(write_potential(tmp_path / "in", "6 0.1", ["scale_symmetry_functions"], "ppl"))
    loaded = N2p2Potential.load(potential.save(tmp_path / "out"))
    before, after = (p.evaluate(METHANOL, POSITIONS) for p in (potential, loaded))
    assert after.energy == before.energy
    np.testing.assert_array_equal(after.forces, before.forces)
    assert np.isnan(after.dipole).all()  # no charge network: unknown, not zero


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cutoff_type 1", "cutoff_type 9", "cutoff_type"),
        ("cutoff_type 1", "", "no 'cutoff_type' keyword. Without it RuNNer takes the cosine"),
        ("cutoff_type 1", "cutoff_type 1\ncutoff_alpha 0.3", "inner cutoff .* 'cutoff_alpha'.*Write 'cutoff_type TYPE"),
        ("cutoff_type 1", "cutoff_type 1\nglobal_symfunction_short 2 0.1 0 8", "Write a line 'symfunction_short' for"),
        (
            "cutoff_type 1",
            "cutoff_type 1\nsymfunction_short H 13 0.1 0.2 1.0 8.0 9.0",
            "type .weighted angular. cannot",
        ),
        ("symfunction_short H 2 O 0.3 1.5 6.0", "symfunction_short H 12 0.3 1.5 6.0", "type"),
        ("symfunction_short H 2 O 0.3 1.5 6.0", "symfunction_short H 2 O 0.3", "too few"),
        ("symfunction_short H 2 O 0.3 1.5 6.0", "symfunction_short H 2 N 0.3 1.5 6.0", "does not name"),
        ("global_nodes_short 5 4", "global_nodes_short 5", "agree"),
        ("global_nodes_short 5 4", "global_nodes_short 5 3", "weights and biases"),
        ("t t l", "t t t", "linear"),
        ("number_of_elements 3", "nnp_type 4G-HDNNP", "2G"),
        ("elements O H C", "elements O Hx C", "no such element"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, old, new, message):
    folder = write_potential(tmp_path, "1", [], "ttl")
    text = (folder / "input.nn").read_text()
    assert old in text
    (folder / "input.nn").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        import_n2p2(folder)


def test_scaling_that_does_not_fit_is_named(tmp_path):
    folder = write_potential(tmp_path, "1", ["scale_symmetry_functions"], "ttl")
    lines = (folder / "scaling.data").read_text().splitlines()
    (folder / "scaling.data").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match="scaling data of 2"):
        import_n2p2(folder)
    words = lines[-1].split()
    (folder / "scaling.data").write_text("\n".join([*lines[:-1], " ".join([*words[:3], words[2], *words[4:]])]) + "\n")
    with pytest.raises(InputError, match="no spread"):
        import_n2p2(folder)


def test_unknown_element_and_member(tmp_path):
    potential = import_n2p2(write_potential(tmp_path, "1", [], "ttl"))
    with pytest.raises(InputError, match="no network for N"):
        potential.evaluate(np.array([7, 1]), POSITIONS[:2])
    with pytest.raises(InputError, match="member"):
        export_n2p2(random_model(), tmp_path / "x", member=2)


def test_networks_of_their_own_size(tmp_path):
    folder = write_potential(tmp_path, "1", [], "ttl", "element_nodes_short O 2 7")
    count = 3 * 5 + 5 + 5 * 7 + 7 + 7 + 1
    values = 0.4 * generator(3).standard_normal(count)
    (folder / "weights.008.data").write_text("\n".join(f"{v:.16E}" for v in values))
    network = import_n2p2(folder).energy[0].elements[8]
    assert [w.shape for w in network.weights] == [(5, 3), (7, 5), (1, 7)]
    assert network.biases[1] == pytest.approx(values[55:62])


def test_models_print_what_they_are(tmp_path):
    model = replace(random_model(), level="<b>PBE</b>")
    for thing in (model, import_n2p2(write_potential(tmp_path, "1", [], "ttl"), level="<b>PBE</b>")):
        assert "H, C, O" in repr(thing)
        assert "PBE" in repr(thing)
        assert len(repr(thing)) < 1000
        assert "&lt;b&gt;PBE" in thing._repr_html_()
        assert "<b>" not in thing._repr_html_()
    assert "2 members" in repr(model)
    learnt = replace(model, error={"held_out": 7.0, "force_rmse": 1e-3, "force_calibration": 1.5})
    assert "held-out errors (7 geometries): force 1.19 kcal/mol/A" in repr(learnt)
    assert "true error over spread: force 1.50" in repr(learnt)
