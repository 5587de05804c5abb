"""Status enums that several types share, beside the one that ends in the general ledger (`SubledgerStatus`)."""

from __future__ import annotations

from enum import auto

from ntro_dagster.subledger.lifecycle import lifecycle
from ntro_dagster.subledger.status import REVIEW, StatusEnum


@lifecycle(*REVIEW)
class ReviewedStatus(StatusEnum):
    """For rows that others are made of: reviewed, and not posted themselves."""

    NEEDS_ATTENTION = auto()
    PENDING = auto()
    APPROVED = auto()
    REJECTED = auto()
    EXCLUDED = auto()
