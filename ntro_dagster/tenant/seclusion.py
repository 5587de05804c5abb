"""Gives up this process's sight of every file but the code it needs: Linux's Landlock, for a process without privileges.

For the survey: code that is asked what it defines runs as the same user as everything else on a small installation, so an empty
environment alone would not keep it from the documents next door.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from ntro_dagster.errors import NtroError

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls; the same number on every architecture
_PR_SET_NO_NEW_PRIVS = 38
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_FILE_RIGHTS = {1: 0x1FFF, 2: 1 << 13, 3: 1 << 14}  # what each version of Landlock added: all, linking, truncating
_EVERY_TCP_RIGHT = 3
_KNOWS_TCP = 4  # version

_SYSTEM = ("/lib", "/lib64", "/usr", "/etc")


class SeclusionFailedError(NtroError):
    code = "SECLUSION_FAILED"
    summary = "the process could not give up its sight of other files"
    mend = "nothing was asked of the tenant's code; see the kernel's log for Landlock"


def possible() -> bool:
    """Whether this kernel can do it."""
    return _version() >= 1


def _version() -> int:
    if not sys.platform.startswith("linux"):
        return 0
    return int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, ctypes.c_size_t(0), 1))


def seclude(code: Iterable[Path], listed: Iterable[Path] = ()) -> bool:
    """From now on this process reads nothing but Python, the system's libraries and `code`, and opens no TCP connection.

    TCP is left open before Linux 6.7; unix sockets are always.

    Args: `listed`: directories below which every name may be seen, but nothing read.

    Returns: False where the kernel cannot do this; nothing is changed then.

    Raises: `SeclusionFailedError` where it can and did not.
    """
    version = _version()
    if version < 1:
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    files = sum(rights for since, rights in _FILE_RIGHTS.items() if since <= version)
    wanted = struct.pack("QQ", files, _EVERY_TCP_RIGHT) if version >= _KNOWS_TCP else struct.pack("Q", files)
    rules = _must(call(_CREATE, wanted, ctypes.c_size_t(len(wanted)), 0))
    read = _EXECUTE | _READ_FILE | _READ_DIR
    allowed = dict.fromkeys([*map(Path, _SYSTEM), Path(sys.prefix), Path(sys.base_prefix), *code], read)
    for path, rights in [
        *allowed.items(),
        *((path, _READ_DIR) for path in listed),
        (Path("/dev/null"), _READ_FILE | _WRITE_FILE),
    ]:
        if path.exists():
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _must(call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0))
            os.close(opened)
    _must(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _must(call(_RESTRICT, rules, 0))
    os.close(rules)
    return True


def _must(result: int) -> int:
    if result < 0:
        raise SeclusionFailedError
    return result
