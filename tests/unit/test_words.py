"""Docstrings, comments of constants and messages use plain standard English and the terms of the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.unit.source import trees

QUESTION = re.compile(r"(What|Where|Whether|How|Who|When|Which|Why)\b")
# Words that are not used in docstrings and messages -> the term that says it.
UNWANTED = {
    r"\btold\b": "given, recorded, broadcast",
    r"\bdealt\b": "distributed",
    r"\bspoken for\b": "taken",
    r"\b(in)?sane\b(?!:|`|\.)": "physical, valid, unphysical",
    r"\bleft physics\b|\bleaves physics\b": "became unphysical",
    r"\bgoes on\b|\bgo on\b": "continues",
    r"\bmodel knows\b": "covered by the training data",
    r"\bholes?\b": "spurious minimum, region without training data",
    r"\brestless\b|\bquiet(ly)? (end|traject|run|replica)|\bruns? quietly\b": "completed",
    r"\bminima that are none\b": "spurious minima",
    r"\b(came|comes) apart\b": "dissociated",
    r"\bfor want of\b": "for lack of",
    r"\bwithout a word\b(?! that)": "without an error message",
    r"\bspeaks? against\b": "argues against, error",
    r"\bastray\b": "unphysical",
}
CONSTANT = re.compile(r"_?(MOST|LEAST|FEWEST|USUAL|SHOWN|KEPT|EVERY|FORESEEN|HOTTER|LARGEST_OF)(_[A-Z_]+)?$")


def documented(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """(name, line, docstring) of everything that has one."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", "module"), node.body[0].lineno, text


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of docstrings and of strings of more than one word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


def test_docstrings_are_noun_phrases_or_imperatives() -> None:
    found = [
        f"{file}:{line}: {name}: {text.splitlines()[0]}"
        for file, tree in trees().items()
        for name, line, text in documented(tree)
        if QUESTION.match(text)
    ]
    assert not found, "\n".join(found)


def test_sentences_use_the_terms_of_the_field() -> None:
    found = [
        f"{file}:{line}: {match.group()!r}, better: {better}"
        for file, tree in trees().items()
        for line, text in sentences(tree)
        for pattern, better in UNWANTED.items()
        if (match := re.search(pattern, text)) is not None
    ]
    assert not found, "\n".join(found)


def test_constants_say_what_they_are() -> None:
    """Limits are MAX_ or MIN_ of something; no constant is a bare superlative or participle."""
    found = [
        f"{file}:{node.lineno}: {target.id}"
        for file, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.Assign)
        for part in node.targets
        for target in (part.elts if isinstance(part, ast.Tuple) else [part])
        if isinstance(target, ast.Name) and CONSTANT.match(target.id)
    ]
    assert not found, "\n".join(found)
