"""Brings a tenant's database up to what this release and its runbooks declare."""

from __future__ import annotations

import psycopg

from ntro_dagster.bundles import Bundle, frontmatter
from ntro_dagster.subledger.deployment import deploy
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.tenant.declarations import declare
from ntro_dagster.tenant.entities import refresh_views


def bring_up_to_date(owner_dsn: str, *bundles: Bundle) -> None:
    """Migrations, row types, views, and which documents are read for which subledger. Running it again changes nothing.

    Raises: what `deploy` and `declare` raise, `RunbookInvalidError`, `SubledgerNotFoundError`.
    """
    heads = [(bundle, frontmatter(bundle)) for bundle in bundles if bundle.slug]
    applied = deploy(owner_dsn, *bundles)
    with psycopg.connect(owner_dsn) as connection:
        if applied:
            refresh_views(connection)
        for bundle, head in heads:
            named = {*head.reads, *head.derives, *(name for each in head.derives.values() for name in each.rows)}
            tables = {name: subledger_type(name, bundle.slug, bundle.version).table for name in named}
            declare(connection, head, tables)
