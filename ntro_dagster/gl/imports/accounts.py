"""Accounts that a file of journals names: which of the chart they are, and which would have to be made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ntro_dagster.gl.imports.mapping import Accounts


@dataclass(frozen=True, slots=True)
class KnownAccount:
    code: str
    type: str
    active: bool


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that the chart does not have. `type`: None where the mapping does not say; it cannot be made then."""

    code: str
    name: str
    type: str | None
    parent: str | None


def path_of(how: Accounts, cell: str) -> tuple[str, ...]:
    """The parts of a path, or the cell as its one part; empty for a cell with nothing in it."""
    parts = cell.split(how.separator) if how.separator else [cell]
    return tuple(part.strip() for part in parts) if cell.strip() else ()


def code_of(how: Accounts, path: tuple[str, ...]) -> str:
    whole = (how.separator or "").join(path)
    return how.codes.get(whole, whole)


def type_of(how: Accounts, path: tuple[str, ...]) -> str | None:
    """By the longest beginning that the mapping knows: whole parts of a path, characters of a code."""
    if how.separator:
        beginnings = [how.separator.join(path[:length]) for length in range(len(path), 0, -1)]
    else:
        beginnings = [path[0][:length] for length in range(len(path[0]), 0, -1)]
    return next((how.types[each] for each in beginnings if each in how.types), None)


def missing(how: Accounts, cells: Iterable[tuple[str, str | None]], known: Mapping[str, KnownAccount]) -> list[NewAccount]:
    """Parents before their children. Args: `cells`: what stands in the column, and the name beside it."""
    found: dict[str, NewAccount] = {}
    for cell, name in cells:
        path = path_of(how, cell)
        for length in range(1, len(path) + 1):
            part = path[:length]
            code, whole = code_of(how, part), length == len(path)
            if not code or code in known or (code in found and not (whole and name)):
                continue
            own = (name or "").strip() if whole else ""
            parent = code_of(how, part[:-1]) if length > 1 else None
            found[code] = NewAccount(code, own or part[-1], type_of(how, part), parent)
    return list(found.values())
