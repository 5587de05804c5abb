"""An error on the wire: its code and error id, and nothing of where it came from."""

from __future__ import annotations

import json
from typing import Any

from dagster._serdes import deserialize_value, serialize_value
from dagster_shared.error import SerializableErrorInfo

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary import wall
from ntro_dagster.errors import NtroError


def failed(offered: Any) -> dict[str, Any] | None:
    """What a tenant's process offers as an error, rebuilt."""
    if offered is None:
        return None
    try:
        told = wall.error(deserialize_value(json.dumps(offered), SerializableErrorInfo))
    except Exception:  # not an error as Dagster knows them
        told = None
    return _wire(told or SerializableErrorInfo(words.UNEXPECTED, [], words.UNEXPECTED))


def refused(error: NtroError) -> dict[str, Any]:
    """An answer that was not taken, as an error in its place."""
    return _wire(SerializableErrorInfo(f"{error} ({error.mend})", [], error.code))


def _wire(info: SerializableErrorInfo) -> dict[str, Any]:
    wire: dict[str, Any] = json.loads(serialize_value(info))
    return wire
