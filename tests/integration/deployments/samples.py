"""Bundles of our own making: a runbook with one row type, its migrations and one asset, and what may be edited in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

TENANT = "alpha"

HEAD = """---
slug: {slug}
name: Sample
description: A sample.
jurisdictions: [UK]
start: "2020-01"
version: {label}
reads:
  lines: [{slug}-return]
schedule: "0 8 5 * *"
timezone: Europe/London
---

# Sample
"""

TYPE = '''"""Lines of a document."""

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger.proposals import BillProposal
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import Row


@register_type("lines")
class LineRow(Row):
    vendor: str | None = None
    wrote: str | None = None
{columns}
    @classmethod
    def propose_for_gl(cls, row):
        return BillProposal(
            external_id=f"lines:{{row.id}}", row_id=row.id, posting_date=last_day(row.period), vendor=row.vendor,
            description=row.vendor, currency="GBP", gross=1, vat=0, category=None,
        )
'''

TABLE = """-- Lines of a document.
CREATE TABLE ledgers.{identifier}__lines (
    id                  UUID PRIMARY KEY,
    entity_id           UUID NOT NULL,
    period              TEXT NOT NULL,
    task_id             UUID NOT NULL,
    status              TEXT NOT NULL,
    source_ref          TEXT,
    validation_errors   JSONB,
    raw_payload         JSONB,
    created_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    made_by             TEXT,
    approved_by         TEXT,
    approved_at         TIMESTAMPTZ,
    posted_to_gl        BOOLEAN NOT NULL DEFAULT FALSE,
    posted_journal_ref  TEXT,
    vendor              TEXT,
    wrote               TEXT
);
"""

ASSETS = '''"""From records to lines; where a file says so, it stands still in the middle."""

import asyncio
from pathlib import Path

from ntro_dagster.orchestration.subledger_asset import subledger_asset
from ntro_dagster.subledger.staging import Payload

WROTE = {code!r}
GATE = Path({gate!r})


@subledger_asset("lines")
async def lines(run):
    async for record in run.records():
        if (GATE / "closed").exists():
            (GATE / f"standing-{{run.run_id}}").touch()
            while (GATE / "closed").exists():
                await asyncio.sleep(0.02)
        yield Payload(values={{"vendor": "Anvil", "wrote": WROTE}}, source_ref=record.ref, raw=record.raw)
    if GATE.exists():
        (GATE / f"wrote-{{run.run_id}}").write_text(WROTE)
'''


@dataclass(frozen=True)
class Sample:
    """One content of a runbook's folder.

    Attributes:
        code: what its author's function writes into each row.
        columns: how many columns a migration of its own has added.
        gate: a directory; while it holds `closed`, the author's function stands still.
        files: path -> text, in place of what would be there, or besides; None: not there.
    """

    slug: str
    label: str = "1.0.0"
    code: str = "first"
    columns: int = 0
    gate: str = "/nonexistent"
    files: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def identifier(self) -> str:
        return self.slug.replace("-", "_")

    @property
    def table(self) -> str:
        return f"{self.identifier}__lines"

    def with_file(self, path: str, text: str | None) -> Sample:
        return replace(self, files={**self.files, path: text})

    def content(self) -> dict[str, str]:
        columns = "".join(f"    extra_{n}: str | None = None\n" for n in range(1, self.columns + 1))
        made = {
            "runbook.md": HEAD.format(slug=self.slug, label=self.label),
            "assets.py": ASSETS.format(code=self.code, gate=self.gate),
            "subledgers/__init__.py": "from . import lines\n",
            "subledgers/lines.py": TYPE.format(columns=columns),
            "migrations/001_lines.sql": TABLE.format(identifier=self.identifier),
        }
        for n in range(1, self.columns + 1):
            made[f"migrations/{n + 1:03d}_extra_{n}.sql"] = f"ALTER TABLE ledgers.{self.table} ADD COLUMN extra_{n} TEXT;\n"
        return {path: text for path, text in {**made, **self.files}.items() if text is not None}

    def migrations(self) -> list[tuple[str, str]]:
        """Names and texts, in order."""
        return sorted((path.split("/")[1], text) for path, text in self.content().items() if path.startswith("migrations/"))

    def write(self, folder: Path) -> Path:
        """A folder with exactly this content."""
        root = folder / self.slug
        shutil.rmtree(root, ignore_errors=True)
        for path, text in self.content().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return root
