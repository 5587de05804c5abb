"""Become a child of the supervisor: `python -m ntro_dagster.host.launch [options] ENV.json -- ARGV...`

Reads the environment from a 0600 file, so that no secret stands in an argument list or in the supervisor's
configuration; leaves a record of the process (`ProcessRecord`); gives up what was inherited; and turns into ARGV.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pwd
import shutil
import signal
import sys
from pathlib import Path

import psutil

from ntro_dagster.errors import UsageError
from ntro_dagster.host.orphans import LAUNCHER, RECORD_OPTION, STOP_OPTION, ProcessRecord
from ntro_dagster.host.permissions import write_private

_PR_SET_NO_NEW_PRIVS = 38


class EnvironmentFileError(UsageError):
    """The environment of a process cannot be taken from its file. Values: `path`, `reason`."""

    code = "ENVIRONMENT_FILE"
    summary = "a process's environment file is missing, open to others, or not a JSON object of strings"
    detail = "{path}: {reason}"
    mend = "Run `ntro up` again: it writes {path} anew."


def read_environment(path: Path) -> dict[str, str]:
    """The environment in `path`.

    Raises:
        EnvironmentFileError: see there.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise EnvironmentFileError(path=path, reason="others may read it")
        content = json.loads(path.read_text())
    except OSError as error:
        raise EnvironmentFileError(path=path, reason=error.strerror) from None
    except ValueError:
        raise EnvironmentFileError(path=path, reason="not JSON") from None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise EnvironmentFileError(path=path, reason="not an object of strings")
    return content


def basics() -> dict[str, str]:
    """What a process is told of the machine."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}


def write_environment(path: Path, environment: dict[str, str]) -> None:
    """Write a process's whole environment, 0600; PATH, LANG and TZ are added where not given."""
    write_private(path, json.dumps(basics() | environment, indent=2, sort_keys=True) + "\n")


def main(arguments: list[str]) -> None:
    """Does not return: becomes the program, or exits 78 (EX_CONFIG) with the reason on standard error."""
    parser = argparse.ArgumentParser(prog=LAUNCHER)
    parser.add_argument(RECORD_OPTION, type=Path, required=True)
    parser.add_argument(STOP_OPTION, default="TERM")
    parser.add_argument("--user")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("environment", type=Path)
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    try:
        environment = read_environment(options.environment)
    except EnvironmentFileError as error:
        sys.stderr.write(f"{error.explain()}\n{error.advice()}\n")
        raise SystemExit(os.EX_CONFIG) from None

    previous = ProcessRecord.read(options.record)
    ProcessRecord(
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        starts=(previous.starts if previous else 0) + 1,
        stop_signal=options.stop_signal,
    ).write(options.record)

    # a shell that runs jobs in the background hands down ignored interrupts, which would make us unstoppable
    # (and Python itself ignores SIGPIPE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    # the relay is told by it to look again, which must not end one that is still starting
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o077)
    if options.user:
        account = pwd.getpwnam(options.user)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    elif options.uid is not None:
        _become(options.uid, options.gid)
        environment = {"HOME": "/", "LOGNAME": str(options.uid), "USER": str(options.uid)} | environment
    program = shutil.which(options.argv[0], path=environment.get("PATH", os.defpath))
    try:
        os.execve(program or options.argv[0], options.argv, environment)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot run {options.argv[0]}: {error.strerror}\n")
        raise SystemExit(os.EX_CONFIG) from None


def _become(uid: int, gid: int) -> None:
    """A user without an account, for good: in no other group, and no program that it runs may give it more (`sudo`)."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
