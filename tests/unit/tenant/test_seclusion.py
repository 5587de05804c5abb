"""A process that asks what code defines has no sight of what lies beside the code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import ntro_dagster

TRIES = """
import json, os, socket, sys
from pathlib import Path
from ntro_dagster.tenant.seclusion import seclude
document, port, listed, package = sys.argv[1:]
if os.environ.get("SECLUDE"):
    if not seclude([Path(package)], listed=[Path(listed)]):
        print(json.dumps(None)); raise SystemExit
def can(what):
    try:
        what()
    except OSError:
        return False
    return True
print(json.dumps({
    "document": can(lambda: open(document).read()),
    "environment": can(lambda: open(f"/proc/{os.getppid()}/environ").read()),
    "listing": can(lambda: os.listdir(listed)),
    "write": can(lambda: open(document + ".new", "w")),
    "connect": can(lambda: socket.create_connection(("127.0.0.1", int(port))).close()),
    "import": can(lambda: __import__("decimal")),
}))
"""


@pytest.mark.parametrize("secluded", [False, True])
def test_nothing_but_code_is_seen(tmp_path: Path, secluded: bool) -> None:
    document = tmp_path / "tenants" / "document"
    document.parent.mkdir()
    document.write_text("secret")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        package = Path(ntro_dagster.__file__).parent
        arguments = [str(document), str(listener.getsockname()[1]), str(tmp_path), str(package)]
        environment = {"PATH": os.environ["PATH"], **({"SECLUDE": "1"} if secluded else {})}
        ran = subprocess.run(
            [sys.executable, "-c", TRIES, *arguments], env=environment, capture_output=True, text=True, check=True
        )
    seen = json.loads(ran.stdout)
    if seen is None:
        pytest.skip("this kernel has no Landlock")
    beside = not secluded
    assert seen == {
        "document": beside,
        "environment": beside,
        "listing": True,
        "write": beside,
        "connect": beside,
        "import": True,
    }
