"""Xero: manual journals of the Accounting API 2.0, over plain HTTP (decision 027 says why not over its client).

A manual journal has no reference of its own. Our external id stands at the end of the narration, in brackets, and in the
link; a look lists the journals of the days in question and reads it there. Xero keeps books in one currency: amounts are the
entity's.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from ntro_dagster.gl.providers.errors import ConnectionError_, LedgerUnreachableError, OutcomeUnknownError, ValidationFailedError
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
from ntro_dagster.subledger.proposals import JournalProposal
from ntro_dagster.subledger.row import EXACT

PAGE = 100
_LONGEST_NARRATION = 4_000
_STANDS = {"POSTED", "DRAFT"}
_NAMED = re.compile(r"\[([^\[\]\s]+)\]\s*$")
_MS_DATE = re.compile(r"/Date\((-?\d+)(?:[+-]\d{4})?\)/")
_CODE = re.compile(r"\(([^()]+)\)\s*$")


class XeroOptions(Options):
    """Attributes:
    organisation: the id that Xero calls tenant id.
    secret: name of the secret, which is `client id:client secret` of a custom connection.
    link: what a journal's link begins with; its external id follows.
    """

    organisation: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    secret: str = "xero"  # noqa: S105 - a name
    url: str = "https://api.xero.com/api.xro/2.0"
    identity_url: str = "https://identity.xero.com"
    link: str | None = Field(default=None, pattern=r"^https://\S+$")
    currency: str = Field(default="GBP", pattern=r"^[A-Z]{3}$")


class Xero(GLProvider):
    """One Xero organisation."""

    name = "xero"
    batch: ClassVar[int] = 50

    def __init__(self, options: Mapping[str, Any], *, entity: str) -> None:
        self.options = checked(XeroOptions, options, provider=self.name)
        self.place = self.options.organisation
        self.timeout_s, self.settle_s = self.options.timeout_seconds, self.options.settle_seconds
        self._service = Service(self.name, self.options.url, self.timeout_s)
        self._identity = Service(self.name, self.options.identity_url, self.timeout_s)
        self._token, self._good_until = "", 0.0
        self._entries = _ManualJournals(self)

    @property
    def journal_entries(self) -> JournalEntries:
        return self._entries

    async def call(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **what: Any) -> Reply:
        """Raises: as `Service.call`."""
        own = {"Authorization": f"Bearer {await self._bearer()}", "Xero-tenant-id": self.options.organisation}
        return await self._service.call(method, path, headers=own | dict(headers or {}), **what)

    async def _bearer(self) -> str:
        if time.monotonic() < self._good_until:
            return self._token
        known = base64.b64encode(secret(self.options.secret, provider=self.name).encode()).decode()
        try:
            reply = await self._identity.call(
                "POST",
                "/connect/token",
                headers={"Authorization": f"Basic {known}"},
                form={"grant_type": "client_credentials", "scope": "accounting.transactions accounting.settings.read"},
            )
        except OutcomeUnknownError as error:  # nothing has been asked of the ledger itself
            raise LedgerUnreachableError(provider=self.name, why=error.values["why"]) from None
        if not reply.good or "access_token" not in (reply.data or {}):
            raise ConnectionError_(provider=self.name, why=f"no token: it answered {reply.status}")
        self._token = str(reply.data["access_token"])
        self._good_until = time.monotonic() + float(reply.data.get("expires_in", 60)) * 0.9
        return self._token

    async def accounts(self) -> list[LedgerAccount]:
        reply = await self.call("GET", "/Accounts")
        ours = self.options.ours
        return [
            LedgerAccount(
                ours.get(str(x.get("Code", "")), str(x.get("Code", ""))),
                str(x.get("Name", "")),
                x.get("Class"),
                x.get("Status") == "ACTIVE",
            )
            for x in _of(reply, "Accounts")
        ]

    async def trial_balance(self, on: date) -> list[Balance]:
        """Of Xero's own report, whose balances of income and expenses are those since the beginning of its year."""
        reply = await self.call("GET", "/Reports/TrialBalance", query={"date": on.isoformat()})
        found = []
        for cells in _cells(_of(reply, "Reports")):
            named = _CODE.search(str(cells[0].get("Value", "")))
            debit, credit = (Decimal(str(cell.get("Value") or 0).replace(",", "")) for cell in cells[3:5])
            if named and debit != credit:
                found.append(Balance(named[1], self.options.currency, EXACT.subtract(debit, credit)))
        return found

    async def aclose(self) -> None:
        self._service.close()
        self._identity.close()


class _ManualJournals(JournalEntries):
    def __init__(self, xero: Xero) -> None:
        self._xero = xero

    def lines_of(self, proposal: JournalProposal) -> Lines:
        return in_order((self._account(line.account_code), functional(line)) for line in proposal.lines)

    def _account(self, code: str) -> str:
        return self._xero.options.accounts.get(code, code)

    async def create_many(self, proposals: Sequence[JournalProposal], *, key: str) -> list[Made]:
        made: list[Made] = []
        asked, written = {each.external_id: each for each in proposals}, []
        for each in proposals:
            try:
                written.append(self._written(each))
            except ValidationFailedError as refused:
                made.append(Made(asked.pop(each.external_id).external_id, refused=refused))
        if not written:
            return made
        reply = await self._xero.call(
            "PUT",
            "/ManualJournals",
            query={"summarizeErrors": "false"},
            headers={"Idempotency-Key": key},
            content={"ManualJournals": written},
        )
        if not reply.good:
            return made + await self._each_alone(list(asked.values()), reply, key)
        for journal in _of(reply, "ManualJournals"):  # by its own name: the order of the answer is Xero's affair
            external_id = _named(journal)
            if external_id not in asked:
                continue
            if journal.get("StatusAttributeString") == "ERROR" or journal.get("ValidationErrors"):
                made.append(Made(external_id, refused=_refusal(external_id, journal)))
            elif (found := _found(journal)) and found.lines == self.lines_of(asked[external_id]):
                made.append(Made(external_id, found.reference))
        return made

    async def _each_alone(self, proposals: Sequence[JournalProposal], reply: Reply, key: str) -> list[Made]:
        """One that cannot be read makes Xero refuse all of a call."""
        if len(proposals) == 1:
            return [Made(proposals[0].external_id, refused=_refusal(proposals[0].external_id, reply.data))]
        return [made for each in proposals for made in await self.create_many([each], key=f"{key}/{each.external_id}"[-128:])]

    async def find_many(self, proposals: Sequence[JournalProposal]) -> Mapping[str, Sequence[Found]]:
        wanted = {each.external_id for each in proposals}
        days = [each.posting_date for each in proposals]
        found: dict[str, dict[str, Found]] = {}
        page = 1
        while True:
            reply = await self._xero.call(
                "GET", "/ManualJournals", query={"where": _between(min(days), max(days)), "order": "Date ASC", "page": str(page)}
            )
            if not reply.good:
                raise OutcomeUnknownError(provider=self._xero.name, why=f"it answered a look with {reply.status}")
            journals = _of(reply, "ManualJournals")
            for journal in journals:
                external_id = _named(journal)
                if external_id in wanted and journal.get("Status") in _STANDS and (each := _found(journal)):
                    found.setdefault(external_id, {})[each.reference] = each  # one that moved to the next page is there twice
            if len(journals) < PAGE:
                return {external_id: list(several.values()) for external_id, several in found.items()}
            page += 1

    async def void(self, reference: str) -> bool:
        path = f"/ManualJournals/{quote(reference, safe='')}"
        reply = await self._xero.call("GET", path)
        (journal,) = _of(reply, "ManualJournals") or [{}]
        if journal.get("Status") not in _STANDS:
            return bool(journal)
        gone = {"ManualJournalID": reference, "Status": "VOIDED" if journal["Status"] == "POSTED" else "DELETED"}
        reply = await self._xero.call("POST", path, content={"ManualJournals": [gone]})
        return reply.good

    def _written(self, proposal: JournalProposal) -> dict[str, Any]:
        refuse_fractions(proposal, self._xero.options.currency, provider=Xero.name)
        mark = f" [{proposal.external_id}]"
        written = {
            "Narration": proposal.description[: _LONGEST_NARRATION - len(mark)] + mark,
            "Date": proposal.posting_date.isoformat(),
            "Status": "POSTED",
            "LineAmountTypes": "NoTax",
            "JournalLines": [
                {
                    "LineAmount": _number(amount),
                    "AccountCode": self._account(line.account_code),
                    "Description": " / ".join(filter(None, (line.party, line.description))),
                }
                for line in proposal.lines
                if (amount := functional(line))
            ],
        }
        if self._xero.options.link:
            written["Url"] = self._xero.options.link + quote(proposal.external_id, safe="")
        return written


def _number(amount: Decimal) -> float:
    """The JSON number that is written with exactly these digits: the API knows no other form. Nothing is computed with it."""
    number = float(amount)
    assert Decimal(repr(number)) == amount  # noqa: S101 - up to 15 digits, which refuse_fractions sees to
    return number


def _of(reply: Reply, name: str) -> list[dict[str, Any]]:
    found = (reply.data or {}).get(name) if isinstance(reply.data, dict) else None
    if not reply.good or not isinstance(found, list):
        raise OutcomeUnknownError(provider=Xero.name, why=f"an answer ({reply.status}) without {name}")
    return [each for each in found if isinstance(each, dict)]


def _named(journal: Mapping[str, Any]) -> str:
    found = _NAMED.search(str(journal.get("Narration", "")))
    return found[1] if found else ""


def _found(journal: Mapping[str, Any]) -> Found | None:
    day = _day(str(journal.get("Date", "")))
    reference = str(journal.get("ManualJournalID") or "")
    if day is None or not reference:
        return None
    lines = ((str(x.get("AccountCode", "")), Decimal(str(x.get("LineAmount", 0)))) for x in journal.get("JournalLines") or ())
    return Found(reference, day, in_order(lines))


def _day(text: str) -> date | None:
    if found := _MS_DATE.match(text):
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(found[1]))).date()
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _between(first: date, last: date) -> str:
    after = last + timedelta(days=1)
    return (
        f"Date >= DateTime({first.year}, {first.month:02d}, {first.day:02d}) "
        f"AND Date < DateTime({after.year}, {after.month:02d}, {after.day:02d})"
    )


def _refusal(external_id: str, told: Any) -> ValidationFailedError:
    elements = [told, *(told.get("Elements") or [])] if isinstance(told, dict) else []
    errors = [str(x.get("Message", "")) for each in elements for x in each.get("ValidationErrors") or ()]
    why = "; ".join(filter(None, errors)) or str((told or {}).get("Message", "") if isinstance(told, dict) else "")
    return ValidationFailedError(provider=Xero.name, external_id=external_id, why=why or "it does not say why")


def _cells(reports: Iterable[Mapping[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    for report in reports:
        for section in report.get("Rows") or ():
            for row in section.get("Rows") or ():
                if row.get("RowType") == "Row" and len(row.get("Cells") or ()) >= 5:  # noqa: PLR2004
                    yield row["Cells"]
