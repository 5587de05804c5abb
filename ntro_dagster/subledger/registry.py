"""Which row types there are. Types register themselves when their module is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ntro_dagster.bundles import Bundle
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.subledger.row import Row

R = TypeVar("R", bound=type[Row])

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,40}$")


class SubledgerNotFoundError(NotFoundError):
    code = "SUBLEDGER_NOT_FOUND"
    summary = "no subledger goes by that name"
    detail = "there is no subledger {name!r}; known: {known}"
    mend = "check the spelling"


class SubledgerNameTakenError(UsageError):
    code = "SUBLEDGER_NAME_TAKEN"
    summary = "two different types were registered under one name"
    detail = "subledger {name!r} is already {known}, not {model}"
    mend = "give one of them another name, or another owner_runbook"


@dataclass(frozen=True, slots=True)
class SubledgerType:
    """A registered type: its logical name, its row model, and the runbook that owns it (None = the platform)."""

    name: str
    model: type[Row]
    owner_runbook: str | None


_TYPES: dict[tuple[str, str | None], SubledgerType] = {}


def register_type(name: str, owner_runbook: str | None = None) -> Callable[[R], R]:
    """Class decorator. The table is `ledgers.<name>`.

    Raises `SubledgerNameTakenError` if another class of another module holds the name; registering the same class again
    (a reload) replaces it.
    """

    def register(model: R) -> R:
        if not _NAME.match(name):
            raise SubledgerNameTakenError(name=name, known="not a legal table name", model=model.__qualname__)
        known = _TYPES.get((name, owner_runbook))
        if known and (known.model.__module__, known.model.__qualname__) != (model.__module__, model.__qualname__):
            raise SubledgerNameTakenError(name=name, known=known.model.__qualname__, model=model.__qualname__)
        _TYPES[name, owner_runbook] = SubledgerType(name, model, owner_runbook)
        return model

    return register


def subledger_type(name: str, owner_runbook: str | None = None) -> SubledgerType:
    """The runbook's own type of that name, else the platform's. Raises `SubledgerNotFoundError`."""
    found = _TYPES.get((name, owner_runbook)) or _TYPES.get((name, None))
    if found is None:
        raise SubledgerNotFoundError(name=name, known=", ".join(sorted(name for name, _ in _TYPES)) or "none")
    return found


def subledger_types() -> list[SubledgerType]:
    """Every registered type, by name."""
    return sorted(_TYPES.values(), key=lambda known: (known.name, known.owner_runbook or ""))


def load_types(*bundles: Bundle) -> None:
    """Import the `subledgers` package of each bundle, which registers its types."""
    for bundle in bundles:
        bundle.load("subledgers")
