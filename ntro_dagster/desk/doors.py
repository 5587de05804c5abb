"""Who may come in: dependencies of the routes. A page sends a stranger to the log-in, the API answers 401."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request

from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.shield import SAFE
from ntro_dagster.desk.sittings import Sitting, sitting
from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import TenantDatabase

COOKIE = "ntro_desk"
CSRF_HEADER, CSRF_FIELD = "X-Ntro-CSRF", "csrf"


class NotLoggedInError(NtroError):
    code = "NOT_LOGGED_IN"
    summary = "nobody is logged in"
    mend = "log in, or send a key: `Authorization: Bearer KEY`"


class RoleMayNotError(NtroError):
    """Values: `role`."""

    code = "ROLE_MAY_NOT"
    summary = "this member's role may not do that"
    detail = "the role {role} may not do that"
    mend = "ask somebody whose role it is"


class FormNotOursError(NtroError):
    code = "CSRF"
    summary = "the request does not come from a page of this log-in"
    mend = "load the page again and repeat what you did"


class LoginNeededError(NtroError):
    """Values: `target`, where the stranger wanted to go."""

    code = "NOT_LOGGED_IN"
    summary = "nobody is logged in"


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def open_database(request: Request) -> AsyncIterator[TenantDatabase]:
    async with desk_of(request).database() as database:
        yield database


Database = Annotated[TenantDatabase, Depends(open_database, scope="function")]


async def known(request: Request, database: Database) -> Sitting | None:
    """Who asks. Raises: `FormNotOursError`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        found = await sitting(database, key.strip())
        return found if found and found.kind == "key" else None
    token = request.cookies.get(COOKIE)
    found = await sitting(database, token) if token else None
    if found and found.kind != "session":
        return None
    if found and request.method not in SAFE and not await _ours(request, found):
        raise FormNotOursError
    return found


async def _ours(request: Request, member: Sitting) -> bool:
    said: Any = request.headers.get(CSRF_HEADER)
    if said is None and request.headers.get("content-type", "").startswith(("application/x-www-form-urlencoded", "multipart/")):
        said = (await request.form()).get(CSRF_FIELD)
    return isinstance(said, str) and hmac.compare_digest(said.encode(), member.csrf.encode())


async def member(found: Annotated[Sitting | None, Depends(known)]) -> Sitting:
    """Raises: `NotLoggedInError`."""
    if found is None:
        raise NotLoggedInError
    return found


async def decider(found: Annotated[Sitting, Depends(member)]) -> Sitting:
    """Raises: `NotLoggedInError`, `RoleMayNotError`."""
    if not found.may_decide:
        raise RoleMayNotError(role=found.role)
    return found


async def visitor(request: Request, found: Annotated[Sitting | None, Depends(known)]) -> Sitting:
    """Of a page. Raises: `LoginNeededError`."""
    if found is None:
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        raise LoginNeededError(target=quote(target, safe=""))
    return found


Member = Annotated[Sitting, Depends(member)]
Decider = Annotated[Sitting, Depends(decider)]
Visitor = Annotated[Sitting, Depends(visitor)]
