"""What is wrong with a bundle, said so that its author can mend it: file, line, code, sentence, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    """Push and deploy refuse the bundle."""
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One finding about a bundle.

    Attributes:
        file: path below the bundle's folder, with `/`.
        line: 1-based; 1 where it concerns the file as a whole.
        code: stable, upper snake case.
        message: what is the matter, one sentence. May quote the bundle: for its author's eyes.
        mend: what to do.
    """

    file: str
    line: int
    code: str
    message: str
    mend: str
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that stop a push or a deploy."""
    return [problem for problem in problems if problem.is_error]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where something known is spelt nearly so, else nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""
