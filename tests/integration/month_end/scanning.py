"""Look through everything on the workspace's side for words that belong to tenants."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress

import psycopg
from psycopg import sql

from ntro_dagster.host.home import Home

Text = tuple[str, str]
"""Where, and what stands there."""


def workspace_texts(url: str) -> list[Text]:
    """Every row of every table, as text; compressed bytes (Dagster's snapshots) unpacked."""
    texts: list[Text] = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema !~ '^(pg_|information_schema)'"
        ).fetchall()
        for schema, table in tables:
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))):
                texts.append((table, "\n".join(_readable(value) for value in row)))
    return texts


def workspace_files(home: Home) -> list[Text]:
    """Every file of the home that is not a tenant's, the database's, or a document of the test."""
    kept_out = (home.root / "tenants", home.postgres, home.root / "documents")
    files = (path for path in home.root.rglob("*") if path.is_file() and not any(path.is_relative_to(out) for out in kept_out))
    return [(str(path), path.read_text(errors="replace")) for path in files]


def _readable(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        with suppress(zlib.error):
            raw = zlib.decompress(raw)
        return raw.decode(errors="replace")
    return str(value)


def findings(texts: Iterable[Text], words: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(where, what it is, the word) for each word that stands somewhere, not as part of a longer number or word."""
    escaped = {json.dumps(word)[1:-1]: word for word in words} | {word: word for word in words}
    pattern = re.compile(r"(?<![\w.,])(?:" + "|".join(map(re.escape, sorted(escaped, key=len, reverse=True))) + r")(?!\w)", re.I)
    known = {spelt.casefold(): word for spelt, word in escaped.items()}
    found = {(where, known[match[0].casefold()]) for where, text in texts for match in pattern.finditer(text)}
    return sorted((where, words[word], word) for where, word in found)
