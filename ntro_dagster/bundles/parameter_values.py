"""Values of a runbook's parameters: read from what somebody wrote, held against the schema, given to code as what they are.

Stored, a value is one of JSON's: a month, a day and an amount are strings. The kinds are those that `bundles.parameters` lets
into a schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from ntro_dagster.bundles.problems import did_you_mean
from ntro_dagster.errors import UsageError

Stored = str | int | bool
Value = str | int | bool | Decimal | date | None
"""As a run's code gets it. None: not set, and without a default."""


class ParameterInvalidError(UsageError):
    """Values: `name`, `why`, `mend`."""

    code = "PARAMETER_VALUE_INVALID"
    summary = "that is no value of the runbook's parameter"
    detail = "parameter {name} {why}"
    mend = "{mend}"


@dataclass(frozen=True, slots=True)
class Misfit:
    """One way in which values do not satisfy a schema. `why` goes on where the parameter's name stands."""

    name: str
    why: str
    mend: str


def misfits(schema: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Misfit]:
    """What keeps `values`, as stored, from being those of a runbook with these `parameters`."""
    declared: Mapping[str, Any] = schema.get("properties") or {}
    for name, value in values.items():
        if name not in declared:
            known = f"it has {', '.join(sorted(declared))}" if declared else "it has none"
            yield Misfit(name, f"is none of the runbook's{did_you_mean(name, declared)}", f"set no such parameter: {known}")
        elif why := why_not(declared[name], value):
            yield Misfit(name, why, f"set a value of its kind: {described(declared[name])}")
    for name in schema.get("required") or ():
        if name not in values and "default" not in declared.get(name, {}):
            yield Misfit(name, "is required, but not set", f"set it: {described(declared.get(name, {}))}")


def must_satisfy(schema: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raises `ParameterInvalidError`."""
    for wrong in misfits(schema, values):
        raise ParameterInvalidError(name=wrong.name, why=wrong.why, mend=wrong.mend)


def effective(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Stored]:
    """With the schema's defaults, where it has any. Raises: `ParameterInvalidError`."""
    must_satisfy(schema, values)
    defaults = {name: each["default"] for name, each in (schema.get("properties") or {}).items() if "default" in each}
    return {name: stored(value) for name, value in {**defaults, **values}.items()}


def typed(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Value]:
    """Every parameter of the schema, as the kind it is of. Raises: `ParameterInvalidError`."""
    known = effective(schema, values)
    return {name: _typed(each, known.get(name)) for name, each in (schema.get("properties") or {}).items()}


def read(schema: Mapping[str, Any], name: str, text: str) -> Stored:
    """What was written on a command line, as it is stored. Raises: `ParameterInvalidError`."""
    declared = (schema.get("properties") or {}).get(name, {})
    value: Stored = text
    if declared.get("type") == "integer" and re.fullmatch(r"-?[0-9]{1,18}", text):
        value = int(text)
    elif declared.get("type") == "boolean" and text in {"true", "false"}:
        value = text == "true"
    must_satisfy({"properties": schema.get("properties") or {}}, {name: value})
    return value


def stored(value: Any) -> Any:
    """A day that YAML took for one is its text."""
    return value.isoformat() if isinstance(value, date) else value


def why_not(schema: Mapping[str, Any], value: Any) -> str | None:  # noqa: PLR0911 - one line per kind
    """Why `value` is none of a parameter's own; None where it is one."""
    value = stored(value)
    if "enum" in schema:
        choices = schema["enum"] if isinstance(schema["enum"], list) else []
        return None if any(type(each) is type(value) and each == value for each in choices) else "is none of its choices"
    match schema.get("type"), schema.get("format"):
        case "integer", _:
            return _why_no_integer(schema, value)
        case "boolean", _:
            return None if isinstance(value, bool) else "is neither true nor false"
        case "string", "period":
            return None if _matches(r"[0-9]{4}-(0[1-9]|1[0-2])", value) else "is no month"
        case "string", "date":
            return None if _is_day(value) else "is no day"
        case "string", "decimal":
            pattern = schema.get("pattern")
            return (
                None
                if isinstance(pattern, str) and _matches(pattern, value) and _is_number(value)
                else "does not fit its pattern"
            )
    return "is of no kind that may be set"


def described(schema: Mapping[str, Any]) -> str:
    """Which values a parameter has, for people."""
    if isinstance(schema.get("enum"), list):
        return f"one of {', '.join(map(str, schema['enum']))}"
    match schema.get("type"), schema.get("format"):
        case "integer", _:
            least, most = schema.get("minimum"), schema.get("maximum")
            limits = [f"from {least}"] * (least is not None) + [f"up to {most}"] * (most is not None)
            return " ".join(["a whole number", *limits])
        case "boolean", _:
            return "true or false"
        case _, "period":
            return "a month, YYYY-MM"
        case _, "date":
            return "a day, YYYY-MM-DD"
    return f"a decimal number that fits {schema.get('pattern')}"


def _why_no_integer(schema: Mapping[str, Any], value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "is no whole number"
    least, most = schema.get("minimum"), schema.get("maximum")
    below, above = isinstance(least, int) and value < least, isinstance(most, int) and value > most
    return "is below its minimum" if below else "is above its maximum" if above else None


def _matches(pattern: str, value: Any) -> bool:
    # The whole of it: `$` alone would let a line end follow.
    try:
        return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None
    except re.error:
        return False


def _is_day(value: Any) -> bool:
    if not _matches(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_number(value: str) -> bool:
    try:
        return Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _typed(schema: Mapping[str, Any], value: Stored | None) -> Value:
    match schema.get("format"):
        case "decimal" if isinstance(value, str) and "enum" not in schema:
            return Decimal(value)
        case "date" if isinstance(value, str) and "enum" not in schema:
            return date.fromisoformat(value)
    return value
