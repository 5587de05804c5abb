"""Options of a provider, as they are recorded: strict, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ntro_dagster.gl.providers.errors import OptionsInvalidError


class Options(BaseModel):
    """Attributes:
    timeout_seconds: how long we wait for an answer.
    settle_seconds: how long after that a request that nobody answered may still land.
    accounts: our account code -> the ledger's, where it is another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: float = Field(default=30, gt=0, le=300)
    settle_seconds: float = Field(default=60, ge=0, le=3600)
    accounts: Mapping[str, str] = Field(default_factory=dict)

    @property
    def ours(self) -> dict[str, str]:
        """The ledger's account -> our account code, where it is another."""
        return {theirs: code for code, theirs in self.accounts.items()}


T = TypeVar("T", bound=BaseModel)


def checked(model: type[T], given: Mapping[str, Any], *, provider: str) -> T:
    """Raises: `OptionsInvalidError`."""
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        raise OptionsInvalidError(provider=provider, why=f"{where}: {first['msg']}") from None
