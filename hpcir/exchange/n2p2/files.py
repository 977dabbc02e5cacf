"""The files of n2p2 and RuNNer: input.nn (settings), scaling.data, weights.ZZZ.data; reading and writing.

Formats as documented by n2p2 (Singraber, Behler, Dellago, J. Chem. Theory Comput. 15, 1827, 2019). A symmetry
function is a line `symfunction_short X 2 A eta rs rc` or `symfunction_short X 3|9 A B eta lambda zeta rc [rs]`.
Within an element n2p2 sorts them by type, then rc, eta, rs, (zeta, lambda,) neighbour elements; scaling.data and
the networks' inputs follow that order, not the order of the lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError

SUPPORTED_TYPES = (2, 3, 9)
# Keywords that change the energy and are not supported -> their meaning.
UNSUPPORTED_KEYWORDS = {
    "use_electrostatics": "a potential with electrostatics (3G)",
    "global_symfunction_short": "symmetry functions given for all elements at once",
    "element_symfunction_short": "symmetry functions given for all neighbours at once",
    "element_hidden_layers_short": "networks of a depth of their own per element",
    "element_activation_short": "activation functions of their own per element",
    "use_damping": "a damped short range",
    "cutoff_alpha": "an inner cutoff radius under this name (n2p2 has it as the second number of cutoff_type)",
    "use_vdw": "a dispersion correction",
}

_ONE_EACH = "write a line 'symfunction_short' for each centre and its neighbours, as n2p2 wants them too"
HINTS = {
    "global_symfunction_short": _ONE_EACH,
    "element_symfunction_short": _ONE_EACH,
    "cutoff_alpha": "write 'cutoff_type TYPE ALPHA'",
    "cutoff_type": "without it RuNNer takes the cosine: then add the line 'cutoff_type 1'",
}
# Names of n2p2's other types of symmetry functions.
OTHER_TYPES = {
    12: "weighted radial", 13: "weighted angular", 20: "compact radial", 21: "compact narrow angular",
    22: "compact wide angular", 23: "compact weighted radial", 24: "compact weighted narrow angular",
    25: "compact weighted wide angular",
}  # fmt: skip

# Keywords that determine the energy, all supported. conv_length and the number of elements follow from the others:
# lengths and cutoffs are scaled alike, so that the functions' values stay.
ENERGY_KEYWORDS = {
    "atom_energy", "center_symmetry_functions", "conv_energy", "conv_length", "cutoff_type", "element_nodes_short",
    "elements", "global_activation_short", "global_hidden_layers_short", "global_nodes_short", "mean_energy",
    "nn_type_short", "nnp_gen", "nnp_type", "normalize_nodes", "number_of_elements", "scale_max_short",
    "scale_min_short", "scale_symmetry_functions", "scale_symmetry_functions_sigma", "symfunction_short",
}  # fmt: skip
# Beginnings of keywords of training and output in n2p2 and RuNNer, which do not change the energy.
TRAINING_KEYWORDS = (
    "analyze_", "bond_threshold", "calculate_", "data_set_normalization", "energies_per_", "enforce_", "epochs",
    "fitting_unit", "force_", "forces_per_", "gradient_", "jacobian_mode", "kalman_", "main_error_metric",
    "memorize_", "mix_all_points", "nguyen_widrow_", "normalize_data_set", "optmode_", "parallel_mode",
    "points_in_memory", "precondition_", "print_", "random_", "remove_atom_energies", "repeated_energy_update",
    "rmse_threshold",
    "runner_mode", "save_", "screen_", "selection_mode", "short_energy_", "short_force_", "task_batch_size",
    "test_fraction", "update_strategy", "updater_type", "use_old_", "use_short_", "use_systematic_", "weights_",
    "worst_", "write_",
)  # fmt: skip


# Most neurons of a layer: a limit on the memory that a damaged file can ask for.
MAX_NODES = 10_000


@dataclass(frozen=True, order=True)
class FunctionLine:
    """One symmetry function, its fields in the order by which n2p2 sorts the functions of an element."""

    kind: int
    cutoff: float
    eta: float
    shift: float
    zeta: float
    lam: float
    first: int
    second: int


@dataclass(frozen=True)
class Settings:
    """Settings of input.nn, in its own units. functions: centre element -> its functions in n2p2's order."""

    elements: tuple[int, ...]
    functions: dict[int, list[FunctionLine]]
    hidden: dict[int, tuple[int, ...]]
    activations: str
    normalise_nodes: bool
    cutoff_type: int
    alpha: float
    scaling: str
    scale_min: float
    scale_max: float
    atom_energy: dict[int, float]
    mean_energy: float
    conv_energy: float


def read_settings(path: Path) -> Settings:
    """Read input.nn. Raises InputError, with the line's number, for what is wrong or not supported."""
    lines = _keyword_lines(path)
    for keyword, what in UNSUPPORTED_KEYWORDS.items():
        if keyword in lines:
            hint = HINTS.get(keyword, "potentials of atomic energies with functions of types 2, 3 and 9 can be read")
            where = f"{path}:{lines[keyword][0][0]}"
            raise InputError(f"{what} cannot be read", where=where, value=keyword, hint=hint)
    _check_type(path, lines)
    elements = tuple(sorted({_element(s, path, n) for n, words in lines.get("elements", []) for s in words}))
    if not elements:
        raise InputError("no 'elements' keyword", where=str(path), hint="it names the elements, as in 'elements O H'")
    hidden = tuple(_whole(lines, "global_nodes_short", path))
    layers = _whole(lines, "global_hidden_layers_short", path)[0]
    activations = "".join(_words(lines, "global_activation_short", path))
    if len(hidden) != layers or len(activations) != layers + 1:
        raise InputError(
            "global_hidden_layers_short, global_nodes_short and global_activation_short do not agree",
            where=str(path),
            value=f"{layers} layers, nodes {hidden}, activations {activations}",
        )
    cutoff = _words(lines, "cutoff_type", path)
    if cutoff[0] not in map(str, range(9)):
        raise InputError("unknown cutoff_type", where=str(path), value=cutoff[0], hint="valid: 0 to 8")
    return Settings(
        elements=elements,
        functions=_functions(path, lines, elements),
        hidden=_hidden(path, lines, elements, hidden),
        activations=activations,
        normalise_nodes="normalize_nodes" in lines,
        cutoff_type=int(cutoff[0]),
        alpha=_number(cutoff[1], path, 0) if len(cutoff) > 1 else 0.0,
        scaling=_scaling(lines),
        scale_min=_single(lines, "scale_min_short", path, 0.0),
        scale_max=_single(lines, "scale_max_short", path, 1.0),
        atom_energy=dict(_atom_energy(w, path, n) for n, w in lines.get("atom_energy", [])),
        mean_energy=_single(lines, "mean_energy", path, 0.0),
        conv_energy=_single(lines, "conv_energy", path, 1.0, positive=True),
    )


def unknown_keywords(path: Path) -> list[tuple[str, int]]:
    """Keywords of input.nn, with their line, that are neither read nor known to say nothing about the energy."""
    lines = _keyword_lines(path)
    return [
        (word, found[0][0])
        for word, found in lines.items()
        if word not in ENERGY_KEYWORDS and not word.startswith(TRAINING_KEYWORDS)
    ]


def _keyword_lines(path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """keyword -> [(line number, words after it)], comments (# and, as RuNNer allows, !) removed."""
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint="an n2p2 potential is a folder with input.nn")
    found: dict[str, list[tuple[int, list[str]]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split("#")[0].split("!")[0].split()
        if words:
            found.setdefault(words[0], []).append((number, words[1:]))
    return found


def _check_type(path: Path, lines: dict[str, list[tuple[int, list[str]]]]) -> None:
    for keyword, valid in (("nnp_type", ("2", "2G-HDNNP")), ("nn_type_short", ("1",))):
        for number, words in lines.get(keyword, []):
            if words and words[0] not in valid:
                raise InputError(
                    "not a short-range (2G) potential",
                    where=f"{path}:{number}",
                    value=f"{keyword} {words[0]}",
                    hint="only potentials of atomic energies without electrostatics can be read",
                )


def _hidden(
    path: Path,
    lines: dict[str, list[tuple[int, list[str]]]],
    elements: tuple[int, ...],
    common: tuple[int, ...],
) -> dict[int, tuple[int, ...]]:
    """Neurons of the hidden layers of every element: the common ones, and what element_nodes_short changes."""
    hidden = {z: list(common) for z in elements}
    for number, words in lines.get("element_nodes_short", []):
        try:
            layer, nodes = int(words[1]), int(words[2])
            if layer < 1 or not 1 <= nodes <= MAX_NODES:
                raise ValueError
            hidden[_element(words[0], path, number)][layer - 1] = nodes
        except (IndexError, KeyError, ValueError):
            raise InputError(
                "expected an element, a hidden layer and its neurons",
                where=f"{path}:{number}",
                value=" ".join(words),
            ) from None
    return {z: tuple(nodes) for z, nodes in hidden.items()}


def _functions(
    path: Path, lines: dict[str, list[tuple[int, list[str]]]], elements: tuple[int, ...]
) -> dict[int, list[FunctionLine]]:
    functions: dict[int, list[FunctionLine]] = {z: [] for z in elements}
    for number, words in lines.get("symfunction_short", []):
        try:
            centre, kind = _element(words[0], path, number), int(words[1])
            line = _function(kind, words[2:], path, number)
        except (IndexError, ValueError) as error:
            raise InputError(
                "the symmetry function has too few or wrong parameters",
                where=f"{path}:{number}",
                value=" ".join(words),
                hint="symfunction_short X 2 A eta rs rc, or X 3 A B eta lambda zeta rc [rs]",
            ) from error
        if centre not in functions or line.first not in elements or (line.second or line.first) not in elements:
            raise InputError("an element that 'elements' does not name", where=f"{path}:{number}", value=words)
        functions[centre].append(line)
    for z, found in functions.items():
        if not found:
            raise InputError(f"no symmetry function for element number {z}", where=str(path))
        found.sort()
    return functions


def _function(kind: int, words: list[str], path: Path, number: int) -> FunctionLine:
    if kind == 2:
        eta, shift, cutoff = (_number(w, path, number) for w in words[1:4])
        _check_cutoff(cutoff, path, number)
        return FunctionLine(2, cutoff, eta, shift, 1.0, 1.0, _element(words[0], path, number), 0)
    if kind in (3, 9):
        eta, lam, zeta, cutoff = (_number(w, path, number) for w in words[2:6])
        shift = _number(words[6], path, number) if len(words) > 6 else 0.0
        _check_cutoff(cutoff, path, number)
        first, second = sorted(_element(w, path, number) for w in words[:2])
        return FunctionLine(kind, cutoff, eta, shift, zeta, lam, first, second)
    called = f" ({OTHER_TYPES[kind]})" if kind in OTHER_TYPES else ""
    raise InputError(
        f"a symmetry function of this type{called} cannot be read",
        where=f"{path}:{number}",
        value=kind,
        hint="supported: " + ", ".join(map(str, SUPPORTED_TYPES)),
    )


def _check_cutoff(cutoff: float, path: Path, number: int) -> None:
    if cutoff <= 0:
        raise InputError("the cutoff radius must be positive", where=f"{path}:{number}", value=cutoff)


def _atom_energy(words: list[str], path: Path, number: int) -> tuple[int, float]:
    if len(words) < 2:
        raise InputError("'atom_energy' needs an element and a number", where=f"{path}:{number}", value=" ".join(words))
    return _element(words[0], path, number), _number(words[1], path, number)


def _whole(lines: dict[str, list[tuple[int, list[str]]]], keyword: str, path: Path) -> list[int]:
    """The whole numbers, 1 to MAX_NODES, of a keyword, one or more."""
    words = _words(lines, keyword, path)
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= MAX_NODES for word in words):
        where = f"{path}:{lines[keyword][0][0]}"
        raise InputError(f"'{keyword}' needs whole numbers from 1 to {MAX_NODES}", where=where, value=" ".join(words))
    return [int(word) for word in words]


def _scaling(lines: dict[str, list[tuple[int, list[str]]]]) -> str:
    if "scale_symmetry_functions_sigma" in lines:
        return "sigma"
    scale, middle = "scale_symmetry_functions" in lines, "center_symmetry_functions" in lines
    return ("scale" if scale else "") + ("center" if middle else "") or "none"


def _element(symbol: str, path: Path, number: int) -> int:
    from ase.data import atomic_numbers

    if symbol not in atomic_numbers or symbol == "X":
        raise InputError("no such element", where=f"{path}:{number}", value=symbol)
    return int(atomic_numbers[symbol])


def _number(word: str, path: Path, line: int) -> float:
    where = f"{path}:{line}" if line else str(path)
    try:
        value = float(word.replace("d", "e").replace("D", "e"))
    except ValueError:
        raise InputError("expected a number", where=where, value=word) from None
    if not np.isfinite(value):
        raise InputError("a number is not finite", where=where, value=word)
    return value


def _words(lines: dict[str, list[tuple[int, list[str]]]], keyword: str, path: Path) -> list[str]:
    if keyword not in lines:
        raise InputError(f"no '{keyword}' keyword", where=str(path), hint=HINTS.get(keyword, ""))
    number, words = lines[keyword][0]
    if not words:
        raise InputError(f"nothing after '{keyword}'", where=f"{path}:{number}")
    return words


def _single(
    lines: dict[str, list[tuple[int, list[str]]]], keyword: str, path: Path, default: float, positive: bool = False
) -> float:
    if keyword not in lines:
        return default
    number, words = lines[keyword][0]
    if not words:
        raise InputError(f"'{keyword}' needs a number", where=f"{path}:{number}")
    value = _number(words[0], path, number)
    if positive and value <= 0:
        raise InputError(f"'{keyword}' must be positive", where=f"{path}:{number}", value=value)
    return value


def read_scaling(path: Path, settings: Settings) -> dict[int, FloatArray]:
    """Element -> (F, 4): minimum, maximum, mean and standard deviation (NaN where the file has none)."""
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint="input.nn asks for scaled symmetry functions")
    found: dict[int, dict[int, list[float]]] = {z: {} for z in settings.elements}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split("#")[0].split()
        if len(words) < 5:  # RuNNer ends the file with a line of energies, which n2p2 does not write
            continue
        try:
            element, function = int(words[0]), int(words[1])
            if element < 1:
                raise ValueError
            found[settings.elements[element - 1]][function - 1] = [_number(w, path, number) for w in words[2:6]]
        except (ValueError, IndexError):
            raise InputError("not a line of scaling data", where=f"{path}:{number}", value=line.strip()) from None
    table = {}
    for z, rows in found.items():
        wanted = len(settings.functions[z])
        if sorted(rows) != list(range(wanted)):
            raise InputError(
                f"scaling data of {len(rows)} symmetry functions for element number {z}",
                where=str(path),
                hint=f"input.nn has {wanted}",
            )
        table[z] = np.array([(rows[n] + [np.nan])[:4] for n in range(wanted)])
    return table


def read_weights(path: Path, sizes: list[int]) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Weights (n_out, n_in) and biases (n_out,) of every layer, for layer sizes from input to output."""
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    values, letters = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            values.append(_number(words[0], path, number))
            letters.append(words[1] if len(words) > 1 else "")
    pairs = list(pairwise(sizes))
    wanted = sum((n_in + 1) * n_out for n_in, n_out in pairs)
    expected = "".join("a" * (n_in * n_out) + "b" * n_out for n_in, n_out in pairs)
    if len(values) != wanted or (any(letters) and "".join(letters) != expected):
        raise InputError(
            f"{len(values)} weights and biases, or not in the order layer by layer",
            where=str(path),
            hint=f"a network {'-'.join(map(str, sizes))} has {wanted}",
        )
    flat, place, weights, biases = np.array(values), 0, [], []
    for n_in, n_out in pairs:
        weights.append(flat[place : place + n_in * n_out].reshape(n_in, n_out).T.copy())
        place += n_in * n_out
        biases.append(flat[place : place + n_out].copy())
        place += n_out
    return tuple(weights), tuple(biases)


def format_function(centre: str, line: FunctionLine, names: dict[int, str]) -> str:
    """The line of input.nn of one symmetry function; 17 digits, so that reading gives the same number back."""
    first = f"symfunction_short {centre:>2} {line.kind} {names[line.first]:>2}"
    if line.kind == 2:
        return f"{first} {line.eta:.17g} {line.shift:.17g} {line.cutoff:.17g}"
    return (
        f"{first} {names[line.second]:>2} {line.eta:.17g} {line.lam:.17g} {line.zeta:.17g} {line.cutoff:.17g} "
        f"{line.shift:.17g}"
    )


def format_weights(weights: list[FloatArray], biases: list[FloatArray]) -> str:
    """The text of weights.ZZZ.data: value, a or b, running index, layer and neuron from, layer and neuron to."""
    rows = ["# value, a (weight) or b (bias), index, layer and neuron of start, layer and neuron of end"]
    index = 0
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), 1):
        for start in range(weight.shape[1]):
            for end in range(weight.shape[0]):
                index += 1
                rows.append(
                    f"{weight[end, start]:24.16E} a {index:9d} {layer - 1:5d} {start + 1:5d} {layer:5d} {end + 1:5d}"
                )
        for end, value in enumerate(bias, 1):
            index += 1
            rows.append(f"{value:24.16E} b {index:9d} {layer:5d} {end:5d}")
    return "\n".join(rows) + "\n"
