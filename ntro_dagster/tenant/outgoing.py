"""The tenant's half of the second guard: what the code server answers is rebuilt before it leaves, and again where it arrives.

Both sides go by the same survey; this one by a copy in the tenant's own directory, and what the workspace believes is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]

from ntro_dagster.boundary.answers.calls import ANSWERS
from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.relay.client import RelayStorage
from ntro_dagster.platforms.environment import bound_tenant


def may_be_asked(method: str) -> bool:
    """Args: `method`: as gRPC calls it, `/api.DagsterApi/ExternalJob`."""
    return _name(method) in ANSWERS


def rebuilt(method: str, request: Any, replies: Sequence[Any]) -> Message:
    """One answer in the place of `replies`."""
    return ANSWERS[_name(method)](_entities, bound_tenant(), request, replies)


def _name(method: str) -> str:
    return method.rpartition("/")[2]


def _entities(tenant: str) -> frozenset[str]:
    """As the workspace knows them."""
    return frozenset(RelayStorage().event_log_storage.get_dynamic_partitions(entities_set(tenant)))
