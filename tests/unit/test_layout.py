"""The shape of the package: imports point downwards and in no circle (ARCHITECTURE.md); folders, files and functions
are small; one molecule and several go one road."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from tests.unit.source import circles, functions, import_graph, module_name, texts, trees

SCIENCE = 4
MAX_MODULES = 16
MAX_LOOSE_MODULES = 6
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
# Mentions of Any in study and report: values of JSON, of HDF5 attributes and of plotting libraries.
MAX_ANY = 99
LEVELS = {
    **dict.fromkeys(("arrays", "errors", "units", "version"), 0),
    **dict.fromkeys(("runtime", "storage"), 1),
    "molecules": 2,
    "deck": 3,
    **dict.fromkeys(
        ("labels", "descriptors", "models", "training", "vibrations", "sampling", "dynamics", "spectra", "exchange"),
        SCIENCE,
    ),
    "study": 5,
    "ase": 5,
    "report": 6,
    "commands": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 9,
}


def top(path: str) -> str:
    """The folder or loose module of the package that a file belongs to."""
    return path.split("/")[0].removesuffix(".py")


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_part_of_the_package_has_a_level():
    assert {top(path) for path in texts()} <= LEVELS.keys()


def test_imports_point_downwards():
    assert LEVELS["__init__"] == max(LEVELS.values())
    wrong = [
        f"{path} imports {target}"
        for path in texts()
        for target in import_graph()[module_name(path)]
        if path != "__init__.py" and LEVELS[part(target)] > LEVELS[top(path)]
    ]
    assert wrong == []


def test_no_module_imports_itself_over_others():
    """Imports in functions and for types count, too."""
    assert circles(import_graph()) == []


def test_science_packages_have_no_cycles():
    edges: dict[str, set[str]] = {}
    for module, targets in import_graph().items():
        own = part(module)
        if LEVELS[own] == SCIENCE:
            science = {part(target) for target in targets if LEVELS[part(target)] == SCIENCE}
            edges.setdefault(own, set()).update(science - {own})
    assert circles(edges) == []


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": set()}, [["a", "b", "c"]]),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
    ],
)
def test_the_check_finds_circles(graph, expected):
    assert sorted(circles(graph)) == expected


def test_folders_hold_few_modules():
    counts = Counter(path.rpartition("/")[0] for path in texts() if not path.endswith("__init__.py"))
    loose = counts.pop("")
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}
    assert loose <= MAX_LOOSE_MODULES


def test_functions_fit_on_a_screen_and_files_have_one_subject():
    long = [
        f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path, node in functions()
        if node.end_lineno is not None and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []
    assert {path: text.count("\n") for path, text in texts().items() if text.count("\n") > MAX_FILE_LINES} == {}


def test_study_and_report_say_their_types():
    names = [
        node
        for path, tree in trees().items()
        if top(path) in ("study", "report")
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert len(names) <= MAX_ANY


def test_one_molecule_is_no_special_case():
    """Nothing in study and report asks whether a study is a series."""
    pattern = re.compile(r"\bis_series\b|\b(if|elif|and|or|not)( not)? (\w+\.)*series\b")
    wrong = [
        f"{path}:{number} {line.strip()}"
        for path, text in texts().items()
        if top(path) in ("study", "report")
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert wrong == []


def test_only_mpi_imports_mpi4py():
    wrong = [
        path
        for path, tree in trees().items()
        if path != "runtime/mpi.py" and "mpi4py" in texts()[path]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and "mpi4py" in (getattr(node, "module", None) or " ".join(alias.name for alias in node.names))
    ]
    assert wrong == []


def test_nothing_is_pickled():
    words = ("import pickle", "allow_pickle=True", "torch.load")
    assert [path for path, text in texts().items() if any(word in text for word in words)] == []
