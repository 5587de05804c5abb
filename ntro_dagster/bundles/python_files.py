"""A bundle's Python, read without running it: syntax, and what it imports.

A bundle imports Python's own library, what is installed or pinned, the parts of `ntro_dagster` that are for authors, and
itself: relatively, for its package has another name in every version.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

from ntro_dagster.bundles.layout import bundle_files
from ntro_dagster.bundles.problems import Problem
from ntro_dagster.bundles.requirements import Pin, normal

NOT_FOR_AUTHORS = ("workspace", "host", "cli", "demo")
"""Parts of `ntro_dagster` that work above a tenant, or beside it."""

BUNDLES = "ntro_bundle_"
"""How the packages of loaded bundles begin."""

Complaint = tuple[str, str, str]


@dataclass(frozen=True)
class Surroundings:
    """What a bundle's imports can find.

    Attributes:
        search_path: of the environment that it would run in.
        pins: of its requirements.
        platform: the folder of `ntro_dagster`.
    """

    root: Path
    search_path: tuple[str, ...]
    pins: tuple[Pin, ...]
    platform: Path

    @cached_property
    def _distributions(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for distribution in metadata.distributions(path=list(self.search_path)):
            for package in (distribution.read_text("top_level.txt") or "").split() or _top_levels(distribution):
                found.setdefault(package, []).append(distribution.metadata["Name"])
        return found

    def has(self, package: str) -> bool:
        """Whether a top-level package is at hand, or will be."""
        if package in sys.stdlib_module_names or package in sys.builtin_module_names:
            return True
        pinned = {pin.name for pin in self.pins}
        if normal(package) in pinned or package in self._distributions:
            return True
        places = (Path(entry) for entry in self.search_path if entry)
        return any((place / package / "__init__.py").exists() or (place / f"{package}.py").exists() for place in places)

    def holds(self, name: str) -> bool:
        """Whether the bundle itself has a module of that name at its top."""
        return (self.root / f"{name}.py").is_file() or (self.root / name).is_dir()


def _top_levels(distribution: metadata.Distribution) -> set[str]:
    names = {str(file).split("/", maxsplit=1)[0] for file in distribution.files or () if str(file).endswith((".py", ".so"))}
    return {name.split(".", maxsplit=1)[0] for name in names}


def python_files(root: Path) -> list[Path]:
    return [path for path in bundle_files(root) if path.suffix == ".py" and not path.is_symlink()]


def python_problems(surroundings: Surroundings) -> list[Problem]:
    """Problems of every `.py`, the tests' own imports aside from those that reach into other planes."""
    problems: list[Problem] = []
    for path in python_files(surroundings.root):
        name = path.relative_to(surroundings.root).as_posix()
        try:
            tree = ast.parse(path.read_bytes(), filename=name)
        except SyntaxError as error:
            problems.append(
                Problem(name, error.lineno or 1, "SYNTAX_ERROR", f"Python cannot read it: {error.msg}", "correct the line")
            )
            continue
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            problems.append(Problem(name, 1, "SYNTAX_ERROR", f"Python cannot read it: {error}", "save it as plain UTF-8 text"))
            continue
        for line, complaint in _imports(tree, path, surroundings):
            problems.append(Problem(name, line, *complaint))
    return problems


def _imports(tree: ast.AST, path: Path, around: Surroundings) -> Iterator[tuple[int, Complaint]]:
    tests = path.relative_to(around.root).parts[0] == "tests"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from ((node.lineno, found) for found in _absolute(alias.name, around, tests))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            found = {complaint for name in named for complaint in _absolute(name, around, tests, may_be_attribute=True)}
            yield from ((node.lineno, complaint) for complaint in sorted(found))
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, found) for found in _relative(node, path, around.root))


def _absolute(name: str, around: Surroundings, tests: bool, *, may_be_attribute: bool = False) -> Iterator[Complaint]:
    first, *rest = name.split(".")
    if first.startswith(BUNDLES) or first == "runbooks":
        yield (
            "IMPORTS_ANOTHER_BUNDLE",
            f"{name} belongs to another bundle",
            "copy what is needed; bundles come and go each on its own",
        )
    elif first == "ntro_dagster":
        yield from _of_the_platform(name, rest, around, may_be_attribute)
    elif tests or first in sys.stdlib_module_names:
        return
    elif around.holds(first):
        yield (
            "IMPORT_NOT_RELATIVE",
            f"{first} is a module of this bundle, which is no top-level package",
            f"write `from .{first} import ...`",
        )
    elif not around.has(first):
        said = f"{first} is neither installed nor pinned in requirements.txt"
        yield "IMPORT_NOT_INSTALLED", said, "pin it in requirements.txt and have it installed for the tenant, or do without it"


def _of_the_platform(name: str, rest: list[str], around: Surroundings, may_be_attribute: bool) -> Iterator[Complaint]:
    if rest and rest[0] in NOT_FOR_AUTHORS:
        said = f"ntro_dagster.{rest[0]} is not for runbooks: it works above the tenants"
        yield "IMPORT_FORBIDDEN", said, "use ntro_dagster.subledger, .orchestration, .ingest and .gl"
        return
    module = rest[:-1] if may_be_attribute else rest
    place = around.platform.joinpath(*module)
    if not (place.is_dir() or place.with_suffix(".py").is_file()):
        yield (
            "MODULE_NOT_FOUND",
            f"{'.'.join(['ntro_dagster', *module])} does not exist",
            "docs/runbooks.md lists what runbooks import",
        )


def _relative(node: ast.ImportFrom, path: Path, root: Path) -> Iterator[Complaint]:
    package = path.parent
    for _ in range(node.level - 1):
        package = package.parent
    written = "." * node.level + (node.module or "")
    if not package.is_relative_to(root):
        yield "IMPORT_UNRESOLVED", f"{written} leads out of the bundle", "take away dots: one is the file's own folder"
        return
    target = package.joinpath(*node.module.split(".")) if node.module else package
    if not _is_module(target):
        yield "IMPORT_UNRESOLVED", f"{written} does not exist in this bundle", "correct the name, or add the file"
        return
    if node.module and not (target.is_dir() and not (target / "__init__.py").is_file()):
        return  # names of a module with code: only running it can tell
    if (target / "__init__.py").is_file() and target != root:
        return
    for alias in node.names:
        if alias.name != "*" and not _is_module(target / alias.name):
            yield (
                "IMPORT_UNRESOLVED",
                f"{written}{'' if written.endswith('.') else '.'}{alias.name} does not exist in this bundle",
                "correct the name, or add the file",
            )


def _is_module(target: Path) -> bool:
    return target.is_dir() or target.with_name(f"{target.name}.py").is_file()
