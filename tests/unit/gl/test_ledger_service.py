"""What an answer over HTTP means: done, not done, or in doubt."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from ntro_dagster.gl.providers.errors import ConnectionError_, OptionsInvalidError, OutcomeUnknownError, RateLimitedError
from ntro_dagster.gl.providers.http import Service, pause


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 5), ("17", 17), ("0", 0), ("-3", 0), ("1e9", 86400), ("soon", 5), ("nan", 5), ("", 5)],
)
def test_how_long_we_are_asked_to_wait(header: str | None, seconds: float) -> None:
    assert pause(header) == seconds


def test_a_date_to_wait_for() -> None:
    assert 50 < pause(formatdate(time.time() + 60, usegmt=True)) <= 60


@pytest.mark.parametrize(
    "url",
    ["http://ledger.example.com", "ftp://127.0.0.1", "https://me:pw@ledger.example.com", "https://x.example.com/?a=b", "ledger"],
)
def test_an_address_is_https_and_nothing_else(url: str) -> None:
    with pytest.raises(OptionsInvalidError):
        Service("xero", url, 1)


@pytest.mark.parametrize(
    ("status", "text", "meaning"),
    [
        (200, b'{"a": 1.10}', None),
        (404, b"<html>", None),
        (400, b"", None),
        (200, b"<html>", OutcomeUnknownError),
        (302, b"", OutcomeUnknownError),
        (408, b"", OutcomeUnknownError),
        (500, b"", OutcomeUnknownError),
        (503, b"", OutcomeUnknownError),
        (401, b"", ConnectionError_),
        (403, b"", ConnectionError_),
        (429, b"", RateLimitedError),
    ],
)
def test_what_an_answer_means(status: int, text: bytes, meaning: type[Exception] | None) -> None:
    service: Any = Service("xero", "https://ledger.example.com", 1)
    if meaning is None:
        reply = service._read(status, {}, text)
        assert (reply.status, reply.good) == (status, status == 200)
        assert status != 200 or str(reply.data["a"]) == "1.10"
    else:
        with pytest.raises(meaning):
            service._read(status, {"Retry-After": "1"}, text)
