"""The configuration reference from the schema: `python docs/generate.py` writes docs/configuration.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from fungi_audio.models.definitions import Preset, presets
from fungi_audio.registry import REGISTRY, module

DOCS = Path(__file__).parent
SCHEMA = DOCS.parent / "schemas" / "config.schema.yaml"
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
INTRODUCTION = """\
# Configuration

*Written by `docs/generate.py` from `schemas/config.schema.yaml`, which checks every configuration before a
job starts.*

A run's configuration is `config.yaml` with the files given by `--configfile` laid over it: dictionaries are
merged, lists and values replaced. `run:` picks names; `datasets:`, `backbones:`, `features:` and `pretrain:`
define them. `NAME` stands for a name of yours: letters, digits, dots, dashes and underscores, since it
becomes part of file names.
"""


class Row(NamedTuple):
    """One key of a section."""

    key: str
    type: str
    default: str
    allowed: str
    description: str


def reference(schema: dict[str, Any]) -> str:
    """The page, Markdown."""
    sections = {key: rule for key, rule in schema["properties"].items() if _children(rule)}
    single = {key: rule for key, rule in schema["properties"].items() if key not in sections}
    parts = [INTRODUCTION]
    for key, rule in sections.items():
        named = f"{key}.NAME" if "additionalProperties" in rule and not rule.get("properties") else key
        parts.append(f"## `{named}`\n\n{rule['description']}\n\n{_table(_rows(rule, schema))}")
        parts.extend(_case(case, schema) for case in _children(rule).get("allOf", []))
        if key == "backbones":
            parts.extend(_families())
        if key == "run":
            parts.append(f"## Single values\n\n{_table(_rows({'properties': single}, schema))}")
    return "\n".join(parts).rstrip("\n") + "\n"


def _families() -> Iterator[str]:
    """The keys of each family, and the public checkpoints."""
    for family in REGISTRY["definition"]:
        options = module("definition", family).OPTIONS
        yield f"With `family: {family}`, besides:\n\n{_table(_rows({'properties': options}, {}))}"
    rows = [f"| `{name}` | {row.family} | {row.about} | {_places(row)} |" for name, row in presets().items()]
    yield "Presets, for `checkpoint:`; several places are tried in turn:\n"
    yield "| name | family | about | where |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _places(preset: Preset) -> str:
    """Where a preset lies, in the order in which the places are tried: repositories of the hub, or hosts."""
    shown = []
    for place in preset.places:
        address = urlsplit(place.url)
        name = address.path.lstrip("/").partition("/")[0].partition("@")[0]
        shown.append(
            {"hf": f"`hf://{address.netloc}/{name}`", "gdrive": "Google Drive"}.get(address.scheme, address.netloc)
        )
    return ", ".join(shown)


def _case(case: dict[str, Any], schema: dict[str, Any]) -> str:
    """The keys that belong to some objectives."""
    condition = case["if"]["properties"]["objective"]
    names = " or ".join(f"`objective: {name}`" for name in condition.get("enum", [condition.get("const")]))
    table = _table(_rows(case["then"], schema))
    return f"With {names}: {case['then']['description']}\n" + (f"\n{table}" if table else "")


def _children(rule: dict[str, Any]) -> dict[str, Any]:
    """The object that holds a section's keys: the section itself or each of its named definitions."""
    if rule.get("properties"):
        return rule
    named = rule.get("additionalProperties")
    return named if isinstance(named, dict) else {}


def _rows(rule: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[Row]:
    holder = _children(rule)
    for key, entry in holder.get("properties", {}).items():
        if not entry:
            continue
        resolved = schema["$defs"][entry["$ref"].rpartition("/")[2]] | entry if "$ref" in entry else entry
        if _children(resolved):
            yield from _rows(resolved, schema, f"{prefix}{key}.")
            continue
        default = "required" if key in holder.get("required", []) else _value(resolved, "default")
        yield Row(f"{prefix}{key}", _type(resolved), default, _allowed(resolved), resolved["description"])


def _type(rule: dict[str, Any]) -> str:
    if "anyOf" in rule:
        return " or ".join(map(_type, rule["anyOf"]))
    if "const" in rule:
        return f"`{rule['const']}`"
    if "enum" in rule or "registered" in rule:
        return "name"
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if "items" not in rule:
        return " or ".join(kinds)
    items = rule["items"].get("type", "name" if {"enum", "$ref"} & rule["items"].keys() else "value")
    return " or ".join(f"list of {items}s" if kind == "array" else kind for kind in kinds)


def _value(rule: dict[str, Any], key: str) -> str:
    if key not in rule:
        return ""
    value = yaml.safe_dump(rule[key], default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return f"`{value}`"


def _allowed(rule: dict[str, Any]) -> str:
    if "registered" in rule:
        return ", ".join(f"`{name}`" for name in REGISTRY[rule["registered"]])
    if "enum" in rule:
        return ", ".join(f"`{name}`" for name in rule["enum"])
    if "items" in rule:
        sizes = {rule.get("minItems"), rule.get("maxItems")}
        length = f"{rule['minItems']} values" if len(sizes) == 1 and None not in sizes else ""
        return ", each ".join(filter(None, [length, _allowed(rule["items"])]))
    return ", ".join(f"{sign} {rule[limit]}" for limit, sign in LIMITS.items() if limit in rule)


def _table(rows: Iterator[Row]) -> str:
    lines = ["| key | type | default | allowed | |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.key}` | {row.type} | {row.default} | {row.allowed} | {row.description.replace('|', chr(92) + '|')} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


if __name__ == "__main__":
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    (DOCS / "configuration.md").write_text(reference(schema), encoding="utf-8")
