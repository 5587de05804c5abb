"""A bundle's migrations, read without a database: names and numbers, and statements that a migration may not hold.

A migration runs as the tenant's database owner, in one transaction, after and beside everyone else's: so it keeps to that
transaction, to its own role and search path, and to the runbook's own tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ntro_dagster.bundles.problems import Problem

NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql")

_TOKENS = re.compile(
    r"--[^\n]*|(?P<quoted>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<tag>\$(?:[A-Za-z_]\w*)?\$)|(?P<open>/\*)|(?P<end>;)",
    re.DOTALL,
)

_OWN_TRANSACTION = (
    (re.compile(r"(CREATE (UNIQUE )?|DROP |REINDEX .*)INDEX CONCURRENTLY|REINDEX .*CONCURRENTLY"), "CONCURRENTLY"),
    (re.compile(r"VACUUM\b"), "VACUUM"),
    (re.compile(r"(CREATE|DROP) (DATABASE|TABLESPACE)\b"), "databases and tablespaces"),
    (re.compile(r"ALTER SYSTEM\b"), "ALTER SYSTEM"),
)
_TRANSACTION = re.compile(r"(BEGIN|COMMIT|ROLLBACK|END|ABORT|START TRANSACTION|PREPARE TRANSACTION|SAVEPOINT|RELEASE)\b")
_SWITCH = re.compile(
    r"(SET|RESET) ((LOCAL|SESSION) )?(ROLE|SESSION AUTHORIZATION|SEARCH_PATH|ALL)\b|(CREATE|ALTER|DROP) (ROLE|USER|GROUP)\b"
    r"|(ALTER DATABASE|REASSIGN OWNED|DROP OWNED|DISCARD|ALTER DEFAULT PRIVILEGES)\b|ALTER .* OWNER TO\b|SECURITY LABEL\b"
)
_SETS_CONFIG = re.compile(r"set_config\s*\(\s*'(role|search_path|session_authorization|session_replication_role)'", re.IGNORECASE)
_CHANGES = re.compile(
    r"(?:CREATE|ALTER|DROP|TRUNCATE|INSERT INTO|UPDATE|DELETE FROM|COMMENT ON|GRANT|REVOKE|LOCK)\b.*?\b(system|ingest)\s*\.",
    re.IGNORECASE,
)
_TABLE = re.compile(
    r"(?:CREATE(?: UNLOGGED)? TABLE|ALTER TABLE|DROP TABLE|TRUNCATE(?: TABLE)?)(?: IF NOT EXISTS| IF EXISTS)?(?: ONLY)? "
    r"(?:ledgers\s*\.\s*)?([a-z_][a-z0-9_]*)",
    re.IGNORECASE,
)
_TRIGGER = re.compile(r"ALTER TABLE .*(DISABLE|ENABLE) (TRIGGER|RULE|ROW LEVEL SECURITY)\b|DROP (TRIGGER|RULE|POLICY)\b")


Complaint = tuple[str, str, str]
"""Code, sentence, what to do."""


_OPENS_BLOCK = re.compile(r"(?:(?:BEGIN|DECLARE|THEN|ELSE|LOOP)\s+)+", re.IGNORECASE)


class Statement(NamedTuple):
    """One statement, from its first word on. `bare`: blanks evened out, without comments and without what stands in quotes."""

    line: int
    text: str
    bare: str


def statements(sql: str, first_line: int = 1) -> Iterator[Statement]:
    """The statements of a script, as PostgreSQL's own lexer would part them."""
    bare, start, position = [], 0, 0
    while match := _TOKENS.search(sql, position):
        bare.append(sql[position : match.start()])
        position = match.end()
        if match["tag"]:
            closing = sql.find(match["tag"], position)
            position = len(sql) if closing < 0 else closing + len(match["tag"])
            bare.append(" '' ")
        elif match["open"]:
            position = _end_of_comment(sql, position)
            bare.append(" ")
        elif match["quoted"]:
            bare.append(match[0] if match[0].startswith('"') else "''")
        elif match["end"]:
            yield from _statement(sql, start, match.start(), bare, first_line)
            bare, start = [], position
        else:
            bare.append(" ")
    bare.append(sql[position:])
    yield from _statement(sql, start, len(sql), bare, first_line)


def _statement(sql: str, start: int, end: int, bare: list[str], first_line: int) -> Iterator[Statement]:
    said = " ".join("".join(bare).split())
    if said:
        text = sql[start:end]
        skipped = re.match(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", text, re.DOTALL)
        begins = start + (skipped.end() if skipped else 0)
        yield Statement(first_line + sql.count("\n", 0, begins), sql[begins:end], said)


def _end_of_comment(sql: str, position: int) -> int:
    """Comments nest in PostgreSQL."""
    depth = 1
    while depth and (match := re.compile(r"/\*|\*/").search(sql, position)):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return len(sql) if depth else position


def migration_problems(root: Path, slug: str | None) -> list[Problem]:
    """Args: `slug`: the runbook's, None where its head could not be read; its tables are then not looked at."""
    folder = root / "migrations"
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix == ".sql" or NAME.fullmatch(path.name))
    problems = [*_numbers(files), *_strays(folder)]
    for path in files:
        if path.is_symlink() or not path.is_file():
            continue  # the layout says so
        name = f"migrations/{path.name}"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(name, 1, "SQL_UNREADABLE", f"cannot be read as UTF-8 text: {error}", "save it as UTF-8"))
            continue
        for statement in statements(text):
            problems += [Problem(name, line, *complaint) for line, complaint in statement_complaints(statement, slug)]
    return problems


def _numbers(files: list[Path]) -> Iterator[Problem]:
    taken: dict[int, str] = {}
    for path in files:
        name = f"migrations/{path.name}"
        match = NAME.fullmatch(path.name)
        if match is None:
            said = "its name does not say its place: three digits, `_`, what it does"
            yield Problem(name, 1, "MIGRATION_NAME", said, f"rename it, for instance {len(taken) + 1:03}_what_it_does.sql")
            continue
        number = int(match[1])
        if number in taken:
            yield Problem(
                name, 1, "MIGRATION_REPEATED", f"{match[1]} is also the number of {taken[number]}", "give it the next free number"
            )
            continue
        expected = max(taken, default=0) + 1
        if number != expected:
            said = f"{match[1]} follows {expected - 1:03}" if taken else f"the first is {match[1]}"
            mend = f"number them 001, 002, ...; {expected:03} is missing"
            yield Problem(name, 1, "MIGRATION_MISSING", said, mend)
        taken[number] = path.name


def _strays(folder: Path) -> Iterator[Problem]:
    for path in sorted(folder.iterdir()):
        if path.suffix != ".sql" and not path.name.startswith(("_", ".")) and path.suffix.lower() == ".sql":
            yield Problem(
                f"migrations/{path.name}", 1, "MIGRATION_NAME", "does not end in .sql, so it would never run", "rename it"
            )


_REFERENCES = re.compile(r"\bREFERENCES\s+(?:system|ingest)\s*\.\s*\w+", re.IGNORECASE)
"""A key that points at the platform's tables changes nothing there."""


def statement_complaints(statement: Statement, slug: str | None) -> Iterator[tuple[int, Complaint]]:
    """Each rule that a statement breaks, with the line."""
    line, said = statement.line, statement.bare.upper()
    for pattern, what in _OWN_TRANSACTION:
        if pattern.match(said):
            yield (
                line,
                ("SQL_NOT_IN_TRANSACTION", f"{what} cannot run in a transaction, and every migration does", "leave it out"),
            )
    if _TRANSACTION.match(said):
        yield line, ("SQL_ENDS_TRANSACTION", "a migration is one transaction, begun and ended for it", "leave it out")
    if _SWITCH.match(said) or _SETS_CONFIG.search(statement.text):
        what = "changes role, owner, privileges or search_path"
        yield line, ("SQL_SWITCHES_ROLE", what, "leave it out, and write `ledgers.` before every table")
    if _CHANGES.match(_REFERENCES.sub("", statement.bare)):
        what = "changes what is the platform's (schemas system, ingest)"
        yield line, ("SQL_OF_THE_PLATFORM", what, "keep to the runbook's own tables")
    if _TRIGGER.match(said):
        yield line, ("SQL_OF_THE_PLATFORM", "touches triggers, by which the database keeps its rules", "leave it out")
    elif slug and (table := _TABLE.match(statement.bare)):
        own = f"{slug.replace('-', '_')}__"
        if not table[1].lower().startswith(own):
            said = f"{table[1]} is not a table of this runbook"
            yield line, ("TABLE_OF_ANOTHER", said, f"its tables are ledgers.{own}<type>")
    if re.match(r"DO\b", said):
        yield from _inside(statement, slug)


def _inside(statement: Statement, slug: str | None) -> Iterator[tuple[int, Complaint]]:
    """A DO block is a script within the script."""
    match = re.search(r"\$(\w*)\$(.*)\$\1\$", statement.text, re.DOTALL)
    if match is None:
        return
    for inner in statements(match[2], statement.line + statement.text.count("\n", 0, match.start(2))):
        opened = _OPENS_BLOCK.match(inner.text)
        line = inner.line + (inner.text.count("\n", 0, opened.end()) if opened else 0)
        bare = _OPENS_BLOCK.sub("", inner.bare)
        if not re.fullmatch(r"(END|BEGIN)( (IF|LOOP|CASE))?", bare.upper()):
            yield from statement_complaints(Statement(line, inner.text, bare), slug)
