"""Lifecycles that several types share, beside the one that ends in the general ledger (`SubledgerStatus.lifecycle`)."""

from __future__ import annotations

from ntro_dagster.subledger.status import Edge, Lifecycle

REVIEWED = Lifecycle(
    edges=(
        Edge("NEEDS_ATTENTION", "PENDING", signal="accept", by_machine=True),
        Edge("NEEDS_ATTENTION", "REJECTED", signal="reject"),
        Edge("PENDING", "APPROVED", signal="approve"),
        Edge("PENDING", "REJECTED", signal="reject"),
        Edge("PENDING", "EXCLUDED", signal="exclude"),
    ),
    initial=("NEEDS_ATTENTION", "PENDING"),
    editable=("NEEDS_ATTENTION", "PENDING"),
    posted=None,
)
"""Of rows that are not posted themselves: approved is the end, and other rows are made of them (spec 8.8)."""
