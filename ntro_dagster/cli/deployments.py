"""`ntro workflow`: versions of runbooks, and which of them a tenant runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.connections import installation, registry
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, count, line, note, result, table, when
from ntro_dagster.cli.parameters import SetOption, written
from ntro_dagster.cli.selection import TenantOption, checked_user

if TYPE_CHECKING:
    from ntro_dagster.host.deployments import Runbooks
    from ntro_dagster.workspace.deployments import Deployment, Deployments, Version

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The runbook's folder, or a ZIP archive of one.")]
RunbookArgument = Annotated[str, typer.Argument(metavar="SLUG[@VERSION]", help="A version by its id or label; else the newest.")]
SlugArgument = Annotated[str, typer.Argument(metavar="SLUG", help="The runbook.")]


@contextmanager
def _known() -> Iterator[tuple[Runbooks, Deployments]]:
    from ntro_dagster.host.deployments import Runbooks  # noqa: PLC0415
    from ntro_dagster.workspace.deployments import Deployments  # noqa: PLC0415

    found = installation()
    with registry(found) as opened:
        yield Runbooks(found), Deployments(opened)


def register(app: typer.Typer) -> None:
    """Adds the commands to `ntro workflow`."""
    commands: dict[str, Callable[..., None]] = {
        "create": create,
        "push": push,
        "deploy": deploy,
        "rollback": rollback,
        "withdraw": withdraw,
        "list": list_,
        "history": history,
        "show": show,
        "diff": diff,
    }
    for name, function in commands.items():
        command(app, name)(function)


def create(
    *,
    path: Annotated[Path, typer.Option("--path", metavar="DIR", help="The runbook's folder, or a ZIP archive of one.")],
    tenant: TenantOption,
    entity: Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")],
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="CRON", help="Five fields; without, none.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="TZ", help="IANA name of where CRON is the time.")] = "UTC",
    pin: Annotated[bool, typer.Option("--pin", help="Always this version, whatever is deployed later.")] = False,
    parameters: SetOption = None,
) -> None:
    """Push, deploy and bind in one: from now on the tenant runs the folder's content for the entity."""
    from ntro_dagster.boundary.schedules import schedule as cron_of  # noqa: PLC0415
    from ntro_dagster.cli.bindings import told  # noqa: PLC0415
    from ntro_dagster.host.bindings import bind  # noqa: PLC0415
    from ntro_dagster.host.parameters import check_settings  # noqa: PLC0415
    from ntro_dagster.workspace.workflows import Binding  # noqa: PLC0415

    when, settings = cron_of(schedule, timezone) if schedule else None, written(parameters)
    with _known() as (runbooks, known):
        known.registry.entity(tenant, entity)  # before anything is changed
        version, _ = runbooks.push(path)
        check_settings(installation(), tenant, version.slug, version.version, settings)
        runbooks.deploy(version.slug, tenant, version.version)
    binding = Binding(tenant, version.slug, entity, when, pinned=version.version if pin else None)
    told(bind(installation(), binding, settings, by=checked_user(None)))


def push(folder: FolderArgument) -> None:
    """Store the content of a folder as a version. Runs nothing; the same content is the same version."""
    with _known() as (runbooks, _):
        version, new = runbooks.push(folder)
    value = _version(version) | {"new": new}
    said = "" if new else ", which was known already"
    result(
        value,
        lambda: line(
            f"{version.slug} {version.label} is {version.version}{said}: "
            f"`ntro workflow deploy {version.slug}@{version.version} --tenant …` has a tenant run it"
        ),
    )


def deploy(runbook: RunbookArgument, *, tenant: TenantOption) -> None:
    """Have a tenant run a version: migrations, row types, reload. Whole or not at all."""
    slug, _, wanted = runbook.partition("@")
    with _known() as (runbooks, known):
        done = runbooks.deploy(slug, tenant, wanted or None)
        _tell(done, known, tenant, slug, f"{tenant} runs it already")


def rollback(
    runbook: Annotated[str, typer.Argument(metavar="SLUG[@VERSION]", help="To that version; else the one before the active.")],
    *,
    tenant: TenantOption,
) -> None:
    """Go back to an earlier version. Migrations stay: the tables must still fit."""
    slug, _, wanted = runbook.partition("@")
    with _known() as (runbooks, known):
        done = runbooks.rollback(slug, tenant, wanted or None)
        _tell(done, known, tenant, slug, f"{tenant} runs it already")


def withdraw(slug: SlugArgument, *, tenant: TenantOption) -> None:
    """Have a tenant run a runbook no more. Its tables and rows stay."""
    with _known() as (runbooks, known):
        done = runbooks.withdraw(slug, tenant)
        _tell(done, known, tenant, slug, "")


def _tell(done: Deployment | None, known: Deployments, tenant: str, slug: str, otherwise: str) -> None:
    active = known.active(tenant).get(slug)
    label = known.version(slug, active).label if active else None
    value = {"tenant": tenant, "slug": slug, "version": active, "label": label, "changed": done is not None}
    sentence = f"{tenant} runs {slug} {label} ({active})" if active else f"{tenant} does not run {slug} any more"
    result(value, lambda: line(sentence if done else otherwise))


def list_(tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="What this tenant runs.")] = None) -> None:
    """The runbooks that were pushed; with --tenant those that a tenant runs."""
    with _known() as (_, known):
        if tenant is None:
            newest: dict[str, Version] = {}
            for version in known.versions():
                newest.setdefault(version.slug, version)
            shown = [_version(version) for version in newest.values()]
        else:
            shown = [_version(known.version(slug, at)) for slug, at in sorted(known.active(tenant).items())]

    def human() -> None:
        if not shown:
            line("none: `ntro workflow push DIR` pushes one" if tenant is None else f"{tenant} runs no runbook yet")
            return
        table(
            [Column("Runbook"), Column("Version"), Column("Id"), Column("Files", right=True), Column("Pushed")],
            [(each["slug"], each["label"], each["version"], str(each["files"]), when(each["pushed_at"])) for each in shown],
        )

    result(shown, human)


def history(
    slug: Annotated[str | None, typer.Argument(metavar="[SLUG]", help="Only this runbook.")] = None, *, tenant: TenantOption
) -> None:
    """What was deployed to a tenant, newest first, and how it ended."""
    with _known() as (_, known):
        found = known.history(tenant, slug)
    value: list[dict[str, Any]] = [
        {
            "id": each.id,
            "act": each.act,
            "slug": each.slug,
            "version": each.version,
            "state": each.state,
            "error": each.error,
            "started_at": each.started_at,
            "ended_at": each.ended_at,
        }
        for each in found
    ]

    def human() -> None:
        if not value:
            line(f"nothing was deployed to {tenant} yet")
            return
        table(
            [
                Column("When"),
                Column("Act"),
                Column("Runbook"),
                Column("Version"),
                Column("State"),
                Column("Error", flexible=True),
            ],
            [(when(e["started_at"]), e["act"], e["slug"], e["version"], e["state"], e["error"]) for e in value],
        )

    result(value, human)


def show(runbook: RunbookArgument) -> None:
    """One version: its files and their digests."""
    from ntro_dagster.bundles.archive import read_folder  # noqa: PLC0415

    slug, _, wanted = runbook.partition("@")
    with _known() as (runbooks, known):
        version = known.version(slug, wanted or None)
        with runbooks.content(slug, version.version) as root:
            manifest = read_folder(root)
    value = _version(version) | {"contents": dict(manifest.files)}

    def human() -> None:
        line(f"{slug} {version.label} ({version.version}), {count(version.files, 'file')}, {version.size:,} bytes")
        table([Column("SHA-256"), Column("File", flexible=True)], [(d[:16], name) for name, d in manifest.files.items()])

    result(value, human)


def diff(
    first: Annotated[str, typer.Argument(metavar="SLUG[@VERSION]")],
    second: Annotated[str, typer.Argument(metavar="SLUG[@VERSION]")],
) -> None:
    """What one version has and another has not, line by line."""
    with _known() as (runbooks, known):
        sides = []
        for named in (first, second):
            slug, _, wanted = named.partition("@")
            version = known.version(slug, wanted or None)
            with runbooks.content(slug, version.version) as root:
                sides.append(
                    (f"{slug}@{version.version}", {p.relative_to(root).as_posix(): p.read_bytes() for p in _files(root)})
                )
    (one, before), (other, after) = sides
    value: list[dict[str, Any]] = [
        {"file": name, "change": _change(name in before, name in after), "lines": _lines(before.get(name), after.get(name), name)}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]

    def human() -> None:
        note(f"{one} and {other}: {count(len(value), 'file')} differ" if value else f"{one} and {other} are the same")
        for each in value:
            line(f"{each['change']}: {each['file']}")
            for text in each["lines"]:
                line(f"  {text}")

    result(value, human)


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def _change(before: bool, after: bool) -> str:
    return "changed" if before and after else "added" if after else "removed"


def _lines(before: bytes | None, after: bytes | None, name: str) -> list[str]:
    from difflib import unified_diff  # noqa: PLC0415

    try:
        texts = [(content or b"").decode().splitlines() for content in (before, after)]
    except UnicodeDecodeError:
        return [f"{name} is not text"]
    return list(unified_diff(texts[0], texts[1], lineterm="", n=1))[2:]


def _version(version: Version) -> dict[str, Any]:
    return {
        "slug": version.slug,
        "version": version.version,
        "label": version.label,
        "digest": version.digest,
        "files": version.files,
        "size": version.size,
        "pushed_at": version.pushed_at,
    }
