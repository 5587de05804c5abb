"""What every command has in common: `--home` and `--json`, before the command or behind it."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from ntro_dagster.host.home import Home

PIPE_CLOSED = 141
"""Exit code where whoever read our output has gone: what a shell reports for SIGPIPE."""

F = TypeVar("F", bound=Callable[..., Any])

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", readable=False, help="The home directory [env: NTRO_HOME; default: ./.ntro]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]


@dataclass
class Invocation:
    """The one command line that this process runs."""

    home_option: Path | None = None
    json: bool = False

    @property
    def home(self) -> Home:
        """Where `--home` points, else NTRO_HOME, else ./.ntro. It need not exist."""
        from ntro_dagster.host.home import Home  # noqa: PLC0415

        return Home.find(self.home_option)

    def take(self, home: Path | None, json: bool) -> None:
        """Options behind the command win over those before it."""
        self.home_option = home or self.home_option
        self.json = json or self.json


invocation = Invocation()


def command(app: typer.Typer, name: str | None = None, **settings: Any) -> Callable[[F], F]:
    """Registers a function as a command of `app`, with `--home` and `--json` added to its options."""

    def register(function: F) -> F:
        @functools.wraps(function)
        def run(*, home: Path | None = None, json: bool = False, **options: Any) -> Any:
            invocation.take(home, json)
            try:
                return function(**options)
            except BrokenPipeError:  # here, because Typer would make a failure of it
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return PIPE_CLOSED

        signature = inspect.signature(function, eval_str=True)
        shared = [
            inspect.Parameter("home", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=HomeOption),
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
        ]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
        run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        app.command(name, **settings)(run)
        return function

    return register
