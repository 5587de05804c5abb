"""Answers that come with every run and are the same for most: built once for the same survey, question and offer.

Only for what follows from these three and from nothing else. Each tenant has a place of its own: nobody's answers make way for
another's.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]

from ntro_dagster.boundary.answers.survey import DefinitionNotDeployedError, Survey, survey_of

MOST = 32
"""Of one tenant: parts of jobs that its sensors ask for, and plans of them."""

Answer = Callable[[Any, str, Any, Sequence[Any]], Message]


class Remembered:
    """`answer`, asked once for the same. Safe for several threads; what it gives must not be changed."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._known: defaultdict[str, OrderedDict[bytes, tuple[Survey, Message]]] = defaultdict(OrderedDict)
        self._remembering = threading.Lock()

    def __call__(self, entities: Any, tenant: str, request: Any, replies: Sequence[Any]) -> Message:
        try:
            survey = survey_of(tenant)
        except DefinitionNotDeployedError:
            return self._answer(entities, tenant, request, replies)
        key = _digest(request, *replies)
        with self._remembering:
            known = self._known[tenant].get(key)
        if known is not None and known[0] is survey:  # one object for as long as its file is the same
            return known[1]
        built = self._answer(entities, tenant, request, replies)
        with self._remembering:
            mine = self._known[tenant]
            mine[key] = survey, built
            while len(mine) > MOST:
                mine.popitem(last=False)
        return built


def _digest(*messages: Message) -> bytes:
    digest = hashlib.sha256()
    for message in messages:
        said = message.SerializeToString()
        digest.update(len(said).to_bytes(8) + said)
    return digest.digest()
