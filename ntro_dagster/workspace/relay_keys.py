"""Keys of tenants' processes on other hosts: made, listed, revoked, and known to the relay.

A key is 256 bits of chance, shown once. The registry keeps its SHA-256, which needs no salt: nobody guesses what it is of.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

import psycopg

from ntro_dagster.errors import NotFoundError
from ntro_dagster.workspace.registry import Registry, insert, now

KEY_BYTES = 32
CHANNEL = "ntro_relay_keys"
LOOK_EVERY_S = 1.0
"""Also without being told: a tenant that was closed, a row that was changed by hand."""
PAUSE_S = 0.5
logger = logging.getLogger("ntro.relay")


class RelayKeyNotFoundError(NotFoundError):
    """Values: `id`."""

    code = "RELAY_KEY_NOT_FOUND"
    summary = "no relay key of that id"
    detail = "there is no relay key {id}"
    mend = "`ntro relay key list TENANT` shows those there are"


@dataclass
class RelayKey:
    """With which a tenant's processes on another host reach the relay."""

    tenant_id: UUID
    digest: bytes = field(repr=False)
    revoked_at: datetime | None = None
    id: UUID = field(default_factory=uuid4)
    made_at: datetime = field(default_factory=now)


class RelayKeys:
    """The keys in the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def create(self, tenant: str) -> tuple[RelayKey, str]:
        """A key for the tenant, and the key itself, which is nowhere else. Raises: TenantNotFoundError."""
        secret = secrets.token_urlsafe(KEY_BYTES)
        key = RelayKey(tenant_id=self._registry.tenant(tenant).id, digest=digest_of(secret.encode()))
        with self._registry.transaction() as connection:
            insert(connection, "relay_keys", key)
            connection.execute(_TELL)
        return key, secret

    def list(self, tenant: str) -> list[RelayKey]:
        """The tenant's, oldest first, revoked ones too. Raises: TenantNotFoundError."""
        query = f"{_KEYS} WHERE tenant_id = %(tenant)s ORDER BY made_at"
        return self._registry.rows(RelayKey, query, {"tenant": self._registry.tenant(tenant).id})

    def revoke(self, key_id: UUID) -> RelayKey:
        """For ever; again changes nothing. A running relay is told at once. Raises: RelayKeyNotFoundError."""
        for key in self._registry.rows(RelayKey, f"{_KEYS} WHERE id = %(id)s", {"id": key_id}):
            with self._registry.transaction() as connection:
                ((revoked_at,),) = connection.execute(_REVOKE, [now(), key_id]).fetchall()
                connection.execute(_TELL)
            return replace(key, revoked_at=revoked_at)
        raise RelayKeyNotFoundError(id=key_id)


_KEYS = "SELECT tenant_id, digest, revoked_at, id, made_at FROM registry.relay_keys"
_REVOKE = """
    UPDATE registry.relay_keys SET revoked_at = coalesce(revoked_at, greatest(%s, made_at)) WHERE id = %s RETURNING revoked_at"""
_TELL = f"SELECT pg_notify('{CHANNEL}', '')".encode()
_LIVE = b"""
    SELECT k.digest, k.id, t.slug FROM registry.relay_keys k JOIN registry.tenants t ON t.id = k.tenant_id
    WHERE k.revoked_at IS NULL AND t.status = 'ACTIVE'"""


def digest_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a key that is good."""

    key_id: UUID
    tenant: str


class LiveKeys:
    """The keys that are good, in memory: a wrong one costs the database nothing. A thread keeps them as the registry has them.

    While the database does not answer nobody is known: a key that was revoked meanwhile would be let in.
    """

    def __init__(self, url: str, changed: Callable[[], None]) -> None:
        """Args:
        changed: called on the thread after each change.
        """
        self._url = url
        self._changed = changed
        self._holders: Mapping[bytes, Holder] | None = None
        self._ending = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="relay-keys", daemon=True)

    def start(self) -> None:
        """Return after the first look at the registry."""
        self._thread.start()
        self._first.wait()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    @property
    def known(self) -> bool:
        """Whether the registry answers."""
        return self._holders is not None

    def holder(self, secret: bytes) -> Holder | None:
        """Every digest is compared, whole: how long it takes tells nothing."""
        digest, found = digest_of(secret), None
        for known, holder in (self._holders or {}).items():
            if hmac.compare_digest(known, digest):
                found = holder
        return found

    def is_good(self, holder: Holder) -> bool:
        return self._holders is not None and holder in self._holders.values()

    def _keep(self) -> None:
        while not self._ending.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5, tcp_user_timeout=5_000) as connection:
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    connection.execute("SET statement_timeout = '5s'")
                    while not self._ending.is_set():
                        self._take(connection)
                        for _ in connection.notifies(timeout=LOOK_EVERY_S, stop_after=1):
                            pass
            except psycopg.Error:
                self._set(None)
                logger.warning("no key is known: the database does not answer")
                self._ending.wait(PAUSE_S)

    def _take(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        rows = connection.execute(_LIVE).fetchall()
        self._set({bytes(digest): Holder(key_id, slug) for digest, key_id, slug in rows})  # type: ignore[call-overload, arg-type]

    def _set(self, holders: Mapping[bytes, Holder] | None) -> None:
        before, self._holders = self._holders, holders
        self._first.set()
        if before != holders:
            self._changed()
