"""Two hundred broken decks: each is refused in words or valid, and nothing else ever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.deck.resolved import resolved_text
from hpcir.errors import EXIT_INPUT, InputError

INPUTS = Path(__file__).parents[2] / "inputs"
COUNT = 200
WORDS = [
    *("-1", "0", "1e400", ".nan", "[]", "{}", "null", "~", "yes", "'", '"', "\t", "1 parsec", "300 K", "-0.5 fs"),
    *("!!python/none", "&a", "*a", "<<", "- x", "\x00", "\u202e", "é", "9" * 40, "x" * 300, "2001-01-01", "1:30"),
    *("0x1F", "|", "%", "@", "`"),
]
Random = np.random.Generator


def pick(random: Random, items: list[str]) -> int:
    return int(random.integers(len(items)))


def other_value(lines: list[str], random: Random) -> list[str]:
    index = pick(random, lines)
    return [*lines[:index], f"{lines[index].split(':')[0]}: {WORDS[pick(random, WORDS)]}", *lines[index + 1 :]]


def misspelt(lines: list[str], random: Random) -> list[str]:
    index = pick(random, lines)
    at = int(random.integers(len(lines[index]) + 1))
    return [
        *lines[:index],
        lines[index][:at] + chr(int(random.integers(32, 127))) + lines[index][at + 1 :],
        *lines[index + 1 :],
    ]


def twice(lines: list[str], random: Random) -> list[str]:
    index = pick(random, lines)
    return [*lines[: index + 1], lines[index], *lines[index + 1 :]]


def dropped(lines: list[str], random: Random) -> list[str]:
    index = pick(random, lines)
    return lines[:index] + lines[index + 1 :]


def moved(lines: list[str], random: Random) -> list[str]:
    rest = list(lines)
    line = rest.pop(pick(random, rest))
    rest.insert(int(random.integers(len(rest) + 1)), line)
    return rest


def indented(lines: list[str], random: Random) -> list[str]:
    index = pick(random, lines)
    space = ["\t", "   ", " ", ""][int(random.integers(4))]
    return [*lines[:index], space + lines[index].lstrip(), *lines[index + 1 :]]


def inserted(lines: list[str], random: Random) -> list[str]:
    index = pick(random, lines)
    return [*lines[:index], WORDS[pick(random, WORDS)], *lines[index:]]


def cut(lines: list[str], random: Random) -> list[str]:
    text = "\n".join(lines)
    return text[: int(random.integers(len(text)))].split("\n")


MUTATIONS: list[Callable[[list[str], Random], list[str]]] = [
    other_value, other_value, other_value, misspelt, misspelt, twice, dropped, moved, indented, inserted, cut,
]  # fmt: skip


def mutated(number: int, path: Path) -> str:
    random = np.random.Generator(np.random.Philox(key=[2024, number]))
    resolved = resolved_text(load_deck(path).deck)
    text = path.read_text(encoding="utf-8") if number % 2 else resolved
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for _ in range(1 + int(random.integers(2))):
        lines = MUTATIONS[int(random.integers(len(MUTATIONS)))](lines, random) or [""]
    return "\n".join(lines) + "\n"


def refusal(path: Path) -> InputError | None:
    """The words that a deck is refused with; None for a valid one. Any other exception is the test's failure."""
    try:
        check_deck(load_deck(path))
    except InputError as error:
        return error
    return None


def test_mutated_decks_are_refused_in_words_or_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "methanol.xyz").write_text((INPUTS / "methanol.xyz").read_text())
    refused = valid = 0
    for number in range(COUNT):
        path = tmp_path / "deck.yaml"
        path.write_bytes(mutated(number, INPUTS / ("methanol.yaml", "methanol-xtb.yaml")[number % 3 % 2]).encode())
        error = refusal(path)
        if error is not None:
            refused += 1
            assert error.status == EXIT_INPUT
            for line in str(error).splitlines():
                assert line.startswith(str(path)) or "methanol.xyz" in line, line
            assert len(str(error)) < 20_000
        else:
            valid += 1
            # What is accepted means the same when it is written out and read again.
            again = tmp_path / "again.yaml"
            again.write_text(resolved_text(load_deck(path).deck))
            assert load_deck(again).deck == load_deck(path).deck
    with capsys.disabled():
        print(f"\n{refused} decks refused, {valid} valid, of {COUNT}", flush=True)
    assert refused + valid == COUNT
    assert refused > COUNT // 2  # the mutations do break decks


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"# only a comment\n", b"\xff\xfe\x00", bytes(range(256)), b"[1, 2]", b"word", b"{", b"a: b: c"],
)
def test_files_that_are_no_decks(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "deck.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"deck\.yaml"):
        load_deck(path)


def test_an_alias_bomb_is_refused_quickly(tmp_path: Path) -> None:
    path = tmp_path / "deck.yaml"
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
    ]
    path.write_text("\n".join(rows))
    with pytest.raises(InputError, match="too large"):
        load_deck(path)


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "deck.yaml"
    path.write_text("x" * 2_000_000)
    with pytest.raises(InputError, match="too large for a deck"):
        load_deck(path)
