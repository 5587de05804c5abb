"""What a runbook's frontmatter says of its sources and of the rows it makes of others, as the tenant's database keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import Frontmatter, RunbookInvalidError, derivation_name
from ntro_dagster.errors import UsageError
from ntro_dagster.ingest.sources import Source


class SourceTakenError(UsageError):
    """Values: `source`, `runbook`, `other`."""

    code = "SOURCE_TAKEN"
    summary = "two runbooks say differently how one source is read"
    detail = "{runbook} and {other} differ in how documents of source {source} are read"
    mend = "give one of the sources another name, or declare it as the other runbook does"


@dataclass(frozen=True, slots=True)
class Declarations:
    """
    Attributes:
        sources: how documents of each are read.
        derivations: by name, the tables of the inputs, and whether earlier months are looked at.
    """

    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    derivations: Mapping[str, tuple[Sequence[str], bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, head: Frontmatter, tables: Mapping[str, str]) -> Declarations:
        """Args: `tables`: by the names that the frontmatter uses. Raises `RunbookInvalidError`."""
        unknown = sorted({name for target, each in head.derives.items() for name in (target, *each.rows)} - tables.keys())
        if unknown:
            raise RunbookInvalidError(slug=head.slug, why=f"`derives` names no subledgers: {', '.join(unknown)}")
        derivations = {
            derivation_name(head.slug, target): ([tables[name] for name in each.rows], each.earlier)
            for target, each in head.derives.items()
        }
        return cls(head.sources, derivations)

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Declarations:
        """Reads what `as_json` wrote."""
        return cls(known["sources"], {name: (inputs, earlier) for name, (inputs, earlier) in known["derivations"].items()})

    def as_json(self) -> dict[str, Any]:
        return {"sources": self.sources, "derivations": self.derivations}


def declare(connection: psycopg.Connection, slug: str, declared: Declarations) -> None:
    """From now on, and for what was there before. What the runbook no longer derives is not waited for any more; for one that is
    withdrawn that is everything. Running it again changes nothing.

    Raises: `SourceInvalidError`, `SourceTakenError`.
    """
    for name, columns in declared.sources.items():
        _declare_source(connection, slug, name, Source.of(name, columns))
    known = connection.execute(
        "SELECT DISTINCT derivation FROM system.derivation_inputs WHERE starts_with(derivation, %s)", [derivation_name(slug, "")]
    ).fetchall()
    for name in sorted({name for (name,) in known} | declared.derivations.keys()):
        inputs, earlier = declared.derivations.get(name, ([], False))
        connection.execute("SELECT system.declare_derivation(%s, %s::text[], %s)", [name, list(inputs), earlier])


def _declare_source(connection: psycopg.Connection, slug: str, name: str, source: Source) -> None:
    written = connection.execute(
        """INSERT INTO ingest.sources AS s (source, runbook, declared) VALUES (%s, %s, %s)
           ON CONFLICT (source) DO UPDATE SET declared = EXCLUDED.declared
            WHERE s.runbook = EXCLUDED.runbook OR s.declared = EXCLUDED.declared RETURNING 1""",
        [name, slug, Jsonb(source.as_dict())],
    ).fetchone()
    if written is None:
        other = connection.execute("SELECT runbook FROM ingest.sources WHERE source = %s", [name]).fetchone()
        raise SourceTakenError(source=name, runbook=slug, other=other and other[0])
