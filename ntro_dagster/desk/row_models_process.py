"""`python -m ntro_dagster.desk.row_models_process`: a line with a row and new values in, a line with what is wrong out.

Or a line with rows in, and what their journals would move out. It sees the code of the active bundles and nothing else
(`tenant.seclusion`).
"""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from ntro_dagster.startup import pause_collector

    pause_collector()

from pydantic import ValidationError

import ntro_dagster
from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.bundles import platform_bundle
from ntro_dagster.bundles.active import active_set
from ntro_dagster.gl.batches import proposer
from ntro_dagster.gl.chart import NamedAccounts
from ntro_dagster.startup import resume_collector
from ntro_dagster.subledger.registry import SubledgerType, load_types, subledger_types
from ntro_dagster.subledger.row import EXACT
from ntro_dagster.subledger.staging import findings_of
from ntro_dagster.tenant.seclusion import seclude

LONGEST_MESSAGE = 2_000
"""Characters: an author's message may quote what was typed."""

WHOLE_ROW = ""
"""The key of what is wrong with a row and not with one of its columns."""


def judged(kind: SubledgerType, question: dict[str, Any]) -> dict[str, str]:
    row = {name: value for name, value in question["row"].items() if name in kind.model.model_fields}
    try:
        kind.model.model_validate({**row, **question["values"], "status": question["target"]})
    except ValidationError as error:
        found: dict[str, str] = {}
        for finding in findings_of(error):
            found.setdefault(
                str(finding.get("field") or WHOLE_ROW), str(finding.get("message") or finding.get("code"))[:LONGEST_MESSAGE]
            )
        return found
    return {}


def proposed(kind: SubledgerType, question: dict[str, Any]) -> dict[str, Any]:
    """What the journals of these rows would move: `[account, currency, debit, credit]` each, and how many rows make none."""
    propose = proposer(kind, question["currency"], NamedAccounts(question["accounts"]))
    rows: list[Any] = []
    unable = 0
    for row in question["rows"]:
        known = {name: value for name, value in row.items() if name in kind.model.model_fields}
        try:
            rows.append(kind.model.model_validate({**known, "status": kind.lifecycle.approved}))
        except Exception:  # an author's code, on a row that may not be complete
            unable += 1
    moved: dict[tuple[str, str], list[Decimal]] = {}
    for together in [rows] if hasattr(kind.model, "aggregate_for_gl") else [[row] for row in rows]:
        try:
            journals = propose(together)
        except Exception:
            unable += len(together)
            continue
        for journal in journals:
            for line in journal.lines:
                sums = moved.setdefault((line.account_code, journal.currency), [Decimal(0), Decimal(0)])
                sums[0], sums[1] = EXACT.add(sums[0], line.debit), EXACT.add(sums[1], line.credit)
    lines = [[account, currency, str(debit), str(credit)] for (account, currency), (debit, credit) in sorted(moved.items())]
    return {"lines": lines, "unable": unable}


def answered(kind: SubledgerType | None, question: dict[str, Any]) -> dict[str, Any]:
    if "rows" in question:
        return proposed(kind, question) if kind else {"lines": [], "unable": len(question["rows"])}
    return {"fields": judged(kind, question) if kind else {WHOLE_ROW: "no such subledger in the active runbooks"}}


def main() -> None:
    questions, answers, sys.stdout = sys.stdin, sys.stdout, sys.stderr
    active, platform = active_set(), platform_bundle()
    listed = [Path(os.environ[ACTIVE]).parent] if ACTIVE in os.environ else []
    package = Path(ntro_dagster.__file__).parent
    seclude([package, platform.root / "subledgers", *(bundle.root for bundle in active.bundles), *listed], listed=[])
    load_types(platform, *active.bundles)
    resume_collector()
    kinds = {kind.table: kind for kind in subledger_types(platform, *active.bundles)}
    for line in questions:
        question = json.loads(line)
        kind = kinds.get(question["table"])
        answers.write(json.dumps(answered(kind, question)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
