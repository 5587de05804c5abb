"""Documents and records in from the desk: filed as `ntro ingest` files them, as the member who sent them.

What a file is, is told from its bytes; what the sender says of its type is not asked. It is received on disk and read from there,
in a thread with a connection of its own: a large one holds up nobody else at the desk.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterable, Mapping
from typing import IO, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile

from ntro_dagster.boundary.periods import PATTERN as PERIOD_PATTERN
from ntro_dagster.desk.api import ERRORS, NO_NUL
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.doors import Database, desk_of
from ntro_dagster.desk.task_requests import Asker
from ntro_dagster.desk.task_shapes import FileTaken
from ntro_dagster.desk.tasks import SPEC, TaskId, known_entity, known_task, root
from ntro_dagster.errors import TransientError, UsageError
from ntro_dagster.ingest.outcome import IngestOutcome
from ntro_dagster.ingest.submission import submit_stream
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.tenant.entities import Entity, entities_named

LONGEST_NAME = 200
IN_MEMORY = 1 << 20
"""Bytes of a body that are held; more goes to disk."""
RECORDS = "records.json"
_NAMELESS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

router = APIRouter(prefix="/v1", responses=ERRORS, tags=[SPEC])


class IntakeBusyError(TransientError):
    code = "INTAKE_BUSY"
    summary = "others hand documents in at this moment"
    mend = "try again in a minute"


class FileMissingError(UsageError):
    code = "FILE_MISSING"
    summary = "the request brings no file"
    mend = "send the bytes as the body and their name as `name`, or a form with a field `file`"


class FileNameInvalidError(UsageError):
    """Values: `longest`."""

    code = "FILE_NAME_INVALID"
    summary = "that cannot be the name of a document"
    detail = "a document's name has from 1 to {longest} characters, none of them for control"
    mend = "rename the file"


Source = Annotated[str, Query(min_length=1, max_length=100, pattern=NO_NUL, description="what kind of document it is")]
Name = Annotated[str | None, Query(max_length=LONGEST_NAME, pattern=NO_NUL)]
_BINARY = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": _BINARY}, "multipart/form-data": {"schema": _FORM}},
    }
}
_LIST = {"type": "array", "items": {"type": "object"}}
RECORDS_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _LIST}}}}


@router.post("/tasks/{task_id}/files", status_code=201, response_model=FileTaken, openapi_extra=FILE_BODY)
async def upload(
    task_id: TaskId, request: Request, database: Database, member: Asker, *, source: Source, name: Name = None
) -> dict[str, Any]:
    """A document of the task's entity and month: the body, or the file of a form. The same bytes twice are one document."""
    task = await known_task(database, root(task_id))
    entity = await known_entity(database, task["entity_id"])
    return await _one(request, entity, task["period"], source=source, name=name, by=member.login)


@router.post("/entities/{entity_id}/files", status_code=201, response_model=FileTaken, openapi_extra=FILE_BODY)
async def upload_early(
    entity_id: UUID,
    request: Request,
    database: Database,
    member: Asker,
    *,
    period: Annotated[str, Query(pattern=PERIOD_PATTERN)],
    source: Source,
    name: Name = None,
) -> dict[str, Any]:
    """The same for a month that no run has begun yet."""
    entity = await known_entity(database, entity_id)
    return await _one(request, entity, period, source=source, name=name, by=member.login)


@router.post("/tasks/{task_id}/data/ingest", status_code=201, response_model=FileTaken, openapi_extra=RECORDS_BODY)
async def records(
    task_id: TaskId, request: Request, database: Database, member: Asker, *, source: Source, name: Name = None
) -> dict[str, Any]:
    """Records as a list of JSON objects, kept as the document that the body is. Numbers keep the text they are written in."""
    task = await known_task(database, root(task_id))
    entity = await known_entity(database, task["entity_id"])
    return await _one(request, entity, task["period"], source=source, name=name or RECORDS, by=member.login)


async def _one(request: Request, entity: Entity, period: str, *, source: str, name: str | None, by: str) -> dict[str, Any]:
    """Raises: `FileMissingError`, and as `take_in`."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        sent = (await request.form()).get("file")
        if not isinstance(sent, UploadFile):
            raise FileMissingError
        outcome = await take_in(desk_of(request), sent.file, name or sent.filename, entity, period, source=source, by=by)
        return outcome.as_dict()
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as body:
        async for part in request.stream():
            body.write(part)
        body.seek(0)
        outcome = await take_in(desk_of(request), body, name, entity, period, source=source, by=by)
    return outcome.as_dict()


async def take_in(
    desk: Desk, content: IO[bytes], name: str | None, entity: Entity, period: str, *, source: str, by: str
) -> IngestOutcome:
    """Raises: `FileMissingError`, `FileNameInvalidError`, `IntakeBusyError`, and what `submit_stream` raises."""
    if not name:
        raise FileMissingError
    # A browser of another system may send the whole path.
    called = re.split(r"[/\\]", name)[-1]
    if _NAMELESS.search(called) or not 0 < len(called.strip()) <= LONGEST_NAME:
        raise FileNameInvalidError(longest=LONGEST_NAME)
    if desk.intake.locked():
        raise IntakeBusyError
    async with desk.intake:
        return await asyncio.to_thread(asyncio.run, _file(desk, content, called, entity, period, source=source, by=by))


async def _file(desk: Desk, content: IO[bytes], name: str, entity: Entity, period: str, *, source: str, by: str) -> IngestOutcome:
    async with TenantDatabase(desk.settings.database, application="ntro desk intake") as database:

        async def resolve(names: Iterable[str]) -> Mapping[str, Entity]:
            return await entities_named(database, names)

        return await submit_stream(
            database, desk.documents, content, name, resolve=resolve, submitted_by=by, entity=entity, period=period, source=source
        )
