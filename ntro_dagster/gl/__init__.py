"""The general ledger beside the subledgers: posting, once, and the trial balance; or the general ledger of others.

`from ntro_dagster import gl; await gl.for_entity(entity_id)` is the spec's way to an entity's ledger (12).
"""

from ntro_dagster.gl.providers.resolve import for_entity

__all__ = ["for_entity"]
