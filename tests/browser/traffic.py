"""What a browser was told: every GraphQL answer, and what its console complained of."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

GRAPHQL = "*/graphql*"

Call = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """One answer of the webserver. `operation`: as Dagster's pages call their question."""

    operation: str
    status: int
    text: str

    @property
    def failures(self) -> list[str]:
        """Errors of GraphQL itself, and those that Dagster answers in the place of what was asked."""
        told = json.loads(self.text)
        return [json.dumps(error) for error in told.get("errors") or ()] + [
            f"{kind}: {told_of.get('message')}" for kind, told_of in _typed(told.get("data")) if kind.endswith("Error")
        ]


_SHOWN = {"error", "errors", "errorChain", "cause", "causes"}
"""Where a page asks for the failure of a run or a tick, to show it."""


def _typed(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(kind := value.get("__typename"), str):
            yield kind, value
        for called, each in value.items():
            if called not in _SHOWN:
                yield from _typed(each)
    elif isinstance(value, list):
        for each in value:
            yield from _typed(each)


class ProtocolError(AssertionError):
    """Chromium refuses a command of the protocol."""


@dataclass
class Traffic:
    """Of one tab. The page gets an answer when it has been noted here, so that none is missed."""

    answers: list[Answer] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def begin(self, call: Call) -> None:
        call("Network.enable")
        call("Runtime.enable")
        call("Log.enable")
        call("Fetch.enable", patterns=[{"urlPattern": GRAPHQL, "requestStage": "Response"}])

    def note(self, event: dict[str, Any], call: Call) -> None:
        match event.get("method"), event.get("params", {}):
            case "Fetch.requestPaused", said:
                self._answer(said, call)
            case "Network.webSocketFrameReceived", said:
                carried = json.loads(said["response"]["payloadData"]).get("payload")
                self.answers += [Answer("subscription", 200, json.dumps(carried))] if isinstance(carried, dict) else []
            case "Runtime.exceptionThrown", said:
                self.complaints.append(str(said["exceptionDetails"].get("exception", {}).get("description")))
            case "Runtime.consoleAPICalled", said if said["type"] == "error":
                self.complaints.append(" ".join(str(each.get("value", each.get("description"))) for each in said["args"]))
            # an intervention is Chromium's, against the clicks of a test, which are no gestures of a person
            case "Log.entryAdded", said if said["entry"]["level"] == "error" and said["entry"]["source"] != "intervention":
                self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
            case _:
                pass

    def _answer(self, said: dict[str, Any], call: Call) -> None:
        with suppress(ProtocolError):  # the page has gone to another and waits for this one no more
            if "responseStatusCode" in said:
                body = call("Fetch.getResponseBody", requestId=said["requestId"])
                text = base64.b64decode(body["body"]).decode() if body["base64Encoded"] else body["body"]
                asked = json.loads(said["request"].get("postData") or "{}")
                self.answers.append(Answer(str(asked.get("operationName")), said["responseStatusCode"], text))
            call("Fetch.continueRequest", requestId=said["requestId"])
