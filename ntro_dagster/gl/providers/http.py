"""A REST service, as a careful client sees it: every answer is done, not done, or in doubt.

urllib3 without its retries: whether to send again is for the posting protocol to say, not for a client.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from ntro_dagster.gl.providers.errors import (
    ConnectionError_,
    LedgerUnreachableError,
    OptionsInvalidError,
    OutcomeUnknownError,
    RateLimitedError,
)

_UNAUTHORISED = (401, 403)
_TOO_MANY = 429
_IN_DOUBT = 500
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S, _PAUSE_S = 0.0, 24 * 3600.0, 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that tells: 2xx, or a 4xx that the provider has to read. `data`: numbers are decimals."""

    status: int
    data: Any

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004


@dataclass(slots=True)
class Service:
    """One base address. `provider`: its name, for errors."""

    provider: str
    url: str
    timeout_s: float
    _pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, num_pools=2))

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}):
            raise OptionsInvalidError(provider=self.provider, why="the address must begin with https://")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise OptionsInvalidError(provider=self.provider, why="the address must be an address alone")

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        content: Any = None,
        form: Mapping[str, str] | None = None,
    ) -> Reply:
        """Args: `content`: sent as JSON.

        Raises: `ConnectionError_`, `LedgerUnreachableError`, `RateLimitedError`: nothing was done. `OutcomeUnknownError`.
        """
        url = f"{self.url.rstrip('/')}{path}" + (f"?{urlencode(query)}" if query else "")
        body = json.dumps(content).encode() if content is not None else urlencode(form).encode() if form is not None else None
        kind = {"Content-Type": "application/json" if content is not None else "application/x-www-form-urlencoded"}
        sent = {"Accept": "application/json", **(kind if body is not None else {}), **headers}
        return await asyncio.to_thread(self._send, method, url, body, sent)

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        begun = time.monotonic()
        try:
            reply = self._pool.request(
                method, url, body=body, headers=headers, redirect=False, timeout=urllib3.Timeout(total=self.timeout_s)
            )
            text = reply.data
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise LedgerUnreachableError(provider=self.provider, why=type(error).__name__) from None
        except urllib3.exceptions.HTTPError as error:
            if isinstance(getattr(error, "reason", None), urllib3.exceptions.NewConnectionError):
                raise LedgerUnreachableError(provider=self.provider, why=type(error).__name__) from None
            why = f"{type(error).__name__} after {time.monotonic() - begun:.1f} s"
            raise OutcomeUnknownError(provider=self.provider, why=why) from None
        return self._read(reply.status, dict(reply.headers), text)

    def _read(self, status: int, headers: Mapping[str, str], text: bytes) -> Reply:
        if status in _UNAUTHORISED:
            raise ConnectionError_(provider=self.provider, why=f"it answered {status}: {_beginning(text)}")
        if status == _TOO_MANY:
            raise RateLimitedError(
                provider=self.provider, seconds=pause({k.lower(): v for k, v in headers.items()}.get("retry-after"))
            )
        if status >= _IN_DOUBT or status < 200 or 300 <= status < 400 or status == 408:  # noqa: PLR2004
            raise OutcomeUnknownError(provider=self.provider, why=f"it answered {status}: {_beginning(text)}")
        try:
            return Reply(status, json.loads(text, parse_float=Decimal, parse_int=Decimal) if text.strip() else None)
        except ValueError:
            if status < 300:  # noqa: PLR2004
                raise OutcomeUnknownError(provider=self.provider, why="its answer is not JSON") from None
            return Reply(status, {"message": _beginning(text)})

    def close(self) -> None:
        self._pool.clear()


def pause(retry_after: str | None) -> float:
    """Seconds, from a Retry-After header (RFC 9110, 10.2.3): seconds or a date. A short pause where there is none."""
    if retry_after is None:
        return _PAUSE_S
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return _PAUSE_S
    return min(max(seconds, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S) if seconds == seconds else _PAUSE_S  # noqa: PLR0124


def _beginning(text: bytes) -> str:
    return text[:500].decode(errors="replace")
