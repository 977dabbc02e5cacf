"""The import rule of ARCHITECTURE.md: a module imports only from levels below its own, or from its own level."""

import ast
from pathlib import Path

import hpcir

ROOT = Path(hpcir.__file__).parent
SCIENCE = 4
LEVELS = {
    **dict.fromkeys(("errors", "units", "version"), 0),
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


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hpcir":
            found += [f"hpcir.{alias.name}" for alias in node.names] if node.module == "hpcir" else [node.module]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "hpcir"]
    return [module for module in found if module != "hpcir.__version__"]


def modules():
    return sorted(ROOT.rglob("*.py"))


def test_every_part_of_the_package_has_a_level():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in modules()}
    assert parts <= LEVELS.keys()


def test_imports_point_downwards():
    wrong = []
    for path in modules():
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for module in imports(path):
            target = part(module)
            if LEVELS[target] > LEVELS[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert LEVELS["__init__"] == max(LEVELS.values())
    assert [line for line in wrong if not line.startswith("__init__")] == []


def test_science_packages_have_no_cycles():
    edges = {}
    for path in modules():
        own = path.relative_to(ROOT).parts[0]
        if LEVELS.get(own) == SCIENCE:
            edges.setdefault(own, set())
            targets = {part(module) for module in imports(path)}
            edges[own].update(t for t in targets if LEVELS[t] == SCIENCE and t != own)
    done: list[str] = []
    edges = {name: {target for target in targets if target in edges} for name, targets in edges.items()}
    while edges:
        free = [name for name, targets in edges.items() if not targets]
        assert free, f"a cycle among {sorted(edges)}: {edges}"
        done += free
        edges = {name: targets - set(done) for name, targets in edges.items() if name not in done}


def test_only_mpi_imports_mpi4py():
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.name != "mpi.py"
        and any(
            isinstance(node, (ast.Import, ast.ImportFrom))
            and "mpi4py" in (getattr(node, "module", None) or " ".join(alias.name for alias in node.names))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
    assert wrong == []


def test_nothing_is_pickled():
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if "import pickle" in path.read_text(encoding="utf-8")
        or "allow_pickle=True" in path.read_text(encoding="utf-8")
        or "torch.load" in path.read_text(encoding="utf-8")
    ]
    assert wrong == []
