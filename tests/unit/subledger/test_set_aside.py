"""Which final statuses may be left by reinstating: those of rows that count nowhere, where somebody can accept the new row."""

from __future__ import annotations

from enum import auto

import pytest

from ntro_dagster.subledger.lifecycle import Edge, Lifecycle, LifecycleInvalidError, lifecycle
from ntro_dagster.subledger.lifecycles import ReviewedStatus
from ntro_dagster.subledger.status import REVIEW, StatusEnum, SubledgerStatus

BORN = ("NEEDS_ATTENTION", "PENDING")


def test_rejected_and_excluded_and_never_what_counts() -> None:
    assert SubledgerStatus.lifecycle.set_aside == ("REJECTED", "EXCLUDED")
    assert ReviewedStatus.lifecycle.set_aside == ("REJECTED", "EXCLUDED")
    assert "reinstate" in SubledgerStatus.lifecycle.signals
    assert SubledgerStatus.lifecycle.sources("reinstate") == ["REJECTED", "EXCLUDED"]
    assert SubledgerStatus.lifecycle.targets("reinstate") == {}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([Edge("REJECTED", "PENDING", "revive")], ("EXCLUDED",)),
        ([Edge("APPROVED", "POSTED"), Edge("POSTED", "RETURNED", "reject")], ("REJECTED", "EXCLUDED")),
    ],
    ids=["what leads on", "what has a journal"],
)
def test_nothing_else(more: list[Edge], expected: tuple[str, ...]) -> None:
    posted = "POSTED" if len(more) == 2 else None
    assert Lifecycle((*REVIEW, *more), BORN, BORN, posted).set_aside == expected


def test_where_nobody_could_accept_the_new_row_none() -> None:
    edges = (Edge("NEEDS_ATTENTION", "PENDING"), *REVIEW[1:])
    made = Lifecycle(edges, BORN, BORN, None)
    assert (made.set_aside, "reinstate" in made.signals) == ((), False)


def test_no_edge_is_called_so() -> None:
    with pytest.raises(LifecycleInvalidError) as raised:

        @lifecycle(*REVIEW, Edge("REJECTED", "PENDING", "reinstate"))
        class Own(StatusEnum):
            NEEDS_ATTENTION = auto()
            PENDING = auto()
            APPROVED = auto()
            REJECTED = auto()
            EXCLUDED = auto()

    assert "`reinstate` moves no row" in raised.value.values["why"]
