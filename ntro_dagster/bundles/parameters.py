"""Parameters of a runbook: a JSON Schema of closed kinds, so that a value set by anyone can cross the wall as a word.

Text is a choice of an `enum`, an amount a decimal string with a `pattern`, a month a `period`, a day a `date`; there is no
free text.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from ntro_dagster.bundles.parameter_values import why_not
from ntro_dagster.bundles.problems import did_you_mean

Place = tuple[str | int, ...]
Complaint = tuple[Place, str, str, str]
"""Place below the field, code, sentence, what to do."""

_CODE = "PARAMETER_INVALID"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_TOP = frozenset({"type", "properties", "required", "additionalProperties"})
_SAID_OF_ALL = frozenset({"type", "title", "description", "default"})
DECIMAL_PATTERNS = ("^[0-9]", "^-?[0-9]", "^(0|", "^-?(0|", r"^\d", r"^-?\d")
"""How the pattern of a decimal string begins: it can hold nothing but a number."""

_KINDS = "string with enum, string with format period or date, string with format decimal and a pattern, integer, boolean"


def parameter_problems(value: Any) -> list[Complaint]:
    """Complaints about the `parameters` of a head."""
    return list(_complaints(value))


def _complaints(value: Any) -> Iterator[Complaint]:
    if not isinstance(value, Mapping) or value.get("type") != "object" or not isinstance(value.get("properties"), Mapping):
        yield (), _CODE, "parameters is not a JSON Schema of an object", "write `type: object` and `properties:` below it"
        return
    for name in value.keys() - _TOP:
        yield (str(name),), _CODE, f"{name!r} has no place here{did_you_mean(str(name), _TOP)}", "remove it"
    if value.get("additionalProperties", False) is not False:
        yield ("additionalProperties",), _CODE, "parameters that are not listed would be let in", "write `false`, or leave it out"
    properties = value["properties"]
    for name in value.get("required") or ():
        if name not in properties:
            yield ("required",), _CODE, f"{name!r} is required but not listed", "list it below `properties`, or do not require it"
    for name, schema in properties.items():
        for place, said, mend in _of_one(name, schema):
            yield ("properties", str(name), *place), _CODE, said, mend


def _of_one(name: Any, schema: Any) -> Iterator[tuple[Place, str, str]]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield (), f"{name!r} cannot name a parameter", "use lower case letters, digits and underscores"
        return
    if not isinstance(schema, Mapping):
        yield (), f"{name} says nothing of its kind", f"say one of: {_KINDS}"
        return
    kind = schema.get("type")
    if kind == "string":
        allowed = yield from _of_text(name, schema)
    elif kind == "integer":
        allowed = {"minimum", "maximum", "enum"}
    elif kind == "boolean":
        allowed = set[str]()
    elif kind == "number":
        yield ("type",), f"{name} is a number, which may be a float", "make it a string with format decimal and a pattern"
        return
    else:
        yield ("type",), f"{name} is of no kind that may cross the wall", f"say one of: {_KINDS}"
        return
    for key in sorted(map(str, schema.keys() - allowed - _SAID_OF_ALL)):
        yield (key,), f"{name}: {key!r} has no place here", "remove it"
    if "default" in schema and why_not(schema, schema["default"]):
        yield ("default",), f"{name}: its default is not one of its own values", "correct the default"


def _of_text(name: str, schema: Mapping[str, Any]) -> Generator[tuple[Place, str, str], None, set[str]]:
    """Returns the keys that this text may have."""
    form, pattern = schema.get("format"), schema.get("pattern")
    if "enum" in schema:
        choices = schema["enum"]
        if not isinstance(choices, list) or not choices or not all(isinstance(c, str) and _WORD.fullmatch(c) for c in choices):
            yield (
                ("enum",),
                f"{name}: choices must be plain words",
                "use letters, digits, `_`, `-` and `.`; quote what YAML reads as a number",
            )
        return {"enum"}
    if form in {"period", "date"}:
        return {"format"}
    if form == "decimal":
        if (
            not isinstance(pattern, str)
            or not pattern.endswith("$")
            or not pattern.startswith(DECIMAL_PATTERNS)
            or not _closed(pattern)
        ):
            yield (
                ("pattern",),
                f"{name}: a decimal needs a pattern that lets through digits alone",
                r"for instance `pattern: '^[0-9]{1,12}(\.[0-9]{1,2})?$'`",
            )
        return {"format", "pattern"}
    yield (), f"{name} would be free text", f"say one of: {_KINDS}"
    return {"format", "pattern"}


def _closed(pattern: str) -> bool:
    """Whether a decimal's pattern can match digits, a point and a minus alone."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return re.fullmatch(r"(?:[\^$?()|+*0-9,{}-]|\[0-9\]|\[1-9\]|\\d|\\\.|\?:)+", pattern) is not None
