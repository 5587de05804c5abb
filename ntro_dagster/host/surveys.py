"""Asks each tenant's code what it defines, in a process that holds none of the tenant's credentials or documents.

Asked once for the same code: the digest of the bundles and of this program is kept with the answer.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ntro_dagster
from ntro_dagster.boundary.answers.survey import Survey, survey_file
from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.bundles import Bundle, platform_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.errors import NtroError
from ntro_dagster.host.home import Home, TenantHome, write_private
from ntro_dagster.host.launch import basics, read_environment
from ntro_dagster.host.surveyor import Surveyor, SurveyorGoneError
from ntro_dagster.host.users import identity
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module
from ntro_dagster.tenant.declarations import Declarations

GIVEN = ("NTRO_TENANT", "NTRO_DEFINITIONS_MODULE", "PYTHONPATH", "PATH", "LANG", "LC_ALL")
"""All that the code can know when it is asked, beside which runbooks it consists of."""

PATIENCE_S = 120.0
LARGEST_ANSWER = 64 * 2**20


class SurveyFailedError(NtroError):
    """Values: `tenant`, `log`."""

    code = "SURVEY_FAILED"
    summary = "a tenant's code could not say what it defines"
    detail = "the definitions of tenant {tenant} could not be read without its data"
    mend = "{log} tells why; code that is imported may need no database, no document and no setting but NTRO_TENANT"


class CodeRefusedError(SurveyFailedError):
    """Values: `tenant`, `log`, `place`, `why`."""

    code = "BUNDLE_NOT_LOADABLE"
    summary = "a bundle's code could not be loaded"
    detail = "{place}: {why}"
    mend = "correct it and push again; nothing was changed. {log} has the whole traceback"

    @classmethod
    def of(cls, tenant: str, log: Path, told: Mapping[str, Any]) -> CodeRefusedError:
        """From what the survey said."""
        place = f"{told['slug']}/{told['file']}, line {told['line']}" if "file" in told else f"the code of {tenant}"
        return cls(tenant=tenant, log=log, place=place, why=told["why"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a set of runbooks said of itself.

    Attributes:
        survey: what the workspace may know.
        types: the active runbooks' row types; `pinned`: those of other versions that entities are bound to.
        reads: by runbook and table, the sources of the documents it is filled from.
        declared: by runbook, how its sources are read, and which rows it makes of others.
    """

    survey: Survey
    types: tuple[TypeDescription, ...]
    pinned: tuple[TypeDescription, ...]
    reads: Mapping[str, Mapping[str, Sequence[str]]]
    declared: Mapping[str, Declarations]


def survey_tenants(home: Home, tenants: Collection[str]) -> None:
    """Bring each tenant's survey up to date with the code at hand.

    Raises: `SurveyFailedError`, `DefinitionRefusedError`.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda slug: _bring_up_to_date(home, slug), tenants))


def _bring_up_to_date(home: Home, slug: str) -> None:
    tenant = home.tenant(slug)
    active = ActiveSet.read(tenant.active)
    if _asked(home, slug) != _source(tenant, active):
        keep_survey(home, ask(tenant, active).survey)
    _publish(home, slug)


def survey_new_tenant(tenant: TenantHome) -> None:
    """Before it has a runbook. Raises: as `survey_tenants`."""
    keep_survey(tenant.home, ask(tenant, ActiveSet()).survey)


def surveyed(home: Home, slug: str) -> bool:
    """Whether the tenant's code was ever asked. The workspace can make nothing of one that was not."""
    return survey_file(home.surveys, slug).exists()


def keep_survey(home: Home, survey: Survey) -> None:
    """From now on the workspace, and the tenant's own processes, go by it. What runs at work are named after stays known."""
    with suppress(NtroError, OSError, ValueError, TypeError, KeyError):
        survey = survey.after(Survey.from_json(survey_file(home.surveys, survey.tenant).read_text()))
    write_private(survey_file(home.surveys, survey.tenant), survey.to_json() + "\n")
    _publish(home, survey.tenant)


def _publish(home: Home, slug: str) -> None:
    """For the workspace, and the same for the tenant's processes; both may read theirs, and neither may write it."""
    mine, tenant = survey_file(home.surveys, slug), home.tenant(slug)
    content = mine.read_text()
    for path, reader in ((mine, home.workspace_user), (survey_file(tenant.surveys, slug), tenant.user)):
        right = path.exists() and path.read_text() == content and reader in {None, path.stat().st_gid}
        if not right:
            write_private(path, content, readers=reader)


def ask(tenant: TenantHome, active: ActiveSet) -> Answer:
    """Ask these runbooks, whether they are active or only to become so.

    Raises: `SurveyFailedError`, `DefinitionRefusedError`.
    """
    log, users = tenant.output / "survey.log", tenant.home.users
    with log.open("wb") as complaints, tempfile.TemporaryDirectory(dir=tenant.home.root, prefix=".asked.") as shown:
        named = _show(tenant.home, active, Path(shown))
        importing = threading.Thread(target=_import_dagster, daemon=True)
        importing.start()  # a second's work, while the other process does the same
        try:
            answer = _answer(_environment(tenant) | {ACTIVE: str(named)}, complaints.fileno(), users.surveyor if users else None)
            if len(answer) > LARGEST_ANSWER:
                raise SurveyFailedError(tenant=tenant.slug, log=log)
            said = json.loads(answer)
            if "refused" in said:
                raise CodeRefusedError.of(tenant.slug, log, said["refused"])
            importing.join()
            module = definitions_module(_environment(tenant).get(DEFINITIONS_MODULE))
            made = Survey.of(tenant.slug, _source(tenant, active), said, module=module, executable=sys.executable)
            types, pinned = (tuple(map(TypeDescription.from_json, said[name])) for name in ("types", "pinned"))
            declared = {slug: Declarations.from_json(known) for slug, known in said["declared"].items()}
        except (subprocess.SubprocessError, OSError, ValueError, KeyError, TypeError, AttributeError):
            raise SurveyFailedError(tenant=tenant.slug, log=log) from None
    return Answer(made, types, pinned, said["reads"], declared)


_surveyor = Surveyor()


def _answer(environment: Mapping[str, str], complaints: int, user: int | None) -> bytes:
    """What the code says. Raises: `subprocess.SubprocessError`, OSError."""
    if "PYTHONPATH" not in environment and sys.platform == "linux":  # else it may import another of what is imported already
        try:
            return _surveyor.ask(environment, complaints, user=user, seconds=PATIENCE_S)
        except SurveyorGoneError:
            pass
    ran = subprocess.run(
        [sys.executable, "-m", "ntro_dagster.tenant.survey"],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        timeout=PATIENCE_S,
        check=True,
        umask=0o077,
        **identity(user),
    )
    return bytes(ran.stdout)


def _show(home: Home, active: ActiveSet, where: Path) -> Path:
    """The list for whoever asks; with copies of the bundles where that is a user who can see nobody's files."""
    if home.users is None:
        write_private(where / "runbooks.json", active.to_json())
        return where / "runbooks.json"

    def copied(bundle: Bundle) -> Bundle:
        root = where / str(bundle.slug) / str(bundle.version)
        shutil.copytree(bundle.root, root)
        return replace(bundle, root=root)

    bundles, pinned = (tuple(map(copied, several)) for several in (active.bundles, active.pinned))
    (where / "runbooks.json").write_text(replace(active, bundles=bundles, pinned=pinned).to_json())
    for path in [where, *where.rglob("*")]:
        os.chown(path, home.users.surveyor, home.users.surveyor)
    return where / "runbooks.json"


def _import_dagster() -> None:
    """What the answer, and the reload after it, will need."""
    for name in ("ntro_dagster.boundary.answers.definitions", "dagster._core.snap", "dagster._grpc.client"):
        importlib.import_module(name)


def _environment(tenant: TenantHome) -> dict[str, str]:
    whole = read_environment(tenant.process_env) if tenant.process_env.exists() else basics() | tenant.places
    return {name: whole[name] for name in GIVEN if name in whole}


def _asked(home: Home, slug: str) -> str | None:
    try:
        return Survey.from_json(survey_file(home.surveys, slug).read_text()).source
    except (OSError, ValueError, TypeError, KeyError, NtroError):
        return None


def _source(tenant: TenantHome, active: ActiveSet) -> str:
    """Digest of all that the answer may depend on."""
    environment = _environment(tenant)
    chosen = [Path(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    ours = [Path(ntro_dagster.__file__).parent, platform_bundle().root / "subledgers"]
    unversioned = [bundle.root for bundle in active.bundles if bundle.version is None]
    interpreter = [sys.version, sys.executable, version("dagster")]
    parts = [_digest([*ours, *unversioned, *chosen]), active.code, list(active.schedules), interpreter, environment]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(roots: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(path for path in root.rglob("*") if path.suffix in {".py", ".md", ".sql", ".yaml"}):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
