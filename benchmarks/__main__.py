"""`python -m benchmarks [name] [--rows N] [--entities N] [--repeats N]`: prints a table and writes `benchmarks/results.json`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import decisions, desk, growth, memory, month_end, relay, staging, start_up, transitions
from benchmarks.measure import Comparison
from benchmarks.peers import comparison as peers
from benchmarks.tenant import Tenant, tenant

RESULTS = Path(__file__).with_name("results.json")
COMPARISONS = {"staging": staging.compare, "transitions": transitions.compare, "relay": relay.compare}
SECONDS = {"desk": desk.measure, "decisions": lambda _, __: decisions.measure()}
Measure = Callable[[Tenant, argparse.Namespace], list[dict[str, Any]]]
SHOWN: dict[str, tuple[dict[str, str], Measure]] = {
    "growth": (growth.SHOWN, lambda fresh, _: growth.measure(fresh)),
    "start_up": (start_up.SHOWN, lambda _, __: start_up.measure()),
    "month_end": (month_end.SHOWN, lambda _, chosen: month_end.measure(chosen.entities, chosen.repeats)),
}
"""What of a result is printed, under which heading; and where it comes from."""
NAMES = (*COMPARISONS, "memory", *SECONDS, "growth", "start_up", "month_end", "peers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="only this one")
    parser.add_argument("--rows", type=int, default=100_000, help="rows per repeat of the comparisons (default: 100,000)")
    parser.add_argument("--entities", type=int, default=month_end.ENTITIES, help="of month_end and peers (default: 200)")
    parser.add_argument("--repeats", type=int, default=1, help="of month_end and peers (default: 1)")
    chosen = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in NAMES:
        if chosen.name in {None, name}:
            with tenant() as fresh:  # one server each: nobody inherits another's bloat
                results[name] = {"machine": _machine(fresh), "results": _run(fresh, name, chosen)}
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _run(fresh: Tenant, name: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    if name == "memory":
        found = memory.measure(fresh)
        _print(["rows", "peak MB"], [[f"{one['rows']:,}", str(one["megabytes"])] for one in found])
        return found
    if name in SHOWN:
        shown, measure = SHOWN[name]
        found = measure(fresh, chosen)
        _print(list(shown.values()), [[_cell(one[key]) for key in shown] for one in found])
        return found
    if name == "peers":
        found = peers.measure(chosen.entities, chosen.repeats)
        for shown in (peers.SHOWN, peers.SHOWN_RATIOS):
            rows = [[_cell(one[key]) for key in shown] for one in found if one.keys() >= shown.keys()]
            _print(list(shown.values()), rows)
        return found
    if name in SECONDS:
        found = SECONDS[name](fresh, chosen.rows)
        cells = [
            [
                one["name"],
                f"{one.get('rows', 1):,}",
                *(str(one[key] or "") for key in ("times", "median_s", "p95_s", "aim_p95_s")),
            ]
            for one in found
        ]
        _print(["what", "rows", "times", "median s", "p95 s", "aim"], cells)
        return found
    compared = COMPARISONS[name](fresh, chosen.rows)
    _print(
        ["what", "against", "rows", "ours/s", "raw/s", "spread", "ratio", "aim"],
        [_cells(one) for one in compared],
    )
    return [one.as_json() for one in compared]


def _cells(one: Comparison) -> list[str]:
    return [
        one.name,
        one.against,
        f"{one.rows:,}",
        f"{one.rows / one.ours.median:,.0f}",
        f"{one.rows / one.raw.median:,.0f}",
        f"{one.ours.spread:.0%} / {one.raw.spread:.0%}",
        f"{one.ratio:.2f}",
        f"{one.aim:.2f}" if one.aim else "",
    ]


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _print(header: list[str], rows: list[list[str]]) -> None:
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _machine(fresh: Tenant) -> dict[str, Any]:
    with psycopg.connect(fresh.credentials.app) as app:
        return {
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
            "postgresql": app.info.server_version // 10000,
        }


if __name__ == "__main__":
    main()
