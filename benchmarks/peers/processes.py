"""Processes of a peer: started in a session of their own, ended with all that they started."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processor_time import whole_tree

END_PATIENCE_S = 15.0


class PeerFailedError(Exception):
    """A process of a peer did not do what it had to; `str()` says which, and where its output is."""


class Processes:
    """Those of one peer. `directory`: where they are at home, and what they print is kept."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.environment = dict(environment)
        self._started: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, *argv: str, asked: bool = False) -> None:
        """Args: `asked`: it is spoken to by `ask`."""
        with self._log(name).open("w") as log:
            self._started[name] = subprocess.Popen(
                argv, env=self.environment, cwd=self.directory, start_new_session=True, text=True, stderr=log,
                stdin=subprocess.PIPE if asked else subprocess.DEVNULL, stdout=subprocess.PIPE if asked else log,
            )  # fmt: skip

    def run(self, name: str, *argv: str) -> str:
        """Until it ends. Returns: the last line that it printed. Raises: `PeerFailedError`."""
        with self._log(name).open("w") as log:
            done = subprocess.run(
                argv, env=self.environment, cwd=self.directory, stdout=subprocess.PIPE, stderr=log, text=True, check=False
            )
        if done.returncode:
            raise PeerFailedError(f"{name} ended with {done.returncode}: {self._last_of(name)}")
        return (done.stdout.strip().splitlines() or [""])[-1]

    def ask(self, name: str, question: Mapping[str, Any] | None = None) -> Any:
        """Send a line of JSON, if any, and return the next line of JSON that comes. Raises: `PeerFailedError`."""
        process = self._started[name]
        assert process.stdin and process.stdout
        if question is not None:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            try:
                return json.loads(line)
            except ValueError:
                continue  # the peer's own greetings
        raise PeerFailedError(f"{name} ended: {self._last_of(name)}")

    def check(self) -> None:
        """Raises: `PeerFailedError` where one has ended."""
        for name, process in self._started.items():
            if process.poll() is not None:
                raise PeerFailedError(f"{name} ended with {process.returncode}: {self._last_of(name)}")

    def used(self) -> dict[str, float]:
        """CPU seconds since their start, by name."""
        return {name: whole_tree(psutil.Process(process.pid)) for name, process in self._started.items()}

    def end(self) -> None:
        for process in reversed(self._started.values()):
            _end(process)
        self._started.clear()

    def _log(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '_')}.log"

    def _last_of(self, name: str) -> str:
        return (self._log(name).read_text().strip().splitlines() or [""])[-1]


@contextmanager
def processes(directory: Path, environment: Mapping[str, str]) -> Iterator[Processes]:
    made = Processes(directory, environment)
    try:
        yield made
    finally:
        made.end()


def _end(process: subprocess.Popen[str]) -> None:
    """It and its descendants: asked first, made to after `END_PATIENCE_S`."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    process.terminate()
    try:
        process.wait(END_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, END_PATIENCE_S if family else 0)
    for each in left:
        each.kill()
