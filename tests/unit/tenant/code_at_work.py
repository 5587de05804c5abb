"""Definitions of a test, served."""

from dagster import AssetKey, Definitions, asset, define_asset_job


@asset(key=AssetKey(["acme", "things"]))
def things() -> None: ...


defs = Definitions([things], jobs=[define_asset_job("month_end", [things])])
