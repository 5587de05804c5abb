"""What a status enum must have, and how it says what it lacks."""

from __future__ import annotations

from enum import auto

import pytest

from ntro_dagster.subledger import Edge, Row, StatusEnum, SubledgerStatus, lifecycle
from ntro_dagster.subledger.lifecycle import Lifecycle, LifecycleInvalidError, check

BASE = (Edge("NEEDS_ATTENTION", "PENDING", "accept", by_machine=True), Edge("PENDING", "APPROVED", "approve"))


@lifecycle(
    *BASE,
    Edge("APPROVED", "AWAITING_BANK"),
    Edge("AWAITING_BANK", "PAID", "confirm_payment", by_machine=True),
    Edge("AWAITING_BANK", "DEFAULTED", "declare_default", by_machine=True),
    posted="AWAITING_BANK",
)
class CallStatus(StatusEnum):
    NEEDS_ATTENTION = auto()
    PENDING = auto()
    APPROVED = auto()
    AWAITING_BANK = auto()
    PAID = auto()
    DEFAULTED = auto()


class CallRow(Row):
    required = ("investor",)
    status: CallStatus = CallStatus.PENDING
    investor: str | None = None


def test_a_row_type_has_the_lifecycle_of_its_status() -> None:
    assert CallRow.lifecycle is CallStatus.lifecycle
    assert Row.lifecycle is SubledgerStatus.lifecycle


def test_what_each_status_means_follows_from_the_edges() -> None:
    known = CallStatus.lifecycle
    assert known.open == ("NEEDS_ATTENTION", "PENDING", "APPROVED", "AWAITING_BANK")
    assert [status for status in CallStatus if status.terminal] == ["PAID", "DEFAULTED"]
    assert (known.in_doubt, known.clean, known.approved, known.posted) == (
        "NEEDS_ATTENTION",
        "PENDING",
        "APPROVED",
        "AWAITING_BANK",
    )
    assert known.signals == ("accept", "approve", "confirm_payment", "declare_default", "edit")
    assert known.targets("declare_default") == {"AWAITING_BANK": "DEFAULTED"}
    assert known.sources("edit") == ["NEEDS_ATTENTION", "PENDING"]
    assert known.allows_a_run("AWAITING_BANK", "DEFAULTED")
    assert not known.allows_a_run("PENDING", "APPROVED")


def test_a_lifecycle_is_the_same_after_json() -> None:
    assert Lifecycle.from_json(CallStatus.lifecycle.as_json()) == CallStatus.lifecycle


def complaints(*edges: Edge, members: str = "", posted: str | None = None, **more: tuple[str, ...]) -> str:
    initial = more.get("initial", ("NEEDS_ATTENTION", "PENDING"))
    made = Lifecycle(edges, initial, more.get("editable", initial), posted, more.get("loose", ("NEEDS_ATTENTION",)))
    with pytest.raises(LifecycleInvalidError) as refused:
        check("CallStatus", made, members.split() or list(made.statuses))
    return str(refused.value.values["why"])


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (complaints(*BASE, members="NEEDS_ATTENTION PENDING APPROVED PAID"), "no row ever reaches PAID"),
        (complaints(*BASE, editable=("PENDING", "APPROVED")), "APPROVED leads nowhere, so rows in it are final"),
        (complaints(*BASE, Edge("PAID", "LOST", "lose")), "no row ever reaches PAID; no row ever reaches LOST"),
        (complaints(*BASE, initial=(), editable=()), "no row could ever begin: it has no initial status"),
        (complaints(), "no row could ever move: it has no edges"),
        (complaints(*BASE, posted="POSTED", members="NEEDS_ATTENTION PENDING APPROVED"), "POSTED is not one of its statuses"),
        (
            complaints(*BASE, posted="POSTED", members="NEEDS_ATTENTION PENDING APPROVED POSTED"),
            "no row ever reaches POSTED; exactly one edge must lead to POSTED, which is posted; there are 0",
        ),
        (complaints(*BASE, editable=("PENDING", "LIMBO")), "LIMBO is not one of its statuses"),
        (complaints(*BASE, Edge("PENDING", "paid", "pay")), "'paid' is not a status"),
        (complaints(*BASE, Edge("PENDING", "P" * 41, "pay")), "at most 40"),
        (complaints(*BASE, Edge("PENDING", "PAID", "Pay now")), "'Pay now' is not a signal"),
        (complaints(*BASE, Edge("PENDING", "PENDING", "stay")), "PENDING leads to itself"),
        (complaints(*BASE, Edge("PENDING", "APPROVED", "wave")), "PENDING to APPROVED is there twice"),
        (complaints(*BASE, Edge("PENDING", "PAID", "approve")), "approve leads from PENDING to two statuses"),
        (complaints(*BASE, Edge("PENDING", "PAID", "edit")), "`edit` moves no row"),
        (complaints(*BASE, Edge("PENDING", "PAID", "approve", by_machine=True)), "no run takes it"),
        (complaints(*BASE, loose=()), "rows begin in one of two statuses"),
        (complaints(*BASE, Edge("NEEDS_ATTENTION", "PAID", "pay")), "which takes an `accept`"),
        (complaints(*BASE, Edge("PENDING", "PAID", "accept")), "an `accept` may change content, so both must be editable"),
        (
            complaints(*BASE, Edge("APPROVED", "POSTED", "post"), posted="POSTED"),
            "APPROVED to POSTED is the posting run's, so it takes no signal",
        ),
        (
            complaints(BASE[0], Edge("PENDING", "READY", "ready"), Edge("READY", "POSTED"), posted="POSTED"),
            "a row could become POSTED without an `approve`",
        ),
        (
            complaints(*BASE, Edge("APPROVED", "POSTED"), posted="POSTED", editable=("NEEDS_ATTENTION", "PENDING", "APPROVED")),
            "a row could become POSTED without an `approve` after its last change of content",
        ),
        (
            complaints(*BASE, Edge("APPROVED", "POSTED"), Edge("POSTED", "PENDING", "reopen"), posted="POSTED"),
            "a row could become POSTED twice",
        ),
        (
            complaints(
                *BASE, Edge("APPROVED", "POSTED"), Edge("POSTED", "PAID", "pay"), Edge("APPROVED", "PAID", "pay"), posted="POSTED"
            ),
            "PAID comes after POSTED, but rows also get there unposted",
        ),
        (
            complaints(*BASE, Edge("APPROVED", "POSTED"), Edge("PENDING", "POSTED", "rush"), posted="POSTED"),
            "exactly one edge must lead to POSTED, which is posted; there are 2",
        ),
    ],
    ids=lambda text: text[:60],
)
def test_a_lifecycle_that_cannot_work_is_refused_with_a_sentence(why: str, said: str) -> None:
    assert said in why


def test_the_decorator_refuses_and_so_does_a_type_whose_status_has_no_lifecycle() -> None:
    with pytest.raises(LifecycleInvalidError, match="cannot work"):

        @lifecycle(*BASE)
        class Bad(StatusEnum):
            NEEDS_ATTENTION = auto()
            PENDING = auto()

    class Bare(StatusEnum):
        PENDING = auto()

    with pytest.raises(LifecycleInvalidError):
        type("BareRow", (Row,), {"__annotations__": {"status": Bare}, "status": Bare.PENDING, "__module__": __name__})


def test_a_row_is_complete_in_every_status_that_is_not_loose() -> None:
    values = {"entity_id": "7d0f1c5e-9f5d-5b0a-8a43-6f6a1f6c2f10", "period": "2025-01"}
    values["task_id"] = values["entity_id"]
    assert CallRow.model_validate({**values, "status": "NEEDS_ATTENTION"}).investor is None
    for status in CallStatus:
        if status != "NEEDS_ATTENTION":
            with pytest.raises(ValueError, match="missing: investor"):
                CallRow.model_validate({**values, "status": status})
