"""Where a person looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ntro_dagster.host.desks import desk_address
from ntro_dagster.host.home import Home


@dataclass(frozen=True, slots=True)
class Addresses:
    """Attributes: `dagster`: its UI, which shows no figure; `desks`: by tenant."""

    dagster: str
    desks: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def named(self) -> list[tuple[str, str]]:
        return [("Dagster UI", self.dagster), *((f"desk of {tenant}", address) for tenant, address in self.desks.items())]


def addresses(home: Home) -> Addresses:
    tenants = home.root / "tenants"
    known = [home.tenant(path.name) for path in sorted(tenants.iterdir())] if tenants.is_dir() else []
    return Addresses(
        dagster=f"http://127.0.0.1:{home.describe().webserver_port}",
        desks={tenant.slug: desk_address(tenant) for tenant in known if tenant.desk_env.exists()},
    )
