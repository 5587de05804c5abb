"""What one run may use of the machine: NTRO_RUN_MEMORY_MB and NTRO_RUN_CPU_S in the environment of the tenant's code server.

Without them a run is limited by the machine alone. Each run is a process of its own, so what one may not have, no other loses.
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, Self

from ntro_dagster.errors import NtroError, UsageError

MEMORY, CPU = "NTRO_RUN_MEMORY_MB", "NTRO_RUN_CPU_S"
GRACE_S = 10
"""CPU seconds in which a run that is told to end may say so; then it is killed."""


class RunLimitInvalidError(UsageError):
    """Values: `name`, `value`."""

    code = "RUN_LIMIT_INVALID"
    summary = "a limit of a tenant's runs is not a number that can be one"
    detail = "{name} is {value!r}; it is a whole number above 0"
    mend = "mend or remove it in the tenant's process.env.json, then `ntro down` and `ntro up`"


class RunCpuExceededError(NtroError):
    """Values: `seconds`."""

    code = "RUN_CPU_EXCEEDED"
    summary = "a run used more processor time than it may"
    detail = "the run has used {seconds} s of processor time, which is all it may"
    mend = f"find what takes it so long, or raise {CPU} in the tenant's process.env.json and start the tenant's processes anew"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Attributes: `memory_mb`: of its own, in MiB; `cpu_s`: in all, by all its threads."""

    memory_mb: int | None = None
    cpu_s: int | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Raises: `RunLimitInvalidError`."""
        return cls(_number(MEMORY), _number(CPU))

    def apply(self) -> None:
        """To this process, from now on. In its main thread."""
        if self.memory_mb:
            most = self.memory_mb * 2**20
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        if self.cpu_s:
            used = resource.getrusage(resource.RUSAGE_SELF)
            until = int(used.ru_utime + used.ru_stime) + self.cpu_s
            signal.signal(signal.SIGXCPU, self._end)
            resource.setrlimit(resource.RLIMIT_CPU, (until, until + GRACE_S))

    def _end(self, _number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # it comes again each second
        raise RunCpuExceededError(seconds=self.cpu_s)


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise RunLimitInvalidError(name=name, value=value)
    return int(value)
