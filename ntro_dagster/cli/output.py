"""The one way to print: a Rich table on a terminal, plain aligned text in a pipe, JSON where `--json` was said.

Standard output carries the result and nothing else. What is said on the way goes to standard error: progress on a
terminal only, notes always.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ntro_dagster.cli.invocation import invocation

if TYPE_CHECKING:
    from rich.console import Console

# C0, DEL and C1 controls, line separators and the marks that turn text around: a vendor's name moves no cursor.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_PIPE_WIDTH = 10_000
GAP = 2
NARROWEST = 10
"""What is left at least of a column that may be cut."""

STYLES = {
    "NEEDS_ATTENTION": "yellow",
    "PENDING": "cyan",
    "APPROVED": "green",
    "POSTED": "bold green",
    "REJECTED": "dim",
    "EXCLUDED": "dim",
    "CLOSED": "dim",
    "RUNNING": "green",
    "SUCCESS": "green",
    "STARTED": "cyan",
    "STARTING": "cyan",
    "QUEUED": "cyan",
    "BACKOFF": "yellow",
    "CANCELED": "dim",
    "FAILURE": "red",
    "FATAL": "red",
    "EXITED": "red",
    "STOPPED": "dim",
    "refused": "red",
    "duplicate": "dim",
    "empty": "yellow",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
}
"""How a word that is a whole cell looks."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        right: aligned to the right, as figures are.
        flexible: cut short where the terminal is narrow; the others never are.
        spare: left out where the terminal is too narrow even so, the last one first.
    """

    title: str
    right: bool = False
    flexible: bool = False
    spare: bool = False


def jsonable(value: Any) -> Any:  # noqa: PLR0911 - one line per kind
    """`value` as JSON has it: money as decimal strings, times as ISO 8601."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return jsonable(asdict(value))
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID | Path):
        return str(value)
    return value


def result(value: Any, human: Callable[[], None]) -> None:
    """The command's result: `value` with `--json`, else what `human` prints."""
    if invocation.json:
        sys.stdout.write(json.dumps(jsonable(value), ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")
        sys.stdout.flush()
    else:
        human()
        sys.stdout.flush()


def line(text: str = "", style: str = "") -> None:
    """One line of the result."""
    from rich.text import Text  # noqa: PLC0415

    _console().print(Text(clean(text), style=style), soft_wrap=not sys.stdout.isatty())


def table(columns: Sequence[Column], rows: Iterable[Sequence[str | None]]) -> None:
    """Rows under their titles."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells)
        return
    sizes = [max(len(text) for text in texts) for texts in zip([c.title.upper() for c in columns], *cells, strict=True)]
    for row in ([column.title.upper() for column in columns], *cells):
        padded = (
            text.rjust(size) if column.right else text.ljust(size) for column, text, size in zip(columns, row, sizes, strict=True)
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def pairs(values: Iterable[tuple[str, str | None]]) -> None:
    """Names and what they stand for, one a line."""
    from rich.text import Text  # noqa: PLC0415

    found = [(name, clean(value)) for name, value in values]
    width = max(len(name) for name, _ in found)
    for name, value in found:
        _console().print(Text(f"{name:<{width}}  ", style="dim") + Text(value, style=STYLES.get(value, "")), soft_wrap=True)


def note(text: str) -> None:
    """Something worth knowing that is not the result: standard error."""
    from rich.text import Text  # noqa: PLC0415

    _console(stderr=True).print(Text(clean(text, keep_lines=True), style="dim"), soft_wrap=True)


def said() -> Callable[[str], None]:
    """For steps that take a while: what is being done now, on a terminal's standard error."""

    def say(text: str) -> None:
        if sys.stderr.isatty() and not invocation.json:
            note(f"  {text}")

    return say


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
    """A bar on a terminal's standard error. Yields a function: (how many are done, what is at hand)."""
    if not sys.stderr.isatty() or invocation.json:
        yield lambda _done, _what: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.table import Column as BarTableColumn  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}", table_column=BarTableColumn(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def update(done: int, what: str) -> None:
            bar.update(task, completed=done, description=Text(clean(what)).markup)

        yield update


def clean(value: str | None, *, keep_lines: bool = False) -> str:
    """Text as a terminal may see it: control characters shown, not obeyed."""
    if value is None:
        return ""

    def shown(match: re.Match[str]) -> str:
        return match[0] if keep_lines and match[0] == "\n" else f"\\x{ord(match[0]):02x}"

    return _CONTROLS.sub(shown, value)


def money(amount: Decimal) -> str:
    """`1234.50`: two decimals, and more only where they say something."""
    text = f"{amount:f}"
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0").ljust(2, "0")
    return "0.00" if not whole.strip("-0") and not decimals.strip("0") else f"{whole}.{decimals}"


def figure(amount: Decimal | None) -> str | None:
    """Money for people: `1,234.50`."""
    if amount is None:
        return None
    whole, _, decimals = money(amount).partition(".")
    return f"{int(whole):,}.{decimals}" if not whole.startswith("-") else f"-{int(whole[1:]):,}.{decimals}"


def duration(seconds: float | None) -> str | None:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return None
    if seconds < 9.95:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} d {hours_left} h"
    return f"{hours} h {minutes_left:02} min" if hours else f"{minutes} min {rest:02} s"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def when(moment: datetime | None) -> str | None:
    """Local time, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else None


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else _PIPE_WIDTH)


def _rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.cells import cell_len  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = _console()
    natural = [max(cell_len(text) for text in texts) for texts in zip([c.title for c in columns], *rows, strict=True)]
    least = [min(width, NARROWEST) if column.flexible else width for column, width in zip(columns, natural, strict=True)]
    shown = _that_fit(columns, least, console.width)
    drawn = Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold", border_style="dim"
    )
    for number in shown:
        column = columns[number]
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            width=None if column.flexible else natural[number],
            min_width=least[number],
            no_wrap=not column.flexible,
        )
    for row in rows:
        cells = [row[number] for number in shown]
        drawn.add_row(*(Text(cell, style=STYLES.get(cell, ""), no_wrap=True, overflow="ellipsis") for cell in cells))
    console.width = max(console.width, _taken(least, shown))  # rather a broken line than a figure that is cut
    console.print(drawn)
    if len(shown) < len(columns):
        left_out = ", ".join(column.title for number, column in enumerate(columns) if number not in shown)
        note(f"too narrow to show: {left_out}")


def _that_fit(columns: Sequence[Column], least: Sequence[int], width: int) -> list[int]:
    """Numbers of the columns that are shown."""
    shown = list(range(len(columns)))
    for number in reversed([number for number, column in enumerate(columns) if column.spare]):
        if _taken(least, shown) <= width:
            break
        shown.remove(number)
    return shown


def _taken(least: Sequence[int], shown: Sequence[int]) -> int:
    return sum(least[number] for number in shown) + GAP * (len(shown) - 1)
