"""`ntro runbook new-type`: a row class and the migration of its table, from the columns of a CSV. Nothing is overwritten."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntro_dagster.authoring.bundle import table_sql
from ntro_dagster.authoring.columns import ColumnFound, columns_of_csv
from ntro_dagster.bundles import Bundle
from ntro_dagster.bundles.problems import did_you_mean
from ntro_dagster.bundles.runbook_md import read_page
from ntro_dagster.bundles.sql_files import NAME
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.registry import LONGEST_TABLE, table_name

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")

_PYTHON = {
    LogicalType.TEXT: "str",
    LogicalType.MONEY: "Money",
    LogicalType.INTEGER: "int",
    LogicalType.BOOLEAN: "bool",
    LogicalType.DATE: "date",
}
_SQL = {
    LogicalType.TEXT: "TEXT",
    LogicalType.MONEY: "NUMERIC(38, 9)",
    LogicalType.INTEGER: "BIGINT",
    LogicalType.BOOLEAN: "BOOLEAN",
    LogicalType.DATE: "DATE",
}


class TypeNameInvalidError(UsageError):
    """Values: `name`, `why`."""

    code = "TYPE_NAME_INVALID"
    summary = "a row type cannot have that name"
    detail = "{name!r} cannot be the name of a row type: {why}"
    mend = "use lower case letters, digits and underscores: rental_statement"


class NotABundleError(UsageError):
    """Values: `folder`, `why`."""

    code = "NOT_A_BUNDLE"
    summary = "that folder is no runbook's"
    detail = "{folder} is no runbook's: {why}"
    mend = "name the folder that holds runbook.md with --dir"


class TypeTakenError(UsageError):
    """Values: `path`."""

    code = "TYPE_TAKEN"
    summary = "there is a file for that type already"
    detail = "{path} is there already; nothing was written"
    mend = "choose another name, or change that file by hand"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. `notes`: what the author has to know or to do."""

    files: tuple[Path, ...]
    columns: tuple[ColumnFound, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: LogicalType
    annotation: str


def new_type(name: str, csv: Path, root: Path) -> Written:
    """Raises `TypeNameInvalidError`, `NotABundleError`, `TypeTakenError`, `CsvUnreadableError`; nothing is written then."""
    page = read_page(root)
    if page.head is None:
        raise NotABundleError(folder=root, why=page.problems[0].message)
    slug = page.head.slug
    _check_name(name, slug)
    columns = columns_of_csv(csv)
    module = root / "subledgers" / f"{name}.py"
    migration = root / "migrations" / f"{_next_number(root):03}_subledger_{name}.sql"
    for path in (module, migration):
        if path.exists():
            raise TypeTakenError(path=path)
    fields, roles, notes = _fields(columns)
    module.parent.mkdir(exist_ok=True)
    migration.parent.mkdir(exist_ok=True)
    with module.open("x", encoding="utf-8") as file:
        file.write(_module(name, slug, csv.name, fields, roles))
    with migration.open("x", encoding="utf-8") as file:
        file.write(table_sql(slug, name, _sql_columns(fields), _constraints(fields), f"One row of a file like {csv.name} a row."))
    registered = _register(root / "subledgers" / "__init__.py", name)
    notes.append(registered or f"add `from . import {name}` to subledgers/__init__.py: importing the module registers the type")
    notes.append(f'fill it: add `@subledger_asset("{name}")` to assets.py, and its source below `reads` in runbook.md')
    return Written((module, migration), tuple(columns), tuple(notes))


def _check_name(name: str, slug: str) -> None:
    platform = ("expenses", "journal_proposals")
    if not _NAME.fullmatch(name):
        raise TypeNameInvalidError(name=name, why="it is no identifier")
    if name in platform:
        raise TypeNameInvalidError(name=name, why=f"the platform has one{did_you_mean(name, platform)}")
    if len(table_name(name, slug)) > LONGEST_TABLE:
        raise TypeNameInvalidError(
            name=name, why=f"its table {table_name(name, slug)} would have more than {LONGEST_TABLE} characters"
        )


def _next_number(root: Path) -> int:
    taken = [int(match[1]) for path in Bundle(None, root).migrations.glob("*.sql") if (match := NAME.fullmatch(path.name))]
    return max(taken, default=0) + 1


def _fields(columns: Sequence[ColumnFound]) -> tuple[list[_Field], dict[str, str], list[str]]:
    """The fields, and which of them a row is posted with: amount, currency, party. What the file does not have is added."""
    fields = [_Field(column.name, column.type, _PYTHON[column.type]) for column in columns]
    notes = []
    roles = {}
    wanted = (
        ("amount", LogicalType.MONEY, "Money", [x for x in fields if x.type is LogicalType.MONEY]),
        ("currency", LogicalType.TEXT, "CurrencyCode", [x for x in fields if x.name in {"currency", "currency_code"}]),
        (
            "party",
            LogicalType.TEXT,
            "str",
            [x for x in fields if re.search(r"name|supplier|vendor|tenant|payee|party", x.name) and x.type is LogicalType.TEXT],
        ),
    )
    for role, logical, annotation, fitting in wanted:
        if fitting:
            chosen = fitting[0]
            fields[fields.index(chosen)] = _Field(chosen.name, logical, annotation)
            roles[role] = chosen.name
        else:
            roles[role] = role if role not in {x.name for x in fields} else f"{role}_posted"
            fields.append(_Field(roles[role], logical, annotation))
            notes.append(f"{roles[role]} is not in the file, but a row is posted with it: have assets.py fill it")
    notes.append(
        f"a row is posted as a bill of `{roles['amount']}` to `{roles['party']}`: change propose_for_gl where that is wrong"
    )
    return fields, roles, notes


def _module(name: str, slug: str, csv: str, fields: Sequence[_Field], roles: dict[str, str]) -> str:
    required = ", ".join(f'"{roles[role]}"' for role in ("amount", "currency", "party"))
    imports = sorted(
        {"BillProposal", "Row", "register_type", *(x.annotation for x in fields if x.annotation in {"Money", "CurrencyCode"})},
        key=_isort,
    )
    day = "from datetime import date\n" if any(field.type is LogicalType.DATE for field in fields) else ""
    lines = "".join(f"    {field.name}: {field.annotation} | None = None\n" for field in fields)
    amount, currency, party = roles["amount"], roles["currency"], roles["party"]
    return f'''"""{name.replace("_", " ").capitalize()}: one row of a file like {csv} a row."""

from __future__ import annotations

{day}from typing import ClassVar

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger import {", ".join(imports)}


@register_type("{name}")
class {"".join(part.capitalize() for part in name.split("_"))}Row(Row):
    """Fields are optional so that a broken row can still be kept; `required` asks for them before a row may be approved."""

    required: ClassVar[tuple[str, ...]] = ({required})

{lines}
    @classmethod
    def propose_for_gl(cls, row: {"".join(part.capitalize() for part in name.split("_"))}Row) -> BillProposal:
        """What an approved row is posted as: a bill, on the last day of the row's month."""
        assert row.{amount} is not None and row.{currency} and row.{party}  # noqa: S101 - an approved row is complete
        return BillProposal(
            external_id=f"{slug}:{name}:{{row.id}}",
            row_id=row.id,
            posting_date=last_day(row.period),
            vendor=row.{party},
            description=row.{party},
            currency=row.{currency},
            gross=row.{amount},
        )
'''


def _isort(name: str) -> tuple[bool, str]:
    """Classes before functions, as ruff sorts what is imported from one module."""
    return name[0].islower(), name


def _sql_columns(fields: Sequence[_Field]) -> str:
    width = max(18, *(len(field.name) for field in fields))
    return "".join(f"    {field.name:<{width}}  {_SQL[field.type]},\n" for field in fields)


def _constraints(fields: Sequence[_Field]) -> str:
    amounts = [field.name for field in fields if field.type is LogicalType.MONEY]
    conditions = " AND ".join(f"{name} <> 'NaN'" for name in amounts)
    why = "    -- NaN is a value of NUMERIC, and greater than every number.\n"
    return f"{why}    CONSTRAINT amounts_are_numbers CHECK ({conditions})\n"


def _register(path: Path, name: str) -> str | None:
    """Adds the module to the package's imports; None where the file is not written as `ntro runbook new` writes it."""
    if not path.exists():
        path.write_text(
            '"""The runbook\'s own row types. Importing this package registers them."""\n\n'
            f'from . import {name}\n\n__all__ = ["{name}"]\n',
            encoding="utf-8",
        )
        return "subledgers/__init__.py was written: importing it registers the type"
    text = path.read_text(encoding="utf-8")
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return None
    imports = [each for each in body if isinstance(each, ast.ImportFrom) and each.level == 1 and not each.module]
    listed = [each for each in body if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__all__"]
    plain = all(each.lineno == each.end_lineno for each in (*imports, *listed))
    if len(imports) != 1 or len(listed) != 1 or not plain or any(alias.asname for alias in imports[0].names):
        return None
    names = sorted({alias.name for alias in imports[0].names} | {name})
    lines = text.splitlines()
    lines[imports[0].lineno - 1] = f"from . import {', '.join(names)}"
    quoted = ", ".join(f'"{each}"' for each in names)
    lines[listed[0].lineno - 1] = f"__all__ = [{quoted}]"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "subledgers/__init__.py imports it now, which registers the type"
