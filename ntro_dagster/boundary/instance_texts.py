"""The texts of YAML that Dagster's instance is made of, each read once.

Dagster makes an instance for every run that it starts and for every one that has ended, in four kinds of processes, and has
PyYAML read the same handful of texts each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache

from dagster._serdes import config_class
from dagster_shared.yaml_utils import load_run_config_yaml

MOST = 32

_read = lru_cache(MOST)(load_run_config_yaml)


def _read_once(text: str) -> Mapping[str, object]:
    """A copy: whoever asks may change it."""
    return deepcopy(_read(text))


def read_each_once() -> None:
    """In this process, and in those that are forked from it, from now on."""
    config_class.load_run_config_yaml = _read_once  # type: ignore[attr-defined,assignment]
    _read("{}\n")  # most of them say so
