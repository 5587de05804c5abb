"""`requirements.txt`: exact pins, so that a rerun years later is the same; and whether they fit what is installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ntro_dagster.bundles.problems import Problem

FILE = "requirements.txt"
_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\[[A-Za-z0-9,._ -]+\])?"
    r"\s*==\s*(?P<version>[A-Za-z0-9.+!_-]+)"
)


class Pin(NamedTuple):
    line: int
    name: str
    version: str


def normal(name: str) -> str:
    """The one spelling of a distribution's name (PyPA, "Name normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions(search_path: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, the first found on the path wins, as with imports."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions(path=list(search_path)):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(normal(name), distribution.version)
    return found


def requirement_problems(root: Path, installed: dict[str, str]) -> tuple[list[Pin], list[Problem]]:
    """The pins, and what is wrong with them.

    Args: `installed`: what the tenant's environment holds, by normal name.
    """
    try:
        text = (root / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        return [], [Problem(FILE, 1, "REQUIREMENT_INVALID", f"cannot be read as UTF-8 text: {error}", "save it as UTF-8")]
    pins: list[Pin] = []
    problems: list[Problem] = []
    for number, written in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*", "", written).strip()
        if not line:
            continue
        match = _PIN.fullmatch(line)
        if match is None:
            said = f"{line!r} is not an exact pin"
            problems.append(
                Problem(FILE, number, "REQUIREMENT_NOT_PINNED", said, "write `name==version`, and nothing else on the line")
            )
            continue
        pin = Pin(number, normal(match["name"]), match["version"])
        problems += [Problem(FILE, number, *complaint) for complaint in _of_pin(pin, pins, installed)]
        pins.append(pin)
    return pins, problems


def _of_pin(pin: Pin, earlier: Iterable[Pin], installed: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    if any(other.name == pin.name for other in earlier):
        yield "REQUIREMENT_REPEATED", f"{pin.name} is pinned twice", "keep one of the two"
    elif pin.name not in installed:
        said = f"{pin.name} is not installed in the environment it would run in"
        yield "REQUIREMENT_NOT_INSTALLED", said, f"install {pin.name}=={pin.version} there, or do without it"
    elif not _same(installed[pin.name], pin.version):
        said = f"{pin.name} is pinned to {pin.version}, but {installed[pin.name]} is installed"
        yield "REQUIREMENT_CONTRADICTS", said, f"pin {installed[pin.name]}, test the runbook with it, or change the environment"


def _same(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
