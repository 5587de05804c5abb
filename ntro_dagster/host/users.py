"""Users of the operating system: one for each tenant, one for the workspace, where root starts ntro.

They are numbers without an account, from a range of the home's own. A number is given once and to nobody else, also when the
tenant is gone: files of it may still lie somewhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.host.permissions import write_private

FIRST, SPAN, RANGES = 2_000_000, 10_000, 10_000
"""A home takes one of `RANGES` ranges of `SPAN` numbers, from `FIRST` on: far from accounts, and two homes rarely meet."""


class UsersDamagedError(NtroError):
    """Values: `path`."""

    code = "OS_USERS_DAMAGED"
    summary = "the file that says which user each tenant is cannot be read"
    detail = "{path} is not what this program wrote"
    mend = "restore {path} from a backup; `ls -ln` of the tenants' logs shows the numbers that were given"


class UsersImpossibleError(UsageError):
    """Values: `why`."""

    code = "OS_USERS_IMPOSSIBLE"
    summary = "tenants cannot have users of their own here"
    detail = "tenants cannot run as users of their own: {why}"
    mend = "open the path to other users (`chmod o+x`), or install ntro elsewhere; or `ntro up --shared-user` does without"


class UsersExhaustedError(NtroError):
    """Values: `path`."""

    code = "OS_USERS_EXHAUSTED"
    summary = "no number is left for another tenant's user"
    detail = "the range of numbers in {path} is used up"
    mend = "make another home for further tenants"


class Users(BaseModel):
    """What users.json holds. The last number of the range is the surveyor's.

    Attributes:
        base: the workspace's user; tenants' come after it.
        next: the first that was never given.
        tenants: slug -> user, also of those that are gone.
        settled: slugs whose files were handed over.
        shared: not in force: everything runs as root, by choice.
    """

    model_config = ConfigDict(frozen=True)

    base: int
    next: int
    tenants: dict[str, int] = {}
    settled: list[str] = []
    shared: bool = False

    @property
    def workspace(self) -> int:
        return self.base

    @property
    def surveyor(self) -> int:
        """Whom code is asked as what it defines: somebody who may read nothing of anybody's, the tenant's own data included."""
        return self.base + SPAN - 1


def read_users(path: Path) -> Users | None:
    """None: never made. Raises `UsersDamagedError`."""
    try:
        return Users.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError):
        raise UsersDamagedError(path=path) from None


def write_users(path: Path, users: Users) -> None:
    write_private(path, users.model_dump_json(indent=2) + "\n")


def first_users(base: int | None) -> Users:
    """Args: `base`: where the range begins; None: one is chosen in which nobody is. Raises `UsersImpossibleError`."""
    taken = {account.pw_uid for account in pwd.getpwall()} | set(_delegated())
    while base is None:
        start = FIRST + SPAN * secrets.randbelow(RANGES)
        base = start if not any(start <= uid < start + SPAN for uid in taken) else None
    if any(base <= uid < base + SPAN for uid in taken):
        raise UsersImpossibleError(why=f"the numbers from {base} to {base + SPAN - 1} are others' in part")
    return Users(base=base, next=base + 1)


def _delegated() -> Iterator[int]:
    """The numbers that are given to containers, by steps that no range of ours can slip through."""
    try:
        lines = Path("/etc/subuid").read_text().split()
    except OSError:
        return
    for line in lines:
        _, first, count = line.split(":")
        yield from range(int(first), int(first) + int(count), SPAN)
        yield int(first) + int(count) - 1


def given(path: Path, users: Users, slug: str) -> tuple[Users, int]:
    """The tenant's user, on disk before anybody uses it."""
    if slug in users.tenants:
        return users, users.tenants[slug]
    if users.next >= users.surveyor:
        raise UsersExhaustedError(path=path)
    users = users.model_copy(update={"tenants": users.tenants | {slug: users.next}, "next": users.next + 1})
    write_users(path, users)
    return users, users.tenants[slug]


def identity(uid: int | None) -> dict[str, Any]:
    """Arguments with which `subprocess` runs a program as that user and in no other group; None: as we are."""
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}


@contextmanager
def acting_as(uid: int | None) -> Iterator[None]:
    """This thread opens files with that user's rights and no more: what root reads among a tenant's files, it reads so.

    A link that the tenant planted then leads nowhere the tenant could not go itself. Not to be held over an `await`.
    None: as we are.
    """
    if uid is None or os.geteuid() != 0:
        yield
        return
    call, groups = ctypes.CDLL(None), os.getgroups()
    os.setgroups([])
    try:
        call.setfsgid(uid)
        call.setfsuid(uid)
        if call.setfsuid(-1) != uid or call.setfsgid(-1) != uid:
            raise UsersImpossibleError(why="the system refuses to act as the tenant's user")
        yield
    finally:
        call.setfsuid(0)
        call.setfsgid(0)
        os.setgroups(groups)
