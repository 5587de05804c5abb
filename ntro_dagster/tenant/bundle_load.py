"""A bundle's code, imported and described: `python -m ntro_dagster.tenant.bundle_load ROOT SLUG LIMIT`, for `bundles.load`.

Before it runs a line of the bundle, the process gives up its sight of everything but this program, Python and the bundle.
Prints one JSON object on standard output; whatever the code itself prints goes to standard error.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import pwd
import resource
import stat
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

if __name__ == "__main__":
    from ntro_dagster.startup import pause_collector

    pause_collector()

import ntro_dagster
from ntro_dagster.bundles import Bundle, platform_bundle
from ntro_dagster.bundles.places import place_of
from ntro_dagster.bundles.problems import Problem, Severity, did_you_mean
from ntro_dagster.errors import NtroError
from ntro_dagster.orchestration.subledger_asset import ledgers_of
from ntro_dagster.platforms.environment import bound_tenant
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import SubledgerType, load_types, subledger_types
from ntro_dagster.subledger.tables import ColumnTypeError
from ntro_dagster.tenant.seclusion import seclude

MEMORY = 4 * 2**30
MOST_SECONDS = 60


class BundleLoader:
    """One bundle. `problems` grows while it is loaded and looked at."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.problems: list[Problem] = []
        self._trees: dict[Path, ast.Module] = {}

    def describe(self) -> dict[str, Any]:
        load_types(platform_bundle())
        platform = {kind.name for kind in subledger_types()}
        self._load("subledgers")
        stand = not self.problems
        types = subledger_types(self.bundle) if stand else []
        described = [self._describe(kind) for kind in types]
        places = {kind.name: self._place(kind.model) for kind in types}  # before a failure forgets the modules
        assets = self._load("assets") if stand else None
        fills = [] if assets is None else self._look_at_assets(assets, types, platform)
        if assets is not None:
            self._look_for_idle_types(places, fills)
        return {
            "types": [each for each in described if each],
            "fills": fills,
            "problems": [
                [each.file, each.line, each.code, each.message, each.mend, each.severity.value]
                for each in sorted(set(self.problems))
            ],
        }

    def _load(self, name: str) -> ModuleType | None:
        try:
            return self.bundle.load(name)
        except (Exception, SystemExit) as error:  # whatever an author's code raises is a problem of the bundle's
            self._blame(error)
            return None

    def _blame(self, error: BaseException) -> None:
        """The problem at the last line of the bundle that the error passed through."""
        file, line = place_of(error, self.bundle.root) or ("assets.py", 1)
        if isinstance(error, NtroError):
            self._add(file, line, error.code, error.explain(), error.advice())
        elif isinstance(error, SyntaxError):
            self._add(file, line, "SYNTAX_ERROR", f"Python cannot read it: {error.msg}", "correct the line")
        else:
            said = f"{type(error).__name__} while it was imported: {error}"
            self._add(
                file,
                line,
                "LOAD_FAILED",
                said,
                _ADVICE.get(type(error).__name__, "correct the line; nothing may be read or computed on import"),
            )

    def _look_at_assets(self, module: ModuleType, types: list[SubledgerType], platform: set[str]) -> list[str]:
        ledgers = ledgers_of(module)
        known = {kind.name for kind in types} | platform
        for value in list(vars(module).values()):
            self._look_at_dagster_asset(value)
        if not ledgers:
            self._add(
                "assets.py", 1, "NO_ASSET", "assets.py has no @subledger_asset", "decorate the function that yields the rows"
            )
        for ledger in ledgers:
            file, line = self._place(ledger.author)
            if ledger.name not in known:
                said = f"{ledger.name!r} is no row type of this bundle or the platform{did_you_mean(ledger.name, known)}"
                self._add(file, line, "ASSET_WITHOUT_TYPE", said, f"known: {', '.join(sorted(known))}")
            if not inspect.isasyncgenfunction(ledger.author):
                said = f"{getattr(ledger.author, '__name__', ledger.name)} is not an async generator"
                self._add(file, line, "ASSET_NOT_A_GENERATOR", said, "write `async def`, and `yield` one payload for each record")
        for name in sorted({ledger.name for ledger in ledgers if [x.name for x in ledgers].count(ledger.name) > 1}):
            file, line = self._place(next(ledger.author for ledger in reversed(ledgers) if ledger.name == name))
            self._add(file, line, "ASSET_REPEATED", f"two assets fill {name}", "a subledger is filled by one")
        return sorted({ledger.name for ledger in ledgers})

    def _look_at_dagster_asset(self, value: Any) -> None:
        """Dagster's own assets: allowed in the module, but under the tenant's name alone, for names are the instance's."""
        if "dagster" not in sys.modules:  # nobody has imported it: there is nothing of it
            return
        from dagster import AssetsDefinition, AssetSpec  # noqa: PLC0415

        if not isinstance(value, AssetsDefinition | AssetSpec):
            return
        keys = value.keys if isinstance(value, AssetsDefinition) else [value.key]
        function = getattr(getattr(value, "op", None), "compute_fn", None) if isinstance(value, AssetsDefinition) else None
        file, line = (
            self._place(inspect.unwrap(getattr(function, "decorated_fn", None) or function)) if function else ("assets.py", 1)
        )
        for key in keys:
            if key.path[0] != bound_tenant():
                said = f"the asset {key.to_user_string()} lies outside the tenant: another client's could go by the same name"
                self._add(file, line, "ASSET_OUTSIDE_TENANT", said, "use @subledger_asset, whose key begins with the tenant")
                return
        said = "an asset of Dagster's own is not run: a runbook consists of @subledger_assets"
        self._add(file, line, "ASSET_NOT_RUN", said, "use @subledger_asset", severity=Severity.WARNING)

    def _describe(self, kind: SubledgerType) -> dict[str, Any] | None:
        file, line = self._place(kind.model)
        lines = self._field_lines(kind)
        for listed in ("required", "editable"):
            for name in getattr(kind.model, listed, ()):
                if name not in kind.model.content_fields():
                    said = f"{listed} names {name!r}, which is no field of it{did_you_mean(name, kind.model.content_fields())}"
                    self._add(file, lines.get(listed, line), "TYPE_FIELD_UNKNOWN", said, "correct the name")
        if kind.lifecycle.posted and not hasattr(kind.model, "propose_for_gl"):
            said = f"rows of {kind.name} are posted, but it does not say how"
            self._add(
                file,
                line,
                "PROPOSAL_MISSING",
                said,
                "add a classmethod propose_for_gl(row) that returns a BillProposal or a JournalProposal",
            )
        try:
            description = TypeDescription.of(kind)
        except ColumnTypeError as error:
            self._add(file, lines.get(str(error.values.get("field")), line), error.code, error.explain(), error.advice())
            return None
        return {"description": description.as_json(), "file": file, "line": line, "lines": lines}

    def _look_for_idle_types(self, places: dict[str, tuple[str, int]], fills: list[str]) -> None:
        for name, (file, line) in places.items():
            if name not in fills:
                said = f"no asset fills {name}"
                self._add(
                    file,
                    line,
                    "TYPE_UNFILLED",
                    said,
                    f'add `@subledger_asset("{name}")`, or remove the type',
                    severity=Severity.WARNING,
                )

    def _field_lines(self, kind: SubledgerType) -> dict[str, int]:
        found: dict[str, int] = {}
        for model in reversed(kind.model.__mro__):
            if model.__module__ == kind.model.__module__:
                for each in self._class_body(model):
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        found[each.target.id] = each.lineno
                    elif isinstance(each, ast.Assign):
                        found |= {target.id: each.lineno for target in each.targets if isinstance(target, ast.Name)}
        return found

    def _class_body(self, model: type) -> Iterator[ast.stmt]:
        source = inspect.getsourcefile(model)
        if source:
            tree = self._trees.setdefault(Path(source), ast.parse(Path(source).read_bytes()))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name == model.__name__:
                    yield from node.body

    def _place(self, thing: Any) -> tuple[str, int]:
        """File and first line (that of its decorator) of a class or function of the bundle's."""
        try:
            path, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
            return self._below(Path(path or "")), line
        except (TypeError, OSError, ValueError):
            return "assets.py", 1

    def _below(self, path: Path) -> str:
        return path.resolve().relative_to(self.bundle.root.resolve()).as_posix()

    def _add(self, file: str, line: int, code: str, message: str, mend: str, *, severity: Severity = Severity.ERROR) -> None:
        self.problems.append(Problem(file, line, code, message, mend, severity))


_ADVICE = {
    "PermissionError": "code that is imported may read nothing but its own bundle, and must not write",
    "ModuleNotFoundError": "pin it in requirements.txt and have it installed for the tenant, or correct the name",
    "ImportError": "correct the name",
    "SystemExit": "code that is imported must not exit",
}


_PYTHONS_OWN = [
    "argparse",
    "bdb",
    "cmd",
    "code",
    "codeop",
    "concurrent.futures.thread",
    "configparser",
    "email.generator",
    "fractions",
    "gettext",
    "glob",
    "html",
    "html.parser",
    "http.client",
    "http.server",
    "logging.config",
    "logging.handlers",
    "multiprocessing",
    "multiprocessing.reduction",
    "pdb",
    "pickle",
    "pkgutil",
    "pprint",
    "shlex",
    "smtplib",
    "socketserver",
    "sqlite3",
    "statistics",
    "termios",
    "tomllib",
    "unittest",
    "unittest.mock",
    "xml.etree.ElementTree",
    "zipfile",
]
"""What Dagster and bundles import of it, beside what this program has imported already."""


def _in_reach(path: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


def _become_nobody(needed: list[Path]) -> None:
    """Of root: else the code could send signals to anything. Not where nobody can reach what the process still has to read; where
    that is Python itself (root may have it below /root), most of it is imported before.
    """
    if os.geteuid() != 0 or not all(map(_in_reach, needed)):
        return
    if not _in_reach(Path(sys.base_prefix)):
        for name in _PYTHONS_OWN:
            import_module(name)
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def main() -> None:
    root, slug, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    said, sys.stdout = sys.stdout, sys.stderr
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    package, platform = Path(ntro_dagster.__file__).parent, platform_bundle().root
    # Not all of sys.path: of a checkout that would be the whole folder, with whatever home lies in it.
    given = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    seclude([package, platform / "subledgers", platform / "migrations", root, *given])
    _become_nobody([package, Path(sys.prefix), platform, root])
    with redirect_stdout(sys.stderr):
        described = BundleLoader(Bundle(slug, root)).describe()
    said.write(json.dumps(described))


if __name__ == "__main__":
    main()
