"""Collective functions: every function that communicates is marked, and none is called where rank 0 alone goes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit import source

# What every rank must call; `comm.counter`, `comm.split` and the like included.
PRIMITIVES = {"bcast", "gather", "allgather", "barrier", "counter", "sum_arrays", "split", "on_root", "map_over_ranks"}
PRIMITIVES |= {"map_journalled", "label_beside"}
ROOT_ONLY = {"on_root", "at_root"}
# The communicators themselves, what starts or ends the program, and kernels, which know no ranks.
OUTSIDE = ("runtime/mpi.py", "cli/", "descriptors/")

Function = ast.FunctionDef | ast.Lambda


def trees() -> Iterator[tuple[str, ast.Module]]:
    yield from ((name, tree) for name, tree in source.trees().items() if not name.startswith(OUTSIDE))


def called(node: ast.AST) -> str:
    """The last name of a call, such as 'bcast' of comm.bcast(...)."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions defined in it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield from own_nodes(child)


def marked(function: ast.FunctionDef) -> bool:
    return any(isinstance(item, ast.Name) and item.id == "collective" for item in function.decorator_list)


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    yield from ((name, node) for name, node in source.functions() if not name.startswith(OUTSIDE))


def communicates(function: ast.FunctionDef) -> list[str]:
    return [called(node) for node in own_nodes(function) if called(node) in PRIMITIVES and not is_text_method(node)]


def is_text_method(node: ast.AST) -> bool:
    """'...'.split(), path.split(): a method of a text that has the name of a communicator's."""
    return called(node) == "split" and not re.search(r"\bcomm\.", ast.unparse(node.func))  # type: ignore[attr-defined]


def test_functions_that_communicate_are_marked():
    missing = [
        f"{name}:{function.lineno} {function.name} calls {', '.join(communicates(function))}"
        for name, function in functions()
        if communicates(function) and not marked(function) and function.name != "__init__"
    ]
    assert missing == []


def test_no_collective_call_is_made_on_rank_0_alone():
    every = [(function.name, marked(function)) for _, function in functions()]
    unmarked = {name for name, is_marked in every if not is_marked}
    certain = (PRIMITIVES | {name for name, is_marked in every if is_marked}) - unmarked - {"split"}
    wrong = []
    for name, tree in trees():
        for node in ast.walk(tree):
            for part in root_parts(node):
                found = {called(item) for item in ast.walk(part)} & certain
                if found:
                    wrong.append(f"{name}:{node.lineno} {sorted(found)}")  # type: ignore[attr-defined]
    assert wrong == []


def root_parts(node: ast.AST) -> list[ast.AST]:
    """What of a node rank 0 alone executes: the body of `if context.root`, and the work of on_root and at_root."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"context.root", "self.context.root", "comm.rank == 0"}:
        return list(node.body)
    if called(node) in ROOT_ONLY:
        return [item for item in node.args if isinstance(item, ast.Lambda)]  # type: ignore[attr-defined]
    return []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("if context.root:\n    context.comm.barrier()", 1), ("context.on_root(lambda: comm.bcast(1))", 1), ("f()", 0)],
)
def test_the_check_sees_what_it_looks_for(text, expected):
    parts = [part for node in ast.walk(ast.parse(text)) for part in root_parts(node)]
    assert len({called(item) for part in parts for item in ast.walk(part)} & PRIMITIVES) == expected
