"""What the two halves say to each other: JSON, of named kinds of values.

Dagster's own serialisation covers events, runs and snapshots, and none of the types that queries are made of. In a `whole`
object Dagster's list decides what is built; the outermost must be named here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from dagster import AssetKey, DagsterRun, DagsterRunStatus
from dagster._core.event_api import (
    AssetRecordsFilter,
    EventLogRecord,
    EventRecordsResult,
    PartitionKeyFilter,
    RunStatusChangeRecordsFilter,
)
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.config import PoolConfig, PoolGranularity
from dagster._core.snap.execution_plan_snapshot import ExecutionPlanSnapshot
from dagster._core.storage.dagster_run import RunRecord, RunsFilter
from dagster._core.storage.event_log.base import AssetEntry, AssetRecord, PoolLimit
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.concurrency import ConcurrencyClaimStatus, ConcurrencySlotStatus

from ntro_dagster.errors import NtroError

ENUMS: dict[str, type[Enum]] = {
    kind.__name__: kind for kind in (DagsterEventType, DagsterRunStatus, PoolGranularity, ConcurrencySlotStatus)
}

RECORDS: dict[str, Any] = {
    "RunsFilter": RunsFilter,
    "RunRecord": RunRecord,
    "EventLogRecord": EventLogRecord,
    "EventRecordsResult": EventRecordsResult,
    "AssetRecord": AssetRecord,
    "AssetEntry": AssetEntry,
    "AssetRecordsFilter": AssetRecordsFilter,
    "RunStatusChangeRecordsFilter": RunStatusChangeRecordsFilter,
    "PartitionKeyFilter": PartitionKeyFilter,
    "PoolConfig": PoolConfig,
    "PoolLimit": PoolLimit,
    "ConcurrencyClaimStatus": ConcurrencyClaimStatus,
}
"""Records that are sent field by field."""

_FEWER_FIELDS = {"AssetEntry": ("asset_key", "last_materialization_record", "last_run_id")}  # the rest is the webserver's caches

WHOLE: dict[str, type] = {kind.__name__: kind for kind in (EventLogEntry, DagsterRun, ExecutionPlanSnapshot)}
"""Objects that Dagster itself serialises."""


class RelayProtocolError(NtroError):
    code = "RELAY_PROTOCOL"
    summary = "the relay was told something that is not of its language"
    mend = "both halves must be of one release of ntro: `ntro down`, then `ntro up`"


def dumps(value: Any) -> bytes:
    """Raises `RelayProtocolError` for what has no place in the language."""
    return json.dumps(_encode(value), separators=(",", ":"), ensure_ascii=False).encode()


def loads(said: bytes) -> Any:
    """Raises `RelayProtocolError` for whatever `dumps` would not have said."""
    try:
        return _decode(json.loads(said))
    except RelayProtocolError:
        raise
    except Exception:  # whatever a hostile text makes of a parser; its words go nowhere
        raise RelayProtocolError from None


def _encode(value: Any) -> Any:  # noqa: PLR0911 - a line for each kind
    kind = type(value)
    if value is None or kind in {str, int, bool, float}:
        return value
    name = kind.__name__
    if ENUMS.get(name) is kind:  # before strings: some are both
        return {"enum": [name, value.name]}
    if isinstance(value, AssetKey):
        return {"key": list(value.path)}
    if RECORDS.get(name) is kind:
        return {"record": [name, {field: _encode(getattr(value, field)) for field in _fields(name)}]}
    if WHOLE.get(name) is kind:
        return {"whole": serialize_value(value)}
    if isinstance(value, datetime):
        return {"moment": value.isoformat()}
    if isinstance(value, Mapping):
        return {"map": [[_encode(key), _encode(each)] for key, each in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encode(each) for each in value]
    if isinstance(value, str):  # a partition's key is a kind of string
        return str(value)
    raise RelayProtocolError


def _fields(name: str) -> tuple[str, ...]:
    fields: tuple[str, ...] = _FEWER_FIELDS.get(name) or RECORDS[name]._fields
    return fields


def _record(said: list[Any]) -> Any:
    name, fields = said
    if not fields.keys() <= set(_fields(name)):
        raise RelayProtocolError
    return RECORDS[name](**{field: _decode(each) for field, each in fields.items()})


def _whole(said: str) -> Any:
    value = deserialize_value(said)
    if WHOLE.get(type(value).__name__) is not type(value):
        raise RelayProtocolError
    return value


_KINDS: dict[str, Callable[[Any], Any]] = {
    "enum": lambda said: ENUMS[said[0]][said[1]],
    "key": AssetKey,
    "record": _record,
    "whole": _whole,
    "moment": datetime.fromisoformat,
    "map": lambda said: {_decode(key): _decode(each) for key, each in said},
}


def _decode(said: Any) -> Any:
    if isinstance(said, list):
        return [_decode(each) for each in said]
    if isinstance(said, dict):
        ((kind, value),) = said.items()
        return _KINDS[kind](value)
    return said
