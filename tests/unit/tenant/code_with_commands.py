"""Definitions of a test, which import what a code server leaves out."""

import code_at_work
from dagster._cli.utils import get_possibly_temporary_instance_for_cli

instance = get_possibly_temporary_instance_for_cli
defs = code_at_work.defs
