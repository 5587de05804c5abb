"""Timings of two ways to do the same thing, taken in turns, and their ratio."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
from rich.console import Console

REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of every repeat. `processor`: CPU seconds of this process and of PostgreSQL's, where they were asked for."""

    seconds: tuple[float, ...]
    processor: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


@dataclass(frozen=True)
class Comparison:
    """`ours` beside `raw`, over `rows` rows. The ratio is our speed as a part of the raw one: 1.0 = as fast."""

    name: str
    against: str
    rows: int
    ours: Timing
    raw: Timing
    aim: float | None = None

    @property
    def ratio(self) -> float:
        return self.raw.median / self.ours.median

    @property
    def processor(self) -> dict[str, Any]:
        """Microseconds of CPU a row, and their ratio: what is left to compare where others are at work on the machine."""
        if not self.ours.processor or not self.raw.processor:
            return {}
        ours, raw = statistics.median(self.ours.processor), statistics.median(self.raw.processor)
        each = {"ours": round(ours / self.rows * 1e6, 1), "raw": round(raw / self.rows * 1e6, 1)}
        return {"cpu_us_per_row": each, "cpu_ratio": round(raw / ours, 3)}

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "against": self.against,
            "rows": self.rows,
            "ratio": round(self.ratio, 3),
            "aim": self.aim,
            "ours_s": [round(s, 3) for s in self.ours.seconds],
            "raw_s": [round(s, 3) for s in self.raw.seconds],
            "ours_rows_per_s": round(self.rows / self.ours.median),
            "raw_rows_per_s": round(self.rows / self.raw.median),
            "spread": {"ours": round(self.ours.spread, 2), "raw": round(self.raw.spread, 2)},
            **self.processor,
        }


def alternate(
    *ways: Callable[[int], Callable[[], object]], repeats: int = REPEATS, used: Callable[[], float] | None = None
) -> list[Timing]:
    """Time each way `repeats` times, in turns, so that a noisy neighbour hits all of them.

    A way takes the number of the repeat, prepares, and returns what is to be timed. Args: `used`: as `processor_of` returns.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    processor: list[list[float]] = [[] for _ in ways]
    for repeat in range(repeats):
        for taken, spent, way in zip(seconds, processor, ways, strict=True):
            run = way(repeat)
            before, started = used() if used else 0.0, time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
            if used:
                spent.append(used() - before)
    return [Timing(tuple(taken), tuple(spent)) for taken, spent in zip(seconds, processor, strict=True)]


def processor_of(server: str) -> Callable[[], float]:
    """CPU seconds so far of this process and of the PostgreSQL on this machine at that URL, sessions that have ended included:
    the postmaster waits for them, which adds them to its account.
    """
    with psycopg.connect(server) as connection:
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    if postmaster is None:
        raise LookupError("PostgreSQL runs on another machine")

    def used() -> float:
        while True:
            try:
                times = [process.cpu_times() for process in postmaster.children(recursive=True)]
                own = postmaster.cpu_times()
            except psutil.NoSuchProcess:  # ended as it was looked at: its time is its parent's by now
                continue
            return time.process_time() + own.children_user + own.children_system + sum(each.user + each.system for each in times)

    return used


def told(found: Mapping[str, Any]) -> dict[str, Any]:
    """A result, printed as it is found: whatever comes after it may take a quarter of an hour, and fail."""
    say(json.dumps(found))
    return dict(found)


def say(what: str) -> None:
    """Beside the results, on standard error."""
    Console(stderr=True).print(what, markup=False, highlight=False, soft_wrap=True)
