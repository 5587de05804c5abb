"""What a command asks of the Dagster webserver, over its GraphQL."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from ntro_dagster.errors import NtroError, TransientError

TIMEOUT_S = 60.0
REPOSITORY = "__repository__"


class WebserverUnreachableError(TransientError):
    code = "WEBSERVER_UNREACHABLE"
    summary = "the Dagster webserver does not answer"
    detail = "the Dagster webserver at {url} does not answer"
    mend = "`ntro status` shows whether it runs; `ntro up` starts it"


class WebserverRefusedError(NtroError):
    """Values: `what`: the kind of Dagster's answer, never its text."""

    code = "DAGSTER_REFUSED"
    summary = "Dagster refused it"
    detail = "Dagster refused it: {what}"
    mend = "the Dagster UI at {url} says why; `ntro status` shows the processes"


class Webserver:
    """The webserver at `url`, `http://127.0.0.1:3000`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def launch(self, *, tenant: str, job: str, tags: dict[str, str], assets: Sequence[Sequence[str]] = ()) -> str:
        """Start a run; returns its id. Raises: `WebserverUnreachableError`, `WebserverRefusedError`.

        Args: `assets`: keys of those that it makes; all of the job's where none are named.
        """
        selector: dict[str, Any] = {"repositoryLocationName": tenant, "repositoryName": REPOSITORY, "jobName": job}
        if assets:
            selector["assetSelection"] = [{"path": list(path)} for path in assets]
        parameters = {
            "selector": selector,
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(_LAUNCH, "launchRun", parameters=parameters)
        return str(self._expect(answer, "LaunchRunSuccess")["run"]["runId"])

    def cancel(self, run_id: str) -> None:
        """Have a run end. Raises: as `launch`."""
        self._expect(self._ask(_CANCEL, "terminateRun", run=run_id), "TerminateRunSuccess")

    def _ask(self, query: str, name: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own webserver
            f"{self.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)["data"][name]
        except urllib.error.HTTPError as error:
            raise WebserverRefusedError(what=f"HTTP {error.code}", url=self.url) from None
        except OSError:
            raise WebserverUnreachableError(url=self.url) from None
        except (ValueError, KeyError, TypeError):
            raise WebserverRefusedError(what="an answer it should not give", url=self.url) from None
        return answer

    def _expect(self, answer: dict[str, Any], kind: str) -> dict[str, Any]:
        if answer["__typename"] != kind:
            raise WebserverRefusedError(what=answer["__typename"], url=self.url)
        return answer


_LAUNCH = """
mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } } }"""

_CANCEL = "mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"
