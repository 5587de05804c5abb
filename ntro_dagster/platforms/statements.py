"""Where the statements of an SQL file begin. PostgreSQL does not always say where an error is; then the statement has to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""--[^\n]*|/\*(?:.|\n)*?\*/                        # comments
      | [eE]'(?:[^'\\]|''|\\(?:.|\n))*'|'(?:[^']|'')*'   # text
      | "(?:[^"]|"")*"                                   # names
      | (?P<tag>\$(?:[A-Za-z_]\w*)?\$)(?:.|\n)*?(?P=tag) # dollar-quoted
      | ;|\w+|\s+|.""",
    re.VERBOSE,
)


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Line (from 1) and text of each. Only to find a place by: bodies in SQL of its own (`BEGIN ATOMIC`) are cut in pieces."""
    start: int | None = None
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            if start is not None:
                yield text.count("\n", 0, start) + 1, text[start : token.start()]
            start = None
        elif start is None and not token[0].isspace() and not token[0].startswith(("--", "/*")):
            start = token.start()
    if start is not None:
        yield text.count("\n", 0, start) + 1, text[start:]
