"""The lifecycle as a table."""

from __future__ import annotations

from itertools import product

import pytest

from ntro_dagster.subledger import IllegalTransitionError, SubledgerStatus, transition

ALLOWED = {
    "NEEDS_ATTENTION": {"PENDING", "REJECTED"},
    "PENDING": {"APPROVED", "REJECTED", "EXCLUDED"},
    "APPROVED": {"POSTED", "REJECTED", "PENDING"},
    "POSTED": set(),
    "REJECTED": set(),
    "EXCLUDED": set(),
}
"""Spec 8.4, word for word, and the way back from an approval (docs/decisions/022-approvals.md)."""


@pytest.mark.parametrize(("source", "target"), product(SubledgerStatus, repeat=2), ids=str)
def test_the_edges_are_the_specifications(source: SubledgerStatus, target: SubledgerStatus) -> None:
    if target in ALLOWED[source]:
        assert transition(source, target) is target
        return
    with pytest.raises(IllegalTransitionError) as refused:
        transition(source, target)
    assert refused.value.values == {"from_status": source, "to_status": target}


def test_terminal_is_where_no_edge_leads_on() -> None:
    assert {status for status in SubledgerStatus if status.terminal} == {status for status in ALLOWED if not ALLOWED[status]}


def test_every_edge_but_posting_asks_for_a_person() -> None:
    edges = SubledgerStatus.lifecycle.edges
    assert [(edge.source, edge.target) for edge in edges if edge.signal is None] == [("APPROVED", "POSTED")]
    assert [(edge.source, edge.target) for edge in edges if edge.by_machine] == [("NEEDS_ATTENTION", "PENDING")]


def test_the_form_for_the_database_holds_everything() -> None:
    lifecycle = SubledgerStatus.lifecycle.as_json()
    assert {(edge["from"], edge["to"]) for edge in lifecycle["edges"]} == {
        (source, target) for source, targets in ALLOWED.items() for target in targets
    }
    assert (lifecycle["initial"], lifecycle["posted"]) == (["NEEDS_ATTENTION", "PENDING"], "POSTED")
