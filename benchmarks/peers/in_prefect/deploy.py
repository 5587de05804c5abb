"""In Prefect's own Python: a work pool of processes, and a deployment of the flow in it. Prints the deployment's id.

Arguments: the pool's name; how many of its runs at once.
"""

import asyncio
import sys
from pathlib import Path

from months import month
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate


async def deploy(pool: str, at_once: int) -> None:
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=pool, type="process", concurrency_limit=at_once))
        here = Path(__file__).parent
        found = await client.create_deployment(
            flow_id=await client.create_flow(month),
            name="month",
            work_pool_name=pool,
            path=str(here),
            entrypoint="months.py:month",
            enforce_parameter_schema=False,
        )
        print(found, flush=True)


asyncio.run(deploy(sys.argv[1], int(sys.argv[2])))
