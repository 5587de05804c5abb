"""Raw payloads as the database keeps them: every value, also those that JSON or PostgreSQL cannot hold as they are."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

LONG_INTEGER = 10**1000
"""From here on JSON readers begin to give up."""

ESCAPES = frozenset({"$json", "$int", "$base64", "$items", "$repr"})


def jsonable(value: Any) -> Any:
    """`value` as JSON that PostgreSQL takes: Decimals, dates and ids as strings, sequences and sets as lists.

    What cannot be held as it is becomes an object of one key that says how to read it:

    - `$json`: text with NUL or half a surrogate pair, NaN and the infinities; a JSON text of it
    - `$int`: integers from 10**1000, in hexadecimal
    - `$base64`: bytes
    - `$items`: mappings with keys that are not plain text, or that begin with `$`; a list of pairs
    - `$repr`: anything else, as Python prints it
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value) if storable(value) else {"$json": json.dumps(value)}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and storable(key) and not key.startswith("$") for key in value):
            return {str(key): jsonable(item) for key, item in value.items()}
        return {"$items": [[jsonable(key), jsonable(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, int):
        return value if abs(value) < LONG_INTEGER else {"$int": hex(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$json": json.dumps(value)}
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    return {"$repr": jsonable(repr(value))}


def storable(text: str) -> bool:
    """Whether PostgreSQL can hold it: no NUL, no half of a surrogate pair."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def holds_escapes(value: Any) -> bool:
    """Whether something in what `jsonable` returned is escaped."""
    if isinstance(value, dict):
        return not ESCAPES.isdisjoint(value) or any(map(holds_escapes, value.values()))
    return isinstance(value, list) and any(map(holds_escapes, value))
