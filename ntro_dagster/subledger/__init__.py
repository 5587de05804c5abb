"""Subledgers: typed rows, their lifecycle, and the handle that works on them (spec 8)."""

from ntro_dagster.subledger.handle import SubledgerHandle, open
from ntro_dagster.subledger.lifecycle import Edge, lifecycle
from ntro_dagster.subledger.period import Period
from ntro_dagster.subledger.proposals import BillProposal, JournalEntryLineItem, JournalProposal, external_id_of
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import CurrencyCode, Money, Row
from ntro_dagster.subledger.status import IllegalTransitionError, StatusEnum, SubledgerStatus, transition

__all__ = [
    "BillProposal",
    "CurrencyCode",
    "Edge",
    "IllegalTransitionError",
    "JournalEntryLineItem",
    "JournalProposal",
    "Money",
    "Period",
    "Row",
    "StatusEnum",
    "SubledgerHandle",
    "SubledgerStatus",
    "external_id_of",
    "lifecycle",
    "open",
    "register_type",
    "transition",
]
