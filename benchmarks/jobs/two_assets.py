"""Definitions of a tenant whose one job has two assets, and nothing to do: what a run costs without its work."""

import os

from dagster import AssetKey, Definitions, asset, define_asset_job, in_process_executor

TENANT = os.environ["NTRO_TENANT"]


@asset(key=AssetKey([TENANT, "first"]))
def first() -> None:
    """Done at once."""


@asset(key=AssetKey([TENANT, "second"]), deps=[first])
def second() -> None:
    """Done at once, after the first."""


defs = Definitions(
    assets=[first, second],
    jobs=[define_asset_job("two_assets", [first, second])],
    executor=in_process_executor,
)
