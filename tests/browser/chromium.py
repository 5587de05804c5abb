"""Headless Chromium over the DevTools protocol: go to a page, wait until it shows something, take its picture.

https://chromedevtools.github.io/devtools-protocol/ - spoken with `websockets`, which Dagster's webserver brings along.
"""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from traffic import ProtocolError, Traffic
from websockets.sync.client import ClientConnection, connect

T = TypeVar("T")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""For root, and without a word to anybody's servers."""
FLAGS = ("--headless", *QUIET, "--remote-debugging-port=0", "--window-size=1500,1000")
START_S, PAGE_S = 60.0, 40.0


def program() -> str | None:
    """Path of a Chromium, None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection, pictures: Path) -> None:
        self._connection = connection
        self._pictures = pictures
        self._numbers = itertools.count(1)
        self._events: deque[dict[str, Any]] = deque()
        self.traffic = Traffic()
        self._call("Page.enable")
        self.traffic.begin(self._call)

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def text(self) -> str:
        """What a person can read on it now."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def evaluate(self, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        while self._events:
            self.traffic.note(self._events.popleft(), self._call)
        return answer["result"].get("value")

    def until_it_shows(self, *words: str, seconds: float = PAGE_S) -> str:
        """Wait until every word stands on the page, in whatever case; returns its text."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.text()
            missing = [word for word in words if word.casefold() not in text.casefold()]
            if not missing:
                return text
            if time.monotonic() >= deadline:
                self.picture("missing")
                raise AssertionError(f"not shown within {seconds:.0f} s: {missing}; the page reads:\n{text[:2000]}")
            time.sleep(0.1)

    def until(self, look: Callable[[], T | None], what: str, seconds: float = PAGE_S) -> T:
        """What `look` returns once it is true. Meanwhile the page gets its answers."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() >= deadline:
                self.picture("missing")
                raise AssertionError(f"not within {seconds:.0f} s: {what}; the page reads:\n{self.text()[:2000]}")
            self.text()
            time.sleep(0.1)
        return found

    def click(self, text: str) -> None:
        """The innermost element that reads exactly so."""
        clicked = self.evaluate(
            "(() => { const e = [...document.querySelectorAll('a, button, span, div')]"
            f".filter(x => x.innerText && x.innerText.trim() === {json.dumps(text)}).pop();"
            " if (e) e.click(); return !!e })()"
        )
        assert clicked, f"nothing on the page reads {text!r}"

    def fill(self, selector: str, text: str) -> None:
        """Put `text` into the input in the place of what stands there, as keys would."""
        found = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " if (e) { e.focus(); e.select() } return !!e })()"
        )
        assert found, f"nothing on the page is {selector!r}"
        self._call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)

    def resize(self, width: int, height: int) -> None:
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, name: str) -> Path:
        path = self._pictures / f"{name}.png"
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
        return path

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=PAGE_S))
            if "id" not in answer:
                self._events.append(answer)
            if answer.get("id") == number:
                if "error" in answer:
                    raise ProtocolError(answer["error"])
                result: dict[str, Any] = answer["result"]
                return result


@contextmanager
def browsing(pictures: Path) -> Iterator[Page]:
    """A browser with a profile of its own; ended, with its profile, at the end."""
    found = program()
    assert found
    profile = Path(tempfile.mkdtemp(prefix="ntro-chromium-"))
    with (profile / "log").open("w") as log:
        process = subprocess.Popen([found, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log)
    try:
        port = _port(process, profile)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
            address = next(target["webSocketDebuggerUrl"] for target in json.load(answer) if target["type"] == "page")
        with connect(address, max_size=None, max_queue=None, ping_interval=None, proxy=None) as connection:
            yield Page(connection, pictures)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(profile, ignore_errors=True)


def _port(process: subprocess.Popen[bytes], profile: Path) -> int:
    """Chromium chooses it, and writes it down when it listens."""
    deadline = time.monotonic() + START_S
    note = profile / "DevToolsActivePort"
    while not (note.exists() and note.read_text().strip()):
        assert process.poll() is None, (profile / "log").read_text()
        assert time.monotonic() < deadline, "Chromium does not listen"
        time.sleep(0.05)
    return int(note.read_text().split()[0])
