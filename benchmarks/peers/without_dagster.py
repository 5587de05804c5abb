"""The unit of work for processes without Dagster: our modules name it as they are imported, the unit never uses it.

A peer's task would else pay for importing another orchestrator: more than a second, by far the most of what it does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Self


class _Nothing:
    """In the place of every name: it can be annotated with, inherited from and made, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __class_getitem__(cls, _: Any) -> type[Self]:
        return cls


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type[_Nothing]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Nothing,), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "dagster" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        del module


if "dagster" not in sys.modules:
    sys.meta_path.append(_Finder())

from benchmarks import unit  # noqa: E402 - which needs the above

__all__ = ["unit"]
