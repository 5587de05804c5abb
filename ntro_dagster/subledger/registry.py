"""Which row types there are. Types register themselves when their module is imported.

A runbook's type is its own: two bundles may use one logical name, and each version of a bundle that is loaded has its own model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from ntro_dagster.bundles import Bundle, bundle_of
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.subledger.row import Row
from ntro_dagster.subledger.status import Lifecycle

R = TypeVar("R", bound=type[Row])

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,40}$")
LONGEST_TABLE = 46
"""PostgreSQL cuts names at 63 bytes; triggers and indices are named after the table."""


class SubledgerNotFoundError(NotFoundError):
    code = "SUBLEDGER_NOT_FOUND"
    summary = "no subledger goes by that name"
    detail = "there is no subledger {name!r}; known: {known}"
    mend = "check the spelling"


class SubledgerNameTakenError(UsageError):
    code = "SUBLEDGER_NAME_TAKEN"
    summary = "two different types were registered under one name"
    detail = "subledger {name!r} is already {known}, not {model}"
    mend = "give one of them another name"


class SubledgerNameInvalidError(UsageError):
    code = "SUBLEDGER_NAME_INVALID"
    summary = "a type's name, or that of its table, cannot be one"
    detail = "subledger {name!r}: {why}"
    mend = "a name is lower-case letters, digits and _, and its table `<runbook>__<name>` has at most 46 characters"


@dataclass(frozen=True, slots=True)
class SubledgerType:
    """A registered type.

    Attributes:
        name: what authors call it.
        owner_runbook: slug of the runbook that owns it; None: the platform.
        version: of the bundle that the model was loaded from; None for one that was not pushed.
    """

    name: str
    model: type[Row]
    owner_runbook: str | None
    version: str | None = None

    @property
    def table(self) -> str:
        """Its table in `ledgers`, and its name wherever it must be unique: in signals, asset keys, counts."""
        return table_name(self.name, self.owner_runbook)

    @property
    def lifecycle(self) -> Lifecycle:
        return self.model.lifecycle

    @property
    def content(self) -> tuple[str, ...]:
        """Columns that people review."""
        return self.model.content_fields()

    @property
    def editable(self) -> tuple[str, ...]:
        """Columns that people may change."""
        return tuple(getattr(self.model, "editable", self.content))


def table_name(name: str, owner_runbook: str | None) -> str:
    return name if owner_runbook is None else f"{owner_runbook.replace('-', '_')}__{name}"


_TYPES: dict[tuple[str, str | None, str | None], SubledgerType] = {}


def register_type(name: str, owner_runbook: str | None = None) -> Callable[[R], R]:
    """Class decorator. The table is `ledgers.<name>`, that of a runbook's type `ledgers.<runbook>__<name>`.

    Within a bundle `owner_runbook` is the bundle's own slug and may be left out. Registering the same class again (a reload)
    replaces it.

    Raises: `SubledgerNameTakenError`, `SubledgerNameInvalidError`.
    """

    def register(model: R) -> R:
        bundle = bundle_of(model.__module__)
        slug = bundle.slug if bundle else None
        owner = owner_runbook or slug
        if slug and owner != slug:
            raise SubledgerNameInvalidError(name=name, why=f"owner_runbook is {owner!r} in the bundle of {slug!r}")
        if not _NAME.match(name):
            raise SubledgerNameInvalidError(name=name, why="not lower-case letters, digits and _")
        if len(table_name(name, owner)) > LONGEST_TABLE:
            raise SubledgerNameInvalidError(name=name, why=f"its table would be {table_name(name, owner)!r}")
        kind = SubledgerType(name, model, owner, bundle.version if bundle else None)
        known = _TYPES.get((name, owner, kind.version))
        if owner and (name, None, None) in _TYPES:
            known = _TYPES[name, None, None]  # the platform's names are not to be shadowed
        if known and (known.model.__module__, known.model.__qualname__) != (model.__module__, model.__qualname__):
            raise SubledgerNameTakenError(name=name, known=known.model.__qualname__, model=model.__qualname__)
        _TYPES[name, owner, kind.version] = kind
        return model

    return register


running: ContextVar[Bundle | None] = ContextVar("running", default=None)
"""The bundle whose code is at work: its own types come first where it names one."""


def subledger_type(name: str, owner_runbook: str | None = None, version: str | None = None) -> SubledgerType:
    """The runbook's own type of that name, else the platform's. Where no runbook is named it is the one that is running.

    Args: `version`: None: the one that was loaded first, which is the active one.

    Raises: `SubledgerNotFoundError`.
    """
    at_work = running.get()
    if owner_runbook is None and at_work is not None:
        owner_runbook, version = at_work.slug, at_work.version
    found = _TYPES.get((name, owner_runbook, version))
    if found is None and version is None:
        found = next((kind for (n, owner, _), kind in _TYPES.items() if (n, owner) == (name, owner_runbook)), None)
    found = found or _TYPES.get((name, None, None))
    if found is None:
        raise SubledgerNotFoundError(name=name, known=", ".join(sorted({name for name, _, _ in _TYPES})) or "none")
    return found


def subledger_types(*bundles: Bundle) -> list[SubledgerType]:
    """The types of these bundles, by table; of all that are loaded, where none is named."""
    wanted = {(bundle.slug, bundle.version) for bundle in bundles}
    found = [kind for kind in _TYPES.values() if not wanted or (kind.owner_runbook, kind.version) in wanted]
    return sorted(found, key=lambda kind: kind.table)


def open_statuses(table: str) -> tuple[str, ...]:
    """Statuses in which the table's rows hold up the month; the usual ones where its type is not loaded."""
    kind = next((kind for kind in _TYPES.values() if kind.table == table), None)
    return (kind.lifecycle if kind else Row.lifecycle).open


@contextmanager
def fresh_types() -> Iterator[None]:
    """While everything is loaded again: none are known at first, and those of before come back where that fails."""
    before = dict(_TYPES)
    _TYPES.clear()
    try:
        yield
    except BaseException:
        _TYPES.clear()
        _TYPES.update(before)
        raise


def load_types(*bundles: Bundle) -> None:
    """Import the `subledgers` package of each bundle, which registers its types."""
    for bundle in bundles:
        bundle.load("subledgers")
