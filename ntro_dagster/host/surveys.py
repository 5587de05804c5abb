"""Asks each tenant's code what it defines, in a process that holds none of the tenant's credentials or documents.

Asked once for the same code: the digest of the bundles and of this program is kept with the answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import ntro_dagster
from ntro_dagster.boundary.answers.survey import Survey, survey_file
from ntro_dagster.bundles import platform_bundle, runbook_bundles
from ntro_dagster.errors import NtroError
from ntro_dagster.host.home import Home, TenantHome, write_private
from ntro_dagster.host.launch import read_environment
from ntro_dagster.host.users import identity
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module

GIVEN = ("NTRO_TENANT", "NTRO_DEFINITIONS_MODULE", "PYTHONPATH", "PATH", "LANG", "LC_ALL")
"""All that the code can know when it is asked."""

PATIENCE_S = 120.0
LARGEST_ANSWER = 64 * 2**20


class SurveyFailedError(NtroError):
    """Values: `tenant`, `log`."""

    code = "SURVEY_FAILED"
    summary = "a tenant's code could not say what it defines"
    detail = "the definitions of tenant {tenant} could not be read without its data"
    mend = "{log} tells why; code that is imported may need no database, no document and no setting but NTRO_TENANT"


def survey_tenants(home: Home, tenants: Collection[str]) -> None:
    """Bring each tenant's survey up to date with the code at hand.

    Raises: `SurveyFailedError`, `DefinitionRefusedError`.
    """
    code = _code_at_hand()
    stale = [slug for slug in tenants if _asked(home, slug) != _source(code, home.tenant(slug))]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda slug: _survey(home, slug, code), stale))
    for slug in tenants:
        _publish(home, slug)


def _publish(home: Home, slug: str) -> None:
    """For the workspace, and the same for the tenant's processes; both may read theirs, and neither may write it."""
    mine, tenant = survey_file(home.surveys, slug), home.tenant(slug)
    content = mine.read_text()
    write_private(mine, content, readers=home.workspace_user)
    write_private(survey_file(tenant.surveys, slug), content, readers=tenant.user)


def _survey(home: Home, slug: str, code: str) -> None:
    tenant = home.tenant(slug)
    source = _source(code, tenant)
    log = tenant.output / "survey.log"
    with log.open("wb") as complaints:
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "ntro_dagster.tenant.survey"],
                env=_environment(tenant),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                timeout=PATIENCE_S,
                check=True,
                umask=0o077,
                **identity(home.users.surveyor if home.users else None),
            )
            if len(ran.stdout) > LARGEST_ANSWER:
                raise SurveyFailedError(tenant=slug, log=log)
            module = definitions_module(_environment(tenant).get(DEFINITIONS_MODULE))
            made = Survey.of(slug, source, json.loads(ran.stdout), module=module, executable=sys.executable)
        except (subprocess.SubprocessError, OSError, ValueError, KeyError, TypeError, AttributeError):
            raise SurveyFailedError(tenant=slug, log=log) from None
    write_private(survey_file(home.surveys, slug), made.to_json() + "\n")


def _environment(tenant: TenantHome) -> dict[str, str]:
    whole = read_environment(tenant.process_env)
    return {name: whole[name] for name in GIVEN if name in whole}


def _asked(home: Home, slug: str) -> str | None:
    try:
        return Survey.from_json(survey_file(home.surveys, slug).read_text()).source
    except (OSError, ValueError, TypeError, KeyError, NtroError):
        return None


def _source(code: str, tenant: TenantHome) -> str:
    """Digest of all that the answer may depend on."""
    environment = _environment(tenant)
    chosen = [Path(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    interpreter = [sys.version, sys.executable, version("dagster")]
    return hashlib.sha256(json.dumps([code, _digest(chosen), interpreter, environment], sort_keys=True).encode()).hexdigest()


def _code_at_hand() -> str:
    """Digest of this program and of every bundle: their Python and their descriptions."""
    roots = [
        Path(ntro_dagster.__file__).parent,
        *(bundle.root for bundle in runbook_bundles()),
        platform_bundle().root / "subledgers",
    ]
    return _digest(roots)


def _digest(roots: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(path for path in root.rglob("*") if path.suffix in {".py", ".md", ".sql", ".yaml"}):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
