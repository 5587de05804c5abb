"""`ntro runbook`: the first lines of a runbook, written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, line, note, result, table

app = typer.Typer(no_args_is_help=True, help="Write a new runbook, or a row type of one.")


@app.callback()
def group() -> None:
    """Write a new runbook, or a row type of one."""


@command(app, "new")
def new(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="Lower case letters, digits, hyphens.")],
    *,
    dir: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder to write SLUG/ into.")] = Path("runbooks"),
) -> None:
    """A bundle with one row type, its table, an asset and a test that passes."""
    from ntro_dagster.authoring.bundle import new_bundle  # noqa: PLC0415

    files = new_bundle(slug, dir)
    root = dir / slug

    def human() -> None:
        for path in files:
            line(str(path))
        note(f"next: `ntro workflow check {root}`, `ntro workflow test {root}`; then docs/runbooks.md")

    result({"slug": slug, "directory": root, "files": files}, human)


@command(app, "new-type")
def new_type(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case letters, digits, underscores.")],
    *,
    csv: Annotated[Path, typer.Option("--from", metavar="FILE.csv", help="A file as it comes in, the larger the better.")],
    dir: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The bundle's folder.")] = Path(),
) -> None:
    """A row type and the migration of its table, from the columns of a CSV. Says what it took each column for, and why."""
    from ntro_dagster.authoring.row_type import new_type as write  # noqa: PLC0415

    written = write(name, csv, dir)
    value = {
        "name": name,
        "files": written.files,
        "columns": [{"heading": c.heading, "name": c.name, "type": c.type.value, "why": c.why} for c in written.columns],
        "notes": written.notes,
    }

    def human() -> None:
        table(
            [Column("Column"), Column("Field"), Column("Type"), Column("Because", flexible=True)],
            [[c.heading, c.name, c.type.value, c.why] for c in written.columns],
        )
        for path in written.files:
            line(str(path))
        for each in written.notes:
            note(each)

    result(value, human)
