"""A question that may come with what is to be stored before it (`calls.TELL_AND_ASK`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ntro_dagster.boundary.relay import encoding


@dataclass(frozen=True, slots=True)
class Question:
    """As a storage is asked.

    Attributes:
        call: the method's name.
        given: its arguments, those alone that Dagster names.
        partition: that the run is about; None: it has none, or is not known yet.
        ahead: whether to answer what follows, too.
    """

    call: str
    given: Mapping[str, Any]
    partition: str | None = None
    ahead: bool = False

    def say(self) -> bytes:
        """In one line."""
        return encoding.dumps({"call": self.call, "given": self.given, "partition": self.partition, "ahead": self.ahead})

    @classmethod
    def read(cls, said: bytes) -> Question:
        """Raises: `RelayProtocolError`."""
        match encoding.loads(said):
            case {"call": str(call), "given": dict(given), "partition": str() | None as partition, "ahead": bool(ahead)}:
                return cls(call, given, partition, ahead)
        raise encoding.RelayProtocolError
