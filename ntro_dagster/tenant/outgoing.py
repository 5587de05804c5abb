"""The tenant's half of the second guard: what the code server answers is rebuilt before it leaves, and again where it arrives.

Both sides go by the same survey; this one by a copy in the tenant's own directory, and what the workspace believes is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]

from ntro_dagster.boundary.answers.calls import ANSWERS, AnswerRefusedError
from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.relay.client import RelayStorage
from ntro_dagster.platforms.environment import bound_tenant

HEALTH = "grpc.health.v1.Health"
"""gRPC's own service; it says whether the server serves."""


def rebuilt(method: str, request: Any, replies: Sequence[Any]) -> Message | None:
    """One answer in the place of `replies`. None: they may go as they are.

    Args:
        method: as gRPC calls it, `/api.DagsterApi/ExternalJob`.

    Raises:
        AnswerRefusedError: nobody may ask that.
    """
    service, _, name = method.removeprefix("/").partition("/")
    if service == HEALTH:
        return None
    if name not in ANSWERS:
        raise AnswerRefusedError
    return ANSWERS[name](_entities, bound_tenant(), request, replies)


def _entities(tenant: str) -> frozenset[str]:
    """As the workspace knows them."""
    return frozenset(RelayStorage().event_log_storage.get_dynamic_partitions(entities_set(tenant)))
