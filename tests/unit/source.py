"""The source of the package for tests that read it: texts and syntax trees, parsed once, and the graph of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import hpcir

PACKAGE = Path(hpcir.__file__).resolve().parent


@cache
def texts() -> dict[str, str]:
    """Path below the package -> text, of every module."""
    return {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def trees() -> dict[str, ast.Module]:
    """Path below the package -> syntax tree, of every module; nobody changes them."""
    return {path: ast.parse(text) for path, text in texts().items()}


@cache
def functions() -> list[tuple[str, ast.FunctionDef]]:
    """(path, definition) of every function and method."""
    return [
        (path, node) for path, tree in trees().items() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]


def imported(path: str) -> Iterator[str]:
    """Names of hpcir's modules (and of things in them) that a module imports, in functions and for types too."""
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hpcir":
            yield node.module  # of a name taken from a package, the package runs as well
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "hpcir")


def module_name(path: str) -> str:
    return ".".join(("hpcir", *Path(path).with_suffix("").parts)).removesuffix(".__init__")


@cache
def import_graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, at its top, in functions and for types."""
    names = {module_name(path) for path in trees()}
    graph: dict[str, set[str]] = {}
    for path in trees():
        own = module_name(path)
        found = {name if name in names else name.rpartition(".")[0] for name in imported(path)}
        graph[own] = (found & names) - {own}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan, SIAM J. Comput. 1, 146, 1972), each sorted."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in order:
                visit(target)
            if target in stack:
                lowest[node] = min(lowest[node], lowest[target])
        if lowest[node] == order[node]:
            place = stack.index(node)
            component = sorted(stack[place:])
            del stack[place:]
            if len(component) > 1:
                found.append(component)

    for node in graph:
        if node not in order:
            visit(node)
    return found
