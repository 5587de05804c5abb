"""A process that was forked to be something else than the one it is a fork of."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def live_out(work: Callable[[], None]) -> NoReturn:
    """Do this and end, whatever comes of it; the exit status tells. Nothing of the process that we are a fork of is ended: not
    its files, not what it does at its exit.
    """
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
