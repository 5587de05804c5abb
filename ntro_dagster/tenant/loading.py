"""A code server whose definitions do not load stays up and says so, by a code and an error id; the story is the tenant's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ntro_dagster.errors import NtroError

if TYPE_CHECKING:
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._grpc.server import DagsterApiServer

    from ntro_dagster.orchestration.failures import StepFailedError

Server = TypeVar("Server", bound="DagsterApiServer")


class DefinitionsNotLoadedError(NtroError):
    """Values: `why`."""

    code = "DEFINITIONS_NOT_LOADED"
    summary = "the tenant's definitions do not load"
    detail = "the definitions do not load: {why}"
    mend = "mend the code that the traceback names, then reload the location in Dagster's Deployment page, or `ntro up`"


class DefinitionsNotKeptError(DefinitionsNotLoadedError):
    """The same where neither database nor disk took the story."""

    code = "DEFINITIONS_NOT_KEPT"
    summary = "the tenant's definitions do not load, and their story is in the output of its code server alone"


def loaded(
    make: Callable[[LoadableTargetOrigin | None], Server], origin: LoadableTargetOrigin, broken: BaseException | None = None
) -> tuple[Server, StepFailedError | None]:
    """The server with the definitions, or one that answers every question for them with the failure.

    Also where the code wants to end the process: the supervisor would start it again and again.

    Args: `broken`: why they do not load, where that was tried.

    Raises: KeyboardInterrupt, by which the supervisor stops us.
    """
    try:
        if broken:
            raise broken
        server = make(origin)
        resolve(server._loaded_repositories)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        failed = _told(error)
    else:
        return server, None
    server = make(None)
    server._loaded_repositories = None
    server._serializable_load_error = _as_dagster_tells(failed)
    return server, failed


def resolve(repositories: Any) -> None:
    """Make jobs and snapshots of the definitions now, where they are not there from before the fork."""
    from ntro_dagster.tenant.made_once import told_of  # noqa: PLC0415

    for definition in repositories.definitions_by_name.values():
        told_of(definition)


def _told(error: BaseException) -> StepFailedError:
    from ntro_dagster.orchestration.failures import Place, StepFailedError, code_of, kept  # noqa: PLC0415

    cause = error.__cause__ if getattr(error, "is_user_code_error", False) and error.__cause__ else error
    if isinstance(cause, NtroError):
        known: NtroError = cause  # it says more, and what to do
    else:
        known = DefinitionsNotLoadedError(why=f"{type(cause).__name__}: {_text(cause)}")
        known.__cause__ = error
    error_id, found = kept(known, Place(step="definitions"))
    return StepFailedError(code_of(known) if found else DefinitionsNotKeptError.code, error_id)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as trouble:
        return f"it cannot say what it is ({type(trouble).__name__})"


def _as_dagster_tells(failed: StepFailedError):  # type: ignore[no-untyped-def] # its type takes a second to import
    from dagster_shared.error import SerializableErrorInfo  # noqa: PLC0415

    return SerializableErrorInfo(str(failed), [], type(failed).__name__)
