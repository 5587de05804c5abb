"""How a snapshot of Dagster's is built anew, and the rules for a field: what may stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey, DefaultScheduleStatus, DefaultSensorStatus
from dagster._config import ConfigScalarKind, ConfigTypeKind
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.partitions.schedule_type import ScheduleType
from dagster._core.definitions.sensor_definition import SensorType
from dagster._core.execution.plan.step import StepKind
from dagster._core.types.dagster_type import DagsterTypeKind

from ntro_dagster.boundary import sentences, wall
from ntro_dagster.boundary.names import TENANT_TAG, VERSION_TAG, entities_set
from ntro_dagster.errors import NtroError


class DefinitionRefusedError(NtroError):
    """Values: `kind` (class), `field`: where it stands in Dagster's snapshot."""

    code = "DEFINITION_REFUSED"
    summary = "a definition holds what must not be shown to the workspace"
    detail = "{kind} {field}"
    mend = "docs/decisions/011: names of code, schedules and the tenant's own asset keys may be shown; nothing else"


@dataclass
class Walk:
    """One description, being built anew.

    Attributes:
        classes: Dagster's class, as it calls itself on the wire -> its field -> what may stand there.
        names: every name of code that was met.
    """

    tenant: str
    classes: Mapping[str, Mapping[str, Rule]]
    known: frozenset[str] | None = None
    names: set[str] = field(default_factory=set)

    def build(self, offered: Any) -> Any:
        """Objects of known classes, lists, sets and maps of them, members of enumerations; no bare value."""
        if offered is None:
            return None
        if isinstance(offered, list):
            return [self.build(each) for each in offered]
        if isinstance(offered, dict):
            if "__class__" in offered:
                return self._object(offered)
            for kind in ("__set__", "__frozenset__"):
                if offered.keys() == {kind}:
                    return {kind: sorted((self.build(each) for each in offered[kind]), key=canonical)}
            if offered.keys() == {"__enum__"}:
                return {"__enum__": one_of(*_ENUMS)(self, offered["__enum__"])}
            return {self.name(_text(called)): self.build(value) for called, value in sorted(offered.items())}
        raise DefinitionRefusedError(kind=type(offered).__name__, field="")

    def _object(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        kind = offered["__class__"]
        rules = self.classes.get(kind) if isinstance(kind, str) else None
        if rules is None:
            raise DefinitionRefusedError(kind=kind, field="")
        built = {"__class__": kind}
        for called, rule in rules.items():
            try:
                built[called] = rule(self, offered.get(called))
            except DefinitionRefusedError as error:
                raise DefinitionRefusedError(kind=kind, field=called) if not error.values["field"] else error from None
        return {**built, **sentences.description(kind, built)}

    def name(self, offered: str) -> str:
        """A name of code. Where `known` is given, one of those."""
        if not _NAME.fullmatch(offered) or (self.known is not None and offered not in self.known):
            raise DefinitionRefusedError(kind="name", field="")
        self.names.add(offered)
        return offered


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,254}")
"""An identifier; or, of a configuration's type, one with the digest of its fields (`Shape.2e17…`)."""
_ENUMS = frozenset(
    f"{kind.__name__}.{member.name}"
    for kind in (
        AssetExecutionType,
        ConfigScalarKind,
        ConfigTypeKind,
        DagsterTypeKind,
        DefaultScheduleStatus,
        DefaultSensorStatus,
        ScheduleType,
        SensorType,
        StepKind,
    )
    for member in kind
)
CRON = re.compile(r"[0-9A-Za-z*/,\-#?@ ]{1,64}")
ZONE = re.compile(r"[A-Za-z0-9_+\-/]{1,64}")
UNIT_ID = re.compile(r"[0-9a-f]{8,64}")
MONTHS = ("%Y-%m", "%Y-%m-%d")
_KIND_TAG = re.compile(r"dagster/kind/[a-z0-9_]{1,32}")

Rule = Callable[[Walk, Any], Any]


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _text(offered: Any) -> str:
    if not isinstance(offered, str):
        raise DefinitionRefusedError(kind=type(offered).__name__, field="")
    return offered


def _fit(pattern: re.Pattern[str], offered: Any, kind: str) -> str:
    if not pattern.fullmatch(_text(offered)):
        raise DefinitionRefusedError(kind=kind, field="")
    return str(offered)


# -- rules: what a field may hold


def nested(walk: Walk, offered: Any) -> Any:
    return walk.build(offered)


def name(walk: Walk, offered: Any) -> str | None:
    return None if offered is None else walk.name(_text(offered))


def names(walk: Walk, offered: Any) -> Any:
    if isinstance(offered, dict) and len(offered) == 1 and offered.keys() <= {"__set__", "__frozenset__"}:
        ((kind, members),) = offered.items()
        return {kind: sorted(names(walk, members))}
    return None if offered is None else [walk.name(_text(each)) for each in offered]


def blank_or_name(walk: Walk, offered: Any) -> str | None:
    """Dagster writes `""` where a field of an old release stood."""
    return "" if offered == "" else name(walk, offered)


def path(walk: Walk, offered: Any) -> list[str]:
    """Of an asset: the tenant, then names."""
    if not isinstance(offered, list) or not all(isinstance(part, str) for part in offered) or offered[:1] != [walk.tenant]:
        raise DefinitionRefusedError(kind="asset key", field="")
    if wall.key(AssetKey(offered)) is None:
        raise DefinitionRefusedError(kind="asset key", field="")
    return [walk.tenant, *(walk.name(part) for part in offered[1:])]


def entities(walk: Walk, offered: Any) -> str:
    if offered != entities_set(walk.tenant):
        raise DefinitionRefusedError(kind="partition set", field="")
    return entities_set(walk.tenant)


def flag(_: Walk, offered: Any) -> bool | None:
    if offered is not None and not isinstance(offered, bool):
        raise DefinitionRefusedError(kind="flag", field="")
    return offered


def number(_: Walk, offered: Any) -> float | int | None:
    if offered is not None and type(offered) not in {int, float}:
        raise DefinitionRefusedError(kind="number", field="")
    return offered  # type: ignore[no-any-return]


def form(pattern: re.Pattern[str], kind: str) -> Rule:
    return lambda _, offered: None if offered is None else _fit(pattern, offered, kind)


def one_of(*values: str) -> Rule:
    def rule(_: Walk, offered: Any) -> str:
        if offered not in values:
            raise DefinitionRefusedError(kind="constant", field="")
        return str(offered)

    return rule


def always(constant: Any) -> Rule:
    """Whatever stands there: it is left out, and Dagster needs something in its place."""
    return lambda _, __: constant


def run_tags(walk: Walk, offered: Any) -> dict[str, str]:
    kept = wall.run_tags(offered or {})
    return {
        called: value for called, value in kept.items() if called == VERSION_TAG or (called, value) == (TENANT_TAG, walk.tenant)
    }


def kinds(_: Walk, offered: Any) -> dict[str, str]:
    return {called: "" for called in sorted(offered or {}) if _KIND_TAG.fullmatch(called)}


gone, no_items, no_entries = always(None), always([]), always({})
