"""Rows that cannot be posted, and why (decision 030)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ntro_dagster.errors import NtroError

PROPOSAL_FAILED = "PROPOSAL_FAILED"
"""Why a row is held back of which no journal could be made, where nothing better is known."""

_CODE = re.compile("[A-Z][A-Z0-9_]{0,79}")


class EverythingElsePostedError(NtroError):
    """Said when a posting is at its end: some rows are not posted, and all others are."""


class RowsNotPostedError(EverythingElsePostedError):
    """When everything else is posted. Values: `rows`, `which`: the first of them, each with its reason."""

    code = "ROWS_NOT_POSTED"
    summary = "rows could not be posted; everything else was"
    detail = "{rows} approved row(s) are held back: {which}"
    mend = (
        "the desk shows the reason at each row: take it back and correct it, or correct the chart; they are tried again when "
        "row, chart, rate or runbook changes, and at `ntro gl retry`"
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows that are held back together, because they make one journal. Attributes: `wanted`: the rate they wait for."""

    rows: tuple[uuid.UUID, ...]
    external_id: str
    code: str
    detail: str
    wanted: str | None = None

    @classmethod
    def because(cls, rows: Sequence[uuid.UUID], external_id: str, error: Exception) -> Self:
        """Whatever the error is, a runbook's own among them: a row is held back for its sake, so this must not fail."""
        code = error.code if isinstance(error, NtroError) and _CODE.fullmatch(str(error.code)) else PROPOSAL_FAILED
        try:
            detail = error.explain() if isinstance(error, NtroError) else f"{type(error).__name__}: {error}"
        except Exception:
            detail = type(error).__name__
        return cls(tuple(rows), external_id, code, str(detail).replace("\0", " "))
