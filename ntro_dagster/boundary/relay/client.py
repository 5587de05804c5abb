"""The tenant's half: Dagster's three storages, each call of which goes to the workspace.

They need no configuration and no credential. What a tenant may not ask is refused here already, and again by the workspace: every
abstract method of Dagster's that is not in `calls` raises, so an upgrade of Dagster cannot open a hole in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from dagster import DagsterInstance, RunsFilter
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.runs.base import RunStorage
from dagster._core.storage.schedules.base import ScheduleStorage
from dagster._serdes import ConfigurableClassData, serialize_value

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary import wall
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG
from ntro_dagster.boundary.relay import encoding, gathering
from ntro_dagster.boundary.relay.calls import EVENT_CALLS, FLAGS, PARTITIONS_AT_WORK, RUN_CALLS
from ntro_dagster.boundary.relay.connection import call, keep_to_ourselves
from ntro_dagster.errors import UsageError

_IGNORED = frozenset({"watch", "end_watch", "dispose", "optimize_for_webserver", "alembic_version"})
"""Nothing to do in a tenant's process."""
_OWN = frozenset({"register_instance"})
"""Concerns the object itself, and nothing behind it."""


_POOLED = {"concurrency_key": words.pool, "step_key": words.name}
"""Arguments of calls about pools, which the workspace stores as they are."""


class NotForTenantsError(UsageError):
    """Values: `call`."""

    code = "NOT_FOR_TENANTS"
    summary = "a tenant's code may not do this to the workspace"
    detail = "{call} is not for tenants' code"
    mend = "docs/runbooks.md says what a runbook may ask of Dagster's instance"


def _forward(base: type, name: str) -> Callable[..., Any]:
    signature = inspect.signature(getattr(base, name))

    def forward(self: Any, *positional: Any, **named: Any) -> Any:
        given = signature.bind(self, *positional, **named).arguments
        given.pop("self")
        if not all(word(given[part]) for part, word in _POOLED.items() if part in given):
            raise NotForTenantsError(call=name)
        gathers = gathering.gathering
        return gathers.ask(name, given) if gathers else encoding.loads(call(name, encoding.dumps(given)))

    return forward


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotForTenantsError(call=name)

    return refuse


def _ignore(*_: Any, **__: Any) -> None: ...


def _half(base: type, calls: Iterable[str], **more: Any) -> dict[str, Any]:
    """Every public method of `base`: forwarded, ignored or refused."""
    public = {name for name, _ in inspect.getmembers(base, inspect.isfunction) if not name.startswith("_")} - _OWN
    half: dict[str, Any] = {name: _refuse(name) for name in public | base.__abstractmethods__}  # type: ignore[attr-defined]
    half |= dict.fromkeys(_IGNORED & half.keys(), _ignore)
    half |= {name: _forward(base, name) for name in calls}
    return half | more | {"__module__": __name__}


def _store_event(_: Any, event: EventLogEntry) -> None:
    """The wall stands here already, so nothing but words is ever sent; the whole event is kept by the tenant."""
    known = wall.event(event)
    if known is None:
        keep_to_ourselves("store_event", event.run_id, lambda: serialize_value(event))
    elif gathering.gathering:
        gathering.gathering.say(known, serialize_value(event))
    else:
        call("store_event", encoding.dumps({"event": known}), run_id=event.run_id, told=lambda: serialize_value(event))


def _store_event_batch(self: Any, events: Iterable[EventLogEntry]) -> None:
    for event in events:
        _store_event(self, event)


_has_dynamic_partition = _forward(EventLogStorage, "has_dynamic_partition")


known_partitions: set[tuple[str, str]] = set()
"""Sets of partitions and keys that this process, which is one tenant's, was told of."""


def _has_once(self: Any, partitions_def_name: str, partition_key: str) -> bool:
    """What is so stays so: an entity is never taken out of its set."""
    asked = partitions_def_name, partition_key
    if asked not in known_partitions:
        if not _has_dynamic_partition(self, partitions_def_name, partition_key):
            return False
        known_partitions.add(asked)
    return True


def _no_cursors(*_: Any) -> dict[str, str]:
    """Dagster looks here for the state of definitions; ours have none."""
    return {}


RelayRunStorage = type("RelayRunStorage", (RunStorage,), _half(RunStorage, RUN_CALLS, get_cursor_values=_no_cursors))
RelayScheduleStorage = type("RelayScheduleStorage", (ScheduleStorage,), _half(ScheduleStorage, ()))
RelayEventLogStorage = type(
    "RelayEventLogStorage",
    (EventLogStorage,),
    _half(
        EventLogStorage,
        EVENT_CALLS,
        store_event=_store_event,
        store_event_batch=_store_event_batch,
        has_dynamic_partition=_has_once,
        **FLAGS,
    ),
)


def partitions_at_work(instance: DagsterInstance, location: str) -> frozenset[str]:
    """Keys of partitions of a tenant with a run that has not ended, whatever it does and whoever launched it."""
    if isinstance(instance.run_storage, RelayRunStorage):
        return frozenset(encoding.loads(call(PARTITIONS_AT_WORK, encoding.dumps({}))))
    at_work = RunsFilter(tags={CODE_LOCATION_TAG: location}, statuses=list(NOT_FINISHED_STATUSES))
    return frozenset(run.tags.get(PARTITION_TAG, "") for run in instance.get_runs(at_work))


class RelayStorage(DagsterStorage):
    """Dagster's storages in a tenant's process."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        self._runs: RunStorage[Any] = RelayRunStorage()
        self._events: EventLogStorage[Any] = RelayEventLogStorage()
        self._schedules: ScheduleStorage[Any] = RelayScheduleStorage()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @property
    def event_log_storage(self) -> EventLogStorage:
        return self._events

    @property
    def run_storage(self) -> RunStorage:
        return self._runs

    @property
    def schedule_storage(self) -> ScheduleStorage:
        return self._schedules
