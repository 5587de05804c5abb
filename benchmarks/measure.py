"""Timings of two ways to do the same thing, taken in turns, and their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of every repeat."""

    seconds: tuple[float, ...]

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
        }


def alternate(*ways: Callable[[int], Callable[[], object]], repeats: int = REPEATS) -> list[Timing]:
    """Time each way `repeats` times, in turns, so that a noisy neighbour hits all of them.

    A way takes the number of the repeat, prepares, and returns what is to be timed.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    for repeat in range(repeats):
        for taken, way in zip(seconds, ways, strict=True):
            run = way(repeat)
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return [Timing(tuple(taken)) for taken in seconds]
