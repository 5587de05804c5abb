"""`Row`: what every subledger row has (spec 8.3), and the loose-on-NEEDS_ATTENTION contract (spec 8.5)."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger.lifecycle import Lifecycle, LifecycleInvalidError
from ntro_dagster.subledger.period import Period
from ntro_dagster.subledger.status import StatusEnum, SubledgerStatus


def _no_float(value: Any) -> Any:
    if isinstance(value, float):
        raise PydanticCustomError("float_as_money", "a float cannot hold an amount; give a Decimal, an int or text")
    return value


# The limits stand beside the type: behind a function, Pydantic would check them in Python, at half the time of a whole row.
Money = Annotated[Decimal, Field(max_digits=38, decimal_places=9, allow_inf_nan=False), BeforeValidator(_no_float)]
"""An amount in the row's currency. Never a float; more than nine decimals are refused, never rounded."""

EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])
"""For arithmetic on Money: the default context rounds at 28 digits without a word, this one raises `Inexact`."""

CurrencyCode = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""

ROW_NAMESPACE = uuid.UUID("7d0f1c5e-9f5d-5b0a-8a43-6f6a1f6c2f10")

# RFC 9562, section 5.5: four bits of version, two of variant.
_UNMARKED = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5 = 0x5000 << 64 | 0x8000 << 48

PLATFORM_FIELDS = frozenset(
    [
        "id",
        "entity_id",
        "period",
        "task_id",
        "status",
        "source_ref",
        "validation_errors",
        "raw_payload",
        "created_at",
        "updated_at",
        "made_by",
        "approved_by",
        "approved_at",
        "posted_to_gl",
        "posted_journal_ref",
    ]
)
"""Fields that the platform writes. Everything else is content: reviewed by people, frozen by approval."""


def row_ids(entity_id: uuid.UUID, period: str, subledger: str) -> Callable[[str], uuid.UUID]:
    """Ids of a partition's rows by `source_ref`: the same source always makes the same row, so that a re-run never duplicates.

    The id is the UUIDv5 of `<entity>/<period>/<subledger>/<source_ref>`. What all rows of the partition share is hashed once.
    """
    shared = hashlib.sha1(ROW_NAMESPACE.bytes + f"{entity_id}/{period}/{subledger}/".encode(), usedforsecurity=False)

    def row_id(source_ref: str) -> uuid.UUID:
        digest = shared.copy()
        digest.update(source_ref.encode("utf-8", "surrogatepass"))
        return uuid.UUID(int=int.from_bytes(digest.digest()[:16]) & _UNMARKED | _VERSION_5)

    return row_id


def row_id(entity_id: uuid.UUID, period: str, subledger: str, source_ref: str) -> uuid.UUID:
    """The id of one row, see `row_ids`."""
    return row_ids(entity_id, period, subledger)(source_ref)


def _now() -> datetime:
    return datetime.now(UTC)


class Row(BaseModel):
    """Base of every subledger type.

    Fields that a complete row must have are typed Optional, so that a broken row can still be kept: list them in
    `required`, and their presence is asked for in every status that is not loose (NEEDS_ATTENTION and REJECTED).

    A type with statuses of its own annotates the field: `status: CallStatus = CallStatus.PENDING`.

    A type that is posted has `propose_for_gl(row)`, which makes a proposal of an approved row; one that also has
    `aggregate_for_gl(rows)` makes journals of many rows, each naming its own in `row_ids`.

    Attributes:
        accounts: where a row names accounts: a column (`category`), or a key of the items of a list (`lines[].account_code`).
        amount_at: where a row has the amount that limits of approval are held against: a money column (`amount_gross`), or a key
            of the items of a list, summed (`lines[].debit`). A type that does not say is taken to be above every limit.
        currency_at: the column with that amount's currency; where there is none, it is the entity's.
        control: role of the account that stands for the subledger in the general ledger (`CREDITORS`): what its posted rows add
            up to is what their journals put there, or the month cannot be closed.
        made_by: the person who last changed the content or accepted the row as it is; None where only runs did.
        approved_by: the person who approved it. Never the same as `made_by`: the database refuses it.
    """

    model_config = ConfigDict(extra="forbid")

    required: ClassVar[tuple[str, ...]] = ()
    accounts: ClassVar[tuple[str, ...]] = ()
    amount_at: ClassVar[str | None] = None
    currency_at: ClassVar[str] = "currency"
    control: ClassVar[str | None] = None
    lifecycle: ClassVar[Lifecycle]

    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    entity_id: uuid.UUID
    period: Period
    task_id: uuid.UUID
    if TYPE_CHECKING:
        status: StatusEnum = SubledgerStatus.PENDING
    else:
        status: SubledgerStatus = SubledgerStatus.PENDING
    source_ref: str | None = None
    validation_errors: list[dict[str, Any]] | None = None
    raw_payload: dict[str, Any] | None = None
    created_at: datetime = Field(default_factory=_now)
    updated_at: datetime = Field(default_factory=_now)
    made_by: str | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None
    posted_to_gl: bool = False
    posted_journal_ref: str | None = None

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.lifecycle = lifecycle_of(cls)

    @classmethod
    @cache
    def content_fields(cls) -> tuple[str, ...]:
        """The fields that the digest of a row covers."""
        return tuple(name for name in cls.model_fields if name not in PLATFORM_FIELDS)

    @property
    def loose(self) -> bool:
        """Whether the row may be incomplete: it waits for a person, or was turned down."""
        return self.status in self.lifecycle.loose

    @model_validator(mode="after")
    def _strict_fields_present_when_not_needs_attention(self) -> Self:
        if not self.loose:
            missing = [name for name in self.required if not (value := getattr(self, name)) and value in (None, "", [])]
            if missing:
                raise PydanticCustomError("required_missing", "missing: {fields}", {"fields": ", ".join(missing)})
        return self


def lifecycle_of(model: type[Row]) -> Lifecycle:
    """That of the enum with which the model annotates `status`. Raises `LifecycleInvalidError`."""
    annotation: Any = model.model_fields["status"].annotation
    found = getattr(annotation, "lifecycle", None)
    if not isinstance(found, Lifecycle):
        raise LifecycleInvalidError(name=model.__name__, why="its status is not an enum with @lifecycle(Edge(…), …)")
    return found


Row.lifecycle = SubledgerStatus.lifecycle
