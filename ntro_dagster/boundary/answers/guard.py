"""The choke point: every call of the workspace to a tenant's code server, and what is made of its answer.

`DagsterGrpcClient` has four methods that speak to a server; `install` puts itself around them, in the process it is called in.
An RPC that is not in `calls.ANSWERS` is not made. Of a failed call, it is told what kind of failure it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
from dagster._grpc.client import DEFAULT_GRPC_TIMEOUT, DagsterGrpcClient
from google.protobuf.message import Message  # type: ignore[import-untyped]

from ntro_dagster.boundary.answers.calls import ANSWERS
from ntro_dagster.boundary.answers.ticks import Entities


class CallFailedError(grpc.RpcError):  # type: ignore[misc]
    """Of what gRPC raises, the kind alone: its text is the server's."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__(f"the call failed: {status.name}")
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status


@dataclass(frozen=True, slots=True)
class Guard:
    """What a workspace's process must know to judge an answer.

    Attributes:
        location_at: whose server listens there (a socket's path, or `host:port`), as the operator configured it; None: nobody's.
        entities: the slugs of a tenant's entities, as the workspace knows them.
    """

    location_at: Callable[[str], str | None]
    entities: Entities

    def tenant_of(self, client: DagsterGrpcClient, method: str) -> str:
        """Raises `CallFailedError`: this is not to be asked, or not of anybody there."""
        tenant = self.location_at(client.socket or f"{client.host}:{client.port}")
        if tenant is None or method not in ANSWERS:
            raise CallFailedError(grpc.StatusCode.PERMISSION_DENIED)
        return tenant

    def rebuilt(self, tenant: str, method: str, request: Any, replies: Sequence[Any]) -> Message:
        return ANSWERS[method](self.entities, tenant, request, replies)


LARGEST_ANSWER = 64 * 2**20
"""Bytes. More is no answer that Dagster asks for."""


class _Replies(list[Message]):
    """The parts of one answer, as far as it is not too large."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def append(self, part: Message) -> None:
        self._bytes += part.ByteSize()
        if self._bytes > LARGEST_ANSWER:
            raise OverflowError
        super().append(part)


def _kind(error: Exception) -> grpc.StatusCode:
    status = error.code() if isinstance(error, grpc.RpcError) and hasattr(error, "code") else None
    told = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.PERMISSION_DENIED}
    return status if status in told else grpc.StatusCode.UNKNOWN


def install(guard: Guard) -> None:
    """From now on every answer that this process receives from a code server is rebuilt."""
    ask, ask_async = DagsterGrpcClient._get_response, DagsterGrpcClient._gen_response
    stream, stream_async = DagsterGrpcClient._get_streaming_response, DagsterGrpcClient._gen_streaming_response

    # Each raises outside of its `except`: an exception in flight would take the server's text along as its context.

    def get_response(client: DagsterGrpcClient, method: str, request: Message, timeout: int = DEFAULT_GRPC_TIMEOUT) -> Message:
        tenant = guard.tenant_of(client, method)
        try:
            replies = [ask(client, method, request, timeout)]
        except Exception as error:
            kind = _kind(error)
        else:
            return guard.rebuilt(tenant, method, request, replies)
        raise CallFailedError(kind)

    async def gen_response(
        client: DagsterGrpcClient,
        method: str,
        request: Message,
        timeout: int = DEFAULT_GRPC_TIMEOUT,  # noqa: ASYNC109 - Dagster's signature
    ) -> Message:
        tenant = guard.tenant_of(client, method)
        try:
            replies = [await ask_async(client, method, request, timeout)]
        except Exception as error:
            kind = _kind(error)
        else:
            return guard.rebuilt(tenant, method, request, replies)
        raise CallFailedError(kind)

    def get_stream(
        client: DagsterGrpcClient, method: str, request: Message, timeout: int = DEFAULT_GRPC_TIMEOUT
    ) -> Iterator[Message]:
        tenant, replies = guard.tenant_of(client, method), _Replies()
        try:
            for each in stream(client, method, request, timeout):
                replies.append(each)
        except Exception as error:
            kind = _kind(error)
        else:
            yield guard.rebuilt(tenant, method, request, replies)
            return
        raise CallFailedError(kind)

    async def gen_stream(
        client: DagsterGrpcClient,
        method: str,
        request: Message,
        timeout: int = DEFAULT_GRPC_TIMEOUT,  # noqa: ASYNC109 - Dagster's signature
    ) -> AsyncIterator[Message]:
        tenant, replies = guard.tenant_of(client, method), _Replies()
        try:
            async for each in stream_async(client, method, request, timeout):
                replies.append(each)
        except Exception as error:
            kind = _kind(error)
        else:
            yield guard.rebuilt(tenant, method, request, replies)
            return
        raise CallFailedError(kind)

    for name, guarded in {
        "_get_response": get_response,
        "_gen_response": gen_response,
        "_get_streaming_response": get_stream,
        "_gen_streaming_response": gen_stream,
        "health_check_query": lambda _: "UNKNOWN",  # would print what gRPC says
    }.items():
        setattr(DagsterGrpcClient, name, guarded)
