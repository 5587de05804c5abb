"""The one tree of errors.

An error's text travels: into Dagster's event log, into terminals, into tickets. A tenant's values must not travel with
it, so `str(error)` is its code and a fixed sentence, nothing else. The values live in `error.values`, and
`error.explain()` puts them back for someone who may see them (the CLI of the tenant's own operator, the desk).
"""

from __future__ import annotations

from typing import Any, ClassVar


class NtroError(Exception):
    """Something the user can act on.

    Attributes:
        code: stable, upper snake case; part of the closed vocabulary, may cross the wall.
        summary: fixed sentence without any value.
        detail: sentence with `{name}` slots, filled from `values` by `explain()`.
        mend: what to do next, same slots.
        exit_code: process exit status of the CLI (see docs/cli.md).
    """

    code: ClassVar[str] = "NTRO_ERROR"
    summary: ClassVar[str] = "something went wrong"
    detail: ClassVar[str] = ""
    mend: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1

    def __init__(self, **values: Any) -> None:
        self.values = values
        super().__init__(f"{self.code}: {self.summary}")

    def explain(self) -> str:
        """What happened, to what. Carries values: only for eyes on the tenant's side."""
        return (self.detail or self.summary).format_map(self.values)

    def advice(self) -> str:
        """What to do next. Carries values, as `explain()` does."""
        return self.mend.format_map(self.values)


class TransientError(NtroError):
    """Trying again later may help."""

    code = "TRANSIENT"
    exit_code = 75


class UsageError(NtroError):
    """The command, or what it was given, is off: nothing was changed."""

    code = "USAGE"
    exit_code = 2


class NotFoundError(UsageError):
    """A name that nothing goes by."""

    code = "NOT_FOUND"
    exit_code = 4
