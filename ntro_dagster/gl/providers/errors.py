"""What can go wrong with a general ledger of somebody else's (spec 12). Transient: trying again later may help."""

from __future__ import annotations

from ntro_dagster.errors import NtroError, TransientError, UsageError


class ProviderNotRegisteredError(UsageError):
    """Values: `provider`, `known`."""

    code = "PROVIDER_NOT_REGISTERED"
    summary = "no general ledger is known under that name"
    detail = "there is no provider {provider!r}"
    mend = "one of: {known}"


class OptionsInvalidError(UsageError):
    """Values: `provider`, `why`."""

    code = "GL_OPTIONS_INVALID"
    summary = "the options of a general ledger are missing, unknown or off"
    detail = "{provider}: {why}"
    mend = "`ntro gl set --help`; docs/general-ledger.md lists the options of each provider"


class ConnectionError_(NtroError):  # noqa: N801, N818 - the spec's name
    """Not linked: no secret, or the ledger does not accept it. Terminal. Values: `provider`, `why`."""

    code = "GL_NOT_CONNECTED"
    summary = "the general ledger is not linked, or does not accept who we say we are"
    detail = "{provider}: {why}"
    mend = "correct the secret or the options (`ntro gl set`); what is approved is posted then"


class LedgerUnreachableError(ConnectionError_, TransientError):
    """Nothing reached it. Values: `provider`, `why`."""

    code = "GL_UNREACHABLE"
    summary = "the general ledger does not answer"
    mend = "nothing to do: it is tried again by itself"


class ValidationFailedError(NtroError):
    """The ledger refused a journal. Terminal. Values: `provider`, `external_id`, `why`."""

    code = "GL_REFUSED"
    summary = "the general ledger refused a journal"
    detail = "{provider} refused {external_id}: {why}"
    mend = "correct the row, or the other ledger and then `ntro gl retry`; until then it stays approved"


class RateLimitedError(TransientError):
    """Too many requests; nothing was done. Values: `provider`, `seconds`."""

    code = "GL_RATE_LIMITED"
    summary = "the general ledger asks us to wait"
    detail = "{provider} asks us to wait {seconds} s"
    mend = "nothing to do: it is tried again then"

    @property
    def seconds(self) -> float:
        return float(self.values["seconds"])


class OutcomeUnknownError(TransientError):
    """No answer, or one that does not tell: it may have been done, and may still be. Values: `provider`, `why`."""

    code = "GL_IN_DOUBT"
    summary = "it is not known whether the general ledger did what it was asked to"
    detail = "{provider}: {why}"
    mend = "nothing to do: what is there is read back before anything is sent again"
