"""A channel to each code server, kept from one question to the next. Stock code opens one for each, with a connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.utils import max_rx_bytes, max_send_bytes


def keep_channels() -> None:
    """Takes the place of a method of Dagster's, for which it has no setting. Servers behind TLS, as ours are not, keep theirs."""
    stock = DagsterGrpcClient._channel
    kept: dict[str, grpc.Channel] = {}
    changing = threading.Lock()

    @contextmanager
    def channel_to(client: DagsterGrpcClient) -> Iterator[grpc.Channel]:
        if client.use_ssl:
            with stock(client) as channel:
                yield channel
            return
        address = client._server_address
        with changing:
            channel = kept.get(address) or kept.setdefault(address, _opened(address))
        try:
            yield channel
        except grpc.RpcError:  # who asks next tries at once; of a channel that failed gRPC waits ever longer to try again
            with changing:
                if kept.get(address) is channel:
                    del kept[address]  # it closes when nobody waits for an answer over it
            raise

    DagsterGrpcClient._channel = channel_to  # type: ignore[method-assign,assignment]


def _opened(address: str) -> grpc.Channel:
    """As stock code opens it, but for the compression of what never leaves the machine, and with a connection of its own: one
    that it shared with a channel that has failed, and is alive in a traceback, would wait as long to try again."""
    return grpc.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", max_rx_bytes()),
            ("grpc.max_send_message_length", max_send_bytes()),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )
