"""What may be wrong with a bundle that was pushed, and what its deployment is refused with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from samples import Sample

SLUG, OTHER = "bad", "other"


@dataclass(frozen=True)
class Flaw:
    """Attributes:
    edit: of a good sample with one migration more than its table.
    code: of the refusal; `says`: parts of what the operator reads: file, line, reason.
    """

    edit: Callable[[Sample], Sample]
    code: str
    says: tuple[str, ...]


def assets(*, first: str = "", last: str = "") -> Callable[[Sample], Sample]:
    def edit(sample: Sample) -> Sample:
        return sample.with_file("assets.py", first + sample.content()["assets.py"] + last)

    return edit


def typed(old: str, new: str) -> Callable[[Sample], Sample]:
    return lambda sample: sample.with_file("subledgers/lines.py", sample.content()["subledgers/lines.py"].replace(old, new))


def sql(text: str, name: str = "003_more.sql") -> Callable[[Sample], Sample]:
    return lambda sample: sample.with_file(f"migrations/{name}", text)


LOAD, MIGRATION, REFUSED = "BUNDLE_NOT_LOADABLE", "MIGRATION_FAILED", "MIGRATION_REFUSED"
STOLEN = """
from ntro_dagster.orchestration.assets import SubledgerAsset, AssetKey

class Stolen(SubledgerAsset):
    key = property(lambda self: AssetKey(["beta", "ledgers", "expenses"]))

lines = Stolen("lines", lines.author)
"""
PARTITIONED = """
from dagster import DynamicPartitionsDefinition, MonthlyPartitionsDefinition, MultiPartitionsDefinition
from ntro_dagster.orchestration import assets

months = assets.partitions_of("alpha").partitions_defs[1].partitions_def
assets.partitions_of = lambda tenant, months=months: MultiPartitionsDefinition(
    {"entity": DynamicPartitionsDefinition(name="beta__entities"), "period": months})
del months
"""

FLAWS = {
    "syntax error": Flaw(assets(first="import asyncio\ndef broken(:\n"), LOAD, ("bad/assets.py, line 2", "SyntaxError")),
    "syntax error in a type": Flaw(typed("vendor: str", "vendor str"), LOAD, ("bad/subledgers/lines.py, line 11",)),
    "unknown module": Flaw(assets(first="\nimport no_such_thing\n"), LOAD, ("bad/assets.py, line 2", "no_such_thing")),
    "other bundle": Flaw(
        assets(first="from ntro_bundle_other.assets import lines\n"), LOAD, ("bad/assets.py, line 1", "FOREIGN_IMPORT")
    ),
    "above itself": Flaw(assets(first="from ..other import assets\n"), LOAD, ("bad/assets.py, line 1", "relative import")),
    "ends the process": Flaw(assets(first="raise SystemExit(0)\n"), LOAD, ("bad/assets.py, line 1", "SystemExit")),
    "vanishes": Flaw(assets(first="import os\nos._exit(0)\n"), "SURVEY_FAILED", ("could not be read",)),
    "reads another's file": Flaw(
        assets(first="open('/tmp/ntro-anything', 'w')\n"), LOAD, ("bad/assets.py, line 1", "PermissionError")
    ),
    "a gap": Flaw(sql("SELECT 1;", "004_more.sql"), REFUSED, ("004_more.sql", "003")),
    "a bad name": Flaw(sql("SELECT 1;", "3-more.sql"), REFUSED, ("3-more.sql", "007_what_it_does.sql")),
    "a number twice": Flaw(sql("SELECT 1;", "002_more.sql"), REFUSED, ("002_more.sql", "002_extra_1.sql")),
    "changed": Flaw(
        sql("ALTER TABLE ledgers.bad__lines ADD COLUMN extra_1 INT;", "002_extra_1.sql"), REFUSED, ("002_", "edited")
    ),
    "third file, no position": Flaw(
        sql("-- more\nSELECT ';';\n\nALTER TABLE ledgers.bad__lines\n  ADD COLUMN vendor TEXT;\nSELECT 2;"),
        MIGRATION,
        ("003_more.sql, line 4", "already exists"),
    ),
    "third file, position": Flaw(sql("SELECT 1;\n\nSELEC 2;\n"), MIGRATION, ("003_more.sql, line 3", "syntax error")),
    "third file, no such table": Flaw(
        sql("SELECT 1;\nDO $$ BEGIN\n NULL; END $$;\nINSERT INTO ledgers.nothing VALUES (1);"), MIGRATION, ("line 4", "nothing")
    ),
    "commit": Flaw(sql("SELECT 1;\nCOMMIT;\n"), MIGRATION, ("003_more.sql, line 2", "transaction")),
    "begin": Flaw(sql("BEGIN;\nSELECT 1;\n"), MIGRATION, ("003_more.sql, line 1", "transaction")),
    "rollback": Flaw(sql("SELECT 1;\n\nROLLBACK;"), MIGRATION, ("003_more.sql, line 3", "transaction")),
    "concurrently": Flaw(
        sql("SELECT 1;\nCREATE INDEX CONCURRENTLY i ON ledgers.bad__lines (vendor);"), MIGRATION, ("003_more.sql, line 2",)
    ),
    "asset outside the tenant": Flaw(
        assets(last='\nfrom dagster import asset\n\n@asset(key=["beta", "ledgers", "x"])\ndef stolen():\n    pass\n'),
        LOAD,
        ("assets.py, line", "stolen", "AssetsDefinition"),
    ),
    "key outside the tenant": Flaw(assets(last=STOLEN), "DEFINITION_REFUSED", ("AssetKey",)),
    "partitions outside the tenant": Flaw(assets(last=PARTITIONED), "DEFINITION_REFUSED", ("artition",)),
    "a job of its own": Flaw(
        assets(last='\nfrom dagster import define_asset_job\nmine = define_asset_job("mine")\n'),
        LOAD,
        ("assets.py, line", "mine"),
    ),
    "definitions of its own": Flaw(assets(last="\nfrom dagster import Definitions\ndefs = Definitions()\n"), LOAD, ("defs",)),
    "a platform's name": Flaw(typed('"lines"', '"expenses"'), LOAD, ("bad/subledgers/lines.py", "SUBLEDGER_NAME_TAKEN")),
    "another's type": Flaw(
        typed('"lines"', '"lines", owner_runbook="other"'), LOAD, ("bad/subledgers/lines.py", "SUBLEDGER_NAME_INVALID")
    ),
    "no table for a column": Flaw(
        typed("wrote: str", "noted: str"), "TABLE_DRIFT", ("bad__lines", "only in the type: noted text")
    ),
    "another kind of column": Flaw(typed("wrote: str", "wrote: bool"), "TABLE_DRIFT", ("wrote boolean", "wrote text")),
    "a float": Flaw(typed("wrote: str", "wrote: float"), LOAD, ("COLUMN_TYPE", "wrote")),
    "no asset": Flaw(lambda sample: sample.with_file("assets.py", "x = 1\n"), LOAD, ("@subledger_asset",)),
    "unknown subledger": Flaw(
        lambda sample: sample.with_file("assets.py", sample.content()["assets.py"].replace('"lines")', '"lime")')),
        LOAD,
        ("runbook.md", "lines"),
    ),
}


def flawed(name: str, good: Sample) -> Sample:
    return FLAWS[name].edit(replace(good, label=f"0.{len(name)}.0"))
