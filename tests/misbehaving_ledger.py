"""A general ledger of somebody else's that misbehaves (`misbehaving_server`), as a test talks to it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misbehaving_server import WRITES

__all__ = ["QUICK", "SECRETS", "WRITES", "Elsewhere", "misbehaving_ledger"]


@dataclass(frozen=True)
class Elsewhere:
    """The running ledger, as a test talks to it."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mood(self, place: str, **mood: Any) -> None:
        self._ask("/_mood", {"place": place, **mood})

    def state(self, place: str) -> dict[str, Any]:
        return self._ask(f"/_state?place={urllib.parse.quote(place)}")

    def standing(self, place: str) -> list[dict[str, Any]]:
        """Journals that are neither voided nor cancelled."""
        return [each for each in self.state(place)["journals"] if each["status"] in {"POSTED", "1"}]

    def _ask(self, path: str, content: Any = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own process
            self.url + path,
            data=json.dumps(content).encode() if content is not None else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            found: dict[str, Any] = json.load(reply)
        return found

    def xero(self, place: str, **options: Any) -> dict[str, Any]:
        """Options of an organisation of this ledger."""
        return {"organisation": place, "url": f"{self.url}/api.xro/2.0", "identity_url": self.url, **QUICK, **options}

    def erpnext(self, place: str, **options: Any) -> dict[str, Any]:
        return {"company": place, "url": self.url, **QUICK, **options}


QUICK = {"timeout_seconds": 0.7, "settle_seconds": 0.8}
SECRETS = {"NTRO_SECRET_XERO": "id:secret", "NTRO_SECRET_ERPNEXT": "key:secret"}


@contextmanager
def misbehaving_ledger() -> Iterator[Elsewhere]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("misbehaving_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield Elsewhere(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
