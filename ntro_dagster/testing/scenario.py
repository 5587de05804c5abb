"""What is rehearsed: which documents come in, who decides what, and what must come of it.

A scenario is written in YAML:

    name: one line is turned down
    documents:                      # default: every file below samples/
      - path: samples/2026-01/statement.csv
        period: 2026-01             # default: the month that a folder is named for
        source: statement           # default: the one that the runbook reads
        entity: spv-1               # default: those that its rows name, else `sample`
    parameters: {basis: cash}       # default: the runbook's own
    decisions:                      # in this order; each over every row that it fits
      - {decide: accept, where: {status: NEEDS_ATTENTION}, set: {counterparty: Acme Ltd}, reason: checked}
      - {decide: approve}
    expect:
      counts: {statement_lines: {POSTED: 2, REJECTED: 1}}
      refused: {MAKER_IS_NOT_CHECKER: 1}
      trial_balance: {"5800": "120.00", "2000": "-120.00"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from ntro_dagster.bundles.parameter_values import stored
from ntro_dagster.bundles.problems import did_you_mean
from ntro_dagster.errors import UsageError

PREPARER, APPROVER = "user:preparer", "user:approver"
"""Two people, because who makes a row's content may not approve it."""

_MAKES = frozenset({"accept", "edit"})


class ScenarioInvalidError(UsageError):
    """Values: `file`, `why`."""

    code = "SCENARIO_INVALID"
    summary = "the scenario cannot be read"
    detail = "scenario {file}: {why}"
    mend = "docs/runbooks.md shows what a scenario holds"


@dataclass(frozen=True, slots=True)
class Document:
    """A sample to file. `path`: below the bundle's folder."""

    path: str
    period: str | None = None
    source: str | None = None
    entity: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides.

    Attributes:
        decide: the kind of signal: accept, approve, reject, exclude, edit, or one that a type's own lifecycle has.
        where: field -> value, compared as text; rows that do not fit are left alone.
        subledger: None: every subledger whose lifecycle knows the decision.
        by: who; None: the preparer for what makes content, else the approver.
    """

    decide: str
    where: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    subledger: str | None = None
    reason: str = "rehearsed"
    by: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other decisions."""
        return self.decide, f"{dict(self.where)} {dict(self.values)} {self.subledger} {self.person}"

    @property
    def person(self) -> str:
        if self.by:
            return self.by if ":" in self.by else f"user:{self.by}"
        return PREPARER if self.decide in _MAKES else APPROVER


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of it; None: not asked.

    Attributes:
        counts: for each subledger, rows by status over all entities and months; statuses left out must be empty.
        refused: rows of decisions that were refused, by code.
        trial_balance: balance (debit less credit) of each account at the end, over all entities; accounts left out must be
            zero.
        everything_decided: no row is left waiting for a person or its posting.
    """

    counts: Mapping[str, Mapping[str, int]] | None = None
    refused: Mapping[str, int] | None = None
    trial_balance: Mapping[str, Decimal] | None = None
    everything_decided: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """Attributes:
    decisions: None: as `automatic` says.
    parameters: what is set of the runbook's, as a workflow of each entity would have it.
    automatic: `accept` or `reject`: for every row the lifecycle's first step, or its step of rejection, until none is left.
    """

    name: str
    documents: Sequence[Document] | None = None
    decisions: Sequence[Decision] | None = None
    expect: Expected = field(default_factory=Expected)
    automatic: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


HAPPY = Scenario("happy", automatic="accept", expect=Expected(everything_decided=True))
"""Everything is accepted, then approved, and must end posted."""

REJECT_ALL = Scenario("reject_all", automatic="reject", expect=Expected(everything_decided=True))
"""Everything is turned down; nothing may be posted."""

BUILT_IN = {scenario.name: scenario for scenario in (HAPPY, REJECT_ALL)}


def scenario_named(name: str, root: Path) -> Scenario:
    """A built-in scenario, or one from a file: as given, or below the bundle. Raises `ScenarioInvalidError`."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    for path in (Path(name), root / name, root / "tests" / name):
        if path.is_file():
            return read_scenario(path)
    near = did_you_mean(name, BUILT_IN)
    raise ScenarioInvalidError(file=name, why=f"there is no such file; built in are {', '.join(BUILT_IN)}{near}")


def read_scenario(path: Path) -> Scenario:
    """Raises `ScenarioInvalidError`."""
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        _keys(written, {"name", "documents", "parameters", "decisions", "expect"}, "the scenario")
        documents, decisions = written.get("documents"), written.get("decisions") or []
        return Scenario(
            name=str(written.get("name") or path.stem),
            documents=None if documents is None else [_document(each) for each in documents],
            decisions=[_decision(each) for each in decisions],
            expect=_expected(written.get("expect") or {}),
            parameters=_parameters(written.get("parameters") or {}),
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, _Wrong, TypeError, AttributeError, ValueError) as error:
        raise ScenarioInvalidError(file=path.name, why=" ".join(str(error).split()) or type(error).__name__) from None


class _Wrong(Exception):  # noqa: N818 - never leaves this module
    pass


def _keys(written: Any, known: set[str], what: str) -> None:
    if not isinstance(written, Mapping):
        raise _Wrong(f"{what} is not a list of `field: value`")
    for name in written:
        if name not in known:
            raise _Wrong(f"{what} has no field {name!r}{did_you_mean(str(name), known)}; it has {', '.join(sorted(known))}")


def _document(written: Any) -> Document:
    if isinstance(written, str):
        return Document(written)
    _keys(written, {"path", "period", "source", "entity"}, "a document")
    if "path" not in written:
        raise _Wrong("a document has no path")
    return Document(**{name: str(value) for name, value in written.items()})


def _parameters(written: Any) -> dict[str, Any]:
    if not isinstance(written, Mapping):
        raise _Wrong("parameters is not a list of `name: value`")
    return {str(name): stored(value) for name, value in written.items()}


def _decision(written: Any) -> Decision:
    _keys(written, {"decide", "where", "set", "subledger", "reason", "by"}, "a decision")
    if "decide" not in written:
        raise _Wrong("a decision does not say what is decided (`decide: approve`)")
    rest = {name: written[name] for name in ("subledger", "reason", "by") if name in written}
    values = {str(name): str(value) for name, value in (written.get("set") or {}).items()}
    return Decision(decide=str(written["decide"]), where=written.get("where") or {}, values=values, **rest)


def _expected(written: Any) -> Expected:
    _keys(written, {"counts", "refused", "trial_balance", "everything_decided"}, "expect")
    balance = written.get("trial_balance")
    return Expected(
        counts=written.get("counts"),
        refused=written.get("refused"),
        trial_balance=None if balance is None else {str(account): _amount(value) for account, value in balance.items()},
        everything_decided=bool(written.get("everything_decided", False)),
    )


def _amount(value: Any) -> Decimal:
    if isinstance(value, float):
        raise _Wrong(f"an amount of trial_balance is not in quotes: {value}")
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise _Wrong(f"{value!r} is not an amount") from None
