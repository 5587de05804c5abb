"""ERPNext: Journal Entry documents over Frappe's REST API, inserted and submitted in one request.

Our external id is the entry's reference number (`cheque_no`), or a field of the client's own: where that one is marked
*Unique* in ERPNext, ERPNext itself refuses a double. Amounts are the entity's, which must be the company's currency.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from ntro_dagster.gl.providers.errors import OutcomeUnknownError, ValidationFailedError
from ntro_dagster.gl.providers.http import Reply, Service
from ntro_dagster.gl.providers.options import Options, checked
from ntro_dagster.gl.providers.provider import (
    Balance,
    Found,
    GLProvider,
    JournalEntries,
    LedgerAccount,
    Lines,
    Made,
    functional,
    in_order,
    refuse_fractions,
)
from ntro_dagster.gl.providers.secrets import secret
from ntro_dagster.subledger.proposals import JournalKind, JournalProposal
from ntro_dagster.subledger.row import EXACT

DOCTYPE = "Journal Entry"
_AT_ONCE = 50
"""External ids in one look: a filter is part of the address, and addresses are short."""
_LONGEST_ID = 140
_SUBMITTED, _CANCELLED = 1, 2
_CONFLICT = 409
_PAGE = 2_000


class ErpnextOptions(Options):
    """Attributes:
    secret: name of the secret, which is `api key:api secret`.
    field: of Journal Entry, for our external id.
    unique: whether that field is marked Unique in ERPNext.
    """

    url: str
    company: str = Field(min_length=1)
    secret: str = "erpnext"  # noqa: S105 - a name
    field: str = Field(default="cheque_no", pattern=r"^[a-z][a-z0-9_]{0,60}$")
    unique: bool = False
    currency: str = Field(default="GBP", pattern=r"^[A-Z]{3}$")


class Erpnext(GLProvider):
    """One company of an ERPNext site."""

    name = "erpnext"
    batch: ClassVar[int] = 1

    def __init__(self, options: Mapping[str, Any], *, entity: str) -> None:
        self.options = checked(ErpnextOptions, options, provider=self.name)
        self.place = self.options.company
        self.unique = self.options.unique
        self.timeout_s, self.settle_s = self.options.timeout_seconds, self.options.settle_seconds
        self._service = Service(self.name, self.options.url, self.timeout_s)
        self._entries = _JournalEntries(self)

    @property
    def journal_entries(self) -> JournalEntries:
        return self._entries

    async def call(self, method: str, path: str, **what: Any) -> Reply:
        """Raises: as `Service.call`."""
        token = secret(self.options.secret, provider=self.name)
        return await self._service.call(method, path, headers={"Authorization": f"token {token}"}, **what)

    async def read(self, path: str, **query: Any) -> Any:
        """The `data` of an answer. Raises: as `Service.call`."""
        reply = await self.call(
            "GET", path, query={name: v if isinstance(v, str) else json.dumps(v) for name, v in query.items()}
        )
        if not reply.good or not isinstance(reply.data, dict) or "data" not in reply.data:
            raise OutcomeUnknownError(provider=self.name, why=f"it answered a look with {reply.status}")
        return reply.data["data"]

    async def accounts(self) -> list[LedgerAccount]:
        found = await self.read(
            "/api/resource/Account",
            filters=[["company", "=", self.options.company], ["is_group", "=", 0]],
            fields=["name", "account_number", "account_name", "root_type", "disabled"],
            limit_page_length="0",
        )
        ours = self.options.ours
        return [
            LedgerAccount(
                ours.get(x["name"]) or str(x.get("account_number") or ""), x["name"], x.get("root_type"), not x.get("disabled")
            )
            for x in found
        ]

    async def trial_balance(self, on: date) -> list[Balance]:
        sums: dict[str, Decimal] = {}
        start, page = 0, None
        while page is None or len(page) == _PAGE:
            page = await self.read(
                "/api/resource/GL Entry".replace(" ", "%20"),
                filters=[
                    ["company", "=", self.options.company],
                    ["is_cancelled", "=", 0],
                    ["posting_date", "<=", on.isoformat()],
                ],
                fields=["account", "debit", "credit"],
                order_by="name asc",
                limit_start=str(start),
                limit_page_length=str(_PAGE),
            )
            for x in page:
                amount = EXACT.subtract(Decimal(str(x["debit"])), Decimal(str(x["credit"])))
                sums[x["account"]] = EXACT.add(sums.get(x["account"], Decimal(0)), amount)
            start += _PAGE
        return [Balance(account, self.options.currency, amount) for account, amount in sorted(sums.items()) if amount]

    async def aclose(self) -> None:
        self._service.close()


class _JournalEntries(JournalEntries):
    def __init__(self, erpnext: Erpnext) -> None:
        self._erpnext = erpnext
        self._names: dict[str, str] = {}

    def lines_of(self, proposal: JournalProposal) -> Lines:
        return in_order((self._account(line.account_code, proposal), functional(line)) for line in proposal.lines)

    def _account(self, code: str, proposal: JournalProposal) -> str:
        if code not in self._names:
            raise self._refusal(proposal.external_id, f"no account of {self._erpnext.options.company} has the number {code}")
        return self._names[code]

    async def _learn_accounts(self) -> None:
        if not self._names:
            known = await self._erpnext.accounts()
            self._names = {account.code: account.name for account in known if account.code and account.active}

    async def create_many(self, proposals: Sequence[JournalProposal], *, key: str) -> list[Made]:
        await self._learn_accounts()
        return [await self._create(each) for each in proposals]

    async def _create(self, proposal: JournalProposal) -> Made:
        try:
            written = self._written(proposal)
        except ValidationFailedError as refused:
            return Made(proposal.external_id, refused=refused)
        reply = await self._erpnext.call("POST", _PATH, content=written)
        if reply.status == _CONFLICT or _is_double(reply):
            raise OutcomeUnknownError(provider=self._erpnext.name, why="an entry of that id is there already")
        if not reply.good:
            return Made(proposal.external_id, refused=self._refusal(proposal.external_id, _told(reply)))
        entry = (reply.data or {}).get("data") or {}
        if not entry.get("name") or _found(entry).lines != self.lines_of(proposal) or entry.get("docstatus") != _SUBMITTED:
            raise OutcomeUnknownError(provider=self._erpnext.name, why="its answer is not the entry that was sent")
        return Made(proposal.external_id, str(entry["name"]))

    async def find_many(self, proposals: Sequence[JournalProposal]) -> Mapping[str, Sequence[Found]]:
        await self._learn_accounts()
        wanted = [each.external_id for each in proposals]
        field, found = self._erpnext.options.field, dict[str, list[Found]]()
        for start in range(0, len(wanted), _AT_ONCE):
            filters = [
                ["company", "=", self._erpnext.options.company],
                ["docstatus", "=", _SUBMITTED],
                [field, "in", wanted[start : start + _AT_ONCE]],
            ]
            entries = await self._erpnext.read(_PATH, filters=filters, fields=["name", field], limit_page_length="0")
            for entry in entries:
                if entry.get(field) in wanted:  # MariaDB compares text without regard to case
                    whole = await self._erpnext.read(f"{_PATH}/{quote(str(entry['name']), safe='')}")
                    found.setdefault(str(entry[field]), []).append(_found(whole))
        return found

    async def void(self, reference: str) -> bool:
        path = f"{_PATH}/{quote(reference, safe='')}"
        entry = await self._erpnext.read(path)
        if entry.get("docstatus") == _CANCELLED:
            return True
        return (await self._erpnext.call("PUT", path, content={"docstatus": _CANCELLED})).good

    def _written(self, proposal: JournalProposal) -> dict[str, Any]:
        if len(proposal.external_id) > _LONGEST_ID:
            raise self._refusal(proposal.external_id, f"an external id of more than {_LONGEST_ID} characters")
        refuse_fractions(proposal, self._erpnext.options.currency, provider=self._erpnext.name)
        day = proposal.posting_date.isoformat()
        opening = proposal.kind is JournalKind.OPENING
        return {
            "doctype": DOCTYPE,
            "docstatus": _SUBMITTED,
            "voucher_type": "Opening Entry" if opening else "Journal Entry",
            "is_opening": "Yes" if opening else "No",
            "company": self._erpnext.options.company,
            "posting_date": day,
            "cheque_no": proposal.external_id,
            "cheque_date": day,
            self._erpnext.options.field: proposal.external_id,
            "user_remark": proposal.description,
            "accounts": [
                {
                    "account": self._account(line.account_code, proposal),
                    "debit_in_account_currency": f"{max(amount, Decimal(0)):f}",
                    "credit_in_account_currency": f"{max(-amount, Decimal(0)):f}",
                    "user_remark": " / ".join(filter(None, (line.party, line.description))),
                }
                for line in proposal.lines
                if (amount := functional(line))
            ],
        }

    def _refusal(self, external_id: str, why: str) -> ValidationFailedError:
        return ValidationFailedError(provider=self._erpnext.name, external_id=external_id, why=why)


_PATH = "/api/resource/Journal%20Entry"


def _found(entry: Mapping[str, Any]) -> Found:
    lines = (
        (
            str(x.get("account", "")),
            EXACT.subtract(
                Decimal(str(x.get("debit_in_account_currency") or 0)), Decimal(str(x.get("credit_in_account_currency") or 0))
            ),
        )
        for x in entry.get("accounts") or ()
    )
    return Found(str(entry.get("name", "")), date.fromisoformat(str(entry.get("posting_date"))[:10]), in_order(lines))


def _is_double(reply: Reply) -> bool:
    return (
        not reply.good
        and isinstance(reply.data, dict)
        and reply.data.get("exc_type") in {"UniqueValidationError", "DuplicateEntryError"}
    )


def _told(reply: Reply) -> str:
    data = reply.data if isinstance(reply.data, dict) else {}
    return str(data.get("exception") or data.get("_server_messages") or data.get("message") or f"it answered {reply.status}")[
        :500
    ]
