"""A deck written out with every default, its digest, and the JSON schema of decks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hpcir.deck.sections import Deck, Level


def resolved_text(
    deck: Deck, structure: str | None = None, targets: list[str] | None = None, seeds: list[str] | None = None
) -> str:
    """The deck as YAML with every default written out and each key explained; it can be run again.

    `structure`, `targets` and `seeds` replace the structure files' paths (a resolved deck lives in another folder
    than its deck).
    """
    import yaml

    content = deck.model_dump(mode="json")
    if deck.levels:
        del content["labels"]  # the last level's
    if targets is not None:
        content["system"]["targets"] = targets
    if seeds is not None:
        content["sampling"]["seeds"] = seeds
    if structure is not None:
        content["system"]["name"] = deck.system.name or Path(deck.system.structure).stem
        content["system"]["structure"] = structure
    lines = [
        "# The deck with every default, as hpcir ran it. Quantities take units; bare numbers are in the units shown."
    ]
    _write_section(Deck, content, "", lines, yaml.safe_dump)
    return "\n".join(lines) + "\n"


def _write_section(model: type[BaseModel], content: dict[str, Any], indent: str, lines: list[str], dump: Any) -> None:
    for name, field in model.model_fields.items():
        if name not in content:
            continue
        kind, value = field.annotation, content[name]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name}:  # {field.description}")
            for item in value:
                own: list[str] = []
                _write_section(Level, item, indent + "    ", own, dump)
                own[0] = f"{indent}  - {own[0].lstrip()}"
                lines += own
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines.append(f"{indent}{name}:  # {' '.join((kind.__doc__ or '').split())}")
            _write_section(kind, value, indent + "  ", lines, dump)
            continue
        # Text of several lines goes on one, in quotes.
        style = '"' if isinstance(value, str) and "\n" in value else None
        text = dump(
            value, default_flow_style=True, default_style=style, width=10**6, allow_unicode=True, sort_keys=False
        )
        text = text.removesuffix("\n").removesuffix("\n...")
        lines.append(f"{indent}{name}: {text}  # {field.description}")


def deck_digest(deck: Deck, *sections: str) -> str:
    """SHA-256 (24 hex digits) of the named sections with their defaults, or of the whole deck when none is named.

    The paths of structure files and data sets are left out: what counts is what is in them, for which the caller
    answers. So are labels.threads, which changes no result, and of the whole deck `accuracy` and
    `dynamics.trajectories`: a run continues with others.
    """
    content = deck.model_dump(mode="json")
    content["system"].pop("structure")
    content["system"]["targets"] = len(deck.system.targets)
    content["sampling"]["seeds"] = len(deck.sampling.seeds)
    content["labels"] = deck.labels.content()
    content["levels"] = [level.content() for level in deck.levels]
    for level in content["levels"]:
        level["data"]["file"] = bool(level["data"]["file"])
    for settings in (content["labels"], *content["levels"]):
        settings.pop("threads")
    if not deck.levels:  # a key of a later version
        del content["levels"]
    if not sections:
        content.pop("accuracy")
        content["dynamics"].pop("trajectories")
    part = {name: content[name] for name in sections} if sections else content
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:24]


def json_schema() -> dict[str, Any]:
    """The JSON schema of a deck, for editors that complete and check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Deck.model_json_schema(),
        "title": "hpcir deck",
    }
